// What a smaller student gives up: whole blocks, as the paper does, or some blocks and some of each MLP's channels, for as
// many weights. The second keeps more of the teacher (docs/experiments.md).
import { canNarrow, withChannels } from "../distill/narrowing.ts";
import { copyBlocks } from "../distill/weight-copy.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { expectedWeights } from "../models/config.ts";
import { elementCount } from "../utils/tensor.ts";

export interface StudentShape {
  readonly kept: readonly number[];
  /** Channels of each MLP; all where left out. */
  readonly mlpWidth?: number;
}

/** Blocks of a balanced student to each whole block that its size allows: the best of 1.3 to 2 on the demo. */
const blocksToOne = 1.65;
/** MLPs keep at least this share of their channels, and widths are multiples that products like. */
const leastShare = 1 / 8;
const step = 8;

/** From the first block to the last, as evenly as whole numbers allow. */
export function spreadBlocks(depth: number, count: number): number[] {
  if (count === 1) return [0];
  return Array.from({ length: count }, (_, i) => Math.round((i * (depth - 1)) / (count - 1)));
}

/** So many blocks, evenly from the first: every r-th where the depth divides. */
export function evenBlocks(depth: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor((i * depth) / count));
}

/** Whether MLPs can lose channels, with no application of the teacher's around them. */
export function isNarrowable({ config, origin }: Pick<ModelDefinition, "config" | "origin">): boolean {
  return canNarrow(config) && !origin.application;
}

/** More blocks than `whole`, with MLPs so narrow that there are no more weights; undefined where that gives nothing. */
export function balancedShape({ config }: Pick<ModelDefinition, "config">, whole: number): StudentShape | undefined {
  const { depth, width, mlpWidth } = config;
  if (whole >= depth) return undefined;
  const block = [...expectedWeights({ ...config, depth: 1 })].filter(([name]) => name.startsWith("blocks.0."));
  const all = block.reduce((sum, [, dims]) => sum + elementCount(dims), 0);
  const channel = 2 * width + 1;
  const rest = all - mlpWidth * channel;
  for (let count = Math.min(depth, Math.round(blocksToOne * whole)); count > whole; count--) {
    const channels = Math.floor((whole * all - count * rest) / (count * channel) / step) * step;
    if (channels >= leastShare * mlpWidth) return { kept: spreadBlocks(depth, count), mlpWidth: channels };
  }
  return undefined;
}

/** A student of as many weights as `count` whole blocks: balanced where asked for and possible, else these blocks. */
export function shapeFor(
  teacher: Pick<ModelDefinition, "config" | "origin">,
  count: number,
  balanced: boolean,
): StudentShape {
  const narrower = balanced && isNarrowable(teacher) ? balancedShape(teacher, count) : undefined;
  return narrower ?? { kept: evenBlocks(teacher.config.depth, count) };
}

/** A student of this shape with the first channels of each MLP: good for its size and its time, not for its features. */
export function blankOf(teacher: ModelDefinition, { kept, mlpWidth }: StudentShape): ModelDefinition {
  const copy = copyBlocks(teacher, kept);
  if (mlpWidth === undefined) return copy;
  const channels = Array.from({ length: mlpWidth }, (_, i) => i);
  const cut = kept.reduce((student, _, block) => withChannels(student, block, channels), copy);
  return { ...cut, config: { ...cut.config, mlpWidth } };
}
