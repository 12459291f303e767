// Fewer channels in a block's MLP and fewer heads in its attention: which to keep, and the maps without the others. What the
// others gave is made up for by the refit of the map behind them, whose normal equations hold all that is needed (related: CORP,
// arXiv 2602.05243).
import type { VitConfig } from "../../models/config.ts";
import type { BlockShape } from "../../models/config.ts";
import {
  blockShapes,
  headWidthOf,
  qkvRows,
  queryWidthOf,
  valueWidthOf,
  rotaryOf,
  sameShape,
  withBlockShapes,
  withHeadCount,
} from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { splitBlockName } from "../../models/weight-table.ts";
import { OptionError } from "../../utils/errors.ts";
import { badOption } from "../../utils/parse-options.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { chosenRows } from "../../utils/tensor.ts";
import type { RidgeSolver, Sums } from "../../engine/linalg/ridge.ts";
import { emptySums, invertedFactor, ridgeOf } from "../../engine/linalg/ridge.ts";
import { required } from "../../utils/required.ts";

/** What each block keeps; all where left out. */
export interface Widths {
  /** Channels of each MLP. */
  readonly mlpWidth?: number;
  /** Heads of each attention. */
  readonly keptHeads?: number;
  /** What each kept block keeps, in place of one width for all; 0 heads or channels: no attention, no MLP. */
  readonly shapes?: readonly BlockShape[];
}

/** "3x768": heads and MLP channels of one block, as options say it; "3x768x24x48" with the channels of each head's queries and values. */
export const blockShapePattern: RegExp = /^\d{1,6}x\d{1,7}(x[1-9]\d{0,6}){0,2}$/;

/** A block's shape from such a text. */
export function parseBlockShape(text: string): BlockShape {
  const [heads, mlpWidth, queryWidth, valueWidth] = text.split("x").map(Number);
  return {
    heads,
    mlpWidth,
    ...(queryWidth === undefined ? {} : { queryWidth }),
    ...(valueWidth === undefined ? {} : { valueWidth }),
  };
}

export const blockShapeText = ({ heads, mlpWidth, queryWidth, valueWidth }: BlockShape): string =>
  [heads, mlpWidth, queryWidth, valueWidth].filter((count) => count !== undefined).join("x");

/** Throws a UserError where shapes are not one for each kept block, no more than it has, or leave a block without both parts. */
export function checkBlockShapes(
  teacher: ModelDefinition,
  kept: readonly number[],
  shapes: readonly BlockShape[],
): void {
  const { config } = teacher;
  narrowWidth(teacher, config.mlpWidth);
  keptHeadCount(teacher, config.heads);
  const given = shapes.map(blockShapeText).join();
  if (shapes.length !== kept.length)
    throw badOption("blockShapes", `one for each of the ${kept.length} kept blocks`, given);
  const whole = blockShapes(config);
  const queries = (shape: BlockShape) => shape.queryWidth ?? headWidthOf(config);
  const values = (shape: BlockShape) => shape.valueWidth ?? headWidthOf(config);
  const fits = (shape: BlockShape, i: number) => {
    const most = whole[kept[i]];
    const within = shape.heads <= most.heads && shape.mlpWidth <= most.mlpWidth && queries(shape) <= queries(most);
    return within && values(shape) <= values(most) && shape.heads + shape.mlpWidth > 0;
  };
  if (!shapes.every(fits))
    throw badOption(
      "blockShapes",
      `at most ${blockShapeText(config)} (the teacher's heads and MLP channels; ${headWidthOf(config)} channels of a head), not both 0 in a block`,
      given,
    );
  if (shapes.some((shape) => queries(shape) < headWidthOf(config)) && !canNarrowQueries(config))
    throw badOption("blockShapes", "heads and MLP channels alone: this teacher's queries can't be narrowed", given);
}

/** A configuration of blocks that keep so much each. */
export function narrowedConfig(config: VitConfig, { mlpWidth, keptHeads }: Widths): VitConfig {
  const narrowed = mlpWidth === undefined ? config : { ...config, mlpWidth };
  return keptHeads === undefined ? narrowed : withHeadCount(narrowed, keptHeads, keptHeads * headWidthOf(config));
}

