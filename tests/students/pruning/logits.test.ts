// Attention logits of narrowed heads: the fit against the whole normal equations, and against other fits.
import { describe, expect, test } from "vitest";
import { fitLogits, headMoments, logitEnergies, solveSandwich } from "../../../src/students/pruning/logits.ts";
import { drawStream } from "../../../src/utils/random.ts";
import { eliminateRows } from "../../support/elimination.ts";

const [d, tokens, images] = [5, 6, 4];
const kept = [0, 2, 3];
const random = drawStream(11, "heads");
const draw = () =>
  Array.from({ length: tokens }, () => {
    const base = random.normal();
    return Array.from({ length: d }, (_, i) => Math.fround(0.4 + random.normal() + (i % 2) * base));
  });
const heads = Array.from({ length: images }, () => ({ q: draw(), k: draw() }));
const gramOf = (rows: number[][]) =>
  Float32Array.from({ length: d * d }, (_, at) => rows.reduce((sum, x) => sum + x[Math.floor(at / d)] * x[at % d], 0));
const moments = heads.map(({ q, k }) =>
  headMoments(
    gramOf(q),
    Float32Array.from({ length: d }, (_, i) => q.reduce((sum, x) => sum + x[i], 0)),
    gramOf(k),
    tokens,
  ),
);

/** The squared error of logits where queries are [q_s 1] fold, over all images and pairs of tokens. */
function errorOf(fold: (i: number, j: number) => number): number {
  let sum = 0;
  for (const { q, k } of heads)
    for (const a of q)
      for (const b of k) {
        const whole = a.reduce((s, value, i) => s + value * b[i], 0);
        const rows = [...kept.map((i) => a[i]), 1];
        let own = 0;
        rows.forEach((value, i) => kept.forEach((channel, j) => (own += value * fold(i, j) * b[channel])));
        sum += (whole - own) ** 2;
      }
  return sum;
}

test("channels count by their part in the logits", () => {
  const energies = logitEnergies(moments, d);
  energies.forEach((energy, i) => {
    const wanted = heads.reduce((sum, { q, k }) => {
      const squares = (rows: number[][]) => rows.reduce((s, x) => s + x[i] ** 2, 0);
      return sum + squares(q) * squares(k);
    }, 0);
    expect(energy).toBeCloseTo(wanted / images, 3);
  });
});

const unstopped = { signal: new AbortController().signal };

test("conjugate gradients solve the whole system", async () => {
  const square = (size: number) => {
    const rows = Array.from({ length: size + 2 }, () => Array.from({ length: size }, () => random.normal()));
    return Float64Array.from({ length: size * size }, (_, at) =>
      rows.reduce((sum, x) => sum + x[Math.floor(at / size)] * x[at % size], 0),
    );
  };
  const [n, m, ridge] = [4, 3, 0.1];
  const pairs = Array.from({ length: 3 }, () => ({ a: square(n), b: square(m) }));
  const right = Float64Array.from({ length: n * m }, () => random.normal());
  const system = Array.from({ length: n * m }, (_, row) =>
    Array.from({ length: n * m }, (_, column) => {
      const [i, j] = [Math.floor(row / m), row % m];
      const [p, q] = [Math.floor(column / m), column % m];
      return pairs.reduce((sum, { a, b }) => sum + a[i * n + p] * b[q * m + j], row === column ? ridge : 0);
    }),
  );
  const wanted = eliminateRows(
    system,
    [...right].map((value) => [value]),
  );
  // The residual falls below 1e-6 of its length, and the system's smallest eigenvalue is its ridge at least.
  const solution = await solveSandwich(pairs, right, n, m, ridge, unstopped.signal);
  solution.forEach((value, i) => expect(value).toBeCloseTo(wanted[i][0], 4));
});

describe("a fit", async () => {
  const { fold } = await fitLogits(moments, d, kept, { share: 1e-9, biased: true, ...unstopped });
  const m = kept.length;
  const own = (i: number, j: number) => fold[i * m + j];
  const dropping = (i: number, j: number) => Number(i === j);

  test("leaves less than dropping channels, and than any change of it", () => {
    const least = errorOf(own);
    expect(least).toBeLessThan(0.9 * errorOf(dropping));
    for (let i = 0; i <= m; i++)
      for (let j = 0; j < m; j++)
        for (const step of [-1e-2, 1e-2])
          expect(errorOf((r, c) => own(r, c) + (r === i && c === j ? step : 0))).toBeGreaterThan(least);
  });

  test("has no constant where queries have no bias", async () => {
    const { fold: without } = await fitLogits(moments, d, kept, { share: 1e-9, biased: false, ...unstopped });
    expect([...without.subarray(m * m)]).toEqual([0, 0, 0]);
    expect(errorOf((i, j) => without[i * m + j])).toBeGreaterThan(errorOf(own));
  });

  test("ends with the signal, as soon as it is seen", async () => {
    const controller = new AbortController();
    const fit = fitLogits(moments, d, kept, { share: 1e-9, biased: true, signal: controller.signal });
    controller.abort(new Error("stopped"));
    await expect(fit).rejects.toThrow("stopped");
  });

  test("of all channels is the identity", async () => {
    const all = [0, 1, 2, 3, 4];
    const { fold: whole } = await fitLogits(moments, d, all, { share: 1e-3, biased: true, ...unstopped });
    whole.forEach((value, at) => expect(value).toBe(Number(Math.floor(at / d) === at % d)));
  });
});
