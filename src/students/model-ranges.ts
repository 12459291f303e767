// Options whose ranges follow from the teacher: checked as soon as its configuration is known, before any image is read.
import { parameterCount } from "../models/definition.ts";
import { OptionError } from "../utils/errors.ts";
import { badOption } from "../utils/parse-options.ts";
import { elementBytes } from "../utils/tensor.ts";
import type { Model } from "../models/model.ts";
import { checkBlockShapes, keptHeadCount, narrowWidth, parseBlockShape } from "./closed-form/narrowing.ts";
import { adapterPlanOf } from "./methods/lookup.ts";
import type { StudentRunOptions } from "./run-options.ts";
import { checkBudget, parseBudget, parseBudgets, plainFormat } from "./search/budget.ts";
import { isAnalytic, narrows, searchesLevers, studentWithin } from "./run-start.ts";
import { checkRanks, withRank } from "./training/ranks.ts";
import { checkKeptBlocks, everyNth } from "./kept-blocks.ts";

/** Throws a UserError for options that the teacher does not allow. */
export async function checkModelRanges(options: StudentRunOptions, teacher: Model): Promise<void> {
  const { config } = teacher;
  const { keptBlocks, reductionFactor, mlpWidth, keptHeads, budget, method } = options;
  if (keptBlocks) checkKeptBlocks(keptBlocks, config.depth);
  if (reductionFactor !== undefined) everyNth(config.depth, reductionFactor);
  if ((mlpWidth ?? keptHeads) !== undefined && !narrows(options))
    throw new OptionError([
      (name) =>
        `${name("mlpWidth")} and ${name("keptHeads")} need ${name("start")} analytic or a method that prunes; the method ${method} starts otherwise.`,
    ]);
  if (options.blockShapes) checkShapesGiven(options, teacher);
  if (mlpWidth !== undefined) narrowWidth(teacher, mlpWidth);
  if (keptHeads !== undefined) keptHeadCount(teacher, keptHeads);
  const plan = adapterPlanOf(withRank(options, config));
  if (plan) checkRanks(config, plan);
  if (budget === undefined) return;
  // A search weighs files, in any type of weights.
  if (searchesLevers(options)) return checkFileBudget(budget, teacher);
  const parsed = parseBudget(budget);
  // Times are measured, when it is their turn.
  if (parsed.kind === "milliseconds") return;
  const format = plainFormat(teacher, options.weightType ?? teacher.origin.weightType);
  const studentOf = studentWithin(options, teacher);
  await checkBudget({ teacher, budget: parsed, format, studentOf, now: () => 0 }, budget);
}

/** What a file holds besides its weights, at most, as a share of them. */
const graphShare = 0.1;

/** Throws a UserError where a file may be larger than the teacher's own in float32, which no search is needed for. */
function checkFileBudget(budget: string, teacher: Model): void {
  const most = elementBytes.float32 * parameterCount(teacher) * (1 + graphShare);
  const bytes = parseBudgets(budget).find(({ kind }) => kind === "bytes")?.most ?? 0;
  if (bytes > most)
    throw badOption(
      "budget",
      `at most ${(most / 1e6).toFixed(most < 1e6 ? 3 : 1)} MB (the teacher in float32)`,
      budget,
    );
}

function checkShapesGiven(options: StudentRunOptions, teacher: Model): void {
  const { keptBlocks, mlpWidth, keptHeads, method } = options;
  if (!isAnalytic(options))
    throw new OptionError([
      (name) => `${name("blockShapes")} needs ${name("start")} analytic; the method ${method} starts otherwise.`,
    ]);
  if (!keptBlocks || (mlpWidth ?? keptHeads) !== undefined)
    throw new OptionError([
      (name) =>
        `${name("blockShapes")} goes with ${name("keptBlocks")}, without ${name("mlpWidth")} and ${name("keptHeads")}.`,
    ]);
  checkBlockShapes(teacher, keptBlocks, (options.blockShapes ?? []).map(parseBlockShape));
}
