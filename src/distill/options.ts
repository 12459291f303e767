// The settings of a distillation, checked by one schema; the paper's defaults (section 4.1) stand here alone.
import { z } from "zod";
import { targetModules } from "../models/vit.ts";

const positiveInteger = z.number().int().positive();

export const lossSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("l1").describe("mean absolute difference of the last blocks' outputs") }),
]);

export const optimizerSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("adamw"),
    betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
    eps: z.number().positive().default(1e-8),
    weightDecay: z.number().min(0).default(0.05),
  }),
]);

export const scheduleSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("cosine"),
    baseLearningRate: z.number().positive().default(1e-3),
    warmupEpochs: z.number().min(0).default(2),
    epochs: z.number().positive().default(10),
    iterationsPerEpoch: positiveInteger.default(1),
  }),
]);

/** What createDistillation takes besides the teacher. */
export const distillationSchema = z.strictObject({
  reductionFactor: positiveInteger
    .optional()
    .describe("every r-th block of the teacher is kept (2 unless keptBlocks are given)"),
  keptBlocks: z
    .array(z.number().int().min(0))
    .min(1)
    .optional()
    .describe("the teacher's blocks to keep, counted from 0"),
  rank: positiveInteger.default(128).describe("rank of the adapters"),
  targetModules: z
    .array(z.enum(targetModules))
    .min(1)
    .default([...targetModules])
    .describe("maps that get adapters"),
  loss: lossSchema.default({ kind: "l1" }),
  optimizer: optimizerSchema.prefault({ kind: "adamw" }),
  schedule: scheduleSchema.prefault({ kind: "cosine" }),
  accumulation: positiveInteger.default(1).describe("micro-batches to one step of the optimizer"),
  seed: z.number().int().default(0).describe("seed of all random numbers"),
});

export type DistillationOptions = z.output<typeof distillationSchema>;
export type DistillationInput = z.input<typeof distillationSchema>;
export const defaultReductionFactor = 2;
