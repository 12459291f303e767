// Data sets, few-shot sampling, batch plans and loading.
import { mkdtemp, mkdir, rm, writeFile, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import {
  createImageSource,
  evaluationBatches,
  listImages,
  loadModel,
  openDataSet,
  TrainingLoader,
  UserError,
} from "wecolora/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ImageSource } from "../../src/data/loader.ts";
import type { Item } from "../../src/data/sampling.ts";
import { epochOrder, sampleFewShot, splitHeldOut } from "../../src/data/sampling.ts";
import { rowCosines } from "../../src/evaluation/metrics.ts";
import { distillRunSchema } from "../../src/commands/distill-options.ts";
import { bytesOfImage, imagesThatFit } from "../../src/students/training/step-memory.ts";
import { planBatches } from "../../src/students/training/step-plan.ts";
import type { Preprocessing } from "../../src/utils/image.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { concatRows } from "../../src/utils/tensor.ts";
import { plainVit } from "../../src/models/config.ts";
import { runScript } from "../support/cli.ts";
import { readTensors, root } from "../support/reference.ts";

const classed = (sizes: readonly number[]): Item[] =>
  sizes.flatMap((size, label) => Array.from({ length: size }, (_, i) => ({ name: `${label}/${i}`, label })));
const counts = (items: readonly Item[]) => {
  const actual: Record<string, number> = {};
  for (const { label } of items) actual[String(label)] = (actual[String(label)] ?? 0) + 1;
  return actual;
};

describe("few-shot sampling", () => {
  const items = classed([10, 40, 3]);

  test("a share of every class, at least one image each", async () => {
    expect(counts(await sampleFewShot(items, { kind: "share", share: 0.1 }, 0))).toEqual({ 0: 1, 1: 4, 2: 1 });
    expect(counts(await sampleFewShot(items, { kind: "share", share: 1 }, 0))).toEqual({ 0: 10, 1: 40, 2: 3 });
  });

  test("a count of every class, or all where there are fewer", async () => {
    expect(counts(await sampleFewShot(items, { kind: "count", count: 5 }, 0))).toEqual({ 0: 5, 1: 5, 2: 3 });
  });

  test("of the whole of a flat folder", async () => {
    const flat = Array.from({ length: 100 }, (_, i) => ({ name: `${i}` }));
    expect(await sampleFewShot(flat, { kind: "share", share: 0.07 }, 0)).toHaveLength(7);
    expect(await sampleFewShot(flat, { kind: "count", count: 12 }, 0)).toHaveLength(12);
  });

  test("the seed decides, and the list's order stays", async () => {
    const draw = (seed: number) => sampleFewShot(items, { kind: "count", count: 2 }, seed);
    expect(await draw(1)).toEqual(await draw(1));
    expect(await draw(1)).not.toEqual(await draw(2));
    const drawn = await draw(3);
    expect(drawn).toEqual(items.filter((item) => drawn.includes(item)));
  });

  test("an unusable image is replaced by another of its class", async () => {
    const usable = async ({ name }: Item) => Number(name.split("/")[1]) >= 2;
    const drawn = await sampleFewShot(items, { kind: "count", count: 5 }, 0, usable);
    expect(counts(drawn)).toEqual({ 0: 5, 1: 5, 2: 1 });
  });
});

test("held-out images are a share of each class, which keeps one at least", () => {
  const { rest, heldOut } = splitHeldOut(classed([10, 1, 3]), 0.5, 100, 0);
  expect(counts(heldOut)).toEqual({ 0: 5, 2: 2 });
  expect(rest.length + heldOut.length).toBe(14);
  expect(rest.some((item) => heldOut.includes(item))).toBe(false);
  expect(splitHeldOut(classed([100]), 0.5, 20, 0).heldOut).toHaveLength(20);
});

test("an epoch's order is a permutation that seed and epoch decide", () => {
  const order = epochOrder(50, 3, 7);
  expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
  expect(epochOrder(50, 3, 7)).toEqual(order);
  expect(epochOrder(50, 4, 7)).not.toEqual(order);
});

describe("the plan of a run", () => {
  const plan = (images: number, options: object = {}) =>
    planBatches(images, distillRunSchema.parse({ teacher: "t", data: "d", out: "o", ...options }));

  test("many images: the paper's batch and rate", () => {
    const { effectiveBatch, batch, accumulation, iterationsPerEpoch, steps, peakLearningRate } = plan(12_811);
    expect({ effectiveBatch, batch, accumulation, iterationsPerEpoch, steps }).toEqual({
      effectiveBatch: 1024,
      batch: 8,
      accumulation: 128,
      iterationsPerEpoch: 12,
      steps: 120,
    });
    expect(peakLearningRate).toBeCloseTo(4e-3, 10);
  });

  test("few images: several steps an epoch", () => {
    expect(plan(90)).toMatchObject({
      effectiveBatch: 11,
      batch: 11,
      accumulation: 1,
      iterationsPerEpoch: 8,
      peakLearningRate: 1e-3,
    });
    expect(plan(3)).toMatchObject({ effectiveBatch: 3, iterationsPerEpoch: 1 });
    const parts = [16, 12, 22, 14, 15, 17, 5].map((effectiveBatch) => plan(90, { effectiveBatch }).batch);
    expect(parts).toEqual([8, 6, 11, 7, 15, 16, 5]);
    const onGpu = [16, 32, 24, 17].map((effectiveBatch) => plan(90, { effectiveBatch, device: "cuda" }).batch);
    expect(onGpu).toEqual([16, 16, 12, 16]);
    const spared = [16, 12, 22, 14, 17].map(
      (effectiveBatch) => plan(90, { effectiveBatch, checkpointing: true }).batch,
    );
    expect(spared).toEqual([4, 4, 11, 7, 16]);
    expect(plan(90, { batch: 4, effectiveBatch: 32 })).toMatchObject({
      batch: 4,
      accumulation: 8,
      iterationsPerEpoch: 2,
    });
  });

  test("no more images at once than the memory holds, in parts that make up a step", () => {
    const config = { ...plainVit, imageSize: 224, patchSize: 16, channels: 3, normEpsilon: 1e-6 };
    const vitB = { ...config, width: 768, depth: 12, heads: 12, mlpWidth: 3072 };
    const step = { blocks: 6, parameters: 2 * 86e6, checkpointing: false, activations: "float32" } as const;
    const one = bytesOfImage(vitB, step);
    expect(bytesOfImage(vitB, { ...step, checkpointing: true })).toBeLessThan(one / 2);
    expect(bytesOfImage(vitB, { ...step, activations: "float16" })).toBeLessThan(0.7 * one);
    const fits = (images: number, most: number, effective: number) =>
      imagesThatFit({ most, effective }, (4 * step.parameters + (images + 0.5) * one) / 0.7, vitB, step);
    expect(fits(100, 16, 1024)).toBe(16);
    expect(fits(12, 16, 1024)).toBe(12);
    expect(fits(10, 11, 11)).toBe(10);
    // 4 would leave out 3 of 11, and 3 two.
    expect(fits(4, 11, 11)).toBe(2);
    expect(fits(-3, 11, 11)).toBe(1);
    const options = distillRunSchema.parse({ teacher: "t", data: "d", out: "o" });
    const actual = planBatches(12_811, options, true, ({ most, effective }) =>
      most === 8 && effective === 1024 ? 4 : 0,
    );
    expect(actual).toMatchObject({ batch: 4, accumulation: 256, effectiveBatch: 1024 });
    expect(actual.notes[0]).toBe("the available memory holds 4 of 8 images at once");
    // What is named is taken.
    expect(planBatches(90, { ...options, batch: 8 }, true, () => 1).batch).toBe(8);
  });

  test("so many steps instead of epochs: the same share is warm-up", () => {
    expect(plan(90, { steps: 20 })).toMatchObject({ steps: 20, epochs: 2.5, warmupEpochs: 0.5 });
    expect(plan(90, { steps: 20, warmupEpochs: 0 })).toMatchObject({ steps: 20, warmupEpochs: 0 });
    expect(plan(90)).toMatchObject({ steps: 80, epochs: 10, warmupEpochs: 2 });
    expect(planBatches(90, distillRunSchema.parse({ teacher: "t", data: "d", out: "o", steps: 20 }), false).steps).toBe(
      0,
    );
  });
});

describe("images on disk", () => {
  let folder: string;
  let source: ImageSource;
  const preprocessing: Preprocessing = {
    resize: { shortestEdge: 16 },
    cropSize: 16,
    interpolation: "bicubic",
    mean: [0, 0, 0],
    std: [1, 1, 1],
  };
  const solid = (colour: [number, number, number, number?], width = 20, height = 20) =>
    sharp({
      create: {
        width,
        height,
        channels: colour.length === 4 ? 4 : 3,
        background: { r: colour[0], g: colour[1], b: colour[2], alpha: (colour[3] ?? 255) / 255 },
      },
    });
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-data-"));
    source = createImageSource(folder);
    await solid([255, 0, 51]).png().toFile(join(folder, "red.png"));
    await solid([0, 0, 0, 0]).png().toFile(join(folder, "clear.png"));
    await solid([128, 128, 128]).greyscale().toColourspace("b-w").png().toFile(join(folder, "grey.png"));
    await solid([0, 255, 0]).toColourspace("rgb16").png().toFile(join(folder, "deep.png"));
    await solid([10, 20, 30]).webp({ lossless: true }).toFile(join(folder, "small.webp"));
    // Stored lying down, shown upright: left half black, right half white becomes top black, bottom white.
    const half = Uint8Array.from({ length: 20 * 20 * 3 }, (_, i) => (Math.floor(i / 3) % 20 < 10 ? 0 : 255));
    await sharp(half, { raw: { width: 20, height: 20, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .jpeg({ quality: 100 })
      .toFile(join(folder, "turned.jpg"));
    await writeFile(join(folder, "broken.png"), "nothing");
  });
  afterAll(async () => {
    await source.dispose();
    await rm(folder, { recursive: true });
  });
  const cropOf = (name: string) => source.evaluationCrop({ name }, preprocessing);
  const channels = (pixels: Float32Array) => [0, 1, 2].map((c) => Math.round(255 * pixels[c * 256 + 100]));

  test.each([
    ["red.png", [255, 0, 51]],
    // Alpha is dropped, as by Pillow.
    ["clear.png", [0, 0, 0]],
    ["grey.png", [128, 128, 128]],
    ["deep.png", [0, 255, 0]],
    ["small.webp", [10, 20, 30]],
  ])("%s", async (name, expected) => {
    expect(channels(await cropOf(name))).toEqual(expected);
  });

  test("EXIF orientation is followed", async () => {
    const pixels = await cropOf("turned.jpg");
    expect(pixels[8]).toBeLessThan(0.1);
    expect(pixels[15 * 16 + 8]).toBeGreaterThan(0.9);
  });

  test("a broken image is a UserError that names it", async () => {
    await expect(cropOf("broken.png")).rejects.toThrow(UserError);
    await expect(cropOf("gone.png")).rejects.toThrow(`${join(folder, "gone.png")} does not exist`);
  });

  test("batches leave out what can't be read, and say so", async () => {
    const items = ["red.png", "broken.png", "clear.png", "grey.png"].map((name) => ({ name }));
    const skipped: string[] = [];
    const seen: string[][] = [];
    for await (const { items: read, pixels } of evaluationBatches(source, items, 2, preprocessing, (s) =>
      skipped.push(s.name),
    )) {
      seen.push(read.map(({ name }) => name));
      expect(pixels.dims).toEqual([read.length, 3, 16, 16]);
    }
    expect(seen).toEqual([["red.png"], ["clear.png", "grey.png"]]);
    expect(skipped).toEqual(["broken.png"]);
  });

  test("views depend on seed, epoch and image alone, not on the order or the batches", async () => {
    const items = ["red.png", "turned.jpg", "small.webp", "grey.png"].map((name) => ({ name }));
    const settings = { source, items, preprocessing, augmentation: { scale: [0.2, 1] as const, flip: true }, seed: 4 };
    const all = async (batch: number, position: number, count: number) => {
      const loader = new TrainingLoader({ ...settings, batch, microBatchesPerEpoch: 4 / batch }, position);
      const parts: FloatTensor[] = [];
      for (let i = 0; i < count; i++) parts.push((await loader.next()).pixels);
      return concatRows(parts).data;
    };
    const [ones, twos] = [await all(1, 0, 8), await all(2, 0, 4)];
    expect(ones).toEqual(twos);
    // Going on in the middle gives the rest of the same sequence.
    expect(await all(2, 3, 1)).toEqual(twos.subarray(3 * 2 * 768));
    expect(ones.subarray(0, 4 * 768)).not.toEqual(ones.subarray(4 * 768));
  });

  test("folders: classes, splits, hidden files, links", async () => {
    const tree = join(folder, "tree");
    for (const [part, name] of [
      ["train", "a"],
      ["train", "b"],
      ["val", "b"],
      ["val", "a"],
    ]) {
      await mkdir(join(tree, part, name), { recursive: true });
      await solid([1, 2, 3])
        .png()
        .toFile(join(tree, part, name, "x.png"));
    }
    await writeFile(join(tree, "train", ".DS_Store"), "");
    await writeFile(join(tree, "train", "a", "notes.txt"), "");
    await symlink(tree, join(tree, "train", "loop"));
    await symlink(join(tree, "nowhere"), join(tree, "train", "lost.png"));
    const data = await openDataSet(tree);
    expect(data.train.classes).toEqual(["a", "b"]);
    expect(data.train.items).toEqual([
      { name: "train/a/x.png", label: 0 },
      { name: "train/b/x.png", label: 1 },
    ]);
    expect(data.test?.items.map(({ label }) => label)).toEqual([0, 1]);
    expect(data.unused).toEqual([
      { reason: "hidden", count: 1, names: ["train/.DS_Store"] },
      { reason: "not an image", count: 1, names: ["train/a/notes.txt"] },
      { reason: "a link back to a folder around it", count: 1, names: ["train/loop"] },
      { reason: "broken link", count: 1, names: ["train/lost.png"] },
    ]);
    await mkdir(join(tree, "val", "c"));
    await solid([1, 2, 3])
      .png()
      .toFile(join(tree, "val", "c", "x.png"));
    await expect(openDataSet(tree)).rejects.toThrow("The class c of");
    expect((await listImages(join(tree, "train", "a"))).classes).toBeUndefined();
  });
});

test("from the demo's images to PyTorch's class tokens", async () => {
  const expected = await readTensors(join(root, "demo/expected.safetensors"));
  const { default: json } = await import("../../demo/expected.json", { with: { type: "json" } });
  const model = await loadModel(join(root, "demo/teacher"));
  const source = createImageSource(join(root, "demo"));
  const items = json.pictures.map((name: string) => ({ name }));
  // The expected values come from torchvision's crop; the teacher's folder is one of transformers, which rounds down.
  const preprocessing = { ...model.preprocessing, cropRounding: undefined };
  for await (const { pixels } of evaluationBatches(source, items, 12, preprocessing, (s) =>
    expect(s).toBeUndefined(),
  )) {
    const { pooled } = await model.outputs(pixels, ["pooled"]);
    // The bound that demo/expected.json states.
    for (const cosine of rowCosines(pooled, expected.get("class_token") as FloatTensor))
      expect(cosine).toBeGreaterThan(0.999);
  }
  await source.dispose();
  await model.dispose();
});

test("a process outlives a worker that ends while a reply is on its way", async () => {
  const outcome = await runScript(join(root, "tests/support/ending.mjs"), [join(root, "demo/pictures/val")]);
  expect(outcome).toMatchObject({ code: 0, out: "ended\n" });
});
