// Whether products with frozen weights and with adapters run in 8 bits, decided on the machine at hand: by whether they are
// right there, by how fast they are, and by how near the teacher's features stay.
import type { CompileOptions } from "../engine/compile.ts";
import { compile } from "../engine/compile.ts";
import { gradients } from "../engine/autograd/gradients.ts";
import {
  add,
  constant,
  graph,
  input,
  matmul,
  matmulInteger,
  mul,
  reduceSum,
  transposeLast,
} from "../engine/graph/build.ts";
import type { Graph } from "../engine/graph/graph.ts";
import { inputName } from "../engine/graph/graph.ts";
import { Model } from "./model.ts";
import type { VitConfig } from "./config.ts";
import { tokenCount } from "./config.ts";
import { lowRank } from "../engine/nn/layers.ts";
import type { Int8Options, Int8Part } from "../engine/passes/int8/int8-products.ts";
import { int8Parts } from "../engine/passes/int8/int8-products.ts";
import { largestWeight, safeWeight } from "../engine/passes/int8/quantize.ts";
import type { Device, DeviceTensor, Session } from "../runtime/device.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { elementCount } from "../utils/tensor.ts";

export { int8Parts };
export type { Int8Options };
export const precisions = ["float32", "int8", "auto"] as const;
export type Precision = (typeof precisions)[number];

/** `auto` takes 8 bits where its products take at most this share of float32's time, with all that is around them. */
const worthIt = 0.85;
/** And where the teacher's features move by at most this share of their mean absolute size. */
const nearEnough = 0.1;
/** And where an image takes this many products: with fewer there is nothing to gain, nor a time that could be told apart. */
const worthMeasuring = 1e8;
/** Rows and rounds of the products that are timed, and the rank of adapters'. */
const [timedRows, timedRounds, timedRank] = [2048, 5, 64];

export interface PrecisionChoice {
  /** Undefined for float32. */
  readonly int8?: Int8Options;
  /** What was found, in words. */
  readonly reason: string;
}

export interface PrecisionQuestion {
  readonly wanted: Precision;
  /** Where 8 bits are wanted; those of adapters are looked at only where they are named. */
  readonly parts?: readonly Int8Part[];
  /** Normalised images `[B, 3, H, W]` to compare features on; noise where left out. */
  readonly pixels?: FloatTensor;
}

/**
 * Processors before AVX-512 VNNI add pairs of 8-bit products in 16 bits, which saturate. Says the largest weight with which
 * products are right here.
 */
export async function largestOn(device: Device): Promise<Int8Options["largest"]> {
  const inputs = 64;
  const a = input("a", "uint8", [1, inputs]);
  const weight = new Int8Array(inputs).fill(largestWeight);
  const zero = constant({ type: "uint8", dims: [], data: Uint8Array.of(0) });
  const y = matmulInteger(a, constant({ type: "int8", dims: [inputs, 1], data: weight }), zero);
  const session = await compile(graph([a], { y }), device);
  try {
    const largest = new Uint8Array(inputs).fill(255);
    const { tensors } = await session.run({
      feeds: { a: { type: "uint8", dims: a.shape as number[], data: largest } },
      fetch: ["y"],
    });
    return Number(tensors.y.data[0]) === inputs * 255 * largestWeight ? largestWeight : safeWeight;
  } finally {
    await session.dispose();
  }
}

function noise(dims: readonly number[]): FloatTensor {
  const random = drawStream(0, "noise");
  return { type: "float32", dims, data: Float32Array.from({ length: elementCount(dims) }, () => random.normal()) };
}

/** The MLP's first map of a model of these widths, with random weights. */
function mapGraph({ width, mlpWidth }: VitConfig): Graph {
  const x = input("x", "float32", [timedRows, width]);
  return graph([x], { y: matmul(x, transposeLast(constant(noise([mlpWidth, width])))) });
}

/** The same with an adapter beside it, and gradients. */
function adaptedGraph({ width, mlpWidth }: VitConfig): Graph {
  const [x, dy] = [input("x", "float32", [timedRows, width]), input("dy", "float32", [timedRows, mlpWidth])];
  const [A, B] = [input("A", "float32", [timedRank, width]), input("B", "float32", [mlpWidth, timedRank])];
  const frozen = matmul(x, transposeLast(constant(noise([mlpWidth, width]))));
  const y = add(frozen, lowRank(x, { A, B }));
  const [dA, dB, dx] = gradients(reduceSum(mul(y, dy)), [A, B, x]);
  return graph([x, dy, A, B], { y, dA, dB, dx });
}

