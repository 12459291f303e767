// `wecolora features`: one feature row an image.
import { z } from "zod";
import { writeSafetensors } from "../checkpoints/safetensors.ts";
import {
  commonSchema,
  dataOption,
  dataSchema,
  openOptions,
  pathOption,
  readBatchOption,
  readOptions,
  readSchema,
} from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedPictures } from "../context/run-context.ts";
import { extractFeatures } from "../evaluation/features.ts";
import { precisions } from "../models/precision.ts";
import { inPrecision } from "../students/settle-precision.ts";
import { elementBytes } from "../utils/tensor.ts";
import { checkOutputFile, checkRoom } from "../workspace/output-folder.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { defineCommand } from "./command.ts";

/** `wecolora features` */
export const featuresRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory, file of weights, or hub name"),
  data: dataOption,
  ...dataSchema.shape,
  out: pathOption.describe("output file (safetensors)"),
  batch: readBatchOption,
  precision: z
    .enum(precisions)
    .default("float32")
    .describe("precision of the model's products")
    .meta({ note: "`auto` measures both and takes int8 where it is faster and features stay close." }),
  ...readSchema.shape,
  ...commonSchema.omit({ seed: true }).shape,
});

export type FeaturesRunInput = z.input<typeof featuresRunSchema>;

export interface FeaturesRunResult {
  readonly out: string;
  readonly pictures: number;
  readonly width: number;
  readonly skipped: number;
}

/** Metadata of a file of features. Safetensors holds texts alone; `names` is a list as JSON. */
const featureFormat = { format: "wecolora-features", version: "1" } as const;
export const featureMetadataSchema = z.object({
  format: z.literal(featureFormat.format),
  version: z.literal(featureFormat.version),
  names: z.string(),
});

/** Whether a file begins as our files of features do. */
const isFeatureFile = (head: string) => head.includes(`"format":"${featureFormat.format}"`);

/**
 * Writes the class tokens of all pictures of a folder as `features` `[n, D]` into a safetensors file; its metadata
 * holds the pictures' names in the order of the rows, as JSON.
 */
export async function runFeatures(context: RunContext, input: FeaturesRunInput): Promise<FeaturesRunResult> {
  const { environment, listener } = context;
  const options = parseOptions(featuresRunSchema, input, "options of features");
  const inputs = [
    { option: "--model", path: options.model },
    { option: "--data", path: options.data },
  ];
  await checkOutputFile(environment, options.out, inputs, isFeatureFile);
  const data = await environment.openPictures(options.data, openOptions(options));
  let model = await environment.loadModel(options.model, loadRequest(readOptions(options), context));
  await model.rest();
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    skipped.open(data.skipped, listener);
    listener.stage?.("features", data.items.length);
    model = await inPrecision(model, options.precision, source, data.items, listener);
    await checkRoom(environment, options.out, data.items.length * model.config.width * elementBytes.float32);
    const { features, items } = await extractFeatures(model, source, data.items, {
      batch: options.batch,
      progress: (done) => listener.progress?.(done),
      skip: skipped.add,
    });
    const names = JSON.stringify(items.map(({ name }) => name));
    const metadata = featureMetadataSchema.parse({ ...featureFormat, names });
    await environment.writeFile(options.out, writeSafetensors(new Map([["features", features]]), metadata));
    skipped.report(listener);
    return { out: options.out, pictures: items.length, width: features.dims[1], skipped: skipped.count };
  } finally {
    await source.dispose();
    await model.dispose();
  }
}

export const command = defineCommand({
  name: "features",
  summary: "Write the features of images, one row per image.",
  schema: featuresRunSchema,
  run: runFeatures,
  text: ({ out, pictures, width }) => `${out}: ${pictures} rows of ${width}`,
});
