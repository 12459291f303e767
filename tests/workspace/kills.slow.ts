// Processes killed at random moments, over all commands that write: the same command (or --resume) ends what was begun,
// nothing is left half-written, and neither inputs nor other people's files change. WECOLORA_KILLS says how many kills.
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { randomStream } from "../../src/utils/random.ts";
import { noiseImage, wecoloraProcess } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const kills = Number(process.env.WECOLORA_KILLS ?? 100);
const teacher = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-random-kills-"));
  for (let i = 0; i < 18; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
  const grid = { method: ["weight-copy", "refit"] };
  const base = { heldOut: 0.25, report: false, evaluateTeacher: false };
  const settings = { teacher, data: at("data"), out: at("compare"), grid, base, threads: 1 };
  await writeFile(at("grid.json"), JSON.stringify(settings));
  const planned = on("features", "--model", teacher, "--batch", "2", "--out", at("planned", "f.safetensors"));
  for (const args of [distill("run"), [...planned, ...["--launcher", "plan", "--tasks", "3"]]]) {
    const { code, err } = await wecoloraProcess(...args).ended;
    expect(code, err).toBe(0);
  }
  for (const index of ["0", "1", "2"]) {
    const task = ["task", "--plan", at("planned", "f.safetensors.tasks"), "--index", index];
    const { code, err } = await wecoloraProcess(...task).ended;
    expect(code, err).toBe(0);
  }
});
afterAll(() => rm(folder, { recursive: true }));

const distill = (out: string, ...more: string[]) => [
  ...["distill", "--teacher", teacher, "--data", at("data"), "--out", at(out), "--recipe", "paper", "--rank", "2"],
  ...["--steps", "12", "--effective-batch", "4", "--batch", "2", "--checkpoint-steps", "3", "--held-out", "0.25"],
  ...["--threads", "1", "--export", "timm", ...more],
];
const closed = (out: string) => [
  ...["distill", "--teacher", teacher, "--data", at("data"), "--out", at(out), "--held-out", "0.25"],
  ...["--threads", "1"],
];
const on = (command: string, ...more: string[]) => [command, "--data", at("data"), "--threads", "1", ...more];

/** Each command, and what it writes. */
const commands: readonly { readonly name: string; readonly out: string; readonly args: () => string[] }[] = [
  { name: "distill", out: "fresh", args: () => distill("fresh") },
  { name: "distill --overwrite", out: "replaced", args: () => distill("replaced", "--overwrite") },
  { name: "compare", out: "compare", args: () => ["compare", "--config", at("grid.json")] },
  {
    name: "export",
    out: "exported",
    args: () => on("export", "--model", teacher, "--to", "timm,onnx", "--out", at("exported")),
  },
  { name: "export of a run", out: "run", args: () => on("export", "--model", at("run"), "--to", "onnx-int8,peft") },
  { name: "report", out: "run", args: () => ["report", at("run"), "--threads", "1"] },
  {
    name: "evaluate",
    out: "evaluated",
    args: () => on("evaluate", "--model", teacher, "--out", at("evaluated"), "--cache-dir", at("cache")),
  },
  {
    name: "features",
    out: "features",
    args: () => on("features", "--model", teacher, "--out", at("features", "f.safetensors")),
  },
  { name: "rollout", out: "looks", args: () => on("rollout", "--model", teacher, "--out", at("looks")) },
  {
    name: "similarity",
    out: "similar",
    args: () => on("similarity", "--model", teacher, "--teacher", teacher, "--out", at("similar")),
  },
  { name: "inspect", out: "inspected", args: () => ["inspect", teacher, ...on("").slice(1), "--out", at("inspected")] },
  {
    name: "distill --sizes",
    out: "sizes",
    args: () => [...closed("sizes"), "--sizes", "0.5x,0.8x"],
  },
  {
    name: "distill --budget",
    out: "budget",
    args: () => [...closed("budget"), "--budget", "0.6x"],
  },
  {
    name: "inspect --frontier",
    out: "frontier",
    args: () => ["inspect", teacher, ...on("").slice(1), "--max-images", "6", "--frontier", "--out", at("frontier")],
  },
  {
    name: "features in tasks",
    out: "tasks",
    args: () =>
      on("features", "--model", teacher, ...["--tasks", "3", "--batch", "2", "--out", at("tasks", "f.safetensors")]),
  },
  {
    name: "task",
    out: "planned",
    args: () => ["task", "--plan", at("planned", "f.safetensors.tasks"), "--index", "1"],
  },
  {
    name: "merge",
    out: "planned",
    args: () => ["merge", "--plan", at("planned", "f.safetensors.tasks")],
  },
  {
    name: "cache",
    out: "crops",
    args: () => [
      ...["cache", "--teacher", teacher, "--data", at("data"), "--out", at("crops"), "--recipe", "paper"],
      ...["--cached-crops", "2", "--threads", "1"],
    ],
  },
  {
    name: "segment",
    out: "segmented",
    args: () => [
      ...["segment", "--model", teacher, "--data", referencePath("data-sets/brats"), "--out", at("segmented")],
      ...["--epochs", "2", "--batch", "4", "--kinds", "t1,t2", "--warmup-epochs", "0", "--threads", "1"],
    ],
  },
];

