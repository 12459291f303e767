// A student of each kind of teacher that libraries load, with the preprocessing that such teachers have, and images
// that need resizing.
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import type { Model } from "wecolora/node";
import { createDistillation, loadModel } from "wecolora/node";
import { evaluationCrop } from "../../src/data/transforms.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { referencePath } from "./reference.ts";

export interface Kind {
  readonly name: string;
  /** A folder in `tests/reference/teachers`, for images of 32 pixels. */
  readonly teacher: string;
  /** preprocessor_config.json as such teachers have it, at the teacher's size. */
  readonly preprocessor?: Readonly<Record<string, unknown>>;
  /** pretrained_cfg of timm's teachers. */
  readonly pretrained?: Readonly<Record<string, unknown>>;
}

const half = { image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] };
const imagenet = { image_mean: [0.485, 0.456, 0.406], image_std: [0.229, 0.224, 0.225] };
const square = { height: 32, width: 32 };
const bit = {
  image_processor_type: "BitImageProcessor",
  size: { shortest_edge: 36 },
  crop_size: square,
  resample: 3,
  ...imagenet,
};

export const kinds: readonly Kind[] = [
  {
    name: "ViT",
    teacher: "hf-vit",
    preprocessor: { image_processor_type: "ViTImageProcessor", size: 32, resample: 2, ...half },
  },
  {
    name: "DeiT",
    teacher: "hf-deit",
    preprocessor: {
      feature_extractor_type: "DeiTFeatureExtractor",
      size: 36,
      crop_size: 32,
      do_center_crop: true,
      resample: 3,
      ...imagenet,
    },
  },
  { name: "DINOv2", teacher: "hf-dinov2", preprocessor: bit },
  { name: "DINOv2 with registers", teacher: "hf-dinov2-registers", preprocessor: bit },
  {
    name: "DINOv3",
    teacher: "more-hf-dinov3",
    preprocessor: {
      image_processor_type: "DINOv3ViTImageProcessorFast",
      size: square,
      crop_size: null,
      do_center_crop: null,
      resample: 2,
      ...imagenet,
    },
  },
  {
    name: "CLIP",
    teacher: "hf-clip-vision",
    preprocessor: { feature_extractor_type: "CLIPFeatureExtractor", size: 32, crop_size: 32, do_center_crop: true },
  },
  {
    name: "SigLIP",
    teacher: "more-hf-siglip",
    preprocessor: { image_processor_type: "SiglipImageProcessor", size: square, resample: 3, ...half },
  },
  {
    name: "MAE",
    teacher: "hf-vit-mae",
    preprocessor: { feature_extractor_type: "ViTFeatureExtractor", size: 32, resample: 2, ...imagenet },
  },
  {
    name: "I-JEPA",
    teacher: "more-hf-ijepa",
    preprocessor: { image_processor_type: "ViTImageProcessor", size: square, resample: 2, ...imagenet },
  },
  {
    name: "timm",
    teacher: "timm-vit",
    pretrained: { input_size: [3, 32, 32], interpolation: "bicubic", crop_pct: 0.9, crop_mode: "center" },
  },
  {
    name: "timm, squash",
    teacher: "timm-vit-reg",
    pretrained: { input_size: [3, 32, 32], interpolation: "bicubic", crop_pct: 1, crop_mode: "squash" },
  },
];

/** A student with every second block of a teacher of the kind, whose folder is made below `folder`. */
export async function studentOf({ name, teacher, preprocessor, pretrained }: Kind, folder: string): Promise<Model> {
  const path = join(folder, "teachers", name);
  await cp(referencePath(`teachers/${teacher}`), path, { recursive: true });
  if (preprocessor) await writeFile(join(path, "preprocessor_config.json"), JSON.stringify(preprocessor));
  if (pretrained) {
    const config = JSON.parse(await readFile(join(path, "config.json"), "utf8")) as Record<string, unknown>;
    // timm makes models of names that it knows.
    const timmConfig = { ...config, architecture: "vit_tiny_patch16_224", pretrained_cfg: pretrained };
    await writeFile(join(path, "config.json"), JSON.stringify(timmConfig));
  }
  const distillation = await createDistillation(await loadModel(path), { method: "weight-copy", reductionFactor: 2 });
  const student = await distillation.student();
  await distillation.dispose();
  return student;
}

/** Sizes of the images; none is the model's. */
const sizes: readonly (readonly [number, number])[] = [
  [95, 40],
  [53, 71],
  [64, 64],
];

/** Writes smooth images as PNG files, which resizers agree on nearly, and gives their paths. */
export async function writeImages(folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const paths: string[] = [];
  for (const [i, [width, height]] of sizes.entries()) {
    const data = new Uint8Array(3 * width * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) {
          const wave = Math.sin(x / (9 + 2 * c) + i) + Math.cos(y / (7 + 3 * c) - i * c);
          data[3 * (y * width + x) + c] = Math.round(127 + 60 * wave);
        }
      }
    }
    const path = join(folder, `${i}.png`);
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(path);
    paths.push(path);
  }
  return paths;
}

export interface Features {
  /** All tokens, as transformers gives them. */
  readonly tokens: FloatTensor;
  /** What heads read, as timm gives it. */
  readonly pooled: FloatTensor;
}

/** A student's features of an image that it prepares itself, with crops rounded as the library compared with does. */
export async function featuresOf(student: Model, path: string, cropRounding?: "down"): Promise<Features> {
  const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const preprocessing = { ...student.preprocessing, cropRounding };
  const crop = evaluationCrop({ width: info.width, height: info.height, data }, preprocessing);
  const side = preprocessing.cropSize;
  const pixels: FloatTensor = { type: "float32", dims: [1, 3, side, side], data: crop };
  const { pooled } = await student.outputs(pixels, ["pooled"]);
  return { tokens: (await student.forward(pixels)).lastHiddenState, pooled };
}

/** Root of the mean square difference over that of the expected numbers. */
export function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} numbers, expected ${expected.length}`);
  let [square, scale] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    square += (actual[i] - expected[i]) ** 2;
    scale += expected[i] ** 2;
  }
  return Math.sqrt(square / scale);
}
