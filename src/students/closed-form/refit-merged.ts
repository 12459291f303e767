// Maps refitted for merged tokens. A merging model (`VitConfig.merging`) gives other tokens than the one that it comes from:
// each is a mean of several, and attention sees the mean. Block by block, the attention's output map and fc2 are re-fitted by
// ridge regression so that the tokens come near those of the teacher, merged by the same assignment: the mean of the teacher's
// tokens that a merged token stands for. Both go through all images side by side, the student with the maps refitted so far, so
// that its errors are made good as well. A map's change stays only where it brings its tokens nearer on images set aside.
import { compile } from "../../engine/compile.ts";
import {
  abs,
  div,
  graph,
  input,
  matmul,
  mul,
  reduceSum,
  reshape,
  sub,
  transposeLast,
} from "../../engine/graph/build.ts";
import type { Graph, Value } from "../../engine/graph/graph.ts";
import { addSums, emptySums, RidgeSolver, ridgeOf } from "../../engine/linalg/ridge.ts";
import type { Sums } from "../../engine/linalg/ridge.ts";
import type { Rotation } from "../../engine/nn/layers.ts";
import { linear } from "../../engine/nn/layers.ts";
import type { Model } from "../../models/model.ts";
import type { BlockShape } from "../../models/config.ts";
import { blockShape, rotaryOf } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { checkMerging } from "../../models/token-merging.ts";
import type { MergedTokens, Tokens } from "../../models/token-merging.ts";
import type { LinearMap, TargetModule } from "../../models/vit.ts";
import { attentionHalf, embed, frozenWeights, mergingHalf, mlpHalf } from "../../models/vit.ts";
import type { Device } from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import { firstNotFinite } from "../../utils/finite.ts";
import { required } from "../../utils/required.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { moved } from "./refit-maps.ts";
import { sumParts, sumsFrom } from "./refit-sums.ts";

export interface MergedRefitOptions {
  /** The teacher's block that each of the student's ends at; block i ends at i where left out. */
  readonly ends?: readonly number[];
  /** Ridges to try, the one kept whose tokens are nearest on images set aside. */
  readonly ridges: readonly number[];
}

export const mergedRefitDefaults: MergedRefitOptions = { ridges: [0.2, 1] };

/** What became of one map; without a ridge it stayed as it was. */
export interface MergedRefit {
  readonly block: number;
  readonly map: "proj" | "fc2";
  readonly ridge?: number;
  /** Absolute difference to the teacher's merged tokens on images set aside, over that before. */
  readonly share: number;
}

/** One batch in so many is set aside, one at least. */
const asideEvery = 5;

/** A batch on its way through the blocks. */
interface Batch {
  readonly aside: boolean;
  /** `[B, N, D]` of the teacher: those that enter a block, and those between its attention and its MLP. */
  teacher: FloatTensor;
  middle?: FloatTensor;
  /** The student's tokens `x`, and what they are merged of: `size`, `members`, `cos` and `sin` as in `MergedTokens`. */
  state: Readonly<Record<string, FloatTensor>>;
}

/** What a part of the state is fed as: outputs have its own name. */
const stateFeed = (name: string): string => `entering.${name}`;

const stateFeeds = ({ state }: Batch): Record<string, FloatTensor> =>
  Object.fromEntries(Object.entries(state).map(([name, tensor]) => [stateFeed(name), tensor]));

/** The student's tokens as a graph's inputs. `pairs` says which channels merged rotary tables turn together. */
function stateInputs(state: Batch["state"], pairs: Rotation["pairs"]): { inputs: Value[]; tokens: Tokens } {
  const inputs = new Map(
    Object.entries(state).map(([name, { dims }]) => [name, input(stateFeed(name), "float32", dims)]),
  );
  const [x, size, members, cos, sin] = ["x", "size", "members", "cos", "sin"].map((name) => inputs.get(name));
  if (!x) throw new Error("the state has no tokens");
  const rotation = cos && sin && { cos, sin, skip: 0, pairs };
  return { inputs: [...inputs.values()], tokens: { x, merged: size && members && { size, members, rotation } } };
}

