// Fewer channels in a block's MLP: which to keep, and the maps without the others. What the others gave is made up for by the
// refit of fc2, whose normal equations hold all that is needed (related: CORP, arXiv 2602.05243).
import type { VitConfig } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { RidgeSolver, Sums } from "./ridge.ts";
import { emptySums, meanDiagonal } from "./ridge.ts";

/** Whether MLPs can lose channels: not where they are gated or shared, or where pooling has one of their width. */
export function canNarrow({ mlp, pooling, sharing }: VitConfig): boolean {
  return mlp === "plain" && pooling !== "attention" && !sharing;
}

/** Channels that an MLP keeps: a count, or a share below 1. Throws a UserError where the teacher's MLP can't be narrowed. */
export function narrowWidth({ config }: ModelDefinition, wanted: number): number {
  const { mlpWidth } = config;
  if (!canNarrow(config))
    throw new UserError("the MLPs of this teacher can't be narrowed (gated, shared, or used by its pooling too)");
  const width = wanted < 1 ? Math.max(1, Math.round(wanted * mlpWidth)) : wanted;
  if (!(Number.isInteger(width) && width <= mlpWidth))
    throw new UserError(`the teacher's MLPs have ${mlpWidth} channels; ${wanted} can't be kept`);
  return width;
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
  const inverse = await solver.inverseDiagonal(sums, ridge * meanDiagonal(sums));
  const [outputs, width] = fc2.dims;
  const cost = Array.from({ length: width }, (_, i) => {
    let square = 0;
    for (let o = 0; o < outputs; o++) square += fc2.data[o * width + i] ** 2;
    return square / inverse[i];
  });
  const order = cost.map((_, i) => i).sort((a, b) => cost[b] - cost[a]);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** The sums of the kept channels alone (and the bias), with what the others gave among what is missing. */
export async function narrowedSums(
  solver: RidgeSolver,
  { n, m, gram, cross }: Sums,
  fc2: FloatTensor,
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
    for (let o = 0; o < m; o++) lost[c * m + o] = fc2.data[o * width + channel];
  });
  const given = await solver.multiply(
    { type: "float64", dims: [rows.length, dropped.length], data: shared },
    { type: "float64", dims: [dropped.length, m], data: lost },
  );
  for (let i = 0; i < out.cross.length; i++) out.cross[i] += given[i];
  return out;
}

/** The student with one block's MLP narrowed to the kept channels. Its configuration still says the old width. */
export function withChannels(student: ModelDefinition, block: number, kept: readonly number[]): ModelDefinition {
  const weights = new Map(student.weights);
  const get = (name: string) => weights.get(`blocks.${block}.mlp.${name}`) as FloatTensor;
  const [fc1, bias, fc2] = [get("fc1.weight"), get("fc1.bias"), get("fc2.weight")];
  const [outputs, width] = fc2.dims;
  const inputs = fc1.dims[1];
  const rows = new Float32Array(kept.length * inputs);
  const columns = new Float32Array(outputs * kept.length);
  kept.forEach((channel, k) => {
    rows.set(fc1.data.subarray(channel * inputs, (channel + 1) * inputs), k * inputs);
    for (let o = 0; o < outputs; o++) columns[o * kept.length + k] = fc2.data[o * width + channel];
  });
  const put = (name: string, dims: readonly number[], data: Float32Array) =>
    weights.set(`blocks.${block}.mlp.${name}`, { type: "float32", dims, data });
  put("fc1.weight", [kept.length, inputs], rows);
  put(
    "fc1.bias",
    [kept.length],
    Float32Array.from(kept, (channel) => bias.data[channel]),
  );
  put("fc2.weight", [outputs, kept.length], columns);
  return { ...student, weights };
}
