// The graphs of a start in closed form. A block's weights are inputs, so that one session serves all blocks.
import {
  abs,
  add,
  at,
  concat,
  constant,
  graph,
  input,
  matmul,
  mul,
  reduceSum,
  reshape,
  slice,
  sub,
} from "../../engine/graph/build.ts";
import type { Graph, Value } from "../../engine/graph/graph.ts";
import type { VitConfig } from "../../models/config.ts";
import { attentionWidth, blockConfig, blockShape } from "../../models/config.ts";
import { blockWeight, splitBlockName, weightTable } from "../../models/weight-table.ts";
import type { LinearMap, TargetModule, WeightLookup } from "../../models/vit.ts";
import { attentionHalf, blockNorm, frozenWeights, mlpHalf, moduleWeights, vitBlock } from "../../models/vit.ts";
import { layerNorm, linear } from "../../engine/nn/layers.ts";
import type { DataType, FloatTensor } from "../../utils/tensor.ts";
import { zeros } from "../../utils/tensor.ts";
import { addedUp, sumParts } from "./refit-sums.ts";

/** Names of a block's weights within the block, with their shapes. Block 0's stand for those of whichever block is fed. */
function blockWeights(config: VitConfig): [string, readonly number[]][] {
  return weightTable({ ...config, depth: 1 }).flatMap(({ inBlock, shape }) =>
    inBlock === undefined ? [] : [[inBlock, shape]],
  );
}

/** The name within its block. */
const ownName = (name: string) => splitBlockName(name)?.inBlock ?? name;

const scaleNames = ["ls1", "ls2"] as const;
/** LayerScales of the parts that a block has. */
function scalesOf(config: VitConfig): (typeof scaleNames)[number][] {
  const { heads, mlpWidth } = blockShape(config, 0);
  return scaleNames.filter((name) => (name === "ls1" ? heads : mlpWidth) > 0);
}
/** A LayerScale this small says nothing about what should come through it. */
const smallestScale = 1e-4;

/** What the graphs are fed of block `index`: its weights, and one over its LayerScale (0 where that all but closes). */
export function blockFeeds(
  config: VitConfig,
  weights: ReadonlyMap<string, FloatTensor>,
  index: number,
): Record<string, FloatTensor> {
  const get = (name: string) => {
    const weight = weights.get(`blocks.${index}.${name}`);
    if (!weight) throw new Error(`block ${index} has no weight ${name}`);
    return weight;
  };
  const oneBlock = blockConfig(config, index);
  const feeds = Object.fromEntries(blockWeights(oneBlock).map(([name]) => [name, get(name)]));
  if (config.layerScale) {
    for (const name of scalesOf(oneBlock)) {
      const gamma = get(`${name}.gamma`);
      feeds[`inverse.${name}`] = { ...gamma, data: gamma.data.map((v) => (Math.abs(v) < smallestScale ? 0 : 1 / v)) };
    }
  }
  return feeds;
}

/** A block's weights in a graph: what it is fed, or constants, of which there is nothing to feed. */
export interface BlockValues {
  readonly inputs: readonly Value[];
  readonly weight: WeightLookup;
}

/** Block `index`'s weights as constants, for products that want to know them. */
export function blockConstants(weights: ReadonlyMap<string, FloatTensor>, index: number): BlockValues {
  const frozen = frozenWeights(weights);
  return { inputs: [], weight: (name) => frozen(blockWeight(index, ownName(name))) };
}

interface BlockInputs extends BlockValues {
  /** What is missing behind a map, through its LayerScale: `[..., D]`. */
  throughScale(missing: Value, name: (typeof scaleNames)[number]): Value;
}

function blockInputs(config: VitConfig): BlockInputs {
  const inputs = new Map(blockWeights(config).map(([name, dims]) => [name, input(name, "float32", dims)]));
  if (config.layerScale)
    for (const name of scalesOf(config))
      inputs.set(`inverse.${name}`, input(`inverse.${name}`, "float32", [config.width]));
  const get = (name: string) => {
    const value = inputs.get(name);
    if (!value) throw new Error(`a block has no weight ${name}`);
    return value;
  };
  return {
    inputs: [...inputs.values()],
    weight: (name) => get(ownName(name)),
    throughScale: (missing, name) => (config.layerScale ? mul(missing, get(`inverse.${name}`)) : missing),
  };
}

type BlockGraph = (config: VitConfig, dims: readonly number[], block?: BlockValues) => Graph;

/** Some of a block, from the tokens that enter it to those that it gives: `x -> y`. */
const blockLike =
  (apply: typeof vitBlock | typeof mlpHalf): BlockGraph =>
  (config, dims, { inputs, weight } = blockInputs(config)) => {
    const x = input("x", "float32", dims);
    return graph([x, ...inputs], { y: apply(config, weight, 0, x) });
  };

