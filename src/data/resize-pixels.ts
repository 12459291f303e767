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
    matrix.forEach(({ start, weights }, y) =>
      weights.forEach((weight, i) => {
        for (let x = 0; x < from; x++) rows[y * from + x] += weight * data[at + (start + i) * from + x];
      }),
    );
    matrix.forEach(({ start, weights }, x) => {
      for (let y = 0; y < side; y++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * rows[y * from + start + i];
        out[(plane * side + y) * side + x] = sum;
      }
    });
  }
  return { type: "float32", dims: [images, channels, side, side], data: out };
}
