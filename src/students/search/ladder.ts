// Students of a teacher by size, for searches that try several: shapes by the share of the blocks' weights that is kept.
import type { RunContext } from "../../context/run-context.ts";
import type { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { blockShapeText, canNarrow } from "../closed-form/narrowing.ts";
import type { StudentRunOptions } from "../run-options.ts";
import { fittedStudent } from "./evidence.ts";
import type { BudgetUnit } from "./shape-for-budget.ts";
import { blockWeights, budgetDefaults, shapesForBudgets, wholeBudget } from "./shape-for-budget.ts";
import type { StudentShape } from "./shape.ts";
import { blankOf, evenBlocks, shapeFor } from "./shape.ts";

/** A shape as options of a run that makes it. */
export interface ShapeChoice {
  readonly keptBlocks: readonly number[];
  readonly mlpWidth?: number;
  readonly keptHeads?: number;
  readonly blockShapes?: readonly string[];
  /** Blocks whose weight copy has as many weights. */
  readonly copied: readonly number[];
}

/**
 * Sizes that are tried beside the whole, as shares of what all blocks cost: steps of 4 %, so that a budget is nearly filled. A student is
 * fitted for those alone that are likely to be chosen.
 */
const triedShares = Array.from({ length: 21 }, (_, i) => (96 - 4 * i) / 100);

/** Students by size. */
export interface Ladder {
  /** Shares of what all blocks cost, in the unit that shapes are for, falling; the first is the teacher. */
  readonly shares: readonly number[];
  /** Shares of the weights of all blocks, by which sizes are named. */
  readonly weightShares: readonly number[];
  blank(shape: number): ModelDefinition;
  fitted(shape: number): Promise<ModelDefinition>;
  choice(shape: number): ShapeChoice;
}

/** `unit`: what shapes that differ by block are the best for. */
type LadderOptions = Pick<StudentRunOptions, "shape" | "levers"> & { readonly unit: BudgetUnit };

/**
 * Students of a teacher in the shapes that a run's options allow, fitted on batches of normalised images `[B, 3, H, W]`. Where
 * shape is no lever, the teacher is all there is. Shapes that differ by block are those that lose least for their `unit`.
 */
export async function ladderOf(
  teacher: Model,
  options: LadderOptions,
  fitted: readonly FloatTensor[],
  context: RunContext,
): Promise<Ladder> {
  const shapes = [wholeStep(teacher), ...(await smallerSteps(teacher, options, fitted, context))];
  const { depth } = teacher.config;
  const made = shapes.map(({ share, weightShare = share, shape }) => ({
    share,
    weightShare,
    shape,
    copied: evenBlocks(depth, Math.max(1, Math.round(weightShare * depth))),
  }));
  const blanks = new Map<number, ModelDefinition>();
  return {
    shares: made.map(({ share }) => share),
    weightShares: made.map(({ weightShare }) => weightShare),
    blank(index) {
      if (index === 0) return teacher;
      const blank = blanks.get(index) ?? blankOf(teacher, made[index].shape);
      blanks.set(index, blank);
      return blank;
    },
    fitted(index) {
      context.listener.stage?.(
        `refitting a student of ${(100 * made[index].weightShare).toFixed(0)} % of the block weights`,
      );
      return fittedStudent(teacher, made[index].shape, { fitted, evaluated: [] });
    },
    choice(index) {
      const { kept, mlpWidth, keptHeads, shapes: byBlock } = made[index].shape;
      return {
        keptBlocks: kept,
        ...(mlpWidth === undefined ? {} : { mlpWidth }),
        ...(keptHeads === undefined ? {} : { keptHeads }),
        ...(byBlock ? { blockShapes: byBlock.map(blockShapeText) } : {}),
        copied: made[index].copied,
      };
    },
  };
}

interface Step {
  readonly share: number;
  /** Where it is not the same. */
  readonly weightShare?: number;
  readonly shape: StudentShape;
}

const wholeStep = ({ config: { depth } }: Model): Step => ({ share: 1, shape: { kept: evenBlocks(depth, depth) } });

async function smallerSteps(
  teacher: Model,
  { shape, levers, unit }: LadderOptions,
  fitted: readonly FloatTensor[],
  context: RunContext,
): Promise<Step[]> {
  if (!levers.includes("shape")) return [];
  return shape === "by-block" && canNarrow(teacher.config)
    ? shapesByBlock(teacher, fitted, unit, context)
    : evenShapes(teacher, shape);
}

/** Shapes of equal blocks, with as many weights as whole numbers of the teacher's blocks. */
function evenShapes(teacher: Model, shape: StudentRunOptions["shape"]): Step[] {
  const { depth } = teacher.config;
  const counts = new Set(triedShares.map((share) => Math.round(share * depth)).filter((n) => n > 0 && n < depth));
  return [...counts].map((count) => ({ share: count / depth, shape: shapeFor(teacher, count, shape) }));
}

/** Shapes that differ by block, from one ranking of all cuts. */
async function shapesByBlock(
  teacher: Model,
  fitted: readonly FloatTensor[],
  unit: BudgetUnit,
  { listener }: RunContext,
): Promise<Step[]> {
  const { config } = teacher;
  listener.stage?.("ranking cuts", config.depth);
  const { rankCuts } = await import("./cut-costs.ts");
  const costs = await rankCuts(teacher, fitted, (done) => listener.progress?.(done));
  const [whole, wholeWeights] = [wholeBudget(config, unit), wholeBudget(config, "weights")];
  const shapeWithin = shapesForBudgets(config, costs, { ...budgetDefaults, unit });
  return triedShares.flatMap((share) => {
    const shape = shapeWithin(share * whole);
    // Of few blocks, no part may fit.
    if (shape.kept.length === 0) return [];
    return [
      {
        share,
        shape,
        ...(unit === "weights" ? {} : { weightShare: blockWeights(config, shape.shapes) / wholeWeights }),
      },
    ];
  });
}
