// Images as callers have them (paths, URLs, bytes, pixels) to what models take, through the decoder and the transform that
// data sets go through.
import { isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { largestImageFile } from "../../data/image-formats.ts";
import type { PixelImage } from "../../data/pixel-image.ts";
import { imageOfPixels } from "../../data/pixel-image.ts";
import { stackCrops } from "../../data/loader.ts";
import { UserError } from "../../utils/errors.ts";
import type { RgbImage, Preprocessing } from "../../utils/image.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { readWhole } from "./node-files.ts";
import { WorkerCalls } from "./worker-calls.ts";
import { WorkerLane } from "./worker-lane.ts";

export type { PixelImage } from "../../data/pixel-image.ts";

/** The part of a sharp instance that is used: its pipeline's output. */
export interface SharpImage {
  clone(): SharpImage;
  toColourspace(name: string): SharpImage;
  raw(): SharpImage;
  toBuffer(options: { readonly resolveWithObject: true }): Promise<{
    readonly data: Uint8Array;
    readonly info: { readonly width: number; readonly height: number; readonly channels: number };
  }>;
}

/** A path, a URL (http, https, file, data), the bytes of an image file, a sharp instance, or pixels. */
export type ImageInput = string | URL | Uint8Array | ArrayBuffer | Blob | SharpImage | PixelImage;

/** An image as the worker takes it. */
export type WorkerImage = { readonly encoded: Uint8Array } | { readonly image: RgbImage };

const formsTaken =
  "a path, a URL (http, https, file, data), bytes (Uint8Array, ArrayBuffer, Blob), a sharp instance, or { width, height, data }";

function isSharp(image: object): image is SharpImage {
  return ["clone", "toColourspace", "raw", "toBuffer"].every((name) => name in image);
}

/** A body's bytes, of which no more than an image file may have are read. */
async function bytesOfBody(named: string, body: ReadableStream<Uint8Array> | null): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    length += chunk.byteLength;
    if (length > largestImageFile)
      throw new UserError(`${named} is longer than the ${largestImageFile} bytes that are read of an image.`, {
        code: "NOT_AN_IMAGE",
      });
  }
  return new Uint8Array(Buffer.concat(chunks));
}

async function fetched(url: URL, named: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    signal?.throwIfAborted();
    const { cause } = error as Error;
    throw new UserError(`${named} can't be fetched: ${cause instanceof Error ? cause.message : String(error)}`, {
      code: "FILE_NOT_READABLE",
      cause: error,
    });
  }
  if (!response.ok) {
    await response.body?.cancel();
    throw new UserError(`${named} can't be fetched: the server answered ${response.status}.`, {
      code: response.status === 404 ? "FILE_NOT_FOUND" : "FILE_NOT_READABLE",
    });
  }
  return bytesOfBody(named, response.body);
}

async function fileBytes(path: string): Promise<Uint8Array> {
  const bytes = await readWhole(path, largestImageFile);
  if (!bytes) throw new UserError(`There is no file ${path}.`, { code: "FILE_NOT_FOUND" });
  return bytes;
}

/** `c:\images` is a path, not a URL of the scheme `c`. */
const isUrl = (text: string) => /^[a-z][a-z\d+.-]+:/i.test(text) && !isAbsolute(text) && URL.canParse(text);

async function urlBytes(url: URL, named: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  if (url.protocol === "file:") return fileBytes(fileURLToPath(url));
  if (!["http:", "https:", "data:"].includes(url.protocol))
    throw new UserError(`${named}: images are read from http, https, file and data, not from ${url.protocol}`);
  return fetched(url, named, signal);
}

/** What messages call an image. */
function nameOf(image: ImageInput, index: number): string {
  const text = image instanceof URL ? image.href : image;
  if (typeof text !== "string" || text.startsWith("data:")) return `image ${index + 1}`;
  return text;
}

async function readImage(image: ImageInput, named: string, signal: AbortSignal | undefined): Promise<WorkerImage> {
  if (image instanceof URL) return { encoded: await urlBytes(image, named, signal) };
  if (typeof image === "string")
    return { encoded: isUrl(image) ? await urlBytes(new URL(image), named, signal) : await fileBytes(resolve(image)) };
  // Copies: the worker gets the memory.
  if (image instanceof Uint8Array) return { encoded: new Uint8Array(image) };
  if (image instanceof ArrayBuffer) return { encoded: new Uint8Array(image.slice(0)) };
  if (image instanceof Blob) return { encoded: await bytesOfBody(named, image.stream()) };
  if (typeof image === "object" && image !== null) {
    if (isSharp(image)) {
      const { data, info } = await image.clone().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
      return { image: imageOfPixels(named, { width: info.width, height: info.height, data }) };
    }
    const { width, height, data } = image;
    if (data instanceof Uint8Array || data instanceof Uint8ClampedArray)
      return { image: imageOfPixels(named, { width, height, data }) };
  }
  throw new UserError(`${named} is none of the forms that are read: ${formsTaken}.`);
}

let lane: WorkerLane | undefined;

/**
 * Images as pixel values `[B, 3, H, W]`, normalised: what evaluation makes of the same files. The worker that decodes them is
 * started by the first call; idle, it does not keep the process alive.
 * @throws a UserError that names the image where one can't be read
 */
export async function preprocessImages(
  images: ImageInput | readonly ImageInput[],
  preprocessing: Preprocessing,
  signal?: AbortSignal,
): Promise<FloatTensor> {
  const list = Array.isArray(images) ? (images as readonly ImageInput[]) : [images as ImageInput];
  if (list.length === 0) throw new UserError("There is no image to preprocess: the list is empty.");
  lane ??= new WorkerLane(() => new WorkerCalls("image-worker", ""));
  const decoder = lane;
  const crops: Float32Array[] = new Array<Float32Array>(list.length);
  let next = 0;
  // Few at a time, so that memory holds few encoded images.
  const work = async () => {
    for (let i = next++; i < list.length; i = next++) {
      signal?.throwIfAborted();
      const named = nameOf(list[i], i);
      const image = await readImage(list[i], named, signal);
      crops[i] = await decoder.call<Float32Array>(named, "cropOfImage", named, image, preprocessing);
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, list.length) }, work));
  const side = preprocessing.cropSize;
  return stackCrops(crops, [3, side, side]);
}
