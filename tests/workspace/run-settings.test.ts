// A run folder holds what decides its bits: what has changed since is named, and versions of its files are told apart.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare, distill, nodeDirectory, report } from "wecolora/node";
import type { DistillRunInput } from "../../src/commands/distill-options.ts";
import { RunFolder } from "../../src/workspace/run-folder.ts";
import { noiseImage } from "../support/cli.ts";
import { messagesInto } from "../support/progress.ts";
import { referencePath } from "../support/reference.ts";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-settings-"));
  await cp(referencePath("teachers/timm-vit"), at("teacher"), { recursive: true });
  for (let i = 0; i < 12; i++) await noiseImage(at("data", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
});
afterAll(() => rm(folder, { recursive: true }));

const run = (out: string, more: object = {}): DistillRunInput & { threads: number } => ({
  ...{ teacher: at("teacher"), data: at("data"), out: at(out), recipe: "paper", rank: 2, report: false, heldOut: 0.25 },
  ...{ steps: 6, effectiveBatch: 4, batch: 2, checkpointSteps: 1, evaluateSteps: 2, threads: 1, ...more },
});

/** A run that is stopped after its third step. */
async function stopped(out: string, more: object = {}): Promise<void> {
  const stop = new AbortController();
  const onProgress = (event: { status: string; done?: number }) => {
    if (event.status === "progress" && event.done === 3) stop.abort();
  };
  await expect(distill({ ...run(out, more), signal: stop.signal, onProgress })).rejects.toThrow(/Resume with/);
}

const student = (out: string) => readFileSync(at(out, "student", "model.safetensors"));

/** Changes one weight of a safetensors file. */
async function changeWeights(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length - 2] ^= 1;
  await writeFile(path, bytes);
}

describe("resuming", () => {
  test("keeps the run's threads and evaluation images; images that come to the data don't matter", async () => {
    await distill(run("whole"));
    await stopped("stopped");
    await noiseImage(at("data", "a", "a-new-one.jpg"), 77, 1);
    await noiseImage(at("data", "0-new-class", "p.jpg"), 78, 1);
    await distill({ resume: at("stopped") });
    expect(student("stopped").equals(student("whole"))).toBe(true);
    const results = (out: string) => {
      const { results: rows } = JSON.parse(readFileSync(at(out, "result.json"), "utf8"));
      return rows.map(
        ({ millisecondsPerImage: _, millisecondsQuartiles: _quartiles, ...row }: Record<string, unknown>) => row,
      );
    };
    expect(results("stopped")).toEqual(results("whole"));
    await rm(at("data", "0-new-class"), { recursive: true });
    await rm(at("data", "a", "a-new-one.jpg"));
  });

  test("other threads are named", async () => {
    await stopped("threads");
    const messages: string[] = [];
    await distill({ resume: at("threads"), threads: 2, onProgress: messagesInto(messages) });
    expect(messages.join("\n")).toContain("began with --threads 1 and resumes with 2");
  });

  test("an image that is gone or changed is named with what it is for, trained on or not", async () => {
    await stopped("images");
    const lines = await new RunFolder(nodeDirectory(at("images"))).readManifest();
    const named = (use: string) => lines.find(({ uses }) => uses.some((eachUse) => eachUse === use))?.name ?? "";
    for (const [use, message] of [
      ["train", "trains on"],
      ["evaluation", "evaluates on"],
    ]) {
      const path = at("data", named(use));
      const bytes = await readFile(path);
      await noiseImage(path, 99, 1);
      await expect(distill({ resume: at("images") })).rejects.toThrow(`${named(use)} has changed since the run began`);
      await rm(path);
      await expect(distill({ resume: at("images") })).rejects.toThrow(
        `The run ${message} ${named(use)}, which is missing`,
      );
      await writeFile(path, bytes);
    }
    await distill({ resume: at("images") });
    expect(student("images").equals(student("whole"))).toBe(true);
  });

  test("a teacher that has changed is named: weights, configuration, preprocessing", async () => {
    await stopped("teacher-run");
    const original = at("original");
    await cp(at("teacher"), original, { recursive: true });
    const changed = /[Tt]he teacher .* has changed since the run began/;
    await changeWeights(at("teacher", "model.safetensors"));
    await expect(distill({ resume: at("teacher-run") })).rejects.toThrow(changed);
    await cp(original, at("teacher"), { recursive: true });
    const config = JSON.parse(await readFile(at("teacher", "config.json"), "utf8"));
    config.pretrained_cfg = { ...config.pretrained_cfg, mean: [0.1, 0.2, 0.3] };
    await writeFile(at("teacher", "config.json"), JSON.stringify(config));
    await expect(distill({ resume: at("teacher-run") })).rejects.toThrow(changed);
    await cp(original, at("teacher"), { recursive: true });
    await distill({ resume: at("teacher-run") });
    expect(student("teacher-run").equals(student("whole"))).toBe(true);
  });
});

