// How a student starts: kept blocks of the teacher (the paper's section 3.1), its first blocks, or random weights.
import type { VitConfig } from "../models/config.ts";
import { expectedWeights } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";
import type { BaseOptions, StartName } from "./base-options.ts";
import { copyBlocks } from "./weight-copy.ts";

/** Deviation of random weights, as vision transformers are made (truncated at two deviations). */
const deviation = 0.02;

/**
 * Random weights as timm and the MAE authors start a ViT: maps and tokens normal with deviation 0.02, biases zero, norms
 * one; LayerScale 1, so that nothing is switched off.
 */
export function randomWeights(config: VitConfig, seed: number): Map<string, FloatTensor> {
  const weights = new Map<string, FloatTensor>();
  for (const [name, dims] of expectedWeights(config)) weights.set(name, randomWeight(name, dims, seed));
  return weights;
}

/** One random weight, by the rule for its kind. */
export function randomWeight(name: string, dims: readonly number[], seed: number): FloatTensor {
  const tensor = zeros(dims);
  if (/norm\w*\.weight$|gamma$/.test(name)) tensor.data.fill(1);
  else if (!name.endsWith(".bias")) {
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
    for (const name of random.keys()) if (isHead(name)) random.set(name, teacher.weights.get(name) as FloatTensor);
    return { ...copied, weights: random };
  },
};

/** Weights behind the features: heads, poolers, projections. They are copied and don't train with the backbone. */
export function isHead(name: string): boolean {
  return /^(head|head_dist|pooler|projection|attn_pool)\./.test(name);
}
