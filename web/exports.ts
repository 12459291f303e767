// The exports that the page offers, in the place of `src/exports/registry.ts`: adapters and timm's names are for Python.
import { format as huggingface } from "../src/exports/huggingface.ts";
import { format as onnx } from "../src/exports/onnx.ts";
import { format as onnxFloat16 } from "../src/exports/onnx-float16.ts";
import { format as onnxInt8 } from "../src/exports/onnx-int8.ts";
import { format as onnxQ4 } from "../src/exports/onnx-q4.ts";

export const exportFormats = [huggingface, onnx, onnxFloat16, onnxInt8, onnxQ4] as const;
export const exportOptions = {
  ...huggingface.options,
  ...onnx.options,
  ...onnxFloat16.options,
  ...onnxInt8.options,
  ...onnxQ4.options,
};
