// Models in a browser: what may be given as one, and one that is ready to run.
import { directoryOf } from "./web-inputs.ts";
import type { DirectoryInput } from "./web-inputs.ts";
import type { Decode } from "../../data/image-reader.ts";
import type { ForwardOptions, ForwardResult, ModelOptions } from "../../models/model.ts";
import { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { VitConfig } from "../../models/config.ts";
import type { Device } from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import type { Preprocessing } from "../../utils/image.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { openModel } from "../open-model.ts";
import { isHubName } from "../hub-names.ts";
import type { HubOptions } from "./hub.ts";
import { hubDirectory } from "./hub.ts";
import type { Mounts } from "./web-files.ts";
import type { WebImage } from "./web-images.ts";
import { preprocessWebImages } from "./web-images.ts";

/**
 * A model: its hub name, the URL of its folder or file, its files (File, FileList, File[]), a zip of them, a directory handle, or
 * a Directory.
 */
export type WebModelInput = string | URL | DirectoryInput;

/** What happens while a model is loaded, as transformers.js reports it. */
export type WebProgress =
  | { readonly status: "initiate" | "download" | "done"; readonly name: string; readonly file: string }
  /** `loaded` of `total` bytes; `progress` in percent. */
  | {
      readonly status: "progress";
      readonly name: string;
      readonly file: string;
      readonly loaded: number;
      readonly total: number;
      readonly progress: number;
    }
  /** The model can be run. */
  | { readonly status: "ready"; readonly model: string };

export interface WebPretrainedOptions {
  /** A branch, tag or commit of a model by its hub name (default: "main"). */
  readonly revision?: string;
  /** Don't download: take models by hub name from the browser's cache alone (default: false). */
  readonly localFilesOnly?: boolean;
  /** Pixels per side of the images, from one patch on (default: the model's own). */
  readonly imageSize?: number;
  /** The model's attention heads, where no config.json says it (default: width / 64). */
  readonly numHeads?: number;
  /** Stops loading. */
  readonly signal?: AbortSignal;
  /** Receives what happens, in transformers.js's form. */
  readonly onProgress?: (progress: WebProgress) => void;
  /** Receives what is surprising about a model's files. */
  readonly warn?: (message: string) => void;
}

/** A model that is ready to run, here or in a worker. */
export interface WebModel {
  /** What it was loaded from: a hub name, a URL, or the name of its folder. */
  readonly source: string;
  readonly config: VitConfig;
  readonly preprocessing: Preprocessing;
  /** Numbers in its weights. */
  readonly parameters: number;
  /** Bytes that its weights take on disk, where that is known. */
  readonly bytes: number | undefined;
  /** Images as pixel values `[B, 3, H, W]`: decoded, resized, cropped and normalised as evaluation does it. */
  preprocess(images: WebImage | readonly WebImage[], options?: { readonly signal?: AbortSignal }): Promise<FloatTensor>;
  /** Runs the model on pixel values; see `Model.forward`. */
  forward(pixels: FloatTensor, options?: ForwardOptions): Promise<ForwardResult>;
  dispose(): Promise<void>;
}

/** A model in this thread, which stands in mounted files under `path`. */
export class LocalModel extends Model implements WebModel {
  readonly source: string;
  /** The path that commands know it by. */
  readonly path: string;
  private readonly decode: Decode;

  constructor(
    definition: ModelDefinition,
    device: Device,
    { source, path, decode, ...options }: ModelOptions & Pick<LocalModel, "source" | "path"> & { decode: Decode },
  ) {
    super(definition, device, options);
    this.source = source;
    this.path = path;
    this.decode = decode;
  }

  get bytes(): number | undefined {
    return this.origin.bytes;
  }

  preprocess(
    images: WebImage | readonly WebImage[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<FloatTensor> {
    return preprocessWebImages(images, this.preprocessing, this.decode, signal);
  }
}

/** How a model's files are found, and what its path is then. */
export interface ModelFiles {
  readonly mounts: Mounts;
  readonly hub: Pick<HubOptions, "endpoint" | "cacheName">;
}

/** Files of weights that are a model by themselves, with or without a configuration beside them. */
const weightsFile = /\.(safetensors|bin|pth|pt|ckpt|onnx)$/i;

/** Mounts a model's files and gives its path. Models by hub names are read through the cache. */
export async function mountModel(
  { mounts, hub }: ModelFiles,
  input: WebModelInput,
  options: Omit<HubOptions, "endpoint" | "cacheName">,
): Promise<{ readonly path: string; readonly hub?: string }> {
  if (typeof input === "string" && isHubName(input)) {
    const directory = await hubDirectory(input, { ...hub, ...options });
    return { path: mounts.add(input, directory), hub: input };
  }
  const { name, directory, file } = await directoryOf(input, "model", options.signal);
  const path = mounts.add(name, directory);
  const names = await directory.list();
  const weights = names.filter((one) => weightsFile.test(one));
  // One file that was chosen is meant; of several, the folder's reader knows which.
  const only = file ?? (names.length === 1 && weights.length === 1 ? weights[0] : undefined);
  return { path: only === undefined ? path : `${path}/${only}` };
}

/** Reads a model at a path of mounted files. Throws a UserError that names what is missing or wrong. */
export async function readMounted(
  mounts: Mounts,
  path: string,
  options: Parameters<typeof openModel>[1],
): Promise<ModelDefinition> {
  const kind = await mounts.kindOf(path);
  if (kind === "folder") return openModel({ path, directory: mounts.directory(path) }, options);
  if (kind === undefined) throw new UserError(`There is no file or folder ${path}.`, { code: "FILE_NOT_FOUND" });
  const { directory, name } = mounts.split(path);
  return openModel({ path, directory, file: name }, options);
}
