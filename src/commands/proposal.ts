// `wecolora inspect MODEL --data D --budget B`: the blocks, widths and precision that give up least within a budget.
import type { Model } from "../models/model.ts";
import { shellWord } from "../utils/option-names.ts";
import type { Budget } from "../students/search/budget.ts";
import { mostWithin, noneWithin } from "../students/search/budget.ts";
import { distillCommand, flagsOf } from "./run-card.ts";
import type { FrontierFormat, FrontierPoint } from "../students/search/frontier.ts";
import type { z } from "zod";
import type { readSchema } from "../context/common-options.ts";
import { readOptions } from "../context/common-options.ts";
import { distillOptions } from "./distill-options.ts";
import { blankOf, shapeFor } from "../students/search/shape.ts";

/** What is proposed, and how to make it. */
export interface Proposal extends FrontierPoint {
  readonly budget: string;
  /** A command; undefined where the teacher itself fits as it is. */
  readonly command?: string;
}

/** By format, as many whole blocks' weights as a student may have; formats that not even one block fits in are left out. */
export type Limits = ReadonlyMap<FrontierFormat["name"], number>;

/** What fits a budget in each format. Throws a UserError where nothing does. */
export async function limitsOf(
  teacher: Model,
  budget: Budget,
  formats: readonly FrontierFormat[],
  now: () => number,
): Promise<Limits> {
  const studentOf = (blocks: number) => blankOf(teacher, shapeFor(teacher, blocks, "balanced"));
  const questions = formats.map((format) => ({ teacher, budget, format, studentOf, now }));
  const limits = new Map<FrontierFormat["name"], number>();
  for (const question of questions) {
    const most = await mostWithin(question);
    if (most > 0) limits.set(question.format.name, most);
  }
  // The last format is the smallest.
  if (limits.size === 0) throw await noneWithin(questions[questions.length - 1]);
  return limits;
}

/** Of students that fit, the one nearest to the teacher. */
export function proposalOf(points: readonly FrontierPoint[], limits: Limits): FrontierPoint {
  const fitting = points.filter(({ format, wholeBlocks }) => wholeBlocks <= (limits.get(format) ?? 0));
  return fitting.reduce((best, point) => (point.difference < best.difference ? point : best));
}

/** The command that makes a student, or the teacher in 8 bits; undefined for the teacher as it is. */
export function commandOf(
  point: FrontierPoint,
  { config }: Model,
  teacher: string,
  {
    data,
    ...given
  }: z.output<typeof readSchema> & { readonly data: string; readonly seed: number; readonly strict: boolean },
): string | undefined {
  const { keptBlocks, heads, mlpWidth, format, wholeBlocks } = point;
  const int8 = format === "int8";
  if (wholeBlocks === config.depth)
    return int8
      ? [
          `wecolora export --model ${shellWord(teacher)} --to onnx-int8 --out SMALLER`,
          ...flagsOf(readOptions(given)),
        ].join(" ")
      : undefined;
  const run = distillOptions({
    ...{ teacher, data, out: "RUN", ...readOptions(given), seed: given.seed, strict: given.strict },
    keptBlocks: [...keptBlocks],
    ...(heads < config.heads ? { keptHeads: heads } : {}),
    ...(mlpWidth < config.mlpWidth ? { mlpWidth } : {}),
    ...(int8 ? { export: ["onnx-int8"] } : {}),
  });
  return distillCommand(run);
}
