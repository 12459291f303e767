// Attention over an image: the less a place is looked at the darker, with warm colours where a model looks most.
import type { RgbImage } from "../utils/image.ts";

/** From nothing to all, as shares of red, green and blue. */
const ramp: readonly (readonly [number, number, number])[] = [
  [0.05, 0.05, 0.35],
  [0.1, 0.35, 0.75],
  [0.15, 0.7, 0.6],
  [0.95, 0.8, 0.2],
  [0.95, 0.2, 0.1],
];

function colour(value: number, channel: 0 | 1 | 2): number {
  const at = Math.max(0, Math.min(1, value)) * (ramp.length - 1);
  const low = Math.min(ramp.length - 2, Math.floor(at));
  return ramp[low][channel] + (at - low) * (ramp[low + 1][channel] - ramp[low][channel]);
}

/** The value of a grid at a place between its cells' centres (bilinear). */
function between(map: ArrayLike<number>, side: number, x: number, y: number): number {
  const clamp = (v: number) => Math.max(0, Math.min(side - 1, v));
  const [px, py] = [clamp(x), clamp(y)];
  const [x0, y0] = [Math.floor(px), Math.floor(py)];
  const [x1, y1] = [clamp(x0 + 1), clamp(y0 + 1)];
  const top = map[y0 * side + x0] * (1 - px + x0) + map[y0 * side + x1] * (px - x0);
  const bottom = map[y1 * side + x0] * (1 - px + x0) + map[y1 * side + x1] * (px - x0);
  return top * (1 - py + y0) + bottom * (py - y0);
}

/** How much of the colour is laid over the image. */
const opacity = 0.6;

/** An image under a map `[P]` from 0 to 1, a square of patches row by row. */
export function attentionOverlay({ width, height, data }: RgbImage, map: ArrayLike<number>): RgbImage {
  const side = Math.round(Math.sqrt(map.length));
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = between(map, side, ((x + 0.5) / width) * side - 0.5, ((y + 0.5) / height) * side - 0.5);
      const at = 3 * (y * width + x);
      for (const c of [0, 1, 2] as const)
        out[at + c] = Math.round((1 - opacity) * data[at + c] + opacity * 255 * colour(value, c));
    }
  }
  return { width, height, data: out };
}

/** Images of one height side by side, with white between them. */
export function sideBySide(images: readonly RgbImage[], gap = 8): RgbImage {
  const { height } = images[0];
  const width = images.reduce((sum, p) => sum + p.width, 0) + gap * (images.length - 1);
  const data = new Uint8Array(3 * width * height).fill(255);
  let left = 0;
  for (const image of images) {
    for (let y = 0; y < height; y++) {
      const row = image.data.subarray(3 * y * image.width, 3 * (y + 1) * image.width);
      data.set(row, 3 * (y * width + left));
    }
    left += image.width + gap;
  }
  return { width, height, data };
}
