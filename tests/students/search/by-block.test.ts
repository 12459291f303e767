// Blocks that differ: what cuts cost against explicit float64 solutions, shapes within a budget, and students that compute, save and
// load what they should.
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import {
  analyticDefaults,
  analyticStart,
  choosePrecision,
  copyBlocks,
  distill,
  loadModel,
  Model,
  saveModel,
} from "wecolora/node";
import type { Environment } from "../../../src/context/environment.ts";
import { runContext } from "../../../src/context/run-context.ts";
import { emptySums, RidgeSolver, ridgeOf } from "../../../src/engine/linalg/ridge.ts";
import type { BlockShape, VitConfig } from "../../../src/models/config.ts";
import { blockShapes, tokenCount, withBlockShapes } from "../../../src/models/config.ts";
import { parameterCount } from "../../../src/models/definition.ts";
import { isHeldBy } from "../../../src/models/conform.ts";
import { expectedWeights } from "../../../src/models/weight-table.ts";
import { channelCosts, headCosts, withChannels, withHeads } from "../../../src/students/closed-form/narrowing.ts";
import type { BlockCosts } from "../../../src/students/search/cut-costs.ts";
import { rankCuts } from "../../../src/students/search/cut-costs.ts";
import {
  blockWeights,
  budgetDefaults,
  shapeForBudget,
  wholeBudget,
} from "../../../src/students/search/shape-for-budget.ts";
import { ladderOf } from "../../../src/students/search/ladder.ts";
import { studentsOfSizes } from "../../../src/students/search/sizes.ts";
import { runResultSchema } from "../../../src/workspace/run-schemas.ts";
import { drawStream } from "../../../src/utils/random.ts";
import { zeros } from "../../../src/utils/tensor.ts";
import { noiseFolder } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { eliminate } from "../../support/elimination.ts";
import { referencePath } from "../../support/reference.ts";
import { comparedImages, differenceTo, refittedBatches } from "../../support/students.ts";

const device = inlineDevice();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-by-block-"));
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

/** Correlated inputs with a one for the bias, and a map that reads them. */
function problem(width: number, outputs: number, count: number) {
  const random = drawStream(3, width);
  const map = zeros([outputs, width]);
  for (let i = 0; i < map.data.length; i++) map.data[i] = random.normal() * (0.1 + (i % width) / width);
  const sums = emptySums(width + 1, outputs);
  for (let r = 0; r < count; r++) {
    const base = random.normal();
    const row = [...Array.from({ length: width }, (_, i) => random.normal() + (i % 3) * base), 1];
    row.forEach((a, i) => row.forEach((b, j) => (sums.gram[i * (width + 1) + j] += a * b)));
  }
  return { map, sums };
}

/** Squared error (and ridge) where some inputs go and the map is refitted for the others, by explicit elimination. */
function leftWithout(gone: readonly number[], map: FloatTensor, gram: Float64Array, ridge: Float64Array): number {
  const [outputs, width] = map.dims;
  const n = width + 1;
  const kept = Array.from({ length: n }, (_, i) => i).filter((i) => !gone.includes(i));
  const at = (i: number, j: number) => gram[i * n + j] + (i === j ? ridge[i] : 0);
  const inner = Float64Array.from(kept.flatMap((i) => kept.map((j) => at(i, j))));
  const weight = (o: number, i: number) => map.data[o * width + i];
  const cross = Float64Array.from(
    kept.flatMap((i) =>
      Array.from({ length: outputs }, (_, o) => gone.reduce((s, j) => s + at(i, j) * weight(o, j), 0)),
    ),
  );
  const solved = eliminate(kept.length, outputs, inner, cross);
  let left = 0;
  for (let o = 0; o < outputs; o++) {
    for (const i of gone) for (const j of gone) left += weight(o, i) * at(i, j) * weight(o, j);
    kept.forEach((_, k) => (left -= cross[k * outputs + o] * solved[k * outputs + o]));
  }
  return left;
}

