// Parts that methods are made of: what trains, and the default losses.
import { tokenCount } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { BaseOptions, FeatureLoss } from "../base-options.ts";
import { isBehindFeatures } from "../../models/weight-table.ts";
import type { AdapterPlan } from "../training/adapters.ts";
import { adapterTrainables } from "../training/adapters.ts";
import type { Trainables } from "../training/trainables.ts";
import { weightTrainables } from "../training/weights-trainables.ts";
import { featureObjective } from "./feature-loss.ts";
import type { Objective } from "./objective.ts";

/** The paper's loss (section 3.3): the mean absolute difference of the last blocks' outputs, before the final norm. */
export const l1: FeatureLoss = {
  kind: "l1",
  weight: 1,
  blocks: "last",
  norm: "before",
  tokens: "all",
  gradients: "through",
};

interface FeatureContext {
  readonly teacher: ModelDefinition;
  readonly kept: readonly number[];
  readonly options: Pick<BaseOptions, "loss">;
}

/** Features near the teacher's, by the losses asked for or by the method's own. */
export const features =
  (loss: FeatureLoss) =>
  (_: ModelDefinition, { teacher, kept, options }: FeatureContext): Objective =>
    featureObjective(options.loss ?? [loss], kept, teacher.config.depth);

export const adapters = (student: ModelDefinition, plan: AdapterPlan, seed: number): Trainables =>
  adapterTrainables(student, plan, tokenCount(student.config), seed);

/** All weights but those of heads. */
export const backbone = (student: ModelDefinition): Trainables =>
  weightTrainables(student, (name) => !isBehindFeatures(name));

export const nothing = (student: ModelDefinition): Trainables => weightTrainables(student, () => false);
