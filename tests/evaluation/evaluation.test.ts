// The judges against PyTorch and scikit-learn.

import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createNodeDevice,
  createImageSource,
  evaluate,
  evaluationBatches,
  loadModel,
  Model,
  openDataSet,
} from "wecolora/node";
import { evaluateModels } from "../../src/evaluation/evaluate-models.ts";
import { fitLogistic } from "../../src/evaluation/logistic.ts";
import { aurocs, predictions, topAccuracy } from "../../src/evaluation/metrics.ts";
import { knnVotes, votesOf } from "../../src/evaluation/knn.ts";
import { probeLogits, trainProbe } from "../../src/evaluation/probe.ts";
import { learningRateAt } from "../../src/engine/optim/schedule.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { expectClose, readJson, readReference, readTensors, referencePath } from "../support/reference.ts";
import { messagesInto } from "../support/progress.ts";

const device = createNodeDevice();
afterAll(() => device.dispose());

async function integers(path: string, name: string): Promise<number[]> {
  const tensor = (await readTensors(referencePath(path))).get(name);
  return Array.from(tensor?.data as BigInt64Array, Number);
}

describe("linear probe", () => {
  interface Case {
    batch: number;
    base_lr: number;
    warmup_epochs: number;
    epochs: number;
    iterations_per_epoch: number;
    loss_by_step: number[];
    top1: number;
    top5: number;
  }

  test("follows PyTorch with LARS, batch norm and cross-entropy", async () => {
    const settings = readJson<Case>("probe/lars-multiclass.json");
    const tensors = await readReference("probe/lars-multiclass.safetensors");
    const labels = await integers("probe/lars-multiclass.safetensors", "labels");
    const get = (name: string) => tensors.get(name) as FloatTensor;
    const features = get("features");
    const { weights, lossByStep } = await trainProbe(
      device,
      features,
      { kind: "class", labels, count: 7 },
      {
        epochs: settings.epochs,
        warmupEpochs: settings.warmup_epochs,
        batch: settings.batch,
        // The reference gives the rate itself, the option the one for 256 images.
        baseLearningRate: (settings.base_lr * 256) / settings.batch,
        seed: 0,
      },
      { initial: { weight: get("init.weight"), bias: get("init.bias") }, order: () => labels.map((_, i) => i) },
    );
    expect(lossByStep).toHaveLength(settings.loss_by_step.length);
    lossByStep.forEach((loss, i) => {
      expect(Math.abs(loss / settings.loss_by_step[i] - 1)).toBeLessThan(1e-4);
    });
    // Weights after optimizer steps agree to 2e-3 of their largest entry, statistics and logits follow.
    expectClose(weights.weight, get("final.weight"), 2e-3, "weight");
    expectClose(weights.bias, get("final.bias"), 2e-3, "bias");
    expectClose(weights.runningMean, get("bn.running_mean"), 1e-4, "running mean");
    expectClose(weights.runningVariance, get("bn.running_var"), 1e-4, "running variance");
    const logits = await probeLogits(device, weights, features);
    expectClose(logits, get("logits"), 2e-3, "logits");
    expect(topAccuracy(logits, labels, 1)).toBeCloseTo(settings.top1, 6);
    expect(topAccuracy(logits, labels, 5)).toBeCloseTo(settings.top5, 6);
  });
});

test("weighted nearest neighbours give scikit-learn's votes", async () => {
  const settings = readJson<{ k: number; temperature: number; pred: number[] }>("metrics/knn.json");
  const tensors = await readReference("metrics/knn.safetensors");
  const labels = await integers("metrics/knn.safetensors", "train_labels");
  const get = (name: string) => tensors.get(name) as FloatTensor;
  const votes = await knnVotes(device, get("train"), { kind: "class", labels, count: 4 }, get("query"), settings);
  expectClose(votes, get("votes"), 1e-4, "votes");
  expect(topAccuracy(votes, settings.pred, 1)).toBe(1);
});

test("the learning rate follows the schedule", () => {
  interface Case {
    base_lr: number;
    warmup_epochs: number;
    epochs: number;
    iterations_per_epoch: number;
    lr: number[];
  }
  for (const settings of readJson<Case[]>("schedule.json")) {
    const schedule = {
      kind: "cosine" as const,
      baseLearningRate: settings.base_lr,
      warmupEpochs: settings.warmup_epochs,
      epochs: settings.epochs,
      iterationsPerEpoch: settings.iterations_per_epoch,
    };
    settings.lr.forEach((lr, i) => {
      expect(learningRateAt(schedule, i)).toBeCloseTo(lr, 12);
    });
  }
});

