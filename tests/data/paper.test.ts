// The paper's protocols and figures: transforms against torchvision, recipes against the authors' tables.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { compare, createNodeDevice, distill, evaluate, loadModel } from "wecolora/node";
import { compareRunSchema, planRuns } from "../../src/commands/compare.ts";
import { distillOptions } from "../../src/commands/distill-options.ts";
import { command as evaluateCommand, evaluateRunSchema } from "../../src/commands/evaluate.ts";
import { segmentRunSchema } from "../../src/commands/segment.ts";
import { probeCropsFor, readOptionsFor } from "../../src/context/common-options.ts";
import type { AugmentedCrop, ImageSource } from "../../src/data/loader.ts";
import type { DataSetName } from "../../src/data/protocols.ts";
import { dataSetNames } from "../../src/data/protocols.ts";
import { sampleFewShot } from "../../src/data/sampling.ts";
import {
  adjustBrightness,
  adjustContrast,
  augmentedCrop,
  evaluationPixels,
  evaluationCrop,
  normalise,
} from "../../src/data/transforms.ts";
import { evaluateModels } from "../../src/evaluation/evaluate-models.ts";
import { topAccuracy } from "../../src/evaluation/metrics.ts";
import { probeLogits, trainProbe } from "../../src/evaluation/probe.ts";
import { withTransform } from "../../src/models/preprocessing.ts";
import { fewShotOf } from "../../src/students/training/step-plan.ts";
import type { RgbImage, Preprocessing } from "../../src/utils/image.ts";
import type { RandomStream } from "../../src/utils/random.ts";
import { randomStream } from "../../src/utils/random.ts";
import type { FloatTensor, Tensor } from "../../src/utils/tensor.ts";
import { noiseImage } from "../support/cli.ts";
import { messagesInto } from "../support/progress.ts";
import { readTensors, referencePath, relativeError, root } from "../support/reference.ts";

