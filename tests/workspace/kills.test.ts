// Killed at every write operation, a run is ended by one of the two commands, and its folder is that of a run that was never
// stopped.
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeEnvironment } from "wecolora/node";
import type { DistillRunInput } from "../../src/commands/distill-options.ts";
import { runComparison } from "../../src/commands/compare.ts";
import { resumeDistillation, runDistillation } from "../../src/commands/distill.ts";
import { runContext } from "../../src/context/run-context.ts";
import { noiseImage } from "../support/cli.ts";
import { FailingDisk, Killed } from "../support/failing.ts";
import { referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
const environment = nodeEnvironment({ threads: 1 });
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-kills-"));
  for (let i = 0; i < 8; i++) await noiseImage(at("data", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
});
afterAll(async () => {
  await environment.dispose();
  await rm(folder, { recursive: true });
});

const trained = (out: string): DistillRunInput => ({
  ...{
    teacher,
    data: at("data"),
    out: at(out),
    recipe: "paper",
    rank: 2,
    evaluate: false,
    report: false,
    heldOut: 0.25,
  },
  ...{ steps: 3, effectiveBatch: 4, batch: 2, checkpointSteps: 1, evaluateSteps: 2 },
});
const reported = (out: string): DistillRunInput => ({
  ...{ teacher, data: at("data"), out: at(out), method: "weight-copy", evaluate: true, evaluateTeacher: false },
  ...{ heldOut: 0.25, report: true, export: "timm" },
});

/** Fields whose values are times of a clock, or the folder's own name. */
const varying =
  /"(time|seconds|trainingSeconds|startSeconds|millisecondsPerImage|millisecondsQuartiles|out)": ?("[^"]*"|[\d.e-]+|\[[^\]]*\])/g;

/** A run's files by name, without what the clock decides; pages, charts and events are compared by name alone. */
async function filesOf(out: string): Promise<Record<string, string>> {
  const entries = await readdir(at(out), { recursive: true, withFileTypes: true });
  const files: Record<string, string> = {};
  for (const entry of entries.filter((file) => file.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(at(out).length + 1);
    if (name === ".wecolora.jsonl") continue;
    const text = (await readFile(path, "latin1")).replaceAll(at(out), "OUT");
    const compared = /tfevents|report\.|README|^comparison\.|\.csv$/.test(name) ? "" : text.replace(varying, '"$1":0');
    files[name] = /\.json/.test(name) ? compared : createHash("sha256").update(compared).digest("hex");
  }
  return files;
}

/** The plain command where there is no run to resume, else `--resume`: what a user does who reads the messages. */
async function end(input: DistillRunInput): Promise<"plain" | "resumed" | "finished"> {
  const context = runContext(environment);
  try {
    await resumeDistillation(context, { resume: input.out });
    return "resumed";
  } catch (error) {
    const { message } = error as Error;
    if (message.includes("is finished")) return "finished";
    expect(message).toContain("holds no run to resume");
    await runDistillation(context, { ...input, overwrite: false });
    return "plain";
  }
}

/** Kills a command at its operations 1, 1 + stride, ...; ends it and compares. Says how often each command ended it. */
async function killEverywhere(
  name: string,
  whole: string,
  input: (out: string) => DistillRunInput,
  prepare: (out: string) => Promise<void>,
  stride: number,
): Promise<Record<string, number>> {
  const expected = await filesOf(whole);
  const ends: Record<string, number> = { plain: 0, resumed: 0, finished: 0 };
  for (let n = 1; ; n += stride) {
    const out = `${name}-${n}`;
    await prepare(out);
    const disk = new FailingDisk(n);
    const attempt = runDistillation(runContext(disk.on(environment)), input(out));
    const outcome = await attempt.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (outcome === undefined) {
      expect(await filesOf(out)).toEqual(expected);
      return ends;
    }
    expect(outcome).toBeInstanceOf(Killed);
    const how = await end(input(out));
    ends[how]++;
    // The run that was to be replaced is whole where nothing of it was touched yet.
    if (how === "finished" && input(out).overwrite) await runDistillation(runContext(environment), input(out));
    expect(await filesOf(out), `killed at operation ${n}`).toEqual(expected);
    await rm(at(out), { recursive: true });
  }
}

// In the slow suite at every operation, here at every few ones.
const stride = Number(process.env.WECOLORA_KILL_STRIDE ?? 4);

describe(`killed at one of ${stride} write operations`, () => {
  test("a run that trains", async () => {
    await runDistillation(runContext(environment), trained("whole"));
    const ends = await killEverywhere("fresh", "whole", trained, async () => undefined, stride);
    expect(ends.plain).toBeGreaterThan(0);
    expect(ends.resumed).toBeGreaterThan(ends.plain);
  });

  test("a run with report and exports, in place of another one", async () => {
    await runDistillation(runContext(environment), reported("reported"));
    const old = async (out: string) => {
      await runDistillation(runContext(environment), { ...trained(out), seed: 7 });
    };
    const replaced = (out: string) => ({ ...reported(out), overwrite: true });
    const ends = await killEverywhere("replaced", "reported", replaced, old, stride);
    expect(ends.plain).toBeGreaterThan(0);
    expect(ends.resumed).toBeGreaterThan(0);
  });

  test("a run that is resumed, and the plain command behind the result", async () => {
    const context = runContext(environment);
    // Stopped at its second checkpoint.
    const begin = async (out: string) => {
      const stop = new AbortController();
      const listener = { progress: (done: number) => done === 2 && stop.abort() };
      await expect(runDistillation({ ...context, listener, signal: stop.signal }, trained(out))).rejects.toThrow(
        "Stopped",
      );
    };
    const expected = await filesOf("whole");
    for (let n = 1; ; n += stride) {
      const out = `resumed-${n}`;
      await begin(out);
      const disk = new FailingDisk(n);
      const error = await resumeDistillation(runContext(disk.on(environment)), { resume: at(out) }).catch(
        (e: unknown) => e,
      );
      if (error instanceof Error) {
        expect(error).toBeInstanceOf(Killed);
        await end(trained(out));
      }
      expect(await filesOf(out), `killed at operation ${n}`).toEqual(expected);
      await rm(at(out), { recursive: true });
      if (!(error instanceof Error)) break;
    }
    // Behind the result, the command that began the run ends it too; with other options it does not.
    const count = new FailingDisk();
    await runDistillation(runContext(count.on(environment)), reported("counted"));
    const killed = runDistillation(runContext(new FailingDisk(count.count - 1).on(environment)), reported("measured"));
    await expect(killed).rejects.toBeInstanceOf(Killed);
    await expect(runDistillation(context, { ...reported("measured"), seed: 1 })).rejects.toThrow(
      "which is not finished",
    );
    await runDistillation(context, reported("measured"));
    expect(await filesOf("measured")).toEqual(await filesOf("reported"));
  });

  test("a comparison, by the same command", async () => {
    const input = (out: string) => ({
      ...{ teacher, data: at("data"), out: at(out), threads: 1 },
      grid: { method: ["weight-copy"], seed: [0, 1] },
      base: { heldOut: 0.25, evaluate: false, report: false },
    });
    await runComparison(runContext(environment), input("compared"));
    const expected = await filesOf("compared");
    for (let n = 1; ; n += 3 * stride) {
      const out = `compare-${n}`;
      const disk = new FailingDisk(n);
      const error = await runComparison(runContext(disk.on(environment)), input(out)).catch((e: unknown) => e);
      if (error instanceof Killed) await runComparison(runContext(environment), input(out));
      expect(await filesOf(out), `killed at operation ${n}`).toEqual(expected);
      await rm(at(out), { recursive: true });
      if (!(error instanceof Error)) break;
    }
  });
});