describe("labels that may all apply", () => {
  /** Indices of the ones in each row. */
  const indices = (rows: readonly (readonly number[])[]) =>
    rows.map((row) => row.flatMap((v, k) => (v === 1 ? [k] : [])));
  const rowsOf = ({ dims: [count, width], data }: FloatTensor) =>
    Array.from({ length: count }, (_, i) => [...data.subarray(i * width, (i + 1) * width)]);

  test("areas under ROC curves are scikit-learn's, with ties and a label that never applies", () => {
    const reference = readJson<{
      scores: number[][];
      labels: number[][];
      auroc: (number | null)[];
      mean_over_defined: number;
    }>("metrics/auroc.json");
    const dims = [reference.scores.length, reference.scores[0].length];
    const scores: FloatTensor = { type: "float32", dims, data: Float32Array.from(reference.scores.flat()) };
    const targets = { kind: "labels", count: dims[1], labels: indices(reference.labels) } as const;
    const actual = aurocs(scores, targets, 200);
    actual.each.forEach((value, k) => {
      const expected = reference.auroc[k];
      if (expected === null) expect(value).toBeUndefined();
      else expect(value).toBeCloseTo(expected, 12);
    });
    expect(actual.mean).toBeCloseTo(reference.mean_over_defined, 12);
    const [low, high] = actual.interval as readonly [number, number];
    expect(low).toBeLessThan(reference.mean_over_defined);
    expect(high).toBeGreaterThan(reference.mean_over_defined);
    // Four labels of 200 images: each area's deviation is about 0.04, their mean's about 0.02.
    expect(high - low).toBeGreaterThan(0.03);
    expect(high - low).toBeLessThan(0.16);
  });

  test("the probe follows PyTorch with binary cross-entropy", async () => {
    const { loss_by_step: losses, auroc } = readJson<{ loss_by_step: number[]; auroc: number[] }>(
      "probe/lars-multilabel.json",
    );
    const settings = readJson<{ batch: number; base_lr: number; warmup_epochs: number; epochs: number }>(
      "probe/lars-multiclass.json",
    );
    const tensors = await readReference("probe/lars-multilabel.safetensors");
    const get = (name: string) => tensors.get(name) as FloatTensor;
    const targets = { kind: "labels", count: 4, labels: indices(rowsOf(get("labels"))) } as const;
    const { weights, lossByStep } = await trainProbe(
      device,
      get("features"),
      targets,
      {
        epochs: settings.epochs,
        warmupEpochs: settings.warmup_epochs,
        batch: settings.batch,
        baseLearningRate: (settings.base_lr * 256) / settings.batch,
        seed: 0,
      },
      {
        initial: { weight: get("init.weight"), bias: { type: "float32", dims: [4], data: new Float32Array(4) } },
        order: () => targets.labels.map((_, i) => i),
      },
    );
    expect(lossByStep).toHaveLength(losses.length);
    lossByStep.forEach((loss, i) => expect(Math.abs(loss / losses[i] - 1)).toBeLessThan(1e-4));
    expectClose(weights.weight, get("final.weight"), 2e-3, "weight");
    const logits = await probeLogits(device, weights, get("features"));
    expectClose(logits, get("logits"), 2e-3, "logits");
    // A pair of logits nearer than their tolerance may change places.
    aurocs(logits, targets).each.forEach((value, k) => expect(value).toBeCloseTo(auroc[k], 2));
  });

  test("neighbours give each label its share of the votes", () => {
    const actual = [
      [
        { index: 0, similarity: 0.9 },
        { index: 1, similarity: 0.9 },
        { index: 2, similarity: 0.9 },
      ],
    ];
    const targets = { kind: "labels", count: 3, labels: [[0, 1], [1], []] } as const;
    const votes = votesOf(actual, targets, 0.07).data;
    expect([...votes].map((v) => v.toFixed(4))).toEqual(["0.3333", "0.6667", "0.0000"]);
  });
});

