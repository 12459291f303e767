// Every option of a distillation changes something: a key without a row here fails, and so does a row whose option is not
// passed on. Most rows compare what two runs of two steps on a tiny teacher are made of and end with.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device, Model, ImageSource } from "wecolora/node";
import { createDistillation, loadModel, Model as OwnModel, nodeDirectory, readDefinition } from "wecolora/node";
import type { DistillRunResult } from "../../src/commands/distill.ts";
import { command as distillCommand } from "../../src/commands/distill.ts";
import type { DistillRunInput } from "../../src/commands/distill-options.ts";
import { distillOptions, distillRunSchema, refuseUnread } from "../../src/commands/distill-options.ts";
import { openOptions, readOptions } from "../../src/context/common-options.ts";
import type { Environment } from "../../src/context/environment.ts";
import { runContext } from "../../src/context/run-context.ts";
import { protocols } from "../../src/data/protocols.ts";
import { runOnNode } from "../../src/platform/node/node.ts";
import { distillationSchema } from "../../src/students/distillation-options.ts";
import type { DistillationInput } from "../../src/students/distillation-options.ts";
import { startOf } from "../../src/students/run-start.ts";
import { train } from "../../src/students/training/loop.ts";
import { distillationOptions, trackedItems } from "../../src/students/training/setup.ts";
import { fewShotOf, planBatches } from "../../src/students/training/step-plan.ts";
import type { RunConfig } from "../../src/workspace/run-folder.ts";
import { RunFolder } from "../../src/workspace/run-folder.ts";
import { OptionError } from "../../src/utils/errors.ts";
import { noiseImage } from "../support/cli.ts";
import { changed } from "../support/device.ts";
import { noise } from "../support/noise.ts";
import { referencePath } from "../support/reference.ts";

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
    sibling: undefined,
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
  readonly given?: DistillationInput;
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
  int8Parts: { value: ["teacher"], changes: "graphs", given: { precision: "int8" } },
  checkpointing: { value: true, changes: "graphs" },
  activations: { value: "float16", changes: "graphs" },
  seed: { value: 1, changes: "parameters" },
  rank: { value: 2, changes: "parameters" },
  alpha: { value: 8, changes: "student" },
  rankStabilized: { value: true, changes: "student", given: { alpha: 8 } },
  adapterDropout: { value: 0.5, changes: "losses" },
  targetModules: { value: ["q"], changes: "parameters" },
  softLabels: { value: true, changes: "losses", given: { method: "deit" }, teacher: "classifier" },
  maskRatio: { value: 0.5, changes: "graphs", given: { method: "dmae" } },
};

/** A source of noise: a crop's numbers follow from the image's name and the epoch. */
function noiseSource({ config }: Model): ImageSource {
  const pixels = (...stream: [number, string, number]) =>
    noise([3, config.imageSize, config.imageSize], ...stream).data;
  const none = () => Promise.reject(new Error("not asked for here"));
  return {
    id: "noise",
    evaluationCrop: async ({ name }) => pixels(0, name, -1),
    augmentedCrop: async ({ name }, { seed, epoch }) => pixels(seed, name, epoch),
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
  analyticCrops: [2],
  analyticTokens: [1],
  analyticMaps: [["fc2", "q"]],
  analyticSweeps: [2],
  priorImages: [6],
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
  data: { dataSet: "cifar10", imageColumn: "p", labelColumns: ["a", "b"], includeNoFinding: true },
  model: { numHeads: 2, imageSize: 64, revision: "v2", mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] },
} as const;

/** A finished run, and what was said while it went. */
interface WholeRun {
  readonly out: string;
  readonly result: DistillRunResult;
  readonly config: RunConfig;
  readonly warnings: readonly string[];
  /** Files that were in the folder while a step was taken. */
  readonly during: ReadonlySet<string>;
}

/** Each image's uses, by its name. */
async function usesOf({ out }: WholeRun): Promise<ReadonlyMap<string, readonly string[]>> {
  const lines = await new RunFolder(nodeDirectory(out)).readManifest();
  return new Map(lines.map(({ name, uses }) => [name, uses]));
}
async function countOf(run: WholeRun, use: string): Promise<number> {
  return [...(await usesOf(run)).values()].filter((uses) => uses.includes(use)).length;
}

/** The stored student: the type of its weights, their hash, and how it sees images. */
async function studentOf({ out }: WholeRun) {
  const { weights, origin, preprocessing } = await readDefinition(join(out, "student"));
  const hashes = [...weights].map(([name, { data }]) => name + sha(bytesOf(data)));
  return { type: origin.weightType, sha: sha(...hashes), mean: preprocessing.mean };
}

