// What a model is that stands at some place: a folder or a file, in whatever format. The same on every platform.
import { imageFormat } from "../data/image-formats.ts";
import type { Directory } from "../files/storage.ts";
import { longestFile, readBytes, readFile } from "../files/storage.ts";
import type { ModelDefinition, ReadOptions } from "../models/definition.ts";
import { readModel } from "../models/definition.ts";
import { imageSettingsBeside } from "../models/image-settings.ts";
import { decodeOnnx, externalNames } from "../models/onnx-import/onnx-graph.ts";
import { readLicense } from "../models/license.ts";
import { fixedImageSize, importOnnx } from "../models/onnx-import/onnx-model.ts";
import { withTransform } from "../models/preprocessing.ts";
import type { Device } from "../runtime/device.ts";
import { UserError } from "../utils/errors.ts";

/** Where a model lies. */
export interface ModelPlace {
  /** What messages call it. */
  readonly path: string;
  /** The folder that it is, or that its file lies in. */
  readonly directory: Directory;
  /** Its file; the folder itself where left out. */
  readonly file?: string;
  /** The folder around the directory, in which settings of an ONNX file in `onnx/` lie. */
  readonly around?: Directory;
}

export interface OpenModelOptions extends Omit<ReadOptions, "weightsFile"> {
  /** Where an ONNX file is run to prove that it is read rightly; asked for only then. */
  readonly device: () => Device;
}

const asModel = "Give a model's folder, its file of weights, or its name on the hub.";
const weightsPattern = /\.(safetensors|bin|pth|pt|ckpt|onnx)$/i;
const imagePattern = /\.(jpe?g|png|webp|avif|tiff?|gif|bmp)$/i;

/** Throws a UserError where a file or a folder is plainly of images: its reader would say what it lacks, not what it is. */
async function refuseImages({ path, directory, file }: ModelPlace): Promise<void> {
  if (file !== undefined) {
    const handle = weightsPattern.test(file) ? undefined : await directory.open(file);
    if (!handle) return;
    const head = await readBytes(handle, 0, Math.min(handle.size, 512)).finally(() => handle.close());
    const format = imageFormat(head);
    if (format)
      throw new UserError(`${path} is an image (${format}), not a model. ${asModel}`, { code: "NOT_A_MODEL" });
    return;
  }
  const names = await directory.list();
  if (names.some((name) => weightsPattern.test(name) || /^(config|result)\.json$|\.index\.json$/.test(name))) return;
  // Class folders may stand in train/ and val/.
  const first = await imageIn(directory, "", 2);
  if (first !== undefined)
    throw new UserError(`${path} is a folder of images (such as ${first}), not a model. ${asModel}`, {
      code: "NOT_A_MODEL",
    });
}

/** An image in a folder, or in one of the first folders in it. */
async function imageIn(directory: Directory, folder: string, levels: number): Promise<string | undefined> {
  // What is no folder can't be listed.
  const names = await directory.list(folder).catch((): string[] => []);
  const image = names.find((name) => imagePattern.test(name));
  if (image !== undefined || levels === 0) return image;
  for (const name of names.slice(0, 8)) {
    const inner = await imageIn(directory, folder === "" ? name : `${folder}/${name}`, levels - 1);
    if (inner !== undefined) return `${name}/${inner}`;
  }
  return undefined;
}

/** The ONNX file that a place is or holds, where it holds no other weights. */
async function onnxFileOf({ path, directory, file }: ModelPlace): Promise<string | undefined> {
  if (file !== undefined) return file.endsWith(".onnx") ? file : undefined;
  const names = await directory.list();
  if (names.some((name) => /\.(safetensors|bin|pth|pt)$/.test(name))) return undefined;
  const inner = names.includes("onnx") ? (await directory.list("onnx")).map((name) => `onnx/${name}`) : [];
  const files = [...names, ...inner].filter((name) => name.endsWith(".onnx"));
  const entry =
    ["model.onnx", "onnx/model.onnx"].find((name) => files.includes(name)) ??
    (files.length === 1 ? files[0] : undefined);
  if (files.length > 1 && entry === undefined)
    throw new UserError(`${path} holds several ONNX files (${files.slice(0, 6).join(", ")}). Name the one to read.`, {
      code: "NOT_A_MODEL",
    });
  return entry;
}

/** Reads an ONNX file as a model; what it computes behind the backbone is kept with it. */
async function readOnnx(
  { directory: folder, around }: ModelPlace,
  entry: string,
  { device, ...options }: OpenModelOptions,
): Promise<ModelDefinition> {
  const isInner = entry.startsWith("onnx/");
  const directory = isInner ? folder.below("onnx") : folder;
  const name = isInner ? entry.slice("onnx/".length) : entry;
  const path = directory.describe(name);
  const bytesOf = async (name: string): Promise<Uint8Array> => {
    const files = await readFile(directory, name, longestFile.graph);
    if (!files) throw new UserError(`There is no ${directory.describe(name)}.`, { code: "FILE_NOT_FOUND" });
    return files;
  };
  const bytes = await bytesOf(name);
  const proto = decodeOnnx(bytes, path);
  const fixed = fixedImageSize(proto, path, options.imageSize);
  const external = new Map<string, Uint8Array>();
  for (const name of externalNames(proto, path)) external.set(name, await bytesOf(name));
  const outer = isInner ? folder : around;
  const settings = await imageSettingsBeside([directory, ...(outer ? [outer] : [])], {
    imageSize: options.imageSize ?? fixed,
    // A size that is asked for is no surprise.
    warn: (message) => options.imageSize === undefined && options.warn?.(message),
  });
  const definition = await importOnnx(proto, path, external, device(), { ...options, ...settings });
  return { ...definition, origin: { ...definition.origin, bytes: bytes.byteLength + (definition.origin.bytes ?? 0) } };
}

async function readFound(place: ModelPlace, options: OpenModelOptions): Promise<ModelDefinition> {
  await refuseImages(place);
  const onnx = await onnxFileOf(place);
  if (onnx !== undefined) return readOnnx(place, onnx, options);
  const { device: _, ...reading } = options;
  return readModel(place.directory, { ...reading, ...(place.file === undefined ? {} : { weightsFile: place.file }) });
}

/**
 * Reads a model's definition from a folder, or from a file of weights with its config.json, if it has one, beside it. Throws a
 * UserError that names the file on whatever is missing or wrong.
 */
export async function openModel(place: ModelPlace, options: OpenModelOptions): Promise<ModelDefinition> {
  const definition = await readFound(place, options);
  const { transform, mean = definition.preprocessing.mean, std = definition.preprocessing.std } = options;
  const preprocessing = transform ? withTransform(definition.preprocessing, transform) : definition.preprocessing;
  const license = await readLicense(place.directory);
  const origin = { ...definition.origin, path: place.path, ...(license ? { license } : {}) };
  return { ...definition, origin, preprocessing: { ...preprocessing, mean, std } };
}
