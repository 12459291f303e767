// A start in closed form: block by block, the student's maps are refitted so that each block gives what the last of the
// teacher's blocks that it stands for gives, for the tokens that really enter it (errors made so far included). Related:
// ReplaceMe (arXiv 2505.02819), which fits one map for a run of dropped blocks, and PRACTISE.
import { compile } from "../compile.ts";
import {
  abs,
  concat,
  constant,
  graph,
  input,
  matmul,
  mul,
  reduceSum,
  reshape,
  sub,
  transpose,
} from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import type { Model } from "../model.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { LinearMap, WeightLookup } from "../models/vit.ts";
import { embed, frozenWeights, vitBlock } from "../models/vit.ts";
import { linear } from "../nn/layers.ts";
import type { Session } from "../runtime/types.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";
import { addSums, emptySums, meanDiagonal, RidgeSolver } from "./ridge.ts";
import { copyBlocks, stoodFor } from "./weight-copy.ts";

export interface AnalyticOptions {
  /** Refit the attention's output map too, before the MLP's. */
  readonly attention: boolean;
  /** Ridges to choose from, in units of the mean of the normal equations' diagonal. */
  readonly ridges: readonly number[];
  /** The share of its solution that the attention's map moves by. */
  readonly attentionStep: number;
}

export const analyticDefaults: AnalyticOptions = {
  attention: true,
  ridges: [0.01, 0.03, 0.1, 0.3, 1, 3],
  attentionStep: 0.5,
};

/** What was found for one map. */
export interface Refit {
  readonly block: number;
  readonly map: "proj" | "fc2";
  /** The ridge that did best on pictures that it was not fitted on; undefined where no change did better. */
  readonly ridge?: number;
  /** What is left of the block's mean absolute difference to its target, on these pictures. */
  readonly share: number;
}

export interface AnalyticStart {
  readonly student: ModelDefinition;
  readonly refits: readonly Refit[];
}

/** Tokens `[B, N, D]` of one batch: those that enter the student's block, and the teacher's that it should give. */
interface Stream {
  student: FloatTensor;
  teacher: FloatTensor;
}

type RefitMap = "proj" | "fc2";
const scaleOf = { proj: "ls1", fc2: "ls2" } as const;
const weightOf = { proj: "attn.proj", fc2: "mlp.fc2" } as const;

/** A LayerScale this small says nothing about what should come through it. */
const smallestScale = 1e-4;
/** Every so many batches, one is for choosing the ridge. */
const validationEvery = 5;

/**
 * The sums of one batch for refitting a map of block `index`: G are the tokens that enter the map, and a column of ones
 * for the bias; R is what the map should give less what it gives now.
 */
function sumsGraph(
  student: ModelDefinition,
  weight: WeightLookup,
  index: number,
  map: RefitMap,
  dims: readonly number[],
): Graph {
  const { config } = student;
  const x = input("x", "float32", dims);
  const target = input("target", "float32", dims);
  let entered: Value | undefined;
  const watch: LinearMap = (value, weights, _, module) => {
    if (module === map) entered = value;
    return linear(value, weights);
  };
  const y = vitBlock(config, weight, index, x, watch);
  if (!entered) throw new Error(`block ${index} has no map ${map}`);
  const width = entered.shape[2] as number;
  const rows = (dims[0] as number) * (dims[1] as number);
  const missing = reshape(sub(target, y), [rows, config.width]);
  // LayerScale divides what is missing; a channel that it all but closes is asked for nothing.
  const gamma = config.layerScale ? student.weights.get(`blocks.${index}.${scaleOf[map]}.gamma`) : undefined;
  const inverse = gamma && { ...gamma, data: gamma.data.map((v) => (Math.abs(v) < smallestScale ? 0 : 1 / v)) };
  const scale = inverse ? mul(missing, constant(inverse)) : missing;
  const ones = zeros([rows, 1]);
  ones.data.fill(1);
  const g = concat([reshape(entered, [rows, width]), constant(ones)], 1);
  const gt = transpose(g, [1, 0]);
  return graph([x, target], { gram: matmul(gt, g), cross: matmul(gt, scale) });
}

