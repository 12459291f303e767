// `wecolora rollout`: where a model looks in images.
import { FileNames } from "../utils/escape.ts";
import { z } from "zod";
import { commonSchema, countOption, pathOption, readOptions, readSchema } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedImages } from "../context/run-context.ts";
import { attentionOverlays } from "../evaluation/attention-overlays.ts";
import { limitItems } from "../evaluation/evaluate-candidates.ts";
import { headFusions, rolloutDefaults, rolloutMethods } from "../evaluation/attention-rollout.ts";
import type { Model } from "../models/model.ts";
import { sideBySide } from "../report/overlay.ts";
import { UserError } from "../utils/errors.ts";
import type { OutputFolder, OutputRequest } from "../workspace/output-folder.ts";
import { modelInputs, withOutput } from "../workspace/output-folder.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { defineCommand } from "./command.ts";

/** `wecolora rollout` */
export const rolloutRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory, file of weights, or hub name"),
  teacher: pathOption.optional().describe("the teacher, whose attention maps are shown beside the model's"),
  data: pathOption.describe("a folder of images"),
  out: pathOption.describe("output folder for one PNG per image"),
  attention: z
    .enum(rolloutMethods)
    .default(rolloutDefaults.method)
    .describe("attention followed through all blocks, or that of the last block alone"),
  fusion: z.enum(headFusions).default(rolloutDefaults.fusion).describe("how the heads of a block become one"),
  discard: z
    .number()
    .min(0)
    .lt(1)
    .default(rolloutDefaults.discard)
    .describe("share of a block's smallest entries that rollout leaves out"),
  maxImages: countOption.default(16).describe("at most so many images, drawn evenly"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

export type RolloutRunInput = z.input<typeof rolloutRunSchema>;

export interface RolloutRunResult {
  readonly out: string;
  /** The PNG files in it, by image. */
  readonly files: Readonly<Record<string, string>>;
  /** What stands in each from left to right. */
  readonly columns: readonly string[];
  readonly skipped: number;
}

/** Writes one PNG an image: the image, and where the teacher (where one is given) and the model look in it. */
export async function runRollout(context: RunContext, input: RolloutRunInput): Promise<RolloutRunResult> {
  const options = parseOptions(rolloutRunSchema, input, "options of rollout");
  const request: OutputRequest = { path: options.out, kind: "rollout", inputs: modelInputs(options) };
  return withOutput(context, request, (output) => rolloutInto(context, options, output));
}

type RolloutOptions = z.output<typeof rolloutRunSchema>;

/** The teacher, where one is given, and the model, by these names. */
async function openModels(context: RunContext, options: RolloutOptions): Promise<Map<string, Model>> {
  const load = (path: string) => context.environment.loadModel(path, loadRequest(context, readOptions(options)));
  const models = new Map<string, Model>();
  if (options.teacher !== undefined) models.set("teacher", await load(options.teacher));
  models.set("model", await load(options.model));
  return models;
}

async function rolloutInto(
  context: RunContext,
  options: RolloutOptions,
  output: OutputFolder,
): Promise<RolloutRunResult> {
  const { environment, listener } = context;
  const data = await environment.openImages(options.data);
  const models = await openModels(context, options);
  const source = environment.createImageSource(data.path);
  const skipped = new SkippedImages(options.strict);
  const { directory } = output;
  // Without a prototype: an image may be called __proto__.
  const files = Object.create(null) as Record<string, string>;
  const fileNames = new FileNames();
  try {
    const items = limitItems(data.items, options.maxImages, options.seed);
    skipped.open(context, data.skipped);
    listener.stage?.("looking", items.length);
    const { attention: method, fusion, discard } = options;
    const overlaid = attentionOverlays(models, source, items, { method, fusion, discard }, skipped.add);
    for await (const { item, image, overlays } of overlaid) {
      const file = fileNames.add(item.name.replace(/\.[^./]*$/, "").replaceAll("/", "__"), ".png");
      await directory.write(file, [await environment.encodePng(sideBySide([image, ...overlays.values()]))]);
      files[item.name] = file;
      listener.progress?.(Object.keys(files).length);
    }
    if (Object.keys(files).length === 0)
      throw new UserError(`None of the images in ${options.data} can be read.`, { code: "NO_IMAGES" });
    await output.removeStale();
    skipped.report(context);
    return { out: options.out, files, columns: ["image", ...models.keys()], skipped: skipped.count };
  } finally {
    await source.dispose();
    for (const model of models.values()) await model.dispose();
  }
}

export const command = defineCommand({
  name: "rollout",
  summary: "Draw a model's attention maps, with its teacher's beside them.",
  schema: rolloutRunSchema,
  run: runRollout,
  text: ({ out, files, columns }) => `${out}: ${Object.keys(files).length} PNG files, each with ${columns.join(" | ")}`,
});
