// A model as data: configuration, weights, preprocessing, and where it came from. Reading one from a directory.

import { findWeights, openCheckpoint } from "../checkpoints/checkpoint.ts";
import type { Directory } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import { badOption } from "../utils/parse-options.ts";
import type { WeightType } from "../utils/half.ts";
import type { Preprocessing, TransformChoice } from "../utils/image.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { elementCount } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import type { License } from "./license.ts";
import { patchCount, withHeadCount } from "./config.ts";
import { findBackbone } from "./find-backbone.ts";
import { headsBeside } from "./heads-beside.ts";
import { assumedHeads } from "./layouts/assumed-heads.ts";
import type { Json, Layout } from "./layouts/registry.ts";
import { findLayout } from "./layouts/registry.ts";
import { readJson, withoutNulls } from "./json.ts";
import { resamplePositions } from "./positions.ts";
import { isTimmWrapper, readPreprocessor, resizeTo } from "./preprocessing.ts";
import type { NamedTensors } from "./weights.ts";
import { evidenceOf, readWeights } from "./weights.ts";

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
  /** The commit that it was read at there. */
  readonly commit?: string;
  /** Bytes that the weights take on disk. */
  readonly bytes?: number;
  /** The licence that its model card states. */
  readonly license?: License;
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
  /** The number of heads, where no configuration says it; weights don't tell, so that of published models of this width is taken without it. */
  readonly numHeads?: number;
  /** Pixels per side of the images to run on; position tables are resampled as the model's own library does it. */
  readonly imageSize?: number;
  /** Bytes of memory at hand, which bound the image size that may be asked for. */
  readonly memory?: number;
  /** Of images' channels, in place of the model's own. */
  readonly mean?: Preprocessing["mean"];
  readonly std?: Preprocessing["std"];
  /** How images are resized and cropped, in place of the model's own transform. */
  readonly transform?: TransformChoice;
  /** Told what was guessed for want of a file. */
  readonly warn?: (message: string) => void;
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
    const named = findBackbone(checkpoint.tensors, checkpoint.name, config && { json: config, file: configFile }, warn);
    const { layout } = named;
    const source = config ? configFile : checkpoint.name;
    const settings = layout.settings(withoutNulls(config ?? {}));
    const evidence = evidenceOf(named);
    const isOpen = !config && options.numHeads === undefined;
    const beside = isOpen ? await headsBeside(directory, layout, evidence) : undefined;
    const numHeads = options.numHeads ?? beside?.heads ?? (config ? undefined : assumedHeads(evidence, source));
    const vit = readVitConfig(layout, settings, source, named, { ...options, numHeads });
    if (!config) {
      const assumed = beside
        ? `as in ${beside.file}, whose sizes are the same`
        : `as published models of width ${vit.width} have`;
      const heads = isOpen
        ? `. ${vit.heads} heads are assumed, ${assumed}. Give numHeads (--num-heads) if this one has another number`
        : "";
      warn(
        `There is no ${configFile}: ${checkpoint.name} is read as ${layout.name} by its weights' names and shapes${heads}`,
      );
    }
    if (options.imageSize !== undefined) checkImageSize(vit, options.imageSize, options.memory);
    const preprocessing = await readPreprocessing(directory, layout, config ?? {}, source, vit, warn);
    const { weights, carried } = await readWeights(named, vit, checkpoint.name, warn);
    const origin: ModelOrigin = {
      layout: layout.name,
      bytes: checkpoint.bytes,
      config: config ?? {},
      weightType: storedType(named),
      carried,
    };
    return fitImages({ config: vit, weights, preprocessing, origin }, layout, options.imageSize, warn);
  } finally {
    await checkpoint.close();
  }
}

/** Bytes that attention over one image may take where nobody says how much memory there is. */
const defaultMemory = 16 * 2 ** 30;

/**
 * Throws an OptionError where an image size that was asked for is below one patch, or so large that the attention of one image
 * (scores and their softmax, heads x tokens^2 numbers each) is beyond the memory.
 */
export function checkImageSize(
  { patchSize, heads }: Pick<VitConfig, "patchSize" | "heads">,
  imageSize: number,
  memory = defaultMemory,
): void {
  const side = Math.floor((memory / (2 * 4 * heads)) ** (1 / 4));
  const most = patchSize * Math.max(1, side);
  if (imageSize < patchSize || imageSize > most)
    throw badOption(
      "imageSize",
      `between ${patchSize} (one patch) and ${most} (the attention over more patches is beyond this machine's memory)`,
      imageSize,
    );
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
      { code: "NOT_A_VIT" },
    );
  }
  const heads = options.numHeads ?? read.heads;
  // Fewer heads than the width has room for show in the map behind them, but where blocks differ: `heads` are then the teacher's.
  const shown = read.blocks ? undefined : evidence.shape("blocks.0.attn.proj.weight")?.[1];
  const mixed = read.headWidth ? read.heads * read.headWidth : (shown ?? read.width);
  if (mixed % heads !== 0)
    throw new UserError(`${file}: ${heads} heads don't divide the width ${mixed}`, { code: "NOT_A_VIT" });
  const config = withHeadCount(read, heads, mixed);
  if (config.patchSize > config.imageSize) {
    throw new UserError(`${file}: patches of ${config.patchSize} pixels don't fit images of ${config.imageSize}`, {
      code: "NOT_A_VIT",
    });
  }
  if (config.channels !== 3) {
    throw new UserError(`${file}: the model takes images of ${config.channels} channels; only 3 can be read`, {
      code: "NOT_A_VIT",
    });
  }
  return config;
}

