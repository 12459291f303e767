// A model as data: configuration, weights, preprocessing, and where it came from. Reading one from a directory.

import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { findWeights, openCheckpoint } from "../checkpoints/checkpoint.ts";
import type { Directory, StoredTensors } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { elementCount } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import { patchCount, withHeadCount } from "./config.ts";
import type { Json, Layout } from "./layouts/registry.ts";
import { findLayout, layouts } from "./layouts/registry.ts";
import { resamplePositions } from "./positions.ts";
import { readPreprocessor } from "./preprocessing.ts";
import type { NamedTensors } from "./weights.ts";
import { evidenceOf, findPrefix, nameTensors, readWeights } from "./weights.ts";

/** What a model's file computes behind the backbone, and can compute behind a smaller one. */
export interface Application {
  /** The teacher's block that each block of this model ends at. */
  readonly stands: readonly number[];
  /** The file's bytes with this model in the backbone's place. */
  put(model: ModelDefinition, stands: readonly number[]): readonly Uint8Array[];
}

export interface ModelOrigin {
  /** The layout that it was read as. */
  readonly layout: string;
  /** The path or hub name that it was read from, for messages; a student that is made of it has none. */
  readonly path?: string;
  /** Its name on the hub, where it comes from there. */
  readonly hub?: string;
  /** Bytes that the weights take on disk. */
  readonly bytes?: number;
  /** The configuration file's content, of which saving keeps what it does not change. */
  readonly config: Json;
  /** The type that the file's matrices have, and that saving keeps. */
  readonly weightType: WeightType;
  readonly carried: ReadonlyMap<string, Tensor>;
  /** Where the model comes from an ONNX file that holds more than a backbone. */
  readonly application?: Application;
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
  for (const { dims } of weights.values()) count += elementCount(dims);
  return count;
}