/** Two steps on a tiny teacher, without an evaluation or a report. */
async function wholeRun(options: Readonly<Record<string, unknown>>): Promise<WholeRun> {
  const out = String(options.out);
  const during = new Set<string>();
  const warnings: string[] = [];
  const given = {
    ...{ teacher: referencePath("teachers/timm-vit"), method: "wecolora", rank: 2, steps: 2, threads: 1 },
    ...{ effectiveBatch: 8, batch: 4, evaluateSteps: 0, evaluate: false, report: false },
    ...options,
  };
  const listener = {
    warn: (message: string, details: readonly string[] = []) => void warnings.push(message, ...details),
    progress: () => readdirSync(out).forEach((entry) => during.add(entry)),
  };
  const result = await runOnNode(distillCommand, given as DistillRunInput, { listener });
  const config = await new RunFolder(nodeDirectory(out)).readConfig();
  return { out, result, config, warnings, during };
}

/** Runs beside others share their folders of images and their place for run folders. */
interface WholePlace {
  readonly folder: string;
  run(options: Readonly<Record<string, unknown>>): Promise<WholeRun>;
}

/** The default recipe in place of two steps of the paper's. */
const closedForm = { recipe: "closed-form", method: undefined, rank: undefined, steps: undefined };

/** What a whole run does with an option. `plain` is a run without it; what only training or evaluating shows stands in `options`. */
const whole: Readonly<Record<string, (place: WholePlace, plain: WholeRun) => Promise<void>>> = {
  async teacher({ run }, plain) {
    const other = await run({ teacher: referencePath("teachers/hf-vit") });
    expect(other.config.teacher.sha256).not.toBe(plain.config.teacher.sha256);
    expect((await studentOf(other)).sha).not.toBe((await studentOf(plain)).sha);
  },
  async data({ folder, run }, plain) {
    const other = await run({ data: join(folder, "other") });
    expect([...(await usesOf(plain)).keys()].sort()).toContain("a/p00.png");
    expect([...(await usesOf(other)).keys()].sort()).toContain("x/p00.png");
    expect((await studentOf(other)).sha).not.toBe((await studentOf(plain)).sha);
  },
  async out({ folder, run }) {
    const out = join(folder, "elsewhere");
    await run({ out });
    expect(readdirSync(out)).toEqual(expect.arrayContaining(["config.json", "result.json", "student"]));
  },
  async overwrite({ folder, run }) {
    const out = join(folder, "overwritten");
    const again = (overwrite: boolean) => run({ out, overwrite, rank: 3 });
    await run({ out });
    await expect(again(false)).rejects.toThrow("--overwrite");
    expect((await again(true)).config.options.rank).toBe(3);
  },
  async cachedCrops({ run }) {
    const of = async (options: object) => (await studentOf(await run({ ...twoEpochs, ...options }))).sha;
    // The second epoch shows other crops, unless each image has one.
    expect(await of({ cachedCrops: 1 })).not.toBe(await of({}));
  },
  async cropCache({ run }) {
    const of = async (cropCache: string) => (await run({ ...twoEpochs, cachedCrops: 1, cropCache })).during;
    expect(await of("disk")).toContain("cached-features.bin");
    expect(await of("memory")).not.toContain("cached-features.bin");
  },
  async cachedFeatures({ folder, run }) {
    // A folder that holds none is refused; a run that reads one has the bits of a run that caches its own (plan-cache.test.ts).
    const cachedFeatures = join(folder, "no-cache");
    await expect(run({ ...twoEpochs, cachedCrops: 1, cachedFeatures })).rejects.toThrow("no-cache");
  },
  async heldOut({ run }, plain) {
    const half = await run({ heldOut: 0.5 });
    // Three classes of six images: one each at a tenth, three each at a half.
    expect([await countOf(plain, "train"), await countOf(half, "train")]).toEqual([15, 9]);
  },
  async weightType({ run }, plain) {
    expect((await studentOf(plain)).type).toBe("float32");
    expect((await studentOf(await run({ weightType: "bfloat16" }))).type).toBe("bfloat16");
  },
  async evaluate({ run }, plain) {
    expect(plain.result.results).toEqual([]);
    const { results } = (await run({ evaluate: true })).result;
    expect(results.map(({ name }) => name)).toEqual(["teacher", "weight copy", "student"]);
  },
  async evaluateTeacher({ run }) {
    const { results } = (await run({ evaluate: true, evaluateTeacher: false })).result;
    expect(results.map(({ name }) => name)).toEqual(["student"]);
  },
  async labelledImages({ run }) {
    expect(await countOf(await run({ evaluate: true }), "bank")).toBe(15);
    expect(await countOf(await run({ evaluate: true, labelledImages: 4 }), "bank")).toBe(4);
  },
  async evaluationImages({ run }) {
    const of = async (options: object) => (await run({ evaluate: true, ...options })).result.results[0].images;
    expect(await of({})).toBe(3);
    expect(await of({ evaluationImages: 2 })).toBe(2);
  },
  async normalization({ run }, plain) {
    const { mean } = await studentOf(await run({ normalization: "data-set", dataSet: "cifar10" }));
    expect((await studentOf(plain)).mean).not.toEqual(mean);
    expect(mean).toEqual(protocols.cifar10.mean);
  },
  async report({ run }, plain) {
    expect(readdirSync(plain.out)).not.toContain("report.html");
    expect(readdirSync((await run({ report: true })).out)).toEqual(
      expect.arrayContaining(["report.html", "report.md"]),
    );
  },
  async strict({ folder, run }) {
    const broken = join(folder, "broken");
    const { warnings, result } = await run({ data: broken });
    expect(result.skipped).toBe(1);
    expect(warnings.join("\n")).toContain("a/no-image.png");
    await expect(run({ data: broken, strict: true })).rejects.toThrow("a/no-image.png");
  },
  async threads({ run }, plain) {
    expect(plain.config.threads).toBe(1);
    expect((await run({ threads: 2 })).config.threads).toBe(2);
  },
  async export({ run }, plain) {
    expect(readdirSync(plain.out)).not.toContain("exports");
    const { out } = await run({ export: "onnx" });
    expect(readdirSync(join(out, "exports"))).toEqual(["onnx"]);
  },
  async blockShapes({ run }) {
    const keptBlocks = [0, 1];
    const { config } = await run({ ...closedForm, keptBlocks, blockShapes: ["1x16", "2x8"] });
    expect(config.shapes).toEqual([
      { heads: 1, mlpWidth: 16 },
      { heads: 2, mlpWidth: 8 },
    ]);
  },
  async sizes({ run }) {
    const { out, result } = await run({ ...closedForm, sizes: ["0.9x", "0.6x"] });
    expect(result.sizes?.map(({ size }) => size)).toEqual(["0.6x"]);
    expect(readdirSync(join(out, "students"))).toEqual(["0.6x"]);
  },
  async agreement({ run }) {
    const { config, out } = await run({ ...closedForm, agreement: 0.5 });
    const { deployment } = config;
    if (!deployment) throw new Error("no deployment");
    expect(deployment.agreement).toBeGreaterThanOrEqual(0.5);
    // All levers are open, so something cheaper than the whole teacher in float32 was tried and chosen.
    expect(deployment.bytes).toBeLessThan(Math.max(...deployment.tried.map(({ bytes }) => bytes)));
    expect(readdirSync(join(out, "exports"))).toEqual([deployment.export]);
  },
  async levers({ run }) {
    const of = async (levers: string) => (await run({ ...closedForm, agreement: 0.5, levers })).config.deployment;
    const bits = (await of("bits"))?.tried ?? [];
    expect(bits.length).toBeGreaterThan(1);
    expect(bits.map(({ blockShare, imageSize, merging }) => [blockShare, imageSize, merging])).toEqual(
      bits.map(() => [1, undefined, undefined]),
    );
    expect(new Set((await of("shape"))?.tried.map((one) => one.export))).toEqual(new Set(["onnx"]));
    const { config, out } = await run({ ...closedForm, agreement: 0.01, levers: "image-size" });
    const { deployment } = config;
    expect(deployment).toMatchObject({ export: "onnx", blockShare: 1, imageSize: expect.any(Number) });
    const written = readFileSync(join(out, "exports/onnx/preprocessor_config.json"), "utf8");
    expect(JSON.parse(written).crop_size ?? JSON.parse(written).size).toMatchObject({ height: deployment?.imageSize });
    const { exports } = JSON.parse(readFileSync(join(out, "exports.json"), "utf8"));
    // Held against the student at its own size: smaller images change its features, where the file itself is exact.
    expect(exports).toMatchObject([{ format: "onnx", imageSize: deployment?.imageSize }]);
    expect(exports[0].relativeDifference).toBeGreaterThan(0.01);
    const card = readFileSync(join(out, "exports/onnx/README.md"), "utf8");
    expect(card).toContain(`images of ${deployment?.imageSize}x${deployment?.imageSize} pixels`);
  },
  async recipe({ run }, plain) {
    const { config } = await run({ recipe: "closed-form", method: undefined, rank: undefined, steps: undefined });
    expect([plain.config.options.method, config.options.method]).toEqual(["wecolora", "refit"]);
  },
};
const twoEpochs = { steps: undefined, epochs: 2, warmupEpochs: 0 };
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
const tracking = ["heldOutImages"];

