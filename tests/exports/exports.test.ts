// Exports: every format is loaded again, by us and by transformers.js; sizes; and the command that does it all.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AutoModel, env, Tensor } from "@huggingface/transformers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDistillation, loadModel, saveModel } from "wecolora/node";
import { modelCard } from "../../src/exports/model-card.ts";
import { input, constant, graph, matmul } from "../../src/engine/graph/build.ts";
import { evaluate } from "../../src/engine/graph/evaluate-graph.ts";
import type { Tensor as OwnTensor } from "../../src/utils/tensor.ts";
import { portableInt8 } from "../../src/engine/passes/int8/portable-products.ts";
import { quantizeColumns, quantizeRows, quantizeLinearMaps } from "../../src/engine/passes/int8/quantize.ts";
import { outOfBounds } from "../../src/commands/export.ts";
import { drawStream } from "../../src/utils/random.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { rows } from "../../src/utils/tensor.ts";
import { distillArguments, noiseImage, wecolora } from "../support/cli.ts";
import { readTensors, referencePath, relativeError, root } from "../support/reference.ts";
import { smallVit } from "../support/small-vit.ts";

env.allowRemoteModels = false;
env.localModelPath = "/";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-exports-"));
  for (let i = 0; i < 18; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

describe("8-bit maps", () => {
  const random = drawStream(3);
  const numbers = (dims: number[], scale: number): FloatTensor => ({
    type: "float32",
    dims,
    data: Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => scale * (2 * random.uniform() - 1)),
  });
  test.each([63, 127])("weights up to %i keep half a step of their channel's scale; zeros stay zeros", (largest) => {
    const weight = numbers([80, 60], 3);
    for (let i = 0; i < 80; i++) weight.data[i * 60 + 7] = 0;
    const { weight: q, scale } = quantizeColumns(weight, largest);
    weight.data.forEach((w, i) => {
      expect(Math.abs(w - q.data[i] * scale.data[i % 60])).toBeLessThanOrEqual(scale.data[i % 60] * 0.501);
      expect(Math.abs(q.data[i])).toBeLessThanOrEqual(largest);
    });
    expect(scale.data[7]).toBe(0);
    const across: FloatTensor = {
      ...weight,
      dims: [60, 80],
      data: Float32Array.from(weight.data, (_, i) => weight.data[(i % 80) * 60 + Math.floor(i / 80)]),
    };
    expect(quantizeRows(across, largest)).toEqual({ weight: q, scale });
  });
  test.each([
    ["weights", quantizeLinearMaps],
    ["products", portableInt8],
  ] as const)("%s in 8 bits are near the float ones, tokens of very different size alike", (_, convert) => {
    const x = input("x", "float32", [2, 5, 80]);
    const built = graph([x], { y: matmul(x, constant(numbers([80, 60], 1), "w")) });
    const feed = numbers([2, 5, 80], 1);
    // Tokens from 1e-3 to 1e3, and one of zeros.
    for (let t = 0; t < 10; t++)
      for (let k = 0; k < 80; k++) feed.data[t * 80 + k] *= t === 9 ? 0 : 10 ** ((t % 7) - 3);
    const exact = evaluate(built, { x: feed }).get("y") as OwnTensor;
    const near = evaluate(convert(built), { x: feed }).get("y") as OwnTensor;
    for (let t = 0; t < 10; t++) {
      const part = (y: OwnTensor) => (y.data as Float32Array).subarray(t * 60, (t + 1) * 60);
      // Rounding errors of 1/126 of the largest factor add up over 80 products like a random walk.
      expect(relativeError(part(near), part(exact))).toBeLessThan(0.03);
    }
  });
});

describe("the demo's student in transformers.js", () => {
  let sizes: Record<string, number>;
  let pixels: FloatTensor;
  let ours: FloatTensor;
  const formats = [
    ["onnx", "fp32", 1e-3],
    // Half precision at every step.
    ["onnx-float16", "fp16", 2e-2],
    ["onnx-int8", "int8", 0.25],
    ["onnx-int8-weights", "q8", 0.25],
  ] as const;

  beforeAll(async () => {
    const teacher = await loadModel(join(root, "demo/teacher"));
    const distillation = await createDistillation(teacher, { method: "weight-copy" });
    const student = await distillation.student();
    const given = (await readTensors(join(root, "demo/expected.safetensors"))).get("pixel_values") as FloatTensor;
    pixels = rows({ ...given, data: Float32Array.from(given.data) }, 0, 2);
    ours = (await student.forward(pixels)).lastHiddenState;
    sizes = {};
    for (const [format] of formats) {
      await saveModel(student, at(format), { format });
      const [file] = readdirSync(at(format, "onnx"));
      sizes[format] = statSync(at(format, "onnx", file)).size;
    }
    await student.dispose();
  });

  test.each(formats)("%s as %s", async (format, dtype, bound) => {
    const model = await AutoModel.from_pretrained(at(format), { dtype });
    const { last_hidden_state: features } = (await model({
      pixel_values: new Tensor("float32", pixels.data, [...pixels.dims]),
    })) as { last_hidden_state: Tensor };
    expect(features.dims).toEqual(ours.dims);
    // Relative to the whole: 8 bits leave single features far off.
    const [a, b] = [features.data as Float32Array, ours.data];
    let [square, scale] = [0, 0];
    for (let i = 0; i < b.length; i++) {
      square += (a[i] - b[i]) ** 2;
      scale += b[i] ** 2;
    }
    expect(Math.sqrt(square / scale)).toBeLessThan(bound);
  });

  test("half precision takes half the size, 8 bits a quarter", () => {
    expect(sizes["onnx-float16"] / sizes.onnx).toBeCloseTo(0.5, 2);
    // Positions, norms and scales stay float32.
    expect(sizes["onnx-int8"] / sizes.onnx).toBeLessThan(0.27);
    expect(sizes["onnx-int8-weights"] / sizes.onnx).toBeLessThan(0.27);
  });
});

