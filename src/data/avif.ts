// AVIF as Pillow reads it. Where chroma is halved, libheif repeats each number for the pixels that share it; libavif, which Pillow
// uses, interpolates between them, and values differ by tens of levels at edges. So the file is marked as holding RGB
// ('identity'), which makes libheif hand out the planes as they are. What follows here is libavif's arithmetic: libyuv's for the
// usual matrices, its own for others, both on 8 bits.
import type { RgbImage } from "../utils/image.ts";
import { av1Colours } from "./av1.ts";

interface Box {
  readonly kind: string;
  readonly from: number;
  readonly end: number;
}

const textAt = (bytes: Uint8Array, at: number) => String.fromCharCode(...bytes.subarray(at, at + 4));

function writeText(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
}

function boxesIn(bytes: Uint8Array, from: number, end: number): Box[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const boxes: Box[] = [];
  for (let at = from; at + 8 <= end && boxes.length < 4096;) {
    const size = view.getUint32(at) || end - at;
    // Sizes of 64 bits belong to boxes of data only.
    if (size < 8 || at + size > end) break;
    boxes.push({ kind: textAt(bytes, at + 4), from: at + 8, end: at + size });
    at += size;
  }
  return boxes;
}

/** The file without its animation, of which libvips reads nothing: the still image that stands for it is read. */
export function stillAvif(file: Uint8Array): Uint8Array {
  const boxes = boxesIn(file, 0, file.length);
  const film = boxes.find(({ kind }) => kind === "moov");
  if (textAt(file, 8) !== "avis" && !film) return file;
  const bytes = new Uint8Array(file);
  const head = boxes.find(({ kind }) => kind === "ftyp");
  for (let at = 8; head && at + 4 <= head.end; at += 4) {
    if (textAt(bytes, at) === "avis") writeText(bytes, at, "avif");
    if (textAt(bytes, at) === "msf1") writeText(bytes, at, "mif1");
  }
  if (film) writeText(bytes, film.from - 4, "free");
  return bytes;
}

type Transform = "quarter turn" | "top to bottom" | "left to right";

/**
 * Takes turns and mirrors from the items of `bytes`, and returns the main image's. Undefined where there are others, or where items
 * differ.
 */
function takeTransforms(bytes: Uint8Array, meta: readonly Box[], properties: readonly Box[]): Transform[] | undefined {
  const iprp = meta.find(({ kind }) => kind === "iprp");
  const main = meta.find(({ kind }) => kind === "pitm");
  const box = iprp && boxesIn(bytes, iprp.from, iprp.end).find(({ kind }) => kind === "ipma");
  if (!box || !main || box.end - box.from < 8) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, box.end);
  const wideItems = bytes[box.from] > 0;
  const wideIndices = (bytes[box.from + 3] & 1) === 1;
  const mainItem = bytes[main.from] > 0 ? view.getUint32(main.from + 4) : view.getUint16(main.from + 4);
  const transforms: Transform[] = [];
  try {
    let at = box.from + 8;
    for (let entries = view.getUint32(box.from + 4); entries > 0; entries--) {
      const item = wideItems ? view.getUint32(at) : view.getUint16(at);
      at += wideItems ? 4 : 2;
      for (let count = view.getUint8(at++); count > 0; count--) {
        const index = wideIndices ? view.getUint16(at) & 0x7fff : view.getUint8(at) & 0x7f;
        const property = index > 0 ? properties.at(index - 1) : undefined;
        if (property?.kind === "clap") return undefined;
        if (property?.kind === "irot" || property?.kind === "imir") {
          const value = bytes[property.from];
          if (item === mainItem && property.kind === "imir")
            transforms.push(value & 1 ? "left to right" : "top to bottom");
          if (item === mainItem && property.kind === "irot")
            transforms.push(...Array.from({ length: value & 3 }, () => "quarter turn" as const));
          // Index 0 stands for no property.
          if (wideIndices) view.setUint16(at, 0);
          else view.setUint8(at, 0);
        }
        at += wideIndices ? 2 : 1;
      }
    }
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return transforms;
}

