// Scores of units by the map that reads them: |W| times the norms of its inputs (Wanda, arXiv 2306.11695).
import type { BlockPlace } from "./block-walk.ts";
import { inputNorms } from "./moments.ts";
import { blockMap, columnSums, headSums, keepLargest } from "./units.ts";

/** The map behind each kind of unit. */
export const consumers = { heads: "attn.proj", channels: "mlp.fc2" } as const;
export type UnitKind = keyof typeof consumers;

/** The sum over outputs of |W| times the norm of each input: `[in]`. */
export function wandaInputs(
  { student, block, moments }: Pick<BlockPlace, "student" | "block" | "moments">,
  kind: UnitKind,
) {
  const norms = inputNorms(moments);
  return columnSums(blockMap(student, block, `${consumers[kind]}.weight`), Math.abs).map((sum, i) => sum * norms[i]);
}

/** The units of a block to keep, rising. */
export function keptByWanda(
  place: Pick<BlockPlace, "student" | "block" | "moments" | "config">,
  kind: UnitKind,
  count: number,
): number[] {
  const inputs = wandaInputs(place, kind);
  return keepLargest(kind === "heads" ? headSums(inputs, place.config) : inputs, count);
}