describe("wecolora export", () => {
  const run = ["--rank", "2", "--epochs", "1", "--warmup-epochs", "0", "--evaluate-steps", "0"];
  const teacher = referencePath("teachers/hf-vit");

  test("after a run, in one command", async () => {
    const outcome = await wecolora(
      ...distillArguments(teacher, at("data"), at("run")),
      ...run,
      "--export",
      "onnx-int8,huggingface,peft",
      "--json",
    );
    expect(outcome).toMatchObject({ code: 0 });
    const { exports } = JSON.parse(outcome.out.trimEnd().split("\n").at(-1) as string);
    expect(exports.map(({ format }: { format: string }) => format)).toEqual(["onnx-int8", "huggingface", "peft"]);
    for (const { relativeDifference, cosine, bytes, knn } of exports) {
      expect(relativeDifference).toBeLessThan(0.25);
      expect(cosine).toBeGreaterThan(0.97);
      expect(bytes).toBeGreaterThan(1000);
      expect(knn.original).toBeGreaterThanOrEqual(0);
    }
    expect(exports[1].relativeDifference).toBeLessThan(1e-5);
    const card = readFileSync(at("run", "exports", "onnx-int8", "README.md"), "utf8");
    expect(card).toMatch(/^---\nlibrary_name: transformers\.js\n/);
    expect(card).toContain("wecolora distill --teacher TEACHER --data IMAGES --out RUN --recipe refined --rank 2");
    const peft = JSON.parse(readFileSync(at("run", "exports", "peft", "adapter_config.json"), "utf8"));
    expect(peft).toMatchObject({ peft_type: "LORA", r: 2, lora_alpha: 2, base_model_name_or_path: "base" });
    const adapter = await readTensors(at("run", "exports", "peft", "adapter_model.safetensors"));
    // The usual shape: the base that the adapters go over has narrower MLPs than the teacher.
    const { intermediate_size: width } = JSON.parse(
      readFileSync(at("run", "exports", "peft", "base", "config.json"), "utf8"),
    );
    expect(width).toBeLessThan(128);
    expect(adapter.get("base_model.model.encoder.layer.1.intermediate.dense.lora_B.weight")?.dims).toEqual([width, 2]);
  });

  test("a model that is no run's", async () => {
    const outcome = await wecolora(
      "export",
      "--model",
      teacher,
      "--to",
      "timm",
      "--data",
      at("data"),
      "--out",
      at("timm"),
    );
    expect(outcome).toMatchObject({ code: 0 });
    expect(outcome.out).toMatch(/^timm +0\.\d/m);
    expect(readdirSync(at("timm")).sort()).toEqual([
      ".wecolora.jsonl",
      "README.md",
      "config.json",
      "model.safetensors",
    ]);
  });

  test.each<[string, string[], string]>([
    ["no images", ["--to", "onnx", "--out", "x"], "--data"],
    ["nowhere to write", ["--to", "onnx", "--data", "DATA"], "--out"],
    ["an unknown format", ["--to", "onyx", "--data", "DATA", "--out", "x"], "to"],
    [
      "adapters that there are none of",
      ["--to", "peft", "--data", "DATA", "--out", "x"],
      "needs the adapters of a run",
    ],
    [
      "adapters beside what could be written",
      ["--to", "onnx,peft", "--data", "DATA", "--out", "x"],
      "needs the adapters",
    ],
  ])("mistakes are named, and nothing is written: %s", async (_, args, message) => {
    const given = args.map((arg) => (arg === "DATA" ? at("data") : arg === "x" ? at("x") : arg));
    const outcome = await wecolora("export", "--model", teacher, ...given);
    expect(outcome.code).toBe(2);
    expect(outcome.err).toContain(message);
    expect(existsSync(at("x"))).toBe(false);
  });
});

test.each([
  ["onnx", 0.01, 0.99999, "differ by 1.00 % (at most 0.1 %)"],
  ["onnx-int8", 0.05, 0.9, "cosine 0.90000 (at least 0.97)"],
  ["timm", Number.NaN, Number.NaN, "differ by NaN"],
] as const)("an export out of bounds is refused: %s", (format, difference, cosine, message) => {
  expect(outOfBounds({ format, out: "x", relativeDifference: difference, cosine })).toContain(message);
  expect(outOfBounds({ format, out: "x", relativeDifference: 0, cosine: 1 })).toBeUndefined();
});

test("a model card says where a model comes from, and no path of a disk", () => {
  const card = modelCard({
    name: "x",
    config: smallVit,
    origin: {
      teacher: "/home/me/models/big",
      fromHub: false,
      method: "wecolora",
      images: 90,
      data: "/home/me/pictures",
      keptBlocks: [0, 2],
      command: "c",
      results: [],
    },
    folder: "student",
    files: [],
    notes: [],
  });
  expect(card).toContain("Made from `big`");
  expect(card).not.toContain("/home");
  expect(card).not.toContain("base_model");
});
