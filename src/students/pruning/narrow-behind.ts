// A block without some of its heads or channels, where the map behind them is refitted.
import { headWidthOf } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { blockWeight } from "../../models/weight-table.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { channelsOf, withChannels, withHeads } from "../closed-form/narrowing.ts";
import type { BlockPlace } from "./block-walk.ts";
import type { UnitKind } from "./wanda-scores.ts";
import { consumers } from "./wanda-scores.ts";
import { blockMap } from "./units.ts";

/** Gives the map behind the kept units `[out, kept]`; `inputs` are the places of these units in what enters it. */
export type Refit = (place: BlockPlace, map: FloatTensor, inputs: readonly number[]) => Promise<FloatTensor>;

/** The student with one block narrowed to the kept units, and the map behind them as `refit` gives it. */
export async function narrowBehind(
  place: BlockPlace,
  kind: UnitKind,
  kept: readonly number[],
  refit: Refit,
): Promise<ModelDefinition> {
  const { student, config, block } = place;
  const name = `${consumers[kind]}.weight`;
  const inputs = kind === "heads" ? channelsOf(kept, headWidthOf(config)) : kept;
  const map = await refit(place, blockMap(student, block, name), inputs);
  const narrowed = (kind === "heads" ? withHeads : withChannels)(student, block, kept);
  return { ...narrowed, weights: new Map(narrowed.weights).set(blockWeight(block, name), map) };
}
