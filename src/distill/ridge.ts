// Ridge regression from sums over tokens: (G'G + lambda I) D = G'R in float64, by a Cholesky factorization in blocks
// whose products run on ONNX Runtime.
import { compile } from "../compile.ts";
import { graph, input, matmul, sub, transposeLast } from "../graph/build.ts";
import type { Graph } from "../graph/types.ts";
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
const panel = 256;

/** Solves symmetric positive definite systems; holds sessions for its products. */
export class RidgeSolver {
  private readonly device: Device;
  private readonly sessions = new Map<Product, Session>();

  constructor(device: Device) {
    this.device = device;
  }

  private async product(kind: Product, matrices: Readonly<Record<string, Matrix>>): Promise<Float64Array> {
    const session = this.sessions.get(kind) ?? (await compile(products[kind](), this.device));
    this.sessions.set(kind, session);
    const feeds = Object.entries(matrices).map(([name, { rows, columns, data }]): [string, Tensor] => [
      name,
      { type: "float64", dims: [rows, columns], data },
    ]);
    const { tensors } = await session.run({ feeds: Object.fromEntries(feeds), fetch: ["y"] });
    return tensors.y.data as Float64Array;
  }

  /** a - b c', or b c' where a is left out; `[p, q]`, `[p, k]`, `[q, k]`. */
  private async times(b: Matrix, c: Matrix, a?: Matrix): Promise<Matrix> {
    const data = await (a ? this.product("subtracted", { a, b, c }) : this.product("plain", { b, c }));
    return { rows: b.rows, columns: c.rows, data };
  }

  /**
   * D `[n, m]` with (G'G + ridge I) D = G'R. Throws a RunError where the system is not positive definite, which a ridge
   * above zero rules out for sums that are finite.
   */
  async solve({ n, m, gram, cross }: Sums, ridge: number): Promise<Float64Array> {
    const lower = { rows: n, columns: n, data: gram.slice() };
    for (let i = 0; i < n; i++) lower.data[i * n + i] += ridge;
    const right = { rows: n, columns: m, data: cross.slice() };
    // Factor, and solve L Z = G'R on the way. Small triangles are inverted, so that all else is products.
    const inverses: Matrix[] = [];
    for (let k = 0; k < n; k += panel) {
      const end = Math.min(n, k + panel);
      factorDiagonal(lower, k, end);
      const inverse = invertDiagonal(lower, k, end);
      inverses.push(inverse);
      const solved = await this.times(inverse, transposed(block(right, k, end, 0, m)));
      put(right, k, 0, solved);
      if (end === n) break;
      const below = await this.times(block(lower, end, n, k, end), inverse);
      put(lower, end, k, below);
      put(lower, end, end, await this.times(below, below, block(lower, end, n, end, n)));
      put(right, end, 0, await this.times(below, transposed(solved), block(right, end, n, 0, m)));
    }
    // Then L' D = Z, from the end.
    for (let k = Math.floor((n - 1) / panel) * panel; k >= 0; k -= panel) {
      const end = Math.min(n, k + panel);
      let rows = block(right, k, end, 0, m);
      if (end < n) {
        const below = transposed(block(lower, end, n, k, end));
        rows = await this.times(below, transposed(block(right, end, n, 0, m)), rows);
      }
      put(right, k, 0, await this.times(transposed(inverses[k / panel]), transposed(rows)));
    }
    return right.data;
  }

  async dispose(): Promise<void> {
    for (const session of this.sessions.values()) await session.dispose();
    this.sessions.clear();
  }
}

type Product = "plain" | "subtracted";

const matrices = () => ({
  a: input("a", "float64", ["p", "q"]),
  b: input("b", "float64", ["p", "k"]),
  c: input("c", "float64", ["q", "k"]),
});

const products: Readonly<Record<Product, () => Graph>> = {
  plain() {
    const { b, c } = matrices();
    return graph([b, c], { y: matmul(b, transposeLast(c)) });
  },
  subtracted() {
    const { a, b, c } = matrices();
    return graph([a, b, c], { y: sub(a, matmul(b, transposeLast(c))) });
  },
};

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
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

/** The inverse of a factored diagonal block: lower triangular, as it is. */
function invertDiagonal({ columns: n, data }: Matrix, from: number, to: number): Matrix {
  const size = to - from;
  const out = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    const pivot = data[(from + i) * n + from + i];
    out[i * size + i] = 1 / pivot;
    for (let j = 0; j < i; j++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum += data[(from + i) * n + from + k] * out[k * size + j];
      out[i * size + j] = -sum / pivot;
    }
  }
  return { rows: size, columns: size, data: out };
}
