// Layers as plain functions that build graphs. Shapes: B images, N tokens, D channels, H heads.
import {
  add,
  concat,
  div,
  gelu,
  layerNormalization,
  matmul,
  mul,
  neg,
  pad,
  reduceMean,
  relu,
  reshape,
  sigmoid,
  slice,
  softmax,
  sqrt,
  sub,
  transpose,
  transposeLast,
} from "../graph/build.ts";
import type { Value } from "../graph/graph.ts";

export interface LinearWeights {
  /** `[out, in]`, as PyTorch stores it. */
  readonly weight: Value;
  /** `[out]` */
  readonly bias?: Value;
}

/** `x W^T + b`; `[..., in] -> [..., out]`. */
export function linear(x: Value, { weight, bias }: LinearWeights): Value {
  const product = matmul(x, transposeLast(weight));
  return bias ? add(product, bias) : product;
}

/** `x A^T B^T`, what a low-rank adapter adds to a linear map (LoRA, arXiv 2106.09685, section 4.1). */
export function lowRank(x: Value, lora: { readonly A: Value; readonly B: Value }): Value {
  return matmul(matmul(x, transposeLast(lora.A)), transposeLast(lora.B));
}

/** Over the last axis. */
export function layerNorm(x: Value, { weight, bias }: Required<LinearWeights>, epsilon: number): Value {
  return layerNormalization(x, weight, bias, epsilon);
}

/** Mean and variance of each channel of `[B, C, H, W]` over images and places, `[1, C, 1, 1]` each. */
export function channelStatistics(x: Value): { readonly mean: Value; readonly variance: Value } {
  const mean = reduceMean(x, [0, 2, 3], true);
  const centred = sub(x, mean);
  return { mean, variance: reduceMean(mul(centred, centred), [0, 2, 3], true) };
}

/**
 * Batch norm (arXiv 1502.03167, algorithm 1) of `[B, C, H, W]` with the statistics given, those of the batch while
 * training; weight and bias are `[C]`. All of it comes down to one factor and one summand a channel.
 */
export function batchNorm(
  x: Value,
  { mean, variance }: { readonly mean: Value; readonly variance: Value },
  { weight, bias }: Required<LinearWeights>,
  epsilon: number,
): Value {
  const channels = [1, weight.shape[0], 1, 1];
  const factor = div(reshape(weight, channels), sqrt(add(variance, epsilon)));
  return add(mul(x, factor), sub(reshape(bias, channels), mul(mean, factor)));
}

/** Element-wise activations by the names that checkpoints use. */
export const activations: Readonly<Record<"gelu" | "gelu_tanh" | "quick_gelu" | "relu" | "silu", (x: Value) => Value>> =
  {
    gelu: (x) => gelu(x),
    gelu_tanh: (x) => gelu(x, "tanh"),
    quick_gelu: (x) => mul(x, sigmoid(mul(x, 1.702))),
    relu,
    silu: (x) => mul(x, sigmoid(x)),
  };

/** `[B, N, D] -> [B, H, N, D/H]` */
export function splitHeads(x: Value, heads: number): Value {
  const [b, n, d] = x.shape;
  return transpose(reshape(x, [b, n, heads, (d as number) / heads]), [0, 2, 1, 3]);
}

/** `[B, H, N, D/H] -> [B, N, D]` */
export function joinHeads(x: Value): Value {
  const [b, h, n, d] = x.shape;
  return reshape(transpose(x, [0, 2, 1, 3]), [b, n, (h as number) * (d as number)]);
}

/** Rotary positions: tables `[P, D/H]` for the tokens behind the first `skip`. */
export interface Rotation {
  readonly cos: Value;
  readonly sin: Value;
  readonly skip: number;
  /** Which channels are turned together: those half a head apart, or neighbours. */
  readonly pairs: "halves" | "neighbours";
}

/** Each channel's partner of the last axis: (x, y) gives (-y, x), with y half a head further. */
function quarterTurn(x: Value, width: number): Value {
  return concat([neg(slice(x, 3, width / 2, width)), slice(x, 3, 0, width / 2)], 3);
}

/** Rotates pairs of channels of `[B, H, N, D/H]` by the tables; the first `skip` tokens stay. */
function rotate(x: Value, { cos, sin, skip, pairs }: Rotation): Value {
  const [b, heads, tokens, width] = x.shape as [Value["shape"][number], number, number, number];
  const patches = slice(x, 2, skip, tokens);
  const turned =
    pairs === "halves"
      ? quarterTurn(patches, width)
      : reshape(quarterTurn(reshape(patches, [b, heads, ((tokens - skip) * width) / 2, 2]), 2), [
          b,
          heads,
          tokens - skip,
          width,
        ]);
  const rotated = add(mul(patches, cos), mul(turned, sin));
  return skip > 0 ? concat([slice(x, 2, 0, skip), rotated], 2) : rotated;
}

