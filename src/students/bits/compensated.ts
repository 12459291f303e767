// Rounding that makes up for its own errors: the optimal brain surgeon, column by column, as GPTQ does it (arXiv 2210.17323).
//
// The error of a map's outputs is e'He for each output, with e the change of its weights and H = G'G + ridge the sums over the
// tokens that enter it. With the Cholesky factor H = LL' it is |L'e|^2, and row j of L'e holds e_j and the errors of later
// columns alone. So columns are rounded from the last to the first, each moved beforehand by what makes its row zero for the
// errors behind it: w_j + sum over k > j of L_kj / L_jj e_k. This is GPTQ's rounding without an inverse of H (the order is
// turned round; Babai's nearest plane). The bias is the first column and is not rounded, so that it makes up for all.
import type { Tensor } from "../../utils/tensor.ts";
import type { BlockFormat, BlockWeights } from "./block-weights.ts";
import { blockCount, emptyBlocks, GridFitter, valueOf } from "./block-weights.ts";

/**
 * Columns of G in the order in which they are factored: the bias (column K) first where the map has one, then blocks and the
 * inputs in them by G'G's diagonal, so that the largest are rounded first, while all others can still make up for them.
 */
export function roundingOrder(diagonal: Float64Array, inputs: number, blockSize: number, hasBias: boolean): Int32Array {
  const blocks = Array.from({ length: blockCount(inputs, blockSize) }, (_, b) => {
    const columns = Array.from({ length: Math.min(blockSize, inputs - b * blockSize) }, (_, i) => b * blockSize + i);
    const size = columns.reduce((sum, k) => sum + diagonal[k], 0) / columns.length;
    return { size, columns: columns.sort((i, j) => diagonal[i] - diagonal[j] || i - j) };
  });
  blocks.sort((a, b) => a.size - b.size || a.columns[0] - b.columns[0]);
  return Int32Array.from([...(hasBias ? [inputs] : []), ...blocks.flatMap(({ columns }) => columns)]);
}

/** Rows and columns of a symmetric matrix `[n, n]` in another order. */
export function reordered(matrix: Float64Array, order: Int32Array): Float64Array {
  const n = order.length;
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = order[i] * n;
    for (let j = 0; j < n; j++) out[i * n + j] = matrix[row + order[j]];
  }
  return out;
}

/** What is to be rounded. */
export interface RoundingTask {
  /** Weights as they would be without rounding, input by input `[K, N]`, and the bias as the last row where there is one. */
  readonly target: Float64Array;
  readonly outputs: number;
  readonly inputs: number;
  /** Cholesky factor `[n, n]` of H in `order`. */
  readonly factor: Float64Array;
  readonly order: Int32Array;
}

/** A rounded map, and the bias that goes with it. */
export interface Rounded {
  readonly weights: BlockWeights;
  readonly bias?: Float64Array;
}

/** Adds to `into` `[N]` the errors of columns `from` to `to`, each by its share L_kj / L_jj for column `j`. */
function addErrors(
  into: Float64Array,
  errors: Float64Array,
  { factor, outputs: N, order: { length: n } }: RoundingTask,
  j: number,
  [from, to]: readonly [number, number],
): void {
  const pivot = 1 / factor[j * n + j];
  const share = (k: number) => factor[k * n + j] * pivot;
  let k = from;
  // Four columns at a time: sums are read and written a quarter as often.
  for (; k + 3 < to; k += 4) {
    const [a, b, c, d] = [share(k), share(k + 1), share(k + 2), share(k + 3)];
    const [ka, kb, kc, kd] = [k * N, (k + 1) * N, (k + 2) * N, (k + 3) * N];
    for (let i = 0; i < N; i++)
      into[i] += a * errors[ka + i] + b * errors[kb + i] + c * errors[kc + i] + d * errors[kd + i];
  }
  for (; k < to; k++) {
    const [a, at] = [share(k), k * N];
    for (let i = 0; i < N; i++) into[i] += a * errors[at + i];
  }
}

/** Fits the grids of the block at positions `from` to `to` to its columns as they are when it is reached. */
function fitGrids(
  weights: BlockWeights,
  moved: readonly Float64Array[],
  block: number,
  importance: Float64Array,
): void {
  const { outputs, inputs, blockSize } = weights;
  const blocks = blockCount(inputs, blockSize);
  const row = new Float64Array(moved.length);
  const fitter = new GridFitter(weights);
  for (let i = 0; i < outputs; i++) {
    for (let c = 0; c < moved.length; c++) row[c] = moved[c][i];
    const { scale, zero } = fitter.fit(row, importance, moved.length);
    weights.scales[i * blocks + block] = scale;
    weights.zeros[i * blocks + block] = zero;
  }
}

