// Windows bitmaps, which sharp's libraries leave out: 1, 4, 8, 16, 24 and 32 bits, palettes, run lengths and bit masks.
import type { RgbImage } from "../utils/image.ts";
import type { ImageHeader } from "./image-formats.ts";

interface BmpHeader extends ImageHeader {
  readonly isTopDown: boolean;
  readonly bits: number;
  readonly compression: number;
  /** Where the pixels begin. */
  readonly data: number;
  readonly palette: Uint8Array;
  /** Bytes of a palette's entry. */
  readonly entry: number;
  readonly masks: readonly number[];
}

const plain = 0;
const runs8 = 1;
const runs4 = 2;
const masked = 3;
const maskedWithAlpha = 6;

/** Throws on kinds of bitmaps that are not read here. */
export function bmpHeader(bytes: Uint8Array): BmpHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 26) throw new Error("it is cut off");
  const size = view.getUint32(14, true);
  const isOld = size === 12;
  if (!isOld && !(size >= 40 && size <= 256)) throw new Error(`its header is ${size} bytes long, which is not known`);
  if (14 + size > bytes.length) throw new Error("it is cut off");
  const width = isOld ? view.getUint16(18, true) : view.getInt32(18, true);
  const height = isOld ? view.getUint16(20, true) : view.getInt32(22, true);
  const bits = view.getUint16(isOld ? 24 : 28, true);
  const compression = isOld ? plain : view.getUint32(30, true);
  const colours = isOld ? 0 : view.getUint32(46, true);
  const fits =
    compression === plain
      ? [1, 4, 8, 16, 24, 32].includes(bits)
      : compression === runs8
        ? bits === 8
        : compression === runs4
          ? bits === 4
          : (compression === masked || compression === maskedWithAlpha) && (bits === 16 || bits === 32);
  if (!fits) throw new Error(`a bitmap of ${bits} bits, packed in the way ${compression}, is not read here`);
  let at = 14 + size;
  let masks = bits === 16 ? [0x7c00, 0x3e0, 0x1f] : [0xff0000, 0xff00, 0xff];
  if (compression === masked || compression === maskedWithAlpha) {
    // Behind a header of 40 bytes, inside of a longer one.
    if (66 > bytes.length) throw new Error("it is cut off");
    masks = [54, 58, 62].map((o) => view.getUint32(o, true));
    if (size === 40) at += compression === masked ? 12 : 16;
  }
  const entry = isOld ? 3 : 4;
  const length = bits > 8 ? 0 : entry * Math.min(colours || 1 << bits, 1 << bits);
  return {
    width,
    height: Math.abs(height),
    isTopDown: height < 0,
    bits,
    compression,
    data: view.getUint32(10, true),
    palette: bytes.subarray(at, at + length),
    entry,
    masks,
  };
}

/** A mask's bits stretched to 8. */
function channelReader(mask: number): (pixel: number) => number {
  if (mask === 0) return () => 0;
  const shift = 31 - Math.clz32(mask & -mask);
  const most = mask >>> shift;
  return (pixel) => Math.floor((((pixel & mask) >>> shift) * 255) / most);
}

/** Decodes a bitmap, whose size was checked before. Throws where it is cut off. */
export function decodeBmp(bytes: Uint8Array, header: BmpHeader): RgbImage {
  const { width, height, isTopDown, bits, compression, data: from, palette, entry, masks } = header;
  const rgb = new Uint8Array(3 * width * height);
  const rowOf = (y: number) => 3 * width * (isTopDown ? y : height - 1 - y);
  const put = (to: number, index: number) => {
    for (let c = 0; c < 3; c++) rgb[to + c] = palette[index * entry + 2 - c] ?? 0;
  };
  if (compression === runs8 || compression === runs4) {
    for (let i = 0; i < width * height; i++) put(3 * i, 0);
    unpackRuns(bytes.subarray(from), header, (x, y, index) => put(rowOf(y) + 3 * x, index));
    return { width, height, data: rgb };
  }
  const stride = 4 * Math.ceil((width * bits) / 32);
  if (from + stride * height > bytes.length) throw new Error("it is cut off");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = masks.map(channelReader);
  for (let y = 0; y < height; y++) {
    const row = from + y * stride;
    for (let x = 0, to = rowOf(y); x < width; x++, to += 3) {
      if (bits <= 8) {
        const bit = x * bits;
        put(to, (bytes[row + (bit >> 3)] >> (8 - bits - (bit & 7))) & ((1 << bits) - 1));
      } else if (bits === 24) for (let c = 0; c < 3; c++) rgb[to + c] = bytes[row + 3 * x + 2 - c];
      else {
        const pixel = bits === 16 ? view.getUint16(row + 2 * x, true) : view.getUint32(row + 4 * x, true);
        for (let c = 0; c < 3; c++) rgb[to + c] = read[c](pixel);
      }
    }
  }
  return { width, height, data: rgb };
}

/** Run lengths: pairs of a count and a colour; a count of 0 begins the end of a line, of the image, a move, or bare colours. */
function unpackRuns(
  packed: Uint8Array,
  { width, height, bits }: BmpHeader,
  set: (x: number, y: number, index: number) => void,
): void {
  let [x, y, at] = [0, 0, 0];
  const colour = (byte: number, i: number) => (bits === 8 ? byte : i & 1 ? byte & 15 : byte >> 4);
  const step = (index: number) => {
    if (x < width && y < height) set(x, y, index);
    x++;
  };
  for (;;) {
    if (at + 2 > packed.length) throw new Error("it is cut off");
    const [count, value] = [packed[at], packed[at + 1]];
    at += 2;
    if (count > 0) for (let i = 0; i < count; i++) step(colour(value, i));
    else if (value === 0) [x, y] = [0, y + 1];
    else if (value === 1) return;
    else if (value === 2) {
      if (at + 2 > packed.length) throw new Error("it is cut off");
      x += packed[at];
      y += packed[at + 1];
      at += 2;
    } else {
      const length = bits === 8 ? value : (value + 1) >> 1;
      if (at + length > packed.length) throw new Error("it is cut off");
      for (let i = 0; i < value; i++) step(colour(packed[at + (bits === 8 ? i : i >> 1)], i));
      // Bare colours fill whole words.
      at += length + (length & 1);
    }
    if (y >= height) return;
  }
}
