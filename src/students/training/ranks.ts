// The ranks that a teacher's maps allow.
import type { VitConfig } from "../../models/config.ts";
import type { TargetModule } from "../../models/vit.ts";
import { targetModules } from "../../models/vit.ts";
import { badOption } from "../../utils/parse-options.ts";
import { defaultRank } from "../methods/adapter-options.ts";
import { methodOf } from "../methods/lookup.ts";
import type { AdapterPlan, Rank } from "./adapters.ts";
import { moduleSize, rankOf } from "./adapters.ts";

/** The smaller side of a map, in the block where it is smallest: no product of two thinner matrices has a higher rank. */
function highestRank(config: VitConfig, module: TargetModule): number {
  const sides = Array.from({ length: config.depth }, (_, block) => moduleSize(config, module, block));
  return Math.min(...sides.map(({ inputs, outputs }) => Math.min(inputs, outputs)).filter((side) => side > 0));
}

/** The rank where options leave it open: the default, or the smallest side of a map where that is less. */
export const defaultRankOf = (config: VitConfig): number =>
  Math.min(defaultRank, ...targetModules.map((module) => highestRank(config, module)));

/** Throws an OptionError where a rank is above the smaller side of its map. */
export function checkRanks(config: VitConfig, { targetModules: modules, rank }: AdapterPlan): void {
  const checked = typeof rank === "number" ? modules : targetModules.filter((m) => rank[m] !== undefined);
  const [tightest] = [...checked].sort((a, b) => highestRank(config, a) - highestRank(config, b));
  if (typeof rank === "number" && rank > highestRank(config, tightest)) {
    const most = highestRank(config, tightest);
    throw badOption("rank", `between 1 and ${most} (the smaller side of the map ${tightest})`, rank);
  }
  if (typeof rank === "number") return;
  for (const module of checked) {
    const most = highestRank(config, module);
    const moduleRank = rank[module] ?? 0;
    if (moduleRank > most)
      throw badOption("rank", `between 1 and ${most} for ${module} (the smaller side of that map)`, {
        [module]: moduleRank,
      });
  }
  for (const module of modules) rankOf({ rank, targetModules: modules }, module);
}

/** Options with their rank, where they leave it open and the teacher's maps are too narrow for the default. */
export function withRank<O extends { readonly method: string; readonly rank?: Rank }>(
  options: O,
  config: VitConfig,
): O {
  const rank = defaultRankOf(config);
  const open = options.rank === undefined && methodOf(options.method).adapters !== undefined;
  return open && rank < defaultRank ? { ...options, rank } : options;
}
