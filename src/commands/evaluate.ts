// Judging a finished model, and writing its features.
import { z } from "zod";
import { writeSafetensors } from "../checkpoints/safetensors.ts";
import type { PictureSource } from "../data/loader.ts";
import { protocols } from "../data/protocols.ts";
import { extractFeatures } from "../evaluation/features.ts";
import { logisticDefaults } from "../evaluation/logistic.ts";
import { probeDefaults } from "../evaluation/probe.ts";
import type { Comparison } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { Environment, Listener } from "../context/environment.ts";
import { loadRequest, SkippedPictures } from "../context/environment.ts";
import { inPrecision } from "../students/settle-precision.ts";
import { modelNames } from "../workspace/output-files.ts";
import type { NamedInput, OutputFolder } from "../workspace/output-folder.ts";
import { checkApart, checkOutputFile, checkRoom, withOptionalOutput } from "../workspace/output-folder.ts";
import { elementBytes } from "../utils/tensor.ts";
import type { Parts } from "../evaluation/evaluate-candidates.ts";
import { compareJudged, judgeCandidates, splitParts } from "../evaluation/evaluate-candidates.ts";
import type { Duplicate } from "../data/duplicates.ts";
import { duplicateWarning, findDuplicates } from "../data/duplicates.ts";
import { writeEvaluation } from "../evaluation/evaluation-files.ts";
import {
  commonSchema,
  countOption,
  dataHelp,
  dataSchema,
  listOption,
  normalizationOption,
  openOptions,
  pathOption,
  readOptions,
  readOptionsFor,
  readSchema,
} from "../context/common-options.ts";
import { evaluationBatch } from "../evaluation/model-outputs.ts";
import { precisions } from "../models/precision.ts";

const readBatch = countOption
  .default(evaluationBatch)
  .describe("pictures read at once; on a processor, models run on four a thread of them at once");

