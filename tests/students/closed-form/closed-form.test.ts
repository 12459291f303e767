// The closed-form start: its solver against float64 loops, and that it is never worse than the weight copy.
import { afterAll, describe, expect, test } from "vitest";
import type { AnalyticOptions, FloatTensor, Tensor } from "wecolora/node";
import {
  analyticDefaults,
  analyticStart,
  choosePrecision,
  copyBlocks,
  createDistillation,
  createNodeDevice,
  loadModel,
  Model,
} from "wecolora/node";
import { emptySums, meanDiagonal, RidgeSolver } from "../../../src/engine/linalg/ridge.ts";
import { blockRuns, searchBlocks } from "../../../src/students/search/block-search.ts";
import { joinGraph, sampleGraph } from "../../../src/students/closed-form/refit-graphs.ts";
import { addedUp, partFeed, sumParts, sumsFrom } from "../../../src/students/closed-form/refit-sums.ts";
import { checkKeptBlocks, stoodFor } from "../../../src/students/kept-blocks.ts";
import { input } from "../../../src/engine/graph/build.ts";
import { distillOptions } from "../../../src/commands/distill-options.ts";
import { drawStream } from "../../../src/utils/random.ts";
import { rows } from "../../../src/utils/tensor.ts";
import { distillArguments, noiseImage, wecolora } from "../../support/cli.ts";
import { changed, inlineDevice, runOnce } from "../../support/device.ts";
import { eliminate } from "../../support/elimination.ts";
import { noise } from "../../support/noise.ts";
import { readReference, referencePath, relativeError } from "../../support/reference.ts";
import { differenceTo, narrowableTeachers } from "../../support/students.ts";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

