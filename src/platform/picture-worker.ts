// The worker that decodes pictures and makes views of them, beside the thread that runs the model.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { parentPort } from "node:worker_threads";
import sharp from "sharp";
import type { AugmentedView, PictureFacts } from "../data/loader.ts";
import { augmentedView, evaluationView, reduceForTraining } from "../data/transforms.ts";
import { UserError } from "../utils/errors.ts";
import type { Picture, Preprocessing } from "../utils/picture.ts";
import { randomStream } from "../utils/random.ts";
import type { Request } from "./rpc.ts";
import { answer } from "./rpc.ts";

// One thread a picture: the cores are needed by the model.
sharp.concurrency(1);
sharp.cache(false);

/** Decoded training pictures are kept up to this many bytes a worker, the least recently used leave first. */
const cacheLimit = 512 * 2 ** 20;
/** Larger files are refused before they are read. */
const largestFile = 1 << 30;

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
async function decode(path: string, bytes: Buffer): Promise<Picture> {
  try {
    const { data, info } = await sharp(bytes, { failOn: "error", limitInputPixels: 2 ** 28 })
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
    throw new UserError(`${path} is no picture that can be read (${(error as Error).message.split("\n")[0]})`);
  }
}

const methods = {
  async evaluationView(path: string, preprocessing: Preprocessing) {
    return evaluationView(await decode(path, await readBytes(path)), preprocessing);
  },
  async augmentedView(path: string, name: string, { preprocessing, augmentation, seed, epoch }: AugmentedView) {
    const kept = cache.get(path);
    const picture = kept ?? reduceForTraining(await decode(path, await readBytes(path)), preprocessing);
    if (!kept) remember(path, picture);
    return augmentedView(picture, preprocessing, augmentation, randomStream(seed, "view", epoch, name));
  },
  async facts(path: string): Promise<PictureFacts> {
    const bytes = await readBytes(path);
    const { width, height } = await decode(path, bytes);
    return { bytes: bytes.byteLength, sha256: createHash("sha256").update(bytes).digest("hex"), width, height };
  },
};

parentPort?.on("message", async (request: Request) => {
  const reply = await answer(methods, request);
  const moved = "value" in reply && reply.value instanceof Float32Array ? [reply.value.buffer as ArrayBuffer] : [];
  parentPort?.postMessage(reply, moved);
});
