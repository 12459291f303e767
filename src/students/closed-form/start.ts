// The closed form as a start: its options, and the student that it makes of images.
import { z } from "zod";
import { countOption, listOption } from "../../context/common-options.ts";
import type { Model } from "../../models/model.ts";
import { offloadedWeights } from "../../models/model.ts";
import type { Int8Options } from "../../models/precision.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { targetModules } from "../../models/vit.ts";
import { mostProcedural } from "../../data/procedural/name.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { analyticDefaults, analyticDefaultsFor, analyticStart } from "./closed-form.ts";
import type { Widths } from "./narrowing.ts";
import { blockShapePattern, lessThanWhole } from "./narrowing.ts";

/** The closed form's own options. */
export const closedFormOptions = {
  mlpWidth: z
    .number()
    .positive()
    .optional()
    .describe("channels that each MLP keeps, or their share below 1 (default: all)"),
  keptHeads: z
    .number()
    .positive()
    .optional()
    .describe("heads that each block keeps, or their share below 1 (default: all)"),
  blockShapes: listOption(
    z.string().regex(blockShapePattern, "heads and MLP channels of a block, such as 3x768 or 3x768x24x48"),
  )
    .optional()
    .describe("heads x MLP channels of each kept block, such as 3x768,0x512,6x0")
    .meta({
      placeholder: "list",
      note: "The same for all blocks where left out. 6x480x24x48 also says the channels of each head's queries and values.",
    }),
  analyticCrops: countOption
    .max(1000)
    .default(1)
    .describe("crops of each image in the closed form; the first as for evaluation"),
  analyticTokens: z
    .number()
    .min(0.01)
    .max(1e9)
    .optional()
    .describe("tokens sampled per unknown in the closed form (default: 5)")
    .meta({ note: "15 by default where blocks differ. More is slower." }),
  analyticMaps: listOption(z.enum(targetModules))
    .default([...analyticDefaults.maps])
    .describe("linear maps that the closed form refits")
    .meta({ note: "fc2 is refitted in any case, and proj where heads are removed." }),
  analyticSweeps: countOption
    .max(100)
    .default(analyticDefaults.sweeps)
    .describe("passes of the closed form over all blocks")
    .meta({ note: "Later passes keep only what comes closer to the teacher." }),
  priorImages: z
    .number()
    .int()
    .min(0)
    .max(mostProcedural)
    .default(0)
    .describe("procedural images that steady the closed form where yours are few")
    .meta({ note: "150 bring a student of 30 images nearer to the teacher, and take two to four times as long." }),
};

export type ClosedFormOptions = z.output<z.ZodObject<typeof closedFormOptions>>;

export interface ClosedFormContext {
  readonly teacher: Model;
  readonly kept: readonly number[];
  /** The options, with widths as they were chosen. */
  readonly options: Omit<ClosedFormOptions, "analyticCrops" | "blockShapes" | "priorImages"> & Pick<Widths, "shapes">;
  /** Normalised images, batch by batch `[B, 3, H, W]`. */
  readonly images: AsyncIterable<FloatTensor>;
  /** Procedural ones beside them. */
  readonly prior?: AsyncIterable<FloatTensor>;
  readonly int8: Int8Options | undefined;
  readonly progress: (done: number) => void;
}

export interface ClosedFormStudent {
  readonly student: ModelDefinition;
  /** What each block keeps, where that is less than the teacher's. */
  readonly widths: Widths;
  /** Share of the last block's difference that is left on images set aside; undefined where that was not measured. */
  readonly residual: number | undefined;
}

/** What all prior images count for beside all others: between 0.1 and 0.4 it hardly matters (dev/procedural.md). */
const priorWeight = 0.2;

/** A student in closed form; its large weights are offloaded. */
export async function closedFormStudent(context: ClosedFormContext): Promise<ClosedFormStudent> {
  const { teacher, kept, options, images, prior, int8, progress } = context;
  const defaults = analyticDefaultsFor(options);
  const settings = {
    ...defaults,
    tokensPerUnknown: options.analyticTokens ?? defaults.tokensPerUnknown,
    maps: options.analyticMaps,
    sweeps: options.analyticSweeps,
    mlpWidth: options.mlpWidth,
    keptHeads: options.keptHeads,
    shapes: options.shapes,
    int8,
    ...(prior ? { prior: { images: prior, weight: priorWeight } } : {}),
  };
  const { student, refits } = await analyticStart(teacher, kept, images, settings, progress);
  const { mlpWidth, heads: keptHeads, blocks } = student.config;
  return {
    student: { ...student, weights: await offloadedWeights(student, teacher.device) },
    widths: blocks ? { shapes: blocks } : lessThanWhole(teacher.config, { mlpWidth, keptHeads }),
    residual: refits.at(-1)?.share,
  };
}