describe("costs of cuts", () => {
  test("channels: the curve is the error of explicit refits, channel after channel", async () => {
    const { map, sums } = problem(9, 4, 60);
    const solver = new RidgeSolver(device);
    const { costs } = await channelCosts(solver, sums, map, 0.2);
    await solver.dispose();
    const ridge = ridgeOf(sums, 0.2);
    // Removed one after the other in the order of their cost alone.
    const alone = Array.from({ length: 9 }, (_, i) => leftWithout([i], map, sums.gram, ridge));
    const order = alone.map((_, i) => i).sort((a, b) => alone[a] - alone[b]);
    for (let gone = 0; gone <= 9; gone++) {
      const expected = leftWithout(order.slice(0, gone), map, sums.gram, ridge);
      // Products in float64, of numbers of about a hundred.
      expect(Math.abs(costs[9 - gone] - expected)).toBeLessThan(1e-8 * costs[0]);
    }
  });

  test("heads: no head left costs all that they gave; each one less costs more", async () => {
    const { map, sums } = problem(8, 5, 70);
    const solver = new RidgeSolver(device);
    const { costs, order } = await headCosts(solver, sums, map, 2, 0.2);
    await solver.dispose();
    const ridge = ridgeOf(sums, 0.2);
    expect(costs).toHaveLength(5);
    expect(costs[4]).toBe(0);
    expect([...order].sort()).toEqual([0, 1, 2, 3]);
    const all = Array.from({ length: 8 }, (_, i) => i);
    expect(Math.abs(costs[0] / leftWithout(all, map, sums.gram, ridge) - 1)).toBeLessThan(1e-8);
    const heads = [0, 1, 2, 3].map((head) => [2 * head, 2 * head + 1]);
    const least = Math.min(...heads.map((head) => leftWithout(head, map, sums.gram, ridge)));
    expect(Math.abs(costs[3] / least - 1)).toBeLessThan(1e-8);
    for (let kept = 0; kept < 4; kept++) expect(costs[kept]).toBeGreaterThan(costs[kept + 1]);
  });
});

const tiny: VitConfig = {
  imageSize: 8,
  patchSize: 4,
  channels: 3,
  width: 64,
  depth: 3,
  heads: 2,
  mlpWidth: 128,
  mlp: "plain",
  activation: "gelu",
  normEpsilon: 1e-6,
  qkvBias: true,
  patchBias: true,
  prefix: [{ weight: "cls_token", count: 1 }],
  positions: { kind: "learned", prefix: 1 },
  resampling: "bicubic",
  preNorm: false,
  layerScale: false,
  finalNorm: "tokens",
  pooling: "class",
  pooler: false,
};

