// Saving a model: one function, one format a word.
import { z } from "zod";
import type { Directory } from "../checkpoints/storage.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { parseOptions } from "../utils/options.ts";
import { writeHuggingFace } from "./huggingface.ts";
import { writeTimm } from "./timm.ts";

export const saveSchema = z.strictObject({
  format: z.enum(["huggingface", "timm"]).default("huggingface").describe("what is written"),
  weightType: z
    .enum(["float32", "float16", "bfloat16"])
    .optional()
    .describe("type of the stored weights (the teacher's own where left out)"),
});

export type SaveOptions = z.input<typeof saveSchema>;

/** Writes a model into a directory. Throws a UserError where the format has no place for a part of the model. */
export async function writeModel(
  model: ModelDefinition,
  directory: Directory,
  options: SaveOptions = {},
): Promise<void> {
  const { format, weightType = model.origin.weightType } = parseOptions(saveSchema, options, "options of saveModel");
  switch (format) {
    case "huggingface":
      return writeHuggingFace(model, directory, weightType);
    case "timm":
      return writeTimm(model, directory, weightType);
  }
}
