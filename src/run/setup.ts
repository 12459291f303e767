// What a run is made of before its first step: the student's start, the distillation's settings, labels, looks and views.
import type { DataSet } from "../data/dataset.ts";
import type { PictureSource, TrainingLoaderOptions } from "../data/loader.ts";
import { evaluationBatches, TrainingLoader } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { denormalise, paperAugmentation } from "../data/transforms.ts";
import { analyticStart } from "../distill/analytic.ts";
import { searchBlocks } from "../distill/block-search.ts";
import { adapterPlanOf, methods } from "../distill/methods.ts";
import type { DistillationInput } from "../distill/options.ts";
import { defaultReductionFactor } from "../distill/options.ts";
import { everyNth, keptBlocksOf } from "../distill/weight-copy.ts";
import type { Model } from "../model.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { LoggedImage } from "../report/tensorboard.ts";
import { nearestName, UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { Environment, Listener } from "./environment.ts";
import type { Parts } from "./judging.ts";
import { limitItems } from "./judging.ts";
import type { DistillRunOptions } from "./options.ts";
import type { BatchPlan } from "./plan.ts";
import { Tracker } from "./tracking.ts";

/** What a run begins with: the blocks that are kept, and the student in closed form, where that is asked for. */
export interface Start {
  /** Undefined where the options say it already. */
  readonly keptBlocks?: readonly number[];
  readonly student?: ModelDefinition;
  readonly seconds: number;
}

/** Pictures at once. */
const largestBatch = 16;

/**
 * Views of pictures in `parts` batches at least: each as for evaluation, then random ones, so that there are `views` of each
 * picture, and more where that makes no whole parts.
 */
async function* viewBatches(
  source: PictureSource,
  items: readonly Item[],
  views: number,
  parts: number,
  { preprocessing }: Model,
  seed: number,
): AsyncGenerator<FloatTensor> {
  const rounds = Math.max(views, Math.ceil(parts / items.length));
  const batch = Math.max(1, Math.min(largestBatch, items.length, Math.floor((rounds * items.length) / parts)));
  const skip = () => undefined;
  for await (const { pixels } of evaluationBatches(source, items, batch, preprocessing, skip)) yield pixels;
  if (rounds === 1) return;
  const perRound = Math.floor(items.length / batch);
  const loader = new TrainingLoader({
    source,
    items,
    batch,
    microBatchesPerEpoch: perRound,
    preprocessing,
    augmentation: paperAugmentation,
    seed,
  });
  for (let i = 0; i < (rounds - 1) * perRound; i++) yield (await loader.next()).pixels;
}

/**
 * Chooses blocks and refits them, where that is asked for. The same pictures and seed give the same again. Throws a
 * UserError where a search is asked for beside a list of blocks, or with too few pictures.
 */
export async function startOf(
  options: DistillRunOptions,
  teacher: Model,
  source: PictureSource,
  items: readonly Item[],
  listener: Listener,
  environment: Environment,
): Promise<Start> {
  const begin = environment.now();
  const seconds = () => (environment.now() - begin) / 1000;
  const chosen = options.keep === "auto" ? await searchedBlocks(options, teacher, source, items, listener) : undefined;
  if ((options.start ?? methods[options.method].start) !== "analytic")
    return { keptBlocks: chosen, seconds: seconds() };
  const kept = chosen ?? keptBlocksOf(teacher.config.depth, options);
  listener.stage?.("refitting blocks", kept.length);
  // One of five batches says whether a refit helps.
  const views = viewBatches(source, items, options.analyticViews, 5, teacher, options.seed);
  const { student, refits } = await analyticStart(teacher, kept, views, undefined, (done) => listener.progress?.(done));
  const last = refits.at(-1);
  listener.info?.(
    `the closed form took ${seconds().toFixed(1)} s and leaves ${(100 * (last?.share ?? 1)).toFixed(0)} % of the last block's difference, on pictures set aside`,
  );
  return { keptBlocks: chosen, student, seconds: seconds() };
}

/** Pictures that a search looks at: their tokens behind all blocks are held. */
const searchPictures = 48;
/** Blocks in a run that one may stand for, beyond the mean. */
const longerThanMean = 2;

async function searchedBlocks(
  options: DistillRunOptions,
  teacher: Model,
  source: PictureSource,
  items: readonly Item[],
  listener: Listener,
): Promise<readonly number[]> {
  const { depth } = teacher.config;
  if (options.keptBlocks) throw new UserError("give keep: auto (--keep auto) or keptBlocks (--kept-blocks), not both");
  const most = everyNth(depth, options.reductionFactor ?? defaultReductionFactor).length;
  // Three batches of one size, the last for judging.
  const drawn = limitItems(items, searchPictures, options.seed);
  const shown = drawn.length < 3 ? drawn : drawn.slice(0, drawn.length - (drawn.length % 3));
  const longest = Math.min(depth, Math.ceil(depth / most) + longerThanMean);
  listener.stage?.("searching blocks", most);
  const views = viewBatches(source, shown, 1, 3, teacher, options.seed);
  const { choices } = await searchBlocks(teacher, views, { most, longest }, (done) => listener.progress?.(done));
  const best = choices.find(({ kept }) => kept.length === most);
  if (!best) throw new UserError(`${most} blocks can't stand for ${depth}`);
  return best.kept;
}

/** The run's settings as createDistillation takes them. */
export function distillationOptions(
  options: DistillRunOptions,
  plan: BatchPlan,
  chosen: readonly number[] | undefined,
): DistillationInput {
  const { method, start, rank, alpha, rankStabilized, adapterDropout } = options;
  const { targetModules, loss, softLabels, maskRatio, optimizer, seed } = options;
  return {
    method,
    start,
    ...(chosen
      ? { keptBlocks: [...chosen] }
      : { reductionFactor: options.reductionFactor, keptBlocks: options.keptBlocks }),
    rank,
    alpha,
    rankStabilized,
    adapterDropout,
    targetModules,
    loss,
    softLabels,
    maskRatio,
    optimizer,
    schedule: {
      kind: options.schedule,
      baseLearningRate: plan.peakLearningRate,
      warmupEpochs: options.warmupEpochs,
      epochs: options.epochs,
      iterationsPerEpoch: plan.iterationsPerEpoch,
    },
    accumulation: plan.accumulation,
    seed,
  };
}

/** The teacher's class for each of the data set's. Throws a UserError where a class is none of the teacher's. */
export function teacherLabels({ config }: Model, { train }: DataSet, { method, data }: DistillRunOptions): number[] {
  if (!train.classes) throw new UserError(`${method} learns from labels: ${data} needs one folder a class`);
  const labels = config.head?.labels;
  if (!labels)
    throw new UserError(`${method} learns the teacher's answers: the teacher needs a head with named classes`);
  return train.classes.map((name) => {
    const index = labels.indexOf(name);
    if (index < 0) {
      const near = nearestName(name, labels);
      throw new UserError(
        `the class ${name} is none of the teacher's${near ? ` (did you mean ${near}?)` : ""}; ${method} needs the teacher's classes`,
      );
    }
    return index;
  });
}

/** Adapters of a rank beyond the number of pictures fit those pictures alone. */
export function warnOfRank(options: DistillRunOptions, pictures: number, warn: (message: string) => void): void {
  const rank = adapterPlanOf(options)?.rank ?? 0;
  const highest = typeof rank === "number" ? rank : Math.max(...Object.values(rank));
  if (pictures < highest) {
    warn(
      `${pictures} pictures are few for adapters of rank ${highest}: a lower --rank trains faster and fits them less closely`,
    );
  }
}

export function trackerOf(
  options: DistillRunOptions,
  teacher: Model,
  source: PictureSource,
  parts: Parts,
  data: DataSet,
): Tracker {
  const { evaluatePictures: count, seed } = options;
  return new Tracker({
    teacher,
    source,
    queries: limitItems(parts.queries, count, seed),
    bank: data.train.classes ? limitItems(parts.bank, 2 * count, seed) : [],
    classes: data.train.classes?.length ?? 0,
  });
}

/** A few training views, for TensorBoard. */
export async function viewsOf(environment: Environment, options: TrainingLoaderOptions<Item>): Promise<LoggedImage[]> {
  const { source, items, preprocessing, augmentation, seed } = options;
  const shown = items.slice(0, 4);
  return Promise.all(
    shown.map(async (item, i) => {
      const view = await source.augmentedView(item, { preprocessing, augmentation, seed, epoch: 0 });
      const picture = denormalise(view, preprocessing);
      return {
        tag: `training_views/${i}`,
        width: picture.width,
        height: picture.height,
        png: await environment.encodePng(picture),
      };
    }),
  );
}
