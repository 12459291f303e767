// Teacher features that tasks cache for `distill`: the bytes of one process, and the student of a run that caches its own.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeEnvironment } from "wecolora/node";
import { command } from "../../src/commands/cache.ts";
import { resumeDistillation, runDistillation } from "../../src/commands/distill.ts";
import type { Launched } from "../../src/commands/launch.ts";
import { runMerge } from "../../src/commands/merge.ts";
import { runTask } from "../../src/commands/task.ts";
import { runContext } from "../../src/context/run-context.ts";
import { noiseImage } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const environment = nodeEnvironment({ threads: 1 });
const context = runContext(environment);
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-plan-cache-"));
  // More than the teacher is shown at once.
  for (let i = 0; i < 40; i++) await noiseImage(at("data", `p${String(i).padStart(2, "0")}.jpg`), i, i % 3);
});
afterAll(async () => {
  await environment.dispose();
  await rm(folder, { recursive: true });
});

const shared = {
  ...{ teacher: referencePath("teachers/timm-vit"), threads: 1, rank: 2, steps: 3, warmupEpochs: 0 },
  ...{ evaluate: false, evaluateSteps: 0, report: false },
};
const student = (out: string) => readFile(at(out, "student", "model.safetensors"));

describe.each([
  ["the paper's recipe", { recipe: "paper" }],
  ["a start in closed form, int8", { recipe: "refined", precision: "int8", shape: "blocks" }],
  ["a loss over several blocks", { recipe: "paper", loss: "multi-block" }],
  ["a random start", { recipe: "paper", start: "random" }],
  ["an embedding that trains", { method: "weco-kd" }],
] as const)("%s", (name, more) => {
  const options = (out: string) => ({ ...shared, ...more, data: at("data"), cachedCrops: 3, out: at(name, out) });

  test("1, 3 and 7 tasks cache the bytes of one process, and the student is that of a run alone", async () => {
    const whole = await command.run(context, options("crops"));
    expect(whole).toMatchObject({ images: 36, crops: 3 });
    for (const tasks of [1, 3, 7]) {
      const launched = await command.run(context, { ...options(`crops${tasks}`), launcher: "plan", tasks });
      const { plan, missing } = launched as Launched;
      expect(missing).toHaveLength(tasks);
      for (const index of missing.toReversed()) await runTask(context, { plan, index });
      await runMerge(context, { plan });
      for (const entry of ["crops.f16", "crops.json", "images.jsonl"])
        expect(await readFile(at(name, `crops${tasks}`, entry)), entry).toEqual(
          await readFile(at(name, "crops", entry)),
        );
    }
    await runDistillation(context, options("alone"));
    const { cachedCrops: _, ...rest } = options("reading");
    await runDistillation(context, { ...rest, cachedFeatures: at(name, "crops3") });
    expect(await student(join(name, "reading"))).toEqual(await student(join(name, "alone")));
  });
});

describe("a cache that is another run's", () => {
  const options = (out: string) => ({ ...shared, recipe: "paper" as const, data: at("data"), out: at(out) });
  const reading = (out: string) => ({ ...options(out), cachedFeatures: at("crops") });
  beforeAll(async () => {
    await command.run(context, { ...options("crops"), cachedCrops: 2 });
  });

  test.each([
    [{ seed: 1 }, "its --seed is 0, the run's is 1"],
    [{ cachedCrops: 3 }, "its --cached-crops is 2, the run's is 3"],
    [{ fewShotCount: 5 }, "it has 36 images, the run trains on 5"],
    [{ teacher: referencePath("teachers/timm-vit-reg") }, "the teacher, or how its images are read, is another"],
    [{ precision: "int8" as const }, "its precision is float32, the run's is int8"],
    [{ loss: "multi-block" as const }, "it holds embedded, target."],
    [{ start: "random" as const }, "its student's embedding is teacher, the run's random"],
    [{ method: "minivit" as const, recipe: undefined }, "cachedCrops does not go with the method minivit"],
  ])("is refused with what differs: %j", async (changed, message) => {
    const { method: _, ...base } = { method: undefined, ...reading("never") };
    await expect(runDistillation(context, { ...base, ...changed })).rejects.toThrow(message);
  });

  test("is refused where a file is cut off, and where there is none", async () => {
    await cp(at("crops"), at("cut"), { recursive: true });
    await writeFile(at("cut", "crops.f16"), (await readFile(at("crops", "crops.f16"))).subarray(0, -2));
    const cut = runDistillation(context, { ...reading("never"), cachedFeatures: at("cut") });
    await expect(cut).rejects.toThrow(/crops.f16 has \d+ bytes where \d+ were written/);
    const none = runDistillation(context, { ...reading("never"), cachedFeatures: at("nothing") });
    await expect(none).rejects.toThrow("There is no cache of teacher features in");
  });

  test("a run that reads it resumes to the same bits", async () => {
    await runDistillation(context, { ...reading("resumed"), checkpointSteps: 1 });
    const whole = await student("resumed");
    await rm(at("resumed", "result.json"));
    await rm(at("resumed", "student"), { recursive: true });
    await resumeDistillation(context, { resume: at("resumed") });
    expect(await student("resumed")).toEqual(whole);
  });
});

test("what can't be cached is refused before anything is written", async () => {
  const options = { ...shared, data: at("data"), out: at("never"), recipe: "paper" as const };
  await expect(command.run(context, options)).rejects.toThrow("Give cachedCrops");
  const minivit = { ...options, recipe: undefined, method: "minivit" as const, cachedCrops: 2 };
  await expect(command.run(context, minivit)).rejects.toThrow("does not go with the method minivit");
});