describe("the ridge solver", () => {
  const device = inlineDevice();
  afterAll(() => device.dispose());

  function system(n: number, m: number, count: number, scale: (column: number) => number) {
    const random = drawStream(4, n, count);
    const sums = emptySums(n, m);
    for (let r = 0; r < count; r++) {
      const g = Float64Array.from({ length: n }, (_, i) => scale(i) * random.normal());
      const y = Float64Array.from({ length: m }, () => random.normal());
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) sums.gram[i * n + j] += g[i] * g[j];
        for (let k = 0; k < m; k++) sums.cross[i * m + k] += g[i] * y[k];
      }
    }
    return sums;
  }

  test.each<[string, number, number, (i: number) => number, number, number]>([
    ["random, smaller than a panel", 40, 100, () => 1, 0.1, 1e-12],
    ["random, of several panels", 300, 400, () => 1, 0.1, 1e-12],
    ["fewer rows than unknowns", 200, 30, () => 1, 0.1, 1e-12],
    ["badly scaled", 150, 300, (i) => 10 ** ((i % 7) - 3), 1e-3, 1e-8],
    ["a panel and one", 129, 200, () => 1, 0.01, 1e-11],
  ])("%s", async (_, n, count, scale, ridge, tolerance) => {
    const sums = system(n, 5, count, scale);
    const lambda = ridge * meanDiagonal(sums);
    const solver = new RidgeSolver(device);
    const actual = await solver.solve(sums, new Float64Array(n).fill(lambda));
    await solver.dispose();
    const shifted = sums.gram.slice();
    for (let i = 0; i < n; i++) shifted[i * n + i] += lambda;
    expect(relativeError(actual, eliminate(n, 5, shifted, sums.cross))).toBeLessThan(tolerance);
  });

  test.each([40, 300, 513])("the diagonal of an inverse of %i rows", async (n) => {
    const sums = system(n, 1, 2 * n, (i) => 1 + (i % 5));
    const lambda = 0.05 * meanDiagonal(sums);
    const shifted = sums.gram.slice();
    const identity = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      shifted[i * n + i] += lambda;
      identity[i * n + i] = 1;
    }
    const solver = new RidgeSolver(device);
    const actual = await solver.inverseDiagonal(sums, new Float64Array(n).fill(lambda));
    await solver.dispose();
    const inverse = eliminate(n, n, shifted, identity);
    expect(
      relativeError(
        actual,
        actual.map((_, i) => inverse[i * n + i]),
      ),
    )
      // Products are float32; what it ranks differs by much more.
      .toBeLessThan(1e-5);
  });

  test.each([30, 513, 700])("G'G and G'R of %i columns and ones, over two batches", async (width) => {
    const [count, m] = [20, 7];
    const batches = [0, 1].map((b) => ({
      g: noise([count, width], 6, width + b),
      r: noise([count, m], 6, width + 2 + b),
    }));
    const [g, r] = [input("g", "float32", [count, width]), input("r", "float32", [count, m])];
    let parts: Record<string, Tensor> = {};
    for (const [b, feeds] of batches.entries()) {
      const { inputs, outputs } = addedUp(sumParts(g, r), b === 0);
      const before = Object.fromEntries(Object.entries(parts).map(([name, part]) => [partFeed(name), part]));
      parts = await runOnce(device, [g, r, ...inputs], outputs, { ...feeds, ...before });
    }
    const { gram, cross, n } = sumsFrom(parts, 2 * count, m);
    const dot = (left: (batch: number, row: number) => number, right: (batch: number, row: number) => number) => {
      let sum = 0;
      for (let b = 0; b < 2; b++) for (let row = 0; row < count; row++) sum += left(b, row) * right(b, row);
      return sum;
    };
    const entered = (i: number) => (b: number, row: number) => (i === width ? 1 : batches[b].g.data[row * width + i]);
    const missing = (j: number) => (b: number, row: number) => batches[b].r.data[row * m + j];
    const expected = {
      gram: Float64Array.from({ length: n * n }, (_, at) => dot(entered(Math.floor(at / n)), entered(at % n))),
      cross: Float64Array.from({ length: n * m }, (_, at) => dot(entered(Math.floor(at / m)), missing(at % m))),
    };
    // Sums of 20 float32 products.
    expect(relativeError(gram, expected.gram)).toBeLessThan(1e-6);
    expect(relativeError(cross, expected.cross)).toBeLessThan(1e-6);
  });

  test.each([1, 2, 4, 100])("every token in %i of two batches as rows, from the first of each on", async (stride) => {
    const tokens = (images: number, from: number): FloatTensor => ({
      type: "float32",
      dims: [images, 5, 2],
      data: Float32Array.from({ length: 10 * images }, (_, i) => from + i),
    });
    const batches = [tokens(3, 0), tokens(2, 30)];
    const parts: Tensor[] = [];
    for (const tokens of batches) {
      const { inputs, outputs } = sampleGraph(tokens.dims, stride);
      parts.push((await runOnce(device, inputs, Object.fromEntries(outputs), { tokens })).rows);
    }
    const { inputs, outputs } = joinGraph(parts.map(({ dims }) => dims));
    const feeds = Object.fromEntries(parts.map((part, i) => [`rows.${i}`, part]));
    const { rows } = await runOnce(device, inputs, Object.fromEntries(outputs), feeds);
    const numbers = batches.flatMap(({ data }) => {
      const count = Math.max(1, Math.floor(data.length / 2 / stride));
      return Array.from({ length: count }, (_, i) => i * stride).flatMap((row) => [data[2 * row], data[2 * row + 1]]);
    });
    expect([...(rows.data as Float32Array)]).toEqual(numbers);
  });

  test("sums that are not finite are refused", async () => {
    const sums = system(20, 2, 30, () => 1);
    sums.gram[0] = Number.NaN;
    await expect(new RidgeSolver(device).solve(sums, new Float64Array(20).fill(1))).rejects.toThrow(
      "not positive definite",
    );
  });
});

async function* batchesOf(pixels: FloatTensor, size: number) {
  for (let i = 0; i < pixels.dims[0]; i += size) yield rows(pixels, i, Math.min(pixels.dims[0], i + size));
}

const images = (count: number, seed: number, side = 32) => noise([count, 3, side, side], seed);

const teachers = [...narrowableTeachers, "more-hf-siglip", "more-hf-dinov2-swiglu"];

