// Token merging (ToMe, arXiv 2210.09461): after a block's attention, the tokens that are most alike become one.
//
// All is written as comparisons and matrix products, with no operator that sorts, gathers or scatters: ONNX Runtime's
// WebGPU provider has all of these operators, and on the CPU a product with a matrix of ones is quicker than
// ScatterElements. What a merging decides is one row of numbers, the place of each token among the merged ones; where
// that equals 0, 1, 2, ... is the matrix of ones that merges.
//
// Matching (section 3 of the paper): tokens alternate between sources and destinations, from the first token on. Each
// source has one edge, to the destination whose key has the highest cosine similarity, keys being the mean over heads.
// The sources with the highest similarities are merged into their destinations. Learned tokens before the patches are
// never merged. Behind a merging stand these tokens, the sources that are left, then the destinations: as the authors
// have it, since the next matching alternates in this order. Sources that are left keep their order; where there are no
// learned tokens, they stand by falling similarity, again as the authors' do. Equal similarities: the first token goes first.
//
// A merged token is the mean of its members, weighted by how many tokens each stands for. Attention adds the logarithm
// of that number to the logits (section 3, 'proportional attention'), which is what copies of the token would do.
// Rotary models: keys are compared as attention compares them, rotated, and a merged token has the mean of its members'
// cosines and sines. Where members have equal keys, the merged key is then the mean of their rotated keys.
import {
  add,
  cast,
  concat,
  constant,
  div,
  equal,
  greater,
  log,
  matmul,
  mul,
  pad,
  reduceMax,
  reduceMin,
  reduceSum,
  reshape,
  slice,
  sqrt,
  stopGradient,
  sub,
  transposeLast,
  where,
} from "../engine/graph/build.ts";
import { ShapeError } from "../engine/graph/shapes.ts";
import type { Value } from "../engine/graph/graph.ts";
import type { Rotation } from "../engine/nn/layers.ts";
import { UserError } from "../utils/errors.ts";
import type { DataType, Tensor } from "../utils/tensor.ts";
import { allocate, elementCount } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import { blockShape, patchCount, prefixCount, tokenCount } from "./config.ts";

/** Tokens on their way through the blocks. */
export interface Tokens {
  /** `[B, M, D]` */
  readonly x: Value;
  /** Where tokens have been merged. */
  readonly merged?: MergedTokens;
}

/** Which of the image's N tokens each of M merged tokens stands for. */
export interface MergedTokens {
  /** `[B, 1, M]`: for how many. */
  readonly size: Value;
  /** `[B, N, M]`: a one where token n is part of merged token m. */
  readonly members: Value;
  /** Rotary tables of the merged tokens. */
  readonly rotation?: Rotation;
}

/** The most tokens that a block can merge away, of `tokens` that enter it. */
export const mergeableTokens = (tokens: number, prefix: number): number =>
  Math.max(0, Math.floor((tokens - prefix) / 2));

/** Whether a configuration merges tokens at all. */
export const mergesTokens = ({ merging }: Pick<VitConfig, "merging">): boolean =>
  merging?.some((count) => count > 0) ?? false;

/** Tokens that each block's MLP sees: `[N_0, ..., N_depth - 1]`. */
export function tokensBehindBlocks(config: VitConfig): number[] {
  let tokens = tokenCount(config);
  return Array.from({ length: config.depth }, (_, i) => (tokens -= config.merging?.[i] ?? 0));
}

/** Throws a UserError where the blocks can't merge so many tokens; `name` is what the user gave them as. */
export function checkMerging(config: VitConfig, name = "merging"): void {
  const { merging, depth } = config;
  if (merging === undefined) return;
  if (merging.length !== depth)
    throw new UserError(
      `${name} must have one number for each of the model's ${depth} blocks, got ${merging.length} numbers.`,
      { code: "INVALID_OPTION" },
    );
  if (!mergesTokens(config)) return;
  if (config.sharing)
    throw new UserError(
      `${name} can't be used with this model: its blocks convolve over the whole grid of patches (MiniViT).`,
      { code: "INVALID_OPTION" },
    );
  let tokens = tokenCount(config);
  for (const [block, count] of merging.entries()) {
    if (count > 0 && blockShape(config, block).heads === 0)
      throw new UserError(`${name} must be 0 for block ${block}, which has no attention, got ${count}.`, {
        code: "INVALID_OPTION",
      });
    const most = mergeableTokens(tokens, prefixCount(config));
    if (!Number.isInteger(count) || count < 0 || count > most)
      throw new UserError(
        `${name} must be between 0 and ${most} for block ${block} (half of the ${tokens - prefixCount(config)} patch tokens that enter it), got ${count}.`,
        { code: "INVALID_OPTION" },
      );
    tokens -= count;
  }
}

