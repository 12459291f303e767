// The model's ONNX file with weights and inputs of linear maps in 8 bits.
import { quantizeLinearMaps } from "../engine/passes/int8/quantize.ts";
import { defineOnnxExport } from "./onnx-export.ts";

export const format = defineOnnxExport({
  name: "onnx-int8",
  summary: "one ONNX file whose linear maps compute in int8, for CPUs",
  dtype: "int8",
  variant: {
    file: "model_int8.onnx",
    weightType: "float32",
    convert: (graph) => quantizeLinearMaps(graph, "dynamic"),
  },
  bytesPerWeight: 1,
  tolerance: { difference: 0.25, cosine: 0.97, reason: "8 bits: a part in 250 of the largest, in every map" },
});
