// What a smaller student gives up: whole blocks, as the paper does, or some blocks, some of each attention's heads and some of
// each MLP's channels, for as many weights. The second keeps more of the teacher (docs/experiments.md).
import type { Widths } from "../distill/narrowing.ts";
import { canLoseHeads, canNarrow, narrowedConfig, withChannels, withHeads } from "../distill/narrowing.ts";
import { copyBlocks } from "../distill/weight-copy.ts";
import { isHeldBy } from "../export/conform.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { expectedWeights, headWidthOf } from "../models/config.ts";
import { elementCount } from "../utils/tensor.ts";

export interface StudentShape extends Widths {
  readonly kept: readonly number[];
}

/** `balanced`: blocks, heads and channels; `channels`: all heads stay; `blocks`: these are whole, as in the paper. */
export const shapeKinds = ["balanced", "channels", "blocks"] as const;
export type ShapeKind = (typeof shapeKinds)[number];

/** "3 heads and 768 channels", of what is not whole; empty where all is. */
export function widthsText({ mlpWidth, keptHeads }: Widths): string {
  const heads = keptHeads === undefined ? [] : [`${keptHeads} head${keptHeads === 1 ? "" : "s"}`];
  const channels = mlpWidth === undefined ? [] : [`${mlpWidth} channels`];
  return [...heads, ...channels].join(" and ");
}

/** Blocks of a student to each whole block that its size allows: the best that were tried on the demo. */
const blocksToOne = { balanced: 2, channels: 1.65 } as const;
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

/** Whether blocks can lose channels, with no application of the teacher's around them. */
export function isNarrowable({ config, origin }: Pick<ModelDefinition, "config" | "origin">): boolean {
  return canNarrow(config) && !origin.application;
}

/**
 * More blocks than `whole`, so narrow that there are no more weights: each loses about the same share of its heads (unless all
 * stay) and of its MLP's channels. Undefined where that gives nothing.
 */
export function narrowShape(
  { config }: Pick<ModelDefinition, "config">,
  whole: number,
  kind: Exclude<ShapeKind, "blocks">,
): StudentShape | undefined {
  const { depth, width, mlpWidth } = config;
  if (whole >= depth) return undefined;
  const losesHeads = kind === "balanced";
  const block = [...expectedWeights({ ...config, depth: 1 })].filter(([name]) => name.startsWith("blocks.0."));
  const all = block.reduce((sum, [, dims]) => sum + elementCount(dims), 0);
  const channel = 2 * width + 1;
  const head = headWidthOf(config) * (4 * width + (config.qkvBias ? 3 : 0));
  const rest = all - mlpWidth * channel - config.heads * head;
  for (let count = Math.min(depth, Math.round(blocksToOne[kind] * whole)); count > whole; count--) {
    const heads = losesHeads ? Math.max(1, Math.round((whole / count) * config.heads)) : config.heads;
    const left = (whole * all) / count - rest - heads * head;
    const channels = Math.min(mlpWidth, Math.floor(left / channel / step) * step);
    if (channels < leastShare * mlpWidth) continue;
    return {
      kept: spreadBlocks(depth, count),
      ...(channels < mlpWidth ? { mlpWidth: channels } : {}),
      ...(heads < config.heads ? { keptHeads: heads } : {}),
    };
  }
  return undefined;
}

/** Whether a class of transformers that holds the teacher, or another, holds students without some of its heads too. */
function headsCanGo({ config }: Pick<ModelDefinition, "config">): boolean {
  if (!canLoseHeads(config) || config.heads === 1) return false;
  return (
    !isHeldBy({ config }, "transformers") ||
    isHeldBy({ config: narrowedConfig(config, { keptHeads: 1 }) }, "transformers")
  );
}

/** A student of as many weights as `count` whole blocks: narrower where asked for and possible, else these blocks. */
export function shapeFor(
  teacher: Pick<ModelDefinition, "config" | "origin">,
  count: number,
  kind: ShapeKind,
): StudentShape {
  const possible = kind === "balanced" && !headsCanGo(teacher) ? "channels" : kind;
  const narrower = possible !== "blocks" && isNarrowable(teacher) ? narrowShape(teacher, count, possible) : undefined;
  return narrower ?? { kept: evenBlocks(teacher.config.depth, count) };
}

/** A student of this shape with the first heads and channels of each block: good for its size and time, not for its features. */
export function blankOf(teacher: ModelDefinition, { kept, mlpWidth, keptHeads }: StudentShape): ModelDefinition {
  const first = (count: number) => Array.from({ length: count }, (_, i) => i);
  let student = copyBlocks(teacher, kept);
  kept.forEach((_, block) => {
    if (mlpWidth !== undefined) student = withChannels(student, block, first(mlpWidth));
    if (keptHeads !== undefined) student = withHeads(student, block, first(keptHeads));
  });
  return { ...student, config: narrowedConfig(student.config, { mlpWidth, keptHeads }) };
}
