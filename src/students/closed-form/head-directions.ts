// Directions of a head's channels, ordered by what they hold.
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { choleskyFactor, invertedTriangle } from "../../engine/linalg/ridge.ts";
import type { Sums } from "../../engine/linalg/ridge.ts";

/** Sums of rows about their mean; the column of ones, which is last, becomes zeros. */
export function aboutMean({ n, gram }: Pick<Sums, "n" | "gram">): Float64Array {
  const count = gram[n * n - 1];
  return gram.map((v, i) => v - (gram[Math.floor(i / n) * n + n - 1] * gram[(i % n) * n + n - 1]) / count);
}

/**
 * Channels are at least so much of their mean size in all directions: more than sums of float32 products are off by, so that channels
 * of few images, which depend on each other, have a factor too.
 */
const least = 1e-5;

/** L of L L' = `matrix` `[d, d]`, and L'^-1. */
export function firmFactor(matrix: Float64Array, d: number): { lower: Matrix; upper: Matrix } {
  const mean = matrix.reduce((sum, v, i) => (i % (d + 1) === 0 ? sum + v / d : sum), 0);
  // A head that gives nothing has no directions: its channels are as good.
  const firm = matrix.map((v, i) => (mean > 0 ? v : 0) + (i % (d + 1) === 0 ? (mean > 0 ? least * mean : 1) : 0));
  const factor = choleskyFactor(firm, d);
  // What stands above its diagonal is no part of it.
  const below = factor.map((v, i) => (i % d > Math.floor(i / d) ? 0 : v));
  return {
    lower: Matrix.from1DArray(d, d, below),
    upper: Matrix.from1DArray(d, d, invertedTriangle(factor, d)).transpose(),
  };
}

/** V of L' C L = V S V' as columns, those with the largest of S first, and S. */
export function eigenDirections(
  lower: Matrix,
  c: Float64Array,
  d: number,
): { readonly vectors: Matrix; readonly energies: Float64Array } {
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(
    lower
      .transpose()
      .mmul(Matrix.from1DArray(d, d, c))
      .mmul(lower),
    { assumeSymmetric: true },
  );
  const order = realEigenvalues.map((_, i) => i).sort((i, j) => realEigenvalues[j] - realEigenvalues[i]);
  const all = Array.from({ length: d }, (_, i) => i);
  return {
    vectors: eigenvectorMatrix.selection(all, order) as Matrix,
    energies: Float64Array.from(order, (i) => Math.max(realEigenvalues[i], 0)),
  };
}
