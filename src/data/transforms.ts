// From decoded images to normalised pixel values: the evaluation transform and the training augmentations.
import { UserError } from "../utils/errors.ts";
import type { RgbImage, Preprocessing, Resize } from "../utils/image.ts";
import type { RandomStream } from "../utils/random.ts";
import type { Box } from "./resize.ts";
import { resize } from "./resize.ts";

/** Random crops: a share of the area, resized, and a flip. */
export interface CropAugmentation {
  /** Smallest and largest share of the image's area. */
  readonly scale: readonly [number, number];
  readonly flip: boolean;
}

/** The whole image as the evaluation transform gives it, flipped and with other brightness and contrast. */
export interface JitterAugmentation {
  readonly flip: boolean;
  /** Factors are drawn from 1 - x to 1 + x, as torchvision's ColorJitter draws them. */
  readonly brightness: number;
  readonly contrast: number;
}

export type Augmentation = CropAugmentation | JitterAugmentation;

/** The paper's augmentations while a student trains (section 4.1). */
export const paperAugmentation: CropAugmentation = { scale: [0.2, 1], flip: true };

type Normalisation = Pick<Preprocessing, "mean" | "std">;

/** 8-bit RGB to `[3, H, W]`: divided by 255, mean subtracted, divided by the standard deviation. */
export function normalise(image: RgbImage, { mean, std }: Normalisation, flip = false): Float32Array {
  const { width, height, data } = image;
  const plane = width * height;
  const out = new Float32Array(3 * plane);
  for (let c = 0; c < 3; c++) {
    const scale = 1 / (255 * std[c]);
    const shift = -mean[c] / std[c];
    for (let y = 0; y < height; y++) {
      const row = c * plane + y * width;
      let source = y * width * 3 + c;
      if (flip) for (let x = width - 1; x >= 0; x--, source += 3) out[row + x] = data[source] * scale + shift;
      else for (let x = 0; x < width; x++, source += 3) out[row + x] = data[source] * scale + shift;
    }
  }
  return out;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** The size after resizing. torchvision and transformers cut the longer side down to a whole pixel, timm rounds it. */
export function resizedSize({ width, height }: Size, to: Resize): Size {
  if ("unchanged" in to) return { width, height };
  if ("borderedSide" in to) {
    const ratio = Math.max(width, height) / to.borderedSide;
    return { width: roundHalfToEven(width / ratio), height: roundHalfToEven(height / ratio) };
  }
  if (!("shortestEdge" in to)) return to;
  const { longestEdge } = to;
  let edge = to.shortestEdge;
  let exact = edge;
  const [shorter, longer] = [Math.min(width, height), Math.max(width, height)];
  if (longestEdge !== undefined && (longer / shorter) * edge > longestEdge) {
    exact = (longestEdge * shorter) / longer;
    edge = roundHalfToEven(exact);
  }
  if (shorter === edge && exact !== edge) return { width, height };
  return width < height
    ? { width: edge, height: Math.trunc((exact * height) / width) }
    : { width: Math.trunc((exact * width) / height), height: edge };
}

/** As Python's round. */
function roundHalfToEven(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** Resize and centre crop, `[3, S, S]` with S the crop's size. */
export function evaluationCrop(image: RgbImage, preprocessing: Preprocessing): Float32Array {
  return normalise(evaluationPixels(image, preprocessing), preprocessing);
}

/**
 * The evaluation transform before normalising. Where the crop is larger than the resized image, borders fill it: black
 * in transformers and torchvision, the mean colour in timm's mode for borders.
 */
export function evaluationPixels(image: RgbImage, preprocessing: Preprocessing): RgbImage {
  const { cropSize, interpolation, cropRounding } = preprocessing;
  const { width, height } = resizedSize(image, preprocessing.resize);
  if (preprocessing.uncropped && (width !== cropSize || height !== cropSize)) {
    throw new UserError(
      `The image has ${width}x${height} pixels after resizing; the model takes ${cropSize}x${cropSize}, and its preprocessor crops nothing`,
      { code: "INVALID_DATA" },
    );
  }
  if (width < 1 || height < 1) {
    throw new UserError(`An image of ${image.width}x${image.height} pixels has none left after resizing`, {
      code: "INVALID_DATA",
    });
  }
  const round = cropRounding === "down" ? Math.floor : roundHalfToEven;
  const [left, top] = [width, height].map((side) => Math.max(0, round((side - cropSize) / 2)));
  const window = { left, top, width: Math.min(width, cropSize), height: Math.min(height, cropSize) };
  const seen = resize(image, wholeBox(image), width, height, interpolation, window);
  if (seen.width === cropSize && seen.height === cropSize) return seen;
  const fill = "borderedSide" in preprocessing.resize ? preprocessing.mean.map((m) => roundHalfToEven(255 * m)) : [0];
  return bordered(seen, cropSize, fill);
}

/** An image in the middle of a square; the odd pixel of the border lies to the right and below. */
function bordered(image: RgbImage, side: number, fill: readonly number[]): RgbImage {
  const data = new Uint8Array(3 * side * side);
  for (let i = 0; i < data.length; i++) data[i] = fill[i % fill.length];
  const left = Math.floor((side - image.width) / 2);
  const top = Math.floor((side - image.height) / 2);
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(3 * y * image.width, 3 * (y + 1) * image.width);
    data.set(row, 3 * ((top + y) * side + left));
  }
  return { width: side, height: side, data };
}

function wholeBox({ width, height }: RgbImage): Box {
  return { left: 0, top: 0, width, height };
}

/** torchvision's RandomResizedCrop: ten tries at a share of the area and a ratio from 3/4 to 4/3, else the centre. */
export function randomCrop({ width, height }: RgbImage, scale: readonly [number, number], random: RandomStream): Box {
  const [lowest, highest] = [3 / 4, 4 / 3];
  for (let i = 0; i < 10; i++) {
    const area = width * height * (scale[0] + (scale[1] - scale[0]) * random.uniform());
    const ratio = Math.exp(Math.log(lowest) + (Math.log(highest) - Math.log(lowest)) * random.uniform());
    const w = Math.round(Math.sqrt(area * ratio));
    const h = Math.round(Math.sqrt(area / ratio));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      return { left: random.integer(0, width - w), top: random.integer(0, height - h), width: w, height: h };
    }
  }
  const ratio = width / height;
  const w = ratio > highest ? Math.max(1, Math.round(height * highest)) : width;
  const h = ratio < lowest ? Math.max(1, Math.round(width / lowest)) : height;
  return { left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h };
}

