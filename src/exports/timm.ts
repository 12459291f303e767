// A directory that timm loads: `timm.create_model("local-dir:...")`, with config.json and model.safetensors.
import type { Directory } from "../files/storage.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { WeightType } from "../utils/half.ts";
import { writeTimmPreprocessing } from "../models/preprocessing.ts";
import { conformTo } from "../models/conform.ts";
import type { Warn } from "./huggingface.ts";
import { jsonFile, roundWeights, weightsFile } from "./huggingface.ts";

/** Writes the directory; the configuration last, so that a directory with one is whole. */
export async function writeTimm(
  model: ModelDefinition,
  directory: Directory,
  weightType: WeightType,
  warn: Warn = () => undefined,
): Promise<void> {
  for (const difference of writeTimmPreprocessing(model.preprocessing).differences) warn(`config.json: ${difference}`);
  const { layout, model: held } = conformTo(model, "timm");
  await directory.write("model.safetensors", weightsFile(layout, roundWeights(held, weightType), weightType));
  const original = model.origin.layout === layout.name ? model.origin.config : undefined;
  await directory.write("config.json", jsonFile(layout.writeConfig(held.config, original, model.preprocessing)));
}
