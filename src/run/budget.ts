// `--budget 25MB`, `--budget 0.3x`, `--budget 10ms`: how many blocks fit.
import { measureLatency } from "../evaluation/latency.ts";
import { copyBlocks } from "../distill/weight-copy.ts";
import { Model } from "../model.ts";
import { parameterCount } from "../models/definition.ts";
import { UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import { elementBytes } from "../utils/tensor.ts";

/** What a student may cost: bytes of weights on disk, a share of the teacher's parameters, or milliseconds a picture. */
export type Budget =
  | { readonly kind: "bytes"; readonly most: number }
  | { readonly kind: "share"; readonly most: number }
  | { readonly kind: "milliseconds"; readonly most: number };

export const budgetPattern: RegExp = /^(\d+(?:\.\d+)?)\s*(MB|ms|x)$/i;

/** A budget from its text. Throws a UserError where it is none. */
export function parseBudget(text: string): Budget {
  const [, number, unit] = budgetPattern.exec(text.trim()) ?? [];
  const most = Number(number);
  if (unit === undefined || !(most > 0)) {
    throw new UserError(
      `a budget is a size, a share of the teacher or a time, such as 25MB, 0.3x or 10ms; got ${text}`,
    );
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

/** So many blocks, evenly from the first: every r-th where the depth divides. */
export function evenBlocks(depth: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor((i * depth) / count));
}

/**
 * The most blocks that a student may have within a budget. Sizes are counted; times are measured here and now, with one
 * block and with all, and go up evenly between. Throws a UserError where not even one block fits.
 */
export async function blocksWithin(
  teacher: Model,
  budget: Budget,
  weightType: WeightType,
  now: () => number,
): Promise<number> {
  const { depth } = teacher.config;
  const student = (count: number) => copyBlocks(teacher, evenBlocks(depth, count));
  let costOf: (count: number) => number;
  let shown: (cost: number) => string;
  if (budget.kind === "milliseconds") {
    const one = new Model(student(1), teacher.device);
    const [least, whole] = await measureLatency([one, teacher], now);
    await one.dispose();
    costOf = (count) => (depth === 1 ? whole : least + ((whole - least) * (count - 1)) / (depth - 1));
    shown = (cost) => `${cost.toFixed(1)} ms`;
  } else if (budget.kind === "share") {
    costOf = (count) => parameterCount(student(count)) / parameterCount(teacher);
    shown = (cost) => `${cost.toFixed(2)}x`;
  } else {
    costOf = (count) => parameterCount(student(count)) * elementBytes[weightType];
    shown = (cost) => `${(cost / 1e6).toFixed(1)} MB`;
  }
  for (let count = depth; count >= 1; count--) if (costOf(count) <= budget.most) return count;
  throw new UserError(
    `no student fits the budget: one block alone takes ${shown(costOf(1))}, all ${depth} take ${shown(costOf(depth))}`,
  );
}
