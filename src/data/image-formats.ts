// What a file of an image is, by its first bytes and never by its name, and how large an image it says that it holds.

/** Formats that are decoded. */
export type ImageFormat = "JPEG" | "PNG" | "WebP" | "AVIF" | "TIFF" | "BMP" | "GIF";
export const imageFormats = "JPEG, PNG, WebP, AVIF, TIFF, BMP and GIF";

/** Encoded images beyond this are refused before they are read: 8 bytes for each of the most pixels. */
export const largestImageFile = 2 ** 29;
/** Pixels of the largest image that is decoded: 8192 x 8192. A process takes 0.4 (PNG) to 1.3 GB (AVIF) for one. */
export const mostPixels = 2 ** 26;

const ascii = (bytes: Uint8Array, from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));

const startsWith = (bytes: Uint8Array, ...magic: number[]) =>
  bytes.length >= magic.length && magic.every((byte, i) => bytes[i] === byte);

/** Brands of a file of boxes (ISO base media): the major one and those that it is compatible with. */
function brandsOf(bytes: Uint8Array): string[] {
  if (bytes.length < 16 || ascii(bytes, 4, 8) !== "ftyp") return [];
  const end = Math.min(bytes.length, new DataView(bytes.buffer, bytes.byteOffset).getUint32(0), 512);
  const brands = [ascii(bytes, 8, 12)];
  for (let at = 16; at + 4 <= end; at += 4) brands.push(ascii(bytes, at, at + 4));
  return brands;
}

/** The format of an image that is read here; undefined for all else. */
export function imageFormat(bytes: Uint8Array): ImageFormat | undefined {
  if (startsWith(bytes, 0xff, 0xd8, 0xff)) return "JPEG";
  if (startsWith(bytes, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return "PNG";
  if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 12) === "WEBP") return "WebP";
  if (/^GIF8[79]a$/.test(ascii(bytes, 0, 6))) return "GIF";
  // With 43 in place of 42: offsets of 64 bits.
  if (["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(ascii(bytes, 0, 4))) return "TIFF";
  if (startsWith(bytes, 0x42, 0x4d)) return "BMP";
  const brands = brandsOf(bytes);
  if (brands[0] === "avif" || brands[0] === "avis") return "AVIF";
  // A general brand in front says nothing of the codec.
  if (["mif1", "msf1"].includes(brands[0]) && brands.some((brand) => brand === "avif" || brand === "avis"))
    return "AVIF";
  return undefined;
}

const others: readonly (readonly [what: string, is: (bytes: Uint8Array) => boolean])[] = [
  ["a PDF document", (b) => ascii(b, 0, 1024).includes("%PDF-")],
  ["a JPEG XL image", (b) => startsWith(b, 0xff, 0x0a) || ascii(b, 4, 8) === "JXL "],
  ["a JPEG 2000 image", (b) => ascii(b, 4, 8) === "jP  " || startsWith(b, 0xff, 0x4f, 0xff, 0x51)],
  ["an OpenEXR image", (b) => startsWith(b, 0x76, 0x2f, 0x31, 0x01)],
  ["a Photoshop document", (b) => ascii(b, 0, 4) === "8BPS"],
  ["an icon", (b) => startsWith(b, 0, 0, 1, 0)],
  ["a PNM image", (b) => /^P[1-7fF]\s/.test(ascii(b, 0, 3))],
  ["a Radiance image", (b) => ascii(b, 0, 2) === "#?"],
  ["a FITS image", (b) => ascii(b, 0, 9) === "SIMPLE  ="],
  ["a DICOM file", (b) => ascii(b, 128, 132) === "DICM"],
  ["a Matroska or WebM video", (b) => startsWith(b, 0x1a, 0x45, 0xdf, 0xa3)],
  ["an AVI video", (b) => ascii(b, 0, 4) === "RIFF" && ascii(b, 8, 12) === "AVI "],
  ["a zip archive", (b) => ascii(b, 0, 4) === "PK\x03\x04"],
  ["a gzip file", (b) => startsWith(b, 0x1f, 0x8b)],
];

/** What bytes are that are no image to be read here, for messages. */
export function describeContent(bytes: Uint8Array): string {
  const [brand] = brandsOf(bytes);
  if (brand !== undefined) {
    const still = /^(hei[cmsx]|hev[cmsx]|mif1|msf1)$/.test(brand);
    return still ? "a HEIC or HEIF image" : "a video";
  }
  const match = others.find(([, is]) => is(bytes));
  if (match) return match[0];
  const head = bytes.subarray(0, 1024);
  // UTF-16 has a zero in each letter of a tag's name.
  const text = ascii(head, 0, head.length).replaceAll("\0", "").toLowerCase();
  if (text.includes("<svg")) return "an SVG drawing";
  if (/^[^a-z]*<(!doctype )?html/.test(text)) return "an HTML page";
  if (/^[^a-z]*<\?xml/.test(text)) return "an XML document";
  const isText = head.length > 0 && head.every((byte) => byte >= 32 || byte === 9 || byte === 10 || byte === 13);
  return isText ? "a text" : "of an unknown format";
}

/** What a header says. */
export interface ImageHeader {
  readonly width: number;
  readonly height: number;
  /** Numbers per pixel in a JPEG or TIFF. */
  readonly samples?: number;
  /** Grey of 16 bits. */
  readonly isGrey16?: boolean;
  /** More than 8 bits for each number. */
  readonly isDeep?: boolean;
  readonly isCmyk?: boolean;
}

class HeaderError extends Error {}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** By the frame's header (ITU-T T.81, B.2.2). */
export function jpegHeader(bytes: Uint8Array): ImageHeader {
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      const view = viewOf(bytes);
      const samples = bytes[at + 9];
      if (samples !== 1 && samples !== 3 && samples !== 4)
        throw new HeaderError(`it has ${samples} numbers per pixel; 1, 3 or 4 are needed`);
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7), samples, isCmyk: samples === 4 };
    }
    // Fill bytes, and markers that stand alone.
    if (marker === 0xff) at += 1;
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2;
    else at += 2 + (bytes[at + 2] << 8) + bytes[at + 3];
  }
  throw new HeaderError("it has no frame header; is it cut off?");
}

