// Options whose ranges follow from the teacher: checked as soon as its configuration is known, before any image is read.
import { OptionError } from "../utils/errors.ts";
import type { Model } from "../models/model.ts";
import { checkBlockShapes, keptHeadCount, narrowWidth, parseBlockShape } from "./closed-form/narrowing.ts";
import { adapterPlanOf } from "./methods/lookup.ts";
import type { StudentRunOptions } from "./run-options.ts";
import { checkBudget, parseBudget, plainFormat } from "./search/budget.ts";
import { isAnalytic, narrows, searchesLevers, studentWithin } from "./start.ts";
import { checkRanks, withRank } from "./training/ranks.ts";
import { checkKeptBlocks, everyNth } from "./weight-copy.ts";

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
  // A search weighs files, which are smaller than weights in the teacher's type.
  if (budget === undefined || searchesLevers(options)) return;
  const parsed = parseBudget(budget);
  // Times are measured, when it is their turn.
  if (parsed.kind === "milliseconds") return;
  const format = plainFormat(teacher, options.weightType ?? teacher.origin.weightType);
  const studentOf = studentWithin(options, teacher);
  await checkBudget({ teacher, budget: parsed, format, studentOf, now: () => 0 }, budget);
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
