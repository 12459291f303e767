// The model's ONNX file with the weights of linear maps in 8 bits, computed in float32.
import { quantizeLinearMaps } from "../engine/passes/int8/quantize.ts";
import { defineOnnxExport } from "./onnx-export.ts";

export const format = defineOnnxExport({
  name: "onnx-int8-weights",
  summary: "one ONNX file with int8 weights that computes in float32, for small downloads",
  dtype: "q8",
  variant: {
    file: "model_quantized.onnx",
    weightType: "float32",
    convert: (graph) => quantizeLinearMaps(graph, "weights"),
  },
  bytesPerWeight: 1,
  tolerance: { difference: 0.2, cosine: 0.98, reason: "8 bits: a part in 250 of the largest weight of a channel" },
});
