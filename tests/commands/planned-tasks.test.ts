// Work that is cut into tasks: the bits of one process, whatever the number of tasks; what is kept, and what is noticed.
import { copyFile, cp, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeEnvironment } from "wecolora/node";
import { command as cacheCommand } from "../../src/commands/cache.ts";
import { command as compareCommand } from "../../src/commands/compare.ts";
import { command as evaluateCommand } from "../../src/commands/evaluate.ts";
import { command as featuresCommand } from "../../src/commands/features.ts";
import type { Launched } from "../../src/commands/launch.ts";
import { runMerge } from "../../src/commands/merge.ts";
import { cut } from "../../src/commands/planned-tasks.ts";
import { runTask } from "../../src/commands/task.ts";
import { runCancel } from "../../src/commands/cancel.ts";
import { runStatus } from "../../src/commands/status.ts";
import { UserError } from "../../src/utils/errors.ts";
import { runContext } from "../../src/context/run-context.ts";
import { noiseImage } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const environment = nodeEnvironment({ threads: 1 });
const messages: string[] = [];
const context = runContext(environment, {
  listener: { info: (message) => messages.push(message), warn: (message) => messages.push(message) },
});
const teacher = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-plan-"));
  for (let i = 0; i < 30; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
  await writeFile(at("data", "a", "broken.jpg"), "no image");
});
afterAll(async () => {
  await environment.dispose();
  await rm(folder, { recursive: true });
});

interface Planned {
  readonly plan: string;
  readonly tasks: number;
}

/** Makes a plan without running it. */
async function planned<Options extends { out: string }>(
  run: (given: Options & { launcher: "plan"; tasks: number }) => Promise<object>,
  options: Options,
  tasks: number,
): Promise<Planned> {
  const launched = (await run({ ...options, launcher: "plan", tasks })) as Launched;
  return { plan: launched.plan, tasks: launched.tasks };
}

/** Runs the tasks of a plan, the last first, and merges. */
async function performed({ plan, tasks }: Planned): Promise<unknown> {
  for (let index = tasks - 1; index >= 0; index--) await runTask(context, { plan, index });
  return (await runMerge(context, { plan })).result;
}

test.each([
  [10, 3],
  [7, 7],
  [8, 1],
  [1000, 64],
])("%d units in %d tasks are all there, in order, in shares that differ by one at most", (count, tasks) => {
  const units = Array.from({ length: count }, (_, i) => i);
  const shards = cut(units, tasks);
  expect(shards.flat()).toEqual(units);
  const sizes = shards.map(({ length }) => length);
  expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
});

