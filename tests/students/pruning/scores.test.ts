// Scores of heads and channels: magnitudes and Wanda against plain loops, gradients at gates against finite differences in float64.
import { describe, expect, test } from "vitest";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import { constant } from "../../../src/engine/graph/build.ts";
import type { VitConfig } from "../../../src/models/config.ts";
import { plainVit } from "../../../src/models/config.ts";
import type { ModelDefinition } from "../../../src/models/definition.ts";
import { expectedWeights } from "../../../src/models/weight-table.ts";
import { keptByPairs, pairCost, pairSums } from "../../../src/students/pruning/correlated-order.ts";
import { randomCrops } from "../../../src/students/pruning/crops.ts";
import { evolve } from "../../../src/students/pruning/evolution.ts";
import { meanSquares } from "../../../src/students/pruning/gate-scores.ts";
import { gateFeeds, gateGradientGraph, gradientLosses, gradientName } from "../../../src/students/pruning/gates.ts";
import { addMoments, emptyMoments } from "../../../src/students/pruning/moments.ts";
import { keepLargest, magnitudeScores } from "../../../src/students/pruning/units.ts";
import { keptByWanda, wandaInputs } from "../../../src/students/pruning/wanda-scores.ts";
import { drawStream } from "../../../src/utils/random.ts";
import type { Tensor } from "../../../src/utils/tensor.ts";
import { elementCount } from "../../../src/utils/tensor.ts";
import { noise } from "../../support/noise.ts";

const config: VitConfig = {
  ...plainVit,
  imageSize: 6,
  patchSize: 2,
  channels: 3,
  width: 8,
  depth: 2,
  heads: 4,
  mlpWidth: 12,
  normEpsilon: 1e-6,
  layerScale: true,
};
const random = drawStream(9, "weights");
const weights = new Map(
  [...expectedWeights(config)].map(([name, dims]) => [
    name,
    {
      type: "float32",
      dims,
      data: Float32Array.from({ length: elementCount(dims) }, () => 0.5 * random.normal()),
    } as const,
  ]),
);
const student: ModelDefinition = {
  config,
  weights,
  preprocessing: { imageSize: 6, mean: [0, 0, 0], std: [1, 1, 1] } as never,
  origin: {} as never,
};
const at = (name: string, row: number, column: number) => {
  const tensor = weights.get(name);
  if (!tensor) throw new Error(name);
  return tensor.data[row * tensor.dims[1] + column];
};

test("the largest stay, the first of equal ones", () => {
  expect(keepLargest([3, 5, 5, 1, 5], 2)).toEqual([1, 2]);
  expect(keepLargest([1, 2, 3], 3)).toEqual([0, 1, 2]);
});

describe("magnitudes", () => {
  const scores = magnitudeScores(student, 1);
  test("of heads: their rows of q, k and v and their columns of the output map", () => {
    for (let head = 0; head < 4; head++) {
      let sum = 0;
      for (const channel of [2 * head, 2 * head + 1])
        for (let i = 0; i < 8; i++) {
          for (const part of [0, 8, 16]) sum += at("blocks.1.attn.qkv.weight", part + channel, i) ** 2;
          sum += at("blocks.1.attn.proj.weight", i, channel) ** 2;
        }
      expect(scores.heads[head]).toBeCloseTo(Math.sqrt(sum), 9);
    }
  });
  test("of channels: their row of fc1 and their column of fc2", () => {
    for (let channel = 0; channel < 12; channel++) {
      let sum = 0;
      for (let i = 0; i < 8; i++)
        sum += at("blocks.1.mlp.fc1.weight", channel, i) ** 2 + at("blocks.1.mlp.fc2.weight", i, channel) ** 2;
      expect(scores.channels[channel]).toBeCloseTo(Math.sqrt(sum), 9);
    }
  });
});

test("Wanda: weights times the norms of their inputs, summed over a unit", () => {
  const tokens = Array.from({ length: 5 }, () => Array.from({ length: 8 }, () => Math.fround(random.normal())));
  const squares = Float32Array.from({ length: 8 }, (_, i) => tokens.reduce((sum, x) => sum + x[i] ** 2, 0));
  const moments = addMoments(emptyMoments(8), squares, new Float32Array(8), 5);
  const place = { student, config, block: 0, moments };
  const wanted = Array.from({ length: 8 }, (_, i) => {
    const norm = Math.hypot(...tokens.map((x) => x[i]));
    let sum = 0;
    for (let o = 0; o < 8; o++) sum += Math.abs(at("blocks.0.attn.proj.weight", o, i)) * norm;
    return sum;
  });
  // Squares are summed in float32.
  wandaInputs(place, "heads").forEach((value, i) => expect(value).toBeCloseTo(wanted[i], 4));
  const heads = [0, 1, 2, 3].map((head) => wanted[2 * head] + wanted[2 * head + 1]);
  const best = [0, 1, 2, 3].sort((a, b) => heads[b] - heads[a]).slice(0, 2);
  expect(keptByWanda(place, "heads", 2)).toEqual(best.sort((a, b) => a - b));
});

