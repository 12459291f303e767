// What `wecolora demo` takes.
import { z } from "zod";
import { recipeSchema } from "../commands/distill-options.ts";
import { commonSchema } from "../context/common-options.ts";
import { studentRunSchema } from "../students/run-options.ts";

export const demoSummary = "Distil the demo's teacher with the demo's images.";

export const demoSchema = z.strictObject({
  quick: z.boolean().default(false).describe("a short run, evaluated on fewer images"),
  recipe: recipeSchema.optional().describe("settings that go together (default: closed-form)"),
  out: z.string().min(1).optional().describe("output folder of the run (default: a new temporary one)"),
  overwrite: z.boolean().default(false).describe("replace a run that is already in the folder"),
  ...studentRunSchema.pick({ budget: true, agreement: true, sizes: true }).shape,
  ...commonSchema.pick({ threads: true, device: true, seed: true }).shape,
});
