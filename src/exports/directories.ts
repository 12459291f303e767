// What directories of models share: configuration, preprocessor, weights as safetensors and ONNX.
import { writeSafetensors } from "../checkpoints/safetensors-file.ts";
import type { Directory } from "../files/storage.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { Layout } from "../models/layouts/registry.ts";
import { writePreprocessor } from "../models/preprocessing.ts";
import { nameWeights } from "../models/weights.ts";
import type { Chunks } from "../engine/onnx/chunks.ts";
import type { WeightType } from "../utils/half.ts";
import { fromFloat32, toFloat32 } from "../utils/half.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { conformTo, isHeldBy } from "../models/conform.ts";
import type { Warn } from "./export-format.ts";
import type { OnnxVariant } from "./onnx-file.ts";
import { defaultOnnx, writeOnnxFile } from "./onnx-file.ts";

/** The model with its weights rounded to the type that its file holds, so that every file written agrees with it. */
export function roundWeights<M extends ModelDefinition>(model: M, type: WeightType): M {
  if (type === "float32") return model;
  const weights = new Map<string, FloatTensor>();
  for (const [name, tensor] of model.weights) weights.set(name, toFloat32(fromFloat32(tensor, type)));
  return { ...model, weights };
}

/** Fields of config.json that Python reads as floats only, where `1` is refused and `1.0` is wanted. */
const floatFields = new Set([
  "attention_dropout",
  "attention_probs_dropout_prob",
  "drop_path_rate",
  "hidden_dropout_prob",
  "initializer_factor",
  "initializer_range",
  "layer_norm_eps",
  "layerscale_value",
  "logit_scale_init_value",
  "lora_dropout",
  "mask_ratio",
  "pos_embed_jitter",
  "pos_embed_rescale",
  "pos_embed_shift",
  "rope_theta",
]);
const wholeFloat = "whole float ";

/** A JSON file as Python's libraries read it. */
export function jsonFile(value: unknown): Chunks {
  const mark = (key: string, item: unknown) =>
    floatFields.has(key) && Number.isInteger(item) ? `${wholeFloat}${String(item)}` : item;
  const text = JSON.stringify(value, mark, 2).replace(new RegExp(`"${wholeFloat}(-?\\d+)"`, "g"), "$1.0");
  return [new TextEncoder().encode(`${text}\n`)];
}

/** Preprocessor and configuration; the configuration last, so that a directory with one is whole. */
async function writeSettings(
  layout: Layout,
  model: ModelDefinition,
  directory: Directory,
  weightType: WeightType,
  warn: Warn,
): Promise<void> {
  const { json, differences } = writePreprocessor(model.preprocessing);
  for (const difference of differences) warn(`preprocessor_config.json: ${difference}`);
  await directory.write("preprocessor_config.json", jsonFile(json));
  const original = model.origin.layout === layout.name ? model.origin.config : undefined;
  const config = layout.writeConfig(model.config, original, model.preprocessing);
  await directory.write("config.json", jsonFile({ ...config, dtype: weightType }));
}

/**
 * Writes a directory with safetensors, ONNX, preprocessor and configuration, in a layout of `library`. `weightType` is
 * that of the safetensors file; model.onnx holds the same numbers as float32, model_quantized.onnx linear maps in int8.
 */
export async function writeWithOnnx(
  model: ModelDefinition,
  library: "transformers" | "wecolora",
  directory: Directory,
  weightType: WeightType,
  warn: Warn = () => undefined,
): Promise<void> {
  const { layout, model: written } = conformTo(model, library);
  const rounded = roundWeights(written, weightType);
  await directory.write("model.safetensors", weightsFile(layout, rounded, weightType));
  for (const variant of defaultOnnx) await writeOnnxFile(rounded, directory, variant);
  await writeSettings(layout, written, directory, weightType, warn);
}

/** A model as an ONNX file is to hold it, and how that is written. */
type Prepared = { readonly model: ModelDefinition; readonly variant: OnnxVariant };

/**
 * Writes a directory with an ONNX file alone beside its settings, for transformers.js and other runtimes. The variant may
 * depend on the model as the file's library holds it.
 */
export async function writeOnnxDirectory(
  given: ModelDefinition,
  directory: Directory,
  variantOf: OnnxVariant | ((written: ModelDefinition) => Promise<Prepared>),
  warn: Warn = () => undefined,
): Promise<void> {
  // Merging is in the graph alone: the settings are those of the library's own class.
  const { config, weights, preprocessing, origin } = given;
  const { merging } = config;
  const whole = { config: { ...config, merging: undefined }, weights, preprocessing, origin };
  const { layout, model: written } = conformTo(whole, isHeldBy(whole, "transformers") ? "transformers" : "wecolora");
  const { model, variant } =
    typeof variantOf === "function" ? await variantOf(written) : { model: written, variant: variantOf };
  await writeOnnxFile({ ...model, config: { ...model.config, merging } }, directory, variant);
  await writeSettings(layout, written, directory, variant.weightType, warn);
}

/** A model's weights under a layout's names, as a safetensors file. */
export function weightsFile(layout: Layout, model: ModelDefinition, weightType: WeightType): Chunks {
  const stored = new Map<string, Tensor>();
  const named = nameWeights(layout, model.config, {
    weights: new Map(model.weights),
    carried: model.origin.layout === layout.name ? new Map(model.origin.carried) : new Map(),
  });
  for (const [name, tensor] of named) {
    stored.set(name, tensor.type === "float32" ? fromFloat32(tensor as FloatTensor, weightType) : tensor);
  }
  return writeSafetensors(stored, { format: "pt" });
}
