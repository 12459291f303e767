// The model's ONNX file with maps in 4 bits, computed in half precision.
import { defineFewBitsExport } from "./onnx-few-bits.ts";

export const format = defineFewBitsExport({
  name: "onnx-q4f16",
  summary: "one ONNX file with 4-bit weights that computes in float16, for GPUs",
  dtype: "q4f16",
  file: "model_q4f16.onnx",
  half: true,
  // The numbers of onnx-q4 in as many bytes, for GPUs.
  searched: false,
});
