// A Hugging Face directory: config, preprocessor, safetensors, and onnx/model.onnx for transformers.js.
import { writeSafetensors } from "../checkpoints/safetensors.ts";
import type { Directory } from "../checkpoints/storage.ts";
import { graph, input } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { Layout } from "../models/layouts.ts";
import { huggingFaceLayouts } from "../models/layouts.ts";
import { writePreprocessor } from "../models/preprocessing.ts";
import { frozenWeights, vitForward } from "../models/vit.ts";
import { nameWeights } from "../models/weights.ts";
import type { OnnxFile } from "../onnx/write.ts";
import { writeOnnx } from "../onnx/write.ts";
import { tidy } from "../passes/tidy.ts";
import { UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import { fromFloat32, toFloat32 } from "../utils/half.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";

export type Chunks = readonly Uint8Array[];

/** The layout that can hold the model: the one it was read in, else the first that has all its parts. */
function chooseLayout({ config, origin }: ModelDefinition): Layout {
  const own = huggingFaceLayouts.find(({ name }) => name === origin.layout);
  if (own && own.cannotWrite(config) === undefined) return own;
  const reasons: string[] = [];
  for (const layout of huggingFaceLayouts) {
    const reason = layout.cannotWrite(config);
    if (reason === undefined) return layout;
    reasons.push(`${layout.name}: ${reason}`);
  }
  throw new UserError(`no Hugging Face layout holds this model (${reasons.join("; ")})`);
}

/** The model with its weights rounded to the type that its file holds, so that every file written agrees with it. */
export function roundWeights<M extends ModelDefinition>(model: M, type: WeightType): M {
  if (type === "float32") return model;
  const weights = new Map<string, FloatTensor>();
  for (const [name, tensor] of model.weights) weights.set(name, toFloat32(fromFloat32(tensor, type)));
  return { ...model, weights };
}

/**
 * The forward graph that transformers.js expects: `pixel_values` in; `last_hidden_state`, `pooler_output` and `logits`
 * out, where the model has them. The batch size is free.
 */
export function inferenceGraph(model: ModelDefinition): Graph {
  const { imageSize, channels } = model.config;
  const pixels = input("pixel_values", "float32", ["batch_size", channels, imageSize, imageSize]);
  const built = vitForward(model.config, frozenWeights(model.weights), pixels);
  const outputs = new Map<string, Value>();
  if (built.logits) outputs.set("logits", built.logits);
  outputs.set("last_hidden_state", built.lastHiddenState);
  if (built.pooled) outputs.set("pooler_output", built.pooled);
  return graph([pixels], outputs);
}

/** The model's ONNX file, in operators that every runtime has. */
export function inferenceOnnx(model: ModelDefinition, location: string): OnnxFile {
  return writeOnnx(tidy(inferenceGraph(model), { target: "portable" }), { weights: { kind: "inline", location } });
}

const jsonFile = (value: unknown): Chunks => [new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)];

/**
 * Writes the directory; the configuration last, so that a directory with one is whole. `weightType` is that of the
 * safetensors file; the ONNX file holds the same numbers as float32.
 */
export async function writeHuggingFace(
  model: ModelDefinition,
  directory: Directory,
  weightType: WeightType,
): Promise<void> {
  const layout = chooseLayout(model);
  const rounded = roundWeights(model, weightType);
  const stored = new Map<string, Tensor>();
  const named = nameWeights(layout, rounded.config, {
    weights: new Map(rounded.weights),
    carried: new Map(model.origin.carried),
  });
  for (const [name, tensor] of named) {
    stored.set(name, tensor.type === "float32" ? fromFloat32(tensor as FloatTensor, weightType) : tensor);
  }
  await directory.write("model.safetensors", writeSafetensors(stored, { format: "pt" }));
  const onnx = inferenceOnnx(rounded, "model.onnx_data");
  for (const { location, chunks } of onnx.externalData) await directory.write(`onnx/${location}`, chunks);
  await directory.write("onnx/model.onnx", [onnx.model]);
  await directory.write("preprocessor_config.json", jsonFile(writePreprocessor(model.preprocessing)));
  const original = model.origin.layout === layout.name ? model.origin.config : undefined;
  await directory.write("config.json", jsonFile({ ...layout.writeConfig(model.config, original), dtype: weightType }));
}