/** A file made to be read as bare planes, and what it takes to make RGB of these. */
export interface AvifPlanes {
  readonly bytes: Uint8Array;
  /** Pixels that share a chroma number, along x and y. */
  readonly step: readonly [1 | 2, 1 | 2];
  readonly isFullRange: boolean;
  /** The weights of red and blue in luma. */
  readonly weights: readonly [red: number, blue: number];
  /** What the planes still need, in order: pairs of pixels don't survive it in odd sizes. */
  readonly transforms: readonly Transform[];
}

/** ITU-T H.273, table 4. What is not named is taken as BT.601, as libavif does. */
const lumaWeights: Readonly<Record<number, readonly [number, number]>> = {
  1: [0.2126, 0.0722],
  2: [0.299, 0.114],
  4: [0.3, 0.11],
  5: [0.299, 0.114],
  6: [0.299, 0.114],
  7: [0.212, 0.087],
  9: [0.2627, 0.0593],
};

/** The main item of a file, and where its data begins; undefined where that lies in other ways than encoders write it. */
function mainItem(
  file: Uint8Array,
  meta: readonly Box[],
): { item: number; offset: number; length: number } | undefined {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const [main, box] = ["pitm", "iloc"].map((name) => meta.find(({ kind }) => kind === name));
  if (!main || !box) return undefined;
  const wanted = file[main.from] > 0 ? view.getUint32(main.from + 4) : view.getUint16(main.from + 4);
  const version = file[box.from];
  const [offsetSize, lengthSize] = [file[box.from + 4] >> 4, file[box.from + 4] & 15];
  const [baseSize, indexSize] = [file[box.from + 5] >> 4, version > 0 ? file[box.from + 5] & 15 : 0];
  let at = box.from + 6;
  const read = (size: number) => {
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + view.getUint8(at++);
    return value;
  };
  for (let items = read(version < 2 ? 2 : 4); items > 0; items--) {
    const item = read(version < 2 ? 2 : 4);
    const method = version > 0 ? read(2) & 15 : 0;
    at += 2;
    const base = read(baseSize);
    const extents = Array.from({ length: read(2) }, () => {
      at += indexSize;
      return [base + read(offsetSize), read(lengthSize)] as const;
    });
    if (item === wanted)
      return method === 0 && extents.length > 0 ? { item, offset: extents[0][0], length: extents[0][1] } : undefined;
  }
  return undefined;
}

/**
 * A file whose container says nothing of colours, as libheif's encoder writes it, with what the image's own header says. The box of
 * metadata is written anew behind the rest, so that offsets stay.
 */
