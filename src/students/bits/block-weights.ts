// Weights of a linear map in few bits: a scale and a zero point for each block along the inputs, and how both are chosen.
import { roundToHalf } from "../../utils/half.ts";
import { pause } from "../../utils/pause.ts";
import type { FloatTensor } from "../../utils/tensor.ts";

/** Bits that maps can be rounded to. */
export const bitCounts = [2, 3, 4, 8] as const;
export type BitCount = (typeof bitCounts)[number];

/** How a map's weights are stored. */
export interface BlockFormat {
  readonly bits: BitCount;
  /** Weights along the inputs that share a scale: a power of 2, 16 at least. */
  readonly blockSize: number;
  /** Whether zero always stands in the middle of the range, so that no zero points are stored. */
  readonly symmetric: boolean;
}

/** A map `[N, K]` in few bits: weight (n, k) is `scale * (value - zero)`, both of its block. */
export interface BlockWeights extends BlockFormat {
  readonly outputs: number;
  readonly inputs: number;
  /** `[N, K]`, one number a byte. */
  readonly values: Uint8Array;
  /** `[N, blocks]`, each a number that float16 has. */
  readonly scales: Float32Array;
  /** `[N, blocks]` */
  readonly zeros: Uint8Array;
}

/** Blocks along so many inputs; the last may be shorter. */
export const blockCount = (inputs: number, blockSize: number): number => Math.ceil(inputs / blockSize);

/** The largest value of so many bits. */
const largestValue = (bits: number): number => 2 ** bits - 1;

/** A map of `format` with all weights zero. */
export function emptyBlocks(outputs: number, inputs: number, format: BlockFormat): BlockWeights {
  const blocks = outputs * blockCount(inputs, format.blockSize);
  const { bits, blockSize, symmetric } = format;
  return {
    ...{ bits, blockSize, symmetric, outputs, inputs },
    values: new Uint8Array(outputs * inputs),
    scales: new Float32Array(blocks),
    zeros: new Uint8Array(blocks),
  };
}

/** The value of a weight in a block with this scale and zero point. */
export function valueOf(weight: number, scale: number, zero: number, most: number): number {
  if (scale === 0) return zero;
  const value = Math.round(weight / scale) + zero;
  return value < 0 ? 0 : value > most ? most : value;
}

/** Shares of a block's range that are tried as the range of its values: few large weights may be cut off. */
const shares = [1, 0.92, 0.84, 0.76, 0.68, 0.6, 0.5, 0.4] as const;

/** A block's scale and zero point. */
export interface Grid {
  readonly scale: number;
  readonly zero: number;
}

/** Finds grids for blocks of weights, one after the other. */
export class GridFitter {
  private readonly format: BlockFormat;
  private readonly most: number;
  private readonly levels: Float64Array;

  constructor(format: BlockFormat) {
    this.format = format;
    this.levels = new Float64Array(format.blockSize);
    this.most = largestValue(format.bits);
  }

  /**
   * The scale (a number that float16 has) and zero point with the least squared error over a block's first `count` weights, each
   * counted by its importance: shares of its range are tried, and each scale is fitted to the values that it gives.
   */
  fit(weights: Float64Array, importance: Float64Array, count: number): Grid {
    const { bits, symmetric } = this.format;
    let [low, high] = [0, 0];
    for (let i = 0; i < count; i++) {
      if (weights[i] < low) low = weights[i];
      else if (weights[i] > high) high = weights[i];
    }
    const middle = 2 ** (bits - 1);
    let [scale, zero] = [0, symmetric ? middle : 0];
    if (low === 0 && high === 0) return { scale, zero };
    // There is one value more below zero than above: where zero is the middle, the scale's sign gives it to the larger side.
    const step = symmetric ? (high > -low ? -high : -low) / middle : (high - low) / this.most;
    const point = symmetric ? middle : Math.round(-low / step);
    let least = Infinity;
    for (const share of shares) {
      const first = share * step;
      this.round(weights, count, first, point);
      const better = roundToHalf(this.fittedScale(weights, importance, count, first));
      this.round(weights, count, better, point);
      const error = this.errorOf(weights, importance, count, better);
      if (error < least) [least, scale, zero] = [error, better, point];
    }
    return { scale, zero };
  }

