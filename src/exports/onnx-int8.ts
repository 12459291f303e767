// The model's ONNX file with weights and inputs of linear maps in 8 bits.
import { portableInt8 } from "../engine/passes/int8/portable-products.ts";
import { Model } from "../models/model.ts";
import { int8Parts, largestOn } from "../models/precision.ts";
import { defineOnnxExport } from "./onnx-export.ts";

export const format = defineOnnxExport({
  name: "onnx-int8",
  summary: "one ONNX file whose linear maps compute in int8, for CPUs",
  dtype: "int8",
  variant: {
    file: "model_int8.onnx",
    weightType: "float32",
    convert: portableInt8,
  },
  bytesPerWeight: 1,
  search: {
    tried: [{}],
    asComputed: async (model, { device }) =>
      new Model(model, device, { int8: { largest: await largestOn(device), parts: int8Parts } }),
  },
  tolerance: { relativeDifference: 0.25, cosine: 0.97, reason: "8 bits: a part in 250 of the largest, in every map" },
});