function withColours(file: Uint8Array): Uint8Array | undefined {
  const top = boxesIn(file, 0, file.length).find(({ kind }) => kind === "meta");
  if (!top) return undefined;
  const meta = boxesIn(file, top.from + 4, top.end);
  const iprp = meta.find(({ kind }) => kind === "iprp");
  const inner = iprp ? boxesIn(file, iprp.from, iprp.end) : [];
  const [ipco, ipma] = ["ipco", "ipma"].map((name) => inner.find(({ kind }) => kind === name));
  if (!iprp || !ipco || !ipma) return undefined;
  try {
    const main = mainItem(file, meta);
    const colours = main && av1Colours(file.subarray(main.offset, main.offset + main.length));
    if (!colours) return undefined;
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const wideItems = file[ipma.from] > 0;
    const width = file[ipma.from + 3] & 1 ? 2 : 1;
    const index = boxesIn(file, ipco.from, ipco.end).length + 1;
    let at = ipma.from + 8;
    let count: number | undefined;
    for (let entries = view.getUint32(ipma.from + 4); entries > 0; entries--) {
      const item = wideItems ? view.getUint32(at) : view.getUint16(at);
      at += wideItems ? 4 : 2;
      const countAt = at;
      at += 1 + width * view.getUint8(at);
      if (item === main.item) {
        count = countAt;
        break;
      }
    }
    if (count === undefined || index > 127 || file[count] === 255) return undefined;
    const colour = Uint8Array.from([
      0,
      0,
      0,
      19,
      ...Array.from("colrnclx", (c) => c.charCodeAt(0)),
      0,
      2,
      0,
      2,
      0,
      0,
      0,
    ]);
    colour[17] = colours.matrix;
    colour[18] = colours.isFullRange ? 0x80 : 0;
    const association = width === 2 ? [0, index] : [index];
    // Boxes of properties come before their associations.
    if (ipco.end > at) return undefined;
    const start = top.from - 8;
    const more = Uint8Array.from([
      ...file.subarray(start, ipco.end),
      ...colour,
      ...file.subarray(ipco.end, at),
      ...association,
      ...file.subarray(at, top.end),
    ]);
    const sizes = new DataView(more.buffer);
    const grow = (position: number, by: number) => sizes.setUint32(position, sizes.getUint32(position) + by);
    const all = colour.length + width;
    grow(0, all);
    grow(iprp.from - 8 - start, all);
    grow(ipco.from - 8 - start, colour.length);
    grow(ipma.from - 8 - start + colour.length, width);
    more[count - start + colour.length]++;
    const out = new Uint8Array(file.length + more.length);
    out.set(file);
    writeText(out, top.from - 4, "free");
    out.set(more, file.length);
    return out;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Undefined where the file is of a kind that libheif must turn into RGB itself. */
export function avifPlanes(file: Uint8Array): AvifPlanes | undefined {
  const tops = boxesIn(file, 0, file.length);
  const inside = (box: Box | undefined, skip = 0) => (box ? boxesIn(file, box.from + skip, box.end) : []);
  const meta = inside(
    tops.find(({ kind }) => kind === "meta"),
    4,
  );
  const properties = inside(inside(meta.find(({ kind }) => kind === "iprp")).find(({ kind }) => kind === "ipco"));
  const configurations = properties
    .filter(({ kind, from, end }) => kind === "av1C" && end - from >= 4)
    .map(({ from }) => file[from + 2])
    // Alpha is a grey image of its own.
    .filter((flags) => !(flags & 0x10));
  const colours = properties.filter(
    ({ kind, from, end }) => kind === "colr" && end - from >= 11 && textAt(file, from) === "nclx",
  );
  const [flags] = configurations;
  const [colour] = colours;
  if (flags === undefined || configurations.some((other) => other !== flags)) return undefined;
  if (!colour) {
    const described = withColours(file);
    return described && avifPlanes(described);
  }
  const same = (other: Box) => [8, 9, 10].every((o) => file[other.from + o] === file[colour.from + o]);
  const weights = lumaWeights[(file[colour.from + 8] << 8) | file[colour.from + 9]];
  if (!colours.every(same) || !weights) return undefined;
  const step = [flags & 0x08 ? 2 : 1, flags & 0x04 ? 2 : 1] as const;
  const bytes = new Uint8Array(file);
  const transforms = takeTransforms(bytes, meta, properties);
  if (!transforms) return undefined;
  for (const { from } of colours) {
    bytes[from + 8] = 0;
    bytes[from + 9] = 0;
    bytes[from + 10] |= 0x80;
  }
  return { bytes, step, isFullRange: (file[colour.from + 10] & 0x80) !== 0, weights, transforms };
}

/**
 * libyuv's numbers for a matrix, in 64ths: luma's factor and offset, blue from its difference, green from both, red from its own.
 * What would not fit 8 bits is 128 there.
 */
interface Fixed {
  readonly luma: number;
  readonly offset: number;
  readonly blue: number;
  readonly green: readonly [fromBlue: number, fromRed: number];
  readonly red: number;
}

const limited = { luma: 18_997, offset: -1160 };
const full = { luma: 16_320, offset: 32 };

function fixedNumbers(red: number, isFullRange: boolean): Fixed | undefined {
  switch (red) {
    case 0.299:
      return isFullRange
        ? { ...full, blue: 113, green: [22, 46], red: 90 }
        : { ...limited, blue: 128, green: [25, 52], red: 102 };
    case 0.2126:
      return isFullRange
        ? { ...full, blue: 119, green: [12, 30], red: 101 }
        : { ...limited, blue: 128, green: [14, 34], red: 115 };
    case 0.2627:
      return isFullRange
        ? { ...full, blue: 120, green: [11, 37], red: 94 }
        : { ...limited, luma: 19_003, blue: 128, green: [12, 42], red: 107 };
    default:
      return undefined;
  }
}

/** Makes a pixel from luma, and from the differences of blue and red in 16ths. */
type ToRgb = (luma: number, blue16: number, red16: number, out: Uint8Array, to: number) => void;

const clamp = (value: number) => Math.min(255, Math.max(0, value));

function fixedRgb({ luma: factor, offset, blue, green, red }: Fixed): ToRgb {
  return (luma, blue16, red16, out, to) => {
    const light = Math.floor((luma * 257 * factor) / 65_536) + offset;
    const [u, v] = [((blue16 + 8) >> 4) - 128, ((red16 + 8) >> 4) - 128];
    out[to] = clamp((light + v * red) >> 6);
    out[to + 1] = clamp((light - u * green[0] - v * green[1]) >> 6);
    out[to + 2] = clamp((light + u * blue) >> 6);
  };
}

function floatRgb({ isFullRange, weights: [red, blue] }: Omit<AvifPlanes, "bytes">): ToRgb {
  const [black, lumaRange, chromaRange] = isFullRange ? [0, 255, 255] : [16, 219, 224];
  const green = 1 - red - blue;
  return (luma, blue16, red16, out, to) => {
    const light = (luma - black) / lumaRange;
    const [cb, cr] = [(blue16 / 16 - 128) / chromaRange, (red16 / 16 - 128) / chromaRange];
    const colours = [
      light + 2 * (1 - red) * cr,
      light - (2 * (red * (1 - red) * cr + blue * (1 - blue) * cb)) / green,
      light + 2 * (1 - blue) * cb,
    ];
    for (let k = 0; k < 3; k++) out[to + k] = clamp(Math.floor(0.5 + 255 * colours[k]));
  };
}

/** Planes of 8 bits as libheif hands them out, `[red difference, luma, blue difference, ...]` for each pixel, as RGB. */
export function rgbOfPlanes(
  planes: ArrayLike<number>,
  channels: number,
  { width, height }: { readonly width: number; readonly height: number },
  description: Omit<AvifPlanes, "bytes">,
): RgbImage {
  const { step, isFullRange, weights, transforms } = description;
  const fixed = fixedNumbers(weights[0], isFullRange);
  const toRgb = fixed ? fixedRgb(fixed) : floatRgb(description);
  const data = new Uint8Array(3 * width * height);
  /** The neighbour whose chroma is mixed in: the one on the pixel's side of the middle of its pair. */
  const nextSample = (i: number, isEdge: boolean) => (isEdge ? i : i % 2 === 1 ? i + 1 : i - 1);
  for (let y = 0; y < height; y++) {
    const row = y * width;
    const other = nextSample(y, step[1] === 1 || y === 0 || (y === height - 1 && y % 2 === 1)) * width;
    for (let x = 0; x < width; x++) {
      const across = nextSample(
        x,
        step[0] === 1 || x === 0 || (x === width - 1 && (x % 2 === 1 || fixed !== undefined)),
      );
      const a = (row + x) * channels;
      const b = (row + across) * channels;
      const c = (other + x) * channels;
      const d = (other + across) * channels;
      const red = 9 * planes[a] + 3 * planes[b] + 3 * planes[c] + planes[d];
      const blue = 9 * planes[a + 2] + 3 * planes[b + 2] + 3 * planes[c + 2] + planes[d + 2];
      toRgb(planes[a + 1], blue, red, data, 3 * (row + x));
    }
  }
  return transforms.reduce<RgbImage>(transformed, { width, height, data });
}

/** A quarter turn goes against the clock. */
function transformed({ width, height, data }: RgbImage, transform: Transform): RgbImage {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = 3 * (y * width + x);
      const to =
        transform === "quarter turn"
          ? (width - 1 - x) * height + y
          : transform === "left to right"
            ? y * width + (width - 1 - x)
            : (height - 1 - y) * width + x;
      for (let c = 0; c < 3; c++) out[3 * to + c] = data[from + c];
    }
  return transform === "quarter turn" ? { width: height, height: width, data: out } : { width, height, data: out };
}