/** A hash of all that lies in a folder. */
async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of files.sort()) hash.update(file).update(await readFile(file));
  return hash.digest("hex");
}

async function run(args: readonly string[], killedAfter?: number) {
  const child = wecoloraProcess(...args);
  const timer = killedAfter === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killedAfter);
  return child.ended.finally(() => clearTimeout(timer));
}

/** Ends what a killed command has left: a run by --resume where there is one, all else by the same command. */
async function end(args: readonly string[], out: string): Promise<{ code: number | null; err: string }> {
  if (args[0] !== "distill") return run(args);
  const resumed = await run(["distill", "--resume", at(out)]);
  return resumed.code === 2 && resumed.err.includes("no run to resume") ? run(args) : resumed;
}

test(`${kills} kills`, async () => {
  const random = randomStream(Date.now() % 1e9);
  const inputs = [await hashOf(teacher), await hashOf(at("data"))];
  const counts = new Map<string, { killed: number; ended: number; milliseconds: number }>();
  let killed = 0;
  for (let i = 0; killed < kills; i++) {
    const { name, out, args } = commands[i % commands.length];
    const count = counts.get(name) ?? { killed: 0, ended: 0, milliseconds: 4000 };
    counts.set(name, count);
    const begin = performance.now();
    const first = await run(args(), 200 + count.milliseconds * random.uniform());
    count.ended++;
    if (first.code === null) {
      killed++;
      count.killed++;
    } else {
      // It came to its end first: the next one is killed earlier.
      count.milliseconds = performance.now() - begin;
      expect(first.code, `${name}: ${first.err}`).toBe(
        name === "distill" && first.err.includes("already holds") ? 2 : 0,
      );
    }
    await mkdir(at(out), { recursive: true });
    if (await readdir(at(out)).then((names) => names.includes(".wecolora.jsonl")))
      await writeFile(at(out, "mine.txt"), "mine");
    const second = await end(args(), out);
    const finished = second.code === 0 || second.err.includes("is finished");
    expect(finished, `${name}, killed: ${second.err}`).toBe(true);
    const names = await readdir(at(out), { recursive: true });
    expect(
      names.filter((entry) => /\.(partial|lock)$/.test(entry)),
      name,
    ).toEqual([]);
    if (names.includes("mine.txt")) expect(await readFile(at(out, "mine.txt"), "utf8")).toBe("mine");
    if (args()[0] === "distill" && name !== "distill --overwrite") await rm(at(out), { recursive: true });
  }
  expect([await hashOf(teacher), await hashOf(at("data"))]).toEqual(inputs);
  const lines = [...counts].map(([name, count]) => `  ${name}: ${count.killed} of ${count.ended} killed`);
  console.log([`${killed} kills over ${counts.size} commands, all ended as promised:`, ...lines].join("\n"));
});
