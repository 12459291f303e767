// The model's ONNX file with the weights of linear maps in 8 bits, computed in float32.
import { defineOnnxExport } from "./onnx-export.ts";
import { quantizedOnnx } from "./onnx-file.ts";

export const format = defineOnnxExport({
  name: "onnx-int8-weights",
  summary: "one ONNX file with int8 weights that computes in float32, for small downloads",
  dtype: "q8",
  variant: quantizedOnnx,
  bytesPerWeight: 1,
  tolerance: {
    relativeDifference: 0.2,
    cosine: 0.98,
    reason: "8 bits: a part in 250 of the largest weight of a channel",
  },
});
