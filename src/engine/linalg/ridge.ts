// Ridge regression from sums over tokens: (G'G + ridge) D = G'R in float64, by a Cholesky factorization in blocks
// whose products run on ONNX Runtime.
import { Sessions } from "../compile.ts";
import { add, concat, graph, input, matmul, mul, neg, reduceSum, slice, sub, transposeLast } from "../graph/build.ts";
import type { Graph, Value } from "../graph/graph.ts";
import type { Device, DeviceTensor } from "../../runtime/device.ts";
import { RunError } from "../../utils/errors.ts";
import type { Tensor } from "../../utils/tensor.ts";

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

/** Sums of rows that count `by` times. */
export const scaledSums = (sums: Sums, by: number): Sums => ({
  ...sums,
  gram: sums.gram.map((v) => by * v),
  cross: sums.cross.map((v) => by * v),
});

/** The mean of G'G's diagonal. */
export function meanDiagonal({ n, gram }: Sums): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += gram[i * n + i];
  return sum / n;
}

/** Sums of rows about their mean; the column of ones, which is last, becomes zeros. */
export function aboutMean({ n, gram }: Pick<Sums, "n" | "gram">): Float64Array {
  const count = gram[n * n - 1];
  return gram.map((v, i) => v - (gram[Math.floor(i / n) * n + n - 1] * gram[(i % n) * n + n - 1]) / count);
}

/** Inputs that are all but always zero count as if they had this share of the mean. */
const leastShare = 1e-6;

/**
 * A ridge for each unknown: `strength` times the geometric mean of its own place on G'G's diagonal and the mean of all. The mean
 * alone is ruled by a few very large inputs and holds the others fast; their own alone lets small ones, which are mostly noise,
 * move as far (dev/experiments.md).
 */
export function ridgeOf(sums: Sums, strength: number): Float64Array {
  const { n, gram } = sums;
  const mean = meanDiagonal(sums);
  return Float64Array.from({ length: n }, (_, i) => {
    const diagonal = Math.max(gram[i * n + i], leastShare * mean);
    return strength * Math.sqrt(diagonal * mean);
  });
}

/** Rows and columns that are factored at once, about: panels of a system are of one size but for the last. */
const panel = 256;

/** Where panels begin, and where the last ends. */
function panelsOf(n: number): number[] {
  const count = Math.ceil(n / panel);
  const size = Math.ceil(n / count);
  return [...Array.from({ length: Math.ceil(n / size) }, (_, i) => i * size), n];
}

/** A panel of a Cholesky factor: its own part inverted, its rows of L^-1 G'R, and L's rows below it. */
interface FactoredPanel {
  readonly inverse: Tensor;
  readonly solved: DeviceTensor;
  readonly below: DeviceTensor | undefined;
}

/** Tensors on the device that are released together in the end, where they were not before. */
class TensorScope {
  private readonly device: Device;
  private readonly tensors = new Set<DeviceTensor>();

  constructor(device: Device) {
    this.device = device;
  }

  readonly hold = (tensor: DeviceTensor): DeviceTensor => {
    this.tensors.add(tensor);
    return tensor;
  };

  readonly release = async (tensor: DeviceTensor): Promise<void> => {
    this.tensors.delete(tensor);
    await this.device.release([tensor]);
  };

  releaseAll(): Promise<void> {
    return this.device.release([...this.tensors]);
  }
}

/**
 * Solves symmetric positive definite systems. Matrices stay on the device; only diagonal blocks come back, to be factored
 * and inverted here, so that all else is products.
 */
export class RidgeSolver {
  private readonly device: Device;
  private readonly sessions: Sessions;

  constructor(device: Device) {
    this.device = device;
    // There are many sessions, one for each size that is left, and their matrices are large.
    this.sessions = new Sessions(device, { keepMemory: false });
  }

