// Directories that transformers and transformers.js load.
import { conformTo } from "../models/conform.ts";
import { elementBytes } from "../utils/tensor.ts";
import { writeWithOnnx } from "./directories.ts";
import { defineExport, embedderOf, exactTolerance, openDirectory } from "./export-format.ts";

export const format = defineExport({
  name: "huggingface",
  summary: "a directory that transformers and transformers.js load",
  dtype: "fp32",
  options: {},
  check(model) {
    conformTo(model, "transformers");
  },
  write: ({ model, directory, weightType, warn }) => writeWithOnnx(model, "transformers", directory, weightType, warn),
  open: async (context) => embedderOf(await openDirectory("huggingface", context), "huggingface"),
  files: ["model.safetensors"],
  bytesPerWeight: (weightType) => elementBytes[weightType],
  tolerance: exactTolerance,
});
