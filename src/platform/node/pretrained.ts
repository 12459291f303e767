// What `fromPretrained` takes, in transformers.js's spelling, and the models that it gives.
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { Model } from "../../models/model.ts";
import type { ModelOptions } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { choosePrecision } from "../../models/precision.ts";
import type { Device, DeviceName } from "../../runtime/device.ts";
import { deviceSpellings, findDevice } from "../../runtime/devices.ts";
import { nearestName, UserError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { DownloadProgress, FileStatus } from "./hub.ts";
import { createNodeDevice, tryDevice } from "./node-device.ts";
import type { ImageInput } from "./preprocess-images.ts";
import { preprocessImages } from "./preprocess-images.ts";

/** Where a model runs: a device by name, or `auto`: the first that can be used here of CUDA, DirectML and CoreML, else the CPU. */
export type PretrainedDevice = "auto" | DeviceName;

/** How a model computes: `int8` and `q8` name the same. */
export type PretrainedDtype = "fp32" | "fp16" | "int8" | "q8";

/** What happens while a model is loaded, as transformers.js reports it. */
export type PretrainedProgress =
  /** A file is looked for. */
  | { readonly status: "initiate"; readonly name: string; readonly file: string }
  /** It is not in the cache, and its download begins or resumes. */
  | { readonly status: "download"; readonly name: string; readonly file: string }
  /** `loaded` of `total` bytes; `progress` in percent. */
  | {
      readonly status: "progress";
      readonly name: string;
      readonly file: string;
      readonly loaded: number;
      readonly total: number;
      readonly progress: number;
    }
  /** It is in the cache. */
  | { readonly status: "done"; readonly name: string; readonly file: string }
  /** The model can be run. */
  | { readonly status: "ready"; readonly model: string };

export interface PretrainedOptions {
  /**
   * Where the model runs: "auto", "cpu", "webgpu", "cuda", "dml" or "coreml" (default: "cpu"). It is tried at once. A device
   * of one's own (`createNodeDevice`) is taken as it is.
   */
  readonly device?: PretrainedDevice | Device;
  /** How it computes: "fp32", "fp16", or "int8" (also "q8") for 8-bit products on the CPU (default: "fp32"). */
  readonly dtype?: PretrainedDtype;
  /** A branch, tag or commit of a model by its hub name (default: "main"). */
  readonly revision?: string;
  /** The folder that models by hub name are cached in (default: huggingface_hub's, see HF_HOME and HF_HUB_CACHE). */
  readonly cacheDir?: string;
  /** Don't download: take models by hub name from the cache alone (default: false). */
  readonly localFilesOnly?: boolean;
  /** Pixels per side of the images, from one patch on (default: the model's own). */
  readonly imageSize?: number;
  /** The model's attention heads, where no config.json says it (default: width / 64). */
  readonly numHeads?: number;
  /** Stops loading; what was downloaded is kept and resumed the next time. */
  readonly signal?: AbortSignal;
  /** Receives what happens, in transformers.js's form. */
  readonly onProgress?: (progress: PretrainedProgress) => void;
  /** Receives what is surprising about a model's files. */
  readonly warn?: (message: string) => void;
}

/** A model that knows where it was loaded from, and reads images. */
export class PretrainedModel extends Model {
  /** The path or hub name that it was loaded by. */
  readonly source: string;

  constructor(definition: ModelDefinition, device: Device, source: string, options: ModelOptions = {}) {
    super(definition, device, options);
    this.source = source;
  }

  /**
   * Images as the model takes them: decoded, resized, cropped and normalised as evaluation does it.
   * @param images one image or several: paths, URLs (http, https, file, data), bytes, sharp instances, or pixels
   * @param options `signal` stops downloads, and images that have not begun
   * @returns pixel values `[B, 3, H, W]`
   * @throws a UserError that names the image where one can't be read
   */
  preprocess(
    images: ImageInput | readonly ImageInput[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<FloatTensor> {
    return preprocessImages(images, this.preprocessing, signal);
  }
}

/** Names of transformers.js for what is not there, and why. */
const otherDevices: Readonly<Record<string, string>> = {
  wasm: 'it runs in browsers; on Node use "cpu"',
  gpu: 'name the kind: "cuda", "webgpu", "dml" or "coreml", or "auto"',
  webnn: "ONNX Runtime has it in browsers alone",
};
const dtypes = ["fp32", "fp16", "int8", "q8"] as const;

const quoted = (names: readonly string[]) => names.map((name) => JSON.stringify(name)).join(", ");

function refuse(option: string, value: unknown, names: readonly string[], reason?: string): never {
  const near = typeof value === "string" && !reason ? nearestName(value, names) : undefined;
  throw new UserError(
    `${option} must be one of ${quoted(names)}, got ${JSON.stringify(value)}${reason ? `: ${reason}` : ""}.${near ? ` Did you mean ${JSON.stringify(near)}?` : ""}`,
    { code: "INVALID_OPTION" },
  );
}

/** Devices of this process by name, each made when it is first asked for. */
const opened = new Map<DeviceName, Promise<Device>>();

/** The device of a name, tried by a small graph. Throws a UserError that says what is missing. */
async function openDevice(name: DeviceName): Promise<Device> {
  const device = createNodeDevice({ threads: availableParallelism(), device: name });
  try {
    await tryDevice(device, name);
    return device;
  } catch (error) {
    await device.dispose();
    throw error;
  }
}

function sharedDevice(name: DeviceName): Promise<Device> {
  const device = opened.get(name) ?? openDevice(name);
  opened.set(name, device);
  device.catch(() => opened.delete(name));
  return device;
}

/** What `auto` tries before the CPU. */
const preferred: Readonly<Partial<Record<NodeJS.Platform, DeviceName>>> = {
  linux: "cuda",
  win32: "dml",
  darwin: "coreml",
};

/** Whether ONNX Runtime has its files for CUDA here; without them it prints an error to standard error. */
function hasCudaFiles(): boolean {
  const folder = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const file = `linux/${process.arch}/libonnxruntime_providers_cuda.so`;
  return readdirSync(join(folder, "bin")).some((version) => existsSync(join(folder, "bin", version, file)));
}

/** The device that an option names; `cpu` is the one that the process shares. */
export async function pretrainedDevice(option: PretrainedOptions["device"], cpu: () => Device): Promise<Device> {
  if (typeof option === "object" && option !== null) return option;
  if (option === undefined || option === "cpu") return cpu();
  if (option === "auto") {
    const name = preferred[process.platform];
    const isHopeless = name === "cuda" && !hasCudaFiles();
    const device = name && !isHopeless && (await sharedDevice(name).catch(() => undefined));
    return device || cpu();
  }
  const name = findDevice(option)?.name;
  return name === undefined
    ? refuse("device", option, ["auto", ...deviceSpellings], otherDevices[option])
    : sharedDevice(name);
}

/** Throws a UserError where a dtype is none that models can run in. */
export function checkDtype(dtype: unknown): void {
  if (dtype !== undefined && !dtypes.some((one) => one === dtype)) refuse("dtype", dtype, dtypes);
}

/** A definition as a model that computes in a dtype. */
export async function pretrainedModel(
  definition: ModelDefinition,
  device: Device,
  source: string,
  dtype: PretrainedDtype = "fp32",
): Promise<PretrainedModel> {
  if (dtype === "fp16") return new PretrainedModel(definition, device, source, { half: true });
  if (dtype === "fp32") return new PretrainedModel(definition, device, source);
  // Only the CPU's device says how many threads it has.
  if (device.threads === undefined)
    throw new UserError(`dtype ${JSON.stringify(dtype)} runs on the CPU alone; use "fp32" or "fp16" on this device.`, {
      code: "INVALID_OPTION",
    });
  const exact = new Model(definition, device);
  const { int8 } = await choosePrecision(exact, { wanted: "int8" });
  return new PretrainedModel(definition, device, source, { int8 });
}

/** What the hub client reports, as transformers.js's events. */
export function progressEvents(
  name: string,
  onProgress: (progress: PretrainedProgress) => void,
): { fileStatus(status: FileStatus, file: string): void; progress(progress: DownloadProgress): void } {
  const seen = new Set<string>();
  return {
    fileStatus(status, file) {
      // A retry begins a download again.
      if (seen.has(`${status} ${file}`)) return;
      seen.add(`${status} ${file}`);
      onProgress({ status, name, file });
    },
    progress: ({ file, done, total }) =>
      onProgress({
        status: "progress",
        name,
        file,
        loaded: done,
        total,
        progress: total > 0 ? (100 * done) / total : 100,
      }),
  };
}
