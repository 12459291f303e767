// A second look at images that are at hand as normalised pixels, for losses between two crops of an image.
import type { RandomStream } from "../../utils/random.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { zeros } from "../../utils/tensor.ts";

/** The least and the largest share of an image's area that a crop shows: between DINO's local and global crops (arXiv 2104.14294). */
const [leastArea, mostArea] = [0.25, 0.8];

/** A square of each image `[B, C, H, W]`, resized to the image's own size (bilinear), half of them mirrored. */
export function randomCrops(pixels: FloatTensor, random: RandomStream): FloatTensor {
  const [batch, channels, height, width] = pixels.dims;
  const out = zeros(pixels.dims);
  for (let b = 0; b < batch; b++) {
    const side = Math.sqrt(leastArea + (mostArea - leastArea) * random.uniform());
    const [top, left, mirrored] = [
      random.uniform() * (1 - side),
      random.uniform() * (1 - side),
      random.uniform() < 0.5,
    ];
    const rows = sampling(height, top, side);
    const columns = sampling(width, left, side);
    if (mirrored) columns.reverse();
    for (let c = 0; c < channels; c++) {
      const from = (b * channels + c) * height * width;
      resample(pixels.data, out.data, from, width, rows, columns);
    }
  }
  return out;
}

/** The two neighbours of each place of a line, and the share of the second. */
type Sampling = (readonly [first: number, second: number, share: number])[];

function sampling(size: number, from: number, share: number): Sampling {
  return Array.from({ length: size }, (_, i) => {
    const at = Math.min(size - 1, Math.max(0, (from + (share * (i + 0.5)) / size) * size - 0.5));
    const first = Math.floor(at);
    return [first, Math.min(size - 1, first + 1), at - first];
  });
}

function resample(
  given: Float32Array,
  out: Float32Array,
  from: number,
  width: number,
  rows: Sampling,
  columns: Sampling,
): void {
  rows.forEach(([y0, y1, dy], y) => {
    columns.forEach(([x0, x1, dx], x) => {
      const at = (row: number, column: number) => given[from + row * width + column];
      const upper = at(y0, x0) * (1 - dx) + at(y0, x1) * dx;
      const lower = at(y1, x0) * (1 - dx) + at(y1, x1) * dx;
      out[from + y * width + x] = upper * (1 - dy) + lower * dy;
    });
  });
}
