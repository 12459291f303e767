// The model's ONNX file in float32.
import { exactTolerance } from "./export-format.ts";
import { Model } from "../models/model.ts";
import { defineOnnxExport } from "./onnx-export.ts";
import { float32Onnx } from "./onnx-file.ts";

export const format = defineOnnxExport({
  name: "onnx",
  summary: "one ONNX file in float32, for transformers.js and other runtimes",
  dtype: "fp32",
  variant: float32Onnx,
  search: { tried: [{}], asComputed: (model, { device }) => Promise.resolve(new Model(model, device)) },
  tolerance: exactTolerance,
});