const device = createNodeDevice();
const teacher = referencePath("teachers/timm-vit");
const sets = (name: string) => referencePath(`data-sets/${name}`);
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-paper-"));
  for (let i = 0; i < 12; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

/** The accuracies (AUROC for ChestX-ray14) that the authors published, in percent. */
const probeColumns = ["imagenet", "chestxray14", "inaturalist2019", "resisc45", "cifar100"];
const ablationColumns = ["imagenet", "inaturalist2019", "cifar100"];
const tables: Record<string, { columns: string[]; rows: [Record<string, string>, number[]][] }> = {
  "paper-probe-supervised.yaml": {
    columns: probeColumns,
    rows: [
      [{ reductionFactor: "2", method: "weco-kd" }, [35.5, 67.6, 25.4, 58.0, 34.8]],
      [{ reductionFactor: "2", method: "wecolora" }, [60.5, 69.5, 43.4, 67.5, 60.6]],
      [{ reductionFactor: "3", method: "weco-kd" }, [7.6, 57.2, 6.0, 33.3, 11.0]],
      [{ reductionFactor: "3", method: "wecolora" }, [35.8, 67.6, 26.6, 58.8, 36.5]],
    ],
  },
  "paper-probe-mae.yaml": {
    columns: probeColumns,
    rows: [
      [{ reductionFactor: "2", method: "weco-kd" }, [30.2, 65.7, 19.2, 53.8, 32.1]],
      [{ reductionFactor: "2", method: "wecolora" }, [36.8, 66.3, 22.7, 56.8, 33.4]],
      [{ reductionFactor: "3", method: "weco-kd" }, [32.4, 66.7, 21.1, 42.2, 34.0]],
      [{ reductionFactor: "3", method: "wecolora" }, [32.9, 66.6, 21.1, 55.6, 34.4]],
    ],
  },
  "paper-ablation-mae.yaml": {
    columns: ablationColumns,
    rows: [
      [{ fewShotRatio: "0.01", method: "kd" }, [3.5, 2.4, 9.1]],
      [{ fewShotRatio: "0.01", method: "weco-kd" }, [30.2, 19.2, 32.1]],
      [{ fewShotRatio: "0.01", method: "lora" }, [32.4, 21.6, 30.7]],
      [{ fewShotRatio: "0.01", method: "wecolora" }, [36.8, 22.7, 33.3]],
      [{ fewShotRatio: "0.1", method: "kd" }, [15.8, 14.5, 28.9]],
      [{ fewShotRatio: "0.1", method: "weco-kd" }, [53.7, 31.2, 48.2]],
      [{ fewShotRatio: "0.1", method: "lora" }, [33.0, 28.4, 41.1]],
      [{ fewShotRatio: "0.1", method: "wecolora" }, [56.0, 34.5, 49.8]],
    ],
  },
};

const recipe = async (name: string): Promise<unknown> => parseYaml(await readFile(join(root, "recipes", name), "utf8"));

describe("recipes", () => {
  test("every figure of the authors' tables stands in one recipe, once, beside the run that measures it", async () => {
    // The authors' own tables; recipes of other papers have figures too.
    const names = (await readdir(join(root, "recipes"))).filter((name) => name.startsWith("paper-"));
    const holding: string[] = [];
    for (const name of names) {
      const given = (await recipe(name)) as { published?: unknown[] };
      if (given.published?.length) holding.push(name);
    }
    expect(holding).toEqual(Object.keys(tables).sort());
    for (const [name, { columns, rows }] of Object.entries(tables)) {
      const options = compareRunSchema.parse(await recipe(name));
      const expected = rows.flatMap(([where, values]) =>
        values.map((value, i) => ({
          where,
          on: columns[i],
          metric: columns[i] === "chestxray14" ? "probeBestAuroc" : "probeBest",
          value,
        })),
      );
      expect(options.published, name).toHaveLength(expected.length);
      expect(options.published, name).toEqual(expect.arrayContaining(expected));
      // Each row is one run of the plan, and each run has its row.
      const settings = planRuns(options).map(({ setting }) => setting);
      expect(settings, name).toHaveLength(rows.length);
      expect(settings, name).toEqual(expect.arrayContaining(rows.map(([where]) => where)));
      expect(Object.keys(options.evaluations), name).toEqual(columns);
    }
  });

  test("runs and probes have the authors' settings", async () => {
    for (const name of Object.keys(tables)) {
      const options = compareRunSchema.parse(await recipe(name));
      for (const run of planRuns(options)) {
        const settings = distillOptions(run.options);
        expect(settings).toMatchObject({
          ...{ recipe: "paper", rank: 128, epochs: 10, warmupEpochs: 2, baseLearningRate: 1e-3, effectiveBatch: 1024 },
          ...{ schedule: "cosine", shape: "blocks", keep: "even", fewShotRounding: "down", normalization: "paper" },
          optimizer: { kind: "adamw", betas: [0.9, 0.95], weightDecay: 0.05 },
        });
        expect(settings.alpha).toBeUndefined();
      }
      for (const [on, given] of Object.entries(options.evaluations)) {
        expect(evaluateRunSchema.parse({ ...given, model: "student" }), on).toMatchObject({
          ...{ dataSet: on, normalization: "paper", probeBatch: 512, probeWarmupEpochs: 10, probeLearningRate: 0.1 },
          ...{ probeEpochs: on === "imagenet" ? 90 : 50, probeBestEpoch: true, seed: 0 },
          includeNoFinding: on === "chestxray14",
        });
      }
    }
    for (const name of (await readdir(join(root, "recipes"))).filter((each) => each.startsWith("probe-"))) {
      const given = evaluateRunSchema.parse(await recipe(name));
      expect(given, name).toMatchObject({
        ...{ normalization: "paper", probeBatch: 512, probeWarmupEpochs: 10, probeLearningRate: 0.1 },
        ...{ probeEpochs: name === "probe-imagenet.yaml" ? 90 : 50, probeBestEpoch: true },
        includeNoFinding: name === "probe-chestxray14.yaml",
      });
    }
  });

  test("every recipe fits its command and plans its runs", async () => {
    for (const name of (await readdir(join(root, "recipes"))).filter((each) => each.endsWith(".yaml"))) {
      const given = await recipe(name);
      if (name.startsWith("probe-")) expect(() => evaluateRunSchema.parse(given), name).not.toThrow();
      else if (name.startsWith("segment-")) expect(() => segmentRunSchema.parse(given), name).not.toThrow();
      else expect(planRuns(compareRunSchema.parse(given)).length, name).toBeGreaterThan(3);
    }
  });
});

describe("--recipe paper", () => {
  const given = { teacher: "t", data: "d", out: "o", recipe: "paper" };
  const normOf = (more: object) => distillOptions({ ...given, ...more }).loss?.map(({ norm }) => norm);

  test("features are compared on the authors' side of the final norm", () => {
    expect(distillOptions(given).method).toBe("wecolora");
    for (const method of ["kd", "weco-kd", "dora"]) {
      expect(normOf({ method }), method).toEqual(["after"]);
      expect(normOf({ method, loss: "cosine" }), method).toEqual(["after"]);
      expect(normOf({ method, loss: ["mse", "multi-block"] }), method).toEqual(["after", "before"]);
      expect(normOf({ method, loss: { kind: "l1", norm: "before" } }), method).toEqual(["before"]);
    }
    // Their own default: before the norm.
    for (const method of ["wecolora", "lora"]) {
      expect(normOf({ method }), method).toBeUndefined();
      expect(normOf({ method, loss: "cosine" }), method).toEqual(["before"]);
    }
    // A resumed run reads what it has written.
    const first = distillOptions({ ...given, method: "dora" });
    expect(distillOptions({ ...first })).toEqual(first);
  });

  test("outside of it methods keep their defaults", () => {
    for (const method of ["kd", "weco-kd", "dora", "wecolora", "lora"]) {
      const options = distillOptions({ ...given, recipe: undefined, method });
      expect(options.loss, method).toBeUndefined();
      expect(options.fewShotRounding, method).toBe("nearest");
    }
  });

  test("a class's share is int(n * ratio), but at least one image", async () => {
    const counts = async (n: number, fewShotRatio: number, recipe?: string) => {
      const options = distillOptions({ ...given, recipe, method: "wecolora", fewShotRatio });
      const items = Array.from({ length: n }, (_, i) => ({ name: `${i}`, label: 0 }));
      return (await sampleFewShot(items, fewShotOf(options), 0)).length;
    };
    // Python: [int(n * r) for ...]; 100 * 0.29 is 28.999999999999996.
    const expected = [
      [1300, 0.01, 13, 13],
      [732, 0.01, 7, 7],
      [1299, 0.01, 12, 13],
      [100, 0.29, 28, 29],
      [17, 0.1, 1, 2],
      [40, 0.01, 1, 1],
    ];
    for (const [n, ratio, paper, ours] of expected) {
      expect(await counts(n, ratio, "paper"), `${n} * ${ratio}`).toBe(paper);
      expect(await counts(n, ratio), `${n} * ${ratio}`).toBe(ours);
    }
  });
});

const decoded = ({ dims: [height, width], data }: Tensor): RgbImage => ({ width, height, data: data as Uint8Array });
const modelPreprocessing: Preprocessing = {
  ...{ resize: { shortestEdge: 35 }, cropSize: 32, interpolation: "bilinear", cropRounding: "down" },
  ...{ mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
};
const plain = { normalization: "paper" as const };

describe("--normalization paper", () => {
  test("images become what torchvision makes of them", async () => {
    const tensors = await readTensors(referencePath("protocols.safetensors"));
    const image = decoded(tensors.get("image") as Tensor);
    for (const name of dataSetNames) {
      if (name === "cifar10") continue;
      const { transform, mean, std } = readOptionsFor(plain, { path: "data", name });
      if (!transform || !mean || !std) throw new Error(`${name} has no protocol`);
      const crop = evaluationCrop(image, { ...withTransform(modelPreprocessing, transform), mean, std });
      const expected = (tensors.get(`view.${name}`) as FloatTensor).data;
      expect(relativeError(crop, expected), name).toBeLessThan(1e-6);
    }
  });

  test("brightness and contrast change as in torchvision, to the digit", async () => {
    const tensors = await readTensors(referencePath("protocols.safetensors"));
    const of = (name: string) => decoded(tensors.get(name) as Tensor);
    const factors = [...((tensors.get("factors") as Tensor).data as Float64Array)];
    expect(factors).toHaveLength(9);
    factors.forEach((factor, i) => {
      expect(adjustBrightness(of("image"), factor), `brightness ${factor}`).toEqual(of(`brightness.${i}`));
      expect(adjustContrast(of("image"), factor), `contrast ${factor}`).toEqual(of(`contrast.${i}`));
    });
    expect(adjustContrast(adjustBrightness(of("dark"), 1.13), 0.91)).toEqual(of("both"));
  });

  test("jitter draws a flip, an order and two factors", async () => {
    const tensors = await readTensors(referencePath("protocols.safetensors"));
    const image = evaluationPixels(decoded(tensors.get("image") as Tensor), modelPreprocessing);
    const jitter = { flip: true, brightness: 0.2, contrast: 0.2 };
    const drawing = (...values: number[]): RandomStream => {
      const next = () => values.shift() ?? Number.NaN;
      return { ...randomStream(0, "test"), uniform: next };
    };
    const brightFirst = adjustContrast(adjustBrightness(image, 0.8 + 0.4 * 0.1), 0.8 + 0.4 * 0.9);
    const contrastFirst = adjustBrightness(adjustContrast(image, 0.8 + 0.4 * 0.9), 0.8 + 0.4 * 0.1);
    expect(brightFirst).not.toEqual(contrastFirst);
    expect(augmentedCrop(image, modelPreprocessing, jitter, drawing(0.3, 0.7, 0.1, 0.9))).toEqual(
      normalise(brightFirst, modelPreprocessing, true),
    );
    expect(augmentedCrop(image, modelPreprocessing, jitter, drawing(0.6, 0.2, 0.1, 0.9))).toEqual(
      normalise(contrastFirst, modelPreprocessing),
    );
    // Seeded: each epoch its own view, the same again.
    const crop = (epoch: number) =>
      augmentedCrop(image, modelPreprocessing, jitter, randomStream(0, "view", epoch, "a"));
    expect(crop(0)).toEqual(crop(0));
    expect(crop(0)).not.toEqual(crop(1));
  });

  test("means and deviations are the authors', and the options' own stand above them", () => {
    const seen = (name: DataSetName, more: object = {}) => {
      const { mean, std } = readOptionsFor({ ...plain, ...more }, { path: "data", name });
      return { mean, std };
    };
    const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    for (const name of ["imagenet", "inaturalist2019", "cifar100"] as const) expect(seen(name)).toEqual(imagenet);
    expect(seen("resisc45")).toEqual({ mean: [0.3684, 0.3813, 0.3439], std: [0.1999, 0.1814, 0.1808] });
    expect(seen("chestxray14")).toEqual({ mean: [0.5057, 0.5057, 0.5057], std: [0.2508, 0.2508, 0.2508] });
    expect(probeCropsFor(plain, { path: "data", name: "chestxray14" })).toEqual({
      augmentation: { flip: true, brightness: 0.2, contrast: 0.2 },
      trainStd: [0.2507, 0.2507, 0.2507],
    });
    expect(probeCropsFor(plain, { path: "data", name: "resisc45" })).toBeUndefined();
    expect(probeCropsFor({ normalization: "model" }, { path: "data", name: "chestxray14" })).toBeUndefined();
    expect(seen("cifar100", { std: [1, 1, 1] })).toEqual({ ...imagenet, std: [1, 1, 1] });
    expect(() => seen("cifar10")).toThrow("the paper does not use cifar10");
    expect(() => readOptionsFor(plain, { path: "data" })).toThrow("data is not a known data set");
  });

  test("the model's image size scales the transform", () => {
    const at224 = withTransform({ ...modelPreprocessing, cropSize: 224 }, { kind: "crop", interpolation: "bicubic" });
    expect(at224).toMatchObject({ resize: { shortestEdge: 256 }, cropSize: 224, interpolation: "bicubic" });
    expect(at224.cropRounding).toBeUndefined();
    expect(
      withTransform({ ...modelPreprocessing, cropSize: 224 }, { kind: "both-sides", interpolation: "bilinear" }),
    ).toMatchObject({
      resize: { height: 224, width: 224 },
      cropSize: 224,
    });
  });
});

describe("the probe of the protocols", () => {
  /** Images of three classes as bright as their class, with what was asked for. */
  function recordingSource() {
    const asked: { kind: "evaluation" | "augmented"; std: readonly number[]; name: string; crop?: AugmentedCrop }[] =
      [];
    const viewOf = (name: string, { cropSize }: Preprocessing, epoch: number) => {
      const random = randomStream(0, "noise", name, epoch);
      return Float32Array.from({ length: 3 * cropSize ** 2 }, () => (Number(name) % 3) + 0.5 * random.normal());
    };
    const source: ImageSource = {
      id: "recording",
      async evaluationCrop(item, preprocessing) {
        asked.push({ kind: "evaluation", std: preprocessing.std, name: item.name });
        return viewOf(item.name, preprocessing, -1);
      },
      async augmentedCrop(item, crop) {
        asked.push({ kind: "augmented", std: crop.preprocessing.std, name: item.name, crop });
        return viewOf(item.name, crop.preprocessing, crop.epoch);
      },
      facts: async () => ({ bytes: 0, sha256: "", width: 1, height: 1 }),
      stamp: async () => "",
      fingerprint: async () => "",
      dispose: async () => undefined,
    };
    return { source, asked };
  }
  const item = (i: number) => ({ name: String(i), label: i % 3 });
  const bank = Array.from({ length: 12 }, (_, i) => item(i));
  const queries = Array.from({ length: 6 }, (_, i) => item(12 + i));
  const std = [0.9, 0.9, 0.9] as const;
  const settings = { epochs: 4, warmupEpochs: 1, batch: 12, seed: 0, bestEpoch: true, baseLearningRate: 20 };

  test("trains on views of its own in each epoch, with the deviation for training", async () => {
    const model = await loadModel(teacher, { device });
    const { source, asked } = recordingSource();
    const augmentation = { flip: true, brightness: 0.2, contrast: 0.2 };
    const judged = await evaluateModels({
      ...{ models: { student: model }, source, bank, queries, classes: ["a", "b", "c"], probe: settings },
      probeCrops: { trainStd: std, augmentation },
    });
    const of = (kind: string, names: readonly { name: string }[]) =>
      asked.filter((each) => each.kind === kind && names.some(({ name }) => name === each.name));
    expect(of("evaluation", queries).map((each) => each.std)).toEqual(queries.map(() => model.preprocessing.std));
    expect(of("augmented", queries)).toEqual([]);
    // Neighbours see each image of the bank once, the probe once an epoch.
    expect(of("evaluation", bank).map((each) => each.std)).toEqual(bank.map(() => std));
    expect(of("augmented", bank).map(({ crop }) => crop?.epoch)).toEqual(
      [0, 1, 2, 3].flatMap((e) => bank.map(() => e)),
    );
    for (const each of of("augmented", bank)) {
      expect(each.std).toEqual(std);
      expect(each.crop?.augmentation).toEqual(augmentation);
    }
    const { probe, probeBest } = judged.student;
    expect(probeBest?.epoch).toBeGreaterThan(0);
    expect(probeBest?.top1).toBeGreaterThanOrEqual(probe?.top1 ?? 2);
    await model.dispose();
  });

  test("the best epoch is the first with the highest accuracy; the last epoch's probe is the one reported", async () => {
    const random = randomStream(1, "features");
    const labels = Array.from({ length: 60 }, (_, i) => i % 3);
    const features: FloatTensor = {
      ...{ type: "float32", dims: [60, 8] },
      data: Float32Array.from({ length: 480 }, (_, i) => random.normal() + (i % 8 === Math.floor(i / 8) % 3 ? 1 : 0)),
    };
    const accuracies: number[] = [];
    let last: unknown;
    const { weights } = await trainProbe(device, features, { kind: "class", count: 3, labels }, settings, {
      async afterEpoch(epoch, probe) {
        expect(epoch).toBe(accuracies.length);
        accuracies.push(topAccuracy(await probeLogits(device, probe, features), labels, 1));
        last = probe;
      },
    });
    expect(accuracies).toHaveLength(4);
    expect(last).toEqual(weights);
    // Features that are the same in every epoch give the same probe as fixed ones.
    const again = await trainProbe(device, async () => features, { kind: "class", count: 3, labels }, settings);
    expect(again.weights).toEqual(weights);
  });

  test("ChestX-ray14 and CIFAR-100 from their files", async () => {
    const options = { model: teacher, cache: false, probeEpochs: 3, normalization: "paper" as const };
    const chest = await evaluate({
      ...{ ...options, data: sets("chestxray14"), includeNoFinding: true, probeBestEpoch: true },
      out: at("chest"),
    });
    const [row] = chest.results;
    expect(row.auroc?.probe?.each).toHaveLength(15);
    expect(row.probeBest?.auroc).toBeGreaterThanOrEqual(row.auroc?.probe?.mean ?? 2);
    expect(row.probeBest?.top1).toBeUndefined();
    const cifar = { ...options, data: sets("cifar-100-python"), out: at("cifar") };
    const { results } = await evaluate(cifar);
    expect(results[0].probeBest).toBeUndefined();
    // Published figures stand beside those measured, and are of the models evaluated.
    const published = [
      { metric: "probe" as const, value: 50 },
      { metric: "probeBest" as const, value: 60 },
    ];
    const publishedResult = await evaluate({ ...cifar, out: undefined, published });
    expect(publishedResult.published).toEqual([
      { model: teacher, metric: "probe", published: 50, measured: 100 * (results[0].probe?.top1 ?? -1) },
      { model: teacher, metric: "probeBest", published: 60 },
    ]);
    expect(evaluateCommand.text(publishedResult)).toMatch(/probe %: published 50\.0, measured \d+\.\d\n/);
    expect(evaluateCommand.text(publishedResult)).toContain("probe, best epoch %: published 60.0, not measured");
    await expect(evaluate({ ...cifar, published: [{ ...published[0], model: "other" }] })).rejects.toThrow(
      "A published figure is of other, which is not evaluated.",
    );
    await expect(evaluate({ ...cifar, model: [teacher, "other"], published })).rejects.toThrow(
      "A published figure of probe does not say its model.",
    );
    await expect(evaluate({ ...options, data: sets("listed") })).rejects.toThrow("--normalization paper is known for");
  });
});

describe("a whole run under the protocols", () => {
  const protocol = { recipe: "paper", dataSet: "imagenet", normalization: "paper" } as const;
  const base = {
    ...protocol,
    ...{ rank: 2, epochs: 1, warmupEpochs: 0, heldOut: 0.34, evaluateSteps: 0, report: false },
  };

  test("a student keeps the mean and deviation that it was trained with, and is evaluated as its teacher", async () => {
    for (const [name, path] of [
      ["timm", teacher],
      ["hf", referencePath("teachers/hf-vit")],
    ]) {
      const { results } = await distill({ ...base, teacher: path, data: at("data"), out: at(name) });
      expect(results.map((row) => row.name)).toEqual(["teacher", "weight copy", "student"]);
      const student = await loadModel(at(name, "student"), { device });
      expect(student.preprocessing.mean).toEqual([0.485, 0.456, 0.406]);
      expect(student.preprocessing.std).toEqual([0.229, 0.224, 0.225]);
      expect(student.preprocessing.interpolation).toBe("bicubic");
      expect(student.preprocessing.resize).toEqual({ shortestEdge: 36 });
      await student.dispose();
    }
  });

  test("a comparison evaluates its students on further data sets, with published figures beside", async () => {
    const options = {
      ...{ teacher, data: at("data"), out: at("comparison") },
      grid: { method: ["weight-copy", "dora"] },
      base: { ...base, evaluate: false },
      evaluations: {
        cifar: { data: sets("cifar-100-python"), normalization: "paper", probeEpochs: 3, probeBestEpoch: true },
        chest: { data: sets("chestxray14"), normalization: "paper", probeEpochs: 2, includeNoFinding: true },
      },
      published: [
        { where: { method: "dora" }, on: "cifar", metric: "probeBest" as const, value: 12.3 },
        { where: { method: "dora" }, on: "chest", metric: "probeAuroc" as const, value: 45.6 },
        { where: { method: "dora" }, metric: "probe" as const, value: 78.9 },
      ],
    };
    const messages: string[] = [];
    const onProgress = messagesInto(messages);
    const { summaries, runs } = await compare({ ...options, onProgress });
    expect(runs.map(({ failure }) => failure)).toEqual([undefined, undefined]);
    const [copy, dora] = summaries;
    expect(copy).toMatchObject({ runs: 1, evaluations: ["cifar", "chest"] });
    expect(dora.figures.cifar_probeBest.published).toBe(12.3);
    expect(dora.figures.chest_probeAuroc.published).toBe(45.6);
    expect(dora.figures.probe).toBeUndefined();
    expect(copy.figures.cifar_probeBest.published).toBeUndefined();
    // The evaluation is the one that the command gives by itself.
    const alone = await evaluate({
      ...{ model: at("comparison", "method=dora", "student"), cache: false },
      ...{ data: sets("cifar-100-python"), normalization: "paper", probeEpochs: 3 },
    });
    expect(dora.figures.cifar_probe.mean).toBeCloseTo(100 * (alone.results[0].probe?.top1 ?? -1), 10);
    const table = await readFile(at("comparison", "table.md"), "utf8");
    expect(table).toContain("cifar: probe, best epoch %");
    expect(table).toMatch(/\(paper 12\.3\)/);
    expect(table).toMatch(/\(paper 45\.6\)/);
    expect(table).not.toMatch(/\(paper 78\.9\)/);
    expect(await readFile(at("comparison", "table.csv"), "utf8")).toContain("cifar_probeBest_published");
    // What is there already is not evaluated again; changed options are.
    const count = (words: string) => messages.filter((message) => message.includes(words)).length;
    expect([count("evaluating on cifar"), count("evaluating on chest")]).toEqual([2, 2]);
    const cifar = { ...options.evaluations.cifar, probeEpochs: 2 };
    await compare({ ...options, evaluations: { ...options.evaluations, cifar }, onProgress });
    expect([count("evaluating on cifar"), count("evaluating on chest")]).toEqual([4, 2]);
  });

  test("mistakes in evaluations are named before anything runs", async () => {
    const options = { teacher, data: at("data"), out: at("never"), grid: { method: ["kd"] } };
    const cifar = { data: sets("cifar-100-python") };
    await expect(compare({ ...options, evaluations: { cifar: { ...cifar, probeEpoch: 1 } } })).rejects.toThrow(
      "Options of the evaluation cifar: There is no option probeEpoch. Did you mean probeEpochs?",
    );
    const published = [{ where: {}, on: "cifer", metric: "probe" as const, value: 1 }];
    await expect(compare({ ...options, evaluations: { cifar }, published })).rejects.toThrow(
      "A published figure is on cifer, but the evaluations are: cifar.",
    );
    expect(await readdir(folder)).not.toContain("never");
  });
});
