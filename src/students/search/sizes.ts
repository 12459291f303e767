// Several students of one teacher, for several shares of its weights, from one ranking of its cuts.
import type { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { parameterCount } from "../../models/definition.ts";
import { weightTable } from "../../models/weight-table.ts";
import { badOption } from "../../utils/parse-options.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";
import type { AnalyticOptions } from "../closed-form/closed-form.ts";
import { analyticDefaultsFor, analyticStart } from "../closed-form/closed-form.ts";
import type { BlockCosts } from "./cut-costs.ts";
import type { ByBlockShape } from "./shape-for-budget.ts";
import { shapeForBudget, wholeBudget } from "./shape-for-budget.ts";

/** A student for a share of its teacher's weights. */
export interface SizedStudent extends ByBlockShape {
  readonly share: number;
  readonly student: ModelDefinition;
}

/**
 * Weights that the blocks of a student may have, so that it has `most` weights in all: those outside of blocks stay. Throws an
 * OptionError where nothing is left for blocks; `given` is the budget as it was said.
 */
export function blockBudget({ config }: Pick<ModelDefinition, "config">, most: number, given: unknown): number {
  const outside = weightTable(config)
    .filter(({ block }) => block === undefined)
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const whole = wholeBudget(config, "weights");
  const least = (outside + whole / config.depth / 4) / (outside + whole);
  const remaining = Math.min(whole, most - outside);
  if (remaining >= whole / config.depth / 4) return remaining;
  throw badOption(
    "budget",
    `at least ${(Math.ceil(least * 100) / 100).toFixed(2)}x (what is outside of blocks stays)`,
    given,
  );
}

/**
 * Students with at most these shares of the teacher's weights, in the order given. The cuts are ranked once, on all batches
 * `[B, 3, H, W]` of normalised images; each student is then refitted on them. Throws an OptionError for a share that blocks can't have.
 */
export async function studentsOfSizes(
  teacher: Model,
  batches: readonly FloatTensor[],
  shares: readonly number[],
  options?: AnalyticOptions,
  ranked?: readonly BlockCosts[],
): Promise<SizedStudent[]> {
  const budgets = shares.map((share) => blockBudget(teacher, share * parameterCount(teacher), `${share}x`));
  const { rankCuts } = await import("./cut-costs.ts");
  const costs = ranked ?? (await rankCuts(teacher, batches));
  const students: SizedStudent[] = [];
  for (const [i, share] of shares.entries()) {
    const { kept, shapes } = shapeForBudget(teacher.config, costs, budgets[i]);
    const { student } = await analyticStart(teacher, kept, batches, {
      ...(options ?? analyticDefaultsFor({ shapes })),
      shapes,
    });
    students.push({ share, kept, shapes, student });
  }
  return students;
}