/** One whole block. */
export const blockGraph = blockLike(vitBlock);
/** Its attention, and what that is added to. */
export const attentionHalfGraph = blockLike(attentionHalf);
/** Its MLP, and what that is added to. */
export const mlpHalfGraph = blockLike(mlpHalf);

/** Tokens as rows: `[B, N, D] -> [B * N, D]`; rows stay as they are. */
function asRows(tokens: Value): Value {
  if (tokens.shape.length === 2) return tokens;
  const [batch, count, width] = tokens.shape as readonly number[];
  return reshape(tokens, [batch * count, width]);
}

/** Every so many of the tokens `[B, N, D]`, from the first of the batch on, as rows. */
function sampled(tokens: Value, stride: number): Value {
  const rows = asRows(tokens);
  if (stride === 1) return rows;
  const [count, width] = rows.shape as readonly number[];
  const whole = Math.floor(count / stride);
  if (whole === 0) return slice(rows, 0, 0, 1);
  return at(reshape(slice(rows, 0, 0, whole * stride), [whole, stride, width]), 1, 0);
}

/** Every so many of a batch's `tokens` `[B, N, D]`, as `rows` `[R, D]`. */
export function sampleGraph(dims: readonly number[], stride: number, type: DataType = "float32"): Graph {
  const tokens = input("tokens", type, dims);
  return graph([tokens], { rows: sampled(tokens, stride) });
}

/** Rows `rows.i` `[R, D]` of several batches, one behind the other, as `rows`. */
export function joinGraph(parts: readonly (readonly number[])[], type: DataType = "float32"): Graph {
  const rows = parts.map((dims, i) => input(`rows.${i}`, type, dims));
  return graph(rows, { rows: concat(rows, 0) });
}

/** Rows with a column of ones for the bias: `[R, K] -> [R, K + 1]`. */
function withOnes(rows: Value): Value {
  const ones = zeros([rows.shape[0] as number, 1]);
  ones.data.fill(1);
  return concat([rows, constant(ones)], 1);
}

/** Maps as they are, and what enters one of them. */
function watching(module: TargetModule): { map: LinearMap; entered(): Value } {
  let watched: Value | undefined;
  return {
    map(value, weights, _, at) {
      if (at === module) watched = value;
      return linear(value, weights);
    },
    entered() {
      if (!watched) throw new Error(`a block has no map ${module}`);
      return watched;
    },
  };
}

/** Tokens behind a block's attention, from those that enter the block and what enters the attention's output map. */
function attendedOf(config: VitConfig, weight: WeightLookup, x: Value, mixed?: Value): Value {
  if (!mixed) return x;
  const product = linear(mixed, moduleWeights(config, weight, 0, "proj"));
  return add(x, config.layerScale ? mul(product, weight(blockWeight(0, "ls1.gamma"))) : product);
}

/** A block from its attention's output map on: what it gives for tokens `x` and what enters that map, `mixed`. */
function fromMixed(config: VitConfig, weight: WeightLookup, x: Value, mixed?: Value): Value {
  return mlpHalf(config, weight, 0, attendedOf(config, weight, x, mixed));
}

/** What enters fc2, from tokens between attention and MLP. */
function hiddenOf(config: VitConfig, weight: WeightLookup, x: Value): Value {
  const { map, entered } = watching("fc2");
  mlpHalf(config, weight, 0, x, map);
  return entered();
}

/** A block from fc2 on: what it gives for tokens between attention and MLP and what enters fc2. */
function fromHidden(config: VitConfig, weight: WeightLookup, x: Value, hidden: Value): Value {
  const product = linear(hidden, moduleWeights(config, weight, 0, "fc2"));
  return add(x, config.layerScale ? mul(product, weight(blockWeight(0, "ls2.gamma"))) : product);
}

/**
 * Tokens that enter a block and that it should give (`[B, N, D]` or rows), and what enters its attention's output map, where it
 * has one.
 */
function tokenInputs(config: VitConfig, dims: readonly number[]) {
  const x = input("x", "float32", dims);
  const target = input("target", "float32", dims);
  const mixed = mixedInput(config, dims);
  return { x, target, mixed, inputs: mixed ? [x, mixed, target] : [x, target] };
}

/** What enters the attention's output map, of a block that has one. */
function mixedInput(config: VitConfig, dims: readonly number[]): Value | undefined {
  const wide = attentionWidth(config, 0);
  return wide > 0 ? input("mixed", "float32", [...dims.slice(0, -1), wide]) : undefined;
}

/** What enters fc2. */
const hiddenInput = (config: VitConfig, dims: readonly number[]): Value =>
  input("hidden", "float32", [...dims.slice(0, -1), blockShape(config, 0).mlpWidth]);

