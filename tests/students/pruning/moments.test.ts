// Maps refitted for fewer inputs, against normal equations from the tokens themselves, solved by elimination in float64.
import { afterAll, describe, expect, test } from "vitest";
import { RidgeSolver } from "../../../src/engine/linalg/ridge.ts";
import {
  addMoments,
  affineMap,
  centred,
  correctedMap,
  emptyMoments,
  inputNorms,
  rebuiltMap,
} from "../../../src/students/pruning/moments.ts";
import { drawStream } from "../../../src/utils/random.ts";
import type { FloatTensor } from "../../../src/utils/tensor.ts";
import { zeros } from "../../../src/utils/tensor.ts";
import { inlineDevice } from "../../support/device.ts";
import { eliminateRows } from "../../support/elimination.ts";

const device = inlineDevice();
const solver = new RidgeSolver(device);
afterAll(async () => {
  await solver.dispose();
  await device.dispose();
});

const [n, outputs, count] = [7, 3, 40];
const kept = [0, 2, 3, 6];
const dropped = [1, 4, 5];
const random = drawStream(3, "tokens");
/** Tokens whose inputs go together, and have means. */
const tokens = Array.from({ length: count }, () => {
  const base = random.normal();
  return Array.from({ length: n }, (_, i) => Math.fround(0.3 * i + random.normal() + (i % 3) * base));
});
const map: FloatTensor = zeros([outputs, n]);
map.data.forEach((_, i) => (map.data[i] = random.normal()));

/** Moments in two batches, as the passes give them. */
function momentsOfTokens() {
  const batch = (rows: number[][]) => {
    const gram = new Float32Array(n * n);
    const sum = new Float32Array(n);
    for (const x of rows)
      for (let i = 0; i < n; i++) {
        sum[i] += x[i];
        for (let j = 0; j < n; j++) gram[i * n + j] += x[i] * x[j];
      }
    return [gram, sum, rows.length] as const;
  };
  const first = addMoments(emptyMoments(n), ...batch(tokens.slice(0, 15)));
  return addMoments(first, ...batch(tokens.slice(15)));
}
const moments = momentsOfTokens();
// Sums of 40 products in float32, then solved in float64: 1e-5 is some ten times what rounding gives.
const near = (actual: FloatTensor, wanted: number[][]) => {
  const [rows, columns] = actual.dims;
  for (let o = 0; o < rows; o++)
    for (let k = 0; k < columns; k++)
      expect(Math.abs(actual.data[o * columns + k] - wanted[k][o])).toBeLessThan(1e-5 * (1 + Math.abs(wanted[k][o])));
};
const sumOver = (of: (x: number[]) => number, rows = tokens) => rows.reduce((sum, x) => sum + of(x), 0);
const weightOf = (o: number, i: number) => map.data[o * n + i];

test("norms of inputs, from all products or from squares alone", () => {
  const squares = Float32Array.from({ length: n }, (_, i) => sumOver((x) => x[i] ** 2));
  const alone = addMoments(emptyMoments(n), squares, new Float32Array(n), count);
  for (const actual of [inputNorms(moments), inputNorms(alone)])
    actual.forEach((norm, i) => expect(norm).toBeCloseTo(Math.sqrt(sumOver((x) => x[i] ** 2)), 4));
});

describe("a map for fewer inputs", () => {
  const ridgeOf = (share: number, gram: (i: number) => number) =>
    (share / n) * Array.from({ length: n }, (_, i) => gram(i)).reduce((a, b) => a + b, 0);

  test.each([1e-3, 0.1])("rebuilds all inputs (GRAIL), ridge %f", async (share) => {
    const ridge = ridgeOf(share, (i) => sumOver((x) => x[i] ** 2));
    const a = kept.map((i) => kept.map((j) => sumOver((x) => x[i] * x[j]) + (i === j ? ridge : 0)));
    const b = kept.map((i) =>
      Array.from({ length: outputs }, (_, o) => {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += sumOver((x) => x[i] * x[j]) * weightOf(o, j);
        return sum;
      }),
    );
    near(await rebuiltMap(solver, moments, map, kept, share), eliminateRows(a, b));
  });

  test("changes the kept weights by what is lost (SparseGPT's optimum)", async () => {
    const ridge = ridgeOf(1e-2, (i) => sumOver((x) => x[i] ** 2));
    const a = kept.map((i) => kept.map((j) => sumOver((x) => x[i] * x[j]) + (i === j ? ridge : 0)));
    const b = kept.map((i) =>
      Array.from({ length: outputs }, (_, o) =>
        dropped.reduce((sum, j) => sum + sumOver((x) => x[i] * x[j]) * weightOf(o, j), 0),
      ),
    );
    const change = eliminateRows(a, b);
    near(
      await correctedMap(solver, moments, map, kept, 1e-2),
      kept.map((i, k) => change[k].map((value, o) => value + weightOf(o, i))),
    );
  });

  test("is the map itself where all inputs stay", async () => {
    const all = Array.from({ length: n }, (_, i) => i);
    expect((await correctedMap(solver, moments, map, all, 1e-2)).data).toEqual(map.data);
  });

  test("and a bias for affine inputs (CORP)", async () => {
    const mean = Array.from({ length: n }, (_, i) => sumOver((x) => x[i]) / count);
    const about = tokens.map((x) => x.map((value, i) => value - mean[i]));
    const ridge = ridgeOf(1e-3, (i) => sumOver((x) => x[i] ** 2, about));
    const a = kept.map((i) => kept.map((j) => sumOver((x) => x[i] * x[j], about) + (i === j ? ridge : 0)));
    const b = kept.map((i) => dropped.map((j) => sumOver((x) => x[i] * x[j], about)));
    // x_D = B x_K + c, as the paper has it; then folded.
    const affine = eliminateRows(a, b);
    const actual = await affineMap(solver, moments, map, kept, 1e-3);
    near(
      actual.map,
      kept.map((i, k) =>
        Array.from({ length: outputs }, (_, o) =>
          dropped.reduce((sum, j, d) => sum + affine[k][d] * weightOf(o, j), weightOf(o, i)),
        ),
      ),
    );
    actual.bias.forEach((value, o) => {
      const wanted = dropped.reduce((sum, j, d) => {
        const c = mean[j] - kept.reduce((inner, i, k) => inner + affine[k][d] * mean[i], 0);
        return sum + weightOf(o, j) * c;
      }, 0);
      expect(Math.abs(value - wanted)).toBeLessThan(1e-5 * (1 + Math.abs(wanted)));
    });
  });
});

test("moments about the mean add up to zero along tokens", () => {
  const { gram } = centred(moments);
  const mean = Array.from({ length: n }, (_, i) => sumOver((x) => x[i]) / count);
  // Differences of sums of about 200: float32's rounding of these.
  expect(gram[1 * n + 4]).toBeCloseTo(
    sumOver((x) => (x[1] - mean[1]) * (x[4] - mean[4])),
    3,
  );
});