export function pngHeader(bytes: Uint8Array): ImageHeader {
  if (bytes.length < 26 || ascii(bytes, 12, 16) !== "IHDR") throw new HeaderError("it is cut off");
  const view = viewOf(bytes);
  const isDeep = bytes[24] === 16;
  return { width: view.getUint32(16), height: view.getUint32(20), isDeep, isGrey16: isDeep && bytes[25] === 0 };
}

/** By the first chunk: bare lossy (VP8), bare lossless (VP8L), or extended (VP8X). */
export function webpHeader(bytes: Uint8Array): ImageHeader {
  if (bytes.length < 30) throw new HeaderError("it is cut off");
  const view = viewOf(bytes);
  switch (ascii(bytes, 12, 16)) {
    case "VP8 ":
      return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
    case "VP8L": {
      const sizes = view.getUint32(21, true);
      return { width: (sizes & 0x3fff) + 1, height: ((sizes >>> 14) & 0x3fff) + 1 };
    }
    case "VP8X": {
      const [width, height] = [24, 27].map((at) => view.getUint16(at, true) + (bytes[at + 2] << 16) + 1);
      return { width, height };
    }
    default:
      throw new HeaderError("its first chunk is not known");
  }
}

const tag = {
  width: 256,
  height: 257,
  bits: 258,
  compression: 259,
  photometric: 262,
  samples: 277,
  format: 339,
} as const;
/** The value of a TIFF's compression that says JPEG, as libtiff writes it. */
const jpegCompression = 7;
const photometrics: Readonly<Record<number, readonly [name: string, samples: readonly number[], depths: number[]]>> = {
  0: ["grey", [1, 2], [1, 2, 4, 8, 16]],
  1: ["grey", [1, 2], [1, 2, 4, 8, 16]],
  2: ["RGB", [3, 4], [8, 16]],
  3: ["palette", [1], [1, 2, 4, 8]],
  5: ["CMYK", [4], [8]],
  6: ["YCbCr", [3], [8]],
};

