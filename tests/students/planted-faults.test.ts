// Faults that were planted in the code to see whether the tests notice. Each has its own test here.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { FloatTensor } from "wecolora/node";
import { createDistillation, createImageSource, distill, listImages, loadModel } from "wecolora/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { paperAugmentation } from "../../src/data/transforms.ts";
import { gradients } from "../../src/engine/autograd/gradients.ts";
import { graph, input, max, mul, reduceSum } from "../../src/engine/graph/build.ts";
import { evaluate } from "../../src/engine/graph/evaluate-graph.ts";
import { conformTo } from "../../src/models/conform.ts";
import { Model } from "../../src/models/model.ts";
import { adaptedLinear } from "../../src/students/training/adapters.ts";
import { CachedFeatures } from "../../src/students/training/cached-features.ts";
import { stackCrops } from "../../src/data/loader.ts";
import { drawStream } from "../../src/utils/random.ts";
import { noiseFolder } from "../support/cli.ts";
import { inlineDevice } from "../support/device.ts";
import { expectClose, readReference, readTensors, referencePath } from "../support/reference.ts";

const device = inlineDevice();
const teacher = referencePath("teachers/timm-vit");
let folder: string;
beforeAll(async () => {
  folder = await noiseFolder("planted");
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

const numbers = (dims: readonly number[], seed: number) => {
  const random = drawStream(seed);
  const count = dims.reduce((a, b) => a * b, 1);
  return { type: "float64" as const, dims, data: Float64Array.from({ length: count }, () => random.normal()) };
};

test("an adapter's inputs that dropout keeps are scaled by 1 / (1 - p)", () => {
  const p = 0.25;
  const names = { A: "blocks.0.q.lora_A", B: "blocks.0.q.lora_B" };
  const [x, w, A, B] = [
    input("x", "float64", [2, 3, 4]),
    input("w", "float64", [5, 4]),
    input(names.A, "float64", [2, 4]),
    input(names.B, "float64", [5, 2]),
  ];
  const [rows, columns] = [input("rows", "float64", [2, 3, 1]), input("columns", "float64", [1, 1, 4])];
  const parameters = new Map([
    [names.A, A],
    [names.B, B],
  ]);
  const plan = { rank: 2, targetModules: ["q" as const], dropout: p };
  const inputs = new Map([
    ["dropout.rows.0.q", rows],
    ["dropout.columns.0.q", columns],
  ]);
  const adapted = adaptedLinear(parameters, plan, { inputs, feeds: () => ({}) });
  const y = adapted(x, { weight: w }, 0, "q");
  const [a, b] = [numbers([2, 4], 3), numbers([5, 2], 4)];
  const feeds = {
    ...{
      x: numbers([2, 3, 4], 1),
      w: numbers([5, 4], 2),
      [names.A]: a,
      [names.B]: b,
    },
    // A mixture of 0.9 everywhere, so that all inputs are kept.
    rows: { type: "float64" as const, dims: [2, 3, 1], data: new Float64Array(6) },
    columns: { type: "float64" as const, dims: [1, 1, 4], data: new Float64Array(4).fill(0.9 / 131) },
  };
  const actual = evaluate(graph([x, w, A, B, rows, columns], { y }), feeds).get("y");
  for (let t = 0; t < 6; t++)
    for (let o = 0; o < 5; o++) {
      let expected = 0;
      for (let i = 0; i < 4; i++) {
        let adapter = 0;
        for (let r = 0; r < 2; r++) adapter += b.data[2 * o + r] * a.data[4 * r + i];
        expected += feeds.x.data[4 * t + i] * (feeds.w.data[4 * o + i] + adapter / (1 - p));
      }
      // float64 sums of a few numbers.
      expect(Number(actual?.data[5 * t + o])).toBeCloseTo(expected, 12);
    }
});

test("equal maxima share the gradient, as in PyTorch", () => {
  const [a, b] = [input("a", "float64", [4]), input("b", "float64", [4])];
  const weights = input("weights", "float64", [4]);
  const [da, db] = gradients(reduceSum(mul(max(a, b), weights), [0], false), [a, b]);
  const row = (...data: number[]) => ({ type: "float64" as const, dims: [4], data: Float64Array.from(data) });
  const feeds = { a: row(1, 2, 3, -1), b: row(1, 5, 2, -1), weights: row(2, 4, 8, 16) };
  const actual = evaluate(graph([a, b, weights], { da, db }), feeds);
  expect([...(actual.get("da")?.data as Float64Array)]).toEqual([1, 0, 8, 8]);
  expect([...(actual.get("db")?.data as Float64Array)]).toEqual([1, 4, 0, 8]);
});

/** A model whose MLPs have fewer channels, so that of transformers' classes only those without LayerScale hold it. */
function narrowed(model: Model, channels: number): Model {
  const { width } = model.config;
  const weights = new Map(model.weights);
  for (let i = 0; i < model.config.depth; i++) {
    const mlp = `blocks.${i}.mlp`;
    const of = (name: string) => (model.weights.get(`${mlp}.${name}`) as FloatTensor).data;
    const [fc1, bias, fc2] = [of("fc1.weight"), of("fc1.bias"), of("fc2.weight")];
    const set = (name: string, dims: number[], data: Float32Array) =>
      weights.set(`${mlp}.${name}`, { type: "float32", dims, data });
    set("fc1.weight", [channels, width], fc1.slice(0, channels * width));
    set("fc1.bias", [channels], bias.slice(0, channels));
    const all = model.config.mlpWidth;
    set(
      "fc2.weight",
      [width, channels],
      Float32Array.from({ length: width * channels }, (_, k) => fc2[Math.floor(k / channels) * all + (k % channels)]),
    );
  }
  return new Model({ ...model, weights, config: { ...model.config, mlpWidth: channels } }, device);
}

test("LayerScale that a library has no place for goes into the map's weight and its bias", async () => {
  const model = narrowed(await loadModel(referencePath("teachers/timm-deit3-ls"), { device }), 50);
  const weights = new Map(model.weights);
  const random = drawStream(9);
  for (const [name, tensor] of model.weights)
    if (/(proj|fc2)\.bias$|gamma$/.test(name))
      weights.set(name, { ...tensor, data: tensor.data.map(() => 0.5 + random.uniform()) });
  const scaled = new Model({ ...model, weights }, device);
  const { model: conformed } = conformTo(scaled, "transformers");
  expect(conformed.config.layerScale).toBe(false);
  const pixels = (await readReference("teachers/timm-deit3-ls/expected.safetensors")).get("input") as FloatTensor;
  const [unfolded, folded] = [await scaled.forward(pixels), await new Model(conformed, device).forward(pixels)];
  // The same products with other roundings, in float32.
  expectClose(folded.pooled, unfolded.pooled, 1e-5, "features");
});

test("each cached crop is its own: the third is neither the second nor the first", async () => {
  const model = await loadModel(teacher, { device });
  const distillation = await createDistillation(model, { reductionFactor: 2, rank: 2 });
  const data = join(folder, "data");
  const source = createImageSource(data, 1);
  try {
    const items = (await listImages(data)).items.slice(0, 5);
    const crop = { preprocessing: model.preprocessing, augmentation: paperAugmentation, seed: 3 };
    const loading = { ...crop, source, items, batch: 2, microBatchesPerEpoch: 2, crops: 3 };
    const kept = await CachedFeatures.see(distillation, { ...loading, place: "memory" } as never, () => undefined);
    const side = model.preprocessing.cropSize;
    const seen: FloatTensor[] = [];
    for (let epoch = 0; epoch < 3; epoch++) {
      const crops = await Promise.all(items.map((item) => source.augmentedCrop(item, { ...crop, epoch })));
      const direct = await distillation.targets(stackCrops(crops, [3, side, side]));
      const cached = await kept.targets(items, epoch);
      for (const [name, tensor] of Object.entries(direct)) {
        // Half precision keeps 11 bits.
        expectClose(cached[name], tensor, 2e-3, `${name} of crop ${epoch}`);
        if (name !== "embedded") seen.push(cached[name]);
      }
    }
    const differ = (a: FloatTensor, b: FloatTensor) => a.data.some((v, i) => Math.abs(v - b.data[i]) > 0.01);
    for (const [i, j] of [
      [0, 1],
      [0, 2],
      [1, 2],
    ])
      expect(differ(seen[i], seen[j])).toBe(true);
    await kept.dispose();
  } finally {
    await source.dispose();
    await distillation.dispose();
  }
});

test("a resumed run's log holds each step once, in order, with none left out", async () => {
  const options = {
    ...{ teacher, data: join(folder, "data"), recipe: "paper" as const, rank: 2, steps: 9, effectiveBatch: 4 },
    ...{ checkpointSteps: 2, evaluateSteps: 3, evaluate: false, report: false, threads: 1 },
  };
  const logOf = async (out: string) =>
    (await readFile(join(out, "log.jsonl"), "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { kind: string; step: number; loss?: number });
  const [whole, halted] = [join(folder, "whole"), join(folder, "halted")];
  await distill({ ...options, out: whole });
  const stop = new AbortController();
  const onProgress = (event: { status: string; done?: number; stage?: string }) => {
    if (event.stage === "distilling" && event.done === 5) stop.abort();
  };
  await expect(distill({ ...options, out: halted, signal: stop.signal, onProgress })).rejects.toThrow("Stopped");
  await distill({ resume: halted });
  const [expected, actual] = [await logOf(whole), await logOf(halted)];
  const facts = (lines: typeof expected) => lines.map(({ kind, step, loss }) => ({ kind, step, loss }));
  expect(facts(actual)).toEqual(facts(expected));
  expect(actual.filter(({ kind }) => kind === "step").map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("a PEFT export's own files say how its adapters are scaled, by alpha too", async () => {
  const out = join(folder, "peft");
  const rank = { q: 2, v: 4 };
  await distill({
    ...{ teacher, data: join(folder, "data"), out, recipe: "paper", rank, alpha: 3, targetModules: ["q", "v"] },
    ...{ steps: 3, effectiveBatch: 4, evaluate: false, report: false, evaluateSteps: 0, export: ["peft"] },
  });
  const path = (...parts: string[]) => join(out, "exports", "peft", ...parts);
  const config = JSON.parse(await readFile(path("adapter_config.json"), "utf8")) as {
    r: number;
    lora_alpha: number;
    rank_pattern: Record<string, number>;
    alpha_pattern: Record<string, number>;
  };
  const tensors = await readTensors(path("adapter_model.safetensors"));
  const [base, student] = [
    await loadModel(path("base"), { device }),
    await loadModel(join(out, "student"), { device }),
  ];
  let checked = 0;
  for (const [name, A] of tensors) {
    if (!name.endsWith("lora_A.weight")) continue;
    const B = tensors.get(name.replace("lora_A", "lora_B")) as FloatTensor;
    const module = name.replace(/^base_model\.model\./, "").replace(/\.lora_A\.weight$/, "");
    // As PEFT reads its patterns: the end of the module's name.
    const patternOf = (patterns: Record<string, number>) =>
      Object.entries(patterns).find(([key]) => module === key || module.endsWith(`.${key}`))?.[1];
    const scale = (patternOf(config.alpha_pattern) ?? config.lora_alpha) / (patternOf(config.rank_pattern) ?? config.r);
    expect(scale).toBeCloseTo(3 / A.dims[0], 12);
    const block = Number(/\.(\d+)\./.exec(module)?.[1]);
    const part = /query|q_proj/.test(module) ? 0 : 2;
    const width = A.dims[1];
    const rowsOf = (model: Model) =>
      (model.weights.get(`blocks.${block}.attn.qkv.weight`) as FloatTensor).data.subarray(
        part * width * width,
        (part + 1) * width * width,
      );
    const [before, after] = [rowsOf(base), rowsOf(student)];
    for (let o = 0; o < width; o += 7)
      for (let i = 0; i < width; i += 5) {
        let delta = 0;
        for (let r = 0; r < A.dims[0]; r++) delta += Number(B.data[o * A.dims[0] + r]) * Number(A.data[r * width + i]);
        // float32 weights.
        expect(after[o * width + i] - before[o * width + i]).toBeCloseTo(scale * delta, 5);
        checked++;
      }
  }
  expect(checked).toBeGreaterThan(50);
});