  /** Sets `levels` to a block's weights in steps of a grid from its zero point. */
  private round(weights: Float64Array, count: number, scale: number, zero: number): void {
    const { levels } = this;
    const inverse = scale === 0 ? 0 : 1 / scale;
    const [lowest, highest] = [-zero, this.most - zero];
    for (let i = 0; i < count; i++) {
      const level = Math.round(weights[i] * inverse);
      levels[i] = level < lowest ? lowest : level > highest ? highest : level;
    }
  }

  /** The scale that fits `levels` best; `scale` where all of them are zero. */
  private fittedScale(weights: Float64Array, importance: Float64Array, count: number, scale: number): number {
    const { levels } = this;
    let [across, along] = [0, 0];
    for (let i = 0; i < count; i++) {
      const counted = importance[i] * levels[i];
      across += counted * weights[i];
      along += counted * levels[i];
    }
    return along > 0 ? across / along : scale;
  }

  /** The squared error of a block in `levels`, each weight's times its importance. */
  private errorOf(weights: Float64Array, importance: Float64Array, count: number, scale: number): number {
    const { levels } = this;
    let error = 0;
    for (let i = 0; i < count; i++) {
      const residual = weights[i] - scale * levels[i];
      error += importance[i] * residual * residual;
    }
    return error;
  }
}

/** Rounds a map `[N, K]`, each block by itself, with the grid that errs least. */
export function roundPlain(weight: FloatTensor, format: BlockFormat): BlockWeights {
  const rounded = emptyFor(weight, format);
  roundRows(weight, rounded, 0, rounded.outputs);
  return rounded;
}

/** Weights that are rounded at a time, in a small part of a second. */
const roundedTogether = 2 ** 18;

/** The same, with turns in between for what else waits, such as a signal. Rejects with its reason once it fires. */
export async function roundInTurns(
  weight: FloatTensor,
  format: BlockFormat,
  signal: AbortSignal = new AbortController().signal,
): Promise<BlockWeights> {
  const rounded = emptyFor(weight, format);
  const { outputs, inputs } = rounded;
  const step = Math.max(1, Math.floor(roundedTogether / inputs));
  for (let from = 0; from < outputs; from += step) {
    await pause(0, signal);
    roundRows(weight, rounded, from, Math.min(outputs, from + step));
  }
  return rounded;
}

const emptyFor = ({ dims: [outputs], data }: FloatTensor, format: BlockFormat): BlockWeights =>
  emptyBlocks(outputs, data.length / outputs, format);

/** Rounds outputs `from` to `to`. */
function roundRows({ data }: FloatTensor, rounded: BlockWeights, from: number, to: number): void {
  const { blockSize, bits, inputs } = rounded;
  const blocks = blockCount(inputs, blockSize);
  const most = largestValue(bits);
  const weights = new Float64Array(blockSize);
  const even = new Float64Array(blockSize).fill(1);
  const fitter = new GridFitter(rounded);
  for (let n = from, block = from * blocks; n < to; n++)
    for (let b = 0; b < blocks; b++, block++) {
      const first = n * inputs + b * blockSize;
      const count = Math.min(blockSize, inputs - b * blockSize);
      for (let i = 0; i < count; i++) weights[i] = data[first + i];
      const { scale, zero } = fitter.fit(weights, even, count);
      rounded.scales[block] = scale;
      rounded.zeros[block] = zero;
      for (let i = 0; i < count; i++) rounded.values[first + i] = valueOf(weights[i], scale, zero, most);
    }
}

/** The weights that values stand for: `[N, K]`, or of another shape with as many numbers. */
export function dequantize(weights: BlockWeights, dims?: readonly number[]): FloatTensor {
  const { outputs, inputs, blockSize, values, scales, zeros } = weights;
  const blocks = blockCount(inputs, blockSize);
  const data = new Float32Array(values.length);
  for (let n = 0, at = 0; n < outputs; n++)
    for (let k = 0; k < inputs; k++, at++) {
      const block = n * blocks + Math.floor(k / blockSize);
      data[at] = scales[block] * (values[at] - zeros[block]);
    }
  return { type: "float32", dims: dims ?? [outputs, inputs], data };
}
