// Every method: gradients of its objective by finite differences, in float64; and a few steps on a tiny teacher, after
// which the student saves, loads and gives the same features.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CreateDistillationOptions, FloatTensor } from "wecolora/node";
import { createDistillation, loadModel, saveModel } from "wecolora/node";
import { gradients } from "../../../src/engine/autograd/gradients.ts";
import { constant, graph, input } from "../../../src/engine/graph/build.ts";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import type { Value } from "../../../src/engine/graph/graph.ts";
import { embed, vitBlocks } from "../../../src/models/vit.ts";
import { methodOf } from "../../../src/students/methods/lookup.ts";
import { studentBefore } from "../../../src/students/training/distillation.ts";
import { distillationSchema, methodNames } from "../../../src/students/distillation-options.ts";
import { defaultFormat } from "../../../src/exports/save.ts";
import type { VitConfig } from "../../../src/models/config.ts";
import { plainVit } from "../../../src/models/config.ts";
import { expectedWeights } from "../../../src/models/weight-table.ts";
import type { ModelDefinition } from "../../../src/models/definition.ts";
import { drawStream } from "../../../src/utils/random.ts";
import type { Tensor } from "../../../src/utils/tensor.ts";
import { elementCount, rows } from "../../../src/utils/tensor.ts";
import { expectClose, readReference, referencePath, relativeError } from "../../support/reference.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-methods-"));
});
afterAll(() => rm(folder, { recursive: true }));

const tiny: VitConfig = {
  ...plainVit,
  imageSize: 6,
  patchSize: 2,
  channels: 3,
  width: 8,
  depth: 4,
  heads: 2,
  mlpWidth: 12,
  normEpsilon: 1e-6,
  layerScale: true,
  head: { classes: 3, input: "pooled" },
};

const random = drawStream(5);
const numbers = (dims: readonly number[], scale: number): Tensor<"float64"> => ({
  type: "float64",
  dims,
  data: Float64Array.from({ length: elementCount(dims) }, () => scale * (2 * random.uniform() - 1)),
});
const wide = ({ dims, data }: Tensor): Tensor<"float64"> => ({
  type: "float64",
  dims,
  data: Float64Array.from(data as Float32Array),
});

/** A model whose weights, and with them all graphs, are float64; the types say float32, which nothing here relies on. */
function teacher64(): ModelDefinition {
  const weights = new Map([...expectedWeights(tiny)].map(([name, dims]) => [name, numbers(dims, 0.7)]));
  return { config: tiny, weights, preprocessing: {}, origin: {} } as unknown as ModelDefinition;
}

const toWide = (model: ModelDefinition): ModelDefinition =>
  ({
    ...model,
    weights: new Map([...model.weights].map(([name, t]) => [name, wide(t)])),
  }) as unknown as ModelDefinition;

/** Parameters whose gradients are checked, by method: some of each kind. */
const checked: Partial<Record<(typeof methodNames)[number], readonly string[]>> = {
  wecolora: ["blocks.0.q.lora_A", "blocks.1.fc2.lora_B"],
  lora: ["blocks.0.v.lora_B"],
  dora: ["blocks.0.qkv.magnitude", "blocks.1.fc1.magnitude"],
  "weco-kd": ["pos_embed", "blocks.0.norm1.weight", "blocks.1.attn.qkv.bias"],
  kd: ["cls_token", "norm.weight"],
  deit: ["dist_token", "head_dist.weight", "head.bias", "blocks.1.ls2.gamma"],
  minivit: ["blocks.1.attn.mix_scores", "blocks.0.attn.mix_weights", "blocks.3.mlp.conv", "blocks.0.mlp.fc1.weight"],
  dmae: [
    "decoder.mask_token",
    "decoder.predict.weight",
    "decoder.project.bias",
    "blocks.0.attn.proj.weight",
    "decoder.blocks.0.mlp.fc1.bias",
  ],
};

