// Queries and keys of fewer channels. A head only uses the products q k', and these have few directions that matter: of the demo's
// teacher a quarter of them holds 99 % (dev/shape.md). So each head's queries and keys are multiplied by matrices A and B of `r`
// columns that leave least of the squared products over all pairs of tokens:
//
//   min |Q (I - A B') K'|^2,   with C = Q'Q and D = L L' = K'K:   L' C L = V S V',   A = L V_r,   B = L'^-1 V_r
//
// which is the singular value decomposition of C^1/2 L, cut off behind r (related: CORP, arXiv 2602.05243, which keeps channels as they
// are). Keys are taken about their mean, since a softmax does not see what all scores of a query have in common. C and D come from
// the sums of what enters the maps. Rotated queries and keys can't be mixed like this.
import { blockShape, qkvRows, queryWidthOf } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { RidgeSolver, Sums } from "../../engine/linalg/ridge.ts";
import { aboutMean } from "../../engine/linalg/ridge.ts";
import { required } from "../../utils/required.ts";
import type { Tensor } from "../../utils/tensor.ts";
import type { Directions } from "./head-directions.ts";
import { firstChannels, firstColumns, narrower, withTurnedHeads } from "./head-matrices.ts";
import { withBlock } from "./narrowing.ts";

/** One head's queries and keys, ordered by how much of their products each direction holds. */
export interface HeadQueries {
  /** `[d, d]`, column by column: A and B for all directions, balanced. */
  readonly queries: Float64Array;
  readonly keys: Float64Array;
  /** `[d]`, falling: what each direction holds of the squared products. */
  readonly energies: Float64Array;
}

/** Directions of a block's queries and keys by sums `[D + 1, D + 1]` of what enters them, with a column of ones. */
export async function headQueries(
  solver: RidgeSolver,
  sums: Pick<Sums, "n" | "gram">,
  student: ModelDefinition,
  block: number,
): Promise<HeadQueries[]> {
  const { heads } = blockShape(student.config, block);
  const d = queryWidthOf(student.config, block);
  const covariances = async (module: "q" | "k") => {
    const [from, to] = qkvRows(student.config, block, module);
    const rows = mapRows(student, block, from, to, sums.n);
    const gram = module === "k" ? aboutMean(sums) : sums.gram;
    const product = await solver.multiply(rows, { type: "float64", dims: [sums.n, sums.n], data: gram });
    return Array.from({ length: heads }, (_, head) => inner(product, rows.data, head * d, d, sums.n));
  };
  const [queries, keys] = [await covariances("q"), await covariances("k")];
  const { headDirections } = await import("./head-directions.ts");
  return queries.map((c, head) => balanced(headDirections(keys[head], c, d)));
}

/** Rows of a block's joint map with their biases: `[to - from, n]`, n inputs with the one for the bias. */
function mapRows({ weights }: ModelDefinition, block: number, from: number, to: number, n: number): Tensor<"float64"> {
  const { data } = required(weights, `blocks.${block}.attn.qkv.weight`);
  const bias = weights.get(`blocks.${block}.attn.qkv.bias`)?.data;
  const rows = new Float64Array((to - from) * n);
  for (let r = 0; r < to - from; r++) {
    rows.set(data.subarray((from + r) * (n - 1), (from + r + 1) * (n - 1)), r * n);
    rows[(r + 1) * n - 1] = bias?.[from + r] ?? 0;
  }
  return { type: "float64", dims: [to - from, n], data: rows };
}

/** `[d, d]`: rows from `from` on of one matrix times those of another, both of `n` columns. */
function inner(a: Float64Array, b: Float64Array, from: number, d: number, n: number): Float64Array {
  const out = new Float64Array(d * d);
  for (let i = 0; i < d; i++)
    for (let j = 0; j < d; j++)
      for (let k = 0; k < n; k++) out[i * d + j] += a[(from + i) * n + k] * b[(from + j) * n + k];
  return out;
}

/** Queries and keys are to be of one size, as numbers in few bits want it. */
function balanced({ forward, inverse, energies }: Directions): HeadQueries {
  const d = energies.length;
  const balance = energies.map((energy) => Math.max(energy, 1e-12 * energies[0]) ** 0.25 || 1);
  return {
    queries: forward.map((value, i) => value / balance[i % d]),
    keys: inverse.map((value, i) => value * balance[i % d]),
    energies,
  };
}

/** The student whose heads in one block keep so many directions of their queries and keys. */
export function withNarrowQueries(
  student: ModelDefinition,
  block: number,
  heads: readonly HeadQueries[],
  queryWidth: number,
): ModelDefinition {
  const d = heads[0].energies.length;
  // Attention divides by the square root of a query's width.
  const scale = Math.sqrt(queryWidth / d);
  const queries = heads.map((head) => firstColumns(head.queries, d, queryWidth).map((v) => scale * v));
  const keys = heads.map((head) => firstColumns(head.keys, d, queryWidth));
  return withQueries(student, block, queries, keys, queryWidth);
}

/** The student with the first channels of each head's queries and keys in a block, where its shape asks for fewer than it has. */
export function withFirstQueries(student: ModelDefinition, block: number, wanted: number | undefined): ModelDefinition {
  const width = narrowerQueries(student, block, wanted);
  if (width === undefined) return student;
  const first = firstChannels(queryWidthOf(student.config, block), width);
  const all = new Array<Float64Array>(blockShape(student.config, block).heads).fill(first);
  return withQueries(student, block, all, all, width);
}

/** The student whose queries and keys in a block are multiplied by matrices `[d, queryWidth]`, one for each head. */
function withQueries(
  student: ModelDefinition,
  block: number,
  queries: readonly Float64Array[],
  keys: readonly Float64Array[],
  queryWidth: number,
): ModelDefinition {
  const weights = withTurnedHeads(student, block, { q: queries, k: keys });
  return { ...student, weights, config: withBlock(student.config, block, { queryWidth }) };
}

/** Channels of a block's queries that a shape asks for, where they are fewer than it has. */
export const narrowerQueries = (
  { config }: ModelDefinition,
  block: number,
  wanted: number | undefined,
): number | undefined => narrower(queryWidthOf(config, block), wanted);