  /**
   * D `[n, m]` with (G'G + diag(ridge)) D = G'R, for a `ridge` `[n]`. Throws a RunError where the system is not positive
   * definite, which a ridge above zero rules out for sums that are finite.
   */
  async solve({ n, m, gram, cross }: Sums, ridge: Float64Array): Promise<Float64Array> {
    const bounds = panelsOf(n);
    const scope = new TensorScope(this.device);
    const { hold, release } = scope;
    try {
      const factored = await this.factored({ n, m, gram, cross }, ridge, scope);
      // Then L' D = Z, from the end.
      let solution: DeviceTensor | undefined;
      for (let i = factored.length - 1; i >= 0; i--) {
        const { inverse, solved, below } = factored[i];
        const [size, behind] = [inverse.dims[0], n - bounds[i + 1]];
        const session = await this.sessions.get(`solve ${size} ${behind} ${m}`, () => solveStep(size, behind, m));
        const feeds = { inverse, solved, ...(below && solution ? { below, solvedBelow: solution } : {}) };
        const { kept } = await session.run({ feeds, keep: ["d"] });
        if (solution) await release(solution);
        solution = hold(kept.d);
      }
      return (await this.device.download(solution as DeviceTensor)).data as Float64Array;
    } finally {
      await scope.releaseAll();
      await this.device.trim();
    }
  }

  /** L^-1 G'R `[n, m]`, with the Cholesky factor L of G'G + diag(ridge). Throws as `solve` does. */
  async solveLower(sums: Sums, ridge: Float64Array): Promise<Float64Array> {
    const scope = new TensorScope(this.device);
    try {
      const factored = await this.factored(sums, ridge, scope);
      const out = new Float64Array(sums.n * sums.m);
      let at = 0;
      for (const { solved } of factored) {
        const { data } = await this.device.download(solved);
        out.set(data as Float64Array, at);
        at += data.length;
      }
      return out;
    } finally {
      await scope.releaseAll();
      await this.device.trim();
    }
  }

  /** Factors panel by panel, and solves L Z = G'R on the way. */
  private async factored(
    { n, m, gram, cross }: Sums,
    ridge: Float64Array,
    { hold, release }: TensorScope,
  ): Promise<FactoredPanel[]> {
    const ridged = withRidge(gram, n, ridge);
    const bounds = panelsOf(n);
    let trailing = hold(await this.device.upload({ type: "float64", dims: [n, n], data: ridged }));
    let right = hold(await this.device.upload({ type: "float64", dims: [n, m], data: cross }));
    let diagonal = corner(ridged, n, bounds[1]);
    const factored: FactoredPanel[] = [];
    for (let i = 0; i + 1 < bounds.length; i++) {
      const [remaining, size] = [n - bounds[i], bounds[i + 1] - bounds[i]];
      const inverse: Tensor = { type: "float64", dims: [size, size], data: invertedFactor(diagonal, size) };
      const next = Math.min(size, remaining - size);
      const session = await this.sessions.get(`factor ${remaining} ${size} ${next} ${m}`, () =>
        factorStep(remaining, size, next, m),
      );
      const feeds = { trailing, right, inverse };
      const keep = next > 0 ? ["solved", "below", "next.trailing", "next.right"] : ["solved"];
      const { tensors, kept } = await session.run({ feeds, fetch: next > 0 ? ["diagonal"] : [], keep });
      const below = next > 0 ? hold(kept.below) : undefined;
      factored.push({ inverse, solved: hold(kept.solved), below });
      await release(trailing);
      await release(right);
      if (next === 0) break;
      diagonal = tensors.diagonal.data as Float64Array;
      trailing = hold(kept["next.trailing"]);
      right = hold(kept["next.right"]);
    }
    return factored;
  }