describe("gradients of objectives equal finite differences", () => {
  test.each(Object.keys(checked) as (keyof typeof checked)[])("%s", (name) => {
    const method = methodOf(name);
    const options = distillationSchema.parse({
      method: name,
      rank: 2,
      ...(name === "deit" ? { softLabels: true } : {}),
    });
    const teacher = teacher64();
    const context = { teacher, kept: [0, 2], options };
    const student = toWide(studentBefore(method, context));
    const trainables = method.trainables(student, context);
    const objective = method.objective(student, context);
    const batch = 2;
    const trainedInputs = new Map([...trainables.shapes].map(([key, dims]) => [key, input(key, "float64", dims)]));
    const extra = new Map([...objective.shapes].map(([key, dims]) => [key, input(key, "float64", dims)]));
    const extraInputs = new Map([...objective.inputs(batch)].map(([key, v]) => [key, input(key, "float64", v.shape)]));
    const pixels = input("pixels", "float64", [batch, 3, 6, 6]);
    const frozen = (weights: ReadonlyMap<string, Tensor>) => (key: string) => constant(weights.get(key) as Tensor, key);
    const weight = frozen(teacher.weights);
    const states = vitBlocks(teacher.config, weight, embed(teacher.config, weight, pixels));
    const parts = trainables.apply(trainedInputs);
    const embedded = embed(student.config, parts.weight, pixels);
    const build = () =>
      objective.loss({
        pixels,
        teacher: { definition: teacher, weight: frozen(teacher.weights), state: (i) => states[i] },
        checkpoint: () => undefined,
        student: { definition: student, embedded, ...parts },
        parameters: extra,
        inputs: extraInputs,
      });
    const parameters = new Map([...trainedInputs, ...extra]);
    const feeds: Record<string, Tensor> = { pixels: numbers([batch, 3, 6, 6], 1) };
    // Small random numbers added, so that nothing stands at the zero that it begins with.
    for (const [key, tensor] of [...trainables.fresh(), ...objective.fresh()]) {
      const noise = numbers(tensor.dims, 0.3).data;
      feeds[key] = { ...wide(tensor), data: wide(tensor).data.map((v, i) => v + noise[i]) };
    }
    const drawn = objective.feeds({ batch, labels: [0, 2], step: 0, part: 0 });
    for (const [key, tensor] of Object.entries(drawn)) feeds[key] = wide(tensor);
    const loss = build();
    const keys = checked[name] as readonly string[];
    const wrt = keys.map((key) => parameters.get(key) as Value);
    expect(wrt.every(Boolean)).toBe(true);
    const actual = gradients(loss, wrt);
    const inputs = [pixels, ...parameters.values(), ...extraInputs.values()];
    const analytic = evaluate(graph(inputs, Object.fromEntries(actual.map((g, i) => [`d${i}`, g]))), feeds);
    const lossGraph = graph(inputs, { loss });
    const h = 1e-6;
    keys.forEach((key, k) => {
      const tensor = feeds[key] as Tensor<"float64">;
      // Some entries are enough; each costs two forward passes in plain loops.
      const entries = Array.from({ length: Math.min(4, tensor.data.length) }, (_, i) => (i * 7) % tensor.data.length);
      const numeric = entries.map((entry) => {
        const at = (shift: number) => {
          const data = tensor.data.slice();
          data[entry] += shift;
          return Number(evaluate(lossGraph, { ...feeds, [key]: { ...tensor, data } }).get("loss")?.data[0]);
        };
        return (at(h) - at(-h)) / (2 * h);
      });
      const exact = (analytic.get(`d${k}`) as Tensor).data as Float64Array;
      // Central differences of a loss of size 1: 1e-16 / 1e-6, and what the second order leaves.
      expect(
        relativeError(
          entries.map((e) => exact[e]),
          numeric,
        ),
        key,
      ).toBeLessThan(1e-5);
    });
  });
});

const settings: CreateDistillationOptions = {
  reductionFactor: 2,
  rank: 2,
  schedule: { kind: "cosine", warmupEpochs: 0, epochs: 4 },
};