/** The same wish for each block, as far as each can: at most half of its tokens (ToMe's own rule). */
export function mergingOf(config: VitConfig, wished: readonly number[]): number[] {
  let tokens = tokenCount(config);
  return Array.from({ length: config.depth }, (_, i) => {
    const most = blockShape(config, i).heads > 0 ? mergeableTokens(tokens, prefixCount(config)) : 0;
    const count = Math.min(wished[i] ?? 0, most);
    tokens -= count;
    return count;
  });
}

function table(type: DataType, dims: readonly number[], value: (index: number) => number): Value {
  if (type !== "float32" && type !== "float64") throw new ShapeError(`tokens of ${type} can't be merged`);
  const data = allocate(type, elementCount(dims));
  for (let i = 0; i < data.length; i++) data[i] = value(i);
  return constant({ type, dims, data } as Tensor);
}

/** 0, 1, 2, ... */
const counting = (type: DataType, dims: readonly number[]): Value => table(type, dims, (i) => i);

/** Added to squared lengths, for keys of zeros: nothing beside any other key, and what half precision can hold. */
const shortest = 1e-7;

/** Keys of the patches `[B, P, d]` as sources `[B, S, d]` and destinations `[B, T, d]`, of length 1. */
function alternate(keys: Value, prefix: number): { sources: Value; destinations: Value } {
  const [b, tokens, width] = keys.shape as [Value["shape"][number], number, number];
  const count = tokens - prefix;
  const pairs = Math.ceil(count / 2);
  const patches = slice(keys, 1, prefix, tokens);
  // Not the larger of both: WebGPU's provider has no Max.
  const lengths = sqrt(add(reduceSum(mul(patches, patches), [-1], true), shortest));
  const unit = pad(div(patches, lengths), 1, 0, 2 * pairs - count);
  const rows = reshape(unit, [b, pairs, 2 * width]);
  const first = slice(rows, 2, 0, width);
  const second = slice(slice(rows, 2, width, 2 * width), 1, 0, count - pairs);
  // Tokens count from the first learned one on.
  return prefix % 2 === 0 ? { sources: first, destinations: second } : { sources: second, destinations: first };
}

/** Whether source j stands before source i: `[S, S]`. As booleans, since numbers would take four times the bytes in a file. */
function earlierOf(count: number): Value {
  const data = Uint8Array.from({ length: count * count }, (_, i) => Number(i % count < Math.floor(i / count)));
  return constant({ type: "bool", dims: [count, count], data });
}

/** `[B, S, 1] -> [B, 1, S]` */
const asRow = (column: Value): Value => reshape(column, [column.shape[0], 1, column.shape[1]]);

/** How many sources stand before each of `[B, S, 1]` by falling similarity; of equal ones the first. */
function rankOf(similarity: Value, earlier: Value): Value {
  const others = asRow(similarity);
  const tied = where(earlier, cast(equal(others, similarity), similarity.type), 0);
  return reduceSum(where(greater(others, similarity), 1, tied), [-1], true);
}

/**
 * The place `[B, 1, N]` of each token among the `N - count` that are left, from keys `[B, N, d]`: sources that are merged
 * have their destination's.
 */
export function mergedPlaces(keys: Value, prefix: number, count: number): Value {
  const { type } = keys;
  const { sources, destinations } = alternate(stopGradient(keys), prefix);
  const [b, sourceCount] = sources.shape as [Value["shape"][number], number];
  const destinationCount = destinations.shape[1] as number;
  const firstDestination = prefix + sourceCount - count;
  const scores = matmul(sources, transposeLast(destinations));
  const similarity = reduceMax(scores, [-1], true);
  const places = table(type, [destinationCount], (i) => firstDestination + i);
  const beyond = firstDestination + destinationCount;
  const joined = reduceMin(where(equal(scores, similarity), places, beyond), [-1], true);
  const earlier = earlierOf(sourceCount);
  const rank = rankOf(similarity, earlier);
  const stays = greater(rank, count - 0.5);
  const kept = prefix === 0 ? sub(rank, count) : placesInOrder(cast(stays, type), prefix, earlier);
  const sourcePlaces = where(stays, kept, joined);
  return reshape(alongTokens(sourcePlaces, prefix, destinationCount, firstDestination), [
    b,
    1,
    prefix + sourceCount + destinationCount,
  ]);
}

/** Places of the sources that stay (ones in `[B, S, 1]`), behind the `prefix`, in their order: how many that stay are before each. */
function placesInOrder(stays: Value, prefix: number, earlier: Value): Value {
  return add(reduceSum(where(earlier, asRow(stays), 0), [-1], true), prefix);
}

