// A Hugging Face directory: config, preprocessor, safetensors, and onnx/model.onnx for transformers.js.
import { writeSafetensors } from "../checkpoints/safetensors.ts";
import type { Directory } from "../checkpoints/storage.ts";
import { graph, input } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { Layout } from "../models/layouts/index.ts";
import { writePreprocessor } from "../models/preprocessing.ts";
import { frozenWeights, vitForward } from "../models/vit.ts";
import { nameWeights } from "../models/weights.ts";
import type { OnnxFile } from "../onnx/write.ts";
import { writeOnnx } from "../onnx/write.ts";
import { tidy } from "../passes/tidy.ts";
import type { WeightType } from "../utils/half.ts";
import { fromFloat32, toFloat32 } from "../utils/half.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { conformTo } from "./conform.ts";

export type Chunks = readonly Uint8Array[];

/** The model with its weights rounded to the type that its file holds, so that every file written agrees with it. */
export function roundWeights<M extends ModelDefinition>(model: M, type: WeightType): M {
  if (type === "float32") return model;
  const weights = new Map<string, FloatTensor>();
  for (const [name, tensor] of model.weights) weights.set(name, toFloat32(fromFloat32(tensor, type)));
  return { ...model, weights };
}

/**
 * The forward graph that transformers.js expects: `pixel_values` in; `last_hidden_state`, `pooler_output`,
 * `image_embeds` and `logits` out, where the model has them. The batch size is free.
 */
export function inferenceGraph(model: ModelDefinition): Graph {
  const { imageSize, channels } = model.config;
  const pixels = input("pixel_values", "float32", ["batch_size", channels, imageSize, imageSize]);
  const built = vitForward(model.config, frozenWeights(model.weights), pixels);
  const outputs = new Map<string, Value>();
  if (built.logits) outputs.set("logits", built.logits);
  outputs.set("last_hidden_state", built.lastHiddenState);
  if (built.poolerOutput) outputs.set("pooler_output", built.poolerOutput);
  if (built.imageEmbeds) outputs.set("image_embeds", built.imageEmbeds);
  return graph([pixels], outputs);
}

/** The model's ONNX file, in operators that every runtime has. */
export function inferenceOnnx(model: ModelDefinition, location: string): OnnxFile {
  return writeOnnx(tidy(inferenceGraph(model), { target: "portable" }), { weights: { kind: "inline", location } });
}

export const jsonFile = (value: unknown): Chunks => [new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)];

/**
 * Writes a directory with safetensors, ONNX, preprocessor and configuration, in a layout of `library`; the
 * configuration last, so that a directory with one is whole. `weightType` is that of the safetensors file; the ONNX file
 * holds the same numbers as float32.
 */
export async function writeWithOnnx(
  model: ModelDefinition,
  library: "transformers" | "wecolora",
  directory: Directory,
  weightType: WeightType,
): Promise<void> {
  const { layout, model: held } = conformTo(model, library);
  const rounded = roundWeights(held, weightType);
  await directory.write("model.safetensors", weightsFile(layout, rounded, weightType));
  const onnx = inferenceOnnx(rounded, "model.onnx_data");
  for (const { location, chunks } of onnx.externalData) await directory.write(`onnx/${location}`, chunks);
  await directory.write("onnx/model.onnx", [onnx.model]);
  await directory.write("preprocessor_config.json", jsonFile(writePreprocessor(model.preprocessing)));
  const original = model.origin.layout === layout.name ? model.origin.config : undefined;
  const config = layout.writeConfig(held.config, original, model.preprocessing);
  await directory.write("config.json", jsonFile({ ...config, dtype: weightType }));
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
