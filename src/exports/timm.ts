// A directory that timm loads: `timm.create_model("local-dir:...")`, with config.json and model.safetensors.
import type { Directory } from "../files/storage.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { WeightType } from "../utils/half.ts";
import { writeTimmPreprocessing } from "../models/preprocessing.ts";
import { conformTo } from "../models/conform.ts";
import { elementBytes } from "../utils/tensor.ts";
import { jsonFile, roundWeights, weightsFile } from "./directories.ts";
import type { Warn } from "./export-format.ts";
import { defineExport, embedderOf, exactTolerance, openDirectory } from "./export-format.ts";

/** Writes the directory; the configuration last, so that a directory with one is whole. */
async function writeTimm(
  model: ModelDefinition,
  directory: Directory,
  weightType: WeightType,
  warn: Warn,
): Promise<void> {
  for (const difference of writeTimmPreprocessing(model.preprocessing).differences) warn(`config.json: ${difference}`);
  const { layout, model: conformed } = conformTo(model, "timm");
  await directory.write("model.safetensors", weightsFile(layout, roundWeights(conformed, weightType), weightType));
  const original = model.origin.layout === layout.name ? model.origin.config : undefined;
  await directory.write("config.json", jsonFile(layout.writeConfig(conformed.config, original, model.preprocessing)));
}

export const format = defineExport({
  name: "timm",
  summary: "a directory that timm loads",
  options: {},
  check(model) {
    conformTo(model, "timm");
    writeTimmPreprocessing(model.preprocessing);
  },
  write: ({ model, directory, weightType, warn }) => writeTimm(model, directory, weightType, warn),
  open: async (context) => embedderOf(await openDirectory("timm", context), "timm"),
  files: ["model.safetensors"],
  bytesPerWeight: (weightType) => elementBytes[weightType],
  tolerance: exactTolerance,
});
