// The worker that decodes pictures and makes views of them, beside the thread that runs the model.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { workerData } from "node:worker_threads";
import * as bmp from "bmp-ts";
import sharp from "sharp";
import type { AugmentedView, PictureFacts } from "../../data/loader.ts";
import type { Place } from "../../data/places.ts";
import { PlaceReader } from "../../data/places.ts";
import { augmentedView, evaluationView, reduceForTraining } from "../../data/transforms.ts";
import { UserError } from "../../utils/errors.ts";
import type { Picture, Preprocessing } from "../../utils/image.ts";
import { randomStream } from "../../utils/random.ts";
import { openFile } from "./node-files.ts";
import { serve } from "./rpc.ts";

// One thread a picture: the cores are needed by the model.
sharp.concurrency(1);
sharp.cache(false);

/** Decoded training pictures are kept up to this many bytes a worker, the least recently used leave first. */
const cacheLimit = 512 * 2 ** 20;
/** Pixels; larger pictures are refused. */
const largestPicture = 2 ** 28;
/** Larger files are refused before they are read. */
const largestFile = 1 << 30;

/** The data set's folder. */
const folder = workerData as string;
const places = new PlaceReader((file) => openFile(join(folder, file)));

const cache = new Map<string, Picture>();
let cachedBytes = 0;

function remember(path: string, picture: Picture): void {
  cache.delete(path);
  cache.set(path, picture);
  cachedBytes += picture.data.byteLength;
  for (const [oldest, { data }] of cache) {
    if (cachedBytes <= cacheLimit) break;
    cache.delete(oldest);
    cachedBytes -= data.byteLength;
  }
}

async function readBytes(path: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path);
    if (bytes.byteLength > largestFile) throw new UserError(`${path} is larger than 1 GiB`);
    if (bytes.byteLength === 0) throw new UserError(`${path} is empty`);
    return bytes;
  } catch (error) {
    if (error instanceof UserError) throw error;
    const code = (error as { code?: string }).code;
    throw new UserError(`${path} ${code === "ENOENT" ? "does not exist (any more)" : `can't be read (${code})`}`);
  }
}

/** Decodes to 8-bit RGB: EXIF orientation applied, alpha over white, 16-bit and grey converted. */
async function decode(named: string, bytes: Uint8Array): Promise<Picture> {
  try {
    if (bytes[0] === 0x42 && bytes[1] === 0x4d) return decodeBmp(bytes);
    if (isCmyk(bytes)) return await decodeCmyk(bytes);
    const { data, info } = await sharp(bytes, { failOn: "error", limitInputPixels: largestPicture })
      .autoOrient()
      .flatten({ background: "#ffffff" })
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels === 3) return { width: info.width, height: info.height, data };
    const rgb = new Uint8Array(info.width * info.height * 3);
    for (let i = 0; i < info.width * info.height; i++) rgb.fill(data[i * info.channels], i * 3, i * 3 + 3);
    return { width: info.width, height: info.height, data: rgb };
  } catch (error) {
    throw new UserError(`${named} is no picture that can be read (${(error as Error).message.split("\n")[0]})`);
  }
}

/** Whether a JPEG has four components, by its frame header. */
function isCmyk(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return false;
  for (let at = 2; at + 9 < bytes.byteLength && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return bytes[at + 9] === 4;
    at += marker === 0xff ? 1 : 2 + (bytes[at + 2] << 8) + bytes[at + 3];
  }
  return false;
}

/** Inks to light as Pillow does it, without a profile: models were trained on what it gives. */
async function decodeCmyk(bytes: Uint8Array): Promise<Picture> {
  const { data, info } = await sharp(bytes, { failOn: "error", limitInputPixels: largestPicture })
    .autoOrient()
    .pipelineColourspace("cmyk")
    .toColourspace("cmyk")
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const light = 255 - data[channels * i + 3];
    for (let c = 0; c < 3; c++)
      rgb[3 * i + c] = Math.max(0, light - Math.round((data[channels * i + c] * light) / 255));
  }
  return { width, height, data: rgb };
}

/** Windows bitmaps, which sharp's libraries leave out. */
function decodeBmp(bytes: Uint8Array): Picture {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // The decoder takes memory for what the header says before it looks at what is there.
  const pixels = bytes.byteLength < 26 ? 0 : Math.abs(header.getInt32(18, true) * header.getInt32(22, true));
  if (pixels === 0 || pixels > largestPicture) throw new Error(`a bitmap of ${pixels} pixels`);
  const { width, height, data } = bmp.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const rgb = new Uint8Array(3 * width * height);
  // Four bytes a pixel: alpha, blue, green, red.
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = data[4 * i + 3 - c];
  return { width, height, data: rgb };
}

/** A picture's file, or its place in one; what messages call it. */
type Where = string | Place;
const nameOf = (where: Where) =>
  typeof where === "string" ? where : join(folder, where.kind === "slice" ? where.scans[0] : where.file);

async function read(where: Where): Promise<Picture> {
  if (typeof where === "string") return decode(where, await readBytes(where));
  const content = await places.read(where);
  return "picture" in content ? content.picture : decode(nameOf(where), content.encoded);
}

const keyOf = (where: Where) => (typeof where === "string" ? where : JSON.stringify(where));

const methods = {
  async evaluationView(where: Where, preprocessing: Preprocessing) {
    return evaluationView(await read(where), preprocessing);
  },
  async augmentedView(where: Where, name: string, { preprocessing, augmentation, seed, epoch }: AugmentedView) {
    const key = keyOf(where);
    const kept = cache.get(key);
    const picture = kept ?? reduceForTraining(await read(where), preprocessing);
    if (!kept) remember(key, picture);
    return augmentedView(picture, preprocessing, augmentation, randomStream(seed, "view", epoch, name));
  },
  async facts(where: Where): Promise<PictureFacts> {
    const content = typeof where === "string" ? { encoded: await readBytes(where) } : await places.read(where);
    const bytes = "picture" in content ? content.picture.data : content.encoded;
    const { width, height } = "picture" in content ? content.picture : await decode(nameOf(where), content.encoded);
    return { bytes: bytes.byteLength, sha256: createHash("sha256").update(bytes).digest("hex"), width, height };
  },
  /** Of what a picture's file holds, without decoding it. */
  async fingerprint(where: Where): Promise<string> {
    const content = typeof where === "string" ? { encoded: await readBytes(where) } : await places.read(where);
    const bytes = "picture" in content ? content.picture.data : content.encoded;
    return createHash("sha256").update(bytes).digest("hex");
  },
};

serve(methods, (_, value) => (value instanceof Float32Array ? [value.buffer as ArrayBuffer] : []));