/**
 * What random views of an image are made from, so that it can be kept in memory: the image itself, reduced where it is very
 * large, or the evaluation transform's pixels where views show the whole image.
 */
export function augmentationBase(image: RgbImage, preprocessing: Preprocessing, augmentation: Augmentation): RgbImage {
  return "scale" in augmentation ? reduceForTraining(image, preprocessing) : evaluationPixels(image, preprocessing);
}

/** One random view of an image, `[3, S, S]`; `image` is what `augmentationBase` gives. */
export function augmentedCrop(
  image: RgbImage,
  preprocessing: Preprocessing,
  augmentation: Augmentation,
  random: RandomStream,
): Float32Array {
  if (!("scale" in augmentation)) {
    const flip = augmentation.flip && random.uniform() < 0.5;
    return normalise(jittered(image, augmentation, random), preprocessing, flip);
  }
  const box = randomCrop(image, augmentation.scale, random);
  const { cropSize, interpolation } = preprocessing;
  const pixels = resize(image, box, cropSize, cropSize, interpolation);
  return normalise(pixels, preprocessing, augmentation.flip && random.uniform() < 0.5);
}

/** torchvision's ColorJitter: both changes in random order, each by a factor of its own. */
function jittered(image: RgbImage, { brightness, contrast }: JitterAugmentation, random: RandomStream): RgbImage {
  const factor = (range: number) => Math.max(0, 1 - range) + (1 + range - Math.max(0, 1 - range)) * random.uniform();
  const contrastFirst = random.uniform() < 0.5;
  const [bright, strong] = [factor(brightness), factor(contrast)];
  return contrastFirst
    ? adjustBrightness(adjustContrast(image, strong), bright)
    : adjustContrast(adjustBrightness(image, bright), strong);
}

/** Pillow's ImageEnhance.Brightness, which torchvision's adjust_brightness calls: a blend with black. */
export const adjustBrightness = (image: RgbImage, factor: number): RgbImage => blendWith(image, 0, factor);

/** Pillow's ImageEnhance.Contrast, which torchvision's adjust_contrast calls: a blend with the mean of the grey image. */
export function adjustContrast(image: RgbImage, factor: number): RgbImage {
  const { data } = image;
  let sum = 0;
  // Pillow's grey (ITU-R 601-2) in 16-bit fixed point.
  for (let i = 0; i < data.length; i += 3)
    sum += (19595 * data[i] + 38470 * data[i + 1] + 7471 * data[i + 2] + 0x8000) >> 16;
  return blendWith(image, Math.trunc((3 * sum) / data.length + 0.5), factor);
}

/** `level + factor * (pixel - level)` in single precision, cut down to whole numbers from 0 to 255. */
function blendWith(image: RgbImage, level: number, factor: number): RgbImage {
  const single = Math.fround(factor);
  const levels = new Uint8Array(256);
  for (let v = 0; v < 256; v++) {
    const blended = Math.fround(level + Math.fround(single * (v - level)));
    levels[v] = single === 1 ? v : Math.max(0, Math.min(255, Math.trunc(blended)));
  }
  return { ...image, data: image.data.map((v) => levels[v]) };
}

/** Images whose shorter side is longer than this many crops are reduced once before training crops are cut. */
const largestSide = 4;

/**
 * A very large image reduced to a shorter side of two crops, so that it can be kept in memory and cut again and
 * again; other images as they are. Training views of it stay sharper than the crop.
 */
export function reduceForTraining(image: RgbImage, preprocessing: Preprocessing): RgbImage {
  const shorter = Math.min(image.width, image.height);
  const { cropSize } = preprocessing;
  if (shorter <= largestSide * cropSize) return image;
  const { width, height } = resizedSize(image, { shortestEdge: 2 * cropSize });
  return resize(image, wholeBox(image), width, height, "bicubic");
}

/** Normalised pixels `[3, S, S]` as an image again. */
export function denormalise(pixels: Float32Array, { mean, std }: Normalisation): RgbImage {
  const plane = pixels.length / 3;
  const side = Math.round(Math.sqrt(plane));
  const data = new Uint8Array(pixels.length);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) {
      const value = Math.round(255 * (pixels[c * plane + i] * std[c] + mean[c]));
      data[3 * i + c] = Math.max(0, Math.min(255, value));
    }
  }
  return { width: side, height: side, data };
}
