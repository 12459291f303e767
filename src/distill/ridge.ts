// Ridge regression from sums over tokens: (G'G + lambda I) D = G'R in float64, by a Cholesky factorization in blocks
// whose products run on ONNX Runtime.
import { compile } from "../compile.ts";
import { graph, input, matmul, sub, transposeLast } from "../graph/build.ts";
import type { Device, Session } from "../runtime/types.ts";
import { RunError } from "../utils/errors.ts";
import type { Tensor } from "../utils/tensor.ts";

/** Sums over rows g (unknowns' inputs) and r (what is to be explained). */
export interface Sums {
  /** Unknowns and right-hand sides. */
  readonly n: number;
  readonly m: number;
  /** `[n, n]`: G'G */
  readonly gram: Float64Array;
  /** `[n, m]`: G'R */
  readonly cross: Float64Array;
}

export function emptySums(n: number, m: number): Sums {
  return { n, m, gram: new Float64Array(n * n), cross: new Float64Array(n * m) };
}

/** Adds one set of sums to another. */
export function addSums(
  into: Sums,
  more: { readonly gram: ArrayLike<number>; readonly cross: ArrayLike<number> },
): void {
  for (let i = 0; i < into.gram.length; i++) into.gram[i] += more.gram[i];
  for (let i = 0; i < into.cross.length; i++) into.cross[i] += more.cross[i];
}

/** The mean of G'G's diagonal: what a ridge is a multiple of. */
export function meanDiagonal({ n, gram }: Sums): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += gram[i * n + i];
  return sum / n;
}

/** Rows and columns that are factored at once. */
const panel = 128;

/** Solves symmetric positive definite systems; holds a session for its products. */
export class RidgeSolver {
  private readonly device: Device;
  private session: Session | undefined;

  constructor(device: Device) {
    this.device = device;
  }

  /** a - b c, or a - b c' where transposed; `[p, q]`, `[p, k]`, `[k, q]` or `[q, k]`. */
  private async subtractProduct(a: Matrix, b: Matrix, c: Matrix): Promise<Matrix> {
    this.session ??= await compile(productGraph(), this.device);
    const tensor = ({ rows, columns, data }: Matrix): Tensor => ({ type: "float64", dims: [rows, columns], data });
    const { tensors } = await this.session.run({ feeds: { a: tensor(a), b: tensor(b), c: tensor(c) }, fetch: ["y"] });
    return { rows: a.rows, columns: a.columns, data: tensors.y.data as Float64Array };
  }

  /**
   * D `[n, m]` with (G'G + ridge I) D = G'R. Throws a RunError where the system is not positive definite, which a ridge
   * above zero rules out for sums that are finite.
   */
  async solve({ n, m, gram, cross }: Sums, ridge: number): Promise<Float64Array> {
    const lower = { rows: n, columns: n, data: gram.slice() };
    for (let i = 0; i < n; i++) lower.data[i * n + i] += ridge;
    const right = { rows: n, columns: m, data: cross.slice() };
    // Factor, and solve L Z = G'R on the way.
    for (let k = 0; k < n; k += panel) {
      const end = Math.min(n, k + panel);
      factorDiagonal(lower, k, end);
      solveRows(lower, right, k, end);
      if (end === n) break;
      solvePanel(lower, k, end);
      const below = block(lower, end, n, k, end);
      put(lower, end, end, await this.subtractProduct(block(lower, end, n, end, n), below, below));
      const solved = transposed(block(right, k, end, 0, m));
      put(right, end, 0, await this.subtractProduct(block(right, end, n, 0, m), below, solved));
    }
    // Then L' D = Z, from the end.
    for (let k = Math.floor((n - 1) / panel) * panel; k >= 0; k -= panel) {
      const end = Math.min(n, k + panel);
      if (end < n) {
        const below = transposed(block(lower, end, n, k, end));
        const known = transposed(block(right, end, n, 0, m));
        put(right, k, 0, await this.subtractProduct(block(right, k, end, 0, m), below, known));
      }
      solveTransposedRows(lower, right, k, end);
    }
    return right.data;
  }

  async dispose(): Promise<void> {
    await this.session?.dispose();
    this.session = undefined;
  }
}

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

function productGraph() {
  const a = input("a", "float64", ["p", "q"]);
  const b = input("b", "float64", ["p", "k"]);
  const c = input("c", "float64", ["q", "k"]);
  return graph([a, b, c], { y: sub(a, matmul(b, transposeLast(c))) });
}

function block({ columns, data }: Matrix, r0: number, r1: number, c0: number, c1: number): Matrix {
  const out = new Float64Array((r1 - r0) * (c1 - c0));
  for (let r = r0; r < r1; r++) out.set(data.subarray(r * columns + c0, r * columns + c1), (r - r0) * (c1 - c0));
  return { rows: r1 - r0, columns: c1 - c0, data: out };
}

function put(into: Matrix, r0: number, c0: number, { rows, columns, data }: Matrix): void {
  for (let r = 0; r < rows; r++)
    into.data.set(data.subarray(r * columns, (r + 1) * columns), (r0 + r) * into.columns + c0);
}

function transposed({ rows, columns, data }: Matrix): Matrix {
  const out = new Float64Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  return { rows: columns, columns: rows, data: out };
}

/** The Cholesky factor of a diagonal block, in its place. */
function factorDiagonal({ columns: n, data }: Matrix, from: number, to: number): void {
  for (let j = from; j < to; j++) {
    let pivot = data[j * n + j];
    for (let k = from; k < j; k++) pivot -= data[j * n + k] ** 2;
    if (!(pivot > 0))
      throw new RunError("a ridge regression is not positive definite: the sums over tokens are not finite");
    const root = Math.sqrt(pivot);
    data[j * n + j] = root;
    for (let i = j + 1; i < to; i++) {
      let sum = data[i * n + j];
      for (let k = from; k < j; k++) sum -= data[i * n + k] * data[j * n + k];
      data[i * n + j] = sum / root;
    }
  }
}

/** The rows below a factored diagonal block: X L' = A. */
function solvePanel({ rows, columns: n, data }: Matrix, from: number, to: number): void {
  for (let i = to; i < rows; i++) {
    for (let j = from; j < to; j++) {
      let sum = data[i * n + j];
      for (let k = from; k < j; k++) sum -= data[i * n + k] * data[j * n + k];
      data[i * n + j] = sum / data[j * n + j];
    }
  }
}

/** L Z = B within a diagonal block. */
function solveRows({ columns: n, data }: Matrix, right: Matrix, from: number, to: number): void {
  const m = right.columns;
  for (let i = from; i < to; i++) {
    for (let k = from; k < i; k++) {
      const factor = data[i * n + k];
      for (let c = 0; c < m; c++) right.data[i * m + c] -= factor * right.data[k * m + c];
    }
    for (let c = 0; c < m; c++) right.data[i * m + c] /= data[i * n + i];
  }
}

/** L' D = Z within a diagonal block. */
function solveTransposedRows({ columns: n, data }: Matrix, right: Matrix, from: number, to: number): void {
  const m = right.columns;
  for (let i = to - 1; i >= from; i--) {
    for (let k = i + 1; k < to; k++) {
      const factor = data[k * n + i];
      for (let c = 0; c < m; c++) right.data[i * m + c] -= factor * right.data[k * m + c];
    }
    for (let c = 0; c < m; c++) right.data[i * m + c] /= data[i * n + i];
  }
}
