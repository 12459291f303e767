// The options of low-rank adapters, which several methods share.
import { z } from "zod";
import { targetModules } from "../../models/vit.ts";
import type { TargetModule } from "../../models/vit.ts";
import type { BaseOptions } from "../base-options.ts";
import type { AdapterPlan } from "../training/adapters.ts";

const positiveInteger = z.number().int().positive();

/** A rank for all maps, or one for each. */
export const rankSchema = z.union([positiveInteger, z.partialRecord(z.enum(targetModules), positiveInteger)]);
export const defaultRank = 128;

export const adapterOptions = {
  rank: rankSchema
    .optional()
    .describe(`rank of the adapters, or one per map: q=16,fc1=64 (default: ${defaultRank})`)
    .meta({ note: "At most the smaller side of the map, which is taken where it is below the default." }),
  alpha: z
    .number()
    .positive()
    .max(1e6)
    .optional()
    .describe("scale adapters by alpha / rank, as in PEFT (default: no scaling)"),
  rankStabilized: z.boolean().default(false).describe("scale adapters by alpha / sqrt(rank) instead (rsLoRA)"),
  adapterDropout: z.number().min(0).lt(1).default(0).describe("share of the adapters' inputs set to zero in training"),
  targetModules: z
    .array(z.enum(targetModules))
    .min(1)
    .optional()
    .describe("maps that get adapters (all six; q and v for lora)"),
};

type AdapterSettings = z.output<z.ZodObject<typeof adapterOptions>> & Pick<BaseOptions, "precision">;

/** Where adapters sit and how they are scaled; on `modules` where the options leave it open. */
export function adapterPlan(
  options: AdapterSettings,
  modules: readonly TargetModule[],
  magnitude = false,
): AdapterPlan {
  const { rank, alpha, rankStabilized, adapterDropout: dropout } = options;
  const beside = options.precision !== "float32";
  return {
    rank: rank ?? defaultRank,
    alpha,
    rankStabilized,
    dropout,
    magnitude,
    isSeparate: beside,
    targetModules: options.targetModules ?? modules,
  };
}