  /**
   * The Cholesky factor L `[n, n]` of G'G + diag(ridge): lower triangular, zeros above. Throws a RunError where the system is not
   * positive definite.
   */
  async factor({ n, gram }: Pick<Sums, "n" | "gram">, ridge: Float64Array): Promise<Float64Array> {
    const ridged = withRidge(gram, n, ridge);
    const bounds = panelsOf(n);
    const lower = new Float64Array(n * n);
    let diagonal = corner(ridged, n, bounds[1]);
    let trailing = await this.device.upload({ type: "float64", dims: [n, n], data: ridged });
    try {
      for (let i = 0; i + 1 < bounds.length; i++) {
        const [from, remaining, size] = [bounds[i], n - bounds[i], bounds[i + 1] - bounds[i]];
        const panelFactor = choleskyFactor(diagonal, size);
        for (let r = 0; r < size; r++)
          lower.set(panelFactor.subarray(r * size, r * size + r + 1), (from + r) * n + from);
        const next = Math.min(size, remaining - size);
        if (next === 0) break;
        const inverse: Tensor = { type: "float64", dims: [size, size], data: invertedTriangle(panelFactor, size) };
        const session = await this.sessions.get(`cholesky ${remaining} ${size} ${next}`, () =>
          choleskyStep(remaining, size, next),
        );
        const feeds = { trailing, inverse };
        const { tensors, kept } = await session.run({ feeds, fetch: ["below", "diagonal"], keep: ["next.trailing"] });
        await this.device.release([trailing]);
        trailing = kept["next.trailing"];
        diagonal = tensors.diagonal.data as Float64Array;
        const below = tensors.below.data as Float64Array;
        for (let r = 0; r < remaining - size; r++)
          lower.set(below.subarray(r * size, (r + 1) * size), (from + size + r) * n + from);
      }
      return lower;
    } finally {
      await this.device.release([trailing]);
      await this.device.trim();
    }
  }

  /**
   * The diagonal `[n]` of (G'G + diag(ridge))^-1: with the Cholesky factor L, the squares of each column of L^-1 added up. It is
   * for ranking inputs, so that products are float32, of the matrix scaled to ones on its diagonal. Throws a RunError where the
   * system is not positive definite.
   */
  async inverseDiagonal({ n, gram }: Sums, ridge: Float64Array): Promise<Float64Array> {
    const scale = Float64Array.from({ length: n }, (_, i) => 1 / Math.sqrt(gram[i * n + i] + ridge[i]));
    const scaled = new Float32Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) scaled[i * n + j] = gram[i * n + j] * scale[i] * scale[j];
      scaled[i * n + i] = 1;
    }
    const bounds = panelsOf(n);
    const result = new Float64Array(n);
    const uploaded: DeviceTensor[] = [await this.device.upload({ type: "float32", dims: [n, n], data: scaled })];
    let diagonal: Float32Array = corner(scaled, n, bounds[1]);
    try {
      for (let i = 0; i + 1 < bounds.length; i++) {
        const [before, remaining, size] = [bounds[i], n - bounds[i], bounds[i + 1] - bounds[i]];
        const factor = Float32Array.from(invertedFactor(Float64Array.from(diagonal), size));
        const inverse: Tensor = { type: "float32", dims: [size, size], data: factor };
        const next = Math.min(size, remaining - size);
        const session = await this.sessions.get(`invert ${before} ${remaining} ${size} ${next}`, () =>
          invertStep(before, remaining, size, next),
        );
        const [trailing, right] = uploaded;
        const feeds = { trailing, inverse, ...(right ? { right } : {}) };
        const fetch = next > 0 ? ["squares", "diagonal"] : ["squares"];
        const keep = next > 0 ? ["next.trailing", "next.right"] : [];
        const { tensors, kept } = await session.run({ feeds, fetch, keep });
        await this.device.release(uploaded.splice(0));
        const squares = tensors.squares.data as Float32Array;
        squares.forEach((square, j) => (result[j] += square));
        if (next === 0) break;
        diagonal = tensors.diagonal.data as Float32Array;
        uploaded.push(kept["next.trailing"], kept["next.right"]);
      }
      return result.map((v, i) => v * scale[i] ** 2);
    } finally {
      await this.device.release(uploaded);
      await this.device.trim();
    }
  }

  /** a b for `[p, k]` and `[k, q]`. */
  multiply(a: Tensor<"float64">, b: Tensor<"float64">): Promise<Float64Array> {
    return this.product("multiply", a, b, () => {
      const [left, right] = [input("a", "float64", ["p", "k"]), input("b", "float64", ["k", "q"])];
      return graph([left, right], { y: matmul(left, right) });
    });
  }

  /** a' b for `[k, p]` and `[k, q]`. */
  multiplyTransposed(a: Tensor<"float64">, b: Tensor<"float64">): Promise<Float64Array> {
    return this.product("multiply transposed", a, b, () => {
      const [left, right] = [input("a", "float64", ["k", "p"]), input("b", "float64", ["k", "q"])];
      return graph([left, right], { y: matmul(transposeLast(left), right) });
    });
  }

  private async product(
    key: string,
    a: Tensor<"float64">,
    b: Tensor<"float64">,
    build: () => Graph,
  ): Promise<Float64Array> {
    const session = await this.sessions.get(key, build);
    const { tensors } = await session.run({ feeds: { a, b }, fetch: ["y"] });
    return tensors.y.data as Float64Array;
  }

  dispose(): Promise<void> {
    return this.sessions.dispose();
  }
}

