// `wecolora/node`: the library on Node, with files on disk and ONNX Runtime in a worker thread.
import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { SaveOptions } from "../export/save.ts";
import { writeModel } from "../export/save.ts";
import { Model } from "../model.ts";
import type { ModelDefinition, ReadOptions } from "../models/definition.ts";
import { readModel } from "../models/definition.ts";
import type { Device } from "../runtime/types.ts";
import { UserError } from "../utils/errors.ts";
import { createNodeDevice } from "./node-device.ts";
import { nodeDirectory } from "./node-files.ts";

export * from "../index.ts";
export type { NodeDeviceOptions } from "./node-device.ts";
export { createNodeDevice } from "./node-device.ts";
export { nodeDirectory } from "./node-files.ts";

let sharedDevice: Device | undefined;

/** The device that models use unless they are given another: ONNX Runtime on all cores, in one worker. */
export function defaultDevice(): Device {
  sharedDevice ??= createNodeDevice();
  return sharedDevice;
}

export interface LoadOptions extends Pick<ReadOptions, "warn"> {
  readonly device?: Device;
}

/**
 * Reads a model's definition from a directory, or from a safetensors file with its config.json beside it. Throws a
 * UserError that names the file on whatever is missing or wrong.
 */
export async function readDefinition(directoryOrFile: string, options: ReadOptions = {}): Promise<ModelDefinition> {
  const stats = await stat(directoryOrFile).catch(() => undefined);
  if (!stats) throw new UserError(`there is no file or folder ${directoryOrFile}`);
  if (stats.isDirectory()) return readModel(nodeDirectory(directoryOrFile), options);
  return readModel(nodeDirectory(dirname(directoryOrFile)), { ...options, weightsFile: basename(directoryOrFile) });
}

/** Loads a model (Hugging Face ViT or DINOv2, or timm; safetensors in float32, float16 or bfloat16), ready to run. */
export async function loadModel(directoryOrFile: string, options: LoadOptions = {}): Promise<Model> {
  const definition = await readDefinition(directoryOrFile, { warn: options.warn });
  return new Model(definition, options.device ?? defaultDevice());
}

/** Writes a model into a directory (made where it is missing). Existing files of the same names are replaced. */
export async function saveModel(model: ModelDefinition, directory: string, options: SaveOptions = {}): Promise<void> {
  await writeModel(model, nodeDirectory(directory), options);
}
