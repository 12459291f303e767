// The settings of a run that makes a student: what the stages of a run read.
import { z } from "zod";
import {
  commonSchema,
  listOption,
  countOption,
  mostEpochs,
  mostImages,
  mostSteps,
  rateOption,
  dataOption,
  dataSchema,
  normalizationOption,
  pathOption,
  readSchema,
} from "../context/common-options.ts";
import { defaultData } from "../data/procedural/name.ts";
import { weightTypes } from "../utils/half.ts";
import { baseSchema, optimizerSchema } from "./base-options.ts";
import { distillationSchema } from "./distillation-options.ts";
import { methodOptions } from "./methods/registry.ts";
import { budgetForms, budgetsPattern, shareForms, sharePattern } from "./search/budget.ts";
import { shapeKinds } from "./search/shape.ts";
import { keptPlaces } from "./training/cached-features.ts";

/** The type that weights are stored in. */
export const weightTypeOption = z
  .enum(weightTypes)
  .optional()
  .describe("type of the stored weights (default: the teacher's own)");

const optimizer = z.union([z.enum(["adamw"]).transform((kind) => ({ kind })), optimizerSchema]).pipe(optimizerSchema);

/** What makes a model smaller and faster. */
export const leverNames = ["shape", "image-size", "tokens", "bits"] as const;

/** Sizes and times that a model must fit, with commas. */
export const budgetsText = z.string().regex(budgetsPattern, budgetForms).optional();

/** What a run makes a student with, but for the recipe and the exports. */
export const studentRunSchema = z.strictObject({
  teacher: pathOption.describe("the teacher: a model's directory, its file of weights, or its hub name"),
  data: dataOption.default(defaultData),
  ...dataSchema.shape,
  normalization: normalizationOption,
  out: pathOption.describe("the output folder of the run (must be empty or absent)"),
  keep: z
    .enum(["even", "auto"])
    .default("even")
    .describe("which blocks are kept: evenly spaced, or found by a search")
    .meta({
      note: "`auto` searches blocks and, for the closed form, shapes with as many weights. The paper's is `even`.",
    }),
  budget: budgetsText.describe("largest file (25MB), time per image (10ms), both, or share (0.3x)").meta({
    note: "The best model within a size of the loaded file (25MB), a time per image on this machine (10ms), both (25MB,10ms), or a share of the teacher's parameters (0.3x).",
  }),
  sizes: listOption(z.string().regex(sharePattern, shareForms))
    .optional()
    .describe("several students of these shares of the teacher (0.3x,0.5x)")
    .meta({ note: "From one ranking of cuts. The largest is `student/`, the others are `students/<size>/`." }),
  agreement: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe("cheapest model with this agreement with the teacher")
    .meta({
      note: "The share of equal predictions; the mean cosine similarity where the teacher has no classifier. A budget bounds it.",
    }),
  levers: listOption(z.enum(leverNames))
    .default([...leverNames])
    .describe("what --budget (MB or ms) and --agreement may change"),
  method: distillationSchema.shape.method,
  ...baseSchema.omit({ schedule: true, accumulation: true, optimizer: true, seed: true }).shape,
  ...methodOptions,
  optimizer: optimizer
    .prefault("adamw")
    .describe("optimizer, also with settings: kind=adamw,clipNorm=1")
    .meta({ note: "As an object or as kind=adamw,weightDecay=0.05,clipNorm=1,layerDecay=0.8." }),
  shape: z.enum(shapeKinds).default("blocks").describe("what is removed to reach 1/r of the block weights").meta({
    note: "`balanced` removes blocks, heads and MLP channels; `channels` blocks and MLP channels; `blocks` blocks alone, as the paper does; `by-block` heads and MLP channels, differently in each block, which ONNX files alone can hold.",
  }),
  baseLearningRate: rateOption
    .default(1e-3)
    .describe("learning rate for an effective batch of 256; larger ones scale it up")
    .meta({ note: "lr = baseLearningRate * batch / 256." }),
  epochs: z.number().positive().max(mostEpochs).default(10).describe("passes over the images"),
  warmupEpochs: z
    .number()
    .min(0)
    .max(mostEpochs)
    .default(2)
    .describe("epochs of linear warm-up, before the rate falls to 0"),
  steps: countOption
    .max(mostSteps)
    .optional()
    .describe("so many steps instead of epochs; the same share of them is warm-up"),
  schedule: z.enum(["cosine", "linear"]).default("cosine").describe("how the learning rate falls"),
  effectiveBatch: countOption
    .max(mostImages)
    .optional()
    .describe("images per step (1024, or fewer so that an epoch has several steps)"),
  cachedCrops: countOption
    .max(10_000)
    .optional()
    .describe("crops of each image whose teacher features are cached")
    .meta({ note: "Training draws from these crops; each epoch has new crops where left out." }),
  cropCache: z
    .enum(keptPlaces)
    .default("auto")
    .describe("where teacher features are cached: auto takes memory if they fit")
    .meta({ note: "On disk they stand in the run folder while it trains." }),
  cachedFeatures: pathOption
    .optional()
    .describe("folder of teacher features that wecolora cache made")
    .meta({ note: "Training draws from its crops, so the teacher is not shown any." }),
  batch: countOption
    .max(mostImages)
    .optional()
    .describe("images in a micro-batch (default: 6 to 16, fewer if memory is short)"),
  fewShotRatio: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe("share of each class (or of a flat folder) to train on"),
  fewShotRounding: z
    .enum(["nearest", "down"])
    .default("nearest")
    .describe("how a class's share is rounded to a count of at least one image"),
  fewShotCount: countOption.optional().describe("images of each class (or of a flat folder) to train on"),
  heldOut: z.number().min(0).lt(1).default(0.1).describe("share held out for evaluation where the data has no val/"),
  weightType: weightTypeOption,
  checkpointSteps: countOption.optional().describe("steps between checkpoints (default: an eighth of the run)"),
  checkpointMinutes: z
    .number()
    .positive()
    .max(100_000)
    .default(5)
    .describe("a checkpoint is never further back than so many minutes"),
  keepCheckpoints: countOption.default(2).describe("the last so many checkpoints are kept, and the best"),
  evaluateSteps: z
    .number()
    .int()
    .min(0)
    .optional()
    .describe("steps between held-out evaluations (a fifth of the run; 0: none)"),
  heldOutImages: countOption
    .default(64)
    .describe("held-out images in each evaluation while training")
    .meta({ note: "Twice as many training images are evaluated too." }),
  earlyStop: countOption
    .optional()
    .describe("stop after so many held-out evaluations without a better fidelity")
    .meta({ note: "The best student is taken." }),
  evaluate: z.boolean().default(true).describe("evaluate the student at the end"),
  evaluateTeacher: z.boolean().default(true).describe("evaluate teacher and weight copy beside the student"),
  labelledImages: countOption.default(2000).describe("at most so many labelled images that k-NN and probe learn from"),
  evaluationImages: countOption.default(1000).describe("at most so many evaluation images"),
  ...readSchema.shape,
  report: z.boolean().default(true).describe("write report.html and report.md at the end"),
  overwrite: z.boolean().default(false).describe("replace a run that is already in the folder"),
  ...commonSchema.shape,
});

export type StudentRunOptions = z.output<typeof studentRunSchema>;