/** One shape for all blocks, of a model whose blocks may differ: no more than each has. */
export function uniformShapes(config: VitConfig, { mlpWidth, keptHeads }: Widths): BlockShape[] {
  return blockShapes(config).map((shape) => ({
    ...shape,
    heads: Math.min(shape.heads, keptHeads ?? shape.heads),
    mlpWidth: Math.min(shape.mlpWidth, mlpWidth ?? shape.mlpWidth),
  }));
}

/** Whether blocks differ. */
export function shapesDiffer(shapes: readonly BlockShape[]): boolean {
  return shapes.some((shape) => !sameShape(shape, shapes[0]));
}

/** The widths that are less than whole. */
export function lessThanWhole(whole: Pick<VitConfig, "mlpWidth" | "heads">, { mlpWidth, keptHeads }: Widths): Widths {
  return {
    ...(mlpWidth === undefined || mlpWidth === whole.mlpWidth ? {} : { mlpWidth }),
    ...(keptHeads === undefined || keptHeads === whole.heads ? {} : { keptHeads }),
  };
}

/** Whether MLPs can lose channels: not where they are gated or shared, or where pooling has one of their width. */
export function canNarrow({ mlp, pooling, sharing }: VitConfig): boolean {
  return mlp === "plain" && pooling !== "attention" && !sharing;
}

/** Channels that an MLP keeps: a count, or a share below 1. Throws a UserError where the teacher's MLP can't be narrowed. */
export function narrowWidth({ config }: ModelDefinition, wanted: number): number {
  const { mlpWidth } = config;
  if (!canNarrow(config))
    throw new OptionError([
      (name) =>
        `${name("mlpWidth")} does not go with this teacher: its MLPs can't be narrowed (gated, shared, or used by its pooling too).`,
    ]);
  return countOf("mlpWidth", wanted, mlpWidth, "the channels of the teacher's MLPs");
}

/** A count, or a share below 1, of `all`. Throws an OptionError where there are not so many, or nothing would be left. */
function countOf(option: string, wanted: number, all: number, whose: string): number {
  const count = wanted < 1 ? Math.round(wanted * all) : wanted;
  if (Number.isInteger(count) && count >= 1 && count <= all) return count;
  // Shares that round to one at least.
  const least = Number((0.5 / all).toPrecision(2));
  throw badOption(
    option,
    `a whole number between 1 and ${all} (${whose}), or a share from ${least} to below 1`,
    wanted,
  );
}

/** Whether attention can lose heads: not where blocks share maps across them. */
export function canLoseHeads({ sharing }: VitConfig): boolean {
  return !sharing;
}

/** Whether queries and keys can have fewer channels than values: not where they are rotated by positions, or mixed across heads. */
export function canNarrowQueries(config: VitConfig): boolean {
  return rotaryOf(config) === undefined && !config.sharing;
}

/** Heads that each attention keeps: a count, or a share below 1. Throws a UserError where the teacher's can't be fewer. */
export function keptHeadCount({ config }: ModelDefinition, wanted: number): number {
  if (!canLoseHeads(config))
    throw new OptionError([
      (name) =>
        `${name("keptHeads")} does not go with this teacher: its blocks share maps across heads, so none can be removed.`,
    ]);
  return countOf("keptHeads", wanted, config.heads, "the heads of the teacher's attention");
}

/**
 * The channels to keep, rising. A channel counts by what removing it costs while all others make up for it (optimal brain
 * surgeon, Hassibi and Stork 1993): |w|^2 over the diagonal of the inverse of G'G + ridge.
 */
