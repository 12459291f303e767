// What a run is made of before its first step: the distillation's settings, labels, looks and views.
import type { DataSet } from "../../data/dataset.ts";
import type { ImageSource, TrainingLoaderOptions } from "../../data/loader.ts";
import type { Item } from "../../data/sampling.ts";
import { denormalise } from "../../data/transforms.ts";
import { adapterPlanOf } from "../methods/lookup.ts";
import { parameterCount } from "../../models/definition.ts";
import type { Distillation } from "./distillation.ts";
import type { DistillationInput } from "../distillation-options.ts";
import { methodOf } from "../methods/lookup.ts";
import { distillationSchema } from "../distillation-options.ts";
import type { Model } from "../../models/model.ts";
import type { LoggedImage } from "../../report/tensorboard.ts";
import { OptionError, UserError, nearestName } from "../../utils/errors.ts";

import type { RunContext } from "../../context/run-context.ts";
import type { Parts } from "../../evaluation/evaluate-candidates.ts";
import { limitItems } from "../../evaluation/evaluate-candidates.ts";
import type { Directory } from "../../files/storage.ts";
import { CachedFeatures } from "./cached-features.ts";
import { imagesThatFit } from "./step-memory.ts";
import type { StudentRunOptions } from "../run-options.ts";
import type { BatchPlan } from "./step-plan.ts";
import { defaultCount } from "../run-start.ts";
import { Tracker } from "./tracking.ts";

/** The run's settings as createDistillation takes them: every option that both have, with what the run has worked out. */
export function distillationOptions(
  options: StudentRunOptions,
  plan: BatchPlan,
  chosen: readonly number[] | undefined,
): DistillationInput {
  const shared = Object.entries(options).filter(
    ([name]) => name in distillationSchema.shape || name in methodOf(options.method).options,
  );
  return {
    ...(Object.fromEntries(shared) as DistillationInput),
    ...(chosen ? { keptBlocks: [...chosen], reductionFactor: undefined } : {}),
    schedule: {
      kind: options.schedule,
      baseLearningRate: plan.peakLearningRate,
      warmupEpochs: plan.warmupEpochs,
      epochs: plan.epochs,
      iterationsPerEpoch: plan.iterationsPerEpoch,
    },
    accumulation: plan.accumulation,
  };
}

/** Throws a UserError where an option asks for what the method can't do, before anything is written. */
export function checkMethod(
  { cachedCrops, checkpointing, activations, method }: StudentRunOptions,
  { takesTargets, trains }: Pick<Distillation, "takesTargets" | "trains">,
): void {
  if (takesTargets && trains) return;
  const why = trains ? "its loss reads more of teacher and student than their blocks' outputs" : "nothing trains";
  if (cachedCrops !== undefined)
    throw new OptionError([(name) => `${name("cachedCrops")} does not go with the method ${method}: ${why}.`]);
  if (checkpointing)
    throw new OptionError([(name) => `${name("checkpointing")} does not go with the method ${method}: ${why}.`]);
  if (activations === "float16")
    throw new OptionError([(name) => `${name("activations")} float16 does not go with the method ${method}: ${why}.`]);
}

/** How many images at once the memory at hand holds, for `planBatches`. */
export function fittingBatch(
  { environment: { availableMemory } }: RunContext,
  { keptBlocks, checkpointing, activations, ...options }: StudentRunOptions,
  teacher: Model,
): (wanted: { most: number; effective: number }) => number {
  const { config } = teacher;
  const blocks = keptBlocks?.length ?? defaultCount(options, config.depth);
  const step = { blocks, parameters: 2 * parameterCount(teacher), checkpointing, activations };
  return (wanted) => (availableMemory ? imagesThatFit(wanted, availableMemory(), config, step) : wanted.most);
}

/** The teacher's targets of the views that a run draws from, where there is a fixed set of them. */
export async function cachedFeaturesOf(
  { listener }: RunContext,
  { cachedCrops: crops, cropCache: place }: StudentRunOptions,
  distillation: Distillation,
  loading: TrainingLoaderOptions<Item>,
  directory: Directory,
): Promise<CachedFeatures | undefined> {
  if (crops === undefined) return undefined;
  listener.stage?.("caching teacher features", crops * loading.items.length);
  const options = { ...loading, crops, place, directory };
  const kept = await CachedFeatures.see(distillation, options, (done) => listener.progress?.(done));
  listener.info?.(`${crops} crops of each image are cached: ${kept.size}`);
  return kept;
}

/** The teacher's class for each of the data set's. Throws a UserError where a class is none of the teacher's. */
export function teacherLabels({ config }: Model, { train }: DataSet, { method, data }: StudentRunOptions): number[] {
  if (!train.classes)
    throw new UserError(`${method} learns from labels: ${data} needs one folder per class`, { code: "INVALID_DATA" });
  const labels = config.head?.labels;
  if (!labels)
    throw new UserError(`${method} learns the teacher's answers: the teacher needs a head with named classes`);
  return train.classes.map((name) => {
    const index = labels.indexOf(name);
    if (index < 0) {
      const near = nearestName(name, labels);
      throw new UserError(
        `The class ${name} is none of the teacher's${near ? ` (did you mean ${near}?)` : ""}; ${method} needs the teacher's classes`,
      );
    }
    return index;
  });
}

/** Adapters of a rank beyond the number of images fit those images alone. */
export function warnOfRank({ listener }: RunContext, options: StudentRunOptions, images: number): void {
  const rank = adapterPlanOf(options)?.rank ?? 0;
  const highest = typeof rank === "number" ? rank : Math.max(...Object.values(rank));
  if (images < highest) {
    listener.warn?.(
      `${images} images are few for adapters of rank ${highest}: a lower --rank trains faster and fits them less closely`,
    );
  }
}

/** The held-out images that are looked at while training, and those that neighbours are searched in. */
export function trackedItems(
  { heldOutImages: count, seed }: StudentRunOptions,
  parts: Parts,
  data: DataSet,
): Pick<Parts, "bank" | "queries"> {
  return {
    queries: limitItems(parts.queries, count, seed),
    // Looks while training count neighbours of one class each.
    bank: data.train.classes && !data.multiLabel ? limitItems(parts.bank, 2 * count, seed) : [],
  };
}

export function trackerOf(
  teacher: Model,
  source: ImageSource,
  tracked: Pick<Parts, "bank" | "queries">,
  data: DataSet,
): Tracker {
  return new Tracker({ teacher, source, ...tracked, classes: data.train.classes?.length ?? 0 });
}

/** A few training views, for TensorBoard. */
export async function loggedCrops(
  { environment }: RunContext,
  options: TrainingLoaderOptions<Item>,
): Promise<LoggedImage[]> {
  const { source, items, preprocessing, augmentation, seed } = options;
  const shown = items.slice(0, 4);
  return Promise.all(
    shown.map(async (item, i) => {
      const crop = await source.augmentedCrop(item, { preprocessing, augmentation, seed, epoch: 0 });
      const image = denormalise(crop, preprocessing);
      return {
        tag: `training_views/${i}`,
        width: image.width,
        height: image.height,
        png: await environment.encodePng(image),
      };
    }),
  );
}
