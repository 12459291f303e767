// Weight copy: which blocks stay, and the student that they make (the paper's section 3.1).
import { badOption } from "../utils/parse-options.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { defaultReductionFactor } from "./base-options.ts";
import { blockWeight, splitBlockName } from "../models/weight-table.ts";
import { mergesTokens } from "../models/token-merging.ts";
import { UserError } from "../utils/errors.ts";

/** Every r-th block from the first: 0, r, 2r, ... A factor that does not divide the depth keeps one block more. */
export function everyNth(depth: number, reductionFactor: number): number[] {
  if (!Number.isInteger(reductionFactor) || reductionFactor < 1) {
    throw badOption("reductionFactor", "a whole number of at least 1", reductionFactor);
  }
  if (reductionFactor > depth) {
    throw badOption("reductionFactor", `between 1 and ${depth} (the teacher has ${depth} blocks)`, reductionFactor);
  }
  return Array.from({ length: Math.ceil(depth / reductionFactor) }, (_, i) => i * reductionFactor);
}

/** The blocks that options keep: those listed, or every r-th. Throws a UserError where they don't fit the depth. */
export function keptBlocksOf(
  depth: number,
  { keptBlocks, reductionFactor }: { readonly keptBlocks?: readonly number[]; readonly reductionFactor?: number },
): readonly number[] {
  const kept = keptBlocks ?? everyNth(depth, reductionFactor ?? defaultReductionFactor);
  checkKeptBlocks(kept, depth);
  return kept;
}

/** Checks an explicit list of blocks: inside the teacher, rising, none twice. */
export function checkKeptBlocks(kept: readonly number[], depth: number): void {
  const wrong = kept.find((block) => block >= depth);
  if (wrong !== undefined) {
    throw badOption("keptBlocks", `between 0 and ${depth - 1} (the teacher has ${depth} blocks)`, wrong);
  }
  if (kept.some((block, i) => i > 0 && block <= kept[i - 1])) {
    throw badOption("keptBlocks", "in rising order, each named once", kept);
  }
}

/** The last teacher block that each kept block stands for: the one before the next kept block. */
export function stoodFor(kept: readonly number[], depth: number): number[] {
  return kept.map((_, j) => (kept[j + 1] ?? depth) - 1);
}

/** What is known of where the teacher came from, for a student of its kept blocks. */
function originOf({ origin: whole, config }: ModelDefinition, kept: readonly number[]): ModelDefinition["origin"] {
  // The path is the teacher's alone.
  const { path: _, ...origin } = whole;
  const { application } = origin;
  if (!application) return origin;
  const stands = stoodFor(kept, config.depth).map((block) => application.stands[block]);
  return { ...origin, application: { ...application, stands } };
}

/**
 * The teacher with the kept blocks alone. Weights are shared with it, not copied. Throws a UserError where the teacher merges
 * tokens: what it gives is not what its blocks give.
 */
export function copyBlocks(teacher: ModelDefinition, kept: readonly number[]): ModelDefinition {
  checkKeptBlocks(kept, teacher.config.depth);
  const position = new Map(kept.map((block, i) => [block, i]));
  const weights = new Map<string, FloatTensor>();
  for (const [name, tensor] of teacher.weights) {
    const inside = splitBlockName(name);
    const block = inside && position.get(inside.block);
    if (!inside) weights.set(name, tensor);
    else if (block !== undefined) weights.set(blockWeight(block, inside.inBlock), tensor);
  }
  if (mergesTokens(teacher.config))
    throw new UserError(
      "The teacher merges tokens, so no student can be made of it. Use the model that it was made from, and merge the student's tokens.",
    );
  const { blocks } = teacher.config;
  const config = {
    ...teacher.config,
    depth: kept.length,
    merging: undefined,
    ...(blocks ? { blocks: kept.map((i) => blocks[i]) } : {}),
  };
  return { ...teacher, config, weights, origin: originOf(teacher, kept) };
}
