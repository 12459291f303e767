// What a smaller student gives up: whole blocks, as the paper does, or some blocks, some of each attention's heads and some of
// each MLP's channels, for as many weights. The second keeps more of the teacher (dev/experiments.md).
import type { Widths } from "../closed-form/narrowing.ts";
import {
  blockShapeText,
  canLoseHeads,
  canNarrow,
  lessThanWhole,
  narrowedConfig,
  settledShapes,
  withChannels,
  withHeads,
} from "../closed-form/narrowing.ts";
import { withFirstQueries } from "../closed-form/narrow-queries.ts";
import { withFirstValues } from "../closed-form/narrow-values.ts";
import { copyBlocks } from "../kept-blocks.ts";
import { isHeldBy } from "../../models/conform.ts";
import type { BlockShape, VitConfig } from "../../models/config.ts";
import { headWidthOf } from "../../models/config.ts";
import { weightTable } from "../../models/weight-table.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { elementCount } from "../../utils/tensor.ts";
import { counted } from "../../utils/counted.ts";

export interface StudentShape extends Widths {
  readonly kept: readonly number[];
}

/**
 * `balanced`: blocks, heads and channels; `channels`: all heads stay; `blocks`: these are whole, as in the paper; `by-block`: heads and
 * channels that differ by block, for ONNX (`shape-for-budget.ts`).
 */
export const shapeKinds = ["balanced", "channels", "blocks", "by-block"] as const;
export type ShapeKind = (typeof shapeKinds)[number];
/** Kinds of narrower blocks that are all alike. */
export type UniformKind = Exclude<ShapeKind, "blocks" | "by-block">;

