// Images by their places, decoded, as views and facts. A platform hands in how files are read, decoded and hashed.
import { Semaphore } from "../utils/semaphore.ts";
import { UserError } from "../utils/errors.ts";
import type { RgbImage, Preprocessing } from "../utils/image.ts";
import { randomStream } from "../utils/random.ts";
import { largestImageFile, mostPixels } from "./image-formats.ts";
import type { AugmentedCrop, ImageFacts } from "./loader.ts";
import type { Content, Place, PlaceReader } from "./places.ts";
import { filesOf } from "./places.ts";
import { augmentationBase, augmentedCrop, evaluationCrop } from "./transforms.ts";

/** Decodes to 8-bit RGB; waits until `pixels` has room. Throws a UserError that names the image where it can't. */
export type Decode = (named: string, bytes: Uint8Array, pixels: Semaphore) => Promise<RgbImage>;

export interface ImageFiles {
  /** What messages call an image's file. */
  nameOf(where: Where): string;
  /** Its bytes; undefined where there is no such file. */
  sizeOf(file: string): Promise<number | undefined>;
  /** A whole file; undefined where there is none. */
  read(file: string): Promise<Uint8Array | undefined>;
  readonly places: PlaceReader;
  readonly decode: Decode;
  /** SHA-256 in hexadecimal. */
  hash(bytes: Uint8Array): string | Promise<string>;
}

/** An image's file, or its place in one. */
export type Where = string | Place;

/** An image that is at hand: the bytes of a file, or its pixels. */
export type ImageContent = Content;

/** The file that an image is, or lies in. */
export const fileOf = (where: Where): string => (typeof where === "string" ? where : (filesOf(where)[0] ?? ""));

/** Decoded training images are kept up to this many bytes, the least recently used leave first. */
const cacheLimit = 512 * 2 ** 20;

const bytesOf = (content: Content) => ("image" in content ? content.image.data : content.encoded);
const keyOf = (where: Where) => (typeof where === "string" ? where : JSON.stringify(where));

/** Reads images; what is under way at the same time is bounded, by encoded bytes and by decoded pixels. */
export class ImageReader {
  private readonly files: ImageFiles;
  private readonly encoded = new Semaphore(largestImageFile);
  private readonly pixels = new Semaphore(mostPixels);
  private readonly cache = new Map<string, RgbImage>();
  private cachedBytes = 0;

  constructor(files: ImageFiles) {
    this.files = files;
  }

  async evaluationCrop(where: Where, preprocessing: Preprocessing): Promise<Float32Array> {
    return evaluationCrop(await this.image(where), preprocessing);
  }

  /** Of an image that the caller has at hand. */
  async cropOfImage(named: string, image: ImageContent, preprocessing: Preprocessing): Promise<Float32Array> {
    return evaluationCrop(await this.imageIn(named, image), preprocessing);
  }

  async augmentedCrop(
    where: Where,
    name: string,
    { preprocessing, augmentation, seed, epoch }: AugmentedCrop,
  ): Promise<Float32Array> {
    const { resize, cropSize, interpolation } = preprocessing;
    const whole = "scale" in augmentation ? "" : JSON.stringify([resize, cropSize, interpolation]);
    const key = keyOf(where) + whole;
    const kept = this.cache.get(key);
    const image = kept ?? augmentationBase(await this.image(where), preprocessing, augmentation);
    if (!kept) this.remember(key, image);
    return augmentedCrop(image, preprocessing, augmentation, randomStream(seed, "view", epoch, name));
  }

  facts(where: Where): Promise<ImageFacts> {
    return this.withContent(where, async (content) => {
      const bytes = bytesOf(content);
      const { width, height } = await this.imageIn(this.files.nameOf(where), content);
      return { bytes: bytes.byteLength, sha256: await this.files.hash(bytes), width, height };
    });
  }

  /** Of what an image's file holds, without decoding it. */
  fingerprint(where: Where): Promise<string> {
    return this.withContent(where, async (content) => this.files.hash(bytesOf(content)));
  }

  /** The image itself. */
  image(where: Where): Promise<RgbImage> {
    return this.withContent(where, (content) => this.imageIn(this.files.nameOf(where), content));
  }

  private async bytesOfFile(file: string): Promise<Uint8Array> {
    const bytes = await this.files.read(file);
    const named = this.files.nameOf(file);
    if (!bytes) throw new UserError(`${named} does not exist (any more)`, { code: "FILE_NOT_FOUND" });
    if (bytes.byteLength === 0) throw new UserError(`${named} is empty`, { code: "NOT_AN_IMAGE" });
    return bytes;
  }

  /** Encoded bytes that a place takes, as far as they are known before. */
  private async sizeOf(where: Where): Promise<number> {
    if (typeof where !== "string") return where.kind === "range" ? Math.max(where.length, where.size ?? 0) : 0;
    return (await this.files.sizeOf(where)) ?? 0;
  }

  /** Runs work on what a place holds while there is room for it. */
  private async withContent<T>(where: Where, work: (content: Content) => Promise<T>): Promise<T> {
    return this.encoded.take(await this.sizeOf(where), async () =>
      work(
        typeof where === "string" ? { encoded: await this.bytesOfFile(where) } : await this.files.places.read(where),
      ),
    );
  }

  private imageIn(named: string, content: Content): Promise<RgbImage> {
    return "image" in content ? Promise.resolve(content.image) : this.files.decode(named, content.encoded, this.pixels);
  }

  private remember(key: string, image: RgbImage): void {
    this.cache.delete(key);
    this.cache.set(key, image);
    this.cachedBytes += image.data.byteLength;
    for (const [oldest, { data }] of this.cache) {
      if (this.cachedBytes <= cacheLimit) break;
      this.cache.delete(oldest);
      this.cachedBytes -= data.byteLength;
    }
  }
}