export async function keptChannels(
  solver: RidgeSolver,
  sums: Sums,
  fc2: FloatTensor,
  count: number,
  ridge: number,
): Promise<number[]> {
  const order = await channelOrder(solver, sums, fc2, ridge);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** All channels, those that matter most first. */
async function channelOrder(solver: RidgeSolver, sums: Sums, fc2: FloatTensor, ridge: number): Promise<number[]> {
  const inverse = await solver.inverseDiagonal(sums, ridgeOf(sums, ridge));
  const [outputs, width] = fc2.dims;
  const cost = Array.from({ length: width }, (_, i) => {
    let square = 0;
    for (let o = 0; o < outputs; o++) square += fc2.data[o * width + i] ** 2;
    return square / inverse[i];
  });
  return cost.map((_, i) => i).sort((a, b) => cost[b] - cost[a]);
}

/** What cuts of one part cost. */
export interface CutCurve {
  /** Squared error over all rows, by what is kept (index: 0 to all). */
  readonly costs: Float64Array;
  /** Heads or channels, those that are kept longest first. */
  readonly order: readonly number[];
}

/**
 * What is left of squared error behind an MLP, over all rows, where it keeps so many channels (index: 0 to all) and fc2 is refitted
 * for them. With the channels to be kept first and L the Cholesky factor of G'G + ridge in this order, the Schur complement of the
 * others is L22 L22', so that the error is the squares of the last rows of L'W = L^-1 (G'G + ridge) W: one factorization gives all.
 */
export async function channelCosts(
  solver: RidgeSolver,
  sums: Sums,
  fc2: FloatTensor,
  ridge: number,
): Promise<CutCurve> {
  const [outputs, width] = fc2.dims;
  // The bias always stays: it is first.
  const order = [width, ...(await channelOrder(solver, sums, fc2, ridge))];
  const n = width + 1;
  const strengths = ridgeOf(sums, ridge);
  const gram = new Float64Array(n * n);
  order.forEach((row, r) => order.forEach((column, c) => (gram[r * n + c] = sums.gram[row * n + column])));
  const map = new Float64Array(n * outputs);
  order.forEach((channel, r) => {
    if (channel < width) for (let o = 0; o < outputs; o++) map[r * outputs + o] = fc2.data[o * width + channel];
  });
  const ordered = Float64Array.from(order, (i) => strengths[i]);
  const cross = await solver.multiply(
    { type: "float64", dims: [n, n], data: gram.map((v, i) => (i % (n + 1) === 0 ? v + ordered[i / (n + 1)] : v)) },
    { type: "float64", dims: [n, outputs], data: map },
  );
  const rows = await solver.solveLower({ n, m: outputs, gram, cross }, ordered);
  const costs = new Float64Array(width + 1);
  for (let kept = width - 1; kept >= 0; kept--) {
    const row = rows.subarray((kept + 1) * outputs, (kept + 2) * outputs);
    costs[kept] = costs[kept + 1] + row.reduce((sum, v) => sum + v * v, 0);
  }
  return { costs, order: order.slice(1) };
}

/** Places of the heads' channels side by side, in the map behind them. */
export function channelsOf(heads: readonly number[], headWidth: number): number[] {
  return heads.flatMap((head) => Array.from({ length: headWidth }, (_, i) => head * headWidth + i));
}

/**
 * The heads to keep, rising. As for channels, a head counts by what removing it costs while all others make up for it: with W
 * its columns of the output map `proj` and S its part of the inverse of G'G + ridge, the trace of W S^-1 W'. One goes after
 * the other; what is left of the map and of the inverse is that without it.
 */
export async function keptHeads(
  solver: RidgeSolver,
  sums: Sums,
  proj: FloatTensor,
  headWidth: number,
  count: number,
  ridge: number,
): Promise<number[]> {
  return (await headsTaken(solver, sums, proj, headWidth, count, ridge)).remaining;
}

/** What is left of squared error behind an attention, over all rows, where it keeps so many heads (index: 0 to all). */
export async function headCosts(
  solver: RidgeSolver,
  sums: Sums,
  proj: FloatTensor,
  headWidth: number,
  ridge: number,
): Promise<CutCurve> {
  const { costs, taken: order } = await headsTaken(solver, sums, proj, headWidth, 0, ridge);
  const all = costs.length;
  const residual = new Float64Array(all + 1);
  costs.forEach((cost, taken) => (residual[all - taken - 1] = residual[all - taken] + cost));
  return { costs: residual, order: order.reverse() };
}

/** Takes heads one after the other until `count` are left; what each costs. */
async function headsTaken(
  solver: RidgeSolver,
  { n, gram }: Sums,
  proj: FloatTensor,
  headWidth: number,
  count: number,
  ridge: number,
): Promise<{ remaining: number[]; taken: number[]; costs: number[] }> {
  const [outputs, mixed] = proj.dims;
  const identity = new Float64Array(n * n);
  for (let i = 0; i < n; i++) identity[i * n + i] = 1;
  const whole: Sums = { n, m: n, gram, cross: identity };
  const inverse = await solver.solve(whole, ridgeOf(whole, ridge));
  // Columns of the map are rows here, so that a head's lie together.
  const map = transposed(proj);
  const remaining = Array.from({ length: mixed / headWidth }, (_, head) => head);
  const costs: number[] = [];
  const taken: number[] = [];
  while (remaining.length > count) {
    let cheapest: { head: number; cost: number; factor: Float64Array; solved: Float64Array } | undefined;
    for (const head of remaining) {
      const from = head * headWidth;
      const headGram = new Float64Array(headWidth * headWidth);
      for (let i = 0; i < headWidth; i++)
        headGram.set(inverse.subarray((from + i) * n + from, (from + i) * n + from + headWidth), i * headWidth);
      const factor = invertedFactor(headGram, headWidth);
      const solved = belowProduct(factor, map.subarray(from * outputs, (from + headWidth) * outputs), outputs);
      const cost = solved.reduce((sum, v) => sum + v * v, 0);
      if (!cheapest || cost < cheapest.cost) cheapest = { head, cost, factor, solved };
    }
    if (!cheapest) break;
    const { head, cost, factor, solved } = cheapest;
    costs.push(cost);
    taken.push(head);
    remaining.splice(remaining.indexOf(head), 1);
    if (remaining.length === count) break;
    const from = head * headWidth;
    const through = belowProduct(factor, inverse.slice(from * n, (from + headWidth) * n), n);
    const rows: Tensor<"float64"> = { type: "float64", dims: [headWidth, n], data: through };
    const lost = await solver.multiplyTransposed(rows, rows);
    for (let i = 0; i < inverse.length; i++) inverse[i] -= lost[i];
    const given = await solver.multiplyTransposed(rows, { type: "float64", dims: [headWidth, outputs], data: solved });
    for (let i = 0; i < map.length; i++) map[i] -= given[i];
  }
  return { remaining, taken, costs };
}

/** A matrix `[o, i]` as `[i, o]`. */
function transposed({ dims: [rows, columns], data }: FloatTensor): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  return out;
}

