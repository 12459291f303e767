// Saving a model: one function, one format a word.
import { z } from "zod";
import type { Directory } from "../files/storage.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { writeTimmPreprocessing } from "../models/preprocessing.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { conformTo, isHeldBy } from "../models/conform.ts";
import { checkStorable } from "../models/finite-outputs.ts";
import type { SaveFormat } from "./registry.ts";
import { saveFormats } from "./registry.ts";
import type { Warn } from "./huggingface.ts";
import { writeOnnxDirectory, writeWithOnnx } from "./huggingface.ts";
import { writeTimm } from "./timm.ts";

export const saveSchema = z.strictObject({
  format: z
    .enum(saveFormats)
    .default("huggingface")
    .describe("huggingface and timm are directories that those load; safetensors is our own, for any model"),
  weightType: z
    .enum(["float32", "float16", "bfloat16"])
    .optional()
    .describe("type of the stored weights (the teacher's own where left out)"),
});

export type SaveOptions = z.input<typeof saveSchema>;

/** Throws a UserError that says why, where a format has no place for a model. */
export function checkFormat(model: ModelDefinition, format: SaveFormat): void {
  if (format === "huggingface") conformTo(model, "transformers");
  if (format === "timm") {
    conformTo(model, "timm");
    writeTimmPreprocessing(model.preprocessing);
  }
}

/** Writes a model into a directory. Throws a UserError where the format has no place for a part of the model, or a weight is not finite. */
export async function writeModel(
  model: ModelDefinition,
  directory: Directory,
  options: SaveOptions = {},
  warn: Warn = () => undefined,
): Promise<void> {
  const { format, weightType = model.origin.weightType } = parseOptions(saveSchema, options, "options of saveModel");
  checkStorable(model.weights, weightType);
  switch (format) {
    case "huggingface":
      return writeWithOnnx(model, "transformers", directory, weightType, warn);
    case "safetensors":
      return writeWithOnnx(model, "wecolora", directory, weightType, warn);
    case "onnx":
    case "onnx-float16":
    case "onnx-int8":
    case "onnx-int8-weights":
      return writeOnnxDirectory(model, directory, format, warn);
    case "timm":
      return writeTimm(model, directory, weightType, warn);
  }
}

/** The format that most can load: a Hugging Face directory, or our own where transformers has no class for the model. */
export function usualFormat(model: ModelDefinition): SaveFormat {
  return isHeldBy(model, "transformers") ? "huggingface" : "safetensors";
}
