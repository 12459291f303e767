// Preprocessing files as their own libraries read them: against Pillow, timm and transformers, and written again.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, nodeDirectory, saveModel } from "wecolora/node";
import { resize } from "../../src/data/resize.ts";
import { evaluationPixels, evaluationCrop } from "../../src/data/transforms.ts";
import { readPreprocessorFile } from "../../src/models/definition.ts";
import {
  isSame,
  readPreprocessor,
  readTimmPreprocessing,
  resizeTo,
  settle,
  writePreprocessor,
  writeTimmPreprocessing,
} from "../../src/models/preprocessing.ts";
import { UserError } from "../../src/utils/errors.ts";
import type { RgbImage, Preprocessing, Resize } from "../../src/utils/image.ts";
import { interpolations } from "../../src/utils/image.ts";
import { drawStream } from "../../src/utils/random.ts";
import type { Tensor } from "../../src/utils/tensor.ts";
import { readJson, readTensors, referencePath } from "../support/reference.ts";

type Json = Record<string, unknown>;
interface Cases {
  /** Image, width, height, and the box (left, top, right, bottom) that is resized. */
  readonly resizes: readonly (readonly [number, number, number, readonly number[] | null])[];
  readonly timm: readonly Json[];
  readonly transformers: readonly Json[];
}

const cases = readJson<Cases>("preprocessing/cases.json");
let expected: Map<string, Tensor>;
let folder: string;
beforeAll(async () => {
  expected = await readTensors(referencePath("preprocessing/expected.safetensors"));
  folder = await mkdtemp(join(tmpdir(), "wecolora-preprocessing-"));
});
afterAll(() => rm(folder, { recursive: true }));

function tensor(name: string): Tensor {
  const actual = expected.get(name);
  if (!actual) throw new Error(`no ${name}`);
  return actual;
}

function image(index: number): RgbImage {
  const { dims, data } = tensor(`image${index}`);
  return { height: dims[0], width: dims[1], data: Uint8Array.from(data as Uint8Array) };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}

/** Pixel values of an image beside those of the library; the same 8-bit pixels give the same numbers in float32. */
function differenceFrom(name: string, index: number, preprocessing: Preprocessing): number {
  const pixels = evaluationCrop(image(index), preprocessing);
  const wanted = tensor(name);
  expect([name, ...wanted.dims]).toEqual([name, 3, preprocessing.cropSize, preprocessing.cropSize]);
  return largestDifference(pixels, wanted.data as Float32Array);
}

describe("against Pillow, bit for bit", () => {
  test.each(interpolations.map((name, i) => [name, i] as const))("%s", (name, resample) => {
    for (const [i, [index, width, height, corners]] of cases.resizes.entries()) {
      const source = image(index);
      const [left, top, right, bottom] = corners ?? [0, 0, source.width, source.height];
      const box = { left, top, width: right - left, height: bottom - top };
      const { data } = resize(source, box, width, height, name);
      expect(data, `case ${i}`).toEqual(Uint8Array.from(tensor(`resize.${i}.${resample}`).data as Uint8Array));
    }
  });

  test.each(interpolations)("%s of a window is that part of the whole", (name) => {
    const source = image(0);
    const box = { left: 3, top: 2, width: 31, height: 40 };
    const whole = resize(source, box, 27, 19, name);
    const window = resize(source, box, 27, 19, name, { left: 5, top: 4, width: 11, height: 9 });
    for (let y = 0; y < 9; y++) {
      const from = ((y + 4) * 27 + 5) * 3;
      expect(window.data.subarray(y * 33, (y + 1) * 33)).toEqual(whole.data.subarray(from, from + 33));
    }
  });
});

/** Float32 arithmetic in another order. */
const rounding = 2e-6;

