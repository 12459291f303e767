// How an image becomes pixel values: read from and written to preprocessor_config.json (Hugging Face) and
// pretrained_cfg (timm), each as its own library reads it.
import { z } from "zod";
import { UserError } from "../utils/errors.ts";
import type { Interpolation, Preprocessing, Resize, TransformChoice } from "../utils/image.ts";
import { interpolations } from "../utils/image.ts";
import { withoutNulls } from "./json.ts";
import type { Json } from "./layouts/layout.ts";

type Triple = readonly [number, number, number];

const imagenetMean: Triple = [0.485, 0.456, 0.406];
const imagenetStd: Triple = [0.229, 0.224, 0.225];
const halves: Triple = [0.5, 0.5, 0.5];
const normalisations = {
  imagenet: { mean: imagenetMean, std: imagenetStd },
  half: { mean: halves, std: halves },
  clip: {
    mean: [0.48145466, 0.4578275, 0.40821073] as Triple,
    std: [0.26862954, 0.26130258, 0.27577711] as Triple,
  },
};
const { imagenet, half, clip } = normalisations;

/** What a teacher without a preprocessor file is given; crops are rounded as torchvision does. */
export function defaultPreprocessing(imageSize: number, normalisation: keyof typeof normalisations): Preprocessing {
  // CLIP's own transform crops what it has resized to; the others look at seven eighths.
  const shortestEdge = normalisation === "clip" ? imageSize : Math.floor((imageSize * 256) / 224);
  return { resize: { shortestEdge }, cropSize: imageSize, interpolation: "bicubic", ...normalisations[normalisation] };
}

/** The same for teachers of transformers, which rounds crops down. */
export function transformersDefault(imageSize: number, normalisation: keyof typeof normalisations): Preprocessing {
  return settle({ ...defaultPreprocessing(imageSize, normalisation), cropRounding: "down" });
}