describe("a shape for a budget", () => {
  const random = drawStream(5, 1);
  /** Costs that fall ever more slowly, of other sizes in each block. */
  const curve = (sizes: number, scale: number) =>
    Float64Array.from({ length: sizes + 1 }, (_, kept) => scale * (1 - kept / sizes) ** 2);
  const one = { none: 1, tokens: 1, pooled: 1, last: 1 };
  const costs: BlockCosts[] = Array.from({ length: 3 }, () => ({
    heads: curve(2, 0.1 + random.uniform()),
    mlpWidth: curve(128, 0.1 + random.uniform()),
    effects: { heads: one, mlpWidth: one },
  }));
  const costOf = (heads: readonly number[], widths: readonly number[]) =>
    costs.reduce((sum, own, i) => sum + own.heads[heads[i]] + own.mlpWidth[widths[i]], 0);

  test("is within it, and costs no more than the best of all shapes for one step less", () => {
    const whole = wholeBudget(tiny, "weights");
    expect(whole).toBe(blockWeights(tiny, blockShapes(tiny)));
    const sizes = [0, 32, 64, 96, 128];
    const picks = [0, 1, 2].flatMap((a) => [0, 1, 2].flatMap((b) => [0, 1, 2].map((c) => [a, b, c])));
    const channels = sizes.flatMap((a) => sizes.flatMap((b) => sizes.map((c) => [a, b, c])));
    const shapes = picks.flatMap((heads) =>
      channels.map((widths) => ({
        cost: costOf(heads, widths),
        spent: blockWeights(
          tiny,
          heads.map((h, i) => ({ heads: h, mlpWidth: widths[i] })),
        ),
      })),
    );
    // A Lagrangian finds the best of each price; between prices it may leave less than the largest step unspent.
    const step = blockWeights(tiny, [{ heads: 1, mlpWidth: 0 }]);
    for (const share of [0.25, 0.4, 0.5, 0.75]) {
      const actual = shapeForBudget(tiny, costs, share * whole);
      const spent = blockWeights(tiny, actual.shapes);
      expect(spent).toBeLessThanOrEqual(share * whole);
      const heads = [0, 0, 0];
      const widths = [0, 0, 0];
      actual.kept.forEach(
        (block, i) => ([heads[block], widths[block]] = [actual.shapes[i].heads, actual.shapes[i].mlpWidth]),
      );
      const least = Math.min(...shapes.filter((s) => s.spent <= share * whole - step).map((s) => s.cost));
      expect(costOf(heads, widths)).toBeLessThanOrEqual(least);
    }
    expect(shapeForBudget(tiny, costs, whole)).toEqual({ kept: [0, 1, 2], shapes: blockShapes(tiny) });
  });

  test("takes channels of queries where these cost less than heads and channels", () => {
    const lost = curve(32, 1);
    const measured = (effect: number) =>
      costs.map((own) => ({ ...own, queries: { lost, effects: { ...one, last: effect } } }));
    const half = wholeBudget(tiny, "weights") / 2;
    const of = (effect: number) => shapeForBudget(tiny, measured(effect), half, { ...budgetDefaults, queryFactor: 1 });
    const [free, dear] = [of(0), of(1e9)];
    for (const { heads, queryWidth } of free.shapes) if (heads > 0) expect(queryWidth).toBe(4);
    expect(dear).toEqual(shapeForBudget(tiny, costs, half));
    const some = of(0.2);
    for (const { shapes } of [free, dear, some]) expect(blockWeights(tiny, shapes)).toBeLessThanOrEqual(half);
    expect(some.shapes.some(({ queryWidth = 32 }) => queryWidth > 4 && queryWidth < 32)).toBe(true);
    // The factor counts as the effects do.
    const factored = shapeForBudget(tiny, measured(1), half, { ...budgetDefaults, queryFactor: 0.2 });
    expect(factored).toEqual(some);
  });

  test("for a time, parts go whole; for weights, all get narrower", () => {
    const even = costs.map((): BlockCosts => ({
      heads: curve(2, 1),
      mlpWidth: curve(128, 1),
      effects: { heads: one, mlpWidth: one },
    }));
    const keptParts = (unit: "weights" | "time", partOverhead: number) => {
      const options = { ...budgetDefaults, unit, partOverhead };
      const { shapes } = shapeForBudget(tiny, even, wholeBudget(tiny, unit, options) / 2, options);
      return shapes.reduce((sum, { heads, mlpWidth }) => sum + Number(heads > 0) + Number(mlpWidth > 0), 0);
    };
    expect(keptParts("weights", 0)).toBe(6);
    expect(keptParts("time", 100_000)).toBe(3);
    // The overhead counts as multiplications for each number of a part's tokens.
    const whole = (unit: "operations" | "time") => wholeBudget(tiny, unit, { ...budgetDefaults, partOverhead: 7 });
    expect(whole("time") - whole("operations")).toBe(6 * 7 * tokenCount(tiny) * tiny.width);
  });

  test("one width for all blocks is a plain configuration again, and others are not for transformers and timm", () => {
    const alike = [1, 2, 3].map(() => ({ heads: 1, mlpWidth: 64 }));
    expect(withBlockShapes(tiny, alike)).toEqual({ ...tiny, heads: 1, headWidth: 32, mlpWidth: 64 });
    const differing = withBlockShapes(tiny, [...alike.slice(1), { heads: 0, mlpWidth: 32 }]);
    expect(differing.blocks).toHaveLength(3);
    expect([...expectedWeights(differing).keys()].filter((name) => name.startsWith("blocks.2."))).toEqual([
      "blocks.2.norm2.weight",
      "blocks.2.norm2.bias",
      "blocks.2.mlp.fc1.weight",
      "blocks.2.mlp.fc1.bias",
      "blocks.2.mlp.fc2.weight",
      "blocks.2.mlp.fc2.bias",
    ]);
    expect(isHeldBy({ config: tiny }, "timm")).toBe(true);
    for (const library of ["timm", "transformers"] as const)
      expect(isHeldBy({ config: differing }, library)).toBe(false);
    expect(isHeldBy({ config: differing }, "wecolora")).toBe(true);
  });
});

