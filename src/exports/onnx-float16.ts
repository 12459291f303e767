// The model's ONNX file in half precision throughout.
import { toHalf } from "../engine/passes/half-precision.ts";
import { Model } from "../models/model.ts";
import { roundWeights } from "./directories.ts";
import { defineOnnxExport } from "./onnx-export.ts";

export const format = defineOnnxExport({
  name: "onnx-float16",
  summary: "one ONNX file in float16, for GPUs",
  dtype: "fp16",
  variant: { file: "model_fp16.onnx", weightType: "float16", convert: toHalf },
  search: {
    tried: [{}],
    asComputed: (model, { device }) => Promise.resolve(new Model(roundWeights(model, "float16"), device)),
  },
  tolerance: { relativeDifference: 0.02, cosine: 0.999, reason: "11 bits at every step of the computation" },
});
