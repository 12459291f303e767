// Recipes: names for settings that go together. What a user says himself stands above them.
import { currentOptions, parseOptions } from "../utils/parse-options.ts";
import { z } from "zod";
import { commonSchema, listOption, pathOption } from "../context/common-options.ts";
import { exportName } from "../exports/lookup.ts";
import { closedFormOptions } from "../students/closed-form/start.ts";
import { allMethods, isOwnMethod, isPruningMethod, methodOf, withMethod } from "../students/methods/lookup.ts";
import { studentRunSchema } from "../students/run-options.ts";
import { OptionError } from "../utils/errors.ts";
import { unreadOption } from "../utils/option-shapes.ts";

export const recipeSchema = z.enum(["closed-form", "refined", "paper"]);

/** `wecolora distill`, and `distill` of `wecolora/node`. */
export const distillRunSchema = studentRunSchema.extend({
  recipe: recipeSchema.optional().describe("settings that go together (default: closed-form)").meta({
    note: "`closed-form` refits; `refined` trains adapters after it, and is the default where an option of training is given; `paper` is WeCoLoRA as published.",
  }),
  export: listOption(exportName).optional().describe("formats to export at the end; several with commas"),
});

/** The same as a user gives it: without `out`, a folder below runs/ is named after the teacher and the time. */
export const distillInputSchema = distillRunSchema.extend({
  out: pathOption.optional().describe("empty or absent output folder (default: runs/<teacher>-<size>-<time>)"),
});

/** `wecolora distill --resume RUN`: all else is in the run folder. */
export const resumeSchema = z.strictObject({
  resume: pathOption.describe("the folder of a run to resume, with its own settings"),
  ...commonSchema.pick({ threads: true, device: true }).shape,
});
export type DistillRunInput = z.input<typeof distillRunSchema>;
export type DistillRunOptions = z.output<typeof distillRunSchema>;
export type ResumeInput = z.input<typeof resumeSchema>;
export type RecipeName = z.output<typeof recipeSchema>;

/** What each recipe sets; dev/experiments.md says why. */
export const recipes: Readonly<Record<RecipeName, Partial<DistillRunInput>>> = {
  // With many images products in 8 bits save a third to a half of time and memory, and students are as good.
  "closed-form": { method: "refit", shape: "balanced", precision: "auto" },
  refined: {
    method: "wecolora",
    start: "analytic",
    shape: "balanced",
    baseLearningRate: 3e-4,
    earlyStop: 2,
  },
  paper: { method: "wecolora", fewShotRounding: "down" },
};

/** Methods that the paper's authors compare after the final norm; students with LoRA are compared before it. */
const comparedAfterNorm: readonly unknown[] = ["kd", "weco-kd", "dora"];

/**
 * The loss of a run as the paper's authors compute it: on which side of the final norm depends on the method. Losses that say
 * it themselves, or that read other blocks than the last, stay as they are.
 */
function paperLoss({ method, loss }: Readonly<Record<string, unknown>>): unknown {
  if (!comparedAfterNorm.includes(method)) return loss;
  const losses: readonly unknown[] = Array.isArray(loss) ? loss : [loss ?? "l1"];
  return losses.map((each): unknown => {
    const given: Readonly<Record<string, unknown>> =
      typeof each === "object" && each !== null ? { ...each } : { kind: each };
    const onlyLast = !ofSeveralBlocks.includes(given.kind) && given.blocks !== "all";
    return onlyLast ? { norm: "after", ...given } : given;
  });
}
const ofSeveralBlocks: readonly unknown[] = ["multi-block", "multi", "blockwise"];

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
  "cachedCrops",
  "cropCache",
  "cachedFeatures",
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
  const { schema, options } = withMethod(distillRunSchema, input);
  const given: Record<string, unknown> = Object.fromEntries(
    Object.entries(currentOptions(schema, options) as object).filter(([, value]) => value !== undefined),
  );
  // At equal size with the closed form, methods that prune take from heads and channels of more blocks.
  if (isPruningMethod(given.method)) given.shape ??= "balanced";
  const recipe = recipeOf(given);
  const isRecipe = typeof recipe === "string" && Object.hasOwn(recipes, recipe);
  if (!isRecipe) return parseOptions(schema, given, what);
  const settings: Readonly<Record<string, unknown>> = { recipe, ...recipes[recipe as RecipeName], ...given };
  return parseOptions(schema, recipe === "paper" ? { ...settings, loss: paperLoss(settings) } : settings, what);
}

/** Widths of blocks, which all methods read. */
const widthNames: readonly string[] = ["mlpWidth", "keptHeads", "blockShapes"] satisfies (keyof DistillRunInput)[];

/** What the closed form alone reads. */
const ofClosedForm = Object.fromEntries(
  Object.entries(closedFormOptions).filter(([name]) => !widthNames.includes(name)),
);

/**
 * Throws an OptionError where an option is given that the run does not read: another method's own, or one of the closed form where the
 * student does not start with it. Options of training are common to all methods, and a caller's method may read any.
 */
export function refuseUnread(given: object, { method, start }: Pick<DistillRunOptions, "method" | "start">): void {
  if (!isOwnMethod(method)) return;
  const { start: usual, options } = methodOf(method);
  const closedForm = { name: "students that start with the closed form (analytic)", options: ofClosedForm };
  const chosen = [{ name: method, options }, ...((start ?? usual) === "analytic" ? [closedForm] : [])];
  const unread = unreadOption(given, [closedForm, ...allMethods().filter(({ name }) => name !== "refit")], chosen);
  if (!unread) return;
  throw new OptionError(
    [(name) => `${name(unread.option)} is for ${unread.having.join(", ")}, and the method is ${method}. Leave it out.`],
    "options of distill",
  );
}