/** One panel of `size` rows at the head of a trailing system of `left`; `next` rows are factored after it. */
function factorStep(remaining: number, size: number, next: number, m: number): Graph {
  const trailing = input("trailing", "float64", [remaining, remaining]);
  const right = input("right", "float64", [remaining, m]);
  const inverse = input("inverse", "float64", [size, size]);
  const solved = matmul(inverse, slice(right, 0, 0, size));
  if (next === 0) return graph([trailing, right, inverse], { solved });
  const { below, rest } = belowPanel(trailing, inverse, remaining, size);
  return graph([trailing, right, inverse], {
    solved,
    below,
    "next.trailing": rest,
    "next.right": sub(slice(right, 0, size, remaining), matmul(below, solved)),
    diagonal: leading(rest, next),
  });
}

/** One panel of a factorization: L's rows below it, and what is left to factor. */
function choleskyStep(remaining: number, size: number, next: number): Graph {
  const trailing = input("trailing", "float64", [remaining, remaining]);
  const inverse = input("inverse", "float64", [size, size]);
  const { below, rest } = belowPanel(trailing, inverse, remaining, size);
  return graph([trailing, inverse], { below, "next.trailing": rest, diagonal: leading(rest, next) });
}

/** L's rows below a panel, and what is left to factor behind it. */
function belowPanel(trailing: Value, inverse: Value, remaining: number, size: number): { below: Value; rest: Value } {
  const rows = slice(trailing, 0, size, remaining);
  const below = matmul(slice(rows, 1, 0, size), transposeLast(inverse));
  return { below, rest: sub(slice(rows, 1, size, remaining), matmul(below, transposeLast(below))) };
}

/** The first rows and columns. */
const leading = (matrix: Value, count: number): Value => slice(slice(matrix, 0, 0, count), 1, 0, count);

/**
 * One panel's rows of L^-1, whose first `before` columns come from the panels before it (`right`) and whose last are the
 * panel's own inverse: the sums of their squares by column, and what the rows below get.
 */
function invertStep(before: number, remaining: number, size: number, next: number): Graph {
  const trailing = input("trailing", "float32", [remaining, remaining]);
  const inverse = input("inverse", "float32", [size, size]);
  const right = before > 0 ? input("right", "float32", [remaining, before]) : undefined;
  const inputs = [trailing, inverse, ...(right ? [right] : [])];
  const inverseRows = right ? concat([matmul(inverse, slice(right, 0, 0, size)), inverse], 1) : inverse;
  const squares = reduceSum(mul(inverseRows, inverseRows), [0]);
  if (next === 0) return graph(inputs, { squares });
  const { below, rest } = belowPanel(trailing, inverse, remaining, size);
  const given = neg(matmul(below, inverseRows));
  return graph(inputs, {
    squares,
    "next.trailing": rest,
    "next.right": right
      ? concat(
          [add(slice(right, 0, size, remaining), slice(given, 1, 0, before)), slice(given, 1, before, before + size)],
          1,
        )
      : given,
    diagonal: leading(rest, next),
  });
}

/** A panel's rows of the solution, put before those `found` for the `behind` rows after it. */
function solveStep(size: number, behind: number, m: number): Graph {
  const inverse = input("inverse", "float64", [size, size]);
  const solved = input("solved", "float64", [size, m]);
  if (behind === 0) return graph([inverse, solved], { d: matmul(transposeLast(inverse), solved) });
  const below = input("below", "float64", [behind, size]);
  const solvedBelow = input("solvedBelow", "float64", [behind, m]);
  const solution = matmul(transposeLast(inverse), sub(solved, matmul(transposeLast(below), solvedBelow)));
  return graph([inverse, solved, below, solvedBelow], { d: concat([solution, solvedBelow], 0) });
}

