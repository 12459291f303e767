// Pixels that a caller has at hand, as an image.
import { UserError } from "../utils/errors.ts";
import type { RgbImage } from "../utils/image.ts";
import { mostPixels } from "./image-formats.ts";

/**
 * Pixels of 8 bits, row by row, as canvas's ImageData, transformers.js's RawImage and raw output of sharp have them: RGBA, RGB,
 * grey with alpha, or grey, by the length of `data`. Alpha is dropped, as for files.
 */
export interface PixelImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array | Uint8ClampedArray;
}

/** Pixels of 1 to 4 numbers as RGB. Throws a UserError where sizes don't fit. */
export function imageOfPixels(named: string, { width, height, data }: PixelImage): RgbImage {
  const count = width * height;
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0))
    throw new UserError(`${named}: width and height must be positive integers, got ${width} x ${height}.`);
  if (count > mostPixels)
    throw new UserError(`${named} has ${width} x ${height} pixels, more than the ${mostPixels} that are read.`);
  const channels = data.length / count;
  if (![1, 2, 3, 4].includes(channels))
    throw new UserError(
      `${named}: data must have 1 to 4 values of 8 bits for each of its ${width} x ${height} pixels, got ${data.length}.`,
    );
  const rgb = new Uint8Array(3 * count);
  const step = channels >= 3 ? 1 : 0;
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = data[i * channels + c * step];
  return { width, height, data: rgb };
}
