// wecolora's own directories, which hold any model that it makes.
import { elementBytes } from "../utils/tensor.ts";
import { writeWithOnnx } from "./directories.ts";
import { defineExport, embedderOf, exactTolerance, openDirectory } from "./export-format.ts";

export const format = defineExport({
  name: "safetensors",
  summary: "a directory of wecolora's own, for models that no other library has a class for",
  dtype: "fp32",
  options: {},
  write: ({ model, directory, weightType, warn }) => writeWithOnnx(model, "wecolora", directory, weightType, warn),
  open: async (context) => embedderOf(await openDirectory("safetensors", context), "safetensors"),
  files: ["model.safetensors"],
  bytesPerWeight: (weightType) => elementBytes[weightType],
  tolerance: exactTolerance,
});
