// The judges against PyTorch and scikit-learn.

import { afterAll, describe, expect, test } from "vitest";
import { createNodeDevice } from "wecolora/node";
import { topAccuracy } from "../src/evaluation/metrics.ts";
import { neighbourVotes } from "../src/evaluation/neighbours.ts";
import { probeLogits, trainProbe } from "../src/evaluation/probe.ts";
import { learningRateAt } from "../src/optim/schedule.ts";
import type { FloatTensor } from "../src/utils/tensor.ts";
import { expectClose, readJson, readReference, readTensors, referencePath } from "./support/reference.ts";

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
      labels,
      7,
      {
        epochs: settings.epochs,
        warmupEpochs: settings.warmup_epochs,
        batch: settings.batch,
        // The reference gives the rate itself, the option the one for 256 pictures.
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
  const votes = await neighbourVotes(device, get("train"), labels, get("query"), 4, settings);
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
