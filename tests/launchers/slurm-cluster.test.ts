// On a real cluster of Slurm with two nodes: arrays, the merge behind them, tasks that are killed, stopped, cancelled or fail.
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare, features } from "wecolora/node";
import { lockEntry } from "../../src/context/outputs.ts";
import { noiseImage, runScript, script } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";
import type { Cluster } from "../support/slurm.ts";
import { slurmProblem, startSlurm } from "../support/slurm.ts";

const problem = slurmProblem();
const teacher = referencePath("teachers/timm-vit");
let folder: string;
let cluster: Cluster;
const at = (...parts: string[]) => join(folder, ...parts);
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The command line on the cluster, and its result. */
async function onCluster(...args: string[]) {
  const outcome = await runScript(script, [...args, "--json"], cluster.variables);
  return { ...outcome, json: () => JSON.parse(outcome.out.trimEnd().split("\n").at(-1) ?? "") };
}

interface Status {
  readonly tasks: readonly { readonly state: string; readonly line?: string }[];
  readonly merged: boolean;
  readonly cancelled: boolean;
}
const status = async (out: string): Promise<Status> => (await onCluster("status", at(out))).json();
const statesOf = ({ tasks }: Status) => tasks.map(({ state }) => state);
const queued = () => cluster.run("squeue", "--noheader", "--array", "--format=%j %K %T").trim();

/** Looks until something holds. */
async function until<T>(what: string, look: () => T | Promise<T>, holds: (seen: T) => boolean): Promise<T> {
  for (let attempt = 0; attempt < 600; attempt++) {
    const seen = await look();
    if (holds(seen)) return seen;
    await pause(500);
  }
  throw new Error(`waited in vain for ${what}; the queue: ${queued()}`);
}

/** The process of a task, by its command line. */
function taskProcess(plan: string, index: number): number | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const isTask = words[2] === "task" && words[words.indexOf("--plan") + 1] === plan;
      if (isTask && words[words.indexOf("--index") + 1] === String(index)) return Number(pid);
    } catch {
      // It has ended meanwhile.
    }
  }
  return undefined;
}

