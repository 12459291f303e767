// Every option of a distillation changes something: a key without a row here fails, and so does a row whose option is not
// passed on. Most rows compare what two runs of two steps on a tiny teacher are made of and end with.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Device, Model, PictureSource } from "wecolora/node";
import { createDistillation, loadModel, Model as OwnModel } from "wecolora/node";
import { distillOptions, distillRunSchema } from "../../src/commands/distill-options.ts";
import { openOptions, readOptions } from "../../src/context/common-options.ts";
import type { Environment } from "../../src/context/environment.ts";
import { runContext } from "../../src/context/run-context.ts";
import { distillationSchema } from "../../src/students/distillation-options.ts";
import type { DistillationInput } from "../../src/students/distillation-options.ts";
import { startOf } from "../../src/students/start.ts";
import { train } from "../../src/students/training/loop.ts";
import { distillationOptions, trackedItems } from "../../src/students/training/setup.ts";
import { fewShotOf, planBatches } from "../../src/students/training/step-plan.ts";
import { changed } from "../support/device.ts";
import { noise } from "../support/noise.ts";
import { referencePath, root } from "../support/reference.ts";

const loaded = {
  plain: await loadModel(referencePath("teachers/timm-vit")),
  classifier: await loadModel(referencePath("teachers/hf-vit-classifier")),
};
afterAll(async () => {
  for (const model of Object.values(loaded)) await model.dispose();
});

const sha = (...parts: (Uint8Array | string)[]) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => new Uint8Array(buffer, byteOffset, byteLength);

/** A device that notes the graphs of its sessions. */
function watched(device: Device, graphs: string[]): Device {
  return changed(device, {
    beside: undefined,
    createSession(source, options) {
      graphs.push(sha(source.model));
      return device.createSession(source, options);
    },
  });
}

/** What two steps are made of, and what they end with. */
async function traceOf(options: DistillationInput, teacher: Model) {
  const graphs: string[] = [];
  const model = new OwnModel(teacher, watched(teacher.device, graphs));
  const { channels, imageSize } = teacher.config;
  const distillation = await createDistillation(model, options);
  const batch = (seed: number) => ({ pixels: noise([4, channels, imageSize, imageSize], seed), labels: [0, 1, 2, 0] });
  const losses: number[] = [];
  for (let step = 0; step < 2; step++) {
    const parts = Array.from({ length: distillation.options.accumulation }, (_, part) => batch(10 * step + part));
    losses.push((await distillation.step(parts)).loss);
  }
  const parameters = await distillation.adapters();
  const student = await distillation.student();
  const weights = [...student.weights].map(([name, { data }]) => name + sha(bytesOf(data)));
  const trace = {
    graphs,
    losses,
    parameters: [...parameters].map(([name, { dims, data }]) => `${name} ${dims.join("x")} ${sha(bytesOf(data))}`),
    blocks: [...distillation.keptBlocks],
    student: sha(...weights),
  };
  await distillation.dispose();
  return trace;
}
type Trace = Awaited<ReturnType<typeof traceOf>>;

/** What training rows begin with. */
const schedule = { kind: "cosine", warmupEpochs: 0, epochs: 4, baseLearningRate: 1e-2 } as const;
const base: DistillationInput = { rank: 4, schedule };

interface TrainingRow {
  readonly value: unknown;
  /** What it has to change. */
  readonly changes: keyof Trace;
  /** Beside the base, on both sides. */
  readonly beside?: DistillationInput;
  readonly teacher?: keyof typeof loaded;
}

