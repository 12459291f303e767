// Images of data sets and of callers, read in this thread: the browser decodes beside it.
import type { AugmentedCrop, ImageSource } from "../../data/loader.ts";
import { stackCrops } from "../../data/loader.ts";
import { largestImageFile } from "../../data/image-formats.ts";
import type { PixelImage } from "../../data/pixel-image.ts";
import { imageOfPixels } from "../../data/pixel-image.ts";
import type { Decode, ImageContent, Where } from "../../data/image-reader.ts";
import { fileOf, ImageReader } from "../../data/image-reader.ts";
import { PlaceReader } from "../../data/places.ts";
import type { Item } from "../../data/sampling.ts";
import { readAtMost } from "../../files/storage.ts";
import { sha256 } from "../../utils/digest.ts";
import { UserError } from "../../utils/errors.ts";
import type { RgbImage, Preprocessing } from "../../utils/image.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { Mounts } from "./web-files.ts";

/** A reader of images below a folder. */
function readerOf(mounts: Mounts, folder: string, decode: Decode): { reader: ImageReader; places: PlaceReader } {
  const directory = mounts.directory(folder);
  const places = new PlaceReader((file) => directory.open(file));
  const withFile = async <T>(
    file: string,
    use: (handle: NonNullable<Awaited<ReturnType<typeof directory.open>>>) => T | Promise<T>,
  ) => {
    const handle = await directory.open(file);
    if (!handle) return undefined;
    try {
      return await use(handle);
    } finally {
      await handle.close();
    }
  };
  const reader = new ImageReader({
    nameOf: (where) => directory.describe(fileOf(where)),
    sizeOf: (file) => withFile(file, ({ size }) => size),
    read: (file) => withFile(file, (handle) => readAtMost(handle, largestImageFile)),
    places,
    decode,
    hash: sha256,
  });
  return { reader, places };
}

/** A source over a folder. */
export function webImageSource(mounts: Mounts, folder: string, decode: Decode): ImageSource {
  const { reader, places } = readerOf(mounts, folder, decode);
  const whereOf = ({ name, place }: Item): Where => place ?? name;
  return {
    id: folder,
    evaluationCrop: (item, preprocessing: Preprocessing) => reader.evaluationCrop(whereOf(item), preprocessing),
    augmentedCrop: (item, crop: AugmentedCrop) => reader.augmentedCrop(whereOf(item), item.name, crop),
    facts: (item) => reader.facts(whereOf(item)),
    // Browsers don't tell two files of one size and time apart for sure, so each is hashed.
    stamp: async () => undefined,
    fingerprint: (item) => reader.fingerprint(whereOf(item)),
    dispose: () => places.close(),
  };
}

export type { PixelImage } from "../../data/pixel-image.ts";

/** A File or Blob, a URL (http, https, blob, data), the bytes of an image file, an ImageBitmap, or pixels. */
export type WebImage = Blob | URL | string | Uint8Array | ArrayBuffer | ImageBitmap | PixelImage;

const formsTaken =
  "a File or Blob, a URL (http, https, blob, data), bytes (Uint8Array, ArrayBuffer), an ImageBitmap, or { width, height, data }";

async function bytesOfBlob(named: string, blob: Blob): Promise<Uint8Array> {
  if (blob.size > largestImageFile)
    throw new UserError(`${named} is longer than the ${largestImageFile} bytes that are read of an image.`);
  if (blob.size === 0) throw new UserError(`${named} is empty`, { code: "NOT_AN_IMAGE" });
  return new Uint8Array(await blob.arrayBuffer());
}

/** What an address gives. Throws a UserError where it can't be fetched. */
export async function fetchBlob(url: string, named: string, signal?: AbortSignal): Promise<Blob> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw new UserError(
      `${named} can't be fetched: the server can't be reached, or does not let this page read from it (CORS).`,
      { code: "FILE_NOT_READABLE", cause: error },
    );
  }
  if (!response.ok)
    throw new UserError(`${named} can't be fetched: the server answered ${response.status}.`, {
      code: response.status === 404 ? "FILE_NOT_FOUND" : "FILE_NOT_READABLE",
    });
  return response.blob();
}

/** What messages call an image. */
export function imageName(image: unknown, index: number): string {
  if (image instanceof URL) return imageName(image.href, index);
  if (typeof image === "string" && !image.startsWith("data:") && !image.startsWith("blob:")) return image;
  return typeof File === "function" && image instanceof File ? image.name : `image ${index + 1}`;
}

/** An image as it is read: encoded, or as pixels. */
export async function contentOf(image: WebImage, named: string, signal?: AbortSignal): Promise<ImageContent> {
  if (typeof image === "string" || image instanceof URL) {
    const url = String(image);
    if (!/^(https?|blob|data):/i.test(url))
      throw new UserError(`${named} is no URL (http, https, blob, data); images are ${formsTaken}.`);
    return { encoded: await bytesOfBlob(named, await fetchBlob(url, named, signal)) };
  }
  if (image instanceof Uint8Array) return { encoded: image };
  if (image instanceof ArrayBuffer) return { encoded: new Uint8Array(image) };
  if (image instanceof Blob) return { encoded: await bytesOfBlob(named, image) };
  if (typeof ImageBitmap === "function" && image instanceof ImageBitmap)
    return { image: await imageOfBitmap(named, image) };
  if (typeof image === "object" && image !== null && "data" in image) {
    const { data } = image;
    if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return { image: imageOfPixels(named, image) };
  }
  throw new UserError(`${named} is none of the forms that are read: ${formsTaken}.`);
}

/** An ImageBitmap's pixels. Colours behind transparency are lost in it already. */
async function imageOfBitmap(named: string, image: ImageBitmap): Promise<RgbImage> {
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new UserError(`${named} can't be read: this browser gives no canvas.`);
  context.drawImage(image, 0, 0);
  return imageOfPixels(named, context.getImageData(0, 0, width, height));
}

/**
 * Images as pixel values `[B, 3, H, W]`, normalised: what evaluation makes of the same files.
 * @throws a UserError that names the image where one can't be read
 */
export async function preprocessWebImages(
  images: WebImage | readonly WebImage[],
  preprocessing: Preprocessing,
  decode: Decode,
  signal?: AbortSignal,
): Promise<FloatTensor> {
  const list = Array.isArray(images) ? (images as readonly WebImage[]) : [images as WebImage];
  if (list.length === 0) throw new UserError("There is no image to preprocess: the list is empty.");
  const none = async () => undefined;
  const places = new PlaceReader(none);
  const reader = new ImageReader({ nameOf: fileOf, sizeOf: none, read: none, places, decode, hash: sha256 });
  const crops: Float32Array[] = [];
  for (const [i, image] of list.entries()) {
    signal?.throwIfAborted();
    const named = imageName(image, i);
    crops.push(await reader.cropOfImage(named, await contentOf(image, named, signal), preprocessing));
  }
  const side = preprocessing.cropSize;
  return stackCrops(crops, [3, side, side]);
}