describe("several rates, and regression", () => {
  test("rates trained side by side are what each gives alone, and the best on images set aside is taken", async () => {
    const tensors = await readReference("probe/lars-multiclass.safetensors");
    const labels = await integers("probe/lars-multiclass.safetensors", "labels");
    const features = tensors.get("features") as FloatTensor;
    const targets = { kind: "class", labels, count: 7 } as const;
    const options = { epochs: 12, warmupEpochs: 1, batch: 32, seed: 3 };
    const several = await trainProbe(device, features, targets, { ...options, baseLearningRate: [1e-6, 20] });
    // At a rate of nothing a probe stays as it began, so that the other must do better.
    expect(several.baseLearningRate).toBe(20);
    const alone = await trainProbe(device, features, targets, { ...options, baseLearningRate: 20 });
    expect(several.lossByStep).toEqual(alone.lossByStep);
    expect(several.weights).toEqual(alone.weights);
  });

  test("logistic regression ends where scikit-learn's does", async () => {
    const reference = readJson<{
      classes: { weight: number[][]; loss: number; probability: number[][] };
      labels: { weight: number[][]; bias: number[] };
    }>("logistic.json");
    const single = await readReference("probe/lars-multiclass.safetensors");
    const features = single.get("features") as FloatTensor;
    const targets = {
      kind: "class",
      count: 7,
      labels: await integers("probe/lars-multiclass.safetensors", "labels"),
    } as const;
    const fit = await fitLogistic(device, features, targets, { c: 1, tolerance: 1e-6, iterations: 1000 });
    expect(fit.converged).toBe(true);
    expect(fit.loss).toBeCloseTo(reference.classes.loss, 5);
    // The gradient is met to 1e-6 in float32, over a curvature of about 1 / n: 1e-4 in the weights.
    const largest = Math.max(...reference.classes.weight.flat().map(Math.abs));
    reference.classes.weight.flat().forEach((w, i) => {
      expect(Math.abs(fit.weights.weight.data[i] - w)).toBeLessThan(1e-3 * largest);
    });
    const logits = await probeLogits(device, fit.weights, features);
    reference.classes.probability.forEach((row, i) => {
      const evaluated = [...logits.data.subarray(7 * i, 7 * i + 7)].map(Math.exp);
      const total = evaluated.reduce((a, b) => a + b, 0);
      evaluated.forEach((v, k) => expect(v / total).toBeCloseTo(row[k], 3));
    });
    const several = await readReference("probe/lars-multilabel.safetensors");
    const wanted = several.get("labels") as FloatTensor;
    const labels = Array.from({ length: 96 }, (_, i) => [0, 1, 2, 3].filter((k) => wanted.data[4 * i + k] === 1));
    const each = await fitLogistic(
      device,
      several.get("features") as FloatTensor,
      { kind: "labels", count: 4, labels },
      { c: 1, tolerance: 1e-6, iterations: 1000 },
    );
    expect(each.converged).toBe(true);
    const scale = Math.max(...reference.labels.weight.flat().map(Math.abs));
    reference.labels.weight.flat().forEach((w, i) => {
      expect(Math.abs(each.weights.weight.data[i] - w)).toBeLessThan(1e-3 * scale);
    });
    reference.labels.bias.forEach((b, k) => expect(Math.abs(each.weights.bias.data[k] - b)).toBeLessThan(1e-3 * scale));
  });
});

