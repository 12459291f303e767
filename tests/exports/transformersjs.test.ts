// What is saved loads in transformers.js, from disk, and gives the same features.
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, readFile, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  AutoModel,
  AutoModelForImageClassification,
  AutoProcessor,
  env,
  RawImage,
  Tensor,
} from "@huggingface/transformers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDistillation, distill, loadModel, saveModel } from "wecolora/node";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { noiseImage } from "../support/cli.ts";
import { difference, featuresOf, kinds, studentOf, writeImages } from "../support/kinds.ts";
import { expectClose, readReference, readTensors, referencePath, root } from "../support/reference.ts";

env.allowRemoteModels = false;
env.localModelPath = "/";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-tjs-"));
});
afterAll(() => rm(folder, { recursive: true }));

interface Outputs {
  readonly last_hidden_state: Tensor;
  readonly pooler_output?: Tensor;
}

/** Features of their scale: 1e-3, as both run the same weights through other kernels. */
const tolerance = 1e-3;

function plain(tensor: Tensor): FloatTensor {
  return { type: "float32", dims: tensor.dims, data: tensor.data as Float32Array };
}

test.each(["hf-dinov2", "hf-vit", "timm-vit"])("a student of %s", async (name) => {
  const teacher = await loadModel(referencePath(`teachers/${name}`));
  const input = (await readReference(`teachers/${name}/expected.safetensors`)).get("input") as FloatTensor;
  const distillation = await createDistillation(teacher, {
    reductionFactor: 2,
    rank: 2,
    schedule: { kind: "cosine", warmupEpochs: 0 },
  });
  await distillation.step([input]);
  const student = await distillation.student();
  const path = join(folder, name);
  await saveModel(student, path, { format: "huggingface" });
  const ours = await student.forward(input);
  const theirs = (await (
    await AutoModel.from_pretrained(path, { dtype: "fp32" })
  )({
    pixel_values: new Tensor("float32", Float32Array.from(input.data), [...input.dims]),
  })) as Outputs;
  expectClose(plain(theirs.last_hidden_state), ours.lastHiddenState, tolerance, "features");
  if (name === "hf-vit") expect(theirs.pooler_output?.dims).toEqual([3, 32]);
  if (ours.logits) {
    const classifier = await AutoModelForImageClassification.from_pretrained(path, { dtype: "fp32" });
    const { logits } = (await classifier({
      pixel_values: new Tensor("float32", Float32Array.from(input.data), [...input.dims]),
    })) as { logits: Tensor };
    expectClose(plain(logits), ours.logits, tolerance, "logits");
  }
  await distillation.dispose();
});

test("the demo's teacher, saved again, with its processor", async () => {
  const model = await loadModel(join(root, "demo/teacher"));
  const path = join(folder, "demo");
  await saveModel(model, path);
  const pixels = (await readTensors(join(root, "demo/expected.safetensors"))).get("pixel_values") as FloatTensor;
  const two: FloatTensor = {
    type: "float32",
    dims: [2, 3, 224, 224],
    data: Float32Array.from(pixels.data.subarray(0, 2 * 150528)),
  };
  const ours = await model.forward(two);
  const theirs = await AutoModel.from_pretrained(path, { dtype: "fp32" });
  const { last_hidden_state: features } = (await theirs({
    pixel_values: new Tensor("float32", two.data, [...two.dims]),
  })) as Outputs;
  expectClose(plain(features), ours.lastHiddenState, tolerance, "features");
  // The whole way of a user of transformers.js: their own resizing differs a little, the images' order of classes doesn't.
  const processor = await AutoProcessor.from_pretrained(path, {});
  const image = await RawImage.read(join(root, "demo/pictures/val/arrow/arrow07_2.jpg"));
  const prepared = (await processor(image)) as { pixel_values: Tensor };
  expect(prepared.pixel_values.dims).toEqual([1, 3, 224, 224]);
  const classifier = await AutoModelForImageClassification.from_pretrained(path, { dtype: "fp32" });
  const { logits } = (await classifier(prepared)) as { logits: Tensor };
  const row = Array.from(logits.data as Float32Array);
  const expected = Array.from((ours.logits as FloatTensor).data.subarray(0, 30));
  expect(row.indexOf(Math.max(...row))).toBe(expected.indexOf(Math.max(...expected)));
  await model.dispose();
});

/**
 * transformers.js resizes without antialiasing where Python's libraries have it, so features of images that shrink
 * differ, by about as much as here on smooth images; its crops and numbers are the same.
 */
const resizing = 0.1;

test.each(kinds)("a student of a $name teacher, with its own processor on images that need resizing", async (kind) => {
  const student = await studentOf(kind, folder);
  const path = join(folder, `student of ${kind.name}`);
  await saveModel(student, path, { format: "huggingface" });
  const processor = await AutoProcessor.from_pretrained(path, {});
  const model = await AutoModel.from_pretrained(path, { dtype: "fp32" });
  for (const image of await writeImages(join(folder, "images"))) {
    const prepared = (await processor(await RawImage.read(image))) as { pixel_values: Tensor };
    expect(prepared.pixel_values.dims).toEqual([1, 3, 32, 32]);
    const { last_hidden_state: features } = (await model(prepared)) as Outputs;
    const { tokens: ours } = await featuresOf(student, image, "down");
    expect(features.dims).toEqual(ours.dims);
    expect(difference(features.data as Float32Array, ours.data), image).toBeLessThan(resizing);
  }
  await student.dispose();
});

test("a run's student loads by its card's own lines, and without options", async () => {
  for (let i = 0; i < 12; i++) await noiseImage(join(folder, "card", "data", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
  const run = join(folder, "card", "run");
  const teacher = referencePath("teachers/hf-vit");
  await distill({ teacher, data: join(folder, "card", "data"), out: run, report: false });
  const card = await readFile(join(run, "student/README.md"), "utf8");
  expect(card).toMatch(/^---\nlibrary_name: transformers\npipeline_tag: image-feature-extraction\n/);
  // Sizes are those of the files.
  for (const name of ["model.safetensors", "onnx/model.onnx", "onnx/model_quantized.onnx"]) {
    const { size } = await stat(join(run, "student", name));
    expect(card).toContain(`| ${name} | ${(size / 1e6).toFixed(1)} |`);
  }
  const [, code] = /```javascript\n([\s\S]*?)```/.exec(card) ?? [];
  await symlink(join(root, "node_modules"), join(run, "node_modules"));
  await copyFile(join(folder, "card", "data", "a", "p0.jpg"), join(run, "image.jpg"));
  const { stdout } = await promisify(execFile)("node", ["--input-type=module", "-e", code], { cwd: run });
  expect(stdout).toMatch(/dims: \[ 1, 17, 32 \]/);

  const input = (await readReference("teachers/hf-vit/expected.safetensors")).get("input") as FloatTensor;
  const student = await loadModel(join(run, "student"));
  const ours = await student.forward(input);
  const pixels = new Tensor("float32", Float32Array.from(input.data), [...input.dims]);
  const model = await AutoModel.from_pretrained(join(run, "student"));
  const { last_hidden_state: features } = (await model({ pixel_values: pixels })) as Outputs;
  expectClose(plain(features), ours.lastHiddenState, tolerance, "features");
  await student.dispose();
});
