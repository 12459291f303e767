// The settings of a distillation, checked by one schema: what all methods share, and what each adds.
import { z } from "zod";
import { baseSchema } from "./base-options.ts";
import { methodOptions, methods } from "./methods/registry.ts";

export type MethodName = (typeof methods)[number]["name"];
export const methodNames = methods.map(({ name }) => name) as [MethodName, ...MethodName[]];

/** What createDistillation takes besides the teacher. */
export const distillationSchema = z.strictObject({
  method: z
    .enum(methodNames)
    .default("wecolora")
    .describe("the student's start, training and loss (default: the recipe's)"),
  ...baseSchema.shape,
  ...methodOptions,
});

export type DistillationOptions = z.output<typeof distillationSchema>;
export type DistillationInput = z.input<typeof distillationSchema>;