describe.each(teachers)("%s", (name) => {
  test.each<[string, () => FloatTensor, number, number?]>([
    ["many images", () => images(60, 1), 4],
    ["a sample of many images' tokens", () => images(60, 1), 4, 1],
    ["one image", () => images(1, 2), 1],
    [
      "images all alike",
      () => {
        const one = images(1, 3);
        return {
          ...one,
          dims: [10, 3, 32, 32],
          data: Float32Array.from({ length: 10 * one.data.length }, (_, i) => one.data[i % one.data.length]),
        };
      },
      2,
    ],
  ])(
    "is no worse than the weight copy on other images, from %s",
    async (kind, make, size, tokensPerUnknown = analyticDefaults.tokensPerUnknown) => {
      const teacher = await loadModel(referencePath(`teachers/${name}`));
      const kept = teacher.config.depth === 3 ? [0, 1] : [0, 2, 4];
      const { student, refits } = await analyticStart(teacher, kept, batchesOf(make(), size), {
        ...analyticDefaults,
        tokensPerUnknown,
      });
      for (const { share } of refits.filter(({ map }) => map === "proj" || map === "fc2"))
        expect(share).toBeLessThanOrEqual(1);
      for (const { data } of student.weights.values()) expect(data.every(Number.isFinite)).toBe(true);
      const [refitted, copy] = [
        new Model(student, teacher.device),
        new Model(copyBlocks(teacher, kept), teacher.device),
      ];
      const heldOut = images(8, 77);
      const [after, before] = [
        await differenceTo(teacher, refitted, heldOut),
        await differenceTo(teacher, copy, heldOut),
      ];
      // Never worse; and with one image, of fewer tokens than fc2 has inputs, still clearly better.
      expect(after / before).toBeLessThan(kind.includes("many images") ? 0.6 : 0.8);
      for (const model of [refitted, copy, teacher]) await model.dispose();
    },
  );
});

test("stands for the blocks up to the next kept one", () => {
  expect(stoodFor([0, 2, 4], 6)).toEqual([1, 3, 5]);
  expect(stoodFor([0, 3, 5], 6)).toEqual([2, 4, 5]);
});

describe("on a teacher of ImageNet's blocks", () => {
  const load = () => loadModel(referencePath("teachers/timm-vit"));
  const kept = [0, 2, 4];
  const heldOut = images(8, 77);

  test("tokens that move in 8 bits give a student just as near", async () => {
    const teacher = await load();
    const { int8 } = await choosePrecision(teacher, { wanted: "int8" });
    const left = async (more: Partial<AnalyticOptions>) => {
      const options = { ...analyticDefaults, ...more };
      const { student } = await analyticStart(teacher, kept, batchesOf(images(60, 1), 8), options);
      const model = new Model(student, teacher.device);
      const difference = await differenceTo(teacher, model, heldOut);
      await model.dispose();
      return difference;
    };
    for (const widths of [{}, { mlpWidth: 0.5, keptHeads: 0.5 }]) {
      const [plain, bits] = [await left(widths), await left({ ...widths, int8 })];
      expect(bits).not.toBe(plain);
      // What is wanted of 8 bits in a whole run.
      expect(bits / plain).toBeLessThan(1.02);
    }
    await teacher.dispose();
  });

  test("tokens of images that don't fit in memory lie in a file, and give the same student to the bit", async () => {
    const device = createNodeDevice();
    const allowed: number[] = [];
    const watched = changed(device, {
      allowOffload: async (tensor, most) => {
        allowed.push(most);
        await device.allowOffload?.(tensor, most);
      },
    });
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device: watched });
    const { int8 } = await choosePrecision(teacher, { wanted: "int8" });
    const narrow = { mlpWidth: 0.5, keptHeads: 0.5 };
    const made = async (options: Partial<AnalyticOptions>) => {
      const settings = { ...analyticDefaults, ...options };
      const { student } = await analyticStart(teacher, kept, batchesOf(images(20, 1), 4), settings);
      return [...student.weights].map(([name, { data }]) => [name, data]);
    };
    const cases = [{}, { ...narrow, int8 }, { ...narrow, tokensPerUnknown: 1, sweeps: 2 }];
    for (const options of cases) {
      const inMemory = await made(options);
      expect(new Set(allowed)).toEqual(new Set([512 * 2 ** 20]));
      // 5 batches of 4 * 17 tokens of 32 numbers: some of them, and none.
      for (const tokenMemory of [40_000, 0]) {
        allowed.length = 0;
        expect(await made({ ...options, tokenMemory })).toEqual(inMemory);
        expect(new Set(allowed)).toEqual(new Set([tokenMemory]));
      }
      allowed.length = 0;
    }
    await teacher.dispose();
    await device.dispose();
  });

  test("later sweeps only move what comes nearer, from where the first ended", async () => {
    const teacher = await load();
    const start = (sweeps: number, widths = {}) =>
      analyticStart(teacher, kept, batchesOf(images(60, 1), 8), { ...analyticDefaults, ...widths, sweeps });
    const done: string[] = [];
    const options = { ...analyticDefaults, sweeps: 2 };
    await analyticStart(teacher, kept, batchesOf(images(20, 1), 4), options, (d, t) => done.push(`${d}/${t}`));
    expect(done).toEqual(["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]);
    for (const widths of [{}, { mlpWidth: 0.5, keptHeads: 0.5 }]) {
      const [once, twice] = [await start(1, widths), await start(2, widths)];
      expect(twice.student.config).toEqual(once.student.config);
      expect(twice.refits).toHaveLength(6);
      for (const { share } of twice.refits) expect(share).toBeLessThanOrEqual(1);
      const [first, second] = [new Model(once.student, teacher.device), new Model(twice.student, teacher.device)];
      const [before, after] = [
        await differenceTo(teacher, first, heldOut),
        await differenceTo(teacher, second, heldOut),
      ];
      expect(after / before).toBeLessThan(1.01);
      await first.dispose();
      await second.dispose();
    }
    await teacher.dispose();
  });
});

