// Recipes: names for settings that go together. What a user says himself stands above them.
import { parseOptions } from "../utils/parse-options.ts";
import { z } from "zod";
import { commonSchema, listOption, pathOption } from "../context/common-options.ts";
import { exportName } from "../exports/lookup.ts";
import { studentRunSchema } from "../students/run-options.ts";

export const recipeSchema = z.enum(["closed-form", "refined", "paper"]);

/** `wecolora distill`, and `distill` of `wecolora/node`. */
export const distillRunSchema = studentRunSchema.extend({
  recipe: recipeSchema
    .optional()
    .describe(
      "settings that go together: a refit in closed form (the usual), adapters trained from there (where an option speaks of training), or the paper's",
    ),
  export: listOption(exportName)
    .optional()
    .describe("formats to write at the end, as wecolora export does it; several with commas"),
});

/** `wecolora distill --resume RUN`: all else is in the run folder. */
export const resumeSchema = z.strictObject({
  resume: pathOption.describe("the folder of a run to go on with; its own settings hold"),
  ...commonSchema.pick({ threads: true, device: true }).shape,
});
export type DistillRunInput = z.input<typeof distillRunSchema>;
export type DistillRunOptions = z.output<typeof distillRunSchema>;
export type ResumeInput = z.input<typeof resumeSchema>;
export type RecipeName = z.output<typeof recipeSchema>;

/** What each recipe sets; docs/experiments.md says why. */
export const recipes: Readonly<Record<RecipeName, Partial<DistillRunInput>>> = {
  // With many pictures products in 8 bits save a third to a half of time and memory, and students are as good.
  "closed-form": { method: "refit", shape: "balanced", precision: "auto" },
  refined: {
    method: "wecolora",
    start: "analytic",
    shape: "balanced",
    baseLearningRate: 3e-4,
    earlyStop: 2,
  },
  paper: { method: "wecolora" },
};

/** Options that say how training goes: who gives one wants training. */
const ofTraining: readonly (keyof DistillRunInput)[] = [
  "start",
  "rank",
  "alpha",
  "rankStabilized",
  "adapterDropout",
  "targetModules",
  "loss",
  "optimizer",
  "baseLearningRate",
  "epochs",
  "steps",
  "warmupEpochs",
  "schedule",
  "effectiveBatch",
  "keptViews",
  "keptViewsOn",
  "checkpointing",
  "activations",
  "earlyStop",
];

/** The recipe that options mean: the one named; none beside a method; adapters where something is said of training. */
function recipeOf(given: Readonly<Record<string, unknown>>): unknown {
  if (given.recipe !== undefined || given.method !== undefined) return given.recipe;
  return ofTraining.some((name) => given[name] !== undefined) ? "refined" : "closed-form";
}

/**
 * Options of a distillation with their recipe's settings and all defaults. Without a recipe a method is taken as it is;
 * without either, students are refitted in closed form, and trained from there where an option speaks of training. Throws a
 * UserError on what does not fit.
 */
export function distillOptions(input: unknown, what = "options of distill"): DistillRunOptions {
  if (typeof input !== "object" || input === null) return parseOptions(distillRunSchema, input, what);
  const given = Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined));
  const recipe = recipeOf(given);
  const known = typeof recipe === "string" && Object.hasOwn(recipes, recipe);
  return parseOptions(distillRunSchema, known ? { recipe, ...recipes[recipe as RecipeName], ...given } : given, what);
}
