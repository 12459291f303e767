// The model's ONNX file with maps in 4 bits, computed in float32.
import { defineFewBitsExport } from "./onnx-few-bits.ts";

export const format = defineFewBitsExport({
  name: "onnx-q4",
  summary: "one ONNX file with 4-bit weights that computes in float32, for the smallest downloads",
  dtype: "q4",
  file: "model_q4.onnx",
  half: false,
  searched: true,
});