/** A lower triangular matrix `[n, n]` times `b` `[n, m]`. */
function belowProduct(lower: Float64Array, b: Float64Array, m: number): Float64Array {
  const n = b.length / m;
  const out = new Float64Array(b.length);
  for (let i = 0; i < n; i++)
    for (let k = 0; k <= i; k++) {
      const weight = lower[i * n + k];
      for (let j = 0; j < m; j++) out[i * m + j] += weight * b[k * m + j];
    }
  return out;
}

/**
 * The sums of the kept channels alone (and the bias), with what the others gave among what is missing. `map` `[out, in]` is
 * the map that reads them: fc2, or the attention's output map.
 */
export async function narrowedSums(
  solver: RidgeSolver,
  { n, m, gram, cross }: Sums,
  map: FloatTensor,
  kept: readonly number[],
): Promise<Sums> {
  const width = n - 1;
  const rows = [...kept, width];
  const inside = new Set(kept);
  const dropped = Array.from({ length: width }, (_, i) => i).filter((i) => !inside.has(i));
  const out = emptySums(rows.length, m);
  const shared = new Float64Array(rows.length * dropped.length);
  rows.forEach((row, r) => {
    rows.forEach((column, c) => {
      out.gram[r * rows.length + c] = gram[row * n + column];
    });
    dropped.forEach((column, c) => {
      shared[r * dropped.length + c] = gram[row * n + column];
    });
    out.cross.set(cross.subarray(row * m, (row + 1) * m), r * m);
  });
  const lost = new Float64Array(dropped.length * m);
  dropped.forEach((channel, c) => {
    for (let o = 0; o < m; o++) lost[c * m + o] = map.data[o * width + channel];
  });
  const given = await solver.multiply(
    { type: "float64", dims: [rows.length, dropped.length], data: shared },
    { type: "float64", dims: [dropped.length, m], data: lost },
  );
  for (let i = 0; i < out.cross.length; i++) out.cross[i] += given[i];
  return out;
}

