// Pixels as a BMP file of 24 bits: the plainest file that keeps every number.
import type { RgbImage } from "../utils/image.ts";

const headers = 14 + 40;

/** The file: rows from the bottom up, blue first, each row filled up to whole words of 32 bits. */
export function writeBmp({ width, height, data }: RgbImage): Uint8Array<ArrayBuffer> {
  const stride = 4 * Math.ceil((3 * width) / 4);
  const bytes = new Uint8Array(headers + stride * height);
  const view = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  view.setUint32(2, bytes.length, true);
  view.setUint32(10, headers, true);
  view.setUint32(14, 40, true);
  view.setInt32(18, width, true);
  view.setInt32(22, height, true);
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  view.setUint32(34, stride * height, true);
  for (let y = 0; y < height; y++) {
    const row = headers + (height - 1 - y) * stride;
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) bytes[row + 3 * x + c] = data[3 * (y * width + x) + 2 - c];
  }
  return bytes;
}
