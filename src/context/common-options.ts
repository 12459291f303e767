// Options that several commands share, and what loaders take of them.
import { z } from "zod";
import type { DataSet } from "../data/dataset.ts";
import { fileEndings } from "../data/formats/lookup.ts";
import type { OpenOptions } from "../data/formats/open.ts";
import { dataFormatOptions } from "../data/formats/registry.ts";
import { evaluationBatch } from "../data/loader.ts";
import { dataSetNames, protocols } from "../data/protocols.ts";
import type { DeviceName } from "../runtime/devices.ts";
import { defaultDeviceName, deviceOf, deviceSpellings, findDevice } from "../runtime/devices.ts";
import { UserError } from "../utils/errors.ts";
export { listOption } from "../utils/option-shapes.ts";

export const pathOption = z.string().min(1);
export const countOption = z.number().int().positive();
const triple = z.tuple([z.number(), z.number(), z.number()]);

/** A device by any of its spellings. */
const deviceOption = z
  .enum(deviceSpellings)
  .transform((spelling): DeviceName => (findDevice(spelling) ?? deviceOf(defaultDeviceName)).name);

/** Options that every command has. */
export const commonSchema = z.strictObject({
  threads: countOption.optional().describe("threads of ONNX Runtime (all cores where left out)"),
  device: deviceOption.default(defaultDeviceName).describe("where graphs run; tried at the start"),
  strict: z.boolean().default(false).describe("a file that can't be read as a picture is an error, not skipped"),
  seed: z.number().int().default(0).describe("seed of everything random"),
});

/** How models are read, where their files leave something open. */
export const readSchema = z.strictObject({
  numHeads: countOption.optional().describe("the model's attention heads, where no config.json says it (width / 64)"),
  imageSize: countOption.optional().describe("pixels per side of the pictures (the model's own where left out)"),
  revision: z.string().min(1).optional().describe("branch, tag or commit of a model that is named as on the hub"),
  mean: triple.optional().describe("mean of each channel, from 0 to 1, in place of the model's own"),
  std: triple.optional().describe("standard deviation of each channel, in place of the model's own"),
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

/** The mean and deviation to see pictures with: those given, those of the data set where asked for, or the model's. */
export function readOptionsFor(
  options: z.output<typeof readSchema> & { readonly normalization: "model" | "data-set" },
  { path: where, name }: Pick<DataSet, "path" | "name">,
): z.output<typeof readSchema> {
  const own = readOptions(options);
  if (options.normalization === "model") return own;
  if (name === undefined)
    throw new UserError(
      `${where} is none of the published data sets, so it has no mean and deviation of its own: name it with dataSet (--data-set), or give mean and std`,
    );
  const { mean, std } = protocols[name];
  return { ...own, mean: own.mean ?? [...mean], std: own.std ?? [...std] };
}

export const normalizationOption = z
  .enum(["model", "data-set"])
  .default("model")
  .describe("whose mean and deviation pictures are normalised with: the model's, or the published data set's");
export const dataHelp = `pictures: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded, or a ${fileEndings()}`;

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
  .default(evaluationBatch)
  .describe("pictures read at once; on a processor, models run on four a thread of them at once");