test("a comparison says which runs are not what is planned now, and runs them again with --overwrite", async () => {
  const base = { steps: 2, effectiveBatch: 4, evaluateSteps: 0, heldOut: 0.25, report: false, evaluateTeacher: false };
  const grid = { method: ["wecolora"], rank: [2, 3] };
  const settings = { teacher: at("teacher"), data: at("data"), out: at("compared"), grid, base, threads: 1 };
  await compare(settings);
  const before = readFileSync(at("compared", "table.csv"), "utf8");
  const bytes = student("compared/method=wecolora,rank=2");
  await compare(settings);
  expect(student("compared/method=wecolora,rank=2").equals(bytes)).toBe(true);
  const other = { ...settings, base: { ...base, steps: 3, seed: 4 } };
  await expect(compare(other)).rejects.toMatchObject({
    name: "UserError",
    message: expect.stringMatching(/rank=2: --steps was 2 and is now 3; --seed was 0 and is now 4/),
  });
  await noiseImage(at("data", "b", "late.jpg"), 55, 1);
  await expect(compare(settings)).rejects.toThrow("has other images or classes than when the run began");
  await rm(at("data", "b", "late.jpg"));
  const [image] = (await readdir(at("data", "a"))).sort();
  const old = await readFile(at("data", "a", image));
  await noiseImage(at("data", "a", image), 56, 1);
  await expect(compare(settings)).rejects.toThrow(`a/${image} changed since the run began`);
  await writeFile(at("data", "a", image), old);
  const weights = await readFile(at("teacher", "model.safetensors"));
  await changeWeights(at("teacher", "model.safetensors"));
  await expect(compare(settings)).rejects.toThrow(/[Tt]he teacher .* has changed since the run began/);
  await writeFile(at("teacher", "model.safetensors"), weights);
  expect(readFileSync(at("compared", "table.csv"), "utf8")).toBe(before);
  await compare({ ...other, overwrite: true });
  expect(student("compared/method=wecolora,rank=2").equals(bytes)).toBe(false);
  const { options } = await new RunFolder(nodeDirectory(at("compared", "method=wecolora,rank=2"))).readConfig();
  expect(options).toMatchObject({ steps: 3, seed: 4 });
});

describe("files of a run", () => {
  test.each([
    ["config.json", { version: 2 }, /config.json was written by a newer wecolora: version 2/],
    ["config.json", { format: undefined, version: undefined }, /config.json was written by an older wecolora/],
    ["result.json", { version: 3 }, /result.json was written by a newer wecolora: version 3/],
    ["config.json", { keptBlocks: "all" }, /config.json is damaged or was changed by hand \(keptBlocks/],
    ["result.json", { results: [{ name: 4 }] }, /result.json is damaged or was changed by hand \(results.0.name/],
  ])("%s of another version or with other content: %o", async (name, change, message) => {
    if (!existsSync(at("versions"))) await distill(run("versions", { steps: 1, evaluate: false }));
    const path = at("versions", name);
    const written = await readFile(path, "utf8");
    await writeFile(path, JSON.stringify({ ...JSON.parse(written), ...change }));
    await expect(report({ runs: [at("versions")] })).rejects.toThrow(message);
    await writeFile(path, written);
  });

  test("lines of the manifest and of what was evaluated", async () => {
    for (const [name, line] of [
      ["manifest.jsonl", '{"name":"a.jpg","uses":["looking"]}'],
      ["predictions.jsonl", '{"name":7,"models":{}}'],
      ["log.jsonl", '{"kind":"step","step":"first"}'],
    ]) {
      const path = at("versions", name);
      const written = await readFile(path, "utf8").catch(() => undefined);
      await writeFile(path, `${line}\n`);
      await expect(report({ runs: [at("versions")] })).rejects.toThrow(`line 1 of ${path} is damaged`);
      await (written === undefined ? rm(path) : writeFile(path, written));
    }
  });

  test("a copy without hidden files is a run all the same; a foreign file in it stays", async () => {
    const names = (await readdir(at("versions"))).filter((name) => !name.startsWith("."));
    for (const name of names) await cp(at("versions", name), at("copied", name), { recursive: true });
    await writeFile(at("copied", "notes.txt"), "mine");
    await report({ runs: [at("copied")] });
    expect(existsSync(at("copied", "report.html"))).toBe(true);
    await distill({ ...run("copied", { steps: 1, evaluate: false }), overwrite: true });
    expect(readFileSync(at("copied", "notes.txt"), "utf8")).toBe("mine");
    expect(student("copied").equals(student("versions"))).toBe(true);
  });
});

describe("a small disk", () => {
  let mounted: string | undefined;
  beforeAll(() => {
    mkdirSync(at("disk"));
    const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", at("disk")]);
    if (status === 0) mounted = at("disk");
  });
  afterAll(() => {
    if (mounted !== undefined) spawnSync("umount", [mounted]);
  });
  const needsMount = "needs the right to mount a small disk (root on Linux)";

  test("without room for the student nothing is begun", async (context) => {
    if (mounted === undefined) return context.skip(needsMount);
    await writeFile(join(mounted, "filler"), new Uint8Array(1000 * 1024));
    const input = { ...run("disk"), out: join(mounted, "run") };
    await expect(distill(input)).rejects.toMatchObject({
      name: "UserError",
      message: expect.stringMatching(/The disk of .* has .* KB left, and at least .* will be written/),
    });
    expect(await readdir(mounted)).toEqual(["filler"]);
    await rm(join(mounted, "filler"));
  });

  test("full in the middle of a run: said so, nothing half-written, resumed with room", async (context) => {
    if (mounted === undefined) return context.skip(needsMount);
    await writeFile(join(mounted, "filler"), new Uint8Array(1024 * 1024 - 340 * 1024));
    const out = join(mounted, "run");
    await expect(distill({ ...run("disk"), out })).rejects.toMatchObject({
      name: "RunError",
      message: expect.stringContaining("the disk is full"),
    });
    const names = await readdir(mounted, { recursive: true });
    expect(names.filter((name) => name.endsWith(".partial") || name.endsWith(".lock"))).toEqual([]);
    await rm(join(mounted, "filler"));
    await distill({ resume: out });
    expect(readFileSync(join(out, "student", "model.safetensors")).equals(student("whole"))).toBe(true);
  });
});
