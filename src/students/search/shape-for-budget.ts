// The heads and MLP channels of each block that cost least for a budget, where blocks may differ.
import type { BlockShape, VitConfig } from "../../models/config.ts";
import { blockShapes, headWidthOf, tokenCount, withBlockShapes } from "../../models/config.ts";
import { weightTable } from "../../models/weight-table.ts";
import { elementCount } from "../../utils/tensor.ts";
import type { BlockCosts } from "./cut-costs.ts";
import type { EffectMeasure } from "./cut-effects.ts";

/** The parts of a block that can be cut. */
const cutParts = ["heads", "mlpWidth"] as const satisfies readonly CutPart[];
type CutPart = keyof BlockCosts["effects"];

/** A student of blocks that differ: the teacher's blocks that it keeps, and what each keeps. */
export interface ByBlockShape {
  readonly kept: readonly number[];
  readonly shapes: readonly BlockShape[];
}

/**
 * What a student costs: its blocks' weights, the multiplications and additions of an image in its blocks, or its time, about: operations,
 * and what each part that is kept takes whatever its width.
 */
export const budgetUnits = ["weights", "operations", "time"] as const;
export type BudgetUnit = (typeof budgetUnits)[number];

export interface BudgetOptions {
  readonly unit: BudgetUnit;
  /** How errors behind blocks count. */
  readonly measure: EffectMeasure;
  /** A part keeps so much of itself at least, unless it goes altogether. */
  readonly leastShare: number;
  /** Whether a block may lose a part altogether. */
  readonly wholeParts: boolean;
  /**
   * What a part takes of time however narrow it is (norms, sums, quantizing, one operator after the other), as multiplications for each
   * number of its tokens. Fitted to files in int8 with merged tokens, where it counts most (dev/shape.md).
   */
  readonly partOverhead: number;
  /**
   * What narrower queries cost beside what was measured for them: refits behind them make up for the rest. 0.2 to 0.5 give students as
   * near (dev/shape.md).
   */
  readonly queryFactor: number;
  /** The same for narrower values. */
  readonly valueFactor: number;
}

export const budgetDefaults: BudgetOptions = {
  unit: "weights",
  measure: "last",
  leastShare: 1 / 12,
  wholeParts: true,
  partOverhead: 3000,
  queryFactor: 0.3,
  valueFactor: 1,
};

/** Widths are multiples of this, which products like, or of an eighth of the whole where that is less. */
const step = 32;

/** Numbers in the weights of blocks of these shapes. */
export function blockWeights(config: VitConfig, shapes: readonly BlockShape[]): number {
  const table = weightTable(withBlockShapes(config, shapes));
  return table.reduce((sum, { block, shape }) => (block === undefined ? sum : sum + elementCount(shape)), 0);
}

/** What one part of a block costs of the budget. */
function spent(
  config: VitConfig,
  part: Partial<BlockShape>,
  { unit, partOverhead }: Pick<BudgetOptions, "unit" | "partOverhead">,
): number {
  const shape = { heads: 0, mlpWidth: 0, ...part };
  if (shape.heads + shape.mlpWidth === 0) return 0;
  const weights = blockWeights(config, [shape]);
  if (unit === "weights") return weights;
  const tokens = tokenCount(config);
  // Scores and what they weigh: two products of tokens by tokens.
  const wide = headWidthOf(config);
  const channels = shape.heads * ((shape.queryWidth ?? wide) + (shape.valueWidth ?? wide));
  const operations = tokens * weights + tokens * tokens * channels;
  return unit === "operations" ? operations : operations + partOverhead * tokens * config.width;
}

interface Choice {
  readonly kept: Partial<BlockShape>;
  readonly spent: number;
  readonly cost: number;
}

/** The sizes that a part may keep, from least to most. */
function choicesOf(
  config: VitConfig,
  shape: BlockShape,
  costs: BlockCosts,
  part: CutPart,
  options: BudgetOptions,
): Choice[] {
  const { measure, leastShare, wholeParts } = options;
  const whole = shape[part];
  const every = part === "heads" ? 1 : Math.max(1, Math.min(step, whole >> 3));
  const sizes: number[] = wholeParts || whole === 0 ? [0] : [];
  for (let size = every; size < whole; size += every) if (size >= leastShare * whole) sizes.push(size);
  if (whole > 0) sizes.push(whole);
  const choices = sizes.map((size) => ({
    kept: { [part]: size },
    spent: spent(config, { ...shape, heads: 0, mlpWidth: 0, [part]: size }, options),
    cost: costs[part][size] * costs.effects[part][measure],
  }));
  return part === "heads" ? leastOf(withNarrowHeads(config, shape, choices, costs, options)) : choices;
}

