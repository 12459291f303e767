// Moments of what enters a map, and maps refitted for fewer inputs by them.
import type { RidgeSolver } from "../../engine/linalg/ridge.ts";
import { meanDiagonal } from "../../engine/linalg/ridge.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";

/** Sums over the tokens x `[n]` that enter a map. */
export interface Moments {
  readonly n: number;
  /** How many tokens. */
  readonly count: number;
  /** `[n, n]`: the sum of x x' */
  readonly gram: Float64Array;
  /** `[n]`: the sum of x */
  readonly sum: Float64Array;
}

export const emptyMoments = (n: number): Moments => ({
  n,
  count: 0,
  gram: new Float64Array(n * n),
  sum: new Float64Array(n),
});

/** Moments with a batch's added in place: its own `gram` `[n, n]`, or its diagonal `[n]`, and `sum` `[n]` over `count` tokens. */
export function addMoments(into: Moments, gram: Float32Array, sum: Float32Array, count: number): Moments {
  const step = gram.length === into.n ? into.n + 1 : 1;
  gram.forEach((value, i) => (into.gram[i * step] += value));
  sum.forEach((value, i) => (into.sum[i] += value));
  return { ...into, count: into.count + count };
}

/** The L2 norm of each input over all tokens: `[n]`. */
export const inputNorms = ({ n, gram }: Moments): Float64Array =>
  Float64Array.from({ length: n }, (_, i) => Math.sqrt(gram[i * n + i]));

/** Moments about the mean: the sum of (x - mean)(x - mean)'. */
export function centred({ n, count, gram, sum }: Moments): Moments {
  const out = gram.slice();
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[i * n + j] -= (sum[i] * sum[j]) / count;
  return { n, count, gram: out, sum: new Float64Array(n) };
}

/** Some rows and columns of a square matrix `[n, n]`. */
export function picked(matrix: ArrayLike<number>, n: number, rows: readonly number[], columns: readonly number[]) {
  const out = new Float64Array(rows.length * columns.length);
  rows.forEach((row, r) => columns.forEach((column, c) => (out[r * columns.length + c] = matrix[row * n + column])));
  return out;
}

/** Some inputs of a map `[out, in]` as `[inputs, out]`. */
function inputRows({ dims: [outputs, width], data }: FloatTensor, inputs: readonly number[]): Tensor<"float64"> {
  const rows = new Float64Array(inputs.length * outputs);
  inputs.forEach((i, r) => {
    for (let o = 0; o < outputs; o++) rows[r * outputs + o] = data[o * width + i];
  });
  return { type: "float64", dims: [inputs.length, outputs], data: rows };
}

const everyInput = (n: number) => Array.from({ length: n }, (_, i) => i);
const withoutInputs = (n: number, kept: readonly number[]) => {
  const inside = new Set(kept);
  return everyInput(n).filter((i) => !inside.has(i));
};

/** X `[kept, out]` with (G_KK + ridge I) X = G_KJ W_J', where the ridge is a share of the mean of G's diagonal. */
async function solved(
  solver: RidgeSolver,
  { n, gram }: Moments,
  map: FloatTensor,
  kept: readonly number[],
  given: readonly number[],
  share: number,
): Promise<Float64Array> {
  const [outputs] = map.dims;
  const across: Tensor<"float64"> = {
    type: "float64",
    dims: [kept.length, given.length],
    data: picked(gram, n, kept, given),
  };
  const cross = await solver.multiply(across, inputRows(map, given));
  const ridge = share * meanDiagonal({ n, m: 0, gram, cross });
  const sums = { n: kept.length, m: outputs, gram: picked(gram, n, kept, kept), cross };
  return solver.solve(sums, new Float64Array(kept.length).fill(Math.max(ridge, Number.MIN_VALUE)));
}

/** `[inputs, out]` as a map `[out, inputs]`. */
function asMap(rows: ArrayLike<number>, inputs: number): FloatTensor {
  const outputs = rows.length / inputs;
  const data = new Float32Array(rows.length);
  for (let i = 0; i < inputs; i++) for (let o = 0; o < outputs; o++) data[o * inputs + i] = rows[i * outputs + o];
  return { type: "float32", dims: [outputs, inputs], data };
}

/**
 * W B `[out, kept]`, where B = G_:K (G_KK + ridge I)^-1 rebuilds all inputs from those kept (GRAIL, arXiv 2602.23795).
 */
export async function rebuiltMap(
  solver: RidgeSolver,
  moments: Moments,
  map: FloatTensor,
  kept: readonly number[],
  share: number,
): Promise<FloatTensor> {
  return asMap(await solved(solver, moments, map, kept, everyInput(moments.n), share), kept.length);
}

/**
 * W_K + W_D G_DK (G_KK + ridge I)^-1 `[out, kept]`: the change of the kept weights that makes up best for those removed, D (optimal
 * brain surgeon, Hassibi and Stork 1993, for many inputs at once; SparseGPT, arXiv 2301.00774, takes them one by one).
 */
export async function correctedMap(
  solver: RidgeSolver,
  moments: Moments,
  map: FloatTensor,
  kept: readonly number[],
  share: number,
): Promise<FloatTensor> {
  const dropped = withoutInputs(moments.n, kept);
  const rows = inputRows(map, kept);
  if (dropped.length === 0) return asMap(rows.data, kept.length);
  const change = await solved(solver, moments, map, kept, dropped, share);
  return asMap(
    rows.data.map((weight, i) => weight + change[i]),
    kept.length,
  );
}

/**
 * The map `[out, kept]` and what its bias `[out]` gains where the removed inputs are affine in those kept, x_D = B x_K + c (CORP,
 * arXiv 2602.05243): B by ridge regression about the means, c from the means.
 */
export async function affineMap(
  solver: RidgeSolver,
  moments: Moments,
  map: FloatTensor,
  kept: readonly number[],
  share: number,
): Promise<{ map: FloatTensor; bias: Float64Array }> {
  const [outputs, width] = map.dims;
  const changed = await correctedMap(solver, centred(moments), map, kept, share);
  const mean = moments.sum.map((sum) => sum / moments.count);
  // W mean is what the map gave on average, W' mean_K is what the narrow one gives.
  const bias = new Float64Array(outputs);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < width; i++) bias[o] += map.data[o * width + i] * mean[i];
    kept.forEach((input, k) => (bias[o] -= changed.data[o * kept.length + k] * mean[input]));
  }
  return { map: changed, bias };
}
