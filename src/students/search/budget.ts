// `--budget 25MB`, `--budget 0.3x`, `--budget 10ms`: how many blocks fit.
import { badOption } from "../../utils/parse-options.ts";
import { measureLatency } from "../../evaluation/latency.ts";
import { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { parameterCount } from "../../models/definition.ts";
import { UserError } from "../../utils/errors.ts";
import type { WeightType } from "../../utils/half.ts";
import { elementBytes } from "../../utils/tensor.ts";

/** What a student may cost: bytes of weights on disk, a share of the teacher's parameters, or milliseconds an image. */
export type Budget =
  | { readonly kind: "bytes"; readonly most: number }
  | { readonly kind: "share"; readonly most: number }
  | { readonly kind: "milliseconds"; readonly most: number };

/** What a budget must be, in words. */
export const budgetForms =
  "a size above 0 in MB (25MB), a share of the teacher above 0 (0.3x) or a time per image above 0 (10ms)";

const oneBudget = /(\d{1,12}(?:\.\d{1,12})?)\s*(MB|ms|x)/;
const budgetPattern: RegExp = new RegExp(`^(?=.*[1-9])${oneBudget.source}$`, "i");

/** A share alone. */
export const sharePattern: RegExp = /^(?=.*[1-9])\d{1,12}(?:\.\d{1,12})?x$/i;
export const shareForms = "a share of the teacher above 0 (0.3x)";

/** Up to three of them, with commas. */
export const budgetsPattern: RegExp = new RegExp(`^(?:(?=[^,]*[1-9])${oneBudget.source}(?:,(?=[^,]+)|$)){1,3}$`, "i");

/** A budget from its text. Throws a UserError where it is none. */
export function parseBudget(text: string): Budget {
  const [, number, unit] = budgetPattern.exec(text.trim()) ?? [];
  const most = Number(number);
  if (unit === undefined || !(most > 0)) {
    throw badOption("budget", budgetForms, text);
  }
  switch (unit.toLowerCase()) {
    case "mb":
      return { kind: "bytes", most: most * 1e6 };
    case "x":
      return { kind: "share", most };
    default:
      return { kind: "milliseconds", most };
  }
}

/** Several budgets from their text, with commas: `12MB,10ms`. Throws a UserError where one is none, or two are of one kind. */
export function parseBudgets(text: string): Budget[] {
  const budgets = text.split(",").map(parseBudget);
  if (new Set(budgets.map(({ kind }) => kind)).size < budgets.length)
    throw badOption("budget", "at most one size, one share and one time", text);
  return budgets;
}

/** How weights are held and run: what a model's size and time follow from, besides its shape. */
export interface FormatDifference {
  /** Bytes of a weight on disk, about. */
  readonly bytes: number;
  modelOf(definition: ModelDefinition): Model;
}

/** Weights of a type, in float32 products. */
export function plainFormat({ device }: Model, weightType: WeightType): FormatDifference {
  return { bytes: elementBytes[weightType], modelOf: (definition) => new Model(definition, device) };
}

/** What has to fit: students of a teacher, held in a format; `studentOf` says which has as many weights as so many whole blocks. */
export interface BudgetQuestion {
  readonly teacher: Model;
  readonly budget: Budget;
  readonly format: FormatDifference;
  studentOf(count: number): ModelDefinition;
  now(): number;
}

/** What a student of so many blocks' weights costs, in the budget's own unit. Sizes are counted, times are measured here and now. */
async function costOf({ teacher, budget, format, studentOf, now }: BudgetQuestion, count: number): Promise<number> {
  const student = studentOf(count);
  switch (budget.kind) {
    case "milliseconds":
      return latencyOf(format.modelOf(student), now);
    case "share":
      return parameterCount(student) / parameterCount(teacher);
    case "bytes":
      return parameterCount(student) * format.bytes;
  }
}

/** The most whole blocks whose weights a student may have within a budget; 0 where not even one block's fit. */
async function mostWithin(question: BudgetQuestion): Promise<number> {
  // Costs rise with the count: halves are enough, as each time is a measurement.
  let [fits, tooMany] = [0, question.teacher.config.depth + 1];
  while (tooMany - fits > 1) {
    const count = Math.floor((fits + tooMany) / 2);
    if ((await costOf(question, count)) <= question.budget.most) fits = count;
    else tooMany = count;
  }
  return fits;
}

/** Throws a UserError where a size is below that of one block's student, or above that of all blocks'. */
export async function checkBudget(question: BudgetQuestion, text: string): Promise<void> {
  const { budget, teacher } = question;
  const { depth } = teacher.config;
  const [one, all] = [await costOf(question, 1), await costOf(question, depth)];
  if (budget.most < one) throw await noneWithin(question);
  const shown = costText[budget.kind];
  if (budget.most > all * (1 + slack))
    throw badOption("budget", `between ${shown(one)} (one block) and ${shown(all)} (all ${depth} blocks)`, text);
}
/** What is shown of a size is rounded, and may be given back. */
const slack = 0.05;

/** The same. Throws a UserError where nothing fits. */
export async function blocksWithin(question: BudgetQuestion): Promise<number> {
  const most = await mostWithin(question);
  if (most === 0) throw await noneWithin(question);
  return most;
}

/** Costs as text. */
export const costText: Readonly<Record<Budget["kind"], (cost: number) => string>> = {
  milliseconds: (cost) => `${cost.toFixed(1)} ms`,
  share: (cost) => `${cost.toFixed(2)}x`,
  bytes: (cost) => `${(cost / 1e6).toFixed(cost < 1e6 ? 3 : 1)} MB`,
};

/** That nothing fits, and what the least and the most cost. */
async function noneWithin(question: BudgetQuestion): Promise<UserError> {
  const { depth } = question.teacher.config;
  const cost = costText[question.budget.kind];
  const [one, all] = [await costOf(question, 1), await costOf(question, depth)];
  return new UserError(
    `No student fits the budget: one block alone takes ${cost(one)}, all ${depth} take ${cost(all)}`,
    { code: "INVALID_OPTION" },
  );
}

async function latencyOf(model: Model, now: () => number): Promise<number> {
  const [milliseconds] = await measureLatency([model], now);
  await model.dispose();
  return milliseconds;
}
