// How a student starts: kept blocks of the teacher (the paper's section 3.1), its first blocks, or random weights.
import type { VitConfig } from "../models/config.ts";
import type { WeightRow } from "../models/weight-table.ts";
import { isBehindFeatures, weightTable } from "../models/weight-table.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";
import type { BaseOptions, StartName } from "./base-options.ts";
import { copyBlocks } from "./kept-blocks.ts";
import { required } from "../utils/required.ts";

/** Deviation of random weights, as vision transformers are made (truncated at two deviations). */
const deviation = 0.02;

/**
 * Random weights as timm and the MAE authors start a ViT: maps and tokens normal with deviation 0.02, biases zero, norms
 * one; LayerScale 1, so that nothing is switched off.
 */
export function randomWeights(config: VitConfig, seed: number): Map<string, FloatTensor> {
  return new Map(weightTable(config).map((row) => [row.name, randomWeight(row, seed)]));
}

/** One random weight, by the rule for its role. */
export function randomWeight(
  { name, shape, role }: Pick<WeightRow, "name" | "shape" | "role">,
  seed: number,
): FloatTensor {
  const tensor = zeros(shape);
  if (role === "norm" || role === "scale") tensor.data.fill(1);
  else if (role !== "bias" && role !== "norm-bias") {
    const random = drawStream(seed, "weight", name);
    for (let i = 0; i < tensor.data.length; i++) {
      tensor.data[i] = deviation * Math.max(-2, Math.min(2, random.normal()));
    }
  }
  return tensor;
}

/** What a start makes a student of. */
export interface StartContext {
  readonly teacher: ModelDefinition;
  /** How many blocks the student has, and for a weight copy which. */
  readonly kept: readonly number[];
  readonly options: BaseOptions;
}

/** Makes a student before training. */
type Start = (context: StartContext) => ModelDefinition;

/** How a student can start without images; the closed form (closed-form/start.ts) needs some. */
export const starts: Readonly<Record<Exclude<StartName, "analytic">, Start>> = {
  "weight-copy": ({ teacher, kept }) => copyBlocks(teacher, kept),
  "top-blocks": ({ teacher, kept }) =>
    copyBlocks(
      teacher,
      kept.map((_, i) => i),
    ),
  random({ teacher, kept, options }) {
    const copied = copyBlocks(teacher, kept);
    const random = randomWeights(copied.config, options.seed);
    // The teacher's head belongs to its own features; a student that meets them can use it.
    for (const name of random.keys()) if (isBehindFeatures(name)) random.set(name, required(teacher.weights, name));
    return { ...copied, weights: random };
  },
};