describe("features", () => {
  const options = (out: string) => ({ model: teacher, data: at("data"), out: at(out), batch: 4, threads: 1 });
  const run = (given: Parameters<typeof featuresCommand.run>[1]) => featuresCommand.run(context, given);

  test.each([1, 3, 7])("are the same bytes with %d tasks", async (tasks) => {
    const whole = await run(options("whole.safetensors"));
    const merged = await performed(await planned(run, options(`cut${tasks}.safetensors`), tasks));
    expect(merged).toEqual({ ...whole, out: at(`cut${tasks}.safetensors`) });
    expect(whole).toMatchObject({ images: 30, skipped: 1 });
    expect(await readFile(at(`cut${tasks}.safetensors`))).toEqual(await readFile(at("whole.safetensors")));
  });

  test.each([1, 3, 7])("with int8, whose choice is settled in the plan, too, with %d tasks", async (tasks) => {
    const given = { ...options("whole8.safetensors"), precision: "int8" as const };
    await run(given);
    const out = at(`cut8-${tasks}.safetensors`);
    const plan = await planned(run, { ...given, out }, tasks);
    const { settled } = JSON.parse(await readFile(join(plan.plan, "plan.json"), "utf8"));
    expect(settled.int8).toMatchObject({ largest: expect.any(Number), parts: expect.any(Array) });
    await performed(plan);
    expect(await readFile(out)).toEqual(await readFile(at("whole8.safetensors")));
  });

  test("are written by --tasks alone: processes of this machine, then the merge", async () => {
    const result = await run({ ...options("local.safetensors"), tasks: 3, maxParallel: 2 });
    expect(result).toMatchObject({ images: 30 });
    expect(await readFile(at("local.safetensors"))).toEqual(await readFile(at("whole.safetensors")));
    expect(await readFile(at("local.safetensors.tasks", "logs", "000002.txt"), "utf8")).toContain("is finished");
  });

  test("a finished task is not run again, one that is missing is named, and only that is run", async () => {
    const plan = await planned(run, options("again.safetensors"), 3);
    await expect(runMerge(context, { plan: plan.plan })).rejects.toThrow("3 of 3 tasks are not finished: 0, 1, 2.");
    for (const index of [0, 2]) await runTask(context, { plan: plan.plan, index });
    await expect(runMerge(context, { plan: plan.plan })).rejects.toThrow("1 of 3 tasks are not finished: 1.");
    expect(await runTask(context, { plan: plan.plan, index: 2 })).toMatchObject({ wasFinished: true });
    const again = (await run({ ...options("again.safetensors"), launcher: "plan", tasks: 3 })) as Launched;
    expect(again.missing).toEqual([1]);
    await expect(runTask(context, { plan: plan.plan, index: 3 })).rejects.toThrow("index must be from 0 to 2");
    await performed(plan);
    expect(await readFile(at("again.safetensors"))).toEqual(await readFile(at("whole.safetensors")));
  });

  test("an image that changed is noticed by its task, and only that task is planned again", async () => {
    await cp(at("data"), at("changing"), { recursive: true });
    const given = { ...options("changing.safetensors"), data: at("changing") };
    const plan = await planned(run, given, 3);
    for (const index of [0, 1]) await runTask(context, { plan: plan.plan, index });
    // The last of the list belongs to the last task. Neither its name nor its time changes.
    const before = new Date(2020, 1, 1);
    await copyFile(at("changing", "c", "p11.jpg"), at("changing", "c", "p8.jpg"));
    await utimes(at("changing", "c", "p8.jpg"), before, before);
    await expect(runTask(context, { plan: plan.plan, index: 2 })).rejects.toThrow(
      "c/p8.jpg changed since the plan was made",
    );
    const again = (await run({ ...given, launcher: "plan", tasks: 3 })) as Launched;
    expect(again.missing).toEqual([2]);
    await performed(plan);
    await run({ ...given, out: at("changed.safetensors") });
    expect(await readFile(at("changing.safetensors"))).toEqual(await readFile(at("changed.safetensors")));
  });

  test("a model that changed is noticed by tasks, and all are planned again", async () => {
    await cp(teacher, at("model"), { recursive: true });
    const given = { ...options("model.safetensors"), model: at("model") };
    const plan = await planned(run, given, 2);
    await runTask(context, { plan: plan.plan, index: 0 });
    await cp(referencePath("teachers/timm-vit-reg"), at("model"), { recursive: true });
    await expect(runTask(context, { plan: plan.plan, index: 1 })).rejects.toThrow(
      `--model ${at("model")} has changed since the plan was made`,
    );
    messages.length = 0;
    expect(await run({ ...given, launcher: "plan", tasks: 2 })).toMatchObject({ missing: [0, 1] });
    expect(messages.join()).toContain(`Changed since the last plan: ${at("model")}`);
  });

  test("a mistake is found at planning, and nothing is left", async () => {
    const missing = { ...options("never.safetensors"), model: at("nothing"), launcher: "plan" as const, tasks: 2 };
    await expect(run(missing)).rejects.toThrow("There is no file or folder");
    await expect(run({ ...missing, model: teacher, data: at("nothing") })).rejects.toThrow(
      "There is no file or folder",
    );
    expect((await readdir(folder)).filter((name) => name.startsWith("never"))).toEqual([]);
  });

  test("a merge looks at each task's result once", async () => {
    const plan = await planned(run, options("once.safetensors"), 3);
    for (let index = 0; index < 3; index++) await runTask(context, { plan: plan.plan, index });
    const read: string[] = [];
    const counting = runContext({
      ...environment,
      directory(path) {
        const directory = environment.directory(path);
        return {
          ...directory,
          open(entry) {
            if (entry === "part.json") read.push(path);
            return directory.open(entry);
          },
        };
      },
    });
    await runMerge(counting, { plan: plan.plan });
    expect(read.sort()).toEqual([0, 1, 2].map((index) => join(plan.plan, "tasks", `00000${index}`)));
  });

  test.each([
    ["more tasks than can be", { tasks: 1e9 }, "is damaged or was changed by hand (tasks: "],
    ["another number of hashes", { shards: ["0".repeat(64)] }, "(shards: not as many as tasks)"],
    ["a hash that is none", { shards: ["0", "0"] }, "is damaged or was changed by hand (shards.0: "],
    ["options that are none", { options: { model: teacher, data: "d", out: "o", nonsense: 1 } }, "nonsense"],
    ["an option with a wrong value", { options: { model: teacher, data: "d", out: "o", batch: "x" } }, "batch"],
    ["a command that has no tasks", { command: "distill" }, "is a plan of the command distill."],
    ["nothing settled", { settled: { folder: 3 } }, "plan.json is damaged or was changed by hand (folder: "],
    ["another version", { version: 1 }, "was written by an older wecolora"],
  ])("a plan with %s is refused by tasks, merge and status alike", async (_, changed, message) => {
    const { plan } = await planned(run, options("forged.safetensors"), 2);
    const file = join(plan, "plan.json");
    const written = await readFile(file, "utf8");
    try {
      await writeFile(file, JSON.stringify({ ...JSON.parse(written), ...changed }));
      const refused = await runTask(context, { plan, index: 0 }).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(UserError);
      expect((refused as Error).message).toContain(message);
      if ("tasks" in changed || "shards" in changed || "version" in changed)
        for (const read of [() => runMerge(context, { plan }), () => runStatus(context, { out: plan })])
          await expect(read()).rejects.toThrow(message);
    } finally {
      await writeFile(file, written);
    }
  });

  test("what tasks left is not merged where it is damaged", async () => {
    const plan = await planned(run, options("damaged.safetensors"), 2);
    for (const index of [0, 1]) await runTask(context, { plan: plan.plan, index });
    await writeFile(join(plan.plan, "tasks", "000001", "value.json"), '{"names":3}');
    const refused = await runMerge(context, { plan: plan.plan }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(UserError);
    expect((refused as Error).message).toMatch(/value\.json is damaged or was changed by hand \(names: /);
  });

  test("a launch whose jobs read as options of a scheduler's program is refused", async () => {
    const plan = await planned(run, options("jobs.safetensors"), 2);
    const file = join(plan.plan, "launch.json");
    const launch = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...launch, launcher: "slurm", jobs: ["--user=root"] }));
    await expect(runCancel(context, { out: plan.plan })).rejects.toThrow(/launch\.json is damaged .*\(jobs\.0: /);
  });

  test("tasks of several machines say where bits may differ", async () => {
    const plan = await planned(run, options("machines.safetensors"), 2);
    for (const index of [0, 1]) await runTask(context, { plan: plan.plan, index });
    const file = join(plan.plan, "tasks", "000001", "part.json");
    const part = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...part, machine: { ...part.machine, processor: "another" } }));
    messages.length = 0;
    await runMerge(context, { plan: plan.plan });
    expect(messages.join("\n")).toMatch(/Tasks ran on different processors \(.*; another\)/);
  });
});

