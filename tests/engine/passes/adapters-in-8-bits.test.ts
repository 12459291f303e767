// Products with adapters in 8 bits, and the gradients that they give, beside float32's: behind a norm with outlier channels, for
// tokens of very different size, and behind a GELU.
import { afterAll, expect, test } from "vitest";
import { gradients } from "../../../src/engine/autograd/gradients.ts";
import {
  add,
  constant,
  gelu,
  input,
  layerNormalization,
  matmul,
  mul,
  reduceSum,
  transposeLast,
} from "../../../src/engine/graph/build.ts";
import type { Value } from "../../../src/engine/graph/graph.ts";
import { lowRank } from "../../../src/engine/nn/layers.ts";
import { safeWeight } from "../../../src/engine/passes/int8/quantize.ts";
import { largestOn } from "../../../src/models/precision.ts";
import type { FloatTensor } from "../../../src/utils/tensor.ts";
import { inlineDevice, runOnce } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";

const device = inlineDevice();
afterAll(() => device.dispose());

const [images, tokens, rank, outputs] = [2, 40, 40, 112];
const numbers = (dims: readonly number[], seed: number) => noise(dims, seed, "adapters in 8 bits");

/** The root of the squares' mean of what differs, over that of what is expected. */
function distance(actual: FloatTensor, expected: FloatTensor): number {
  const squares = (data: Iterable<number>) => [...data].reduce((sum, v) => sum + v * v, 0);
  return Math.sqrt(squares(actual.data.map((v, i) => v - expected.data[i])) / squares(expected.data));
}

/** Norms whose channels differ by a factor of 100, with weights to match. */
const scale = numbers([128], 1);
[3, 40, 77].forEach((k) => (scale.data[k] = 100));

const entries: Record<string, { enter: (x: Value) => Value; spread: number; width: number }> = {
  "behind a norm": {
    enter: (x) => layerNormalization(x, constant(scale), constant(numbers([128], 2)), 1e-6),
    spread: 1,
    width: 128,
  },
  "of very different size": { enter: (x) => x, spread: 30, width: 128 },
  "of very different size, long": { enter: (x) => x, spread: 30, width: 1024 },
  "behind a GELU": { enter: (x) => gelu(x), spread: 3, width: 128 },
  "behind a GELU, long": { enter: (x) => gelu(x), spread: 3, width: 1024 },
};

test.each(Object.keys(entries))("tokens %s: what adapters add, and all gradients", async (name) => {
  const { enter, spread, width } = entries[name];
  const x = input("x", "float32", [images, tokens, width]);
  const A = input("A", "float32", [rank, width]);
  const B = input("B", "float32", [outputs, rank]);
  const weight = numbers([outputs, width], 3);
  // Outliers meet small weights, as in trained models.
  weight.data.forEach(
    (v, i) => (weight.data[i] = v / (name === "behind a norm" ? Math.abs(scale.data[i % width]) + 1 : 1)),
  );
  const entered = enter(x);
  const map = add(matmul(entered, transposeLast(constant(weight))), constant(numbers([outputs], 4)));
  const y = add(map, lowRank(entered, { A, B }));
  // Gradients of all sizes come in, token by token.
  const back = numbers([images, tokens, outputs], 5);
  back.data.forEach((v, i) => (back.data[i] = v * 2 ** (Math.floor(i / outputs) % 6)));
  const [dA, dB, dx] = gradients(reduceSum(mul(y, constant(back))), [A, B, x]);
  const results = { added: add(y, mul(map, -1)), dA, dB, dx };
  const feeds = {
    x: numbers([images, tokens, width], 6),
    A: numbers([rank, width], 7),
    B: numbers([outputs, rank], 8),
  };
  feeds.x.data.forEach((v, i) => (feeds.x.data[i] = v * spread ** ((Math.floor(i / width) % 5) / 4)));
  const exact = await runOnce(device, [x, A, B], results, feeds);
  const inputs = { trained: ["A", "B"], lowRank: ["A", "B"] };
  // A matrix is rounded to 1/254 or 1/126 of its largest number, four to six times its usual one: 1 or 2 % of that, and each
  // result has two to four such roundings behind it. The thin side of a gradient is multiplied by tokens' sizes, so most of its
  // rows are further below the largest.
  for (const bits of new Set([await largestOn(device), safeWeight])) {
    const int8 = { largest: bits, parts: ["adapters"] as const, inputs };
    const near = await runOnce(device, [x, A, B], results, feeds, { int8 });
    for (const key of Object.keys(results)) {
      const error = distance(near[key] as FloatTensor, exact[key] as FloatTensor);
      expect(error, `${key}, weights up to ${bits}`).toBeLessThan(bits === safeWeight ? 0.08 : 0.04);
      expect(error, key).toBeGreaterThan(1e-4);
    }
  }
});
