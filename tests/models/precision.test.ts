// Products in 8 bits: right on this machine, near the float ones, told apart by part.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CreateDistillationOptions, FloatTensor } from "wecolora/node";
import {
  createDistillation,
  createImageSource,
  evaluate,
  features,
  listImages,
  loadModel,
  Model,
  nodeEnvironment,
} from "wecolora/node";
import { runContext } from "../../src/context/run-context.ts";
import { compile } from "../../src/engine/compile.ts";
import {
  add,
  constant,
  gelu,
  graph,
  input,
  layerNormalization,
  matmul,
  matmulInteger,
  transposeLast,
} from "../../src/engine/graph/build.ts";
import type { Graph, Value } from "../../src/engine/graph/graph.ts";
import { sortedNodes } from "../../src/engine/graph/walk.ts";
import { plainVit } from "../../src/models/config.ts";
import { expectedWeights } from "../../src/models/weight-table.ts";
import { defaultPreprocessing } from "../../src/models/preprocessing.ts";
import type { Int8Inputs, Int8Part } from "../../src/engine/passes/int8/int8-products.ts";
import { int8Parts } from "../../src/engine/passes/int8/int8-products.ts";
import { safeWeight } from "../../src/engine/passes/int8/quantize.ts";
import { tidy } from "../../src/engine/passes/tidy.ts";
import { choosePrecision, largestOn } from "../../src/models/precision.ts";
import { gradientGraph } from "../../src/students/training/step-graphs.ts";
import { methodOf } from "../../src/students/methods/lookup.ts";
import { studentBefore } from "../../src/students/training/distillation.ts";
import type { DistillationInput } from "../../src/students/distillation-options.ts";
import { distillationSchema } from "../../src/students/distillation-options.ts";
import type { DistillRunInput } from "../../src/commands/distill-options.ts";
import { int8Of } from "../../src/students/settle-precision.ts";
import { distillOptions } from "../../src/commands/distill-options.ts";
import { drawStream } from "../../src/utils/random.ts";
import { elementBytes, elementCount, rows } from "../../src/utils/tensor.ts";
import { noiseImage } from "../support/cli.ts";
import { inlineDevice, runOnce } from "../support/device.ts";
import { noise } from "../support/noise.ts";
import { readReference, readTensors, referencePath, relativeError } from "../support/reference.ts";
import { messagesInto } from "../support/progress.ts";

const device = inlineDevice();
const environment = nodeEnvironment({ threads: 1 });
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-precision-"));
  for (let i = 0; i < 16; i++) await noiseImage(join(folder, "data", `p${i}.jpg`), i, i % 3);
});
afterAll(async () => {
  await device.dispose();
  await environment.dispose();
  await rm(folder, { recursive: true });
});

const numbers = (dims: readonly number[], seed: number) => noise(dims, seed, "numbers");

const int8 = { largest: safeWeight, parts: int8Parts };
/** What a graph gives in float32, and in 8 bits. */
async function inBoth(inputs: readonly Value[], outputs: Record<string, Value>, feeds: Record<string, FloatTensor>) {
  const inFloat32 = await runOnce(device, inputs, outputs, feeds);
  return [inFloat32, await runOnce(device, inputs, outputs, feeds, { int8 })];
}

