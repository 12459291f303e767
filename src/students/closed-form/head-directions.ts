// Directions of a head's channels, ordered by what they hold. Loaded where heads are narrowed inside: the library is large for a page.
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { choleskyFactor, invertedTriangle } from "../../engine/linalg/ridge.ts";

/**
 * Channels are at least so much of their mean size in all directions: more than sums of float32 products are off by, so that channels
 * of few images, which depend on each other, have a factor too.
 */
const least = 1e-5;

/** Directions of `d` channels, as columns of matrices `[d, d]`, those that hold most first. */
export interface Directions {
  /** L V */
  readonly forward: Float64Array;
  /** L'^-1 V */
  readonly inverse: Float64Array;
  /** `[d]`: S */
  readonly energies: Float64Array;
}

/** L' C L = V S V' for D = L L'; `c` and `own` (D) are symmetric, `[d, d]`. */
export function headDirections(own: Float64Array, c: Float64Array, d: number): Directions {
  const mean = own.reduce((sum, v, i) => (i % (d + 1) === 0 ? sum + v / d : sum), 0);
  // A head that gives nothing has no directions: its channels are as good.
  const firm = own.map((v, i) => (mean > 0 ? v : 0) + (i % (d + 1) === 0 ? (mean > 0 ? least * mean : 1) : 0));
  const factor = choleskyFactor(firm, d);
  // What stands above its diagonal is no part of it.
  const lower = Matrix.from1DArray(
    d,
    d,
    factor.map((v, i) => (i % d > Math.floor(i / d) ? 0 : v)),
  );
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(
    lower
      .transpose()
      .mmul(Matrix.from1DArray(d, d, c))
      .mmul(lower),
    { assumeSymmetric: true },
  );
  const order = realEigenvalues.map((_, i) => i).sort((i, j) => realEigenvalues[j] - realEigenvalues[i]);
  const all = Array.from({ length: d }, (_, i) => i);
  const vectors = eigenvectorMatrix.selection(all, order);
  const turned = Matrix.from1DArray(d, d, invertedTriangle(factor, d)).transpose();
  return {
    forward: Float64Array.from(lower.mmul(vectors).to1DArray()),
    inverse: Float64Array.from(turned.mmul(vectors).to1DArray()),
    energies: Float64Array.from(order, (i) => Math.max(realEigenvalues[i], 0)),
  };
}
