// Rounding to few bits: grids against all grids tried, and error-compensated rounding against plain loops and plain rounding.
import { afterAll, describe, expect, test } from "vitest";
import type { Sums } from "../../../src/engine/linalg/ridge.ts";
import { addSums, emptySums, RidgeSolver, ridgeOf } from "../../../src/engine/linalg/ridge.ts";
import type { BlockFormat } from "../../../src/students/bits/block-weights.ts";
import { dequantize, roundPlain } from "../../../src/students/bits/block-weights.ts";
import { reordered, roundCompensated, roundingOrder } from "../../../src/students/bits/compensated.ts";
import { roundMap } from "../../../src/students/bits/round-map.ts";
import { floatToHalf, halfToFloat } from "../../../src/utils/half.ts";
import { drawStream } from "../../../src/utils/random.ts";
import type { FloatTensor } from "../../../src/utils/tensor.ts";
import { inlineDevice } from "../../support/device.ts";
import { relativeError } from "../../support/reference.ts";

const device = inlineDevice();
const solver = new RidgeSolver(device);
afterAll(async () => {
  await solver.dispose();
  await device.dispose();
});

const random = drawStream(7, "bits");
const normal = (dims: readonly number[]): FloatTensor => ({
  type: "float32",
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => random.normal()),
});
const formats = ([2, 3, 4, 8] as const).flatMap((bits) =>
  [false, true].map((symmetric): BlockFormat => ({ bits, symmetric, blockSize: 32 })),
);
const squared = (a: FloatTensor, b: FloatTensor) => a.data.reduce((sum, v, i) => sum + (v - b.data[i]) ** 2, 0);

describe("plain rounding", () => {
  test.each(formats)(
    "$bits bits, symmetric $symmetric: no worse than the full range, in numbers that fit",
    (format) => {
      const weight = normal([9, 80]);
      const rounded = roundPlain(weight, format);
      const most = 2 ** format.bits - 1;
      expect(Math.max(...rounded.values, ...rounded.zeros)).toBeLessThanOrEqual(most);
      expect([...rounded.scales]).toEqual([...halfToFloat(floatToHalf(rounded.scales))]);
      // The range from least to largest, as ONNX Runtime's own quantizer takes it.
      const full = weight.data.slice();
      for (let n = 0; n < 9; n++)
        for (let from = 0; from < 80; from += 32) {
          const part = full.subarray(n * 80 + from, n * 80 + Math.min(80, from + 32));
          const [low, high] = [Math.min(0, ...part), Math.max(0, ...part)];
          const scale = format.symmetric ? (high > -low ? -high : -low) / 2 ** (format.bits - 1) : (high - low) / most;
          const zero = format.symmetric ? 2 ** (format.bits - 1) : Math.round(-low / scale);
          part.set(part.map((v) => scale * (Math.max(0, Math.min(most, Math.round(v / scale) + zero)) - zero)));
        }
      // A scale is rounded to 11 bits, which at 8 bits is some of the error.
      expect(squared(dequantize(rounded), weight)).toBeLessThan(
        squared({ ...weight, data: full }, weight) * (format.bits === 8 ? 1.01 : 1),
      );
    },
  );

  test("zeros stay zeros, and blocks of zeros are no division by zero", () => {
    const weight = normal([2, 64]);
    weight.data.fill(0, 0, 64);
    weight.data[70] = 0;
    for (const format of formats) {
      const { data } = dequantize(roundPlain(weight, format));
      expect([...data.subarray(0, 64), data[70]].every((v) => v === 0)).toBe(true);
    }
  });
});

/** Tokens whose channels go together and are of different size, and their sums with a column of ones. */
function tokens(count: number, inputs: number, mixing: FloatTensor): { rows: Float64Array; gram: Float64Array } {
  const n = inputs + 1;
  const rows = new Float64Array(count * n);
  for (let r = 0; r < count; r++) {
    const sources = Float64Array.from({ length: 12 }, () => random.normal());
    for (let k = 0; k < inputs; k++) {
      let sum = 0.3 + 0.2 * random.normal();
      for (let s = 0; s < 12; s++) sum += mixing.data[k * 12 + s] * sources[s];
      rows[r * n + k] = sum;
    }
    rows[r * n + inputs] = 1;
  }
  const gram = new Float64Array(n * n);
  for (let r = 0; r < count; r++)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) gram[i * n + j] += rows[r * n + i] * rows[r * n + j];
  return { rows, gram };
}