/** The other way around. */
function stateOutputs({ x, merged }: Tokens): Record<string, Value> {
  const { rotation } = merged ?? {};
  return {
    x,
    ...(merged ? { size: merged.size, members: merged.members } : {}),
    ...(rotation ? { cos: rotation.cos, sin: rotation.sin } : {}),
  };
}

/** The mean of the teacher's tokens `[B, N, D]` that each merged token stands for: `[B, M, D]`. */
function mergedTarget(tokens: Value, merged: MergedTokens | undefined): Value {
  if (!merged) return tokens;
  const [b, , count] = merged.size.shape;
  return div(matmul(transposeLast(merged.members), tokens), reshape(merged.size, [b, count, 1]));
}

function asRows(tokens: Value): Value {
  const [batch, count, width] = tokens.shape as readonly number[];
  return reshape(tokens, [batch * count, width]);
}

/** LayerScale's channels must let something through to be divided by. */
const smallestScale = 1e-4;

/** What is missing behind a map, through its LayerScale. */
function throughScale({ config, weights }: ModelDefinition, block: number, name: "ls1" | "ls2", missing: Value): Value {
  if (!config.layerScale) return missing;
  const gamma = required(weights, `blocks.${block}.${name}.gamma`);
  const data = gamma.data.map((v) => (Math.abs(v) < smallestScale ? 0 : 1 / v));
  const inverse = new Map([["inverse", { ...gamma, data }]]);
  return mul(missing, frozenWeights(inverse)("inverse"));
}

/** The graphs of one block of the student, for batches of one shape. */
class StudentBlock {
  private readonly student: ModelDefinition;
  private readonly block: number;

  constructor(student: ModelDefinition, block: number) {
    this.student = student;
    this.block = block;
  }

  /** The block's parts for a batch, with what enters one of its maps. */
  private parts(batch: Batch, module?: TargetModule) {
    const { config, weights } = this.student;
    const { inputs, tokens } = stateInputs(batch.state, rotaryOf(config)?.pairs ?? "halves");
    let entered: Value | undefined;
    const map: LinearMap = (x, mapWeight, _, name) => {
      if (name === module) entered = x;
      return linear(x, mapWeight);
    };
    const weight = frozenWeights(weights);
    const { attended, merged } = mergingHalf(config, weight, this.block, tokens, map);
    const y = mlpHalf(config, weight, this.block, merged.x, map);
    return { inputs, attended, merged, y, entered };
  }

  /** The parts of a map's sums, and the absolute difference of its tokens to the teacher's, `target` `[B, N, D]`. */
  sums(batch: Batch, map: "proj" | "fc2", target: FloatTensor): Graph {
    const { inputs, attended, merged, y, entered } = this.parts(batch, map);
    if (!entered) throw new Error(`a block has no map ${map}`);
    const whole = input("target", "float32", target.dims);
    const missing =
      map === "proj"
        ? sub(mergedTarget(whole, attended.merged), attended.x)
        : sub(mergedTarget(whole, merged.merged), y);
    const scaled = throughScale(this.student, this.block, map === "proj" ? "ls1" : "ls2", missing);
    const difference = { difference: reduceSum(abs(missing)) };
    const parts = batch.aside ? {} : sumParts(asRows(entered), asRows(scaled));
    return graph([...inputs, whole], { ...difference, ...parts });
  }

  /** The tokens that the block gives. */
  output(batch: Batch): Graph {
    const { inputs, merged, y } = this.parts(batch);
    const outputs = Object.entries(stateOutputs({ ...merged, x: y })).filter(([, value]) => !inputs.includes(value));
    return graph(inputs, Object.fromEntries(outputs));
  }
}