/** Options that createDistillation acts on. */
const training: Readonly<Record<string, TrainingRow>> = {
  method: { value: "lora", changes: "parameters" },
  start: { value: "random", changes: "student" },
  reductionFactor: { value: 3, changes: "blocks" },
  keptBlocks: { value: [0, 1, 2], changes: "blocks" },
  loss: { value: "mse", changes: "losses" },
  optimizer: { value: { kind: "adamw", betas: [0.5, 0.5], weightDecay: 0.5 }, changes: "parameters" },
  schedule: { value: { ...schedule, baseLearningRate: 1e-3 }, changes: "parameters" },
  accumulation: { value: 2, changes: "losses" },
  precision: { value: "int8", changes: "graphs" },
  int8Parts: { value: ["teacher"], changes: "graphs", beside: { precision: "int8" } },
  checkpointing: { value: true, changes: "graphs" },
  activations: { value: "float16", changes: "graphs" },
  seed: { value: 1, changes: "parameters" },
  rank: { value: 2, changes: "parameters" },
  alpha: { value: 8, changes: "student" },
  rankStabilized: { value: true, changes: "student", beside: { alpha: 8 } },
  adapterDropout: { value: 0.5, changes: "losses" },
  targetModules: { value: ["q"], changes: "parameters" },
  softLabels: { value: true, changes: "losses", beside: { method: "deit" }, teacher: "classifier" },
  maskRatio: { value: 0.5, changes: "graphs", beside: { method: "dmae" } },
};

/** A source of noise: a crop's numbers follow from the image's name and the epoch. */
function noiseSource({ config }: Model): PictureSource {
  const pixels = (...stream: [number, string, number]) =>
    noise([3, config.imageSize, config.imageSize], ...stream).data;
  const none = () => Promise.reject(new Error("not asked for here"));
  return {
    id: "noise",
    evaluationView: async ({ name }) => pixels(0, name, -1),
    augmentedView: async ({ name }, { seed, epoch }) => pixels(seed, name, epoch),
    facts: none,
    stamp: none,
    fingerprint: none,
    dispose: async () => undefined,
  };
}
const items = Array.from({ length: 24 }, (_, i) => ({ name: `${i}.jpg` }));
const required = { teacher: "T", data: "D", out: "O" };

/** What a run begins with: its blocks, widths and weights. */
async function startedWith(options: Readonly<Record<string, unknown>>) {
  let time = 0;
  // Nothing else of the platform is asked for here.
  const environment = { now: () => time++ } as Environment;
  const parsed = distillOptions({ ...required, method: "refit", ...options });
  const teacher = loaded.plain;
  const started = await startOf(parsed, teacher, noiseSource(teacher), items, undefined, runContext(environment));
  const weights = [...(started.student?.weights ?? [])].map(([name, { data }]) => name + sha(bytesOf(data)));
  return { blocks: started.keptBlocks, widths: started.widths, student: sha(...weights) };
}

/** Options of what a run begins with, beside others where they need them. */
const starting: Readonly<Record<string, readonly [value: unknown, beside?: Readonly<Record<string, unknown>>]>> = {
  mlpWidth: [0.5],
  keptHeads: [0.5],
  analyticViews: [2],
  analyticTokens: [1],
  analyticMaps: [["fc2", "q"]],
  analyticSweeps: [2],
  selection: ["magnitude", { method: "grail" }],
  gradientLoss: ["features", { method: "taylor" }],
  correction: [true, { method: "snapvit", generations: 1 }],
  generations: [3, { method: "snapvit" }],
  shape: ["balanced"],
  keep: ["auto"],
  budget: ["0.4x"],
};

const plan = (options: Readonly<Record<string, unknown>>) =>
  planBatches(480, distillOptions({ ...required, method: "wecolora", ...options }));

/** Options of a run's batches, steps and rate. */
const planned: Readonly<Record<string, unknown>> = {
  baseLearningRate: 1e-2,
  epochs: 5,
  warmupEpochs: 1,
  steps: 7,
  effectiveBatch: 16,
  batch: 5,
  device: "cuda",
};

/** Options that are handed to the readers of data and models as they are. */
const handedOn = {
  data: { dataSet: "cifar10", pictureColumn: "p", labelColumns: ["a", "b"], includeNoFinding: true },
  model: { numHeads: 2, imageSize: 64, revision: "v2", mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] },
} as const;

