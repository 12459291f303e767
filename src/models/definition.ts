// A model as data: configuration, weights, preprocessing, and where it came from. Reading one from a directory.

import { readSafetensors } from "../checkpoints/safetensors.ts";
import type { Directory } from "../checkpoints/storage.ts";
import { readText } from "../checkpoints/storage.ts";
import { UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import type { Preprocessing } from "../utils/picture.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import type { Json } from "./layouts.ts";
import { findLayout } from "./layouts.ts";
import { readPreprocessor } from "./preprocessing.ts";
import { readWeights, weightFinder } from "./weights.ts";

export interface ModelOrigin {
  /** The layout that it was read as. */
  readonly layout: string;
  /** The configuration file's content, of which saving keeps what it does not change. */
  readonly config: Json;
  /** The type that the file's matrices have, and that saving keeps. */
  readonly weightType: WeightType;
  readonly carried: ReadonlyMap<string, Tensor>;
}

export interface ModelDefinition {
  readonly config: VitConfig;
  /** By timm's names, `[out, in]` for linear maps. */
  readonly weights: ReadonlyMap<string, FloatTensor>;
  readonly preprocessing: Preprocessing;
  readonly origin: ModelOrigin;
}

/** Numbers in all weights that a forward pass reads. */
export function parameterCount({ weights }: ModelDefinition): number {
  let count = 0;
  for (const { data } of weights.values()) count += data.length;
  return count;
}

export interface ReadOptions {
  /** The weights' file in the directory. */
  readonly weightsFile?: string;
  /** Told what was guessed for want of a file. */
  readonly warn?: (message: string) => void;
}

async function readJson(directory: Directory, entry: string): Promise<Json | undefined> {
  const text = await readText(directory, entry);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${directory.describe(entry)} is not valid JSON: ${(error as Error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${directory.describe(entry)} must hold a JSON object`);
  }
  return value as Json;
}

/**
 * Reads a model from a directory with `config.json` and `model.safetensors`, in any layout that is known. Throws a
 * UserError on what is missing or wrong, naming the file.
 */
export async function readModel(directory: Directory, options: ReadOptions = {}): Promise<ModelDefinition> {
  const config = await readJson(directory, "config.json");
  if (!config) throw new UserError(`there is no ${directory.describe("config.json")}; a model's directory has one`);
  const configFile = directory.describe("config.json");
  const layout = findLayout(config, configFile);
  const weightsEntry = options.weightsFile ?? "model.safetensors";
  const file = await directory.open(weightsEntry);
  if (!file) {
    const others = (await directory.list()).filter((name) => /\.(pth|pt|bin|onnx|safetensors|index\.json)$/.test(name));
    const hint = others.length > 0 ? ` (found ${others.join(", ")}, which can't be read yet)` : "";
    throw new UserError(`there is no ${directory.describe(weightsEntry)}${hint}`);
  }
  let tensors: Map<string, Tensor>;
  try {
    tensors = (await readSafetensors(file)).tensors;
  } finally {
    await file.close();
  }
  const vit = layout.readConfig(config, configFile, weightFinder(layout, tensors));
  checkConfig(vit, configFile);
  const { weights, carried } = readWeights(layout, vit, tensors, file.name);
  const preprocessor = await readJson(directory, "preprocessor_config.json");
  let preprocessing: Preprocessing;
  if (preprocessor) {
    preprocessing = readPreprocessor(preprocessor, vit.imageSize, directory.describe("preprocessor_config.json"));
  } else {
    const { value, guessed } = layout.defaultPreprocessing(config, vit.imageSize, configFile);
    preprocessing = value;
    if (guessed) {
      options.warn?.(
        `there is no ${directory.describe("preprocessor_config.json")}; taking what is usual for ${layout.name}: ` +
          `mean ${value.mean.join(", ")}, std ${value.std.join(", ")}`,
      );
    }
  }
  if (preprocessing.cropSize !== vit.imageSize) {
    preprocessing = resizeTo(preprocessing, vit.imageSize);
    options.warn?.(
      `the preprocessor's pictures are of another size than the model's ${vit.imageSize}; using the model's`,
    );
  }
  const weightType = storedType(tensors);
  return { config: vit, weights, preprocessing, origin: { layout: layout.name, config, weightType, carried } };
}

/** The same proportions at another crop. */
function resizeTo(preprocessing: Preprocessing, imageSize: number): Preprocessing {
  const scale = imageSize / preprocessing.cropSize;
  const { resize } = preprocessing;
  return {
    ...preprocessing,
    cropSize: imageSize,
    resize:
      "shortestEdge" in resize
        ? { shortestEdge: Math.max(imageSize, Math.floor(resize.shortestEdge * scale)) }
        : { height: imageSize, width: imageSize },
  };
}

function checkConfig(config: VitConfig, file: string): void {
  if (config.width % config.heads !== 0) {
    throw new UserError(`${file}: ${config.heads} heads don't divide the width ${config.width}`);
  }
  if (config.patchSize > config.imageSize) {
    throw new UserError(`${file}: patches of ${config.patchSize} pixels don't fit pictures of ${config.imageSize}`);
  }
  if (config.channels !== 3) {
    throw new UserError(`${file}: the model takes pictures of ${config.channels} channels; only 3 can be read`);
  }
}

/** The type of most numbers. */
function storedType(tensors: ReadonlyMap<string, Tensor>): WeightType {
  const counts = { float32: 0, float16: 0, bfloat16: 0 };
  for (const { type, data } of tensors.values()) if (type in counts) counts[type as WeightType] += data.length;
  return counts.float16 > counts.float32 + counts.bfloat16
    ? "float16"
    : counts.bfloat16 > counts.float32
      ? "bfloat16"
      : "float32";
}