/** The configuration with another shape of one block. All blocks are named, also where they become alike again. */
export function withBlock(config: VitConfig, block: number, shape: Partial<BlockShape>): VitConfig {
  return { ...config, blocks: blockShapes(config).map((each, i) => (i === block ? { ...each, ...shape } : each)) };
}

/** The student with one width for all blocks in its configuration, where they are alike. */
export function settledShapes(student: ModelDefinition): ModelDefinition {
  return { ...student, config: withBlockShapes(student.config, blockShapes(student.config)) };
}

/** The student without some of a block's weights. */
function without(student: ModelDefinition, block: number, shape: Partial<BlockShape>, parts: RegExp): ModelDefinition {
  const weights = new Map(
    [...student.weights].filter(([name]) => {
      const inside = splitBlockName(name);
      return inside?.block !== block || !parts.test(inside.inBlock);
    }),
  );
  return { ...student, weights, config: withBlock(student.config, block, shape) };
}

/** The student with one block's attention narrowed to the kept heads; without its attention where none is kept. */
export function withHeads(student: ModelDefinition, block: number, kept: readonly number[]): ModelDefinition {
  const { config } = student;
  if (kept.length === 0) return without(student, block, { heads: 0 }, /^(norm1|attn|ls1)\./);
  const [queryWidth, valueWidth] = [queryWidthOf(config, block), valueWidthOf(config, block)];
  const channels = channelsOf(kept, valueWidth);
  const rowsKept = (["q", "k", "v"] as const).flatMap((module) => {
    const [first] = qkvRows(config, block, module);
    return channelsOf(kept, module === "v" ? valueWidth : queryWidth).map((channel) => first + channel);
  });
  const attention = `blocks.${block}.attn`;
  const weights = new Map(student.weights);
  for (const name of [`${attention}.qkv.weight`, `${attention}.qkv.bias`]) {
    const joint = weights.get(name);
    if (joint) weights.set(name, chosenRows(joint, rowsKept));
  }
  const proj = `${attention}.proj.weight`;
  weights.set(proj, columnsOf(required(weights, proj), channels));
  return { ...student, weights, config: withBlock(config, block, { heads: kept.length }) };
}

/** Some columns of a map `[out, in]`. */
function columnsOf({ dims, data }: FloatTensor, kept: readonly number[]): FloatTensor {
  const [outputs, width] = dims;
  const columns = new Float32Array(outputs * kept.length);
  for (let o = 0; o < outputs; o++)
    kept.forEach((column, k) => (columns[o * kept.length + k] = data[o * width + column]));
  return { type: "float32", dims: [outputs, kept.length], data: columns };
}

/** The student with one block's MLP narrowed to the kept channels; without its MLP where none is kept. */
export function withChannels(student: ModelDefinition, block: number, kept: readonly number[]): ModelDefinition {
  if (kept.length === 0) return without(student, block, { mlpWidth: 0 }, /^(norm2|mlp|ls2)\./);
  const mlp = `blocks.${block}.mlp`;
  const weights = new Map(student.weights);
  const get = (name: string) => required(weights, name);
  for (const name of [`${mlp}.fc1.weight`, `${mlp}.fc1.bias`]) weights.set(name, chosenRows(get(name), kept));
  weights.set(`${mlp}.fc2.weight`, columnsOf(get(`${mlp}.fc2.weight`), kept));
  return { ...student, weights, config: withBlock(student.config, block, { mlpWidth: kept.length }) };
}