export interface ReadOptions {
  /** The weights' file in the directory; found by itself where left out. */
  readonly weightsFile?: string;
  /** The number of heads, where no configuration says it; weights don't tell, so width / 64 is taken without it. */
  readonly numHeads?: number;
  /** Pixels per side of the pictures to run on; position tables are resampled as the model's own library does it. */
  readonly imageSize?: number;
  /** Of pictures' channels, in place of the model's own. */
  readonly mean?: Preprocessing["mean"];
  readonly std?: Preprocessing["std"];
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

/** The layout and prefix of a file's weights; without a configuration, the first layout whose names are there. */
function recogniseWeights(config: Json | undefined, configFile: string, checkpoint: Checkpoint): NamedTensors {
  const names = checkpoint.tensors.keys();
  if (config) {
    const layout = findLayout(config, configFile);
    return nameTensors(layout, checkpoint.tensors, findPrefix(layout, names) ?? "");
  }
  const all = [...names];
  for (const layout of layouts) {
    const prefix = findPrefix(layout, all);
    if (prefix === undefined) continue;
    const named = nameTensors(layout, checkpoint.tensors, prefix);
    const { shape } = evidenceOf(named);
    if (layout.recognises((ours) => shape(ours) !== undefined)) return named;
  }
  const some = all.slice(0, 4).join(", ");
  throw new UserError(
    `${checkpoint.name} holds no vision transformer that is known here, by the names of its weights (${some}${all.length > 4 ? ", ..." : ""})`,
  );
}

/**
 * Reads a model from a directory: weights as safetensors (one file or shards) or as PyTorch's .pth and .bin, with
 * config.json or, for weights whose names tell enough, without one. Throws a UserError on what is missing or wrong,
 * naming the file.
 */
export async function readModel(directory: Directory, options: ReadOptions = {}): Promise<ModelDefinition> {
  const { warn = () => undefined } = options;
  const config = await readJson(directory, "config.json");
  const configFile = directory.describe("config.json");
  if (config) findLayout(config, configFile);
  const checkpoint = await openCheckpoint(directory, options.weightsFile ?? (await findWeights(directory)));
  try {
    const named = recogniseWeights(config, configFile, checkpoint);
    const { layout } = named;
    const source = config ? configFile : checkpoint.name;
    const settings = layout.settings(config ?? {});
    const vit = readVitConfig(layout, settings, source, named, options);
    if (!config) {
      const heads =
        options.numHeads === undefined
          ? `; ${vit.heads} heads are taken (width / 64): say numHeads (--num-heads) where it has others`
          : "";
      warn(
        `there is no ${configFile}: ${checkpoint.name} is read as ${layout.name} by its weights' names and shapes${heads}`,
      );
    }
    const preprocessing = await readPreprocessing(directory, layout, settings, source, vit, warn);
    const { weights, carried } = await readWeights(named, vit, checkpoint.name, warn);
    const origin: ModelOrigin = {
      layout: layout.name,
      bytes: checkpoint.bytes,
      config: config ?? {},
      weightType: storedType(checkpoint.tensors),
      carried,
    };
    return fitPictures({ config: vit, weights, preprocessing, origin }, layout, options.imageSize, warn);
  } finally {
    await checkpoint.close();
  }
}

/** Blocks that weights may lack and still have each missing weight named. */
const mostMissingBlocks = 100;

function readVitConfig(
  layout: Layout,
  settings: Json,
  file: string,
  named: NamedTensors,
  options: ReadOptions,
): VitConfig {
  const evidence = evidenceOf(named, options.numHeads);
  const read = layout.readConfig(settings, file, evidence);
  // Lists of missing weights are for slips, not for numbers beyond all measure.
  if (read.depth > evidence.depth + mostMissingBlocks) {
    throw new UserError(
      `${file} says that there are ${read.depth} blocks, but the weights have ${evidence.depth}, read as ${layout.name}`,
    );
  }
  const heads = options.numHeads ?? read.heads;
  // Fewer heads than the width has room for show in the map behind them.
  const mixed = read.headWidth
    ? read.heads * read.headWidth
    : (evidence.shape("blocks.0.attn.proj.weight")?.[1] ?? read.width);
  if (mixed % heads !== 0) throw new UserError(`${file}: ${heads} heads don't divide the width ${mixed}`);
  const config = withHeadCount(read, heads, mixed);
  if (config.patchSize > config.imageSize) {
    throw new UserError(`${file}: patches of ${config.patchSize} pixels don't fit pictures of ${config.imageSize}`);
  }
  if (config.channels !== 3) {
    throw new UserError(`${file}: the model takes pictures of ${config.channels} channels; only 3 can be read`);
  }
  return config;
}

/** What a directory's preprocessor_config.json says, where it has one. */
export async function readPreprocessorFile(
  directory: Directory,
  imageSize: number,
): Promise<Preprocessing | undefined> {
  const entry = "preprocessor_config.json";
  const preprocessor = await readJson(directory, entry);
  return preprocessor && readPreprocessor(preprocessor, imageSize, directory.describe(entry));
}

async function readPreprocessing(
  directory: Directory,
  layout: Layout,
  settings: Json,
  source: string,
  { imageSize }: VitConfig,
  warn: (message: string) => void,
): Promise<Preprocessing> {
  const file = directory.describe("preprocessor_config.json");
  const said = await readPreprocessorFile(directory, imageSize);
  if (said) return said;
  const { value, guessed } = layout.defaultPreprocessing(settings, imageSize, source);
  if (guessed) {
    warn(
      `there is no ${file}; taking what is usual for ${layout.name}: mean ${value.mean.join(", ")}, std ${value.std.join(", ")}`,
    );
  }
  return value;
}

/**
 * Model and transform agreed on one size: the one asked for, or the preprocessor's where the model's library takes any,
 * else the model's.
 */
function fitPictures(
  model: ModelDefinition,
  layout: Layout,
  asked: number | undefined,
  warn: (message: string) => void,
): ModelDefinition {
  const { config, preprocessing } = model;
  const imageSize = asked ?? (layout.anySize ? preprocessing.cropSize : config.imageSize);
  if (imageSize < config.patchSize) {
    throw new UserError(`pictures of ${imageSize} pixels are smaller than one patch of ${config.patchSize}`);
  }
  const resized = resizeModel(model, layout, imageSize);
  if (preprocessing.cropSize === imageSize) return resized;
  if (asked === undefined) {
    warn(`the preprocessor's pictures are of another size than the model's ${imageSize}; using the model's`);
  }
  return { ...resized, preprocessing: resizeTo(preprocessing, imageSize) };
}

/** The model for pictures of another size: its position table is resampled as its own library does it. */
function resizeModel(model: ModelDefinition, layout: Layout, imageSize: number): ModelDefinition {
  const config = { ...model.config, imageSize };
  const table = model.weights.get("pos_embed");
  if (!table || config.positions.kind !== "learned" || patchCount(config) === patchCount(model.config))
    return { ...model, config };
  const side = Math.floor(imageSize / config.patchSize);
  const resampled = resamplePositions(table, config.positions.prefix, [side, side], layout.resampling);
  return { ...model, config, weights: new Map(model.weights).set("pos_embed", resampled) };
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

/** The type of most numbers. */
function storedType(tensors: StoredTensors): WeightType {
  const counts = { float32: 0, float16: 0, bfloat16: 0 };
  for (const { type, dims } of tensors.values()) if (type in counts) counts[type as WeightType] += elementCount(dims);
  return counts.float16 > counts.float32 + counts.bfloat16
    ? "float16"
    : counts.bfloat16 > counts.float32
      ? "bfloat16"
      : "float32";
}
