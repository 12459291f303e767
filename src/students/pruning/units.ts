// What pruning methods remove: whole heads and MLP channels. Scores say which of a block's units stay; all blocks keep as many,
// so that students have the shapes of students/search/shape.ts and methods are compared at equal size.
import type { VitConfig } from "../../models/config.ts";
import { headWidthOf, qkvRows } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { blockWeight } from "../../models/weight-table.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { required } from "../../utils/required.ts";
import type { Widths } from "../closed-form/narrowing.ts";
import { narrowedConfig, withChannels, withHeads } from "../closed-form/narrowing.ts";

/** Scores of one block's units: the larger, the longer a unit stays. */
export interface UnitScores {
  /** `[heads]` */
  readonly heads: ArrayLike<number>;
  /** `[mlpWidth]` */
  readonly channels: ArrayLike<number>;
}

/** The places of the `count` largest scores, rising; of equal ones the first stay. */
export function keepLargest(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** The weight of one of a block's maps. */
export const blockMap = ({ weights }: Pick<ModelDefinition, "weights">, block: number, name: string): FloatTensor =>
  required(weights, blockWeight(block, name));

/** The sums of squares of each row of a map `[out, in]`. */
export function rowSquares({ dims: [outputs, width], data }: FloatTensor): Float64Array {
  const sums = new Float64Array(outputs);
  for (let o = 0; o < outputs; o++) for (let i = 0; i < width; i++) sums[o] += data[o * width + i] ** 2;
  return sums;
}

/** The sums over each column of a map `[out, in]` of what `of` makes of its weights. */
export function columnSums(
  { dims: [outputs, width], data }: FloatTensor,
  of: (weight: number) => number,
): Float64Array {
  const sums = new Float64Array(width);
  for (let o = 0; o < outputs; o++) for (let i = 0; i < width; i++) sums[i] += of(data[o * width + i]);
  return sums;
}

/** Sums over each head's channels, of values that lie head by head. */
export function headSums(values: ArrayLike<number>, config: Pick<VitConfig, "width" | "heads" | "headWidth">) {
  const headWidth = headWidthOf(config);
  const sums = new Float64Array(config.heads);
  for (let i = 0; i < sums.length * headWidth; i++) sums[Math.floor(i / headWidth)] += values[i];
  return sums;
}

/**
 * The L2 norms of the weights that go with each unit: a head's rows of q, k and v and its columns of the output map, a channel's
 * row of fc1 and its column of fc2. Biases don't count.
 */
export function magnitudeScores(student: ModelDefinition, block: number): UnitScores {
  const { config } = student;
  const square = (weight: number) => weight * weight;
  const entering = rowSquares(blockMap(student, block, "attn.qkv.weight"));
  const leaving = columnSums(blockMap(student, block, "attn.proj.weight"), square);
  const [q, k, v] = (["q", "k", "v"] as const).map((module) => qkvRows(config, block, module)[0]);
  const attention = leaving.map((sum, i) => sum + entering[q + i] + entering[k + i] + entering[v + i]);
  const channels = rowSquares(blockMap(student, block, "mlp.fc1.weight"));
  const behind = columnSums(blockMap(student, block, "mlp.fc2.weight"), square);
  return {
    heads: headSums(attention, config).map(Math.sqrt),
    channels: channels.map((sum, i) => Math.sqrt(sum + behind[i])),
  };
}

/** The student whose blocks keep the units with the largest scores; nothing makes up for the others. */
export function withLargest(
  student: ModelDefinition,
  widths: Widths,
  scoresOf: (block: number) => UnitScores,
): ModelDefinition {
  const { mlpWidth, keptHeads } = widths;
  let narrowed = student;
  for (let block = 0; block < student.config.depth; block++) {
    const scores = scoresOf(block);
    if (keptHeads !== undefined) narrowed = withHeads(narrowed, block, keepLargest(scores.heads, keptHeads));
    if (mlpWidth !== undefined) narrowed = withChannels(narrowed, block, keepLargest(scores.channels, mlpWidth));
  }
  return { ...narrowed, config: narrowedConfig(student.config, widths) };
}