/** `model_type` of a directory's config.json, where it has one. */
export async function modelTypeIn(directory: Directory): Promise<unknown> {
  return (await readJson(directory, "config.json"))?.model_type;
}

/** What stands of the image processor in a processor's file: transformers 5 writes both into one. */
function imageProcessorIn(processor: Json | undefined, file: string): Json | undefined {
  const inner = processor?.image_processor;
  if (inner === undefined || inner === null) return undefined;
  if (typeof inner === "object" && !Array.isArray(inner)) return inner as Json;
  throw new UserError(`image_processor in ${file} must be an object, got ${JSON.stringify(inner)}`, {
    code: "NOT_A_MODEL",
  });
}

/**
 * What a directory's preprocessor files say, where it has one: as in transformers, the image processor in
 * processor_config.json goes before preprocessor_config.json.
 */
export async function readPreprocessorFile(
  directory: Directory,
  imageSize: number,
  modelType?: unknown,
  warn?: (message: string) => void,
): Promise<Preprocessing | undefined> {
  const nested = "processor_config.json";
  const alone = "preprocessor_config.json";
  const inner = imageProcessorIn(await readJson(directory, nested), directory.describe(nested));
  const json = inner ?? (await readJson(directory, alone));
  const file = directory.describe(inner ? nested : alone);
  if (!json || isTimmWrapper(json, file)) return undefined;
  return readPreprocessor(json, imageSize, file, { modelType, warn });
}

async function readPreprocessing(
  directory: Directory,
  layout: Layout,
  config: Json,
  source: string,
  { imageSize }: VitConfig,
  warn: (message: string) => void,
): Promise<Preprocessing> {
  const file = directory.describe("preprocessor_config.json");
  const stated = await readPreprocessorFile(directory, imageSize, config.model_type, warn);
  if (stated) return stated;
  const { value, guessed } = layout.defaultPreprocessing(layout.settings(config), imageSize, source, warn);
  if (guessed) {
    warn(
      `There is no ${file}; using the default of ${layout.name}: mean ${value.mean.join(", ")}, std ${value.std.join(", ")}`,
    );
  }
  return value;
}

/**
 * Model and transform agreed on one size: the one asked for, or the preprocessor's where the model's library takes any,
 * else the model's.
 */
function fitImages(
  model: ModelDefinition,
  layout: Layout,
  asked: number | undefined,
  warn: (message: string) => void,
): ModelDefinition {
  const { config, preprocessing } = model;
  const imageSize = asked ?? (layout.anySize ? preprocessing.cropSize : config.imageSize);
  if (imageSize < config.patchSize) {
    throw new UserError(`Images of ${imageSize} pixels are smaller than one patch of ${config.patchSize}`, {
      code: "INVALID_OPTION",
    });
  }
  const resized = resizeModel(model, imageSize);
  const bare = Object.keys(model.origin.config).length === 0;
  if (bare && resized.weights.get("pos_embed") !== model.weights.get("pos_embed"))
    warn(`Its position table is resampled for ${imageSize} pixels as ${resamplingOwners[config.resampling]}`);
  return withImageSize(resized, { imageSize: asked, warn });
}

/** The model with a transform that makes images of the model's size. */
export function withImageSize(
  model: ModelDefinition,
  { imageSize: asked, warn = () => undefined }: Pick<ReadOptions, "imageSize" | "warn">,
): ModelDefinition {
  const { config, preprocessing } = model;
  const { imageSize } = config;
  if (preprocessing.cropSize === imageSize) return model;
  if (asked === undefined) {
    warn(
      `The preprocessor makes images of ${preprocessing.cropSize} pixels, but the model takes ${imageSize}; images are resized in the same proportions to ${imageSize}`,
    );
  }
  return { ...model, preprocessing: resizeTo(preprocessing, imageSize) };
}

/**
 * The model for images of another size: its position table, as it was read, is resampled as its own library does it, and its transform makes
 * images of that size in the same proportions.
 */
export function forImageSize(model: ModelDefinition, imageSize: number): ModelDefinition {
  const { config, weights, preprocessing, origin } = model;
  return withImageSize(resizeModel({ config, weights, preprocessing, origin }, imageSize), { imageSize });
}

/** Who resamples so, for files that don't say whose they are. */
const resamplingOwners: Readonly<Record<VitConfig["resampling"], string>> = {
  bicubic: "transformers does it (bicubic)",
  "bicubic-antialiased": "timm and DINOv2 with registers do it (bicubic, antialiased)",
  "bicubic-offset": "DINO's and DINOv2's authors do it (bicubic, offset 0.1)",
};

/** The model for images of another size: its position table is resampled as its own library does it. */
function resizeModel(model: ModelDefinition, imageSize: number): ModelDefinition {
  const config = { ...model.config, imageSize };
  const table = model.weights.get("pos_embed");
  if (!table || config.positions.kind !== "learned" || patchCount(config) === patchCount(model.config))
    return { ...model, config };
  const side = Math.floor(imageSize / config.patchSize);
  const resampled = resamplePositions(table, config.positions.prefix, [side, side], config.resampling);
  return { ...model, config, weights: new Map(model.weights).set("pos_embed", resampled) };
}

/** The type of most of the backbone's numbers. */
function storedType({ tensors, prefix }: NamedTensors): WeightType {
  const counts = { float32: 0, float16: 0, bfloat16: 0 };
  for (const [name, { type, dims }] of tensors)
    if (type && type in counts && name.startsWith(prefix)) counts[type as WeightType] += elementCount(dims);
  return counts.float16 > counts.float32 + counts.bfloat16
    ? "float16"
    : counts.bfloat16 > counts.float32
      ? "bfloat16"
      : "float32";
}
