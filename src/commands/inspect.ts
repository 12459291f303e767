// `wecolora inspect MODEL`: what a model is and, with images, how much its blocks matter.
import { z } from "zod";
import { pathOption, readOptions, readSchema } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import { UserError } from "../utils/errors.ts";
import { kebab } from "../utils/option-names.ts";
import { badWeight } from "../models/finite-outputs.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { defineCommand } from "./command.ts";
import type { BlocksRunResult } from "./inspect-blocks.ts";
import { blocksRunSchema, runBlocks } from "./inspect-blocks.ts";
import type { ModelDescription } from "./inspect-text.ts";
import { blocksText, describeModel, inspectText } from "./inspect-text.ts";

/** `wecolora inspect` */
export const inspectRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory or file of weights"),
  ...blocksRunSchema.partial({ data: true }).shape,
});

export type InspectRunInput = z.input<typeof inspectRunSchema>;

export interface InspectRunResult extends ModelDescription {
  readonly model: string;
  /** How much its blocks matter, where images were given. */
  readonly blocks?: BlocksRunResult;
}

/** Describes a model. Throws a UserError where it can't be read, and where an option needs images that are not given. */
export async function runInspection(context: RunContext, input: InspectRunInput): Promise<InspectRunResult> {
  const { model: path, data, ...options } = parseOptions(inspectRunSchema, input, "options of inspect");
  if (data === undefined) {
    const given = Object.keys(input).find((name) => name !== "model" && !(name in readSchema.shape));
    if (given !== undefined)
      throw new UserError(`--${kebab(given)} needs images: add --data <folder>.`, { code: "INVALID_OPTION" });
  }
  const model = await context.environment.loadModel(path, loadRequest(readOptions(options), context));
  const description = describeModel(model);
  const bad = badWeight(model.weights);
  if (bad)
    context.listener.warn?.(
      `The weight ${bad.name} of ${path} holds ${bad.value}: figures of this model are meaningless`,
    );
  await model.dispose();
  const blocks = data === undefined ? undefined : await runBlocks(context, path, { ...options, data });
  return { model: path, ...description, ...(blocks ? { blocks } : {}) };
}

export const command = defineCommand({
  name: "inspect",
  summary: "Describe a model and, with --data, measure how much its blocks matter.",
  schema: inspectRunSchema,
  positional: ["model"],
  run: runInspection,
  text: ({ model, blocks, ...description }) =>
    [inspectText(model, description), ...(blocks ? [blocksText(blocks)] : [])].join("\n"),
});