/** The time that a graph takes with the second options as a share of that with the first. */
async function timeShare(
  device: Device,
  built: Graph,
  ways: readonly [CompileOptions["int8"], CompileOptions["int8"]],
): Promise<number> {
  const feeds: Record<string, DeviceTensor> = {};
  for (const fed of built.inputs) feeds[inputName(fed)] = await device.upload(noise(fed.shape as number[]));
  const sessions = [await compile(built, device, { int8: ways[0] }), await compile(built, device, { int8: ways[1] })];
  const least = [Infinity, Infinity];
  const timed = async (session: Session) => {
    const begin = performance.now();
    const { kept } = await session.run({ feeds, keep: session.outputNames });
    const took = performance.now() - begin;
    await device.release(Object.values(kept));
    return took;
  };
  try {
    for (let round = 0; round < timedRounds; round++)
      for (const [i, session] of sessions.entries()) least[i] = Math.min(least[i], await timed(session));
    return least[1] / least[0];
  } finally {
    for (const session of sessions) await session.dispose();
    await device.release(Object.values(feeds));
  }
}

export const withoutAdapters = (parts: readonly Int8Part[]): Int8Part[] => parts.filter((part) => part !== "adapters");

/** Adapters stay float32 where a map with one beside it is no faster with both in 8 bits; and what is to be said of it. */
async function worthwhile({ config, device }: Model, int8: Int8Options): Promise<{ int8: Int8Options; note: string }> {
  const names = ["A", "B"];
  const withAdapters = { ...int8, inputs: { trained: names, lowRank: names } };
  const frozen: Int8Options = { ...int8, parts: withoutAdapters(int8.parts) };
  const share = await timeShare(device, adaptedGraph(config), [{ ...withAdapters, ...frozen }, withAdapters]);
  if (share < 1) return { int8, note: "" };
  return { int8: frozen, note: `; adapters stay float32, since with them maps take ${percent(share)} of the time` };
}

/** What a model's last block gives. By a session of its own, since who chooses a precision may never run the whole model. */
async function lastFeatures(model: Model, int8: Int8Options | undefined, pixels: FloatTensor): Promise<FloatTensor> {
  const int8Model = new Model(model, model.device, { int8 });
  try {
    return (await int8Model.outputs(pixels, ["blockOutput"])).blockOutput;
  } finally {
    await int8Model.dispose();
  }
}

/** How far a model's last block moves in 8 bits: the mean absolute difference over the mean absolute feature. */
async function featureShift(model: Model, int8: Int8Options, pixels: FloatTensor): Promise<number> {
  const exact = await lastFeatures(model, undefined, pixels);
  const near = await lastFeatures(model, { ...int8, parts: int8Parts }, pixels);
  let [moved, size] = [0, 0];
  exact.data.forEach((value, i) => {
    moved += Math.abs(value - near.data[i]);
    size += Math.abs(value);
  });
  return moved / size;
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** Products that an image takes, all but those of attention. */
export const productCount = (model: Model): number => model.parameters * tokenCount(model.config);

/** Decides for a teacher on its device. `int8` is taken as asked for, with weights that this machine multiplies rightly. */
export async function choosePrecision(teacher: Model, question: PrecisionQuestion): Promise<PrecisionChoice> {
  const { wanted, parts = int8Parts } = question;
  const { channels, imageSize } = teacher.config;
  if (wanted === "float32") return { reason: "float32" };
  if (wanted === "auto" && productCount(teacher) < worthMeasuring)
    return { reason: "float32, since the model is small" };
  const largest = await largestOn(teacher.device);
  const int8 = { largest, parts };
  const bits =
    largest === largestWeight ? "8-bit weights" : "7-bit weights, as this processor's 8-bit products overflow";
  if (wanted === "int8") return { int8, reason: `int8: ${bits}` };
  const { device, config } = teacher;
  const share = await timeShare(device, mapGraph(config), [undefined, int8]);
  const speed = `products take ${percent(share)} of float32's time`;
  if (share > worthIt) return { reason: `float32, since 8-bit ${speed}` };
  const shift = await featureShift(teacher, int8, question.pixels ?? noise([2, channels, imageSize, imageSize]));
  const nearness = `move the teacher's features by ${percent(shift)}`;
  if (!(shift <= nearEnough)) return { reason: `float32, since 8-bit products ${nearness}` };
  const reason = `int8: ${speed} and ${nearness} (${bits})`;
  if (!question.parts?.includes("adapters")) return { int8, reason };
  const { int8: faster, note } = await worthwhile(teacher, int8);
  return { int8: faster, reason: reason + note };
}
