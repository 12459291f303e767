// The settings of whole runs, one schema each; command line, configuration file and API read the same ones.
import { z } from "zod";
import { analyticDefaults } from "../students/closed-form/closed-form.ts";
import { distillationSchema, optimizerSchema } from "../students/distillation-options.ts";
import { axes, sliceDefaults } from "../data/scans.ts";
import { evaluationBatch } from "../evaluation/model-outputs.ts";
import { segmenterDefaults } from "../segmentation/train-decoder.ts";
import type { DataSet } from "../data/dataset.ts";
import type { OpenOptions } from "../data/formats/open.ts";
import { dataSetNames, protocols } from "../data/protocols.ts";
import { headFusions, rolloutDefaults, rolloutMethods } from "../evaluation/rollout.ts";
import { keptPlaces } from "../students/training/cached-features.ts";
import { exportFormats } from "../exports/registry.ts";
import { saveSchema } from "../exports/save.ts";
import { targetModules } from "../models/vit.ts";
import { precisions } from "../models/precision.ts";
import { deviceNames } from "../runtime/device.ts";
import { UserError } from "../utils/errors.ts";
import { budgetPattern } from "../students/search/budget.ts";
import { shapeKinds } from "../students/search/shape.ts";

const path = z.string().min(1);
const count = z.number().int().positive();
/** One or several. */
const list = <T extends string>(what: z.ZodType<T, T>) =>
  z.union([what, z.array(what).min(1)]).transform((value): T[] => (Array.isArray(value) ? value : [value]));
const triple = z.tuple([z.number(), z.number(), z.number()]);

/** Options that every command has. */
export const commonSchema = z.strictObject({
  threads: count.optional().describe("threads of ONNX Runtime (all cores where left out)"),
  device: z.enum(deviceNames).default("cpu").describe("where graphs run; tried at the start"),
  strict: z.boolean().default(false).describe("a file that can't be read as a picture is an error, not skipped"),
  seed: z.number().int().default(0).describe("seed of everything random"),
});

/** How models are read, where their files leave something open. */
export const readSchema = z.strictObject({
  numHeads: count.optional().describe("the model's attention heads, where no config.json says it (width / 64)"),
  imageSize: count.optional().describe("pixels per side of the pictures (the model's own where left out)"),
  revision: z.string().min(1).optional().describe("branch, tag or commit of a model that is named as on the hub"),
  mean: triple.optional().describe("mean of each channel, from 0 to 1, in place of the model's own"),
  std: triple.optional().describe("standard deviation of each channel, in place of the model's own"),
});

/** How data sets are read, where their files leave something open. */
export const dataSchema = z.strictObject({
  dataSet: z.enum(dataSetNames).optional().describe("which published data set it is, where its files don't show it"),
  pictureColumn: z.string().min(1).optional().describe("the column of paths in a table (path, file, image, ...)"),
  labelColumns: list(z.string().min(1))
    .optional()
    .describe("the column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply"),
  includeNoFinding: z
    .boolean()
    .default(false)
    .describe("ChestX-ray14: that a picture shows nothing is a class of its own"),
});