test("a student that keeps all of its teacher is the teacher, and no images are read for it", async () => {
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const kept = Array.from({ length: teacher.config.depth }, (_, i) => i);
  const { heads, mlpWidth } = teacher.config;
  const unread: AsyncIterable<FloatTensor> = {
    [Symbol.asyncIterator]() {
      throw new Error("an image was read");
    },
  };
  const whole = { mlpWidth, keptHeads: heads, shapes: kept.map(() => ({ heads, mlpWidth })) };
  for (const widths of [{}, whole]) {
    const { student, refits } = await analyticStart(teacher, kept, unread, { ...analyticDefaults, ...widths });
    expect(refits).toEqual([]);
    expect(student.config).toEqual(teacher.config);
    expect([...student.weights]).toEqual([...teacher.weights]);
  }
  await teacher.dispose();
});

test("training goes on from it", async () => {
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const input = (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;
  const { student } = await analyticStart(teacher, [0, 2, 4], batchesOf(images(20, 1), 4));
  const settings = { reductionFactor: 2, rank: 2, schedule: { kind: "cosine", warmupEpochs: 0 } } as const;
  const [from, plain] = [
    await createDistillation(teacher, { ...settings, initialStudent: student }),
    await createDistillation(teacher, settings),
  ];
  expect((await from.step([input])).loss).toBeLessThan((await plain.step([input])).loss);
  await expect(createDistillation(teacher, { ...settings, start: "analytic" })).rejects.toThrow("needs images");
});

test("from the command line, and again the same bits", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-analytic-"));
  try {
    for (let i = 0; i < 12; i++) await noiseImage(join(folder, "data", `p${i}.jpg`), i, i % 3);
    const args = ["--start", "analytic", "--rank", "2", "--epochs", "1", "--json"];
    const results = [];
    for (const out of ["a", "b"]) {
      const baseArgs = distillArguments(referencePath("teachers/timm-vit"), join(folder, "data"), join(folder, out));
      const outcome = await wecolora(...baseArgs, ...args);
      expect(outcome).toMatchObject({ code: 0 });
      expect(outcome.err).toContain("the closed form took");
      results.push(JSON.parse(outcome.out.trimEnd().split("\n").at(-1) as string));
    }
    expect(results[0].results[2].fidelity).toEqual(results[1].results[2].fidelity);
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe("searching blocks", () => {
  const load = () => loadModel(referencePath("teachers/timm-vit"));

  test("finds each number of blocks; all of them leave nothing, and more leave less", async () => {
    const teacher = await load();
    const options = { most: 6, longest: 6 };
    const { choices, images: count } = await searchBlocks(teacher, batchesOf(images(18, 1), 6), options);
    expect(count).toBe(18);
    expect(choices.map(({ kept }) => kept.length)).toEqual([1, 2, 3, 4, 5, 6]);
    for (const { kept } of choices) {
      expect(kept[0]).toBe(0);
      expect(() => checkKeptBlocks(kept, 6)).not.toThrow();
    }
    choices.slice(1).forEach(({ residual: left }, i) => expect(left).toBeLessThan(choices[i].residual));
    // A block refitted to its own output stays as it is.
    expect(choices[5].residual).toBeLessThan(1e-6);
    // The search's word against the whole way: of its choice and all others of 3 blocks, none is much nearer.
    const heldOut = images(8, 77);
    const differences = [];
    for (let i = 1; i < 5; i++) {
      for (let j = i + 1; j < 6; j++) {
        const { student } = await analyticStart(teacher, [0, i, j], batchesOf(images(18, 1), 6));
        const model = new Model(student, teacher.device);
        differences.push({ key: `0,${i},${j}`, difference: await differenceTo(teacher, model, heldOut) });
        await model.dispose();
      }
    }
    differences.sort((a, b) => a.difference - b.difference);
    const place = differences.findIndex(({ key }) => key === choices[2].kept.join());
    expect(place).toBeLessThan(differences.length / 3);
    await teacher.dispose();
  });

  test("says how much runs of blocks matter", async () => {
    const teacher = await load();
    const { residuals: left } = await blockRuns(teacher, batchesOf(images(18, 1), 6), 3);
    left.forEach((row, k) => {
      expect(row[k]).toBe(0);
      row.forEach((value, e) => expect(Number.isFinite(value)).toBe(e >= k && e < k + 3));
      if (k + 2 < 6) expect(row[k + 2]).toBeGreaterThan(row[k + 1]);
    });
    await teacher.dispose();
  });

  test("too few images, and too few blocks for all, are refused", async () => {
    const teacher = await load();
    const options = { most: 3, longest: 6 };
    await expect(searchBlocks(teacher, batchesOf(images(2, 1), 4), options)).rejects.toThrow("two batches");
    await expect(searchBlocks(teacher, batchesOf(images(4, 1), 2), { most: 2, longest: 2 })).rejects.toThrow(
      "2 blocks can't stand for 6",
    );
    await teacher.dispose();
  });
});

describe("recipes", () => {
  const base = { teacher: "t", data: "d", out: "o" };
  test("the closed form is the usual, adapters follow where an option speaks of training, a method is taken as it is", () => {
    expect(distillOptions(base)).toMatchObject({
      ...{ recipe: "closed-form", method: "refit", keep: "even" },
      precision: "auto",
    });
    const refined = distillOptions({ ...base, epochs: 3 });
    expect(refined).toMatchObject({
      recipe: "refined",
      method: "wecolora",
      start: "analytic",
      shape: distillOptions(base).shape,
      epochs: 3,
      earlyStop: 2,
      precision: "float32",
    });
    expect(distillOptions({ ...base, recipe: "paper", epochs: 3 })).toMatchObject({ method: "wecolora", epochs: 3 });
    expect(distillOptions({ ...base, recipe: "paper" }).start).toBeUndefined();
    expect(distillOptions({ ...base, method: "lora" })).toMatchObject({ method: "lora" });
    expect(distillOptions({ ...base, method: "lora" }).recipe).toBeUndefined();
    expect(() => distillOptions({ ...base, recipe: "best" })).toThrow("recipe");
    expect(distillOptions({ ...base, start: "copy" })).toMatchObject({ recipe: "refined", start: "weight-copy" });
    // What was written into a run folder means the same when it is read again.
    expect(distillOptions(refined)).toEqual(refined);
  });

  test("the paper's recipe is the paper's, unchanged", () => {
    const { optimizer, ...paper } = distillOptions({ ...base, recipe: "paper" });
    expect(paper).toMatchObject({
      method: "wecolora",
      keep: "even",
      baseLearningRate: 1e-3,
      epochs: 10,
      warmupEpochs: 2,
      schedule: "cosine",
    });
    // 128, or the smaller side of a teacher's maps.
    expect(paper.rank).toBeUndefined();
    expect(optimizer).toMatchObject({ betas: [0.9, 0.95], weightDecay: 0.05 });
  });
});
