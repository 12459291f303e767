// Masks over images: each class in a colour of its own.
import type { RgbImage } from "../utils/image.ts";

/** Colours that people with any colour vision tell apart (Okabe and Ito 2008); class 0 stays bare. */
const colours: readonly (readonly [number, number, number])[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [0, 114, 178],
  [213, 94, 0],
  [204, 121, 167],
];
const opacity = 0.65;

/** An image under a mask of the same size, row by row. */
export function maskOverlay({ width, height, data }: RgbImage, mask: ArrayLike<number>): RgbImage {
  const out = Uint8Array.from(data);
  for (let i = 0; i < width * height; i++) {
    if (mask[i] === 0) continue;
    const colour = colours[(mask[i] - 1) % colours.length];
    for (let c = 0; c < 3; c++) out[3 * i + c] = Math.round((1 - opacity) * data[3 * i + c] + opacity * colour[c]);
  }
  return { width, height, data: out };
}