function present(mixed: Value | undefined): Value {
  if (!mixed) throw new Error("the block has no attention");
  return mixed;
}

/** A block's first pass, over all tokens `x` `[B, N, D]`: `mixed`, what enters the attention's output map. */
export function attentionPass(
  config: VitConfig,
  dims: readonly number[],
  block: BlockValues = blockInputs(config),
): Graph {
  const { inputs, weight } = block;
  const x = input("x", "float32", dims);
  const { map, entered } = watching("proj");
  attentionHalf(config, weight, 0, x, map);
  return graph([x, ...inputs], { mixed: entered() });
}

/**
 * A pass that sums up over tokens `[B, N, D]` or rows; it adds to the sums that come in, but for the first batch's, which
 * begins them.
 */
type SumGraph = (config: VitConfig, dims: readonly number[], begins: boolean) => Graph;

/** What enters the attention's output map, summed up alone: what its heads can make up for among themselves. */
export const mixedPass: SumGraph = (config, dims, begins) => {
  const mixed = present(tokenInputs(config, dims).mixed);
  const added = addedUp(sumParts(asRows(mixed)), begins);
  return graph([mixed, ...added.inputs], added.outputs);
};

/** The sums of the attention's output map, toward what the whole block should give. */
export const projPass: SumGraph = (config, dims, begins) => {
  const { inputs, weight, throughScale } = blockInputs(config);
  const { x, mixed, target, inputs: tokens } = tokenInputs(config, dims);
  const missing = sub(target, fromMixed(config, weight, x, mixed));
  return sumsOf([...tokens, ...inputs], present(mixed), throughScale(missing, "ls1"), missing, begins);
};

/** The sums of the attention's output map toward tokens between attention and MLP, `target`. */
export const attendedPass: SumGraph = (config, dims, begins) => {
  const { inputs, weight, throughScale } = blockInputs(config);
  const { x, mixed, target, inputs: tokens } = tokenInputs(config, dims);
  const missing = sub(target, attendedOf(config, weight, x, mixed));
  return sumsOf([...tokens, ...inputs], present(mixed), throughScale(missing, "ls1"), missing, begins);
};

/** What enters fc2, summed up alone, from tokens `x` between attention and MLP: what its channels say of each other. */
export const channelsPass: SumGraph = (config, dims, begins) => {
  const { inputs, weight } = blockInputs(config);
  const x = input("x", "float32", dims);
  const added = addedUp(sumParts(asRows(hiddenOf(config, weight, x))), begins);
  return graph([x, ...added.inputs, ...inputs], added.outputs);
};

/** The sums of fc2, from tokens between attention and MLP and what enters it. */
export const fc2Pass: SumGraph = (config, dims, begins) => {
  const { inputs, weight, throughScale } = blockInputs(config);
  const [x, target, hidden] = [
    input("x", "float32", dims),
    input("target", "float32", dims),
    hiddenInput(config, dims),
  ];
  const missing = sub(target, fromHidden(config, weight, x, hidden));
  return sumsOf([x, hidden, target, ...inputs], hidden, throughScale(missing, "ls2"), missing, begins);
};

/** The sums of rows and what is missing behind their map, and the absolute difference to the target. */
function sumsOf(inputs: readonly Value[], rows: Value, scaled: Value, missing: Value, begins: boolean): Graph {
  const added = addedUp(sumParts(asRows(rows), asRows(scaled)), begins);
  return graph([...inputs, ...added.inputs], { difference: reduceSum(abs(missing)), ...added.outputs });
}

/**
 * Sums of what enters a block's maps behind its first or second norm: G are the student's tokens `x` behind it and a column of ones,
 * R what is missing there to those of the teacher, `target`, behind the same norm. Those of the second stand between attention
 * and MLP.
 */
const normPass =
  (norm: "norm1" | "norm2"): SumGraph =>
  (config, dims, begins) => {
    const { inputs, weight } = blockInputs(config);
    const [x, target] = [input("x", "float32", dims), input("target", "float32", dims)];
    const normed = (tokens: Value) => asRows(blockNorm(config, weight, 0, norm, tokens));
    const missing = sub(normed(target), normed(x));
    return sumsOf([x, target, ...inputs], normed(x), missing, missing, begins);
  };

/** The sums of what enters q, k and v. */
export const norm1Pass = normPass("norm1");

/** The same, summed up alone: what its directions say of queries and keys. */
export const enteringPass: SumGraph = (config, dims, begins) => {
  const { inputs, weight } = blockInputs(config);
  const x = input("x", "float32", dims);
  const added = addedUp(sumParts(asRows(blockNorm(config, weight, 0, "norm1", x))), begins);
  return graph([x, ...added.inputs, ...inputs], added.outputs);
};

