// What `wecolora demo` takes.
import { z } from "zod";
import { recipeSchema } from "../commands/distill-options.ts";
import { commonSchema } from "../context/common-options.ts";

export const demoSummary = "Distil the repository's teacher with its images.";

export const demoSchema = z.strictObject({
  quick: z.boolean().default(false).describe("a smoke run: judged on fewer pictures"),
  recipe: recipeSchema.optional().describe("settings that go together (closed-form where left out)"),
  out: z.string().min(1).optional().describe("the run folder (a new temporary one where left out)"),
  overwrite: z.boolean().default(false).describe("replace a run that is in the folder already"),
  ...commonSchema.pick({ threads: true, device: true, seed: true }).shape,
});
