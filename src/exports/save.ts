// Saving a model: one function, one export a word.
import { z } from "zod";
import type { Directory } from "../files/storage.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { isHeldBy } from "../models/conform.ts";
import { weightTypes } from "../utils/half.ts";
import { withOptionsOf } from "../utils/option-shapes.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { checkStorable } from "../models/finite-outputs.ts";
import type { Warn } from "./export-format.ts";
import type { ExportName } from "./lookup.ts";
import { exportOf, exportsNamed, saveName } from "./lookup.ts";

export const saveSchema = z.strictObject({
  format: saveName
    .default("huggingface")
    .describe("huggingface and timm are directories that those load; safetensors is our own, for any model"),
  weightType: z.enum(weightTypes).optional().describe("type of the stored weights (default: the teacher's own)"),
});

/** What `saveModel` takes; exports with options of their own take these too. */
export type SaveOptions = z.input<typeof saveSchema> & Readonly<Record<string, unknown>>;

/** Writes a model into a directory. Throws a UserError where the format has no place for a part of the model, or a weight is not finite. */
export async function writeModel(
  model: ModelDefinition,
  directory: Directory,
  options: SaveOptions = {},
  warn: Warn = () => undefined,
): Promise<void> {
  const schema = withOptionsOf(saveSchema, exportsNamed(options.format));
  const parsed = parseOptions(schema, options, "options of saveModel");
  const format = exportOf(parsed.format);
  const { weightType = model.origin.weightType } = parsed;
  checkStorable(model.weights, weightType);
  format.check?.(model, undefined);
  await format.write({ model, directory, weightType, options: parsed, warn });
}

/** The format that most can load: a Hugging Face directory, or our own where transformers has no class for the model. */
export function defaultFormat(model: ModelDefinition): ExportName {
  return isHeldBy(model, "transformers") ? "huggingface" : "safetensors";
}
