// Encoded images to 8-bit RGB as Pillow's convert("RGB") gives it: numbers as stored, colour profiles ignored, alpha dropped. What
// is decoded is decided by content; nothing reaches sharp that it could take for another format.
import type { Sharp } from "sharp";
import sharp from "sharp";
import { avifPlanes, rgbOfPlanes, stillAvif } from "../../data/avif.ts";
import { bmpHeader, decodeBmp } from "../../data/bmp.ts";
import type { ImageFormat, ImageHeader } from "../../data/image-formats.ts";
import { readableHeaders } from "../../data/image-headers.ts";
import { describeContent, gifHeader, imageFormat, imageFormats, mostPixels } from "../../data/image-formats.ts";
import { checkLoader } from "./image-loaders.ts";
import type { Semaphore } from "../../utils/semaphore.ts";
import { UserError } from "../../utils/errors.ts";
import type { RgbImage } from "../../utils/image.ts";

/** Seconds that one image may take to be decoded; the largest take 3 of a processor's time. */
const longestDecode = 60;

async function open(bytes: Uint8Array, format: ImageFormat): Promise<Sharp> {
  const image = sharp(bytes, { failOn: "error", ignoreIcc: true, limitInputPixels: mostPixels });
  await checkLoader(image, format);
  return image.timeout({ seconds: longestDecode });
}

interface Raw {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint16Array;
}

async function rawOf(image: Sharp, isDeep = false): Promise<Raw> {
  const { data, info } = await image.raw({ depth: isDeep ? "ushort" : "uchar" }).toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const numbers = isDeep ? new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2) : data;
  return { width, height, channels, data: numbers };
}

/** Grey to three equal numbers, alpha left out; numbers of 16 bits become 8 by `shorten`. */
function rgbOf({ width, height, channels, data }: Raw, shorten?: (value: number) => number): RgbImage {
  if (channels === 3 && !shorten && data instanceof Uint8Array) return { width, height, data };
  const rgb = new Uint8Array(3 * width * height);
  const step = channels >= 3 ? 1 : 0;
  for (let i = 0, from = 0; i < rgb.length; i += 3, from += channels)
    for (let c = 0; c < 3; c++) rgb[i + c] = shorten ? shorten(data[from + c * step]) : data[from + c * step];
  return { width, height, data: rgb };
}

/** Pillow clips grey of 16 bits, and takes the higher byte of colours. */
const clip = (value: number) => Math.min(255, value);
const higherByte = (value: number) => value >> 8;

/** Inks to light as Pillow does it, without a profile: models were trained on what it gives. */
function rgbOfInks({ width, height, channels, data }: Raw): RgbImage {
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const light = 255 - data[channels * i + 3];
    for (let c = 0; c < 3; c++)
      rgb[3 * i + c] = Math.max(0, light - Math.round((data[channels * i + c] * light) / 255));
  }
  return { width, height, data: rgb };
}

async function decodePlain(
  bytes: Uint8Array,
  format: ImageFormat,
  { isGrey16, isDeep, isCmyk }: ImageHeader,
): Promise<RgbImage> {
  const image = (await open(bytes, format)).autoOrient();
  if (isCmyk) return rgbOfInks(await rawOf(image.pipelineColourspace("cmyk").toColourspace("cmyk")));
  if (isGrey16) return rgbOf(await rawOf(image.toColourspace("grey16"), true), clip);
  if (isDeep) return rgbOf(await rawOf(image.toColourspace("rgb16"), true), higherByte);
  return rgbOf(await rawOf(image.toColourspace("srgb")));
}

async function decodeGif(bytes: Uint8Array): Promise<RgbImage> {
  const { first, width, height, left, top, frameWidth, frameHeight, around } = gifHeader(bytes);
  const image = rgbOf(await rawOf((await open(first, "GIF")).toColourspace("srgb")));
  const { data } = image;
  if (left > 0 || top > 0 || frameWidth < width || frameHeight < height) {
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (y >= top && y < top + frameHeight && x >= left && x < left + frameWidth) continue;
        data.set(around, 3 * (y * width + x));
      }
  }
  return image;
}

async function decodeAvif(file: Uint8Array, isDeep: boolean): Promise<RgbImage> {
  const bytes = stillAvif(file);
  const planes = avifPlanes(bytes);
  if (!planes) {
    const image = (await open(bytes, "AVIF")).autoOrient();
    return isDeep
      ? rgbOf(await rawOf(image.toColourspace("rgb16"), true), (value) => Math.round(value / 257))
      : rgbOf(await rawOf(image.toColourspace("srgb")));
  }
  const image = (await open(planes.bytes, "AVIF")).autoOrient();
  const raw = await rawOf(image.toColourspace(isDeep ? "rgb16" : "srgb"), isDeep);
  // libvips stretches 10 and 12 bits to 16; libavif takes the higher 8.
  const data = isDeep ? raw.data.map((value) => value >> 8) : raw.data;
  return rgbOfPlanes(data, raw.channels, raw, planes);
}

/** What an image says of itself, without its pixels. */
async function headerOf(format: ImageFormat, bytes: Uint8Array): Promise<ImageHeader> {
  if (format !== "AVIF") return readableHeaders[format](bytes);
  const { width, height, depth } = await sharp(stillAvif(bytes), { limitInputPixels: false }).metadata();
  return { width, height, isDeep: depth === "ushort" };
}

/** Rejects where the library can't be interrupted: its thread goes on until it is done, the run goes on without it. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    // Another image's turn in libuv's threads may come first.
    timer = setTimeout(() => reject(new Error("timeout")), 2 * longestDecode * 1000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Decodes to 8-bit RGB, turned by EXIF; waits until `pixels` has room for the image. Throws a UserError that names the image where it is of another kind, too large, or
 * damaged.
 */
export async function decodeImage(named: string, bytes: Uint8Array, pixels: Semaphore): Promise<RgbImage> {
  const format = imageFormat(bytes);
  if (!format)
    throw new UserError(`${named} is ${describeContent(bytes)}; images are ${imageFormats}`, { code: "NOT_AN_IMAGE" });
  try {
    const header = await headerOf(format, bytes);
    const { width, height } = header;
    if (!(width > 0 && height > 0)) throw new Error(`it is ${width} x ${height} pixels large`);
    if (width * height > mostPixels) {
      throw new UserError(
        `${named} has ${width} x ${height} pixels, more than the ${mostPixels} that are decoded; make it smaller first`,
        { code: "NOT_AN_IMAGE" },
      );
    }
    return await pixels.take(width * height, async () => {
      if (format === "BMP") return decodeBmp(bytes, bmpHeader(bytes));
      if (format === "GIF") return inTime(decodeGif(bytes));
      if (format === "AVIF") return inTime(decodeAvif(bytes, header.isDeep === true));
      return inTime(decodePlain(bytes, format, header));
    });
  } catch (error) {
    if (error instanceof UserError) throw error;
    const reason = (error as Error).message.split("\n")[0];
    if (/^timeout/i.test(reason))
      throw new UserError(`${named} took longer than ${longestDecode} s to decode`, { code: "NOT_AN_IMAGE" });
    throw new UserError(`${named} can't be decoded as ${format}: ${reason}`, { code: "NOT_AN_IMAGE" });
  }
}
