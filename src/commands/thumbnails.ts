// Images as a page shows them: what a model sees of them, small, each made once.
import type { ImageSource } from "../data/loader.ts";
import { resize } from "../data/resize.ts";
import type { Item } from "../data/sampling.ts";
import { denormalise } from "../data/transforms.ts";
import { UserError } from "../utils/errors.ts";
import type { RgbImage, Preprocessing } from "../utils/image.ts";
import type { RunContext } from "../context/run-context.ts";

/** Bytes in base 64. */
export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

/** An image reduced (or enlarged) to a square of `side` pixels. */
export function scaled(image: RgbImage, side: number): RgbImage {
  return resize(image, { left: 0, top: 0, width: image.width, height: image.height }, side, side, "bicubic");
}

/** Of so many pixels at least, and by so many levels, an image that shows something differs from its most common colour. */
const [leastShown, leastLevels] = [0.02, 16];

/** Whether an image is of one colour, as nearly as a viewer sees it. */
export function isBlank({ width, height, data }: RgbImage): boolean {
  const pixels = width * height;
  const common = [0, 1, 2].map((channel) => {
    const counts = new Uint32Array(256);
    for (let i = 0; i < pixels; i++) counts[data[3 * i + channel]]++;
    return counts.indexOf(Math.max(...counts));
  });
  let other = 0;
  for (let i = 0; i < pixels; i++)
    if (common.some((level, channel) => Math.abs(data[3 * i + channel] - level) > leastLevels)) other++;
  return other < leastShown * pixels;
}

export async function dataUri({ environment }: RunContext, image: RgbImage): Promise<string> {
  return `data:image/jpeg;base64,${base64(await environment.encodeJpeg(image))}`;
}

interface Thumbnail {
  /** A data URI. */
  readonly uri: string;
  readonly isBlank: boolean;
}

export class Thumbnails {
  private readonly made = new Map<string, Promise<Thumbnail | undefined>>();
  private readonly context: RunContext;
  private readonly source: ImageSource;
  private readonly preprocessing: Preprocessing;
  private readonly side: number;

  constructor(context: RunContext, source: ImageSource, preprocessing: Preprocessing, side: number) {
    this.context = context;
    this.source = source;
    this.preprocessing = preprocessing;
    this.side = side;
  }

  /** A data URI; undefined where the image can't be read (any more). */
  async of(item: Item): Promise<string | undefined> {
    return (await this.thumbnail(item))?.uri;
  }

  /** Whether models see nothing but one colour in it, or it can't be read. */
  async isBlank(item: Item): Promise<boolean> {
    return (await this.thumbnail(item))?.isBlank ?? true;
  }

  private thumbnail(item: Item): Promise<Thumbnail | undefined> {
    const image = this.made.get(item.name) ?? this.make(item);
    this.made.set(item.name, image);
    return image;
  }

  private async make(item: Item): Promise<Thumbnail | undefined> {
    try {
      const pixels = await this.source.evaluationCrop(item, this.preprocessing);
      const image = scaled(denormalise(pixels, this.preprocessing), this.side);
      return { uri: await dataUri(this.context, image), isBlank: isBlank(image) };
    } catch (error) {
      if (error instanceof UserError) return undefined;
      throw error;
    }
  }
}
