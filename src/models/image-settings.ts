// The size of images that an ONNX file was made for, and their preprocessing, from the files beside it.
import type { Directory } from "../files/storage.ts";
import { modelTypeIn, readPreprocessorFile } from "./definition.ts";
import { readJson } from "./json.ts";
import { resizeTo } from "./preprocessing.ts";
import { UserError } from "../utils/errors.ts";
import type { Preprocessing } from "../utils/image.ts";

export interface ImageSettings {
  /** Pixels per side; undefined where nothing names it. */
  readonly imageSize?: number;
  /** For images of that size; undefined where no file says it. */
  readonly preprocessing?: Preprocessing;
}

export interface ImageSettingsOptions {
  /** The size that is asked for, or that the file's input is fixed to. */
  readonly imageSize?: number;
  readonly warn: (message: string) => void;
}

/** `image_size` of config.json, also where it stands in its vision part; undefined where there is none. */
async function configuredSize(directory: Directory): Promise<number | undefined> {
  const entry = "config.json";
  const config = await readJson(directory, entry);
  if (config === undefined) return undefined;
  const file = directory.describe(entry);
  const sizeIn = (part: unknown) =>
    typeof part === "object" && part !== null && "image_size" in part ? (part.image_size ?? undefined) : undefined;
  const size = sizeIn(config) ?? sizeIn(config.vision_config);
  if (size === undefined) return undefined;
  const sides = (Array.isArray(size) ? size : [size]) as unknown[];
  const [side] = sides;
  if (typeof side !== "number" || !Number.isInteger(side) || side <= 0 || sides.length > 2)
    throw new UserError(`image_size in ${file} must be a number of pixels, got ${JSON.stringify(size)}.`, {
      code: "NOT_A_VIT",
    });
  if (sides.some((other) => other !== side))
    throw new UserError(`image_size in ${file} is ${sides.join("x")}; only squares can be read.`, {
      code: "NOT_A_VIT",
    });
  return side;
}

/**
 * The size of images and their preprocessing for an ONNX file: the size that is asked for or fixed, else config.json's
 * `image_size`, else the preprocessor's. `folders` are looked through in turn.
 */
export async function imageSettingsBeside(
  folders: readonly Directory[],
  { imageSize: given, warn }: ImageSettingsOptions,
): Promise<ImageSettings> {
  let imageSize = given;
  for (const folder of folders) imageSize ??= await configuredSize(folder);
  for (const folder of folders) {
    const preprocessing = await readPreprocessorFile(folder, imageSize ?? 224, await modelTypeIn(folder), warn);
    if (!preprocessing) continue;
    const { cropSize } = preprocessing;
    if (imageSize === undefined || imageSize === cropSize) return { imageSize: cropSize, preprocessing };
    warn(
      `The preprocessor in ${folder.describe("")} makes images of ${cropSize}x${cropSize}. They are resized to ${imageSize}x${imageSize}, which the model takes.`,
    );
    return { imageSize, preprocessing: resizeTo(preprocessing, imageSize) };
  }
  return { imageSize };
}