/** `wecolora evaluate` */
export const evaluateRunSchema = z.strictObject({
  model: listOption(pathOption).describe(
    "the model, or several with commas: a directory, file of weights, or hub name",
  ),
  data: pathOption.describe(dataHelp),
  ...dataSchema.shape,
  normalization: normalizationOption,
  teacher: pathOption.optional().describe("the teacher, for fidelity"),
  out: pathOption
    .optional()
    .describe(
      "a folder for evaluation.json, pictures.csv, classes.csv, and the confusion of classes as table and picture",
    ),
  heldOut: z.number().positive().lt(1).default(0.2).describe("share to judge on where the data has no val/"),
  batch: readBatch,
  precision: z
    .enum(precisions)
    .default("float32")
    .describe(
      "of the models' products, the teacher's aside: float32, 8 bits, or what is faster here while features stay near",
    ),
  neighbours: countOption.default(10).describe("k of the weighted nearest neighbours"),
  temperature: z.number().positive().default(0.07).describe("temperature of the neighbours' weights"),
  probeEpochs: countOption
    .optional()
    .describe("epochs of the linear probe (90; the published protocol's for its data set)"),
  probeBatch: countOption.default(512).describe("batch of the linear probe"),
  probeLearningRate: z
    .union([z.number().positive(), z.array(z.number().positive()).min(1)])
    .optional()
    .describe(
      "base learning rate of the probe, for 256 pictures (0.1, or more where the pictures are few); of several with commas, trained in one pass, the best on a tenth of the pictures is taken",
    ),
  logistic: z.boolean().default(false).describe("also fit a logistic regression to convergence, as a second opinion"),
  cache: z.boolean().default(true).describe("keep features on disk for the next time"),
  cacheDir: pathOption.optional().describe("where to (wecolora/features in the user's cache folder)"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

/** `wecolora features` */
export const featuresRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory, file of weights, or hub name"),
  data: pathOption.describe(dataHelp),
  ...dataSchema.shape,
  out: pathOption.describe("the safetensors file to write"),
  batch: readBatch,
  precision: z
    .enum(precisions)
    .default("float32")
    .describe("of the model's products: float32, 8 bits, or what is faster here while features stay near"),
  ...readSchema.shape,
  ...commonSchema.omit({ seed: true }).shape,
});

export type EvaluateRunInput = z.input<typeof evaluateRunSchema>;
export type FeaturesRunInput = z.input<typeof featuresRunSchema>;

export interface EvaluateRunResult {
  /** The teacher first, where one is given. */
  readonly results: readonly ResultRow[];
  /** The model beside the teacher on the same pictures, with intervals. */
  readonly comparisons: readonly Comparison[];
  /** Pictures that were judged on, and labelled ones that neighbours and probe learned from. */
  readonly queries: number;
  readonly bank: number;
  readonly skipped: number;
  /** Pictures to judge on that are in the part to learn from too. */
  readonly duplicates: readonly Duplicate[];
  /** The published data set, where it is one. */
  readonly dataSet?: string;
  readonly out?: string;
}

/** Equal files in both parts, with a warning where there are any. */
async function duplicatesOf(
  source: PictureSource,
  { bank, queries }: Pick<Parts, "bank" | "queries">,
  listener: Listener,
): Promise<Duplicate[]> {
  if (bank.length === 0) return [];
  listener.stage?.("looking for duplicates", bank.length + queries.length);
  const found = await findDuplicates(source, bank, queries, (done) => listener.progress?.(done));
  if (found.length > 0) listener.warn?.(duplicateWarning(found));
  return found;
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

/** Judges a model on a folder of pictures, beside its teacher where one is given. */
export async function runEvaluation(
  environment: Environment,
  input: EvaluateRunInput,
  listener: Listener = {},
): Promise<EvaluateRunResult> {
  const options = parseOptions(evaluateRunSchema, input, "options of evaluate");
  const inputs = evaluationInputs(options);
  if (options.cacheDir !== undefined) await checkApart(environment, options.cacheDir, inputs, "--cache-dir");
  return withOptionalOutput(environment, { path: options.out, kind: "evaluation", inputs }, (output) =>
    evaluateInto(environment, options, output, listener),
  );
}

type EvaluateOptions = z.output<typeof evaluateRunSchema>;

/** What an evaluation reads, and must not write over. */
const evaluationInputs = ({ model, teacher, data }: EvaluateOptions): NamedInput[] => [
  ...model.map((path) => ({ option: "--model", path })),
  ...(teacher === undefined ? [] : [{ option: "--teacher", path: teacher }]),
  { option: "--data", path: data },
];

async function evaluateInto(
  environment: Environment,
  options: EvaluateOptions,
  output: OutputFolder | undefined,
  listener: Listener,
): Promise<EvaluateRunResult> {
  const data = await environment.openDataSet(options.data, openOptions(options));
  const names = options.model.length === 1 ? ["model"] : modelNames(options.model);
  const teachers = options.teacher === undefined ? [] : [["teacher", options.teacher]];
  const candidates = [];
  for (const [name, path] of [...teachers, ...options.model.map((path, i) => [names[i], path])]) {
    const model = await environment.loadModel(path, loadRequest(readOptionsFor(options, data), listener));
    await model.rest();
    candidates.push({ name, model, bytes: model.origin.bytes });
  }
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    for (const candidate of candidates.slice(teachers.length))
      candidate.model = await inPrecision(
        candidate.model,
        options.precision,
        source,
        (data.test ?? data.train).items,
        listener,
      );
    for (const file of [...data.train.skipped, ...(data.test?.skipped ?? [])]) skipped.add(file);
    const split = splitParts(data, options.heldOut, options.seed);
    const labelled = data.train.classes !== undefined;
    // Without labels there is nothing to learn from, so every picture can be judged on.
    const parts = labelled ? split : { bank: [], queries: (data.test ?? data.train).items };
    if (parts.queries.length === 0) {
      throw new UserError(
        `the classes in ${options.data} have too few pictures to hold any out; raise heldOut (--held-out), or put the pictures to judge on in val/ and the others in train/`,
      );
    }
    const duplicates = await duplicatesOf(source, parts, listener);
    const probeEpochs = options.probeEpochs ?? (data.name ? protocols[data.name].probeEpochs : probeDefaults.epochs);
    const judged = await judgeCandidates(
      environment,
      {
        candidates,
        reference: options.teacher === undefined ? undefined : candidates[0].model,
        source,
        parts,
        classes: data.train.classes,
        batch: options.batch,
        neighbours: { k: options.neighbours, temperature: options.temperature },
        logistic: options.logistic ? logisticDefaults : undefined,
        store: options.cache ? environment.featureStore(options.cacheDir) : undefined,
        probe: {
          epochs: probeEpochs,
          warmupEpochs: Math.min(10, probeEpochs / 9),
          batch: options.probeBatch,
          baseLearningRate: options.probeLearningRate,
          seed: options.seed,
        },
      },
      skipped,
      listener,
    );
    skipped.report(listener);
    const comparisons = compareJudged(judged);
    const facts = { queries: parts.queries.length, bank: parts.bank.length, skipped: skipped.count, duplicates };
    if (output) {
      await writeEvaluation(environment, output.directory, judged, data.train.classes, {
        options,
        comparisons,
        ...facts,
      });
      await output.removeStale();
    }
    return { results: judged.rows, comparisons, dataSet: data.name, out: options.out, ...facts };
  } finally {
    await source.dispose();
    for (const { model } of candidates) await model.dispose();
  }
}

export interface FeaturesRunResult {
  readonly out: string;
  readonly pictures: number;
  readonly width: number;
  readonly skipped: number;
}

/**
 * Writes the class tokens of all pictures of a folder as `features` `[n, D]` into a safetensors file; its metadata
 * holds the pictures' names in the order of the rows, as JSON.
 */
export async function runFeatures(
  environment: Environment,
  input: FeaturesRunInput,
  listener: Listener = {},
): Promise<FeaturesRunResult> {
  const options = parseOptions(featuresRunSchema, input, "options of features");
  const inputs = [
    { option: "--model", path: options.model },
    { option: "--data", path: options.data },
  ];
  await checkOutputFile(environment, options.out, inputs, isFeatureFile);
  const data = await environment.openPictures(options.data, openOptions(options));
  let model = await environment.loadModel(options.model, loadRequest(readOptions(options), listener));
  await model.rest();
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    for (const file of data.skipped) skipped.add(file);
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