describe("against timm", () => {
  test.each(cases.timm.map((cfg, i) => [i, JSON.stringify(cfg)] as const))("case %i: %s", (i) => {
    const preprocessing = readTimmPreprocessing(cases.timm[i], 224, "config.json");
    for (let index = 0; index < 4; index++) {
      expect(differenceFrom(`timm.${i}.${index}`, index, preprocessing), `image ${index}`).toBeLessThan(rounding);
    }
  });

  test("what timm refuses or we can't do is refused by name", () => {
    const read = (cfg: Json) => () => readTimmPreprocessing(cfg, 32, "config.json");
    expect(read({ interpolation: "random" })).toThrow(
      /interpolation in config\.json is "random"; supported are nearest/,
    );
    expect(read({ crop_mode: "corner" })).toThrow(/crop_mode in config\.json is "corner"/);
    expect(read({ input_size: [3, 32, 48] })).toThrow(/input_size in config\.json is \[3,32,48\]; only squares/);
    expect(read({ crop_pct: -1 })).toThrow(/crop_pct in config\.json must be a number above 0, got -1/);
    expect(read({ std: [0.2, 0, 0.2] })).toThrow(/std in config\.json must be above 0/);
  });
});

function readCase(index: number): Preprocessing {
  const { model_type: modelType = "vit", ...json } = cases.transformers[index];
  return readPreprocessor(json, 12, "preprocessor_config.json", { modelType });
}