/** Squared error of a map's outputs over rows, with a change of its bias. */
function outputError(rows: Float64Array, exact: FloatTensor, near: FloatTensor, bias: ArrayLike<number>): number {
  const [outputs, inputs] = exact.dims;
  let error = 0;
  for (let r = 0; r < rows.length; r += inputs + 1)
    for (let o = 0; o < outputs; o++) {
      let left = -bias[o];
      for (let k = 0; k < inputs; k++) left += rows[r + k] * (exact.data[o * inputs + k] - near.data[o * inputs + k]);
      error += left * left;
    }
  return error;
}

describe("error-compensated rounding", () => {
  const [inputs, outputs] = [80, 10];
  const mixing = normal([inputs, 12]);
  const fitted = tokens(400, inputs, mixing);
  const heldOut = tokens(200, inputs, mixing);
  const weight = normal([outputs, inputs]);
  const bias: FloatTensor = { type: "float32", dims: [outputs], data: new Float32Array(outputs) };

  test.each(formats)(
    "$bits bits, symmetric $symmetric: outputs of tokens held out are nearer than by plain rounding",
    async (format) => {
      const n = inputs + 1;
      const sums: Sums = { n, m: outputs, gram: fitted.gram, cross: new Float64Array(n * outputs) };
      const plain = outputError(heldOut.rows, weight, dequantize(roundPlain(weight, format)), bias.data);
      const way = { kind: "compensated", ridge: 0.01, toward: true } as const;
      const map = await roundMap(
        solver,
        { weight, bias },
        { fitting: sums, all: sums, aside: undefined },
        [way],
        format,
      );
      const compensated = outputError(heldOut.rows, weight, dequantize(map.weights), map.bias?.data ?? []);
      // Tokens lie near 12 of 80 directions, so that most errors can be made up for.
      expect(compensated).toBeLessThan(0.5 * plain);
    },
  );

  // 160 columns are more than one group of them.
  test.each([
    [64, 3],
    [160, 1],
  ])(
    "is, column by column, what the inverse of the Hessian says (GPTQ, equation 2): %d columns",
    async (size, rows) => {
      const format: BlockFormat = { bits: 4, symmetric: false, blockSize: 32 };
      const { gram } = tokens(200, size - 1, normal([size, 12]));
      const ridge = ridgeOf({ n: size, m: 0, gram, cross: new Float64Array(0) }, 0.01);
      const hessian = gram.map((v, i) => (i % (size + 1) === 0 ? v + ridge[i / (size + 1)] : v));
      const diagonal = Float64Array.from({ length: size }, (_, i) => gram[i * size + i]);
      const order = roundingOrder(diagonal, size, 32, false);
      const factor = await solver.factor(
        { n: size, gram: reordered(gram, order) },
        Float64Array.from(order, (i) => ridge[i]),
      );
      const target = Float64Array.from({ length: size * rows }, () => random.normal());
      const task = { target, outputs: rows, inputs: size, factor, order };
      const { weights } = await roundCompensated(task, format, (a, b) => solver.multiply(a, b));
      const rounded = dequantize(weights).data;
      // The weights not yet rounded take the change that costs least: -H_FF^-1 H_F,S e_S, solved anew for each column.
      for (let o = 0; o < rows; o++)
        for (let position = size - 1; position >= 0; position--) {
          const free = [...order.subarray(0, position + 1)];
          const done = [...order.subarray(position + 1)];
          const right = free.map((i) =>
            done.reduce((sum, k) => sum + hessian[i * size + k] * (target[k * rows + o] - rounded[o * size + k]), 0),
          );
          const change = eliminated(
            free.map((i) => free.map((j) => hessian[i * size + j])),
            right,
          );
          const k = order[position];
          const wanted = target[k * rows + o] + change[position];
          const block = (o * size + k) >> 5;
          const [scale, zero] = [weights.scales[block], weights.zeros[block]];
          const value = Math.max(0, Math.min(15, wanted / scale + zero));
          // Half a step, and the solver's own rounding.
          expect(Math.abs(value - weights.values[o * size + k])).toBeLessThanOrEqual(0.5 + 1e-6);
        }
    },
  );

  test("what maps before left is made up for", async () => {
    const n = inputs + 1;
    // The output lacks what a known change of the map would add.
    const lacking = normal([n, outputs]);
    const cross = new Float64Array(n * outputs);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++)
        for (let o = 0; o < outputs; o++)
          cross[i * outputs + o] += fitted.gram[i * n + j] * lacking.data[j * outputs + o];
    const sums: Sums = { n, m: outputs, gram: fitted.gram, cross };
    const format: BlockFormat = { bits: 8, symmetric: false, blockSize: 32 };
    const toward = { kind: "compensated", ridge: 1e-6, toward: true } as const;
    const { weights, bias: moved } = await roundMap(
      solver,
      { weight, bias },
      { fitting: sums, all: sums, aside: undefined },
      [toward],
      format,
    );
    const wanted: FloatTensor = {
      ...weight,
      data: weight.data.map((v, i) => v + lacking.data[(i % inputs) * outputs + Math.floor(i / inputs)]),
    };
    const wantedBias = lacking.data.slice(inputs * outputs);
    const left = moved ? moved.data.map((v, o) => v - wantedBias[o]) : [];
    const scale = outputError(
      heldOut.rows,
      wanted,
      { ...wanted, data: new Float32Array(weight.data.length) },
      bias.data,
    );
    expect(outputError(heldOut.rows, wanted, dequantize(weights), left) / scale).toBeLessThan(1e-4);
  });

  test("of several ways the one is taken that errs least on tokens set aside", async () => {
    const n = inputs + 1;
    const sums = (gram: Float64Array): Sums => ({ n, m: outputs, gram, cross: new Float64Array(n * outputs) });
    const all = emptySums(n, outputs);
    for (const part of [fitted, heldOut]) addSums(all, sums(part.gram));
    const ways = [{ kind: "plain" }, { kind: "compensated", ridge: 0.1, toward: false }] as const;
    const format: BlockFormat = { bits: 4, symmetric: false, blockSize: 32 };
    const given = { fitting: sums(fitted.gram), all, aside: sums(heldOut.gram) };
    const best = await roundMap(solver, { weight, bias }, given, ways, format);
    expect(best.rounding).toEqual(ways[1]);
    // Tokens that go with nothing can't be made up for: the columns that were moved only err more.
    const alone = new Float64Array(n * n);
    for (let i = 0; i < n; i++) alone[i * n + i] = 1;
    const other = await roundMap(solver, { weight, bias }, { ...given, aside: sums(alone) }, ways, format);
    expect(other.rounding).toEqual(ways[0]);
  });
});