const teacherOf = () => loadModel(referencePath("teachers/timm-vit"), { device });
const imagesOf = async () =>
  (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;

test("the largest weight is one with which this machine multiplies exactly, wherever it stands", async () => {
  const largest = await largestOn(device);
  const [rows, inner, columns] = [9, 130, 33];
  const random = drawStream(5);
  // Extremes everywhere: sums of two neighbours are where 16 bits overflow.
  const a = Uint8Array.from({ length: rows * inner }, () => (random.uniform() < 0.9 ? 255 : random.integer(0, 255)));
  const b = Int8Array.from({ length: inner * columns }, () => (random.uniform() < 0.9 ? largest : -largest));
  const x = input("a", "uint8", [rows, inner]);
  const zero = constant({ type: "uint8", dims: [], data: Uint8Array.of(0) });
  const y = matmulInteger(x, constant({ type: "int8", dims: [inner, columns], data: b }), zero);
  const session = await compile(graph([x], { y }), device);
  const { tensors } = await session.run({
    feeds: { a: { type: "uint8", dims: [rows, inner], data: a } },
    fetch: ["y"],
  });
  await session.dispose();
  const expected = Int32Array.from({ length: rows * columns }, (_, at) => {
    const [r, c] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += a[r * inner + k] * b[k * columns + c];
    return sum;
  });
  expect(tensors.y.data).toEqual(expected);
});

test("8-bit products are near the float ones, tokens of very different size alike", async () => {
  const [inputs, outputs] = [96, 80];
  const x = input("x", "float32", [10, inputs]);
  const weight = constant(numbers([outputs, inputs], 1), "w");
  const y = matmul(x, transposeLast(weight));
  const feed = numbers([10, inputs], 2);
  for (let t = 0; t < 10; t++)
    for (let k = 0; k < inputs; k++) feed.data[t * inputs + k] *= t === 9 ? 0 : 10 ** ((t % 7) - 3);
  const results = (await inBoth([x], { y }, { x: feed })).map((tensors) => tensors.y.data as Float32Array);
  for (let t = 0; t < 10; t++) {
    const [exact, near] = results.map((data) => data.subarray(t * outputs, (t + 1) * outputs));
    // Weights are rounded to 1/126 of their largest, tokens to 1/255 of theirs; over 96 products errors are a random walk.
    expect(relativeError(near, exact)).toBeLessThan(0.03);
  }
  expect(results[1].subarray(9 * outputs).every((v) => v === 0)).toBe(true);
});

test("outlier channels behind a norm are balanced against the weights", async () => {
  const [width, outputs] = [96, 80];
  const x = input("x", "float32", [10, width]);
  const weights = numbers([outputs, width], 1);
  const vector = (value: number): FloatTensor => ({
    type: "float32",
    dims: [width],
    data: new Float32Array(width).fill(value),
  });
  const [scale, bias] = [vector(1), vector(0)];
  // Three channels are 100 times as large as the others, with weights to match; one is always zero and has a huge weight.
  for (const k of [3, 40, 77]) {
    scale.data[k] = 100;
    for (let o = 0; o < outputs; o++) weights.data[o * width + k] /= 100;
  }
  scale.data[9] = 0;
  for (let o = 0; o < outputs; o++) weights.data[o * width + 9] = 1e3;
  const feeds = { x: numbers([10, width], 2), scale, bias };
  const outcome = async (frozen: boolean, options: typeof int8 | undefined) => {
    const fed = frozen ? [] : [input("scale", "float32", [width]), input("bias", "float32", [width])];
    const [s, b] = frozen ? [constant(scale), constant(bias)] : fed;
    const y = matmul(layerNormalization(x, s, b, 1e-6), transposeLast(constant(weights)));
    const given = frozen ? { x: feeds.x } : feeds;
    return (await runOnce(device, [x, ...fed], { y }, given, { int8: options })).y.data as Float32Array;
  };
  const exact = await outcome(true, undefined);
  // As for tokens of one size above; and where the norm is not known beforehand, nothing can be balanced.
  expect(relativeError(await outcome(true, int8), exact)).toBeLessThan(0.03);
  expect(relativeError(await outcome(false, int8), exact)).toBeGreaterThan(0.3);
});

test("maps behind one norm share its 8-bit tokens, and take their biases along", async () => {
  const [width, outputs] = [96, 80];
  const x = input("x", "float32", [10, width]);
  const vector = (n: number, seed: number) => constant(numbers([n], seed));
  const norm = layerNormalization(x, vector(width, 1), vector(width, 2), 1e-6);
  const maps = [3, 4, 5].map((seed) => {
    const product = matmul(norm, transposeLast(constant(numbers([outputs, width], seed))));
    return add(product, vector(outputs, seed + 10));
  });
  // A bias that is no constant, and a product that others read, stay as they are.
  const fed = input("b", "float32", [outputs]);
  const bare = matmul(norm, transposeLast(constant(numbers([outputs, width], 6))));
  const outputsOf = { q: maps[0], k: maps[1], v: maps[2], fed: add(bare, fed), bare };
  const nodes = sortedNodes(tidy(graph([x, fed], outputsOf), { target: "onnxruntime", int8 }).outputs.values());
  const count = (op: string) => nodes.filter((node) => node.op === op).length;
  expect([count("LayerNormalization"), count("DynamicQuantizeLinear"), count("Add")]).toEqual([1, 1, 1]);
  const products = nodes.filter(({ op }) => op === "MatMulIntegerToFloat");
  expect(products.map(({ inputs }) => inputs.length).sort()).toEqual([5, 6, 6, 6]);
  const feeds = { x: numbers([10, width], 7), b: numbers([outputs], 8) };
  const [exact, near] = await inBoth([x, fed], outputsOf, feeds);
  // As for tokens of one size above.
  for (const name of Object.keys(outputsOf))
    expect(relativeError(near[name].data as Float32Array, exact[name].data as Float32Array)).toBeLessThan(0.03);
});

test.each(["none", "tanh"] as const)("tokens behind a GELU (%s) keep to their own scales", async (approximate) => {
  const [width, outputs] = [96, 80];
  const x = input("x", "float32", [12, width]);
  const feed = numbers([12, width], 1);
  // Tokens of all sizes; all of the last one's numbers are where GELU dips below zero.
  for (let t = 0; t < 12; t++)
    for (let k = 0; k < width; k++)
      feed.data[t * width + k] = t === 11 ? -0.75 : feed.data[t * width + k] * 4 ** (t - 4);
  const y = matmul(gelu(x, approximate), transposeLast(constant(numbers([outputs, width], 2))));
  const results = (await inBoth([x], { y }, { x: feed })).map((tensors) => tensors.y.data as Float32Array);
  for (let t = 0; t < 12; t++) {
    const [exact, near] = results.map((data) => data.subarray(t * outputs, (t + 1) * outputs));
    // Steps are never finer than those of 0.171, the dip's size, so small tokens are held to it.
    const size = Math.max(...Array.from(exact, Math.abs));
    const worst = Math.max(...Array.from(near, (v, i) => Math.abs(v - exact[i])));
    expect(worst).toBeLessThan(0.03 * Math.max(size, 0.171 * Math.sqrt(width)));
  }
});

describe("a step's products", () => {
  async function stepGraph(settings: DistillationInput): Promise<{ built: Graph; inputs: Int8Inputs }> {
    const teacher = await teacherOf();
    const options = distillationSchema.parse({ precision: "int8", ...settings });
    const method = methodOf(options.method);
    const context = { teacher, kept: [0, 2, 4], options };
    const student = studentBefore(method, context);
    const trainables = method.trainables(student, context);
    const objective = method.objective(student, context);
    const draws = trainables.draws(2);
    const built = gradientGraph({ teacher, student, trainables, objective, draws, batch: 2, runs: 1 });
    return { built, inputs: { trained: [...trainables.shapes.keys()], lowRank: trainables.lowRank } };
  }

  /** A step's 8-bit products, where those of `parts` are. */
  async function productsOf(settings: DistillationInput) {
    const { built, inputs } = await stepGraph(settings);
    const given = { trained: [...inputs.trained], lowRank: [...inputs.lowRank] };
    return (parts: readonly Int8Part[]) => {
      const int8 = { largest: safeWeight, parts, inputs: given };
      const nodes = sortedNodes(tidy(built, { target: "onnxruntime", int8 }).outputs.values());
      const products = nodes.filter(({ op }) => op === "MatMulIntegerToFloat");
      return { products: products.length, matrices: new Set(products.map(({ inputs }) => inputs[1])).size };
    };
  }

  test("stay the same where sessions are opened anew for other micro-batches", async () => {
    const teacher = await teacherOf();
    const settings: CreateDistillationOptions = { rank: 2, precision: "int8", int8Parts: ["student"] };
    const [whole, half] = [await imagesOf(), await imagesOf()].map((pixels, i) => rows(pixels, 0, i === 0 ? 2 : 1));
    const again = await createDistillation(teacher, settings);
    const start = await again.saveState();
    await again.step([half]);
    await again.loadState(start);
    const fresh = await createDistillation(teacher, { ...settings, initialAdapters: await again.adapters() });
    expect((await again.step([whole])).loss).toBe((await fresh.step([whole])).loss);
    await again.dispose();
    await fresh.dispose();
    await teacher.dispose();
  });

  test("are the teacher's, the student's and those of gradients, each by itself", async () => {
    const counts = await productsOf({ rank: 2 });
    // The MLPs' maps of 6 blocks and the patches, once for teacher and student; the other maps are too small here.
    expect(counts(["teacher"]).products).toBe(6 * 2 + 1);
    expect(counts(["student"]).products).toBe(3 * 2);
    expect(counts(["backward"]).products).toBe(3 * 2);
    const all = counts(int8Parts);
    expect(all.products).toBe(6 * 2 + 1 + 2 * 3 * 2);
    // Teacher and student share their weights; gradients need them turned.
    expect(all.matrices).toBe(6 * 2 + 1 + 3 * 2);
  });

  test("are those of adapters too, where they are large enough and tokens go through them", async () => {
    const counts = await productsOf({ rank: 128 });
    // Each of 18 adapters has two products going forward, two back and two for its gradients; nothing trains before the first
    // block, whose q, k and v give no gradient further back.
    expect(counts(["adapters"]).products).toBe(18 * 6 - 3);
    // A and B are read both ways, and a gradient's thin side is its own.
    expect(counts(["adapters"]).matrices).toBe(18 * 6 - 3);
    // Those of DoRA go into whole weights; all weights that train are no adapters.
    for (const method of ["dora", "weco-kd"] as const) {
      const others = await productsOf({ method, ...(method === "dora" ? { rank: 128 } : {}) });
      expect(others(["adapters"]).products).toBe(0);
      expect(others(["teacher"]).products).toBe(6 * 2 + 1);
    }
  });

  test("give nearly the same loss and gradients in 8 bits", async () => {
    const [teacher, pixels] = [await teacherOf(), await imagesOf()];
    const settings = { reductionFactor: 2, rank: 4, schedule: { kind: "cosine", warmupEpochs: 0 } } as const;
    const plain = await createDistillation(teacher, settings);
    const coarse = await createDistillation(teacher, { ...settings, precision: "int8" });
    // Past the start, where B = 0 leaves A without a gradient.
    for (let i = 0; i < 3; i++) for (const one of [plain, coarse]) await one.step([pixels]);
    const [exact, near] = [
      await plain.step([pixels], { gradients: true }),
      await coarse.step([pixels], { gradients: true }),
    ];
    expect(Math.abs(near.loss / exact.loss - 1)).toBeLessThan(0.02);
    const all = (actual: typeof exact) =>
      Float64Array.from([...(actual.gradients as Map<string, FloatTensor>).values()].flatMap(({ data }) => [...data]));
    const [a, b] = [all(exact), all(near)];
    const dot = (p: Float64Array, q: Float64Array) => p.reduce((sum, v, i) => sum + v * q[i], 0);
    // The loss's gradient is made of signs, which turn where a difference is near zero.
    expect(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toBeGreaterThan(0.9);
    for (const one of [plain, coarse, teacher]) await one.dispose();
  });
});

describe("checkpointing", () => {
  test.each(["wecolora", "weco-kd", "dora"] as const)(
    "%s: the same gradients, from activations computed anew",
    async (method) => {
      const [teacher, pixels] = [await teacherOf(), await imagesOf()];
      const settings = { method, reductionFactor: 2, rank: 4, schedule: { kind: "cosine", warmupEpochs: 0 } } as const;
      const plain = await createDistillation(teacher, settings);
      const anew = await createDistillation(teacher, { ...settings, checkpointing: true });
      for (let i = 0; i < 2; i++) {
        const expected = await plain.step([pixels], { gradients: true });
        const actual = await anew.step([pixels], { gradients: true });
        // The same operations on the same numbers.
        expect(actual.loss).toBe(expected.loss);
        for (const [name, { data }] of expected.gradients as Map<string, FloatTensor>)
          expect(relativeError((actual.gradients?.get(name) as FloatTensor).data, data)).toBeLessThan(1e-6);
      }
      for (const one of [plain, anew, teacher]) await one.dispose();
    },
  );

  test.each(["wecolora", "weco-kd", "dora"] as const)(
    "%s: gradients from activations saved in half precision",
    async (method) => {
      const [teacher, pixels] = [await teacherOf(), await imagesOf()];
      const settings = { method, reductionFactor: 2, rank: 4 } as const;
      const plain = await createDistillation(teacher, settings);
      const half = await createDistillation(teacher, { ...settings, activations: "float16" });
      const [expected, actual] = [
        await plain.step([pixels], { gradients: true }),
        await half.step([pixels], { gradients: true }),
      ];
      // The forward pass reads none of the copies.
      expect(actual.loss).toBe(expected.loss);
      const errors = [...(expected.gradients as Map<string, FloatTensor>)].map(([name, { data }]) =>
        relativeError((actual.gradients?.get(name) as FloatTensor).data, data),
      );
      // A number is off by 2^-12 on average, and the way back multiplies a few dozen of them.
      expect(Math.max(...errors)).toBeLessThan(5e-3);
      expect(Math.max(...errors)).toBeGreaterThan(1e-6);
      for (const one of [plain, half, teacher]) await one.dispose();
    },
  );

  test("no gradient reads what lies inside a block's forward pass, or half-precision copies alone", async () => {
    const teacher = await teacherOf();
    const options = distillationSchema.parse({ rank: 2, checkpointing: true });
    const context = { teacher, kept: [0, 2, 4], options };
    const student = studentBefore(methodOf("wecolora"), context);
    const trainables = methodOf("wecolora").trainables(student, context);
    const objective = methodOf("wecolora").objective(student, context);
    const draws = trainables.draws(2);
    const step = { teacher, student, trainables, objective, draws, batch: 2, runs: 1 };
    interface How {
      checkpointing?: boolean;
      activations?: "float16";
    }
    /** What gradients read of the forward pass. */
    const read = (how: How): Value[] => {
      const { outputs } = gradientGraph({ ...step, ...how });
      const forward = new Set(sortedNodes([outputs.get("loss") as Value]));
      const backward = sortedNodes(outputs.values()).filter((node) => !forward.has(node));
      const values = new Set(backward.flatMap(({ inputs }) => inputs));
      return [...values].filter(({ source }) => source.kind === "node" && forward.has(source.node));
    };
    // Weights are no activations: they have no batch.
    const isActivation = ({ shape }: Value) => shape.length >= 3;
    const crossing = (how: How) =>
      read(how)
        .filter(isActivation)
        .reduce((sum, { type, shape }) => sum + elementBytes[type] * elementCount(shape as number[]), 0);
    const foldedWeights = (how: How) =>
      read(how).filter((v) => !isActivation(v) && sortedNodes([v]).some(({ op }) => op === "MatMul")).length;
    // What goes over from the forward pass: the blocks' inputs and the loss's own, instead of all that is inside.
    expect(crossing({ checkpointing: true })).toBeLessThan(0.2 * crossing({}));
    expect(crossing({ activations: "float16" })).toBeLessThan(0.6 * crossing({}));
    // Weights with the adapters in them are made anew too: six maps of three blocks, but for q, k and v of the first.
    expect(foldedWeights({})).toBe(3 * 6 - 3);
    expect(foldedWeights({ checkpointing: true })).toBe(0);
    await teacher.dispose();
  });

  test("methods whose states are not told are refused", async () => {
    const [teacher, pixels] = [await teacherOf(), await imagesOf()];
    const minivit = await createDistillation(teacher, { method: "minivit", reductionFactor: 2, checkpointing: true });
    await expect(minivit.step([pixels])).rejects.toThrow("can't be recomputed (checkpointing)");
    const half = await createDistillation(teacher, { method: "minivit", reductionFactor: 2, activations: "float16" });
    await expect(half.step([pixels])).rejects.toThrow("can't be saved in half precision (activations)");
    for (const one of [minivit, half]) await one.dispose();
    const both = createDistillation(teacher, { checkpointing: true, activations: "float16" });
    await expect(both).rejects.toThrow("Give checkpointing or activations");
    await teacher.dispose();
  });
});

/** A ViT with random weights that is large enough for a precision to matter. */
function largeTeacher(): Model {
  const sizes = { imageSize: 112, patchSize: 16, channels: 3, width: 256, depth: 4, heads: 4, mlpWidth: 1024 };
  const config = { ...plainVit, ...sizes, normEpsilon: 1e-6 };
  const weights = new Map(
    [...expectedWeights(config)].map(([name, dims], i): [string, FloatTensor] => {
      const tensor = numbers(dims, i);
      // Norms keep their scale near 1; the others are as small as trained weights are.
      const data = tensor.data.map((v) => (/norm\d?\.weight$/.test(name) ? 1 : 0) + 0.05 * v);
      return [name, { ...tensor, data }];
    }),
  );
  const origin = { layout: "timm", bytes: 0, config: {}, weightType: "float32" as const, carried: new Map() };
  return new Model({ config, weights, preprocessing: defaultPreprocessing(112, "half"), origin }, device);
}

describe("auto", () => {
  test("says what it found, and leaves features that move too much in float32", async () => {
    const small = await teacherOf();
    expect(await choosePrecision(small, { wanted: "auto" })).toEqual({ reason: "float32, since the model is small" });
    await small.dispose();
    const teacher = largeTeacher();
    expect(await choosePrecision(teacher, { wanted: "float32" })).toEqual({ reason: "float32" });
    const forced = await choosePrecision(teacher, { wanted: "int8", parts: ["teacher"] });
    expect(forced.int8).toEqual({ largest: await largestOn(device), parts: ["teacher"] });
    expect(forced.reason).toMatch(/^int8: [78]-bit weights/);
    const auto = await choosePrecision(teacher, { wanted: "auto" });
    expect(auto.reason).toMatch(auto.int8 ? /^int8: products take .* and move/ : /^float32, since 8-bit products/);
    // Where adapters are named too, they are timed by themselves, and it is said where they stay as they are.
    const named = await choosePrecision(teacher, { wanted: "auto", parts: int8Parts });
    const frozen = int8Parts.filter((part) => part !== "adapters");
    const slower = named.reason.includes("; adapters stay float32, since with them maps take 1");
    if (named.int8) expect(named.int8.parts).toEqual(slower ? frozen : int8Parts);
    // One weight in each row that leaves no steps of the scale to the others, and that meets a channel of zeros.
    const weights = new Map(teacher.weights);
    for (const [name, tensor] of weights) {
      const data = tensor.data.slice();
      if (name.endsWith("fc2.weight")) for (let i = 0; i < data.length; i += tensor.dims[1]) data[i] = 1e4;
      else if (name.endsWith("fc1.weight")) data.fill(0, 0, tensor.dims[1]);
      else if (name.endsWith("fc1.bias")) data[0] = -100;
      else continue;
      weights.set(name, { ...tensor, data });
    }
    const spiked = new Model({ ...teacher, weights }, device);
    expect((await choosePrecision(spiked, { wanted: "auto" })).int8).toBeUndefined();
    for (const model of [spiked, teacher]) await model.dispose();
  });
});

test("a start in closed form is rounded where images are many, and by default", async () => {
  const teacher = largeTeacher();
  const source = createImageSource(join(folder, "data"), 1);
  const { items } = await listImages(join(folder, "data"));
  const asked = async (given: Partial<DistillRunInput>) => {
    const messages: string[] = [];
    const options = distillOptions({ teacher: "t", data: "d", out: "o", ...given });
    const context = runContext(environment, { listener: { info: (line) => messages.push(line) } });
    const int8 = await int8Of(context, options, teacher, source, items);
    return { int8: int8 !== undefined, messages: messages.join() };
  };
  const few = await asked({});
  expect(few).toEqual({ int8: false, messages: "precision float32, since 16 images gain little by 8 bits" });
  // So many views are never drawn here.
  const many = await asked({ analyticCrops: 1000 });
  expect(many.messages).toMatch(
    many.int8 ? /^precision int8: products take .* and move/ : /^precision float32, since 8-bit/,
  );
  expect(await asked({ analyticCrops: 1000, precision: "float32" })).toEqual({ int8: false, messages: "" });
  // Asked for by name, 8 bits are taken however few the images are; the paper's recipe never takes them by itself.
  expect(await asked({ precision: "int8" })).toMatchObject({ int8: true });
  expect(await asked({ recipe: "paper" })).toEqual({ int8: false, messages: "" });
  await source.dispose();
  await teacher.dispose();
});

test("features and judging in 8 bits, as the commands run them", async () => {
  const model = referencePath("teachers/timm-vit");
  const rows = [];
  for (const precision of ["float32", "int8"] as const) {
    const out = join(folder, `${precision}.safetensors`);
    await features({ model, data: join(folder, "data"), out, precision });
    rows.push((await readTensors(out)).get("features") as FloatTensor);
  }
  const [exact, near] = rows;
  expect(near.dims).toEqual(exact.dims);
  const moved = near.data.reduce((sum, v, i) => sum + Math.abs(v - exact.data[i]), 0);
  expect(moved / exact.data.reduce((sum, v) => sum + Math.abs(v), 0)).toBeLessThan(0.1);
  expect(moved).toBeGreaterThan(0);
  const messages: string[] = [];
  const options = { model: [model], teacher: model, data: join(folder, "data"), precision: "int8" as const };
  const { results } = await evaluate({ ...options, cache: false, onProgress: messagesInto(messages) });
  expect(messages.join()).toMatch(/precision int8: [78]-bit weights/);
  // The teacher stays float32, so the model beside it is not quite it.
  expect(results[1].fidelity?.meanAbsoluteDifference).toBeGreaterThan(0);
});