/** Runs a graph for each batch, in one session for all batches of a shape. */
async function forEach<B extends Batch>(
  device: Device,
  batches: readonly B[],
  build: (batch: B) => Graph,
  feeds: (batch: B) => Readonly<Record<string, Tensor>>,
  take: (batch: B, tensors: Readonly<Record<string, Tensor>>) => void,
): Promise<void> {
  const groups = new Map<string, B[]>();
  for (const batch of batches) {
    const key = `${String(batch.aside)} ${batch.teacher.dims.join()}`;
    groups.set(key, [...(groups.get(key) ?? []), batch]);
  }
  for (const group of groups.values()) {
    const session = await compile(build(group[0]), device);
    try {
      for (const batch of group)
        take(batch, (await session.run({ feeds: feeds(batch), fetch: session.outputNames })).tensors);
    } finally {
      await session.dispose();
    }
  }
}

/** Moves the teacher's tokens through its block `index`; keeps those between its halves. */
async function teachBlock(teacher: Model, batches: readonly Batch[], index: number): Promise<void> {
  const { config, weights, device } = teacher;
  const weight = frozenWeights(weights);
  const build = (batch: Batch) => {
    const x = input("x", "float32", batch.teacher.dims);
    const middle = attentionHalf(config, weight, index, x);
    return graph([x], { middle, y: mlpHalf(config, weight, index, middle) });
  };
  await forEach(
    device,
    batches,
    build,
    (batch) => ({ x: batch.teacher }),
    (batch, { middle, y }) => {
      batch.middle = middle as FloatTensor;
      batch.teacher = y as FloatTensor;
    },
  );
}

/** The teacher's tokens that a map's are compared with: those behind its attention, or behind its block. */
const targetOf = ({ config }: ModelDefinition, block: number) => {
  const isHalf = blockShape(config, block).mlpWidth > 0;
  return ({ middle, teacher }: Batch, map: "proj" | "fc2"): FloatTensor =>
    map === "proj" && middle && isHalf ? middle : teacher;
};

/** Sums of one map over all batches, and the absolute difference on those set aside. */
async function sumsOf(
  device: Device,
  student: ModelDefinition,
  batches: readonly Batch[],
  block: number,
  map: "proj" | "fc2",
) {
  const graphs = new StudentBlock(student, block);
  const target = targetOf(student, block);
  let sums: Sums | undefined;
  let difference = 0;
  await forEach(
    device,
    batches,
    (batch) => graphs.sums(batch, map, target(batch, map)),
    (batch) => ({ ...stateFeeds(batch), target: target(batch, map) }),
    (batch, { difference: batchDifference, ...parts }) => {
      if (batch.aside) {
        difference += Number(batchDifference.data[0]);
        return;
      }
      const [count, width] = [batch.state.x.dims[0] * batch.state.x.dims[1], student.config.width];
      const next = sumsFrom(parts, count, width);
      sums ??= emptySums(next.n, next.m);
      addSums(sums, next);
    },
  );
  if (!sums) throw new Error("no batches to sum up");
  if ([sums.gram, sums.cross, [difference]].some((values) => firstNotFinite(values) >= 0))
    throw new UserError(`Block ${block} gives NaN or infinity for these images, so it can't be refitted.`);
  return { sums, difference };
}

/** Refits one map, where that helps on images set aside. */
async function refitMap(
  { device, solver, ridges }: { device: Device; solver: RidgeSolver; ridges: readonly number[] },
  student: ModelDefinition,
  batches: readonly Batch[],
  block: number,
  map: "proj" | "fc2",
): Promise<{ student: ModelDefinition; refit: MergedRefit }> {
  const { sums, difference } = await sumsOf(device, student, batches, block, map);
  const aside = batches.filter((batch) => batch.aside);
  const name = map === "proj" ? `blocks.${block}.attn.proj` : `blocks.${block}.mlp.fc2`;
  let best: { student: ModelDefinition; refit: MergedRefit } = { student, refit: { block, map, share: 1 } };
  for (const ridge of ridges) {
    const next = moved(student, name, await solver.solve(sums, ridgeOf(sums, ridge)), 1);
    const share = (await differenceOf(device, next, aside, block, map)) / difference;
    if (share < best.refit.share) best = { student: next, refit: { block, map, ridge, share } };
  }
  return best;
}

