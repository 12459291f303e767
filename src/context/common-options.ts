// Options that several commands share, and what loaders take of them.
import { z } from "zod";
import type { DataSet } from "../data/dataset.ts";
import { fileEndings } from "../data/formats/lookup.ts";
import type { OpenOptions } from "../data/formats/open.ts";
import { dataFormatOptions } from "../data/formats/registry.ts";
import { evaluationBatch } from "../data/loader.ts";
import type { PaperProtocol } from "../data/protocols.ts";
import { dataSetNames, protocols } from "../data/protocols.ts";
import type { DeviceName } from "../runtime/devices.ts";
import { defaultDeviceName, deviceOf, deviceSpellings, findDevice } from "../runtime/devices.ts";
import { OptionError, UserError } from "../utils/errors.ts";
import type { TransformChoice } from "../utils/image.ts";

export { listOption } from "../utils/option-shapes.ts";

const normalizations = ["model", "data-set", "paper"] as const;
export const pathOption = z.string().min(1);
export const countOption = z.number().int().positive();
/** Images that go through a model at once: more are no faster, and no memory holds them. */
export const mostImages = 65_536;
export const mostEpochs = 100_000;
export const mostSteps = 10_000_000;
/** Learning rates that float32 can hold; one that is far too high is met by the loss, which a run checks. */
export const rateOption = z.number().min(1e-30).max(1e30);
const meanOf = z.number().min(-1).max(1);
const deviationOf = z.number().min(1e-4).max(100);

/** More than any machine has cores; each takes memory of its own. */
export const mostThreads = 1024;

/** A device by any of its spellings. */
const deviceOption = z
  .enum(deviceSpellings)
  .transform((spelling): DeviceName => (findDevice(spelling) ?? deviceOf(defaultDeviceName)).name);

/** Options that every command has. */
export const commonSchema = z.strictObject({
  threads: countOption.max(mostThreads).optional().describe("threads of ONNX Runtime (default: all cores)"),
  device: deviceOption.default(defaultDeviceName).describe("device that models run on; tried at the start"),
  strict: z.boolean().default(false).describe("report an image that can't be read as an error instead of skipping it"),
  seed: z.number().int().default(0).describe("seed of everything random"),
});

/** How models are read, where their files leave something open. */
export const readSchema = z.strictObject({
  numHeads: countOption.optional().describe("the model's attention heads, where no config.json says it (width / 64)"),
  imageSize: countOption.max(16_384).optional().describe("side of the images in pixels (default: the model's own)"),
  revision: z.string().min(1).optional().describe("branch, tag or commit of a model that is named as on the hub"),
  mean: z
    .tuple([meanOf, meanOf, meanOf])
    .optional()
    .describe("mean of each channel, from 0 to 1, in place of the model's own"),
  std: z
    .tuple([deviationOf, deviationOf, deviationOf])
    .optional()
    .describe("standard deviation of each channel, in place of the model's own"),
});

/** How data sets are read, where their files leave something open. */
export const dataSchema = z.strictObject({
  dataSet: z.enum(dataSetNames).optional().describe("which published data set it is, where its files don't show it"),
  ...dataFormatOptions,
});

/** What `openDataSet` takes of a command's options. */
export function openOptions(options: z.output<typeof dataSchema> & { readonly seed?: number }): OpenOptions {
  const given = new Map(Object.entries(options));
  return Object.fromEntries(["seed", ...Object.keys(dataSchema.shape)].map((name) => [name, given.get(name)]));
}

type Normalization = (typeof normalizations)[number];

/** How a model is read, and how it sees images where a protocol says it. */
export type ProtocolReadOptions = z.output<typeof readSchema> & { readonly transform?: TransformChoice };

/** What the paper's authors do with a data set. Throws a UserError where it is none that they evaluated on. */
function paperProtocolOf({ path, name }: Pick<DataSet, "path" | "name">): PaperProtocol {
  const paper = name === undefined ? undefined : protocols[name].paper;
  if (paper) return paper;
  const listed = dataSetNames.filter((each) => protocols[each].paper).join(", ");
  const problem = name === undefined ? `${path} is not a known data set` : `the paper does not use ${name}`;
  throw new UserError(
    `--normalization paper is known for ${listed}, but ${problem}. Name the data set with dataSet (--data-set), or use --normalization model.`,
    { code: "INVALID_OPTION" },
  );
}

/** How images are normalized and resized: as given, as the data set's protocol says where asked for, or as the model does. */
export function readOptionsFor(
  options: z.output<typeof readSchema> & { readonly normalization: Normalization },
  data: Pick<DataSet, "path" | "name">,
): ProtocolReadOptions {
  const readingOptions = readOptions(options);
  if (options.normalization === "model") return readingOptions;
  if (options.normalization === "paper") {
    const { mean, std, transform } = paperProtocolOf(data);
    return {
      ...readingOptions,
      mean: readingOptions.mean ?? [...mean],
      std: readingOptions.std ?? [...std],
      transform,
    };
  }
  const { path: where, name } = data;
  if (name === undefined)
    throw new OptionError([
      (name) =>
        `${name("normalization")} data-set needs a published data set, and ${where} is not known as one. Name it with ${name("dataSet")}, or give ${name("mean")} and ${name("std")}.`,
    ]);
  const { mean, std } = protocols[name];
  return { ...readingOptions, mean: readingOptions.mean ?? [...mean], std: readingOptions.std ?? [...std] };
}

/** How the images that a probe trains on differ from those that it is evaluated on; undefined where they don't. */
export function probeCropsFor(
  options: Pick<z.output<typeof readSchema>, "std"> & { readonly normalization: Normalization },
  data: Pick<DataSet, "path" | "name">,
): Pick<PaperProtocol, "trainStd" | "augmentation"> | undefined {
  if (options.normalization !== "paper") return undefined;
  const { trainStd, augmentation } = paperProtocolOf(data);
  if (!trainStd && !augmentation) return undefined;
  return { augmentation, ...(options.std ? {} : { trainStd }) };
}

export const normalizationOption = z
  .enum(normalizations)
  .default("model")
  .describe("whose mean and standard deviation normalize the images")
  .meta({ note: "`paper` takes those of the paper's authors for the data set, with their transforms." });
/** Where a command's images come from. */
export const dataOption = pathOption.describe("folder of images, published data set, archive or table").meta({
  note: `A flat folder, one folder per class, or either in train/ and val/; a published data set as downloaded; or a file: ${fileEndings()}.`,
});

/** What `loadModel` takes of a command's options. */
export function readOptions({
  numHeads,
  imageSize,
  revision,
  mean,
  std,
}: z.output<typeof readSchema>): z.output<typeof readSchema> {
  return { numHeads, imageSize, revision, mean, std };
}

export const readBatchOption = countOption
  .max(mostImages)
  .default(evaluationBatch)
  .describe("images that are read at once")
  .meta({ note: "On a CPU, models run on four images per thread at once." });