describe("against transformers", () => {
  const named = cases.transformers.map((json, i) => [i, JSON.stringify(json)] as const);

  // Its backend for Pillow pads the odd pixel of a border on the other side than its usual backend, which we follow.
  const paddedOtherwise = new Set(["pil.14.0", "pil.14.1", "pil.14.2", "pil.18.2"]);

  test.each(named)("Pillow's backend, case %i: %s", (i) => {
    for (let index = 0; index < 3; index++) {
      const name = `pil.${i}.${index}`;
      if (!expected.has(name) || paddedOtherwise.has(name)) continue;
      expect(differenceFrom(name, index, readCase(i)), `image ${index}`).toBeLessThan(rounding);
    }
  });

  // transformers 5 resizes through torch, which differs from Pillow by one level of 255 at most: it rounds once where
  // Pillow rounds after each pass, and DINOv3's class resizes floats and doesn't round at all.
  test.each(named)("torchvision's backend, case %i: %s", (i) => {
    const { resample } = cases.transformers[i];
    for (let index = 0; index < 3; index++) {
      const name = `torchvision.${i}.${index}`;
      // torch's nearest filter rounds otherwise.
      if (!expected.has(name) || resample === 0) continue;
      const preprocessing = readCase(i);
      const level = 1 / 255 / Math.min(...preprocessing.std);
      expect(differenceFrom(name, index, preprocessing), `image ${index}`).toBeLessThan(1.01 * level);
    }
  });

  test("null is 'left out' in every field", () => {
    const fields = ["size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "crop_pct"];
    const flags = ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad", "pad_size"];
    const nulls = Object.fromEntries([...fields, ...flags].map((key) => [key, null]));
    for (const name of ["ViT", "DeiT", "Bit", "CLIP", "Siglip", "DINOv3ViT", "ConvNext", "Levit", "Beit"]) {
      const type = { image_processor_type: `${name}ImageProcessor` };
      expect(readPreprocessor({ ...type, ...nulls }, 32, "f"), name).toEqual(readPreprocessor(type, 32, "f"));
    }
    const inner = { image_processor_type: "BitImageProcessor", size: { shortest_edge: 40, longest_edge: null } };
    expect(readPreprocessor(inner, 32, "f").resize).toEqual({ shortestEdge: 40 });
    expect(readTimmPreprocessing({ mean: null, crop_pct: null, input_size: null }, 32, "f")).toEqual(
      readTimmPreprocessing({}, 32, "f"),
    );
  });

  test.each([
    ["ViT", { height: 224, width: 224 }, 224, "bilinear", 0.5],
    ["DeiT", { height: 256, width: 256 }, 224, "bicubic", 0.5],
    ["Bit", { shortestEdge: 224 }, 224, "bicubic", 0.48145466],
    ["CLIP", { shortestEdge: 224 }, 224, "bicubic", 0.48145466],
    ["Siglip", { height: 224, width: 224 }, 224, "bicubic", 0.5],
    ["DINOv3ViT", { height: 224, width: 224 }, 224, "bilinear", 0.485],
    ["ConvNext", { height: 384, width: 384 }, 384, "bicubic", 0.5],
    ["Levit", { shortestEdge: 256 }, 224, "bicubic", 0.485],
    ["Tipsv2", { height: 448, width: 448 }, 448, "bilinear", 0],
  ] as const)("the defaults of %sImageProcessor", (name, size, cropSize, interpolation, mean) => {
    for (const type of [`${name}ImageProcessor`, `${name}ImageProcessorFast`, `${name}ImageProcessorPil`]) {
      const read = readPreprocessor({ image_processor_type: type }, 32, "f");
      expect(read, type).toMatchObject({ resize: size, cropSize, interpolation });
      expect(read.mean[0]).toBe(mean);
    }
    const old = readPreprocessor({ feature_extractor_type: `${name}FeatureExtractor` }, 32, "f");
    expect(old).toMatchObject({ resize: size, cropSize });
  });

  test("a file that names no class warns of what it leaves out, unless config.json says the model", () => {
    const messages: string[] = [];
    const warn = (message: string) => messages.push(message);
    const file = { size: 40, do_center_crop: true, crop_size: 32 };
    expect(readPreprocessor(file, 32, "f", { modelType: "dinov2", warn }).resize).toEqual({ shortestEdge: 40 });
    expect(readPreprocessor(file, 32, "f", { modelType: "deit", warn }).resize).toEqual({ height: 40, width: 40 });
    expect(messages).toEqual([]);
    readPreprocessor(file, 32, "f", { warn });
    expect(messages).toEqual([
      "f names no image_processor_type; resample, image_mean, image_std are taken from ViTImageProcessor",
    ]);
  });

  test.each<[string, Json, RegExp]>([
    ["a video processor", { image_processor_type: "VideoMAEImageProcessor" }, /"VideoMAEImageProcessor" is not supp/],
    ["a multi-modal processor", { image_processor_type: "Qwen2VLImageProcessor" }, /"Qwen2VLImageProcessor" is not/],
    ["an unknown class", { image_processor_type: "MyProcessor" }, /"MyProcessor" is not supported/],
    ["no square", { size: { height: 32, width: 48 } }, /makes images of 48x32 pixels \(width x height\); only squares/],
    ["a crop that is no square", { do_center_crop: true, crop_size: [32, 48] }, /crop_size in f is \{?\[32,48\]/],
    ["no crop size", { do_center_crop: true }, /crop_size in f is left out, but do_center_crop is true/],
    ["the longest edge alone", { size: { longest_edge: 32 } }, /size in f is \{"longest_edge":32\}; supported are/],
    ["largest sides", { size: { max_height: 32, max_width: 32 } }, /size in f is \{"max_height":32,"max_width":32\}/],
    ["pixels", { size: { min_pixels: 32, max_pixels: 64 } }, /size in f is \{"min_pixels":32,"max_pixels":64\}/],
    ["a size of text", { size: "224" }, /size in f is "224"/],
    ["a filter beyond 5", { resample: 6 }, /resample in f is 6; supported are 0 \(nearest\), 1 \(lanczos\)/],
    ["a rescale factor of 0", { rescale_factor: 0 }, /rescale_factor in f must be a number above 0, got 0/],
    ["a deviation of 0", { image_std: [1, 0, 1] }, /image_std in f must be above 0/],
    ["two means", { image_mean: [0.5, 0.5] }, /image_mean in f must be three numbers/],
    ["a flag of text", { do_rescale: "no" }, /do_rescale in f must be true or false, got "no"/],
    ["padding", { do_pad: true, pad_size: { height: 64, width: 64 } }, /do_pad with pad_size is not supported/],
  ])("%s is refused by name", (_, json, message) => {
    const read = () => readPreprocessor({ image_processor_type: "ViTImageProcessor", ...json }, 32, "f");
    expect(read).toThrow(UserError);
    expect(read).toThrow(message);
  });

  test("without a crop, images of another shape are refused, and square ones are read", () => {
    const json = { image_processor_type: "CLIPImageProcessor", size: 12, do_center_crop: false };
    const preprocessing = readPreprocessor(json, 12, "f");
    expect(() => evaluationPixels(image(0), preprocessing)).toThrow(/has 12x17 pixels after resizing; the model takes/);
    expect(evaluationPixels(image(3), preprocessing).width).toBe(12);
    const unchanged = readPreprocessor({ ...json, do_resize: false }, 24, "f");
    expect(evaluationPixels(image(3), unchanged).data).toEqual(image(3).data);
    expect(() => evaluationPixels(image(1), unchanged)).toThrow(/has 95x40 pixels after resizing/);
  });
});

/** Transforms of every kind, with any sizes. */
function anyPreprocessing(seed: number): Preprocessing {
  const random = drawStream(seed);
  const pixels = () => random.integer(1, 600);
  const cropSize = pixels();
  const kinds: (() => Resize)[] = [
    () => ({ shortestEdge: pixels() }),
    () => ({ shortestEdge: cropSize }),
    () => ({ shortestEdge: pixels(), longestEdge: pixels() }),
    () => ({ height: pixels(), width: pixels() }),
    () => ({ height: cropSize, width: cropSize }),
    () => {
      const both = pixels();
      return { height: both, width: both };
    },
    () => ({ borderedSide: pixels() }),
    () => ({ unchanged: true }),
  ];
  const resized = kinds[random.integer(0, kinds.length - 1)]();
  const free = "shortestEdge" in resized || "unchanged" in resized;
  const channels = (least: number) => [0, 1, 2].map(() => least + random.uniform()) as [number, number, number];
  return settle({
    resize: resized,
    cropSize,
    ...(random.uniform() < 0.5 && !("borderedSide" in resized) ? { cropRounding: "down" as const } : {}),
    ...(free && random.uniform() < 0.3 ? { uncropped: true as const } : {}),
    interpolation: interpolations[random.integer(0, 5)],
    mean: channels(0),
    std: channels(0.1),
  });
}

describe("what is written is read back equal", () => {
  test("preprocessor_config.json, over 2000 transforms", () => {
    let plain = 0;
    for (let seed = 0; seed < 2000; seed++) {
      const preprocessing = anyPreprocessing(seed);
      const { json, differences } = writePreprocessor(preprocessing);
      const text = JSON.parse(JSON.stringify(json)) as Json;
      const messages: string[] = [];
      const warn = (message: string) => messages.push(message);
      const read = readPreprocessor(text, preprocessing.cropSize, "f", { warn });
      expect(JSON.stringify(read), `seed ${seed}`).toBe(JSON.stringify(preprocessing));
      expect(messages).toEqual([]);
      // Where transformers' own fields say less, someone is told.
      const { wecolora: _, ...fields } = text;
      const theirs = readPreprocessor(fields, preprocessing.cropSize, "f");
      if (isSame(theirs, preprocessing)) plain++;
      else expect(differences.length + ("uncropped" in preprocessing ? 1 : 0), `seed ${seed}`).toBeGreaterThan(0);
    }
    expect(plain).toBeGreaterThan(500);
  });

  test("timm's config.json, over 2000 transforms", () => {
    let plain = 0;
    for (let seed = 0; seed < 2000; seed++) {
      const preprocessing = anyPreprocessing(seed);
      const { resize: resized } = preprocessing;
      const impossible = "unchanged" in resized || ("height" in resized && resized.height !== resized.width);
      if (impossible) {
        expect(() => writeTimmPreprocessing(preprocessing)).toThrow(/timm can't express this model's preprocessing/);
        continue;
      }
      const { json, settled, differences } = writeTimmPreprocessing(preprocessing);
      const text = JSON.parse(JSON.stringify({ json, settled })) as { json: Json; settled: { wecolora?: unknown } };
      const read = readTimmPreprocessing(text.json, 1, "f", { settled: text.settled.wecolora });
      expect(JSON.stringify(read), `seed ${seed}`).toBe(JSON.stringify(preprocessing));
      if (isSame(readTimmPreprocessing(text.json, 1, "f"), preprocessing)) plain++;
      else expect(differences.length, `seed ${seed}`).toBeGreaterThan(0);
    }
    expect(plain).toBeGreaterThan(500);
  });

  test("whoever edits a written file is obeyed", () => {
    const preprocessing: Preprocessing = { ...readTimmPreprocessing({ input_size: [3, 32, 32] }, 32, "f") };
    const { json, differences } = writePreprocessor(preprocessing);
    expect(differences).toEqual([
      "transformers rounds the crop's offset down where an odd number of pixels is cropped away (timm rounds it to even): some images are seen one pixel further",
    ]);
    const messages: string[] = [];
    const edited = { ...json, size: { shortest_edge: 50 } };
    const read = readPreprocessor(edited, 32, "f", { warn: (message) => messages.push(message) });
    expect(read.resize).toEqual({ shortestEdge: 50 });
    expect(messages).toEqual(["f was edited after it was written: its fields are used, not wecolora.preprocessing"]);
  });

  test("DeiT's squash and crop, and SigLIP's squash, need no fields of our own in either library", () => {
    const deit = readPreprocessor({ image_processor_type: "DeiTImageProcessor" }, 224, "f");
    const siglip = readPreprocessor({ image_processor_type: "SiglipImageProcessor" }, 224, "f");
    for (const preprocessing of [deit, siglip]) {
      expect(writePreprocessor(preprocessing).differences).toEqual([]);
      expect(writePreprocessor(preprocessing).json).not.toHaveProperty("wecolora");
      expect(writeTimmPreprocessing(preprocessing)).toMatchObject({ differences: [], settled: {} });
    }
    expect(writePreprocessor(deit).json).toMatchObject({
      image_processor_type: "DeiTImageProcessor",
      size: { height: 256, width: 256 },
      crop_size: { height: 224, width: 224 },
      do_center_crop: true,
    });
    expect(writeTimmPreprocessing(deit).json).toMatchObject({ crop_mode: "squash", crop_pct: 0.875 });
    expect(writeTimmPreprocessing(siglip).json).toMatchObject({ crop_mode: "squash", crop_pct: 1 });
  });

  test("another size keeps the proportions", () => {
    const deit = readPreprocessor({ image_processor_type: "DeiTImageProcessor" }, 224, "f");
    expect(resizeTo(deit, 448)).toMatchObject({ resize: { height: 512, width: 512 }, cropSize: 448 });
    const padded = readTimmPreprocessing({ input_size: [3, 224, 224], crop_pct: 1.4 }, 224, "f");
    expect(resizeTo(padded, 448)).toMatchObject({ resize: { shortestEdge: 320 }, cropSize: 448 });
  });
});

describe("models in folders", () => {
  const vit = referencePath("teachers/hf-vit");

  async function folderOf(name: string, teacher: string, files: Record<string, unknown>): Promise<string> {
    const path = join(folder, name);
    await cp(teacher, path, { recursive: true });
    for (const [file, content] of Object.entries(files)) await writeFile(join(path, file), JSON.stringify(content));
    return path;
  }

  test("a teacher without a preprocessor file and its student are seen through the same transform", async () => {
    const teachers = ["hf-vit", "hf-dinov2", "hf-clip-vision", "more-hf-siglip", "timm-vit"];
    for (const name of teachers) {
      const model = await loadModel(referencePath(`teachers/${name}`));
      for (const format of ["huggingface", "safetensors"] as const) {
        const path = join(folder, `guessed-${name}-${format}`);
        await saveModel(model, path, { format });
        const saved = await loadModel(path);
        expect(JSON.stringify(saved.preprocessing), name).toBe(JSON.stringify(model.preprocessing));
        await saved.dispose();
      }
      await model.dispose();
    }
  });

  test("the image processor in processor_config.json goes before preprocessor_config.json", async () => {
    const path = await folderOf("nested", vit, {
      "preprocessor_config.json": { image_processor_type: "ViTImageProcessor", size: 32, image_mean: 0.1 },
      "processor_config.json": {
        processor_class: "CLIPProcessor",
        image_processor: { image_processor_type: "CLIPImageProcessor", size: 40, crop_size: 32, image_mean: 0.25 },
      },
    });
    const { preprocessing } = await loadModel(path);
    expect(preprocessing).toMatchObject({ resize: { shortestEdge: 40 }, cropSize: 32, mean: [0.25, 0.25, 0.25] });
    await writeFile(join(path, "processor_config.json"), JSON.stringify({ processor_class: "CLIPProcessor" }));
    expect((await loadModel(path)).preprocessing.mean).toEqual([0.1, 0.1, 0.1]);
  });

  test("a config.json of timm 0.5, where all stands at the top", async () => {
    const teacher = referencePath("teachers/timm-vit");
    const before = JSON.parse(await readFile(join(teacher, "config.json"), "utf8")) as Json;
    const path = await folderOf("flat", teacher, {
      "config.json": {
        architecture: "vit_tiny_patch16_224",
        num_classes: (before.model_args as Json).num_classes,
        input_size: [3, 32, 32],
        pool_size: null,
        crop_pct: 0.9,
        interpolation: "lanczos",
        mean: [0.5, 0.5, 0.5],
        std: [0.25, 0.5, 0.5],
        first_conv: "patch_embed.proj",
        classifier: "head",
      },
    });
    const messages: string[] = [];
    const model = await loadModel(path, { numHeads: 4, warn: (message) => messages.push(message) });
    expect(messages).toEqual([]);
    expect(model.config.imageSize).toBe(32);
    expect(model.preprocessing).toEqual({
      resize: { shortestEdge: 35 },
      cropSize: 32,
      interpolation: "lanczos",
      mean: [0.5, 0.5, 0.5],
      std: [0.25, 0.5, 0.5],
    });
    // Written in today's form.
    await saveModel(model, join(folder, "flat-saved"), { format: "timm" });
    const saved = JSON.parse(await readFile(join(folder, "flat-saved", "config.json"), "utf8")) as Json;
    expect(saved).not.toHaveProperty("crop_pct");
    expect(saved.pretrained_cfg).toMatchObject({ crop_pct: 32 / 35, crop_mode: "center", interpolation: "lanczos" });
    expect((await loadModel(join(folder, "flat-saved"))).preprocessing).toEqual(model.preprocessing);
  });

  const formats = ["huggingface", "timm", "safetensors", "onnx", "onnx-int8-weights"] as const;
  test.each(formats)("the format %s keeps the transform and tells what its library can't", async (format) => {
    const transforms: [Preprocessing, string | undefined][] = [
      [readPreprocessor({ image_processor_type: "DeiTImageProcessor", size: 40, crop_size: 32 }, 32, "f"), undefined],
      [readTimmPreprocessing({ crop_pct: 1, crop_mode: "squash", interpolation: "hamming" }, 32, "f"), undefined],
      [
        readPreprocessor({ image_processor_type: "BitImageProcessor", size: 40, crop_size: 32 }, 32, "f"),
        format === "timm" ? "timm rounds" : undefined,
      ],
      [readTimmPreprocessing({ crop_pct: 0.9 }, 32, "f"), format === "timm" ? undefined : "transformers rounds"],
      [readTimmPreprocessing({ crop_mode: "border" }, 32, "f"), format === "timm" ? undefined : "adds no borders"],
    ];
    const model = await loadModel(vit);
    const { config, weights, origin } = model;
    for (const [i, [preprocessing, difference]] of transforms.entries()) {
      const path = join(folder, `${format}-${i}`);
      const messages: string[] = [];
      const warn = (message: string) => messages.push(message);
      await saveModel({ config, weights, origin, preprocessing }, path, { format, warn });
      expect(messages.length, messages.join()).toBe(difference === undefined ? 0 : 1);
      if (difference !== undefined) expect(messages[0]).toContain(difference);
      // Folders with an ONNX file alone are transformers.js's to load; their settings are read here.
      const back = format.startsWith("onnx")
        ? await readPreprocessorFile(nodeDirectory(path), 32, undefined, warn)
        : (await loadModel(path, { warn })).preprocessing;
      expect(JSON.stringify(back), `transform ${i}`).toBe(JSON.stringify(preprocessing));
    }
    await model.dispose();
  });
});
