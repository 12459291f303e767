// Fewer channels of each head's queries and keys, with the attention logits made up for (CORP, arXiv 2602.05243): the logits of the
// removed channels, q_p k_p', are modelled as q_s M k_s' of those kept, so that q_s (I + M) k_s' stands for all, and I + M is folded
// into the map of queries.
import { pause } from "../../utils/pause.ts";
import { picked } from "./moments.ts";

/** One head in one image: sums over tokens of q~ q~' `[d + 1, d + 1]`, where q~ is q with a one behind it, and of k k' `[d, d]`. */
export interface HeadMoments {
  readonly queries: Float64Array;
  readonly keys: Float64Array;
}

/** What stays of a head's queries and keys, and the map `[d_s + 1, d_s]` from q_s with a one to the new queries. */
export interface LogitFit {
  readonly kept: readonly number[];
  readonly fold: Float64Array;
}

/** Moments of a head in an image from sums of q q', q and k k'. */
export function headMoments(
  queryGram: Float32Array,
  querySum: Float32Array,
  keyGram: Float32Array,
  tokens: number,
): HeadMoments {
  const d = querySum.length;
  const n = d + 1;
  const queries = new Float64Array(n * n);
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < d; j++) queries[i * n + j] = queryGram[i * d + j];
    queries[i * n + d] = queries[d * n + i] = querySum[i];
  }
  queries[n * n - 1] = tokens;
  return { queries, keys: Float64Array.from(keyGram) };
}

/** Each channel's part in the logits: the mean over images of its sum of q^2 times its sum of k^2. */
export function logitEnergies(images: readonly HeadMoments[], d: number): Float64Array {
  const energies = new Float64Array(d);
  for (const { queries, keys } of images)
    for (let i = 0; i < d; i++) energies[i] += (queries[i * (d + 1) + i] * keys[i * d + i]) / images.length;
  return energies;
}

/** a b of `[n, k]` and `[k, m]`. */
function product(a: Float64Array, b: Float64Array, n: number, k: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < k; j++) {
      const weight = a[i * k + j];
      if (weight !== 0) for (let c = 0; c < m; c++) out[i * m + c] += weight * b[j * m + c];
    }
  return out;
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** The share of its first length that the residual must fall below, and the most steps until then. */
const [enough, mostSteps] = [1e-6, 200];

/**
 * M `[n, m]` with sum_b A_b M B_b + ridge M = C for symmetric A_b `[n, n]` and B_b `[m, m]`, by conjugate gradients: the matrix of
 * the system, sum_b A_b (x) B_b, would have n^2 m^2 entries. The diagonal of the system is its preconditioner. Rejects with the
 * signal's reason once it fires.
 */
export async function solveSandwich(
  pairs: readonly { readonly a: Float64Array; readonly b: Float64Array }[],
  right: Float64Array,
  n: number,
  m: number,
  ridge: number,
  signal: AbortSignal,
): Promise<Float64Array> {
  const diagonal = new Float64Array(n * m).fill(ridge);
  for (const { a, b } of pairs)
    for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) diagonal[i * m + j] += a[i * n + i] * b[j * m + j];
  const apply = (x: Float64Array) => {
    const out = x.map((value) => ridge * value);
    for (const { a, b } of pairs) product(product(a, x, n, n, m), b, n, m, m).forEach((value, i) => (out[i] += value));
    return out;
  };
  const solution = new Float64Array(n * m);
  const residual = right.slice();
  const goal = enough ** 2 * dot(right, right);
  let scaled = residual.map((value, i) => value / diagonal[i]);
  let direction = scaled.slice();
  let rho = dot(residual, scaled);
  for (let step = 0; step < mostSteps && dot(residual, residual) > goal; step++) {
    // Other work gets its turn, such as a signal.
    await pause(0, signal);
    const applied = apply(direction);
    const length = rho / dot(direction, applied);
    for (let i = 0; i < solution.length; i++) {
      solution[i] += length * direction[i];
      residual[i] -= length * applied[i];
    }
    scaled = residual.map((value, i) => value / diagonal[i]);
    const next = dot(residual, scaled);
    const carried = next / rho;
    direction = direction.map((value, i) => scaled[i] + carried * value);
    rho = next;
  }
  return solution;
}

/**
 * The fit of a head's narrowed logits: minimizes over images the squared difference of q_p k_p' and [q_s 1] M k_s', with a ridge that
 * is `share` of the mean of the system's diagonal. Without `biased` no one stands behind q_s, for models whose queries have no bias.
 */
export async function fitLogits(
  images: readonly HeadMoments[],
  d: number,
  kept: readonly number[],
  { share, biased, signal }: { readonly share: number; readonly biased: boolean; readonly signal: AbortSignal },
): Promise<LogitFit> {
  const inside = new Set(kept);
  const dropped = Array.from({ length: d }, (_, i) => i).filter((i) => !inside.has(i));
  const rows = biased ? [...kept, d] : [...kept];
  const [n, m] = [rows.length, kept.length];
  const right = new Float64Array(n * m);
  let trace = 0;
  const pairs = images.map(({ queries, keys }) => {
    const a = picked(queries, d + 1, rows, rows);
    const b = picked(keys, d, kept, kept);
    const across = picked(queries, d + 1, rows, dropped);
    product(across, picked(keys, d, dropped, kept), n, dropped.length, m).forEach((value, i) => (right[i] += value));
    const traceOf = (matrix: Float64Array, size: number) =>
      Array.from({ length: size }, (_, i) => matrix[i * size + i]).reduce((sum, value) => sum + value, 0);
    trace += traceOf(a, n) * traceOf(b, m);
    return { a, b };
  });
  const ridge = Math.max((share * trace) / (n * m), Number.MIN_VALUE);
  const solved = await solveSandwich(pairs, right, n, m, ridge, signal);
  const fold = new Float64Array((m + 1) * m);
  fold.set(solved);
  for (let i = 0; i < m; i++) fold[i * m + i] += 1;
  return { kept, fold };
}