/** Places of the sources `[B, S, 1]` between those of the destinations and behind the learned tokens: `[B, N]`. */
function alongTokens(sources: Value, prefix: number, destinationCount: number, firstDestination: number): Value {
  const [b, sourceCount] = sources.shape as [Value["shape"][number], number];
  const pairs = Math.max(sourceCount, destinationCount);
  const sourceFirst = prefix % 2 === 0;
  const columns = pad(sources, 2, sourceFirst ? 0 : 1, sourceFirst ? 1 : 0);
  const both = reshape(pad(columns, 1, 0, pairs - sourceCount), [b, 2 * pairs]);
  const patches = slice(both, 1, 0, sourceCount + destinationCount);
  const parity = sourceFirst ? 1 : 0;
  const given = table(sources.type, [prefix + sourceCount + destinationCount], (i) => {
    if (i < prefix) return i;
    const patch = i - prefix;
    return patch % 2 === parity ? firstDestination + Math.floor(patch / 2) : 0;
  });
  return add(pad(patches, 1, prefix, 0), given);
}

/** The tables for all tokens, with the learned ones turned by nothing: `[1, N, D/H]`. */
function wholeRotation({ cos, sin, skip, pairs }: Rotation): Rotation {
  const width = cos.shape[1] as number;
  const before = (value: number) => table(cos.type, [skip, width], () => value);
  const whole = (rows: Value, value: number) => {
    const all = skip > 0 ? concat([before(value), rows], 0) : rows;
    return reshape(all, [1, all.shape[0], width]);
  };
  return { cos: whole(cos, 1), sin: whole(sin, 0), skip: 0, pairs };
}

/**
 * Merges `count` of the tokens away by their keys `[B, N, d]`, the mean over heads. `rotation` is that of the block's
 * queries and keys.
 */
export function mergeTokens(
  config: VitConfig,
  { x, merged }: Tokens,
  keys: Value,
  count: number,
  rotation: Rotation | undefined,
): Tokens {
  const [b, tokens] = x.shape as [Value["shape"][number], number];
  const [remaining, { type }] = [tokens - count, x];
  const places = mergedPlaces(keys, prefixCount(config), count);
  const ones = cast(equal(counting(type, [remaining, 1]), places), type);
  const sized = merged ? mul(ones, merged.size) : ones;
  const size = reduceSum(sized, [-1], true);
  const shares = div(sized, size);
  // Tokens may be merged already: their places are found through where they are now.
  const column = reshape(places, [b, tokens, 1]);
  const placesOfAll = merged ? matmul(merged.members, column) : column;
  return {
    x: matmul(shares, x),
    merged: {
      size: reshape(size, [b, 1, remaining]),
      members: cast(equal(placesOfAll, counting(type, [remaining])), type),
      rotation: rotation && mergedRotation(rotation, shares),
    },
  };
}

/** The mean of the members' tables. */
function mergedRotation(rotation: Rotation, shares: Value): Rotation {
  const [b, remaining] = shares.shape;
  const whole = rotation.cos.shape.length === 2 ? wholeRotation(rotation) : rotation;
  const width = whole.cos.shape.at(-1) as number;
  const mean = (rows: Value) => {
    const before = reshape(rows, [rows.shape[0], rows.shape.at(-2) as number, width]);
    return reshape(matmul(shares, before), [b, 1, remaining, width]);
  };
  return { ...whole, cos: mean(whole.cos), sin: mean(whole.sin) };
}

/** What attention adds to its logits for keys that stand for several tokens: `[B, 1, 1, M]`. */
export function sizeBias(size: Value): Value {
  const [b, , count] = size.shape;
  return log(reshape(size, [b, 1, 1, count]));
}

/** Every token of the image again, each as its merged token: `[B, M, D] -> [B, N, D]`. */
export const unmerged = ({ x, merged }: Tokens): Value => (merged ? matmul(merged.members, x) : x);

/** Attention between merged tokens `[B, H, M, M]` as that between all of them: `[B, H, N, N]`, rows sum to 1. */
export function unmergedAttention(weights: Value, merged: MergedTokens | undefined): Value {
  if (!merged) return weights;
  const [b, all, remaining] = merged.members.shape;
  const members = reshape(merged.members, [b, 1, all, remaining]);
  const each = div(weights, reshape(merged.size, [b, 1, 1, remaining]));
  return matmul(matmul(members, each), transposeLast(members));
}

/** The mean of the patches, or of all tokens, each merged token by its size: `[B, M, D] -> [B, D]`. */
export function mergedMean(config: VitConfig, { x, merged }: Tokens, first: number): Value | undefined {
  if (!merged) return undefined;
  const [b, count, width] = x.shape as [Value["shape"][number], number, number];
  const sum = matmul(slice(merged.size, 2, first, count), slice(x, 1, first, count));
  const tokens = patchCount(config) + prefixCount(config) - first;
  return reshape(mul(sum, 1 / tokens), [b, width]);
}