/** What `openDataSet` takes of a command's options. */
export function openOptions({
  dataSet,
  pictureColumn,
  labelColumns,
  includeNoFinding,
  seed,
}: z.output<typeof dataSchema> & { readonly seed?: number }): OpenOptions {
  return { dataSet, pictureColumn, labelColumns, includeNoFinding, seed };
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

const normalization = z
  .enum(["model", "data-set"])
  .default("model")
  .describe("whose mean and deviation pictures are normalised with: the model's, or the published data set's");
const dataHelp =
  "pictures: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded, or a .zip, .tar, .parquet, .csv or .txt";

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

const optimizer = z.union([z.enum(["adamw"]).transform((kind) => ({ kind })), optimizerSchema]).pipe(optimizerSchema);

export const recipeSchema = z.enum(["closed-form", "refined", "paper"]);

/** `wecolora distill`, and `distill` of `wecolora/node`. */
const budgetText = z.string().regex(budgetPattern, "a budget is such as 25MB, 0.3x or 10ms").optional();

export const distillRunSchema = z.strictObject({
  teacher: path.describe("the teacher: a model's directory, its file of weights, or its hub name"),
  data: path.describe(dataHelp),
  ...dataSchema.shape,
  normalization,
  out: path.describe("the run folder, made new"),
  recipe: recipeSchema
    .optional()
    .describe(
      "settings that go together: a refit in closed form (the usual), adapters trained from there (where an option speaks of training), or the paper's",
    ),
  keep: z
    .enum(["even", "auto"])
    .default("even")
    .describe(
      "which blocks: as many as every r-th leaves, evenly (the paper's), or what a search finds to stand best for all: of whole blocks and, with the closed form, of shapes with as many weights",
    ),
  budget: budgetText.describe(
    "as many blocks as fit: weights on disk (25MB), a share of the teacher (0.3x), or time a picture (10ms)",
  ),
  ...distillationSchema.pick({
    method: true,
    start: true,
    reductionFactor: true,
    keptBlocks: true,
    rank: true,
    alpha: true,
    rankStabilized: true,
    adapterDropout: true,
    targetModules: true,
    loss: true,
    softLabels: true,
    maskRatio: true,
    precision: true,
    int8Parts: true,
    checkpointing: true,
    activations: true,
  }).shape,
  optimizer: optimizer
    .prefault("adamw")
    .describe("what takes the steps; also kind=adamw,weightDecay=0.05,clipNorm=1,layerDecay=0.8"),
  shape: z
    .enum(shapeKinds)
    .default("blocks")
    .describe(
      "what a smaller student gives up, for as many weights as every r-th block has: some blocks, heads and channels of MLPs (the usual of the closed form), some blocks and channels, or blocks alone (the paper's)",
    ),
  mlpWidth: z
    .number()
    .positive()
    .optional()
    .describe(
      "channels that each MLP keeps, or their share below 1; the refit makes up for the others (all where left out)",
    ),
  keptHeads: z
    .number()
    .positive()
    .optional()
    .describe("heads that each attention keeps, or their share below 1, likewise (all where left out)"),
  analyticViews: count
    .default(1)
    .describe("views of each picture that an analytic start is fitted on: as for evaluation, then random ones"),
  analyticTokens: z
    .number()
    .positive()
    .default(analyticDefaults.tokensPerUnknown)
    .describe(
      "tokens that an analytic start fits a map on, about, for each number that enters it: all of them cost time",
    ),
  analyticMaps: list(z.enum(targetModules))
    .default([...analyticDefaults.maps])
    .describe("maps that an analytic start refits; fc2 in any case, and proj where heads go"),
  analyticSweeps: count
    .default(analyticDefaults.sweeps)
    .describe("how often an analytic start goes through all blocks; later sweeps only move what comes nearer by that"),
  baseLearningRate: z
    .number()
    .positive()
    .default(1e-3)
    .describe("for an effective batch of 256; larger ones scale it up (lr = blr * batch / 256)"),
  epochs: z.number().positive().default(10).describe("passes over the pictures"),
  warmupEpochs: z.number().min(0).default(2).describe("epochs of linear warm-up, before the rate falls to 0"),
  steps: count.optional().describe("so many steps instead of epochs; the same share of them is warm-up"),
  schedule: z.enum(["cosine", "linear"]).default("cosine").describe("how the learning rate falls"),
  effectiveBatch: count.optional().describe("pictures to a step (1024, or fewer so that an epoch has several steps)"),
  keptViews: count
    .optional()
    .describe(
      "views of each picture that training draws from: each is read once, and what teacher and embedding make of it is kept (new views in each epoch where left out)",
    ),
  keptViewsOn: z
    .enum(keptPlaces)
    .default("auto")
    .describe("where kept views lie: in memory, in a file in the run folder while it trains, or as they fit"),
  batch: count
    .optional()
    .describe(
      "pictures at once in memory (6 to 16 that make up a step, about 8, on a GPU 16; fewer where memory is short)",
    ),
  fewShotRatio: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe("share of each class (or of a flat folder) to train on"),
  fewShotCount: count.optional().describe("pictures of each class (or of a flat folder) to train on"),
  heldOut: z.number().min(0).lt(1).default(0.1).describe("share kept for judging where the data has no val/"),
  ...saveSchema.pick({ weightType: true }).shape,
  checkpointSteps: count.optional().describe("steps between checkpoints (an eighth of the run where left out)"),
  checkpointMinutes: z
    .number()
    .positive()
    .default(5)
    .describe("a checkpoint is never further back than so many minutes"),
  keepCheckpoints: count.default(2).describe("the last so many checkpoints are kept, and the best"),
  evaluateSteps: z
    .number()
    .int()
    .min(0)
    .optional()
    .describe("steps between looks at held-out pictures while training (a fifth of the run; 0: none)"),
  evaluatePictures: count
    .default(64)
    .describe("held-out pictures, and twice as many training pictures, to look at then"),
  earlyStop: count
    .optional()
    .describe("stop after so many looks without a better held-out fidelity, and take the best student"),
  judge: z.boolean().default(true).describe("judge the student at the end"),
  judgeTeacher: z.boolean().default(true).describe("judge teacher and weight copy beside the student"),
  judgeBank: count.default(2000).describe("at most so many labelled pictures for neighbours and probe"),
  judgeQueries: count.default(1000).describe("at most so many pictures to judge on"),
  ...readSchema.shape,
  export: list(z.enum(exportFormats))
    .optional()
    .describe("formats to write at the end, as wecolora export does it; several with commas"),
  report: z.boolean().default(true).describe("write report.html and report.md at the end"),
  overwrite: z.boolean().default(false).describe("replace a run that is in the folder already"),
  ...commonSchema.shape,
});

/** `wecolora distill --resume RUN`: all else is in the run folder. */
export const resumeSchema = z.strictObject({
  resume: path.describe("the folder of a run to go on with; its own settings hold"),
  ...commonSchema.pick({ threads: true, device: true }).shape,
});

const readBatch = count
  .default(evaluationBatch)
  .describe("pictures read at once; on a processor, models run on four a thread of them at once");

/** `wecolora evaluate` */
export const evaluateRunSchema = z.strictObject({
  model: list(path).describe("the model, or several with commas: a directory, file of weights, or hub name"),
  data: path.describe(dataHelp),
  ...dataSchema.shape,
  normalization,
  teacher: path.optional().describe("the teacher, for fidelity"),
  out: path
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
  neighbours: count.default(10).describe("k of the weighted nearest neighbours"),
  temperature: z.number().positive().default(0.07).describe("temperature of the neighbours' weights"),
  probeEpochs: count.optional().describe("epochs of the linear probe (90; the published protocol's for its data set)"),
  probeBatch: count.default(512).describe("batch of the linear probe"),
  probeLearningRate: z
    .union([z.number().positive(), z.array(z.number().positive()).min(1)])
    .optional()
    .describe(
      "base learning rate of the probe, for 256 pictures (0.1, or more where the pictures are few); of several with commas, trained in one pass, the best on a tenth of the pictures is taken",
    ),
  logistic: z.boolean().default(false).describe("also fit a logistic regression to convergence, as a second opinion"),
  cache: z.boolean().default(true).describe("keep features on disk for the next time"),
  cacheDir: path.optional().describe("where to (wecolora/features in the user's cache folder)"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

/** `wecolora features` */
export const featuresRunSchema = z.strictObject({
  model: path.describe("the model: its directory, file of weights, or hub name"),
  data: path.describe(dataHelp),
  ...dataSchema.shape,
  out: path.describe("the safetensors file to write"),
  batch: readBatch,
  precision: z
    .enum(precisions)
    .default("float32")
    .describe("of the model's products: float32, 8 bits, or what is faster here while features stay near"),
  ...readSchema.shape,
  ...commonSchema.omit({ seed: true }).shape,
});

/** `wecolora export` */
export const exportRunSchema = z.strictObject({
  model: path.describe("a run's folder, or a model: its directory, file of weights, or hub name"),
  to: list(z.enum(exportFormats)).describe(`what to write, several with commas`),
  out: path
    .optional()
    .describe(
      "where to write (exports/ in the run's folder where left out); a folder a format where there are several",
    ),
  data: path.optional().describe("pictures to compare on (the run's own where left out)"),
  pictures: count
    .default(100)
    .describe("at most so many pictures, and three times as many labelled ones for neighbours"),
  ...saveSchema.pick({ weightType: true }).shape,
  ...readSchema.shape,
  ...commonSchema.omit({ strict: true }).shape,
});

/** `wecolora report` */
export const reportRunSchema = z.strictObject({
  runs: z.array(path).min(1).describe("run folders; several are compared on one page"),
  out: path
    .optional()
    .describe("the page to write (report.html in the run's folder; for several, comparison.html here)"),
  ...commonSchema.pick({ threads: true, device: true }).shape,
});

/** `wecolora rollout` */
export const rolloutRunSchema = z.strictObject({
  model: path.describe("the model: its directory, file of weights, or hub name"),
  teacher: path.optional().describe("a model to show beside it"),
  data: path.describe("a folder of pictures"),
  out: path.describe("the folder to write one PNG a picture into"),
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
  pictures: count.default(16).describe("at most so many pictures, drawn evenly"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

/** `wecolora similarity` */
export const similarityRunSchema = z.strictObject({
  model: path.describe("the student: its directory, file of weights, or hub name"),
  teacher: path.describe("the teacher"),
  data: path.describe("a folder of pictures"),
  out: path.optional().describe("a folder for similarity.csv, .svg and .png (only the table where left out)"),
  pictures: count.default(64).describe("at most so many pictures, drawn evenly"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

/** `wecolora segment` */
export const segmentRunSchema = z.strictObject({
  model: list(path).describe("encoders, several with commas: a model's directory, file of weights, or hub name"),
  data: path.describe("a folder of NIfTI volumes with masks (*_seg.nii.gz; imagesTr/ and labelsTr/; ...)"),
  out: path.describe("the folder for table, masks and decoders"),
  axis: z.enum(axes).default(sliceDefaults.axis).describe("what slices are cut across"),
  kinds: list(z.string().min(1))
    .optional()
    .describe("kinds of scans, as their files end (t1ce,t2,flair): the channels"),
  maskName: z
    .string()
    .min(1)
    .optional()
    .describe("how masks' files end, where it is not seg, mask, label, gt or tissue"),
  classNames: list(z.string().min(1)).optional().describe("names of the masks' numbers, from the smallest above 0"),
  encoder: z.enum(["frozen", "trained"]).default("frozen").describe("whether the encoder trains with the decoder"),
  yardstick: z.boolean().default(false).describe("also train the decoder on bare pixels, to compare with"),
  split: z
    .enum(["cases", "blocks", "ends"])
    .optional()
    .describe(
      "what is held out: whole cases (the usual for several), or of each case a block of slices in the lower and one in the upper half, or its two ends",
    ),
  heldOut: z
    .number()
    .positive()
    .lt(1)
    .default(sliceDefaults.share)
    .describe("share of the cases or slices to judge on"),
  gap: z
    .number()
    .int()
    .min(0)
    .default(sliceDefaults.gap)
    .describe("slices beside held-out blocks that nothing learns from"),
  trainSlices: count.optional().describe("at most so many slices to train on, evenly spread"),
  epochs: count.default(segmenterDefaults.epochs).describe("passes over the slices"),
  warmupEpochs: z.number().min(0).default(segmenterDefaults.warmupEpochs).describe("epochs of linear warm-up"),
  batch: count.default(segmenterDefaults.batch).describe("slices to a step"),
  learningRate: z.number().positive().default(segmenterDefaults.learningRate).describe("the decoder's, at its highest"),
  encoderRate: z
    .number()
    .positive()
    .default(segmenterDefaults.encoderRate)
    .describe("the encoder's learning rate, times the decoder's"),
  weightDecay: z.number().min(0).default(segmenterDefaults.weightDecay).describe("of matrices and kernels"),
  ...readSchema.shape,
  ...commonSchema.omit({ strict: true }).shape,
});

/** `wecolora inspect MODEL --data D`: how much blocks matter. */
export const blocksRunSchema = z.strictObject({
  data: path.describe("pictures, to see how much each block and each run of blocks matters for them"),
  pictures: count.default(48).describe("at most so many pictures, drawn evenly"),
  longest: count.default(4).describe("the longest run of blocks that one may stand for"),
  search: z.boolean().default(false).describe("also search which blocks to keep, for each number of them"),
  frontier: z
    .boolean()
    .default(false)
    .describe("also refit students of six sizes and measure what each costs and gives up, in 8 bits too"),
  budget: budgetText.describe(
    "also say what gives up least within it, of blocks, widths and 8 bits: weights on disk (25MB), a share of the teacher (0.3x), or time a picture (10ms)",
  ),
  out: path.optional().describe("a folder for blocks.csv, blocks.svg and blocks.png, and frontier.* where asked for"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

export type SegmentRunInput = z.input<typeof segmentRunSchema>;
export type SegmentRunOptions = z.output<typeof segmentRunSchema>;
export type BlocksRunInput = z.input<typeof blocksRunSchema>;
export type BlocksRunOptions = z.output<typeof blocksRunSchema>;
export type ReportRunInput = z.input<typeof reportRunSchema>;
export type RolloutRunInput = z.input<typeof rolloutRunSchema>;
export type SimilarityRunInput = z.input<typeof similarityRunSchema>;
export type ExportRunInput = z.input<typeof exportRunSchema>;
export type DistillRunInput = z.input<typeof distillRunSchema>;
export type DistillRunOptions = z.output<typeof distillRunSchema>;
export type ResumeInput = z.input<typeof resumeSchema>;
export type EvaluateRunInput = z.input<typeof evaluateRunSchema>;
export type FeaturesRunInput = z.input<typeof featuresRunSchema>;