/** "3 heads and 768 channels", of what is not whole; empty where all is. */
export function widthsText({ mlpWidth, keptHeads, shapes }: Widths): string {
  if (shapes) {
    const queries = shapes.some(({ queryWidth }) => queryWidth !== undefined) ? " x query channels" : "";
    const values = shapes.some(({ valueWidth }) => valueWidth !== undefined) ? " x value channels" : "";
    return `heads x channels${queries}${values} by block: ${shapes.map(blockShapeText).join(", ")}`;
  }
  const heads = keptHeads === undefined ? [] : [counted(keptHeads, "head")];
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

/** How much a shape may exceed whole blocks' weights: norms and biases of more blocks, for widths that libraries hold. */
const excess = 0.005;

/** A shape that has about as many weights as whole blocks, and how far it is from what does best (0 is best). */
interface Candidate {
  readonly shape: StudentShape;
  readonly irregularity: number;
}

/**
 * More blocks than `whole`, so narrow that there are about as many weights: each loses about the same share of its heads
 * (unless all stay) and of its MLP's channels. Where a class of transformers holds the teacher, one holds the student.
 * Undefined where that gives nothing.
 */
export function narrowShape(
  { config }: Pick<ModelDefinition, "config">,
  whole: number,
  kind: UniformKind,
): StudentShape | undefined {
  const candidates = countsOf(config, whole).flatMap((count) => shapesOf(config, whole, count, kind));
  candidates.sort((a, b) => a.irregularity - b.irregularity);
  return candidates[0]?.shape;
}

/** Numbers of blocks that are more than `whole`. */
const countsOf = ({ depth }: VitConfig, whole: number): number[] =>
  Array.from({ length: Math.max(0, Math.min(depth, 2 * whole) - whole) }, (_, i) => whole + 1 + i);

/** Narrow shapes to choose from by their number of blocks, for as many weights as `whole` whole ones; likeliest first. */
export function narrowShapes(
  teacher: Pick<ModelDefinition, "config" | "origin">,
  whole: number,
  kind: ShapeKind,
): Map<number, StudentShape[]> {
  const byCount = new Map<number, StudentShape[]>();
  const possible = possibleKind(teacher, kind);
  if (possible === "blocks") return byCount;
  for (const count of countsOf(teacher.config, whole)) {
    const candidates = shapesOf(teacher.config, whole, count, possible).sort((a, b) => a.irregularity - b.irregularity);
    // Of one number of heads there may be two widths that differ by a rounding.
    const heads = new Set<number | undefined>();
    const shapes = candidates.flatMap(({ shape }) => {
      if (heads.has(shape.keptHeads)) return [];
      heads.add(shape.keptHeads);
      return [shape];
    });
    if (shapes.length > 0) byCount.set(count, shapes);
  }
  return byCount;
}

/** Shapes of `count` blocks that have about as many weights as `whole` whole ones. */
function shapesOf(config: VitConfig, whole: number, count: number, kind: UniformKind): Candidate[] {
  const { depth, width, mlpWidth } = config;
  const block = weightTable({ ...config, depth: 1 }).filter((row) => row.block === 0);
  const all = block.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const channel = 2 * width + 1;
  const head = headWidthOf(config) * (4 * width + (config.qkvBias ? 3 : 0));
  const fixed = all - mlpWidth * channel - config.heads * head;
  const share = whole / count;
  const mustBeHeld = isHeldBy({ config }, "transformers");
  const fewest = kind === "balanced" && canLoseHeads(config) ? 1 : config.heads;
  const candidates: Candidate[] = [];
  for (let heads = fewest; heads <= config.heads; heads++) {
    const exactWidth = (share * all - fixed - heads * head) / channel;
    const most = (share * all * (1 + excess) - fixed - heads * head) / channel;
    // Whole multiples of the width are what some classes hold.
    for (const channels of [Math.floor(exactWidth / step) * step, Math.floor(most / width) * width]) {
      const mlp = Math.min(mlpWidth, channels);
      if (mlp < leastShare * mlpWidth || (mlp === mlpWidth && heads === config.heads)) continue;
      const widths = lessThanWhole(config, { mlpWidth: mlp, keptHeads: heads });
      if (mustBeHeld && !isHeldBy({ config: narrowedConfig(config, widths) }, "transformers")) continue;
      const unused = Math.max(0, 1 - (fixed + heads * head + mlp * channel) / (share * all));
      const uneven =
        kind === "balanced" ? Math.abs(heads / config.heads - share) + Math.abs(mlp / mlpWidth - share) : 0;
      const fewer = Math.abs(Math.min(depth / whole, blocksToOne[kind]) - count / whole);
      candidates.push({
        shape: { kept: spreadBlocks(depth, count), ...widths },
        irregularity: 2 * unused + uneven + fewer / 5,
      });
    }
  }
  return candidates;
}

/** Whether a class of transformers that holds the teacher, or another, holds students without some of its heads too. */
function headsCanGo({ config }: Pick<ModelDefinition, "config">): boolean {
  if (!canLoseHeads(config) || config.heads === 1) return false;
  return (
    !isHeldBy({ config }, "transformers") ||
    isHeldBy({ config: narrowedConfig(config, { keptHeads: 1 }) }, "transformers")
  );
}

/** What a teacher's blocks can give up of what is asked for. */
function possibleKind(teacher: Pick<ModelDefinition, "config" | "origin">, kind: ShapeKind): UniformKind | "blocks" {
  // Blocks that differ are chosen by what cuts cost, within the weights of so many whole blocks.
  if (kind === "blocks" || kind === "by-block" || !canNarrow(teacher.config)) return "blocks";
  return kind === "balanced" && !headsCanGo(teacher) ? "channels" : kind;
}

/** A student of as many weights as `count` whole blocks: narrower where asked for and possible, else these blocks. */
export function shapeFor(
  teacher: Pick<ModelDefinition, "config" | "origin">,
  count: number,
  kind: ShapeKind,
): StudentShape {
  const possible = possibleKind(teacher, kind);
  const narrower = possible !== "blocks" ? narrowShape(teacher, count, possible) : undefined;
  return narrower ?? { kept: evenBlocks(teacher.config.depth, count) };
}

/** A student of this shape with the first heads and channels of each block: good for its size and time, not for its features. */
export function blankOf(
  teacher: ModelDefinition,
  { kept, mlpWidth, keptHeads, shapes }: StudentShape,
): ModelDefinition {
  const first = (count: number) => Array.from({ length: count }, (_, i) => i);
  let student = copyBlocks(teacher, kept);
  kept.forEach((_, block) => {
    const shape: Partial<BlockShape> = shapes?.[block] ?? { mlpWidth, heads: keptHeads };
    student = withFirstQueries(student, block, shape.queryWidth);
    student = withFirstValues(student, block, shape.valueWidth);
    if (shape.mlpWidth !== undefined) student = withChannels(student, block, first(shape.mlpWidth));
    if (shape.heads !== undefined) student = withHeads(student, block, first(shape.heads));
  });
  return settledShapes(student);
}