// Refits and pruned students are made from images, not by steps: tests/students/closed-form/closed-form.test.ts and pruning.test.ts
// have them.
const withoutImages = methodNames.filter((name) => !["analytic", "pruned"].includes(methodOf(name).start));
describe.each(withoutImages)("%s", (method) => {
  test("takes steps, and its student is saved and loaded", async () => {
    const model = await loadModel(referencePath("teachers/timm-vit"));
    const images = (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;
    const distillation = await createDistillation(model, { ...settings, method });
    const before = await distillation.student();
    const losses: number[] = [];
    if (methodOf(method).trains) {
      for (let i = 0; i < 3; i++) losses.push((await distillation.step([{ pixels: images, labels: [0, 4, 2] }])).loss);
      // dmae draws new masks at each step; the others see the same images.
      if (method !== "dmae") expect(losses[2]).toBeLessThan(losses[0]);
    } else {
      await expect(distillation.step([images])).rejects.toThrow("trains nothing");
    }
    const student = await distillation.student();
    const changed = [...student.weights].filter(
      ([name, t]) => !sameNumbers(t, before.weights.get(name) as FloatTensor),
    );
    expect(changed.length > 0).toBe(methodOf(method).trains);
    const live = await distillation.features(images);
    const folded = await student.forward(images, { hiddenStates: true });
    // Folded equals unfolded: products in another order.
    expectClose(folded.hiddenStates?.at(-1), live.blockOutput, 1e-5, "folded");
    const path = join(folder, method);
    await saveModel(student, path, { format: defaultFormat(student) });
    const loaded = await loadModel(path);
    const again = await loaded.forward(images);
    expectClose(again.pooled, folded.pooled, 2e-6, "loaded");
    for (const m of [before, student, loaded, model]) await m.dispose();
    await distillation.dispose();
  });
});

const sameNumbers = (a: FloatTensor, b: FloatTensor) =>
  a.data.length === b.data.length && a.data.every((v, i) => v === b.data[i]);

test("adapters of different rank, scaled as PEFT does it, fold to W + s BA", async () => {
  const model = await loadModel(referencePath("teachers/timm-vit"));
  const images = (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;
  const distillation = await createDistillation(model, {
    ...settings,
    targetModules: ["q", "fc1"],
    rank: { q: 2, fc1: 4 },
    alpha: 8,
    rankStabilized: true,
    adapterDropout: 0.25,
  });
  const a = (await distillation.step([images])).loss;
  expect(a).toBeGreaterThan(0);
  const adapters = await distillation.adapters();
  expect(adapters.get("blocks.0.q.lora_A")?.dims).toEqual([2, 32]);
  expect(adapters.get("blocks.0.fc1.lora_A")?.dims).toEqual([4, 32]);
  const student = await distillation.student();
  const copy = distillation.weightCopy.weights.get("blocks.0.mlp.fc1.weight") as FloatTensor;
  const [A, B] = ["A", "B"].map((p) => adapters.get(`blocks.0.fc1.lora_${p}`) as FloatTensor);
  const expected = copy.data.map((w, i) => {
    const [row, column] = [Math.floor(i / 32), i % 32];
    let sum = 0;
    for (let r = 0; r < 4; r++) sum += B.data[row * 4 + r] * A.data[r * 32 + column];
    return w + (8 / Math.sqrt(4)) * sum;
  });
  expectClose(student.weights.get("blocks.0.mlp.fc1.weight"), { ...copy, data: expected }, 1e-6, "folded");
  await distillation.dispose();
});

test("dropout of adapters drops the share it says, differently at each step, and the same again", async () => {
  const { adapterTrainables } = await import("../../../src/students/training/adapters.ts");
  const model = await loadModel(referencePath("teachers/timm-vit"));
  const plan = { rank: 2, targetModules: ["q"] as const, dropout: 0.3 };
  const draws = adapterTrainables(model, plan, 17, 1).draws(4);
  const [first, again, other] = [draws.feeds(0, 0), draws.feeds(0, 0), draws.feeds(1, 0)];
  expect(again).toEqual(first);
  expect(other["dropout.rows.0.q"]).not.toEqual(first["dropout.rows.0.q"]);
  const rowNumbers = first["dropout.rows.0.q"].data as Float32Array;
  const columns = first["dropout.columns.0.q"].data as Float32Array;
  let dropped = 0;
  for (const r of rowNumbers)
    for (const c of columns) {
      const mixed = r * c * 4093 + r * 127 + c * 131;
      if (mixed - Math.floor(mixed) <= 0.3) dropped++;
    }
  // 2,176 numbers: a standard deviation of 1 point.
  expect(Math.abs(dropped / (rowNumbers.length * columns.length) - 0.3)).toBeLessThan(0.04);
});

test("losses add up with their weights, before or after the norm", async () => {
  const model = await loadModel(referencePath("teachers/timm-vit"));
  const images = (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;
  const lossOf = async (loss: CreateDistillationOptions["loss"]) => {
    const distillation = await createDistillation(model, { ...settings, loss });
    const { loss: value } = await distillation.step([images]);
    await distillation.dispose();
    return value;
  };
  const [l1, mse, after, token] = [
    await lossOf("l1"),
    await lossOf("mse"),
    await lossOf({ kind: "l1", norm: "after" }),
    await lossOf({ kind: "cosine", tokens: "class" }),
  ];
  const sum = await lossOf([
    { kind: "l1", weight: 2 },
    { kind: "mse", weight: 0.5 },
    { kind: "l1", norm: "after" },
    { kind: "cosine", tokens: "class" },
  ]);
  expect(sum).toBeCloseTo(2 * l1 + 0.5 * mse + after + token, 4);
  expect(after).not.toBeCloseTo(l1, 2);
});

test("clipping keeps the common norm of the gradients at its bound, and layer decay slows the first blocks", async () => {
  const model = await loadModel(referencePath("teachers/timm-vit"));
  const images = (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;
  const moved = async (optimizer: CreateDistillationOptions["optimizer"]) => {
    // eps far above the gradients makes Adam's step all but proportional to them.
    const distillation = await createDistillation(model, {
      ...settings,
      method: "weco-kd",
      optimizer,
      schedule: { kind: "linear", baseLearningRate: 1, warmupEpochs: 0, epochs: 4 },
    });
    const before = await distillation.adapters();
    const { gradients: actual } = await distillation.step([rows(images, 0, 2)], { gradients: true });
    const after = await distillation.adapters();
    await distillation.dispose();
    const change = (name: string) =>
      Math.max(
        ...(after.get(name) as FloatTensor).data.map((v, i) => Math.abs(v - (before.get(name) as FloatTensor).data[i])),
      );
    const norm = Math.sqrt(
      [...(actual as Map<string, FloatTensor>).values()].reduce((s, t) => s + t.data.reduce((a, v) => a + v * v, 0), 0),
    );
    return { change, norm };
  };
  const common = { kind: "adamw", eps: 10, weightDecay: 0 } as const;
  const free = await moved(common);
  const clipped = await moved({ ...common, clipNorm: free.norm / 4 });
  const name = "blocks.1.mlp.fc1.bias";
  expect(clipped.change(name) / free.change(name)).toBeCloseTo(0.25, 2);
  const decayed = await moved({ ...common, layerDecay: 0.5 });
  // Three blocks: block b moves with 0.5^(3 - b), what stands before them with 0.5^4.
  for (const [key, factor] of [
    ["blocks.2.mlp.fc2.bias", 0.5],
    ["blocks.0.mlp.fc1.bias", 0.125],
    ["cls_token", 0.0625],
    ["norm.bias", 1],
  ] as const) {
    expect(decayed.change(key) / free.change(key)).toBeCloseTo(factor, 2);
  }
});

test.each<[string, CreateDistillationOptions, string]>([
  ["minivit takes no list of blocks", { method: "minivit", keptBlocks: [0, 1] }, "shares weights by reductionFactor"],
  ["dora takes no alpha", { method: "dora", alpha: 4 }, "dora takes neither alpha"],
  ["a rank for each target", { rank: { q: 4 }, targetModules: ["q", "v"] }, "rank names no value for v"],
  ["an unknown method", { method: "weco" as never }, "method"],
  ["an unknown loss", { loss: { kind: "l3" } as never }, "loss"],
])("mistakes are named: %s", async (_, options, message) => {
  const model = await loadModel(referencePath("teachers/timm-vit"));
  await expect(createDistillation(model, options)).rejects.toThrow(message);
});