/** Linear maps across heads, `[H, H]` each, of the scores and of their softmax (MiniViT, arXiv 2204.07154, eq. 6). */
export interface HeadMixing {
  readonly scores: Value;
  readonly weights: Value;
}

/** `[B, H, N, M]`, heads mixed by `[H, H]`. */
function mixHeads(x: Value, mixing: Value): Value {
  const [b, h, n, m] = x.shape as [Value["shape"][number], number, number, number];
  return reshape(matmul(mixing, reshape(x, [b, h, n * m])), [b, h, n, m]);
}

export interface AttentionParts {
  readonly rotation?: Rotation;
  readonly mixing?: HeadMixing;
  /** Added to the scores: `[B, 1, 1, N]`. */
  readonly bias?: Value;
  /** Told the weights `[B, H, M, N]`. */
  readonly watch?: (weights: Value) => void;
  /** Told the mean of the heads' keys as they are compared with queries: `[B, N, D/H]`. */
  readonly watchKeys?: (keys: Value) => void;
}

/** The mean of the heads' keys `[B, N, D]`, rotated where they are. */
function meanKeys(k: Value, turned: Value, heads: number): Value {
  const [b, n, d] = k.shape;
  // Not transposed, these are read as they lie.
  return turned === k ? reduceMean(reshape(k, [b, n, heads, (d as number) / heads]), [2]) : reduceMean(turned, [1]);
}

/**
 * Multi-head attention (arXiv 2010.11929, appendix A): queries `[B, M, D]`, keys `[B, N, D]` and values `[B, N, E]` give
 * `[B, M, E]`.
 */
export function attention(
  q: Value,
  k: Value,
  v: Value,
  heads: number,
  { rotation, mixing, bias, watch, watchKeys }: AttentionParts = {},
): Value {
  const headWidth = (q.shape[2] as number) / heads;
  const turn = (x: Value) => (rotation ? rotate(x, rotation) : x);
  const keys = turn(splitHeads(k, heads));
  watchKeys?.(meanKeys(k, rotation ? keys : k, heads));
  const scores = matmul(turn(splitHeads(mul(q, headWidth ** -0.5), heads)), transposeLast(keys));
  const biased = bias ? add(scores, bias) : scores;
  const shares = softmax(mixing ? mixHeads(biased, mixing.scores) : biased);
  const weights = mixing ? mixHeads(shares, mixing.weights) : shares;
  watch?.(weights);
  return joinHeads(matmul(weights, splitHeads(v, heads)));
}

/**
 * A 3x3 convolution of each channel by itself over the grid of patches `[B, N, D]`; the first `skip` tokens stay.
 * `kernel` is `[D, 9]`, row by row; outside of the grid are zeros.
 */
export function depthwise(x: Value, kernel: Value, skip: number, side: number): Value {
  const [b, n, d] = x.shape as [Value["shape"][number], number, number];
  const grid = pad(pad(reshape(slice(x, 1, skip, n), [b, side, side, d]), 1, 1, 1), 2, 1, 1);
  const taps = Array.from({ length: 9 }, (_, i) => {
    const [row, column] = [Math.floor(i / 3), i % 3];
    const shifted = slice(slice(grid, 1, row, row + side), 2, column, column + side);
    return mul(shifted, reshape(slice(kernel, 1, i, i + 1), [d]));
  });
  const patches = reshape(
    taps.reduce((p, q) => add(p, q)),
    [b, side * side, d],
  );
  return skip > 0 ? concat([slice(x, 1, 0, skip), patches], 1) : patches;
}

/**
 * Cuts images into patches and maps each to a token: `[B, C, H, W] -> [B, (H/p)*(W/p), D]`. A convolution whose
 * stride is its kernel is a linear map of patches; `weight` is `[D, C, p, p]`. Pixels beyond the last whole patch are
 * not read.
 */
export function patchEmbedding(pixels: Value, { weight, bias }: LinearWeights, patch: number): Value {
  const [b, c, height, width] = pixels.shape as [Value["shape"][number], number, number, number];
  const [rows, columns] = [height / patch, width / patch];
  const patches = transpose(reshape(pixels, [b, c, rows, patch, columns, patch]), [0, 2, 4, 1, 3, 5]);
  const flat = reshape(patches, [b, rows * columns, c * patch * patch]);
  return linear(flat, { weight: reshape(weight, [weight.shape[0], c * patch * patch]), bias });
}