/** The absolute difference of block `index` to its target, summed, with another weight and bias in one of its maps. */
function trialGraph(
  { config }: ModelDefinition,
  weight: WeightLookup,
  index: number,
  name: string,
  dims: readonly number[],
): Graph {
  const [x, target] = [input("x", "float32", dims), input("target", "float32", dims)];
  const stands = new Map(
    ["weight", "bias"].map((part) => [`${name}.${part}`, input(part, "float32", weight(`${name}.${part}`).shape)]),
  );
  const y = vitBlock(config, (wanted) => stands.get(wanted) ?? weight(wanted), index, x);
  return graph([x, target, ...stands.values()], { difference: reduceSum(abs(sub(y, target))) });
}

/** Blocks `from` to `to` (included) of a model: `[B, N, D] -> [B, N, D]`. */
function blocksGraph(
  { config }: ModelDefinition,
  weight: WeightLookup,
  from: number,
  to: number,
  dims: readonly number[],
): Graph {
  const x = input("x", "float32", dims);
  let y: Value = x;
  for (let i = from; i <= to; i++) y = vitBlock(config, weight, i, y);
  return graph([x], { y });
}

/** Runs graphs that take tokens of some batch sizes, one session a size. */
class Stage {
  private readonly model: Model;
  private readonly build: (dims: readonly number[]) => Graph;
  private readonly sessions = new Map<string, Session>();

  constructor(model: Model, build: (dims: readonly number[]) => Graph) {
    this.model = model;
    this.build = build;
  }

  async run(feeds: Record<string, FloatTensor>, fetch: readonly string[]): Promise<Record<string, Tensor>> {
    const { dims } = Object.values(feeds)[0];
    const key = dims.join();
    const session = this.sessions.get(key) ?? (await compile(this.build(dims), this.model.device));
    this.sessions.set(key, session);
    return (await session.run({ feeds, fetch })).tensors;
  }

  async dispose(): Promise<void> {
    for (const session of this.sessions.values()) await session.dispose();
    this.sessions.clear();
  }
}

/**
 * Refits a student of the teacher's `kept` blocks on normalised pictures, batch by batch `[B, 3, H, W]`. Memory holds the
 * tokens of all pictures twice, and one block's normal equations. Throws a RunError where sums are not finite.
 */
