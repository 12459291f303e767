// The worker that decodes pictures and makes views of them, beside the thread that runs the model.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { workerData } from "node:worker_threads";
import sharp from "sharp";
import type { AugmentedView, PictureFacts } from "../../data/loader.ts";
import type { Content, Place } from "../../data/places.ts";
import { largestImageFile, mostPixels } from "../../data/image-formats.ts";
import { filesOf, PlaceReader } from "../../data/places.ts";
import { augmentationBase, augmentedView, evaluationView } from "../../data/transforms.ts";
import { Semaphore } from "../../utils/semaphore.ts";
import { UserError } from "../../utils/errors.ts";
import type { Picture, Preprocessing } from "../../utils/image.ts";
import { randomStream } from "../../utils/random.ts";
import { decodeImage } from "./decode-image.ts";
import { openFile, readWhole } from "./node-files.ts";
import type { WorkerImage } from "./preprocess-images.ts";
import { serve } from "./rpc.ts";

// One thread a picture: the cores are needed by the model.
sharp.concurrency(1);
sharp.cache(false);
/** Decoded training pictures are kept up to this many bytes a worker, the least recently used leave first. */
const cacheLimit = 512 * 2 ** 20;
/** Encoded bytes and decoded pixels of what is under way in this worker, which bound its memory. */
const encoded = new Semaphore(largestImageFile);
const pixels = new Semaphore(mostPixels);

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

async function readBytes(path: string): Promise<Uint8Array> {
  const bytes = await readWhole(path, largestImageFile);
  if (!bytes) throw new UserError(`${path} does not exist (any more)`, { code: "FILE_NOT_FOUND" });
  if (bytes.byteLength === 0) throw new UserError(`${path} is empty`, { code: "NOT_AN_IMAGE" });
  return bytes;
}

/** A picture's file, or its place in one; what messages call it. */
type Where = string | Place;
const nameOf = (where: Where) => (typeof where === "string" ? where : join(folder, filesOf(where)[0] ?? ""));

/** Encoded bytes that a place takes, as far as they are known before. */
async function sizeOf(where: Where): Promise<number> {
  if (typeof where !== "string") return where.kind === "range" ? Math.max(where.length, where.size ?? 0) : 0;
  return (await stat(where).catch(() => undefined))?.size ?? 0;
}

/** Runs work on what a place holds while the worker has room for it. */
async function withContent<T>(where: Where, work: (content: Content) => Promise<T>): Promise<T> {
  return encoded.take(await sizeOf(where), async () =>
    work(typeof where === "string" ? { encoded: await readBytes(where) } : await places.read(where)),
  );
}

const pictureIn = (where: Where, content: Content) =>
  "picture" in content ? Promise.resolve(content.picture) : decodeImage(nameOf(where), content.encoded, pixels);

const read = (where: Where): Promise<Picture> => withContent(where, (content) => pictureIn(where, content));

const bytesOf = (content: Content) => ("picture" in content ? content.picture.data : content.encoded);

const keyOf = (where: Where) => (typeof where === "string" ? where : JSON.stringify(where));

const methods = {
  async evaluationView(where: Where, preprocessing: Preprocessing) {
    return evaluationView(await read(where), preprocessing);
  },
  /** Of an image that the caller has at hand. */
  async viewOfImage(named: string, image: WorkerImage, preprocessing: Preprocessing) {
    const picture = "picture" in image ? image.picture : await decodeImage(named, image.encoded, pixels);
    return evaluationView(picture, preprocessing);
  },
  async augmentedView(where: Where, name: string, { preprocessing, augmentation, seed, epoch }: AugmentedView) {
    const { resize, cropSize, interpolation } = preprocessing;
    const whole = "scale" in augmentation ? "" : JSON.stringify([resize, cropSize, interpolation]);
    const key = keyOf(where) + whole;
    const kept = cache.get(key);
    const picture = kept ?? augmentationBase(await read(where), preprocessing, augmentation);
    if (!kept) remember(key, picture);
    return augmentedView(picture, preprocessing, augmentation, randomStream(seed, "view", epoch, name));
  },
  async facts(where: Where): Promise<PictureFacts> {
    return withContent(where, async (content) => {
      const bytes = bytesOf(content);
      const { width, height } = await pictureIn(where, content);
      return { bytes: bytes.byteLength, sha256: createHash("sha256").update(bytes).digest("hex"), width, height };
    });
  },
  /** Of what a picture's file holds, without decoding it. */
  async fingerprint(where: Where): Promise<string> {
    return withContent(where, async (content) => createHash("sha256").update(bytesOf(content)).digest("hex"));
  },
};

serve(methods, (_, value) => (value instanceof Float32Array ? [value.buffer as ArrayBuffer] : []));