/** The same for models whose published processors resize to a square, whatever an image's sides are. */
export function squareDefault(
  imageSize: number,
  normalisation: keyof typeof normalisations,
  { side = imageSize, interpolation = "bilinear" }: { side?: number; interpolation?: Interpolation } = {},
): Preprocessing {
  const resize = { height: side, width: side };
  return settle({
    ...{ resize, cropSize: imageSize, cropRounding: "down", interpolation },
    ...normalisations[normalisation],
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// The image processors of transformers

/** What an image processor class of transformers does where a file leaves a field out. */
interface Processor {
  readonly size: Json;
  /** Whether a `size` given as a number is a square; else it is the shortest edge (`default_to_square`). */
  readonly square: boolean;
  readonly resample: Interpolation;
  /** `do_center_crop` where the file leaves it out. */
  readonly crops?: true;
  readonly cropSize?: number;
  readonly normalises?: false;
  readonly mean?: Triple;
  readonly std?: Triple;
  /** Classes that resize in their own way. */
  readonly resizing?: "convnext" | "levit";
}

const square = (side: number) => ({ size: { height: side, width: side }, square: true });
const shortest = (edge: number) => ({ size: { shortest_edge: edge }, square: false });
const cropped = (cropSize: number) => ({ crops: true as const, cropSize });

/**
 * The classes by their names before `ImageProcessor`, with the defaults that transformers 4.57 and 5 give them. Names
 * with Fast and Pil behind them are other backends of the same classes.
 */
const processors: Readonly<Record<string, Processor>> = {
  Beit: { ...square(224), resample: "bicubic", cropSize: 224, ...half },
  Bit: { ...shortest(224), resample: "bicubic", ...cropped(224), ...clip },
  Blip: { ...square(384), resample: "bicubic", ...clip },
  ChineseCLIP: { ...shortest(224), resample: "bicubic", ...cropped(224), ...clip },
  CLIP: { ...shortest(224), resample: "bicubic", ...cropped(224), ...clip },
  ConvNext: { ...shortest(384), resample: "bicubic", ...half, resizing: "convnext" },
  DeiT: { ...square(256), resample: "bicubic", ...cropped(224), ...half },
  // It rescales before it resizes, which differs by less than half a level from resizing 8-bit pixels.
  DINOv3ViT: { ...square(224), resample: "bilinear", ...imagenet },
  Levit: { ...shortest(224), resample: "bicubic", ...cropped(224), ...imagenet, resizing: "levit" },
  MobileNetV1: { ...shortest(256), resample: "bilinear", ...cropped(224), ...half },
  MobileNetV2: { ...shortest(256), resample: "bilinear", ...cropped(224), ...half },
  OwlViT: { ...square(768), resample: "bicubic", cropSize: 768, ...clip },
  Pvt: { ...square(224), resample: "bicubic", ...imagenet },
  Segformer: { ...square(512), resample: "bilinear", ...imagenet },
  Siglip: { ...square(224), square: false, resample: "bicubic", ...half },
  Tipsv2: { ...square(448), resample: "bilinear", normalises: false },
  ViT: { ...square(224), resample: "bilinear", ...half },
  ViTHybrid: { ...shortest(224), resample: "bicubic", ...cropped(224), ...clip },
};

/** The class that transformers takes for a model whose preprocessor file names none. */
const processorOfModel: Readonly<Record<string, string>> = {
  altclip: "CLIP",
  altclip_vision_model: "CLIP",
  chinese_clip: "ChineseCLIP",
  chinese_clip_vision_model: "ChineseCLIP",
  clip: "CLIP",
  clip_vision_model: "CLIP",
  deit: "DeiT",
  dinov2: "Bit",
  dinov2_with_registers: "Bit",
  dinov3_vit: "DINOv3ViT",
  ijepa: "ViT",
  metaclip_2: "CLIP",
  metaclip_2_vision_model: "CLIP",
  siglip: "Siglip",
  siglip_vision_model: "Siglip",
  vit: "ViT",
  vit_mae: "ViT",
  vit_msn: "ViT",
};

/** The class that a preprocessor file names, without its suffixes (`ViT` for `ViTImageProcessorFast`). */
function processorName(json: Json, file: string): string | undefined {
  for (const key of ["image_processor_type", "feature_extractor_type"]) {
    const name = json[key];
    if (name === undefined || name === null) continue;
    const base = typeof name === "string" ? /^(\w+?)(ImageProcessor|FeatureExtractor)(Fast|Pil)?$/.exec(name)?.[1] : "";
    if (base && (base in processors || base === "TimmWrapper")) return base;
    const names = Object.keys(processors).map((one) => `${one}ImageProcessor`);
    throw new UserError(
      `${file}: ${key} ${JSON.stringify(name)} is not supported. Supported are ${names.join(", ")}. If one of them prepares images as this class does, name it in the file.`,
      { code: "NOT_A_MODEL" },
    );
  }
  return undefined;
}

/** Whether a preprocessor file sends its readers to timm's settings in config.json. */
export function isTimmWrapper(json: Json, file: string): boolean {
  return processorName(json, file) === "TimmWrapper";
}

function flag(json: Json, key: string, fallback: boolean, file: string): boolean {
  const value = json[key] ?? fallback;
  if (typeof value === "boolean") return value;
  throw new UserError(`${key} in ${file} must be true or false, got ${JSON.stringify(value)}`, { code: "NOT_A_MODEL" });
}

function side(value: unknown, what: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 65536) return value;
  throw new UserError(`${what} must be a number of pixels, got ${JSON.stringify(value)}`, { code: "NOT_A_MODEL" });
}

function positive(value: unknown, what: string): number {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
  throw new UserError(`${what} must be a number above 0, got ${JSON.stringify(value)}`, { code: "NOT_A_MODEL" });
}

/** Three numbers; one number stands for all channels. */
function triple(value: unknown, what: string): Triple {
  if (typeof value === "number" && Number.isFinite(value)) return [value, value, value];
  if (Array.isArray(value) && value.length === 3) {
    const [r, g, b] = value as unknown[];
    if ([r, g, b].every((v) => Number.isFinite(v))) return [r as number, g as number, b as number];
  }
  throw new UserError(`${what} must be three numbers, got ${JSON.stringify(value)}`, { code: "NOT_A_MODEL" });
}

function deviations(value: unknown, what: string): Triple {
  const std = triple(value, what);
  if (std.every((v) => v > 0)) return std;
  throw new UserError(`${what} must be above 0, got ${JSON.stringify(value)}`, { code: "NOT_A_MODEL" });
}

/** Pillow's number of a filter, or its name. */
function interpolationOf(resample: unknown, file: string): Interpolation {
  const interpolation =
    typeof resample === "number" ? interpolations[resample] : interpolations.find((name) => name === resample);
  if (interpolation) return interpolation;
  throw new UserError(
    `resample in ${file} is ${JSON.stringify(resample)}; supported are ${interpolations.map((name, i) => `${i} (${name})`).join(", ")}`,
    { code: "NOT_A_MODEL" },
  );
}

/** A `size` field as transformers reads it: a number, a pair of height and width, or a dictionary. */
function readSize(value: unknown, isSquare: boolean, what: string): Resize {
  if (typeof value === "number") {
    const pixels = side(value, what);
    return isSquare ? { height: pixels, width: pixels } : { shortestEdge: pixels };
  }
  if (Array.isArray(value) && value.length === 2) {
    return { height: side(value[0], `${what}[0]`), width: side(value[1], `${what}[1]`) };
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const fields = value as Json;
    const part = (key: string) => side(fields[key], `${what}.${key}`);
    switch (Object.keys(fields).sort().join(" ")) {
      case "height width":
        return { height: part("height"), width: part("width") };
      case "shortest_edge":
        return { shortestEdge: part("shortest_edge") };
      case "longest_edge shortest_edge":
        return { shortestEdge: part("shortest_edge"), longestEdge: part("longest_edge") };
    }
  }
  throw new UserError(
    `${what} is ${JSON.stringify(value)}; supported are a number, {height, width}, {shortest_edge} and {shortest_edge, longest_edge}`,
    { code: "NOT_A_MODEL" },
  );
}

/** The side of a square crop. */
function readCrop(value: unknown, what: string): number {
  if (value === undefined)
    throw new UserError(`${what} is left out, but do_center_crop is true`, { code: "NOT_A_MODEL" });
  const crop = readSize(value, true, what);
  if ("height" in crop && crop.height === crop.width) return crop.height;
  throw new UserError(`${what} is ${JSON.stringify(value)}; only squares can be read`, { code: "NOT_A_MODEL" });
}

export interface ReadPreprocessorOptions {
  /** `model_type` of the config.json beside the file: it names the class where the file doesn't. */
  readonly modelType?: unknown;
  readonly warn?: (message: string) => void;
}

/** Reads Hugging Face's preprocessor_config.json as transformers does; `file` names it in messages. */
export function readPreprocessor(
  written: Json,
  imageSize: number,
  file: string,
  { modelType, warn = () => undefined }: ReadPreprocessorOptions = {},
): Preprocessing {
  const json = withoutNulls(written);
  const exact = readSettled(json.wecolora, (settled) => plainPreprocessor(settled).json, json, file, warn);
  if (exact) return exact;
  let name = processorName(json, file) ?? processorOfModel[String(modelType)];
  let processor = processors[name ?? ""] as Processor | undefined;
  if (!processor) {
    // Nothing says the class, so the model's own size is likelier than a class's.
    name = "ViT";
    processor = { ...processors.ViT, size: { height: imageSize, width: imageSize } };
    const used = ["size", "resample", "image_mean", "image_std"].filter((key) => json[key] === undefined);
    warn(
      `${file} names no image_processor_type${used.length > 0 ? `; ${used.join(", ")} ${used.length > 1 ? "are" : "is"} taken from ViTImageProcessor` : ""}`,
    );
  }
  if (json.pad_size !== undefined && flag(json, "do_pad", false, file)) {
    throw new UserError(`${file}: do_pad with pad_size is not supported`, { code: "NOT_A_MODEL" });
  }
  const { resize, cropSize } = readGeometry(json, name, processor, file);
  return settle({
    resize,
    ...(cropSize === undefined ? uncroppedSize(resize, imageSize, file) : { cropSize, cropRounding: "down" }),
    interpolation: interpolationOf(json.resample ?? processor.resample, file),
    ...readNormalisation(json, processor, file),
  });
}

/** How images are resized, and the side of the centre crop where there is one. */
function readGeometry(
  json: Json,
  name: string,
  processor: Processor,
  file: string,
): { resize: Resize; cropSize?: number } {
  const crops = flag(json, "do_center_crop", processor.crops ?? false, file);
  const cropSize = crops ? readCrop(json.crop_size ?? processor.cropSize, `crop_size in ${file}`) : undefined;
  if (!flag(json, "do_resize", true, file)) return { resize: { unchanged: true }, cropSize };
  const what = `size in ${file}`;
  // Kosmos-2's files ask CLIP's class for squares of its own size.
  const value = json.use_square_size === true && name === "CLIP" ? 224 : (json.size ?? processor.size);
  const size = readSize(value, json.use_square_size === true || processor.square, what);
  switch (processor.resizing) {
    case undefined:
      return { resize: size, cropSize };
    case "levit":
      if (!("shortestEdge" in size)) return { resize: size, cropSize };
      return { resize: { shortestEdge: Math.trunc((256 / 224) * size.shortestEdge) }, cropSize };
    case "convnext": {
      if (!("shortestEdge" in size))
        throw new UserError(`${what} must have shortest_edge for ${name}ImageProcessor`, { code: "NOT_A_MODEL" });
      const { shortestEdge: edge } = size;
      if (cropSize !== undefined && cropSize !== edge) {
        throw new UserError(`${file}: a crop_size other than size is not supported for ${name}ImageProcessor`, {
          code: "NOT_A_MODEL",
        });
      }
      if (edge >= 384) return { resize: { height: edge, width: edge }, cropSize: edge };
      const share = positive(json.crop_pct ?? 224 / 256, `crop_pct in ${file}`);
      return { resize: { shortestEdge: side(Math.trunc(edge / share), what) }, cropSize: edge };
    }
  }
}

/** The model's size where nothing is cropped. */
function uncroppedSize(
  resize: Resize,
  imageSize: number,
  file: string,
): { readonly cropSize: number; readonly uncropped?: true } {
  if ("height" in resize) {
    if (resize.height === resize.width) return { cropSize: resize.height };
    throw new UserError(
      `${file} makes images of ${resize.width}x${resize.height} pixels (width x height); only squares are supported`,
      { code: "NOT_A_MODEL" },
    );
  }
  return { cropSize: "shortestEdge" in resize ? resize.shortestEdge : imageSize, uncropped: true };
}

/** Mean and deviation of pixels from 0 to 1; a rescale factor other than 1/255 becomes part of both. */
function readNormalisation(json: Json, processor: Processor, file: string): { mean: Triple; std: Triple } {
  const normalises = flag(json, "do_normalize", processor.normalises ?? true, file);
  const mean = normalises ? triple(json.image_mean ?? processor.mean, `image_mean in ${file}`) : ([0, 0, 0] as const);
  const std = normalises ? deviations(json.image_std ?? processor.std, `image_std in ${file}`) : ([1, 1, 1] as const);
  const factor = flag(json, "do_rescale", true, file)
    ? positive(json.rescale_factor ?? 1 / 255, `rescale_factor in ${file}`)
    : 1;
  if (factor === 1 / 255) return { mean, std };
  const scaled = ([r, g, b]: Triple): Triple => [r / (255 * factor), g / (255 * factor), b / (255 * factor)];
  return { mean: scaled(mean), std: scaled(std) };
}

/** Whether the two ways of rounding a crop's offset differ on any image. */
function roundingMatters({ resize, cropSize, uncropped }: Preprocessing): boolean {
  if (uncropped) return false;
  if (!("height" in resize)) return true;
  return [resize.height, resize.width].some((length) => length > cropSize && (length - cropSize) % 4 === 3);
}

/** The same transform with nothing in it that makes no difference and its fields in one order: equal ones look equal. */
export function settle(preprocessing: Preprocessing): Preprocessing {
  const { cropSize, cropRounding, uncropped, interpolation, mean, std } = preprocessing;
  return {
    resize: settledResize(preprocessing.resize),
    cropSize,
    ...(cropRounding && roundingMatters(preprocessing) ? { cropRounding } : {}),
    ...(uncropped ? { uncropped } : {}),
    interpolation,
    mean,
    std,
  };
}

function settledResize(resize: Resize): Resize {
  if ("height" in resize) return { height: resize.height, width: resize.width };
  if (!("shortestEdge" in resize)) return resize;
  const { shortestEdge, longestEdge } = resize;
  return longestEdge === undefined ? { shortestEdge } : { shortestEdge, longestEdge };
}

// ---------------------------------------------------------------------------------------------------------------------
// Files that are written

/** A written file's fields, and what its library does otherwise than the model's transform, where it has no word for it. */
export interface WrittenPreprocessing {
  readonly json: Json;
  readonly differences: readonly string[];
}

const sides = z.int().min(1).max(65536);
const numbers = z.tuple([z.number(), z.number(), z.number()]);
const settledSchema = z.strictObject({
  resize: z.union([
    z.strictObject({ shortestEdge: sides, longestEdge: sides.optional() }),
    z.strictObject({ height: sides, width: sides }),
    z.strictObject({ borderedSide: sides }),
    z.strictObject({ unchanged: z.literal(true) }),
  ]),
  cropSize: sides,
  cropRounding: z.literal("down").optional(),
  uncropped: z.literal(true).optional(),
  interpolation: z.enum(interpolations),
  mean: numbers,
  std: numbers,
});

/**
 * The exact transform that we wrote beside fields that can't say it. It counts only as long as those fields are the
 * ones that were written with it: whoever edits them is obeyed.
 */
function readSettled(
  ours: unknown,
  fieldsOf: (settled: Preprocessing) => Json,
  json: Json,
  file: string,
  warn: (message: string) => void,
): Preprocessing | undefined {
  if (ours === undefined || ours === null) return undefined;
  const parsed = settledSchema.safeParse((ours as Json).preprocessing);
  if (!parsed.success)
    throw new UserError(`wecolora.preprocessing in ${file} can't be read; remove it from the file`, {
      code: "NOT_A_MODEL",
    });
  // Each key in one order, and none that is undefined, so that what is read equals what was written.
  const settled = settle(parsed.data);
  const fields = fieldsOf(settled);
  if (Object.keys(fields).every((key) => JSON.stringify(fields[key]) === JSON.stringify(json[key]))) return settled;
  warn(`${file} was edited after it was written: its fields are used, not wecolora.preprocessing`);
  return undefined;
}

const roundingDifference = (theirs: string, other: string) =>
  `${theirs} where an odd number of pixels is cropped away (${other}): some images are seen one pixel further`;

/** The fields that transformers and transformers.js know, nearest to a transform. */
function plainPreprocessor(preprocessing: Preprocessing): WrittenPreprocessing {
  const { cropSize, cropRounding, uncropped, interpolation, mean, std } = preprocessing;
  const differences: string[] = [];
  let { resize } = preprocessing;
  if ("borderedSide" in resize) {
    differences.push("transformers adds no borders: it changes the image's proportions instead");
    resize = { height: resize.borderedSide, width: resize.borderedSide };
  } else if (cropRounding === undefined && roundingMatters(preprocessing)) {
    differences.push(roundingDifference("transformers rounds the crop's offset down", "timm rounds it to even"));
  }
  if ("longestEdge" in resize && resize.longestEdge !== undefined) {
    differences.push("transformers 4 ignores size.longest_edge");
  }
  const crop = { crop_size: { height: cropSize, width: cropSize }, do_center_crop: !uncropped };
  const common = {
    do_convert_rgb: true,
    do_normalize: true,
    do_rescale: true,
    do_resize: !("unchanged" in resize),
    image_mean: mean,
    image_std: std,
    resample: interpolations.indexOf(interpolation),
    rescale_factor: 1 / 255,
  };
  if ("height" in resize) {
    // ViT's class crops nothing in transformers 4, DeiT's does.
    const whole = resize.height === cropSize && resize.width === cropSize;
    const size = { height: resize.height, width: resize.width };
    const json = whole
      ? { ...common, image_processor_type: "ViTImageProcessor", size }
      : { ...common, ...crop, image_processor_type: "DeiTImageProcessor", size };
    return { json, differences };
  }
  const { shortestEdge, longestEdge } =
    "shortestEdge" in resize ? resize : { shortestEdge: cropSize, longestEdge: undefined };
  const size = { shortest_edge: shortestEdge, ...(longestEdge === undefined ? {} : { longest_edge: longestEdge }) };
  return { json: { ...common, ...crop, image_processor_type: "BitImageProcessor", size }, differences };
}

/** preprocessor_config.json as transformers and transformers.js read it; read back, it is the same transform. */
export function writePreprocessor(preprocessing: Preprocessing): WrittenPreprocessing {
  const settled = settle(preprocessing);
  const { json, differences } = plainPreprocessor(settled);
  return { json: withSettled(json, readPreprocessor(json, settled.cropSize, ""), settled), differences };
}

/** With the exact transform beside the fields, where reading them gives another. */
function withSettled(json: Json, readBack: Preprocessing, settled: Preprocessing): Json {
  return isSame(readBack, settled) ? json : { ...json, wecolora: { preprocessing: settled } };
}

/** Whether two transforms are the same. */
export function isSame(a: Preprocessing, b: Preprocessing): boolean {
  return JSON.stringify(settle(a)) === JSON.stringify(settle(b));
}

// ---------------------------------------------------------------------------------------------------------------------
// timm

/**
 * Reads timm's pretrained_cfg as timm's resolve_data_config does; `settled` is what our own files have beside it.
 */
export function readTimmPreprocessing(
  written: Json,
  imageSize: number,
  file: string,
  { settled, warn = () => undefined }: { settled?: unknown; warn?: (message: string) => void } = {},
): Preprocessing {
  const cfg = withoutNulls(written);
  const exact = readSettled(settled, (p) => plainTimm(p, file).json, cfg, file, warn);
  if (exact) return exact;
  const cropSize = readInputSize(cfg.input_size, imageSize, file);
  // timm takes its default for 0 as well.
  const share = positive(cfg.crop_pct ? cfg.crop_pct : 0.875, `crop_pct in ${file}`);
  const scaled = side(Math.floor(cropSize / share), `input_size / crop_pct in ${file}`);
  const interpolation = interpolations.find((name) => name === (cfg.interpolation ?? "bicubic"));
  if (!interpolation) {
    throw new UserError(
      `interpolation in ${file} is ${JSON.stringify(cfg.interpolation)}; supported are ${interpolations.join(", ")}`,
      { code: "NOT_A_MODEL" },
    );
  }
  return settle({
    resize: timmResize(cfg.crop_mode ?? "center", scaled, file),
    cropSize,
    interpolation,
    mean: triple(cfg.mean ?? imagenetMean, `mean in ${file}`),
    std: deviations(cfg.std ?? imagenetStd, `std in ${file}`),
  });
}

function timmResize(mode: unknown, scaled: number, file: string): Resize {
  switch (mode) {
    case "center":
      return { shortestEdge: scaled };
    case "squash":
      return { height: scaled, width: scaled };
    case "border":
      return { borderedSide: scaled };
    default:
      throw new UserError(`crop_mode in ${file} is ${JSON.stringify(mode)}; supported are center, squash and border`, {
        code: "NOT_A_MODEL",
      });
  }
}

function readInputSize(value: unknown, imageSize: number, file: string): number {
  if (value === undefined) return imageSize;
  const [, height, width] = Array.isArray(value) && value.length === 3 ? (value as unknown[]) : [];
  const pixels = side(height, `input_size in ${file}`);
  if (width === pixels) return pixels;
  throw new UserError(`input_size in ${file} is ${JSON.stringify(value)}; only squares can be read`, {
    code: "NOT_A_MODEL",
  });
}

/** The share that timm divides the crop by, such that cutting the quotient to a whole number gives `scaled`. */
function cropShare(cropSize: number, scaled: number): number {
  const share = cropSize / scaled;
  return Math.floor(cropSize / share) === scaled ? share : cropSize / (scaled + 0.5);
}

function plainTimm({ resize, cropSize, cropRounding, ...rest }: Preprocessing, file: string): WrittenPreprocessing {
  const differences: string[] = [];
  if (cropRounding === "down") {
    differences.push(roundingDifference("timm rounds the crop's offset to even", "transformers rounds it down"));
  }
  if (rest.uncropped)
    differences.push("timm crops images that are not square, where the model's transform refuses them");
  if ("longestEdge" in resize && resize.longestEdge !== undefined) differences.push("timm has no longest edge");
  const [mode, scaled] =
    "shortestEdge" in resize
      ? ["center", resize.shortestEdge]
      : "borderedSide" in resize
        ? ["border", resize.borderedSide]
        : "height" in resize && resize.height === resize.width
          ? ["squash", resize.height]
          : [];
  if (mode === undefined || scaled === undefined) {
    const how = "height" in resize ? `resizes images to ${resize.width}x${resize.height}` : "doesn't resize images";
    throw new UserError(`${file}: timm can't express this model's preprocessing, which ${how}`, {
      code: "NOT_A_MODEL",
    });
  }
  return {
    json: {
      input_size: [3, cropSize, cropSize],
      interpolation: rest.interpolation,
      mean: rest.mean,
      std: rest.std,
      crop_pct: cropShare(cropSize, scaled),
      crop_mode: mode,
    },
    differences,
  };
}

/**
 * The fields of timm's pretrained_cfg, and our own for the top of config.json where those can't say the transform
 * (pretrained_cfg may hold no other fields than timm's). Throws a UserError where timm has nothing near it.
 */
export function writeTimmPreprocessing(
  preprocessing: Preprocessing,
): WrittenPreprocessing & { readonly settled: Json } {
  const settled = settle(preprocessing);
  const { json, differences } = plainTimm(settled, "config.json");
  const { wecolora } = withSettled(json, readTimmPreprocessing(json, settled.cropSize, "config.json"), settled);
  return { json, differences, settled: wecolora === undefined ? {} : { wecolora } };
}

// ---------------------------------------------------------------------------------------------------------------------

/** The same proportions at another crop. */
export function resizeTo(preprocessing: Preprocessing, imageSize: number): Preprocessing {
  const { resize, cropSize } = preprocessing;
  // What is resized to the crop stays so, and what is larger stays no smaller.
  const scaled = (edge: number) => {
    const next = Math.floor((edge * imageSize) / cropSize);
    return edge < cropSize ? Math.max(1, next) : Math.max(imageSize, next);
  };
  return settle({ ...preprocessing, cropSize: imageSize, resize: scaledResize(resize, scaled) });
}

function scaledResize(resize: Resize, scaled: (edge: number) => number): Resize {
  if ("unchanged" in resize) return resize;
  if ("borderedSide" in resize) return { borderedSide: scaled(resize.borderedSide) };
  if ("height" in resize) return { height: scaled(resize.height), width: scaled(resize.width) };
  return {
    shortestEdge: scaled(resize.shortestEdge),
    ...(resize.longestEdge === undefined ? {} : { longestEdge: scaled(resize.longestEdge) }),
  };
}

/** A model's preprocessing with a protocol's transform, at the model's own image size; cropped as torchvision does it. */
export function withTransform(
  { cropSize, mean, std }: Preprocessing,
  { kind, interpolation }: TransformChoice,
): Preprocessing {
  const shortestEdge = Math.trunc((cropSize * 256) / 224);
  const resize = kind === "crop" ? { shortestEdge } : { height: cropSize, width: cropSize };
  return { resize, cropSize, interpolation, mean, std };
}
