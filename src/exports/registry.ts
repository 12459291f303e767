// All of the exports, from the files of this folder. Made by `npm run generate`; don't edit it.
import { format as huggingfaceFormat } from "./huggingface.ts";
import { format as onnxFormat } from "./onnx.ts";
import { format as onnxFloat16Format } from "./onnx-float16.ts";
import { format as onnxInt8Format } from "./onnx-int8.ts";
import { format as onnxInt8WeightsFormat } from "./onnx-int8-weights.ts";
import { format as onnxQ4Format } from "./onnx-q4.ts";
import { format as onnxQ4f16Format } from "./onnx-q4f16.ts";
import { format as peftFormat } from "./peft.ts";
import { format as safetensorsFormat } from "./safetensors.ts";
import { format as timmFormat } from "./timm.ts";

export const exportFormats = [
  huggingfaceFormat,
  onnxFormat,
  onnxFloat16Format,
  onnxInt8Format,
  onnxInt8WeightsFormat,
  onnxQ4Format,
  onnxQ4f16Format,
  peftFormat,
  safetensorsFormat,
  timmFormat,
] as const;

/** The options of all, by name. */
export const exportOptions = {
  ...huggingfaceFormat.options,
  ...onnxFormat.options,
  ...onnxFloat16Format.options,
  ...onnxInt8Format.options,
  ...onnxInt8WeightsFormat.options,
  ...onnxQ4Format.options,
  ...onnxQ4f16Format.options,
  ...peftFormat.options,
  ...safetensorsFormat.options,
  ...timmFormat.options,
};