export async function analyticStart(
  teacher: Model,
  kept: readonly number[],
  batches: AsyncIterable<FloatTensor>,
  options: AnalyticOptions = analyticDefaults,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<AnalyticStart> {
  let student = copyBlocks(teacher, kept);
  const streams = await embedAll(teacher, batches);
  const solver = new RidgeSolver(teacher.device);
  const refits: Refit[] = [];
  const ends = stoodFor(kept, teacher.config.depth);
  const frozen = frozenWeights(teacher.weights);
  try {
    let from = 0;
    for (const [block, end] of ends.entries()) {
      await advance(teacher, streams, "teacher", (dims) => blocksGraph(teacher, frozen, from, end, dims));
      for (const map of options.attention ? (["proj", "fc2"] as const) : (["fc2"] as const)) {
        const step = map === "proj" ? options.attentionStep : 1;
        const found = await refitMap(teacher, student, streams, block, map, step, options, solver);
        student = found.student;
        refits.push(found.refit);
      }
      const weight = frozenWeights(student.weights);
      const current = student;
      await advance(teacher, streams, "student", (dims) => blocksGraph(current, weight, block, block, dims));
      from = end + 1;
      progress(block + 1, kept.length);
    }
  } finally {
    await solver.dispose();
  }
  return { student, refits };
}

/** The tokens that enter block 0, the same for teacher and student. */
async function embedAll(teacher: Model, batches: AsyncIterable<FloatTensor>): Promise<Stream[]> {
  const { config, weights, device } = teacher;
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const session = await compile(graph([pixels], { tokens: embed(config, frozenWeights(weights), pixels) }), device);
  const streams: Stream[] = [];
  try {
    for await (const batch of batches) {
      const { tensors } = await session.run({ feeds: { pixels: batch }, fetch: ["tokens"] });
      const tokens = tensors.tokens as FloatTensor;
      streams.push({ student: tokens, teacher: tokens });
    }
  } finally {
    await session.dispose();
  }
  return streams;
}

async function advance(
  model: Model,
  streams: Stream[],
  side: keyof Stream,
  build: (dims: readonly number[]) => Graph,
): Promise<void> {
  const stage = new Stage(model, build);
  for (const stream of streams) stream[side] = (await stage.run({ x: stream[side] }, ["y"])).y as FloatTensor;
  await stage.dispose();
}

async function refitMap(
  teacher: Model,
  student: ModelDefinition,
  streams: readonly Stream[],
  block: number,
  map: RefitMap,
  step: number,
  options: AnalyticOptions,
  solver: RidgeSolver,
): Promise<{ student: ModelDefinition; refit: Refit }> {
  const { config } = student;
  const name = `blocks.${block}.${weightOf[map]}`;
  const inputs = (map === "fc2" ? config.mlpWidth : config.width) + 1;
  const weight = frozenWeights(student.weights);
  const stage = new Stage(teacher, (dims) => sumsGraph(student, weight, block, map, dims));
  const trials = new Stage(teacher, (dims) => trialGraph(student, weight, block, name, dims));
  const [fitting, all] = [emptySums(inputs, config.width), emptySums(inputs, config.width)];
  const aside = (i: number) => streams.length >= validationEvery && i % validationEvery === validationEvery - 1;
  try {
    for (const [i, { student: x, teacher: target }] of streams.entries()) {
      const { gram, cross } = await stage.run({ x, target }, ["gram", "cross"]);
      const sums = { gram: gram.data as Float32Array, cross: cross.data as Float32Array };
      addSums(all, sums);
      if (!aside(i)) addSums(fitting, sums);
    }
    const judged = streams.some((_, i) => aside(i)) ? streams.filter((_, i) => aside(i)) : streams;
    // Too few pictures to set some aside: only a firm ridge is to be trusted.
    const ridges = judged.length < streams.length ? options.ridges : options.ridges.filter((ridge) => ridge >= 1);
    const differenceOf = async (candidate: ModelDefinition): Promise<number> => {
      const [w, b] = ["weight", "bias"].map((part) => candidate.weights.get(`${name}.${part}`) as FloatTensor);
      let sum = 0;
      for (const { student: x, teacher: target } of judged) {
        sum += Number((await trials.run({ x, target, weight: w, bias: b }, ["difference"])).difference.data[0]);
      }
      return sum;
    };
    const before = await differenceOf(student);
    const scale = meanDiagonal(fitting);
    if (!(scale > 0) || !Number.isFinite(scale) || !Number.isFinite(before))
      return { student, refit: { block, map, share: 1 } };
    const { ridge, difference } = await chooseRidge(ridges, async (candidate) =>
      differenceOf(moved(student, name, await solver.solve(fitting, candidate * scale), step)),
    );
    if (!(difference < before)) return { student, refit: { block, map, share: 1 } };
    const solution = await solver.solve(all, ridge * meanDiagonal(all));
    return {
      student: moved(student, name, solution, step),
      refit: { block, map, ridge, share: difference / before },
    };
  } finally {
    await stage.dispose();
    await trials.dispose();
  }
}

/** The ridge that leaves least: down from the middle as long as it gets less, since there is one valley. */
async function chooseRidge(
  ridges: readonly number[],
  measure: (ridge: number) => Promise<number>,
): Promise<{ ridge: number; difference: number }> {
  const left = new Map<number, Promise<number>>();
  const at = (i: number): Promise<number> => {
    const known = left.get(i) ?? measure(ridges[i]);
    left.set(i, known);
    return known;
  };
  let best = Math.floor((ridges.length - 1) / 2);
  await at(best);
  for (const direction of [-1, 1]) {
    while (ridges[best + direction] !== undefined && (await at(best + direction)) < (await at(best))) best += direction;
  }
  return { ridge: ridges[best], difference: await at(best) };
}

/** The student with `solution` `[in + 1, out]` added to a map: its last row to the bias. */
function moved(student: ModelDefinition, name: string, solution: Float64Array, step: number): ModelDefinition {
  const weights = new Map(student.weights);
  const old = weights.get(`${name}.weight`) as FloatTensor;
  const [outputs, width] = old.dims;
  const weight = { ...old, data: old.data.slice() };
  const oldBias = weights.get(`${name}.bias`) as FloatTensor;
  const bias = { ...oldBias, data: oldBias.data.slice() };
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < width; i++) weight.data[o * width + i] += step * solution[i * outputs + o];
    bias.data[o] += step * solution[width * outputs + o];
  }
  weights.set(`${name}.weight`, weight);
  weights.set(`${name}.bias`, bias);
  return { ...student, weights };
}