describe("a plan that is made again", () => {
  const int8 = { largest: 127, parts: ["teacher"] };
  const auto = { precision: "auto" as const, threads: 1, launcher: "plan" as const, tasks: 2 };
  const plans = {
    features: (model: string) =>
      featuresCommand.run(context, { ...auto, model, data: at("data"), out: at("auto.safetensors") }),
    evaluate: (model: string) =>
      evaluateCommand.run(context, { ...auto, model: [model], data: at("data"), out: at("auto"), cache: false }),
    cache: (model: string) =>
      cacheCommand.run(context, {
        ...{ ...auto, teacher: model, data: at("data"), out: at("auto-cache") },
        ...{ recipe: "paper" as const, cachedCrops: 1, rank: 2, steps: 3, warmupEpochs: 0 },
      }),
  };

  test.each([
    ["features", int8],
    ["evaluate", [int8]],
    ["cache", int8],
  ] as const)("%s: holds the precision that was measured before, for the same model alone", async (name, measured) => {
    const model = at(`teacher of ${name}`);
    await cp(teacher, model, { recursive: true });
    const { plan } = (await plans[name](model)) as Launched;
    const file = join(plan, "plan.json");
    const read = async () => JSON.parse(await readFile(file, "utf8"));
    // As if int8 had measured best, which it never does on a model of this size.
    const before = await read();
    expect(before.settled.int8 ?? "none").toEqual(name === "evaluate" ? [null] : "none");
    await writeFile(file, JSON.stringify({ ...before, settled: { ...before.settled, int8: measured } }));
    await plans[name](model);
    expect((await read()).settled.int8).toEqual(measured);
    await cp(referencePath("teachers/timm-vit-reg"), model, { recursive: true });
    await plans[name](model);
    expect((await read()).settled.int8 ?? "none").toEqual(name === "evaluate" ? [null] : "none");
  });
});

