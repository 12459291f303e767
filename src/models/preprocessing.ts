// How a picture becomes pixel values: read from preprocessor_config.json (Hugging Face) or pretrained_cfg (timm).
import { UserError } from "../utils/errors.ts";
import type { Interpolation, Preprocessing } from "../utils/image.ts";

type Json = Readonly<Record<string, unknown>>;
type Triple = readonly [number, number, number];

const imagenetMean: Triple = [0.485, 0.456, 0.406];
const imagenetStd: Triple = [0.229, 0.224, 0.225];
const half: Triple = [0.5, 0.5, 0.5];
const normalisations = {
  imagenet: { mean: imagenetMean, std: imagenetStd },
  half: { mean: half, std: half },
  clip: {
    mean: [0.48145466, 0.4578275, 0.40821073] as Triple,
    std: [0.26862954, 0.26130258, 0.27577711] as Triple,
  },
};

/** What a teacher without a preprocessor file is given. */
export function defaultPreprocessing(imageSize: number, normalisation: keyof typeof normalisations): Preprocessing {
  // CLIP's own transform crops what it has resized to; the others look at seven eighths.
  const shortestEdge = normalisation === "clip" ? imageSize : Math.floor((imageSize * 256) / 224);
  return { resize: { shortestEdge }, cropSize: imageSize, interpolation: "bicubic", ...normalisations[normalisation] };
}

function triple(value: unknown, what: string): Triple {
  if (Array.isArray(value) && value.length === 3 && value.every((v) => Number.isFinite(v))) {
    return value as unknown as Triple;
  }
  throw new UserError(`${what} must be three numbers, got ${JSON.stringify(value)}`);
}

function side(value: unknown, what: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 65536) return value;
  throw new UserError(`${what} must be a number of pixels, got ${JSON.stringify(value)}`);
}

/** PIL's numbers for its filters. */
function interpolationOf(resample: unknown): Interpolation {
  return resample === 3 ? "bicubic" : "bilinear";
}

/** Reads Hugging Face's preprocessor_config.json; `file` names it in messages. */
export function readPreprocessor(json: Json, imageSize: number, file: string): Preprocessing {
  const size = json.size as Json | number | undefined;
  const crop = json.crop_size as Json | number | undefined;
  const cropSide = crop === undefined || typeof crop === "number" ? crop : (crop.height as number | undefined);
  const doCrop = json.do_center_crop === true && cropSide !== undefined;
  const normalise = json.do_normalize !== false;
  return {
    resize: readResize(size, imageSize, doCrop, file),
    cropSize: doCrop ? side(cropSide, `crop_size in ${file}`) : imageSize,
    interpolation: interpolationOf(json.resample ?? 2),
    mean: normalise ? triple(json.image_mean ?? half, `image_mean in ${file}`) : [0, 0, 0],
    std: normalise ? triple(json.image_std ?? half, `image_std in ${file}`) : [1, 1, 1],
  };
}

function readResize(
  size: Json | number | undefined,
  imageSize: number,
  crops: boolean,
  file: string,
): Preprocessing["resize"] {
  if (size === undefined) return { height: imageSize, width: imageSize };
  if (typeof size === "number") {
    const pixels = side(size, `size in ${file}`);
    return crops ? { shortestEdge: pixels } : { height: pixels, width: pixels };
  }
  if (size.shortest_edge !== undefined)
    return { shortestEdge: side(size.shortest_edge, `size.shortest_edge in ${file}`) };
  return { height: side(size.height, `size.height in ${file}`), width: side(size.width, `size.width in ${file}`) };
}

/** What transformers and transformers.js read. */
export function writePreprocessor(preprocessing: Preprocessing): Record<string, unknown> {
  const { resize, cropSize, interpolation, mean, std } = preprocessing;
  const resample = interpolation === "bicubic" ? 3 : 2;
  const common = {
    do_normalize: true,
    do_rescale: true,
    do_resize: true,
    image_mean: mean,
    image_std: std,
    resample,
    rescale_factor: 1 / 255,
  };
  if ("shortestEdge" in resize) {
    return {
      ...common,
      crop_size: { height: cropSize, width: cropSize },
      do_center_crop: true,
      do_convert_rgb: true,
      image_processor_type: "BitImageProcessor",
      size: { shortest_edge: resize.shortestEdge },
    };
  }
  return {
    ...common,
    do_convert_rgb: true,
    image_processor_type: "ViTImageProcessor",
    size: { height: resize.height, width: resize.width },
  };
}

/** Reads timm's pretrained_cfg: the shorter side is the crop divided by crop_pct. */
export function readTimmPreprocessing(cfg: Json, imageSize: number, file: string): Preprocessing {
  const inputSize = cfg.input_size as readonly number[] | undefined;
  const cropSize = side(inputSize?.at(-1) ?? imageSize, `input_size in ${file}`);
  const share = typeof cfg.crop_pct === "number" && cfg.crop_pct > 0 && cfg.crop_pct <= 1 ? cfg.crop_pct : 0.875;
  return {
    resize: { shortestEdge: Math.floor(cropSize / share) },
    cropSize,
    interpolation: cfg.interpolation === "bilinear" ? "bilinear" : "bicubic",
    mean: triple(cfg.mean ?? imagenetMean, `mean in ${file}`),
    std: triple(cfg.std ?? imagenetStd, `std in ${file}`),
  };
}