/** Columns that are moved together by the errors behind them all, in one product; within them errors are added one by one. */
const groupSize = 128;

/** `a b` for `[p, k]` and `[k, q]`. */
export type Multiply = (a: Tensor<"float64">, b: Tensor<"float64">) => Promise<Float64Array>;

/** What errors of the columns from `to` on add to those from `from` to `to`: `[to - from, N]`. */
async function behindGroup(
  { factor, outputs: N, order: { length: n } }: RoundingTask,
  errors: Float64Array,
  [from, to]: readonly [number, number],
  multiply: Multiply,
): Promise<Float64Array> {
  const [columns, later] = [to - from, n - to];
  if (later === 0) return new Float64Array(columns * N);
  const shares = new Float64Array(columns * later);
  for (let c = 0; c < columns; c++) {
    const pivot = 1 / factor[(from + c) * (n + 1)];
    for (let k = 0; k < later; k++) shares[c * later + k] = factor[(to + k) * n + from + c] * pivot;
  }
  return multiply(
    { type: "float64", dims: [columns, later], data: shares },
    { type: "float64", dims: [later, N], data: errors.slice(to * N) },
  );
}

/** A group of columns, and what errors behind it move each by: `[to - from, N]`. */
interface Group {
  readonly from: number;
  readonly to: number;
  readonly behind: Float64Array;
}

/** The columns from `from` to `to`, as errors behind the group of theirs have moved them. */
function movedColumns({ target, outputs: N, order }: RoundingTask, group: Group, from: number, to: number) {
  return Array.from({ length: to - from }, (_, c) => {
    const at = (from + c - group.from) * N;
    const column = group.behind.slice(at, at + N);
    for (let i = 0; i < N; i++) column[i] += target[order[from + c] * N + i];
    return column;
  });
}

/** Rounds the block at positions `from` to `to`, and writes down its errors. */
function roundBlock(
  task: RoundingTask,
  { weights, errors }: { readonly weights: BlockWeights; readonly errors: Float64Array },
  group: Group,
  [from, to]: readonly [number, number],
): void {
  const { target, outputs: N, inputs, factor, order } = task;
  const n = order.length;
  const { blockSize, bits } = weights;
  const blocks = blockCount(inputs, blockSize);
  const block = Math.floor(order[from] / blockSize);
  const most = 2 ** bits - 1;
  const moved = movedColumns(task, group, from, to);
  const importance = new Float64Array(to - from);
  for (let j = from; j < to; j++) {
    addErrors(moved[j - from], errors, task, j, [to, group.to]);
    importance[j - from] = factor[j * n + j] ** 2;
  }
  fitGrids(weights, moved, block, importance);
  for (let j = to - 1; j >= from; j--) {
    const [column, k] = [moved[j - from], order[j]];
    addErrors(column, errors, task, j, [j + 1, to]);
    for (let i = 0; i < N; i++) {
      const at = i * blocks + block;
      const [scale, zero] = [weights.scales[at], weights.zeros[at]];
      const value = valueOf(column[i], scale, zero, most);
      weights.values[i * inputs + k] = value;
      errors[j * N + i] = target[k * N + i] - scale * (value - zero);
    }
  }
}

/** Rounds a map column by column; errors move the columns that are not rounded yet. */
export async function roundCompensated(task: RoundingTask, format: BlockFormat, multiply: Multiply): Promise<Rounded> {
  const { target, outputs: N, inputs, order } = task;
  const n = order.length;
  const weights = emptyBlocks(N, inputs, format);
  const errors = new Float64Array(n * N);
  const first = n - inputs;
  /** Where the block begins that ends at a position. */
  const blockFrom = (to: number) => {
    const block = Math.floor(order[to - 1] / format.blockSize);
    return to - Math.min(format.blockSize, inputs - block * format.blockSize);
  };
  for (let groupTo = n; groupTo > first;) {
    // Whole blocks, as many as fill a group.
    let groupFrom = groupTo;
    while (groupFrom > first && groupTo - groupFrom < groupSize) groupFrom = blockFrom(groupFrom);
    const behind = await behindGroup(task, errors, [groupFrom, groupTo], multiply);
    const group = { from: groupFrom, to: groupTo, behind };
    for (let to = groupTo; to > groupFrom; to = blockFrom(to))
      roundBlock(task, { weights, errors }, group, [blockFrom(to), to]);
    groupTo = groupFrom;
  }
  if (first === 0) return { weights };
  const bias = target.slice(inputs * N, (inputs + 1) * N);
  addErrors(bias, errors, task, 0, [1, n]);
  return { weights, bias };
}