function withRidge(gram: Float64Array, n: number, ridge: Float64Array): Float64Array {
  const ridged = gram.slice();
  for (let i = 0; i < n; i++) ridged[i * n + i] += ridge[i];
  return ridged;
}

/** The first rows and columns of a square matrix. */
function corner<Data extends Float32Array | Float64Array>(data: Data, n: number, size: number): Data {
  const out = data.slice(0, size * size) as Data;
  for (let r = 0; r < size; r++) out.set(data.subarray(r * n, r * n + size), r * size);
  return out;
}

/** The Cholesky factor of a matrix `[n, n]`: lower triangular. What stands above its diagonal is the matrix's. */
export function choleskyFactor(matrix: Float64Array, n: number): Float64Array {
  const factor = matrix.slice();
  for (let j = 0; j < n; j++) {
    const row = j * n;
    let pivot = factor[row + j];
    for (let k = 0; k < j; k++) pivot -= factor[row + k] ** 2;
    if (!(pivot > 0))
      throw new RunError("A ridge regression is not positive definite: the sums over tokens are not finite", {
        code: "NOT_FINITE",
      });
    const root = Math.sqrt(pivot);
    factor[row + j] = root;
    let i = j + 1;
    // Four rows at a time, whose sums don't wait for each other. Each is summed in the order of one row alone.
    for (; i + 3 < n; i += 4) {
      const [i0, i1, i2, i3] = [i * n, (i + 1) * n, (i + 2) * n, (i + 3) * n];
      let [a, b, c, d] = [factor[i0 + j], factor[i1 + j], factor[i2 + j], factor[i3 + j]];
      for (let k = 0; k < j; k++) {
        const shared = factor[row + k];
        a -= factor[i0 + k] * shared;
        b -= factor[i1 + k] * shared;
        c -= factor[i2 + k] * shared;
        d -= factor[i3 + k] * shared;
      }
      factor[i0 + j] = a / root;
      factor[i1 + j] = b / root;
      factor[i2 + j] = c / root;
      factor[i3 + j] = d / root;
    }
    for (; i < n; i++) {
      let sum = factor[i * n + j];
      for (let k = 0; k < j; k++) sum -= factor[i * n + k] * factor[row + k];
      factor[i * n + j] = sum / root;
    }
  }
  return factor;
}

/** The inverse of a lower triangular matrix `[n, n]`, of which what stands above the diagonal is not read. */
export function invertedTriangle(factor: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = i * n;
    const pivot = factor[row + i];
    // Row i is minus the earlier rows, weighed by the factor's row i; added row by row, as they lie in memory.
    let k = 0;
    // Four rows at a time, in their order: sums are read and written a quarter as often. What is behind a row's diagonal is 0.
    for (; k + 3 < i; k += 4) {
      const a = factor[row + k] / pivot;
      const b = factor[row + k + 1] / pivot;
      const c = factor[row + k + 2] / pivot;
      const d = factor[row + k + 3] / pivot;
      const [ka, kb, kc, kd] = [k * n, (k + 1) * n, (k + 2) * n, (k + 3) * n];
      for (let j = 0; j <= k + 3; j++) {
        let sum = inverse[row + j];
        sum -= a * inverse[ka + j];
        sum -= b * inverse[kb + j];
        sum -= c * inverse[kc + j];
        sum -= d * inverse[kd + j];
        inverse[row + j] = sum;
      }
    }
    for (; k < i; k++) {
      const weight = factor[row + k] / pivot;
      for (let j = 0; j <= k; j++) inverse[row + j] -= weight * inverse[k * n + j];
    }
    inverse[row + i] = 1 / pivot;
  }
  return inverse;
}

/** The inverse of the Cholesky factor of a matrix `[n, n]`: lower triangular. */
export const invertedFactor = (matrix: Float64Array, n: number): Float64Array =>
  invertedTriangle(choleskyFactor(matrix, n), n);
