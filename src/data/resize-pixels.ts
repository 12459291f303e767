// Crops that were read for one image size, made smaller for another.
import type { Interpolation } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { resizingMatrix } from "./resize.ts";

/**
 * Resizes normalised pixels `[B, C, S, S]` to `[B, C, side, side]`, antialiased as images are, without rounding to 8 bits.
 * About what reading the images at that size gives.
 */
export function resizePixels({ dims, data }: FloatTensor, side: number, interpolation: Interpolation): FloatTensor {
  const [images, channels, from] = dims;
  if (from === side) return { type: "float32", dims, data };
  const matrix = resizingMatrix(from, side, interpolation);
  const out = new Float32Array(images * channels * side * side);
  const rows = new Float64Array(side * from);
  for (let plane = 0; plane < images * channels; plane++) {
    const at = plane * from * from;
    // Down: [side, from], then across: [side, side].
    rows.fill(0);
    for (let y = 0; y < side; y++)
      for (const [i, weight] of matrix[y])
        for (let x = 0; x < from; x++) rows[y * from + x] += weight * data[at + i * from + x];
    for (let x = 0; x < side; x++)
      for (let y = 0; y < side; y++) {
        let sum = 0;
        for (const [i, weight] of matrix[x]) sum += weight * rows[y * from + i];
        out[(plane * side + y) * side + x] = sum;
      }
  }
  return { type: "float32", dims: [images, channels, side, side], data: out };
}