test("the Cholesky factor, over several panels", async () => {
  const n = 300;
  const a = Float64Array.from({ length: n * n }, () => random.normal());
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) for (let k = 0; k < n; k++) gram[i * n + j] += a[i * n + k] * a[j * n + k];
  const lower = await solver.factor({ n, gram }, new Float64Array(n).fill(1));
  const product = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++)
      for (let k = 0; k <= Math.min(i, j); k++) product[i * n + j] += lower[i * n + k] * lower[j * n + k];
    for (let j = i + 1; j < n; j++) expect(lower[i * n + j]).toBe(0);
    product[i * n + i] -= 1;
  }
  // Float64 sums of 300 products.
  expect(relativeError(product, gram)).toBeLessThan(1e-12);
});

/** Solves a small system by elimination with pivots. */
function eliminated(matrix: number[][], right: number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]]);
  const n = rows.length;
  for (let c = 0; c < n; c++) {
    const pivot = rows
      .slice(c)
      .reduce((best, row, i) => (Math.abs(row[c]) > Math.abs(rows[best][c]) ? c + i : best), c);
    [rows[c], rows[pivot]] = [rows[pivot], rows[c]];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const share = rows[r][c] / rows[c][c];
      for (let j = c; j <= n; j++) rows[r][j] -= share * rows[c][j];
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
}