/** Options whose effect on a whole run is asserted in another file, which has to name them. */
const inRuns: Readonly<Record<string, string>> = {
  teacher: "workspace/runs",
  data: "workspace/runs",
  out: "workspace/runs",
  overwrite: "workspace/runs",
  keptViews: "students/training/kept-views",
  keptViewsOn: "students/training/kept-views",
  heldOut: "workspace/runs",
  weightType: "models/precision",
  judge: "evaluation/evaluation",
  judgeTeacher: "workspace/run-settings",
  judgeBank: "commands/stopping",
  judgeQueries: "commands/stopping",
  normalization: "data/paper",
  report: "students/training/kept-views",
  strict: "cli/cli",
  threads: "workspace/run-settings",
  export: "exports/exports",
  recipe: "cli/cli",
};
const fewShot = ["fewShotRatio", "fewShotRounding", "fewShotCount"];

/** Options of a run's loop: when it evaluates, when it saves, when it stops. */
const looped: Readonly<Record<string, unknown>> = {
  checkpointSteps: 3,
  checkpointMinutes: 1,
  keepCheckpoints: 5,
  evaluateSteps: 2,
  earlyStop: 1,
};
/** Options of the images that are looked at while training. */
const tracking = ["evaluatePictures"];

test("every option has a row", () => {
  const rows = [
    ...[training, starting, planned, looped, handedOn.data, handedOn.model, inRuns].flatMap(Object.keys),
    ...fewShot,
    ...tracking,
  ];
  const keys = new Set([...Object.keys(distillationSchema.shape), ...Object.keys(distillRunSchema.shape)]);
  expect([...keys].filter((key) => !rows.includes(key))).toEqual([]);
  expect([...new Set(rows)].filter((row) => !keys.has(row))).toEqual([]);
});

describe("what steps are made of", () => {
  const traces = new Map<string, Promise<Trace>>();
  const trace = (options: DistillationInput, teacher: keyof typeof loaded) => {
    const key = `${teacher} ${JSON.stringify(options)}`;
    const known = traces.get(key) ?? traceOf(options, loaded[teacher]);
    traces.set(key, known);
    return known;
  };
  test("is the same for the same options", async () => {
    expect(await traceOf(base, loaded.plain)).toEqual(await trace(base, "plain"));
  });
  test.each(Object.entries(training))("%s", async (name, { value, changes, beside, teacher = "plain" }) => {
    const settings = { ...base, ...beside };
    const without = await trace(settings, teacher);
    const given = await trace({ ...settings, [name]: value } as DistillationInput, teacher);
    expect(given[changes]).not.toEqual(without[changes]);
  });
});

describe("a run hands its options on to the distillation", () => {
  const shared = Object.entries(training).filter(
    ([name]) => name in distillRunSchema.shape && !["schedule", "optimizer", "loss"].includes(name),
  );
  test.each(shared)("%s", (name, { value }) => {
    const options = distillOptions({ ...required, method: "wecolora", [name]: value });
    expect(distillationOptions(options, plan({}), undefined)).toMatchObject({ [name]: value });
  });
  test("loss, optimizer and schedule, in their long forms", () => {
    const options = distillOptions({ ...required, loss: "mse", optimizer: "adamw", schedule: "linear", method: "kd" });
    expect(distillationOptions(options, plan({}), undefined)).toMatchObject({
      loss: [{ kind: "mse" }],
      optimizer: { kind: "adamw", weightDecay: 0.05 },
      schedule: { kind: "linear", baseLearningRate: plan({}).peakLearningRate },
    });
  });
});

