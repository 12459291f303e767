// The formats that models are written in, by the words that users give.

export const saveFormats = [
  "huggingface",
  "timm",
  "safetensors",
  "onnx",
  "onnx-float16",
  "onnx-int8",
  "onnx-int8-weights",
] as const;
export type SaveFormat = (typeof saveFormats)[number];

/** Formats of `wecolora export`; PEFT's needs the adapters of a run. */
export const exportFormats = [...saveFormats, "peft"] as const;
export type ExportFormat = (typeof exportFormats)[number];

export type OnnxFormat = Extract<SaveFormat, `onnx${string}`>;

/** What transformers.js looks for in `onnx/` when it is asked for a `dtype`. */
export const onnxFiles: Readonly<Record<OnnxFormat, { readonly file: string; readonly dtype: string }>> = {
  onnx: { file: "model.onnx", dtype: "fp32" },
  "onnx-float16": { file: "model_fp16.onnx", dtype: "fp16" },
  "onnx-int8": { file: "model_int8.onnx", dtype: "int8" },
  "onnx-int8-weights": { file: "model_quantized.onnx", dtype: "q8" },
};

/** In `onnx/`: a teacher's whole ONNX file with the student in the backbone's place. */
export const applicationFile = "application.onnx";

export const isOnnxFormat = (format: ExportFormat): format is OnnxFormat => format in onnxFiles;
