// What the refits of a start in closed form share.
import type { TargetModule } from "../../models/vit.ts";
import type { BlockShape } from "../../models/config.ts";
import type { Passes, Stream, Summed } from "./refit-passes.ts";
import type { Sample } from "./refit-sample.ts";
import type { RidgeSolver, Sums } from "../../engine/linalg/ridge.ts";
import { meanDiagonal, ridgeOf } from "../../engine/linalg/ridge.ts";

/** What was found for one map. */
export interface Refit {
  readonly block: number;
  readonly map: TargetModule;
  /** The ridge that was taken; undefined where no change did better on images that it was not fitted on. */
  readonly ridge?: number;
  /**
   * What is left of the block's mean absolute difference to its target, on these images; undefined where none were looked
   * at, and for maps that are refitted for what enters them.
   */
  readonly share?: number;
}

export interface Tools {
  readonly passes: Passes;
  readonly solver: RidgeSolver;
  /** All tokens. */
  readonly streams: readonly Stream[];
  /** Those that maps are fitted on. */
  readonly sample: Sample;
  /** Maps that are refitted beside fc2. */
  readonly maps: readonly TargetModule[];
  /** What each block is to keep. */
  readonly shapes: readonly BlockShape[];
  /** Ridges to try. */
  readonly ridges: readonly number[];
  /** Whether images are set aside for evaluation; else all are evaluated on. */
  readonly evaluated: boolean;
}

/** With so many tokens for each unknown, the first ridge is good enough unseen; firmer ones would only add up to more error. */
const plenty = 2;

/** Whether tokens are plenty for a map with so many unknowns. */
export const isPlenty = (tokens: number, unknowns: number): boolean => tokens >= plenty * unknowns;

/** The ridges to try for a map with so many unknowns: the first where tokens are plenty. */
export const ridgesFor = ({ ridges, sample }: Tools, unknowns: number): readonly number[] =>
  isPlenty(sample.tokens, unknowns) ? ridges.slice(0, 1) : ridges;

export const solveRidged = (solver: RidgeSolver, sums: Sums, ridge: number): Promise<Float64Array> =>
  solver.solve(sums, ridgeOf(sums, ridge));

export function isUsable({ all, difference }: Summed): boolean {
  const scale = meanDiagonal(all);
  return scale > 0 && Number.isFinite(scale) && Number.isFinite(difference);
}