/** The same, and each with all widths of queries, and of these each with all widths of values. */
function withNarrowHeads(
  config: VitConfig,
  shape: BlockShape,
  choices: readonly Choice[],
  { queries, values, effects }: BlockCosts,
  options: BudgetOptions,
): Choice[] {
  const { measure, queryFactor, valueFactor } = options;
  // What is lost of queries is no error behind the block: only what it does to the model's output can be held against others.
  if (!queries || measure === "none" || measure === "tokens") return [...choices];
  const narrower = (all: Float64Array) => {
    const every = Math.max(1, (all.length - 1) >> 3);
    return Array.from({ length: Math.ceil((all.length - 1) / every) - 1 }, (_, i) => (i + 1) * every);
  };
  const made = [...choices];
  for (const { kept, cost } of choices) {
    const { heads = 0 } = kept;
    if (heads === 0) continue;
    // Heads that go need no queries and values.
    const share = heads / shape.heads;
    for (const queryWidth of narrower(queries.lost))
      for (const valueWidth of [undefined, ...(values ? narrower(values) : [])]) {
        const narrow = { ...kept, queryWidth, ...(valueWidth === undefined ? {} : { valueWidth }) };
        const ofQueries = queryFactor * queries.lost[queryWidth] * queries.effects[measure];
        const ofValues =
          valueWidth === undefined ? 0 : valueFactor * (values?.[valueWidth] ?? 0) * effects.heads[measure];
        made.push({
          kept: narrow,
          spent: spent(config, narrow, options),
          cost: cost + share * (ofQueries + ofValues),
        });
      }
  }
  return made;
}

/** Of choices those that cost less than all that spend no more, from least to most. */
function leastOf(choices: readonly Choice[]): Choice[] {
  let least = Infinity;
  return [...choices]
    .sort((a, b) => a.spent - b.spent || a.cost - b.cost)
    .filter(({ cost }) => {
      if (cost >= least) return false;
      least = cost;
      return true;
    });
}

/** What all blocks of a teacher spend of a budget. */
export function wholeBudget(config: VitConfig, unit: BudgetUnit, { partOverhead } = budgetDefaults): number {
  return blockShapes(config)
    .flatMap(({ queryWidth, valueWidth, ...shape }) =>
      cutParts.map((part) => spent(config, { [part]: shape[part], queryWidth, valueWidth }, { unit, partOverhead })),
    )
    .reduce((sum, v) => sum + v, 0);
}

/**
 * The shape that costs least within `budget` (in the budget's unit, of all blocks): for a price of what is spent, each part takes the
 * size whose cost and price are least (a Lagrangian); the price is found by halving, and what it leaves is spent where a step saves most for it.
 */
export function shapeForBudget(
  config: VitConfig,
  costs: readonly BlockCosts[],
  budget: number,
  options: BudgetOptions = budgetDefaults,
): ByBlockShape {
  return shapesForBudgets(config, costs, options)(budget);
}

/** The same for several budgets. */
export function shapesForBudgets(
  config: VitConfig,
  costs: readonly BlockCosts[],
  options: BudgetOptions = budgetDefaults,
): (budget: number) => ByBlockShape {
  const whole = blockShapes(config);
  const parts = costs.flatMap((blockCosts, block) =>
    cutParts.map((part) => choicesOf(config, whole[block], blockCosts, part, options)),
  );
  return (budget) => shapeWithin(whole, parts, budget);
}

/** Of choices for each block's heads and MLP, those that cost least within a budget. */
function shapeWithin(
  whole: readonly BlockShape[],
  parts: readonly (readonly Choice[])[],
  budget: number,
): ByBlockShape {
  const at = (price: number) =>
    parts.map((choices) =>
      choices.reduce((best, _, i) => (valueOf(choices[i], price) < valueOf(choices[best], price) ? i : best), 0),
    );
  const total = (taken: readonly number[]) => taken.reduce((sum, i, p) => sum + parts[p][i].spent, 0);
  // Powers of ten, between all and nothing.
  let [low, high] = [-40, 40];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (total(at(10 ** middle)) > budget) low = middle;
    else high = middle;
  }
  const taken = spendRest(parts, at(10 ** high), budget);
  const shapes = whole.map((shape, block) => ({
    ...shape,
    ...parts[2 * block][taken[2 * block]].kept,
    ...parts[2 * block + 1][taken[2 * block + 1]].kept,
  }));
  const kept = shapes.flatMap(({ heads, mlpWidth }, block) => (heads + mlpWidth > 0 ? [block] : []));
  return { kept, shapes: kept.map((block) => shapes[block]) };
}

const valueOf = ({ cost, spent: choiceSpent }: Choice, price: number) => cost + price * choiceSpent;

/** Takes the larger sizes that still fit, those first that save most cost for what they spend. */
function spendRest(parts: readonly (readonly Choice[])[], start: readonly number[], budget: number): number[] {
  const taken = [...start];
  let remaining = budget - taken.reduce((sum, i, p) => sum + parts[p][i].spent, 0);
  for (;;) {
    let best: { part: number; to: number; gain: number } | undefined;
    parts.forEach((choices, part) => {
      const now = choices[taken[part]];
      for (let to = taken[part] + 1; to < choices.length; to++) {
        const more = choices[to].spent - now.spent;
        if (more > remaining) break;
        const gain = (now.cost - choices[to].cost) / more;
        if (gain > (best?.gain ?? 0)) best = { part, to, gain };
      }
    });
    if (!best) return taken;
    const { part, to } = best;
    remaining -= parts[part][to].spent - parts[part][taken[part]].spent;
    taken[part] = to;
  }
}