describe("students of blocks that differ", () => {
  const pixels = comparedImages();
  const batches = refittedBatches;

  test("a ladder for a time falls in time, is named by weights, and has no student without parts", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const context = runContext({} as Environment);
    const ladder = (unit: "weights" | "time") =>
      ladderOf(teacher, { shape: "by-block", levers: ["shape"], unit }, batches(), context);
    const [byWeights, byTime] = [await ladder("weights"), await ladder("time")];
    expect(byWeights.weightShares).toEqual(byWeights.shares);
    const whole = wholeBudget(teacher.config, "weights");
    for (const { shares, weightShares, blank } of [byWeights, byTime])
      shares.forEach((share, i) => {
        if (i > 0) expect(share).toBeLessThan(shares[i - 1]);
        const { config } = blank(i);
        expect(config.depth).toBeGreaterThan(0);
        expect(blockWeights(config, blockShapes(config)) / whole).toBeLessThanOrEqual(weightShares[i] + 1e-12);
      });
    await teacher.dispose();
  });

  test.each(["timm-vit", "timm-deit3-ls", "hf-dinov2"])(
    "%s: a block without its attention or MLP computes what it does where these give nothing",
    async (name) => {
      const teacher = await loadModel(referencePath(`teachers/${name}`), { device });
      const some = copyBlocks(teacher, [0, 1, 2]);
      const cut = withChannels(withHeads(some, 1, []), 2, []);
      expect([...cut.weights].map(([key, { dims }]) => [key, dims])).toEqual(
        expect.arrayContaining([...expectedWeights(cut.config)]),
      );
      const weights = new Map(some.weights);
      for (const silent of ["blocks.1.attn.proj", "blocks.2.mlp.fc2"])
        for (const part of ["weight", "bias"]) {
          const own = weights.get(`${silent}.${part}`) as FloatTensor;
          weights.set(`${silent}.${part}`, zeros(own.dims));
        }
      const [without, with0] = [new Model(cut, device), new Model({ ...some, weights }, device)];
      const [a, b] = [await without.outputs(pixels, ["pooled"]), await with0.outputs(pixels, ["pooled"])];
      // Zeros are added, and fusions may differ.
      a.pooled.data.forEach((v, i) => expect(Math.abs(v - b.pooled.data[i])).toBeLessThan(1e-5));
      for (const model of [without, with0, teacher]) await model.dispose();
    },
  );

  test.each(["timm-vit", "timm-deit3-ls", "hf-dinov2"])(
    "%s: a student by cost is nearer to the teacher than bare cuts, keeps its budget, and is loaded as it was saved",
    async (name) => {
      const teacher = await loadModel(referencePath(`teachers/${name}`), { device });
      const { config } = teacher;
      const costs = await rankCuts(teacher, batches());
      expect(costs).toHaveLength(config.depth);
      for (const { heads, mlpWidth, effects } of costs) {
        expect([heads.length, mlpWidth.length]).toEqual([config.heads + 1, config.mlpWidth + 1]);
        for (const part of [effects.heads, effects.mlpWidth])
          for (const value of Object.values(part)) expect(value).toBeGreaterThan(0);
      }
      const budget = wholeBudget(config, "weights") / 2;
      const { kept, shapes } = shapeForBudget(config, costs, budget);
      const { student } = await analyticStart(teacher, kept, batches(), { ...analyticDefaults, shapes });
      expect(blockWeights(student.config, blockShapes(student.config))).toBeLessThanOrEqual(budget);
      expect(blockShapes(student.config)).toEqual(shapes);
      let bare = copyBlocks(teacher, kept);
      const first = (count: number) => Array.from({ length: count }, (_, i) => i);
      shapes.forEach(({ heads, mlpWidth }, block) => {
        if (heads < config.heads) bare = withHeads(bare, block, first(heads));
        if (mlpWidth < config.mlpWidth) bare = withChannels(bare, block, first(mlpWidth));
      });
      const [fitted, cut] = [new Model(student, device), new Model(bare, device)];
      const left = await differenceTo(teacher, fitted, pixels);
      expect(left).toBeLessThan(await differenceTo(teacher, cut, pixels));
      const saved = join(folder, name);
      await saveModel(fitted, saved, { format: "safetensors" });
      const loaded = await loadModel(saved, { device });
      expect(loaded.config).toEqual(student.config);
      // Weights are stored in the teacher's type.
      expect(Math.abs((await differenceTo(teacher, loaded, pixels)) / left - 1)).toBeLessThan(1e-2);
      await expect(saveModel(fitted, join(folder, `hf-${name}`), { format: "huggingface" })).rejects.toThrow(
        "classes want one width",
      );
      for (const model of [fitted, cut, loaded, teacher]) await model.dispose();
    },
  );

  test("several sizes from one ranking: each within its share, the larger nearer to the teacher", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const shares = [0.4, 0.6, 0.8];
    const students = await studentsOfSizes(teacher, batches(), shares);
    const left: number[] = [];
    for (const [i, { student, share }] of students.entries()) {
      expect(share).toBe(shares[i]);
      expect(parameterCount(student)).toBeLessThanOrEqual(share * parameterCount(teacher));
      const model = new Model(student, device);
      left.push(await differenceTo(teacher, model, pixels));
      await model.dispose();
    }
    expect(left).toEqual([...left].sort((a, b) => b - a));
    await expect(studentsOfSizes(teacher, batches(), [0.001])).rejects.toThrow("budget must be at least");
    await teacher.dispose();
  });

  test("block shapes that don't fit the teacher or the kept blocks are refused", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const { heads, mlpWidth } = teacher.config;
    const start = (shapes: BlockShape[]) => analyticStart(teacher, [0, 1], batches(), { ...analyticDefaults, shapes });
    await expect(start([{ heads, mlpWidth }])).rejects.toThrow("blockShapes must be one for each of the 2 kept blocks");
    for (const wrong of [
      { heads: heads + 1, mlpWidth },
      { heads, mlpWidth: mlpWidth + 1 },
      { heads: 0, mlpWidth: 0 },
    ])
      await expect(start([{ heads, mlpWidth }, wrong])).rejects.toThrow(`at most ${heads}x${mlpWidth}`);
    await teacher.dispose();
  });

  test("its ONNX files compute the same, and the closed form in 8 bits gives a student about as near", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const { heads, mlpWidth } = teacher.config;
    const kept = [0, 1, 2, 3];
    const shapes = [
      { heads, mlpWidth: mlpWidth / 2, queryWidth: 4, valueWidth: 6 },
      { heads: heads / 2, mlpWidth: 0 },
      { heads: 0, mlpWidth },
      { heads: heads / 2, mlpWidth: mlpWidth / 4 },
    ];
    const { int8 } = await choosePrecision(teacher, { wanted: "int8" });
    const left: number[] = [];
    for (const bits of [undefined, int8]) {
      const { student } = await analyticStart(teacher, kept, batches(), { ...analyticDefaults, shapes, int8: bits });
      const model = new Model(student, device);
      left.push(await differenceTo(teacher, model, pixels));
      const expected = await model.outputs(pixels, ["lastHiddenState"]);
      if (!bits)
        for (const [format, file, tolerance] of [
          ["onnx", "model.onnx", 1e-4],
          ["onnx-float16", "model_fp16.onnx", 2e-2],
        ] as const) {
          await saveModel(model, join(folder, format), { format });
          const session = await device.createSession({ model: readFileSync(join(folder, format, "onnx", file)) });
          const { tensors } = await session.run({ feeds: { pixel_values: pixels }, fetch: ["last_hidden_state"] });
          await session.dispose();
          // Float32 in another order; half precision has 11 bits.
          const { data } = tensors.last_hidden_state as FloatTensor;
          data.forEach((v, i) => expect(Math.abs(v - expected.lastHiddenState.data[i])).toBeLessThan(tolerance));
        }
      await model.dispose();
    }
    expect(left[1]).not.toBe(left[0]);
    // What is wanted of 8 bits in a whole run.
    expect(left[1] / left[0]).toBeLessThan(1.02);
    await teacher.dispose();
  });

  test("distill chooses them for a budget, says them, and stores them", async () => {
    const data = await noiseFolder("by-block");
    const out = join(folder, "run");
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const options = { shape: "by-block", budget: "0.5x", evaluate: false, report: false, overwrite: true } as const;
    const result = await distill({ teacher: referencePath("teachers/timm-vit"), data, out, ...options });
    const { shapes = [], keptBlocks } = result;
    expect(shapes).toHaveLength(keptBlocks.length);
    const student = await loadModel(join(out, "student"), { device });
    expect(blockShapes(student.config)).toEqual(shapes);
    const written = runResultSchema.parse(JSON.parse(readFileSync(join(out, "result.json"), "utf8")));
    expect(written.shapes).toEqual(shapes);
    expect(shapes.some(({ queryWidth }) => queryWidth !== undefined)).toBe(true);
    expect(parameterCount(student)).toBeLessThanOrEqual(parameterCount(teacher) / 2);
    await student.dispose();
    await teacher.dispose();
    await rm(data, { recursive: true });
  });
});