test("every option has a row", () => {
  const rows = [
    ...[training, starting, planned, looped, handedOn.data, handedOn.model, whole].flatMap(Object.keys),
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
    const cached = traces.get(key) ?? traceOf(options, loaded[teacher]);
    traces.set(key, cached);
    return cached;
  };
  test("is the same for the same options", async () => {
    expect(await traceOf(base, loaded.plain)).toEqual(await trace(base, "plain"));
  });
  test.each(Object.entries(training))("%s", async (name, { value, changes, given: beside, teacher = "plain" }) => {
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
    const reference = beside && "method" in beside ? startedWith(beside) : without;
    expect(await startedWith({ ...beside, [name]: value })).not.toEqual(await reference);
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
    tracker: { evaluate: async () => ({ step: steps, meanAbsoluteDifference: 1 + steps, cosine: 0.5 }) },
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
  expect(of({ heldOutImages: 5 }).queries).toHaveLength(5);
  expect(of({ heldOutImages: 5 }).bank).toHaveLength(10);
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

describe("a whole run", () => {
  let place: WholePlace;
  let plain: WholeRun;

  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), "wecolora-options-"));
    const image = (path: string, seed: number) => noiseImage(join(folder, path), seed, seed % 3);
    for (let i = 0; i < 18; i++) {
      await image(`data/${"abc"[i % 3]}/p${String(i).padStart(2, "0")}.png`, i);
      await image(`other/${"xyz"[i % 3]}/p${String(i).padStart(2, "0")}.png`, 100 + i);
      await image(`broken/${"abc"[i % 3]}/p${String(i).padStart(2, "0")}.png`, i);
    }
    await writeFile(join(folder, "broken/a/no-image.png"), "no image");
    const runs = new Map<string, Promise<WholeRun>>();
    place = {
      folder,
      run(options) {
        const key = JSON.stringify(options);
        // A run with a folder of its own is run each time.
        if (options.out !== undefined) return wholeRun({ data: join(folder, "data"), ...options });
        const out = join(folder, `run-${runs.size}`);
        const run = runs.get(key) ?? wholeRun({ data: join(folder, "data"), ...options, out });
        runs.set(key, run);
        return run;
      },
    };
    plain = await place.run({});
  });
  afterAll(() => rm(place.folder, { recursive: true }));

  test("is the same for the same options", async () => {
    const again = await place.run({ out: join(place.folder, "again") });
    expect(await studentOf(again)).toEqual(await studentOf(plain));
  });
  test.each(Object.entries(whole))("%s", (_, row) => row(place, plain));
});

describe("an option that the method does not read", () => {
  const check = (given: object) => refuseUnread(given, distillOptions({ ...required, ...given }));
  test.each([
    [{ method: "refit", gradientLoss: "features" }, "gradientLoss is for snapvit, taylor, and the method is refit."],
    [{ method: "kd", rank: 8 }, /rank is for .*lora.*, and the method is kd\./],
    [{ recipe: "closed-form", correction: true }, "correction is for snapvit, and the method is refit."],
    [
      { method: "kd", analyticCrops: 2 },
      "analyticCrops is for students that start with the closed form (analytic), and the method is kd.",
    ],
  ])("%j is refused", (given, message) => {
    expect(() => check(given)).toThrow(OptionError);
    expect(() => check(given)).toThrow(message);
  });
  test.each([
    { epochs: 3, rank: 8 },
    { method: "refit", analyticCrops: 2, mlpWidth: 0.5 },
    { method: "wecolora", start: "analytic", analyticCrops: 2 },
    { method: "corp", mlpWidth: 0.5, keptHeads: 0.5 },
    { method: "taylor", gradientLoss: "features" },
    { method: "refit", start: "analytic", optimizer: undefined },
  ])("%j is taken", (given) => {
    expect(() => check(given)).not.toThrow();
  });
});