/** The absolute difference of a map's tokens to the teacher's on batches set aside. */
async function differenceOf(
  device: Device,
  student: ModelDefinition,
  aside: readonly Batch[],
  block: number,
  map: "proj" | "fc2",
): Promise<number> {
  const graphs = new StudentBlock(student, block);
  const target = targetOf(student, block);
  let sum = 0;
  await forEach(
    device,
    aside,
    (batch) => graphs.sums(batch, map, target(batch, map)),
    (batch) => ({ ...stateFeeds(batch), target: target(batch, map) }),
    (_, { difference }) => (sum += Number(difference.data[0])),
  );
  return sum;
}

/**
 * The maps of a block that are refitted. Where it stands for several, or has no MLP, none of the teacher's halves is its attention's,
 * which is fitted to the teacher's block where nothing is behind it.
 */
function mapsOf({ heads, mlpWidth }: BlockShape, stands: number): ("proj" | "fc2")[] {
  if (mlpWidth === 0) return heads > 0 ? ["proj"] : [];
  return heads > 0 && stands === 1 ? ["proj", "fc2"] : ["fc2"];
}

/** The tokens that enter block 0, the same for both. */
async function embedAll(teacher: Model, images: readonly FloatTensor[]): Promise<Batch[]> {
  const { config, weights, device } = teacher;
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const session = await compile(graph([pixels], { tokens: embed(config, frozenWeights(weights), pixels) }), device);
  const batches: Batch[] = [];
  try {
    for (const [i, batch] of images.entries()) {
      const { tensors } = await session.run({ feeds: { pixels: batch }, fetch: ["tokens"] });
      const tokens = tensors.tokens as FloatTensor;
      batches.push({
        aside: i % asideEvery === asideEvery - 1 || (images.length < asideEvery && i === images.length - 1),
        teacher: tokens,
        state: { x: tokens },
      });
    }
  } finally {
    await session.dispose();
  }
  return batches;
}

/**
 * Refits the attention's output map and fc2 of each block of `student`, whose configuration merges tokens, on batches of
 * normalised images `[B, 3, H, W]`, two at least: one in five is set aside. The teacher merges none. Memory holds the tokens of
 * all images three times.
 *
 * @throws UserError where the batches are too few, or the student can't merge as its configuration says.
 */
export async function refitMerged(
  teacher: Model,
  given: ModelDefinition,
  images: readonly FloatTensor[],
  options: MergedRefitOptions = mergedRefitDefaults,
): Promise<{ student: ModelDefinition; refits: readonly MergedRefit[] }> {
  const { config } = given;
  checkMerging(config);
  if (images.length < 2) throw new UserError("Refitting for merged tokens needs two batches of images at least.");
  const ends = options.ends ?? Array.from({ length: config.depth }, (_, i) => i);
  const { device } = teacher;
  const solver = new RidgeSolver(device);
  const tools = { device, solver, ridges: options.ridges };
  const refits: MergedRefit[] = [];
  let student = given;
  try {
    const batches = await embedAll(teacher, images);
    for (let block = 0, next = 0; block < config.depth; block++) {
      const stands = ends[block] + 1 - next;
      for (; next <= ends[block]; next++) await teachBlock(teacher, batches, next);
      for (const map of mapsOf(blockShape(config, block), stands)) {
        const refit = await refitMap(tools, student, batches, block, map);
        student = refit.student;
        refits.push(refit.refit);
      }
      const graphs = new StudentBlock(student, block);
      await forEach(
        device,
        batches,
        (batch) => graphs.output(batch),
        stateFeeds,
        // What merging left as it was is no output.
        (batch, tensors) => (batch.state = { ...batch.state, ...(tensors as Batch["state"]) }),
      );
    }
  } finally {
    await solver.dispose();
  }
  return { student, refits };
}
