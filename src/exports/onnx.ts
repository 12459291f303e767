// Models as ONNX files: the graph that transformers.js expects, in float32, float16 or 8 bits.
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
import { toHalf } from "../engine/passes/half-precision.ts";
import { quantizeLinearMaps } from "../engine/passes/int8/quantize.ts";
import { tidy } from "../engine/passes/tidy.ts";
import type { OnnxFormat } from "./registry.ts";
import { applicationFile, onnxFiles } from "./registry.ts";

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

/** The graph as a format has it: float32 as it is, float16 throughout, or with linear maps in 8 bits. */
function inFormat(graph: Graph, format: OnnxFormat): Graph {
  switch (format) {
    case "onnx":
      return graph;
    case "onnx-float16":
      return toHalf(graph);
    case "onnx-int8":
      return quantizeLinearMaps(graph, "dynamic");
    case "onnx-int8-weights":
      return quantizeLinearMaps(graph, "weights");
  }
}

/** The model's ONNX file, in operators that every runtime has, and what goes beside it. Throws where a pass has broken the graph. */
function inferenceOnnx(
  model: ModelDefinition,
  location: string,
  format: OnnxFormat,
): { chunks: Chunks; externalData: readonly ExternalData[] } {
  const built = inFormat(tidy(inferenceGraph(model), { target: "portable" }), format);
  verify(built, format);
  const { proto, externalData } = buildOnnx(built, { weights: { kind: "inline", location } });
  return { chunks: modelChunks(proto), externalData };
}

/** Writes the ONNX file of a format into `onnx/`, under the name that transformers.js looks for. */
export async function writeOnnxFile(model: ModelDefinition, directory: Directory, format: OnnxFormat): Promise<void> {
  const { file } = onnxFiles[format];
  const { chunks: own, externalData } = inferenceOnnx(model, `${file}_data`, format);
  for (const { location, chunks } of externalData) await directory.write(`onnx/${location}`, chunks);
  await directory.write(`onnx/${file}`, own);
  const { application } = model.origin;
  // What stood behind the teacher in its own file, behind this model.
  if (application && format === "onnx") {
    await directory.write(`onnx/${applicationFile}`, application.put(model, application.stands));
  }
}