describe("what a run begins with", () => {
  const without = startedWith({});
  test("is the same for the same options", async () => {
    expect(await startedWith({})).toEqual(await without);
  });
  test.each(Object.entries(starting))("%s", async (name, [value, beside]) => {
    // A method's own options are compared with that method's defaults.
    const usual = beside && "method" in beside ? startedWith(beside) : without;
    expect(await startedWith({ ...beside, [name]: value })).not.toEqual(await usual);
  });
});

test.each(Object.entries(planned))("a run's plan: %s", (name, value) => {
  const figures = ({ notes: _, ...rest }: ReturnType<typeof plan>) => rest;
  expect(figures(plan({ [name]: value }))).not.toEqual(figures(plan({})));
});

/** What a loop of 16 steps of a minute each does; students get no better after its first look. */
async function loopOf(options: Readonly<Record<string, unknown>>): Promise<string[]> {
  const done: string[] = [];
  let [steps, minutes] = [0, 0];
  // The parts of a distillation, a run folder and a tracker that the loop calls.
  const fakes = {
    distillation: {
      trains: true,
      get steps() {
        return steps;
      },
      step: async () => ({ loss: 1, learningRate: 1, step: [++steps, ++minutes] }),
      saveState: async () => ({ steps, tensors: new Map() }),
      loadState: async () => done.push("best"),
    },
    folder: {
      log: async ({ kind }: { kind: string }) => kind === "evaluation" && done.push(`evaluated ${steps}`),
      writeState: async (_: unknown, __: unknown, keep: number) => done.push(`saved ${steps}, keeps ${keep}`),
      writeBest: async () => undefined,
      readBest: async () => ({}),
    },
    tracker: { evaluate: async () => ({ step: steps, difference: 1 + steps, cosine: 0.5 }) },
  };
  const environment = { now: () => 60_000 * minutes } as Environment;
  const parsed = distillOptions({ ...required, method: "wecolora", ...options });
  const parts = { options: parsed, plan: plan({ steps: 16 }), before: [], losses: [], next: () => Promise.reject() };
  await train({ ...fakes, ...parts } as never, runContext(environment));
  return done;
}

test.each(Object.entries(looped))("a run's loop: %s", async (name, value) => {
  expect(await loopOf({ [name]: value })).not.toEqual(await loopOf({}));
});

test("as many images as asked for are looked at while training", () => {
  const folder = { path: "D", classes: ["a", "b"], items, skipped: [] };
  const of = (options: object) =>
    trackedItems(
      distillOptions({ ...required, ...options }),
      { train: items, bank: items, queries: items },
      { path: "D", train: folder, unused: [] },
    );
  expect(of({ evaluatePictures: 5 }).queries).toHaveLength(5);
  expect(of({ evaluatePictures: 5 }).bank).toHaveLength(10);
  expect(of({}).queries).toHaveLength(items.length);
});

test("the readers of data and models get their options", () => {
  const options = distillOptions({ ...required, ...handedOn.data, ...handedOn.model, seed: 3 });
  expect(openOptions(options)).toEqual({ ...handedOn.data, seed: 3 });
  expect(readOptions(options)).toEqual(handedOn.model);
});

test("few-shot shares and counts", () => {
  const of = (options: object) => fewShotOf(distillOptions({ ...required, ...options }));
  expect(of({})).toEqual({ kind: "all" });
  expect(of({ fewShotRatio: 0.1 })).toEqual({ kind: "share", share: 0.1 });
  const down = { kind: "share", share: 0.1, rounding: "down" };
  expect(of({ fewShotRatio: 0.1, fewShotRounding: "down" })).toEqual(down);
  expect(of({ fewShotCount: 3 })).toEqual({ kind: "count", count: 3 });
});

test.each(Object.entries(inRuns))("%s is asserted on in tests/%s.test.ts", (name, file) => {
  const text = readFileSync(join(root, "tests", `${file}.test.ts`), "utf8");
  const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  expect([name, flag].some((word) => new RegExp(`\\b${word}\\b`).test(text))).toBe(true);
});
