// Linear systems solved in the plainest way, to hold solvers against.

/** Gauss's elimination with pivots, in plain loops: x with A x = B, for A `[n, n]` and B `[n, m]`. */
export function eliminate(n: number, m: number, a: Float64Array, b: Float64Array): Float64Array {
  const [A, B] = [a.slice(), b.slice()];
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k; i < n; i++) if (Math.abs(A[i * n + k]) > Math.abs(A[pivot * n + k])) pivot = i;
    for (let j = 0; j < n; j++) [A[k * n + j], A[pivot * n + j]] = [A[pivot * n + j], A[k * n + j]];
    for (let j = 0; j < m; j++) [B[k * m + j], B[pivot * m + j]] = [B[pivot * m + j], B[k * m + j]];
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = A[i * n + k] / A[k * n + k];
      for (let j = k; j < n; j++) A[i * n + j] -= factor * A[k * n + j];
      for (let j = 0; j < m; j++) B[i * m + j] -= factor * B[k * m + j];
    }
  }
  return B.map((v, i) => v / A[Math.floor(i / m) * n + Math.floor(i / m)]);
}

/** The same for rows of numbers: X `[n, m]` with A X = B. */
export function eliminateRows(a: readonly (readonly number[])[], b: readonly (readonly number[])[]): number[][] {
  const [n, m] = [a.length, b[0]?.length ?? 0];
  const x = eliminate(n, m, Float64Array.from(a.flat()), Float64Array.from(b.flat()));
  return b.map((_, row) => [...x.subarray(row * m, (row + 1) * m)]);
}