describe("wecolora evaluate", () => {
  const model = referencePath("teachers/timm-vit");
  const sets = (name: string) => referencePath(`data-sets/${name}`);
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-evaluate-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("ChestX-ray14: areas under ROC curves, findings of one outcome left out", async () => {
    const out = join(folder, "chest");
    const result = await evaluate({ model, data: sets("chestxray14"), cache: false, out, logistic: true });
    expect(result).toMatchObject({ dataSet: "chestxray14", queries: 3, bank: 5 });
    const [{ auroc, probe }] = result.results;
    expect(probe).toBeUndefined();
    for (const kind of ["knn", "probe", "logistic"] as const) {
      // Of the three images evaluated on, one has Pleural_Thickening and one both Mass and Nodule.
      expect(auroc?.[kind]?.each.flatMap((v, k) => (v === undefined ? [] : [k]))).toEqual([9, 10, 11]);
    }
    const classes = (await readFile(join(out, "classes.csv"), "utf8")).trim().split("\n");
    expect(classes).toHaveLength(15);
    expect(classes[0]).toBe("class,images,model k-NN,model linear probe,model logistic regression");
    const images = await readFile(join(out, "images.csv"), "utf8");
    expect(images).toContain("images_002/images/00000006_000.png,Mass|Nodule");
  });

  test("features that are kept give the same figures, and are computed anew where an image changes", async () => {
    const data = join(folder, "listed");
    await cp(sets("listed"), data, { recursive: true });
    const options = { model, data: join(data, "all.csv"), cacheDir: join(folder, "cache"), probeEpochs: 5 };
    const plain = await evaluate({ ...options, cache: false });
    const first = await evaluate(options);
    /** Files of features, and when they were written. */
    const packs = async () => {
      const names = (await readdir(options.cacheDir, { recursive: true })).filter((name) => /safetensors$/.test(name));
      return Promise.all(
        names.sort().map(async (name) => [name, (await stat(join(options.cacheDir, name))).mtimeMs] as const),
      );
    };
    const written = await packs();
    expect(written.length).toBeGreaterThan(0);
    const second = await evaluate(options);
    const figures = ({ results: [{ knn, probe }] }: typeof first) => ({ knn, probe });
    expect(figures(first)).toEqual(figures(plain));
    expect(figures(second)).toEqual(figures(plain));
    expect(await packs()).toEqual(written);
    // An image that changes is another one; what was kept stays.
    const changed = join(data, "pictures", "0.jpg");
    await writeFile(changed, await readFile(join(data, "pictures", "2.jpg")));
    const third = await evaluate(options);
    expect(third.duplicates.map(({ evaluated: judged }) => judged)).toEqual([]);
    expect(figures(third)).toEqual(figures(await evaluate({ ...options, cache: false })));
    // A folder that moved finds its features again; one with like names and other images has its own.
    const moved = join(folder, "moved");
    await cp(data, moved, { recursive: true });
    const before = await packs();
    await evaluate({ ...options, data: join(moved, "all.csv") });
    expect(await packs()).toEqual(before);
    const swapped = { from: join(moved, "pictures", "1.jpg"), to: join(moved, "pictures", "4.jpg") };
    const [one, other] = [await readFile(swapped.from), await readFile(swapped.to)];
    await writeFile(swapped.from, other);
    await writeFile(swapped.to, one);
    const like = await evaluate({ ...options, data: join(moved, "all.csv") });
    expect(figures(like)).toEqual(figures(await evaluate({ ...options, data: join(moved, "all.csv"), cache: false })));
    // A pack that was cut off is as if it were not there.
    for (const [name] of await packs()) {
      const bytes = await readFile(join(options.cacheDir, name));
      await writeFile(join(options.cacheDir, name), bytes.subarray(0, 100));
    }
    expect(figures(await evaluate(options))).toEqual(figures(third));
  });

  test("where the cache can't be written, features are not kept, and that is said", async () => {
    await writeFile(join(folder, "no-folder"), "");
    const warnings: string[] = [];
    const options = { model, data: join(sets("listed"), "all.csv"), probeEpochs: 2 };
    const kept = await evaluate({
      ...options,
      cacheDir: join(folder, "no-folder", "cache"),
      onProgress: messagesInto(warnings),
    });
    expect(kept.results).toHaveLength(1);
    expect(warnings.join()).toContain("Features are not cached");
  });

  test("a head's answers are held against the reference's, without labels", async () => {
    const teacher = await loadModel(model, { device });
    const source = createImageSource(sets("listed/pictures"));
    const queries = (await openDataSet(sets("listed/pictures"))).train.items;
    const answers: number[] = [];
    for await (const { pixels } of evaluationBatches(source, queries, 4, teacher.preprocessing, () => undefined))
      answers.push(...predictions((await teacher.outputs(pixels, ["logits"])).logits));
    // A student that always gives one of the teacher's answers.
    const bias = teacher.weights.get("head.bias") as FloatTensor;
    const loud = { ...bias, data: bias.data.map((v, i) => (i === answers[0] ? v + 1e6 : v)) };
    const stubborn = new Model({ ...teacher, weights: new Map(teacher.weights).set("head.bias", loud) }, device);
    const { student } = await evaluateModels({
      models: { student: stubborn },
      reference: teacher,
      source,
      bank: [],
      queries,
    });
    expect(new Set(answers).size).toBeGreaterThan(1);
    expect(student.fidelity?.agreement).toBe(answers.filter((answer) => answer === answers[0]).length / queries.length);
    await stubborn.dispose();
  });

  test("an image in both parts is told", async () => {
    const data = join(folder, "twice");
    await cp(sets("listed"), data, { recursive: true });
    await writeFile(join(data, "pictures", "7.jpg"), await readFile(join(data, "pictures", "3.jpg")));
    const warnings: string[] = [];
    const result = await evaluate({
      ...{ model, data: join(data, "all.csv"), cache: false, probeEpochs: 2 },
      onProgress: messagesInto(warnings),
    });
    expect(result.duplicates).toEqual([{ evaluated: "pictures/7.jpg", learned: "pictures/3.jpg" }]);
    expect(warnings.join()).toContain("one evaluation image is in the training split too");
  });

  test("a data set's own mean and deviation, those given, and the model's", async () => {
    const options = { model, data: sets("cifar-100-python"), cache: false, probeEpochs: 2 };
    const nearest = async (more: object) => JSON.stringify((await evaluate({ ...options, ...more })).results[0].probe);
    const evaluated = await evaluate({ ...options, out: join(folder, "own") });
    expect(evaluated.dataSet).toBe("cifar100");
    const cifar = { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] } as const;
    expect(await nearest({ normalization: "data-set" })).toBe(
      await nearest({ ...cifar, mean: [...cifar.mean], std: [...cifar.std] }),
    );
    await expect(evaluate({ ...options, data: sets("listed"), normalization: "data-set" })).rejects.toThrow(
      "normalization data-set needs a published data set",
    );
  });
});