/** The sums of what enters fc1. */
export const norm2Pass = normPass("norm2");

/** The absolute difference of the block's output to its target, from what enters its attention's output map. */
export function differencePass(config: VitConfig, dims: readonly number[]): Graph {
  const { inputs, weight } = blockInputs(config);
  const { x, mixed, target, inputs: tokens } = tokenInputs(config, dims);
  const missing = sub(target, fromMixed(config, weight, x, mixed));
  return graph([...tokens, ...inputs], { difference: reduceSum(abs(missing)) });
}

/** The same from what enters fc2, and tokens `x` between attention and MLP. */
export function fc2DifferencePass(config: VitConfig, dims: readonly number[]): Graph {
  const { inputs, weight } = blockInputs(config);
  const [x, target, hidden] = [
    input("x", "float32", dims),
    input("target", "float32", dims),
    hiddenInput(config, dims),
  ];
  const missing = sub(target, fromHidden(config, weight, x, hidden));
  return graph([x, hidden, target, ...inputs], { difference: reduceSum(abs(missing)) });
}

/** Tokens behind the attention, from those that enter the block and what enters the attention's output map: `x, mixed -> y`. */
export const attendedGraph: BlockGraph = (config, dims, { inputs, weight } = blockInputs(config)) => {
  const x = input("x", "float32", dims);
  const mixed = mixedInput(config, dims);
  return graph([x, ...(mixed ? [mixed] : []), ...inputs], { y: attendedOf(config, weight, x, mixed) });
};

/** What enters fc2, from tokens between attention and MLP: `x -> hidden`. */
export const hiddenGraph: BlockGraph = (config, dims, { inputs, weight } = blockInputs(config)) => {
  const x = input("x", "float32", dims);
  return graph([x, ...inputs], { hidden: hiddenOf(config, weight, x) });
};

/** The block's output, from tokens between attention and MLP and what enters fc2: `x, hidden -> y`. */
export const fromHiddenGraph: BlockGraph = (config, dims, { inputs, weight } = blockInputs(config)) => {
  const [x, hidden] = [input("x", "float32", dims), hiddenInput(config, dims)];
  return graph([x, hidden, ...inputs], { y: fromHidden(config, weight, x, hidden) });
};

/** A block for several targets `target.i` `[B, N, D]` at once: its output, and what enters fc2 as rows. */
function severalTargets(config: VitConfig, dims: readonly number[], targets: number) {
  const block = blockInputs(config);
  const x = input("x", "float32", dims);
  const wanted = Array.from({ length: targets }, (_, i) => input(`target.${i}`, "float32", dims));
  const { map, entered } = watching("fc2");
  const y = vitBlock(config, block.weight, 0, x, map);
  return { block, inputs: [x, ...wanted, ...block.inputs], wanted, y, rows: asRows(entered()) };
}

/** The parts of fc2's sums (`sumParts`) for several targets side by side, `targets * D` right-hand sides. */
export function searchPass(config: VitConfig, dims: readonly number[], targets: number): Graph {
  const { block, inputs, wanted, y, rows } = severalTargets(config, dims, targets);
  const missing = wanted.map((target) => asRows(block.throughScale(sub(target, y), "ls2")));
  return graph(inputs, sumParts(rows, concat(missing, 1)));
}

/**
 * The block with each of several changes `[n, targets * D]` of its fc2: outputs `y.i`, and `left` `[targets]`, the sum over
 * tokens of the mean squared difference to the target as the next block's norm shows both (centred, scaled to deviation 1),
 * so that each token counts alike.
 */
export function changedPass(config: VitConfig, dims: readonly number[], targets: number): Graph {
  const { block, inputs, wanted, y, rows } = severalTargets(config, dims, targets);
  const { width, mlpWidth } = config;
  const change = input("change", "float32", [mlpWidth + 1, targets * width]);
  const [ones, none] = [zeros([width]), zeros([width])];
  ones.data.fill(1);
  const seen = (tokens: Value) =>
    layerNorm(tokens, { weight: constant(ones), bias: constant(none) }, config.normEpsilon);
  const changes = matmul(withOnes(rows), change);
  const outputs = wanted.map((_, i) => {
    const change = reshape(slice(changes, 1, i * width, (i + 1) * width), dims);
    return add(y, config.layerScale ? mul(change, block.weight(blockWeight(0, "ls2.gamma"))) : change);
  });
  const residuals = outputs.map((output, i) => {
    const difference = sub(seen(output), seen(wanted[i]));
    return reshape(mul(reduceSum(mul(difference, difference)), 1 / width), [1]);
  });
  return graph([...inputs, change], {
    residual: residuals.length > 1 ? concat(residuals, 0) : residuals[0],
    ...Object.fromEntries(outputs.map((output, i) => [`y.${i}`, output])),
  });
}
