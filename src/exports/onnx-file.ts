// Models as ONNX files: the graph that transformers.js expects, as it is or converted.
import type { Directory } from "../files/storage.ts";
import { graph, input } from "../engine/graph/build.ts";
import type { Graph, Value } from "../engine/graph/graph.ts";
import { verify } from "../engine/graph/verify.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { frozenWeights, vitForward } from "../models/vit.ts";
import type { Chunks } from "../engine/onnx/chunks.ts";
import { modelChunks } from "../engine/onnx/chunks.ts";
import type { ExternalData } from "../engine/onnx/write-model.ts";
import { buildOnnx } from "../engine/onnx/write-model.ts";
import { quantizeLinearMaps } from "../engine/passes/int8/quantize.ts";
import { foldScales } from "../engine/passes/fold-scales.ts";
import { tidy } from "../engine/passes/tidy.ts";
import type { WeightType } from "../utils/half.ts";

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

/** One way to write a model's ONNX file. */
export interface OnnxVariant {
  /** The file in `onnx/`, by the name that transformers.js looks for when it is asked for the variant's dtype. */
  readonly file: string;
  /** What is done to the graph before constants are folded. */
  readonly prepare?: (graph: Graph) => Graph;
  /** What is done to the float32 graph. */
  readonly convert?: (graph: Graph) => Graph;
  /** The type of its weights as config.json says it. */
  readonly weightType: WeightType;
  /** Whether a teacher's whole ONNX application is written beside it, with the model in the backbone's place. */
  readonly application?: boolean;
}

/** The file that transformers.js takes by itself in Node and on WebGPU. */
export const float32Onnx: OnnxVariant = { file: "model.onnx", weightType: "float32", application: true };

/** The file that transformers.js takes by itself in browsers, on WebAssembly: int8 weights, computed in float32. */
export const quantizedOnnx: OnnxVariant = {
  file: "model_quantized.onnx",
  weightType: "float32",
  convert: quantizeLinearMaps,
};

/** The ONNX files that every Hugging Face directory has: transformers.js loads it without options everywhere. */
export const defaultOnnx: readonly OnnxVariant[] = [float32Onnx, quantizedOnnx];

/** In `onnx/`: a teacher's whole ONNX file with the student in the backbone's place. */
export const applicationFile = "application.onnx";

/** A variant's files in a directory that hold its weights. */
export const onnxWeightFiles = ({ file }: Pick<OnnxVariant, "file">): string[] => [`onnx/${file}`, `onnx/${file}_data`];

/** The model's ONNX file, in operators that every runtime has, and what goes beside it. Throws where a pass has broken the graph. */
function inferenceOnnx(
  model: ModelDefinition,
  { file, weightType, prepare = (graph) => graph, convert = (graph) => graph }: OnnxVariant,
): { chunks: Chunks; externalData: readonly ExternalData[] } {
  const tidied = tidy(prepare(inferenceGraph(model)), { target: "portable" });
  const built = convert(weightType === "float32" ? foldScales(tidied) : tidied);
  verify(built, file);
  const { proto, externalData } = buildOnnx(built, { weights: { kind: "inline", location: `${file}_data` } });
  return { chunks: modelChunks(proto), externalData };
}

/** Writes a variant's ONNX file into `onnx/`. */
export async function writeOnnxFile(model: ModelDefinition, directory: Directory, variant: OnnxVariant): Promise<void> {
  const { chunks: modelChunks, externalData } = inferenceOnnx(model, variant);
  for (const { location, chunks } of externalData) await directory.write(`onnx/${location}`, chunks);
  await directory.write(`onnx/${variant.file}`, modelChunks);
  const { application } = model.origin;
  // What stood behind the teacher in its own file, behind this model.
  if (application && variant.application) {
    await directory.write(`onnx/${applicationFile}`, application.put(model, application.stands));
  }
}
