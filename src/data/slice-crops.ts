// Slices as a model sees them: a square around the slice, cut and resized, the mask by the same cut.
import type { RgbImage, Preprocessing } from "../utils/image.ts";
import type { RandomStream } from "../utils/random.ts";
import type { Box } from "./resize.ts";
import { resize } from "./resize.ts";
import { normalise, randomCrop } from "./transforms.ts";

/** The smallest square around an image, in its own pixels; corners may lie outside of it. */
function squareOf({ width, height }: { readonly width: number; readonly height: number }): Box {
  const side = Math.max(width, height);
  return { left: -Math.floor((side - width) / 2), top: -Math.floor((side - height) / 2), width: side, height: side };
}

function padded(image: RgbImage, square: Box): RgbImage {
  const data = new Uint8Array(3 * square.width * square.height);
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(3 * y * image.width, 3 * (y + 1) * image.width);
    data.set(row, 3 * ((y - square.top) * square.width - square.left));
  }
  return { width: square.width, height: square.height, data };
}

export interface SliceCrop {
  /** `[3, S, S]`, normalised. */
  readonly pixels: Float32Array;
  /** `[T, T]`: the class of each pixel of the decoder's output. */
  readonly labels?: Float32Array;
}

interface Sides {
  /** S: the model's images. */
  readonly image: number;
  /** T: the decoder's output. */
  readonly mask: number;
}

/** Training views: shares of the square's area, and mirrored or not. */
const scale = [0.5, 1] as const;

/** A slice and its classes, the whole square or, where random numbers are given, a random cut of it. */
export function sliceCrop(
  image: RgbImage,
  classes: Uint8Array | undefined,
  sides: Sides,
  normalisation: Pick<Preprocessing, "mean" | "std">,
  random?: RandomStream,
): SliceCrop {
  const square = squareOf(image);
  const whole = padded(image, square);
  const box = random ? randomCrop(whole, scale, random) : { left: 0, top: 0, width: whole.width, height: whole.height };
  const flip = random !== undefined && random.uniform() < 0.5;
  const pixels = normalise(resize(whole, box, sides.image, sides.image, "bicubic"), normalisation, flip);
  if (!classes) return { pixels };
  const labels = new Float32Array(sides.mask ** 2);
  for (let y = 0; y < sides.mask; y++) {
    const row = square.top + box.top + Math.floor(((y + 0.5) * box.height) / sides.mask);
    if (row < 0 || row >= image.height) continue;
    for (let x = 0; x < sides.mask; x++) {
      const from = flip ? sides.mask - 1 - x : x;
      const column = square.left + box.left + Math.floor(((from + 0.5) * box.width) / sides.mask);
      if (column >= 0 && column < image.width) labels[y * sides.mask + x] = classes[row * image.width + column];
    }
  }
  return { pixels, labels };
}

/** The class of each pixel of a slice, from scores `[K, T, T]` over its square: bilinear between scores, then the best. */
export function classesOf(
  scores: ArrayLike<number>,
  count: number,
  side: number,
  slice: { readonly width: number; readonly height: number },
): Uint8Array {
  const square = squareOf(slice);
  const out = new Uint8Array(slice.width * slice.height);
  const taps = (length: number, offset: number) =>
    Array.from({ length }, (_, i) => {
      const place = Math.max(0, Math.min(side - 1, ((i - offset + 0.5) * side) / square.width - 0.5));
      const low = Math.min(Math.floor(place), Math.max(0, side - 2));
      return { low, high: Math.min(side - 1, low + 1), share: place - low };
    });
  const [rows, columns] = [taps(slice.height, square.top), taps(slice.width, square.left)];
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      let best = Number.NEGATIVE_INFINITY;
      for (let k = 0; k < count; k++) {
        const at = (r: number, c: number) => scores[(k * side + r) * side + c];
        const top = at(row.low, column.low) * (1 - column.share) + at(row.low, column.high) * column.share;
        const bottom = at(row.high, column.low) * (1 - column.share) + at(row.high, column.high) * column.share;
        const value = top * (1 - row.share) + bottom * row.share;
        if (value > best) {
          best = value;
          out[y * slice.width + x] = k;
        }
      }
    });
  });
  return out;
}
