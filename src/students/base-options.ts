// The settings of a distillation that all methods share; the paper's defaults (section 4.1). A method's own are in its file.
import { z } from "zod";
import { countOption } from "../context/common-options.ts";
import { int8Parts, precisions } from "../models/precision.ts";

const positiveInteger = countOption;

/** What every loss between features can say besides its kind. */
const featureFields = {
  weight: z.number().positive().max(1e6).default(1).describe("what it is multiplied by; several losses add up"),
  blocks: z
    .enum(["last", "all"])
    .default("last")
    .describe("outputs of the last blocks, or of each student block and the last teacher block that it stands for"),
  norm: z
    .enum(["before", "after"])
    .default("before")
    .describe("features before or after the final norm (each model's own)"),
  tokens: z.enum(["all", "class"]).default("all").describe("all tokens, or the first alone"),
  gradients: z
    .enum(["through", "block"])
    .default("through")
    .describe("through all blocks, or within each block alone: it learns from the tokens that reach it"),
};

const plainLosses = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("l1").describe("mean absolute difference"), ...featureFields }),
  z.strictObject({ kind: z.literal("mse").describe("mean squared difference"), ...featureFields }),
  z.strictObject({
    kind: z.literal("smooth-l1").describe("squared below beta, absolute above"),
    beta: z.number().positive().max(1e6).default(1),
    ...featureFields,
  }),
  z.strictObject({ kind: z.literal("cosine").describe("1 - cosine of each token"), ...featureFields }),
  z.strictObject({
    kind: z.literal("l1+kl").describe("half of mean absolute difference plus KL divergence over channels"),
    ...featureFields,
  }),
]);

/** Short names: `multi-block` is `l1` over all blocks, `blockwise` the same with gradients within each block alone. */
export const lossNames = ["l1", "mse", "smooth-l1", "cosine", "l1+kl", "multi-block", "blockwise"] as const;

const synonyms: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "multi-block": { kind: "l1", blocks: "all" },
  multi: { kind: "l1", blocks: "all" },
  blockwise: { kind: "l1", blocks: "all", gradients: "block" },
  "l1+kld": { kind: "l1+kl" },
  smooth: { kind: "smooth-l1" },
  absolute: { kind: "l1" },
  squared: { kind: "mse" },
};

/** A loss by its short name or with its settings. */
function expandLoss(value: unknown): unknown {
  const given: unknown = typeof value === "string" ? { kind: value } : value;
  if (typeof given !== "object" || given === null || !("kind" in given)) return given;
  return Object.hasOwn(synonyms, String(given.kind)) ? { ...given, ...synonyms[String(given.kind)] } : given;
}

/** One loss or several that add up; short names stand for losses with their defaults. */
export const lossSchema = z
  .union([
    z.enum(lossNames),
    z.array(z.enum(lossNames)),
    z.looseObject({ kind: z.string() }),
    z.array(z.looseObject({ kind: z.string() })),
  ])
  .transform((value) => (Array.isArray(value) ? value : [value]).map(expandLoss))
  .pipe(z.array(plainLosses).min(1));

export type FeatureLoss = z.output<typeof plainLosses>;

export const optimizerSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("adamw"),
    betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
    eps: z.number().min(1e-30).max(1e6).default(1e-8),
    weightDecay: z.number().min(0).max(1000).default(0.05),
    clipNorm: z
      .number()
      .positive()
      .max(1e30)
      .optional()
      .describe("gradients are scaled down to this norm over all of them"),
    layerDecay: z
      .number()
      .positive()
      .max(1)
      .default(1)
      .describe("learning rate of a block is this times that of the block after it"),
  }),
]);

const scheduleFields = {
  baseLearningRate: z.number().positive().default(1e-3),
  warmupEpochs: z.number().min(0).default(2),
  epochs: z.number().positive().default(10),
  iterationsPerEpoch: positiveInteger.default(1),
};

export const scheduleSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("cosine"), ...scheduleFields }),
  z.strictObject({ kind: z.literal("linear"), ...scheduleFields }),
]);

export const startNames = ["weight-copy", "analytic", "top-blocks", "random"] as const;
export type StartName = (typeof startNames)[number];

/** What every distillation takes, whatever its method. */
export const baseSchema = z.strictObject({
  start: z
    .enum([...startNames, "copy"])
    .transform((name): StartName => (name === "copy" ? "weight-copy" : name))
    .optional()
    .describe("the student before training (default: the method's)")
    .meta({
      note: "Copies of the kept blocks (`copy` for short), the closed-form refit of these (`analytic`), the first blocks, or random weights.",
    }),
  reductionFactor: positiveInteger
    .optional()
    .describe("the student has about 1/n of the teacher's block weights (default: 2)")
    .meta({ note: "Left out where keptBlocks are given." }),
  keptBlocks: z
    .array(z.number().int().min(0))
    .min(1)
    .optional()
    .describe("the teacher's blocks to keep, counted from 0"),
  loss: lossSchema
    .optional()
    .describe("losses between student and teacher features (default: the method's)")
    .meta({ note: "Several with commas add up. Settings are given as kind=smooth-l1,beta=0.5." }),
  optimizer: optimizerSchema.prefault({ kind: "adamw" }),
  schedule: scheduleSchema.prefault({ kind: "cosine" }),
  accumulation: positiveInteger.default(1).describe("micro-batches per step of the optimizer"),
  precision: z
    .enum(precisions)
    .default("float32")
    .describe("precision of products with frozen weights and adapters")
    .meta({ note: "`auto` measures both and takes int8 where it is faster and features stay close." }),
  int8Parts: z
    .array(z.enum(int8Parts))
    .min(1)
    .default([...int8Parts])
    .describe("which of these products use int8"),
  checkpointing: z
    .boolean()
    .default(false)
    .describe("gradient checkpointing: less memory, a fifth more time")
    .meta({ note: "Activations are recomputed block by block." }),
  activations: z
    .enum(["float32", "float16"])
    .default("float32")
    .describe("type of the stored activations; float16 takes less memory"),
  seed: z.number().int().default(0).describe("seed of all random numbers"),
});

export type BaseOptions = z.output<typeof baseSchema>;
export const defaultReductionFactor = 2;