/** By the tags of the first image (TIFF 6.0, or BigTIFF). Throws on kinds of pixels that have no one meaning as RGB. */
export function tiffHeader(bytes: Uint8Array): ImageHeader {
  const view = viewOf(bytes);
  const isLittle = bytes[0] === 0x49;
  const cut = () => new HeaderError("it is cut off");
  const need = (at: number, length: number) => {
    if (at + length > bytes.length) throw cut();
  };
  const u16 = (at: number) => (need(at, 2), view.getUint16(at, isLittle));
  const u32 = (at: number) => (need(at, 4), view.getUint32(at, isLittle));
  const u64 = (at: number) => (need(at, 8), Number(view.getBigUint64(at, isLittle)));
  const isBig = u16(2) === 43;
  const directory = isBig ? u64(8) : u32(4);
  const count = isBig ? u64(directory) : u16(directory);
  if (count > 65_535) throw cut();
  const values = new Map<number, number[]>();
  for (let i = 0; i < count; i++) {
    const at = directory + (isBig ? 8 + 20 * i : 2 + 12 * i);
    const name = u16(at);
    const [size, read] = { 1: [1, (o: number) => bytes[o]], 3: [2, u16], 4: [4, u32], 16: [8, u64] }[u16(at + 2)] ?? [];
    if (!Object.values<number>(tag).includes(name) || typeof size !== "number" || typeof read !== "function") continue;
    const length = isBig ? u64(at + 4) : u32(at + 4);
    const inPlace = at + (isBig ? 12 : 8);
    const from = length * size <= (isBig ? 8 : 4) ? inPlace : isBig ? u64(inPlace) : u32(inPlace);
    if (length === 0) continue;
    need(from, length * size);
    values.set(
      name,
      Array.from({ length: Math.min(length, 16) }, (_, k) => read(from + k * size)),
    );
  }
  const first = (name: number, otherwise: number) => values.get(name)?.[0] ?? otherwise;
  const [width, height] = [first(tag.width, 0), first(tag.height, 0)];
  const samples = first(tag.samples, 1);
  const bits = values.get(tag.bits) ?? [1];
  const meaning = photometrics[first(tag.photometric, 1)];
  if (!meaning)
    throw new HeaderError(`it has pixels of the kind ${first(tag.photometric, 1)} (PhotometricInterpretation)`);
  const [name, allowed, depths] = meaning;
  // JPEG's decoder gives RGB; in other files the numbers stay luminance and colour differences.
  if (name === "YCbCr" && first(tag.compression, 1) !== jpegCompression)
    throw new HeaderError("it holds YCbCr numbers outside of JPEG compression; save it as RGB");
  if (!allowed.includes(samples))
    throw new HeaderError(`it has ${samples} bands; a ${name} image has ${allowed.join(" or ")}`);
  if ((values.get(tag.format) ?? [1]).some((format) => format !== 1))
    throw new HeaderError("it holds signed or floating-point numbers; 8 or 16 bits without a sign are needed");
  if (bits.some((b) => b !== bits[0]) || !depths.includes(bits[0]))
    throw new HeaderError(`it has ${bits.join(", ")} bits per number; a ${name} image has ${depths.join(", ")}`);
  const isDeep = bits[0] === 16;
  return { width, height, samples, isDeep, isGrey16: isDeep && samples === 1, isCmyk: name === "CMYK" };
}

export interface GifHeader extends ImageHeader {
  /** The file with its first image only, no colour of which is transparent. */
  readonly first: Uint8Array;
  /** The part of the canvas that the first image covers. */
  readonly left: number;
  readonly top: number;
  readonly frameWidth: number;
  readonly frameHeight: number;
  /** The colour around it. */
  readonly around: readonly [number, number, number];
}

/**
 * By the blocks up to the first image. Transparent pixels keep their palette's colour, as in Pillow: the flag is taken away.
 * Throws where there is no image.
 */
export function gifHeader(bytes: Uint8Array): GifHeader {
  const cut = () => new HeaderError("it is cut off");
  if (bytes.length < 14) throw cut();
  const first = new Uint8Array(bytes);
  const view = viewOf(first);
  const table = (flags: number) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  const globalTable = table(bytes[10]);
  let at = 13 + globalTable;
  let transparent: number | undefined;
  const skipBlocks = () => {
    while (at < bytes.length && bytes[at] !== 0) at += bytes[at] + 1;
    if (at >= bytes.length) throw cut();
    at++;
  };
  for (;;) {
    if (at + 10 > bytes.length) throw cut();
    if (bytes[at] === 0x21) {
      // The graphic control extension says which colour is transparent.
      if (bytes[at + 1] === 0xf9 && bytes[at + 2] === 4) {
        transparent = bytes[at + 3] & 1 ? bytes[at + 6] : undefined;
        first[at + 3] &= 0xfe;
      }
      at += 2;
      skipBlocks();
    } else if (bytes[at] === 0x2c) break;
    else throw new HeaderError("it has no image");
  }
  const [left, top, frameWidth, frameHeight] = [1, 3, 5, 7].map((o) => view.getUint16(at + o, true));
  const localTable = table(bytes[at + 9]);
  const colours = localTable ? at + 10 : 13;
  const index = 3 * (transparent ?? 0);
  const colour =
    index + 3 <= (localTable || globalTable) ? bytes.subarray(colours + index, colours + index + 3) : [0, 0, 0];
  at += 11 + localTable;
  skipBlocks();
  first[at] = 0x3b;
  return {
    width: Math.max(view.getUint16(6, true), left + frameWidth),
    height: Math.max(view.getUint16(8, true), top + frameHeight),
    first: at < first.length ? first.subarray(0, at + 1) : Uint8Array.from([...first, 0x3b]),
    left,
    top,
    frameWidth,
    frameHeight,
    around: [colour[0], colour[1], colour[2]],
  };
}