describe.skipIf(problem !== undefined)(problem === undefined ? "Slurm" : `Slurm is skipped: ${problem}`, () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-cluster-"));
    for (let i = 0; i < 28; i++) await noiseImage(at("data", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
    cluster = await startSlurm();
  });
  afterAll(async () => {
    await cluster?.stop();
    await rm(folder, { recursive: true });
  });

  const featureArgs = (out: string, data = "data") => [
    ...["features", "--model", teacher, "--data", at(data), "--out", at(out), "--batch", "4", "--threads", "1"],
    ...["--launcher", "slurm", "--tasks", "7"],
  ];

  test("features in seven shards are the bytes of one process", async () => {
    const launched = await onCluster(...featureArgs("cut.safetensors"), "--slurm", "cpus-per-task=1,time=10");
    expect(launched, launched.err).toMatchObject({ code: 0 });
    expect(launched.json()).toMatchObject({ launcher: "slurm", tasks: 7, missing: [0, 1, 2, 3, 4, 5, 6] });
    // Asked for again while it waits, nothing is queued twice.
    const again = await onCluster(...featureArgs("cut.safetensors"));
    if (again.code !== 0) expect(again.err).toMatch(/tasks of .* still wait or run \(slurm\)/);
    await until(
      "the merge",
      () => status("cut.safetensors"),
      ({ merged }) => merged,
    );
    await features({ model: teacher, data: at("data"), out: at("whole.safetensors"), batch: 4, threads: 1 });
    expect(await readFile(at("cut.safetensors"))).toEqual(await readFile(at("whole.safetensors")));
  });

  test("options that Slurm refuses are refused before anything is queued", async () => {
    const refused = await onCluster(...featureArgs("never.safetensors"), "--slurm", "partition=nothing");
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.err).toContain("Slurm takes no job with these options (--slurm)");
    const ours = await onCluster(...featureArgs("never.safetensors"), "--slurm", "array=3");
    expect(ours.err).toContain("can't set array: the launcher sets it itself");
    expect((await readdir(folder)).filter((name) => name.startsWith("never"))).toEqual([]);
  });

  test("a task that fails is run again, then named with its log, and the merge does not run", async () => {
    for (let i = 0; i < 28; i++) await noiseImage(at("other", `p${String(i).padStart(2, "0")}.jpg`), i, 0);
    const args = featureArgs("failing.safetensors", "other");
    const before = await readFile(at("other", "p05.jpg"));
    // Held until an image has changed that the second task is to read.
    const heldJob = await onCluster(...args, "--slurm", "hold=");
    expect(heldJob, heldJob.err).toMatchObject({ code: 0 });
    await copyFile(at("other", "p27.jpg"), at("other", "p05.jpg"));
    for (const job of heldJob.json().jobs) cluster.run("scontrol", "release", job);
    const seen = await until(
      "the failure",
      () => status("failing.safetensors"),
      (now) =>
        now.tasks[1].state === "failed" && statesOf(now).every((state) => state === "done" || state === "failed"),
    );
    expect(statesOf(seen)).toEqual(["done", "failed", "done", "done", "done", "done", "done"]);
    expect(seen.merged).toBe(false);
    const log = await readFile(at("failing.safetensors.tasks", "logs", "000001.txt"), "utf8");
    expect(log.match(/p05\.jpg changed since the plan was made/g)).toHaveLength(2);
    expect(seen.tasks[1].line).toMatch(/^# failed with exit code 2/);
    await until("an empty queue", queued, (text) => text === "");
    // With the image as it was, only that task is run.
    await writeFile(at("other", "p05.jpg"), before);
    const again = await onCluster(...args);
    expect(again.json()).toMatchObject({ missing: [1] });
    await until(
      "the merge",
      () => status("failing.safetensors"),
      ({ merged }) => merged,
    );
  });

  test("an element that is cancelled alone runs again by the same command, in a folder with a shell's own letters", async () => {
    const out = join("my runs; touch x", "100%d $(touch y) 'q'.safetensors");
    const before = await readdir(folder);
    const setup = 'setup=if [ "$index" = 3 ]; then sleep 100; fi';
    const launched = await onCluster(...featureArgs(out), "--slurm", setup);
    expect(launched, launched.err).toMatchObject({ code: 0 });
    const others = ["done", "done", "done", "running", "done", "done", "done"];
    await until(
      "the others",
      () => status(out),
      (seen) => String(statesOf(seen)) === String(others),
    );
    cluster.run("scancel", `${launched.json().jobs[0]}_3`);
    await until("an empty queue", queued, (text) => text === "");
    expect(await status(out)).toMatchObject({ merged: false, cancelled: false });
    const again = await onCluster(...featureArgs(out));
    expect(again, again.err).toMatchObject({ code: 0 });
    expect(again.json()).toMatchObject({ missing: [3] });
    // The command's whole line is that of a shell, whatever the folder's name is.
    await until(
      "the merge",
      () => status(out),
      ({ merged }) => merged,
    );
    expect(await readFile(at(out))).toEqual(await readFile(at("whole.safetensors")));
    expect((await readdir(folder)).filter((name) => !before.includes(name))).toEqual(["my runs; touch x"]);
    expect((await readdir(`${at(out)}.tasks/logs`)).length).toBe(8);
  });

  test("a merge whose node was lost is queued again, and takes over the folder that its first attempt held", async () => {
    const launched = await onCluster(...featureArgs("lost.safetensors"), "--slurm", "hold=");
    expect(launched, launched.err).toMatchObject({ code: 0 });
    const jobs: string[] = launched.json().jobs;
    const job = { job: `slurm-${jobs.at(-1)}`, attempt: "0" };
    const lock = { pid: 1, host: "lost", machine: "elsewhere", since: new Date().toISOString(), job };
    await writeFile(at("lost.safetensors.tasks", lockEntry), JSON.stringify(lock));
    for (const each of jobs) cluster.run("scontrol", "release", each);
    await until(
      "the merge",
      () => status("lost.safetensors"),
      ({ merged }) => merged,
    );
    const log = await readFile(at("lost.safetensors.tasks", "logs", "merge.txt"), "utf8");
    expect(log).toMatch(/is in use by process 1 on lost[^]*# failed: queued again[^]*attempt 1[^]*28 rows/);
    expect(await readFile(at("lost.safetensors"))).toEqual(await readFile(at("whole.safetensors")));
  });

  const comparison = (out: string, steps: number) => ({
    ...{ teacher, data: at("data"), out: at(out), threads: 1 },
    grid: { method: ["weight-copy", "refit", "wecolora"], seed: [0, 1] },
    base: {
      rank: 2,
      steps,
      warmupEpochs: 0,
      heldOut: 0.34,
      evaluateSteps: 0,
      evaluateTeacher: false,
      checkpointSteps: 5,
    },
  });
  const launchComparison = async (out: string, steps: number) => {
    const { grid, base, ...options } = comparison(out, steps);
    const given = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const nested = ["--grid", JSON.stringify(grid), "--base", JSON.stringify(base)];
    const outcome = await onCluster("compare", ...given, ...nested, "--launcher", "slurm", "--tasks", "7");
    expect(outcome, outcome.err).toMatchObject({ code: 0 });
  };

  test("a comparison of six runs is that of one process, though a task is killed and another one stopped", async () => {
    const steps = 60;
    await launchComparison("compared", steps);
    const plan = at("compared.tasks");
    const began = (seed: number) =>
      until(
        `a checkpoint of seed ${seed}`,
        () => readdir(at("compared", `method=wecolora,seed=${seed}`, "checkpoints")).catch((): string[] => []),
        (names) => names.some((name) => name.startsWith("step-")),
      );
    await began(0);
    process.kill(
      (await until(
        "the process",
        () => taskProcess(plan, 4),
        (pid) => pid !== undefined,
      )) ?? 0,
      "SIGKILL",
    );
    await began(1);
    const job = JSON.parse(await readFile(join(plan, "launch.json"), "utf8")).jobs[0];
    cluster.run("scancel", "--batch", "--signal=TERM", `${job}_5`);
    await until(
      "the merge",
      () => status("compared"),
      ({ merged }) => merged,
    );
    expect(await readFile(join(plan, "logs", "000004.txt"), "utf8")).toContain("# failed with exit code 137");
    expect(await readFile(join(plan, "logs", "000005.txt"), "utf8")).toContain(
      "# stopped, and saved what can be resumed",
    );
    await compare(comparison("plain", steps));
    for (const name of (await readdir(at("plain"))).filter((entry) => entry.startsWith("method="))) {
      const weights = join(name, "student", "model.safetensors");
      expect(await readFile(at("compared", weights)), name).toEqual(await readFile(at("plain", weights)));
    }
    const table = async (out: string) =>
      (await readFile(at(out, "table.csv"), "utf8")).split("\n").map((line) => line.split(",").slice(0, 4));
    expect(await table("compared")).toEqual(await table("plain"));
  });

  test("cancelled tasks end and are not queued again", async () => {
    await launchComparison("cancelled", 100_000);
    await until("a task", queued, (text) => /compare-0 \d RUNNING/.test(text));
    const outcome = await onCluster("cancel", at("cancelled"));
    expect(outcome, outcome.err).toMatchObject({ code: 0 });
    await until("an empty queue", queued, (text) => text === "");
    await pause(6000);
    expect(queued()).toBe("");
    const seen = await status("cancelled");
    expect(seen).toMatchObject({ merged: false, cancelled: true });
    expect(statesOf(seen).filter((state) => state !== "done")).toEqual(
      statesOf(seen).filter((state) => state === "cancelled"),
    );
  });
});
