// Distillation against PyTorch: losses, gradients, weights after six steps, folded weights, features after.

import { describe, expect, test } from "vitest";
import type { CreateDistillationOptions, FloatTensor } from "wecolora/node";
import { createDistillation, loadModel } from "wecolora/node";
import { rows } from "../../../src/utils/tensor.ts";
import { expectClose, readJson, readReference, referencePath } from "../../support/reference.ts";

interface Case {
  /** In words: "l1", "l1 after final norm", "multi". */
  loss: string;
  dora: boolean;
  trainable: string;
  kept_blocks: number[];
  reduction_factor: number;
  rank: number;
  targets: ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  optimizer: { betas: [number, number]; eps: number; weight_decay: number };
  schedule: { base_lr: number; iterations_per_epoch: number; warmup_epochs: number; epochs: number };
  accumulation: number;
  lr: number[];
  loss_by_step: number[];
}

function pick(tensors: Map<string, FloatTensor>, prefix: string): Map<string, FloatTensor> {
  return new Map([...tensors].filter(([k]) => k.startsWith(prefix)).map(([k, v]) => [k.slice(prefix.length), v]));
}

/** The reference's words for losses; where all weights train, the method's own loss is the reference's. */
const losses: Record<string, CreateDistillationOptions["loss"]> = {
  l1: { kind: "l1" },
  mse: "mse",
  "smooth-l1": { kind: "smooth-l1" },
  cosine: [{ kind: "cosine" }],
  "l1+kld": "l1+kl",
  multi: { kind: "multi-block" },
};

async function start(name: string) {
  const settings = readJson<Case>(`distill/${name}.json`);
  const tensors = await readReference(`distill/${name}.safetensors`);
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const all = settings.trainable !== "adapters";
  const distillation = await createDistillation(teacher, {
    method: all ? "weco-kd" : settings.dora ? "dora" : settings.targets.length === 2 ? "lora" : "wecolora",
    reductionFactor: settings.reduction_factor,
    ...(all ? {} : { rank: settings.rank, loss: losses[settings.loss] }),
    optimizer: {
      kind: "adamw",
      betas: settings.optimizer.betas,
      eps: settings.optimizer.eps,
      weightDecay: settings.optimizer.weight_decay,
    },
    schedule: {
      kind: "cosine",
      baseLearningRate: settings.schedule.base_lr,
      warmupEpochs: settings.schedule.warmup_epochs,
      epochs: settings.schedule.epochs,
      iterationsPerEpoch: settings.schedule.iterations_per_epoch,
    },
    accumulation: settings.accumulation,
    initialAdapters: pick(tensors, "init."),
  });
  return { settings, tensors, teacher, distillation };
}

describe.each([
  "wecolora-r2",
  "wecolora-r3",
  "wecolora-accum",
  "lora-qv-r2",
  "dora-r2",
  "weco-kd-r2",
  "mse-r2",
  "smooth-l1-r2",
  "cosine-r2",
  "l1-kld-r2",
  "multi-block-r2",
])("%s", (name) => {
  test("follows PyTorch step by step", async () => {
    const { settings, tensors, teacher, distillation } = await start(name);
    expect(distillation.keptBlocks).toEqual(settings.kept_blocks);
    const input = tensors.get("input") as FloatTensor;
    const microBatch = (i: number) => {
      const cut = rows(input, i, i + 1);
      return { ...cut, dims: cut.dims.slice(1) };
    };
    for (let step = 0; step < settings.loss_by_step.length; step++) {
      const batches = Array.from({ length: settings.accumulation }, (_, a) =>
        microBatch(step * settings.accumulation + a),
      );
      const result = await distillation.step(batches, { gradients: true });
      expect(result.learningRate).toBeCloseTo(settings.lr[step], 12);
      // Losses agree to 1e-4 in float32.
      expect(Math.abs(result.loss / settings.loss_by_step[step] - 1)).toBeLessThan(1e-4);
      const expected = pick(tensors, `grad.step${step}.`);
      // Gradients agree to 1e-3: small differences of features flip the sign of |s - t| here and there.
      for (const [key, gradient] of expected)
        expectClose(result.gradients?.get(key), gradient, 1e-3, `step ${step} ${key}`);
    }
    const final = await distillation.adapters();
    // After the optimizer's steps: 2e-3 of the largest entry (Adam divides small gradients by their own size).
    for (const [key, tensor] of pick(tensors, "final.")) expectClose(final.get(key), tensor, 2e-3, `final ${key}`);

    const student = await distillation.student();
    for (const [key, tensor] of pick(tensors, "merged."))
      expectClose(student.weights.get(key), tensor, 2e-3, `merged ${key}`);
    const { lastHiddenState } = await student.forward(tensors.get("probe.input") as FloatTensor);
    expectClose(lastHiddenState, tensors.get("features.after"), 2e-3, "features after");
    await student.dispose();
    await distillation.dispose();
    await teacher.dispose();
  });
});

test("with B = 0 the student is the weight copy, bit for bit", async () => {
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const distillation = await createDistillation(teacher, { reductionFactor: 2, rank: 4 });
  const student = await distillation.student();
  for (const [name, tensor] of distillation.weightCopy.weights)
    expect(student.weights.get(name)?.data).toEqual(tensor.data);
  await distillation.dispose();
});