/** Figures without times of this machine. */
const timeless = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (key, each: unknown) => (/^(milliseconds\w*|\w*[sS]econds)$/.test(key) ? undefined : each)),
  );

describe("evaluate", () => {
  const options = (out: string) => ({
    ...{ model: [referencePath("teachers/timm-vit-reg")], teacher, data: at("data"), out: at(out) },
    ...{ batch: 4, cache: false, probeEpochs: 3, logistic: true, threads: 1 },
  });
  const run = (given: Parameters<typeof evaluateCommand.run>[1]) => evaluateCommand.run(context, given);

  test.each([1, 3, 7])("gives the same figures and files with %d tasks", async (tasks) => {
    const whole = await run(options("evaluated"));
    const merged = await performed(await planned(run, options(`evaluated${tasks}`), tasks));
    expect(timeless(merged)).toEqual(timeless({ ...whole, out: at(`evaluated${tasks}`) }));
    for (const name of ["images.csv", "classes.csv", "confusion.csv"])
      expect(await readFile(at(`evaluated${tasks}`, name), "utf8"), name).toBe(
        await readFile(at("evaluated", name), "utf8"),
      );
  });

  test("reads each image once for its plan, for hashes and duplicates alike", async () => {
    const hashed: string[] = [];
    const counting = runContext({
      ...environment,
      createImageSource(path) {
        const source = environment.createImageSource(path);
        return {
          ...source,
          fingerprint(item) {
            hashed.push(item.name);
            return source.fingerprint(item);
          },
        };
      },
    });
    await evaluateCommand.run(counting, { ...options("counted"), launcher: "plan", tasks: 3 });
    // What can't be read is tried again, and is listed without a hash.
    const readable = hashed.filter((name) => !name.endsWith("broken.jpg"));
    expect([...new Set(readable)]).toHaveLength(30);
    expect(readable).toHaveLength(30);
  });

  test("needs an output folder where it is cut", async () => {
    const { out: _, ...rest } = options("x");
    await expect(run({ ...rest, tasks: 2 })).rejects.toThrow("evaluate needs out");
  });
});

describe("compare", () => {
  const options = (out: string) => ({
    ...{ teacher, data: at("data"), out: at(out), threads: 1 },
    grid: { method: ["weight-copy", "wecolora"], seed: [0, 1] },
    base: { rank: 2, steps: 2, warmupEpochs: 0, heldOut: 0.34, evaluateSteps: 0, evaluateTeacher: false },
  });
  const run = (given: Parameters<typeof compareCommand.run>[1]) => compareCommand.run(context, given);

  test.each([1, 3, 7])("gives the same table and weights with %d tasks", async (tasks) => {
    // Finished runs of the first time are read.
    const whole = await run(options("compared"));
    const merged = await performed(await planned(run, options(`compared${tasks}`), tasks));
    expect(timeless(merged)).toEqual(timeless({ ...whole, out: at(`compared${tasks}`) }));
    for (const name of (await readdir(at("compared"))).filter((name) => name.startsWith("method="))) {
      const weights = join(name, "student", "model.safetensors");
      expect(await readFile(at(`compared${tasks}`, weights)), name).toEqual(await readFile(at("compared", weights)));
    }
  });
});