describe.each(gradientLosses)("gradients at gates, %s loss", (loss) => {
  const wide = ({ dims, data }: Tensor): Tensor<"float64"> => ({
    type: "float64",
    dims,
    data: Float64Array.from(data as Float32Array),
  });
  const constants = new Map([...weights].map(([name, tensor]) => [name, constant(wide(tensor), name)]));
  const weight = (name: string) => {
    const value = constants.get(name);
    if (!value) throw new Error(name);
    return value;
  };
  const pixels = noise([2, 3, 6, 6], 1);
  const feeds: Record<string, Tensor<"float64">> = {
    pixels: wide(pixels),
    crops: wide(randomCrops(pixels, drawStream(2, "crops"))),
  };
  for (const [name, gate] of Object.entries(gateFeeds(config, 2))) feeds[name] = wide(gate);
  const graph = gateGradientGraph(config, weight, pixels.dims, loss, "float64");

  test("equal finite differences, image by image", () => {
    const analytic = evaluate(graph, feeds);
    const lossOf = (name: string, index: number, step: number) => {
      const data = feeds[name].data.slice();
      data[index] += step;
      return evaluate(graph, { ...feeds, [name]: { ...feeds[name], data } }).get("loss")?.data[0] as number;
    };
    // Central differences in float64 with steps of 1e-5: errors of about 1e-10 by the third derivative, and as much by rounding.
    const h = 1e-5;
    let largest = 0;
    for (const [name, index] of [
      ["heads.0", 1],
      ["heads.1", 6],
      ["channels.0", 3],
      ["channels.1", 12 + 5],
    ] as const) {
      const numeric = (lossOf(name, index, h) - lossOf(name, index, -h)) / (2 * h);
      const actual = analytic.get(gradientName(name))?.data[index] as number;
      largest = Math.max(largest, Math.abs(actual));
      expect(Math.abs(actual - numeric)).toBeLessThan(1e-6 * Math.max(1, Math.abs(numeric)));
    }
    expect(largest).toBeGreaterThan(1e-2);
  });
});

test("Taylor scores are mean squares over images", () => {
  const gradients = noise([3, 4], 5);
  meanSquares(gradients).forEach((score, u) => {
    const wanted = (gradients.data[u] ** 2 + gradients.data[4 + u] ** 2 + gradients.data[8 + u] ** 2) / 3;
    expect(score).toBeCloseTo(wanted, 9);
  });
});

describe("crops", () => {
  const even = { type: "float32", dims: [2, 1, 4, 4], data: new Float32Array(32).fill(0.5) } as const;
  test("of an even image are even, and of its size", () => {
    const crops = randomCrops(even, drawStream(0, "crops"));
    expect(crops.dims).toEqual([2, 1, 4, 4]);
    expect([...crops.data].every((value) => Math.abs(value - 0.5) < 1e-6)).toBe(true);
  });
  test("show a part: numbers stay within the image's", () => {
    const ramp = { ...even, data: Float32Array.from({ length: 32 }, (_, i) => i % 4) };
    const { data } = randomCrops(ramp, drawStream(0, "crops"));
    expect(Math.min(...data)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...data)).toBeLessThanOrEqual(3);
    expect(Math.max(...data) - Math.min(...data)).toBeLessThan(3);
  });
});

describe("an order with correlations", () => {
  const gradients = noise([6, 7], 8);
  const pairs = pairSums(gradients);
  test("sums products over images", () => {
    const wanted = Array.from({ length: 6 }, (_, i) => gradients.data[i * 7 + 2] * gradients.data[i * 7 + 5]);
    expect(pairs[2 * 7 + 5]).toBeCloseTo(
      wanted.reduce((a, b) => a + b),
      6,
    );
  });
  test("without them keeps the largest squares", () => {
    const squares = Array.from({ length: 7 }, (_, i) => pairs[i * 7 + i]);
    expect(keptByPairs(pairs, 7, 3, 0)).toEqual(keepLargest(squares, 3));
  });
  test("with them lets go of the unit that adds least, each time", () => {
    const gone: number[] = [];
    for (let left = 6; left >= 3; left--) {
      const staying = keptByPairs(pairs, 7, left, 0.5);
      const next = [0, 1, 2, 3, 4, 5, 6].filter((i) => !staying.includes(i) && !gone.includes(i));
      expect(next).toHaveLength(1);
      const others = [...staying, ...next].map((unit) => pairCost(pairs, 7, [...gone, unit], 0.5));
      expect(pairCost(pairs, 7, [...gone, ...next], 0.5)).toBeCloseTo(Math.min(...others), 9);
      gone.push(...next);
    }
  });
});

test("the evolution strategy climbs, and finds the same again", async () => {
  const goal = [1.5, -0.5, 0.25];
  const run = () =>
    evolve({
      parameters: 3,
      generations: 60,
      random: drawStream(4, "evolution"),
      worth: async (candidate) => -goal.reduce((sum, value, i) => sum + (candidate[i] - value) ** 2, 0),
    });
  const { best, worth } = await run();
  expect(worth).toBeGreaterThan(-1e-2);
  expect((await run()).best).toEqual(best);
});
