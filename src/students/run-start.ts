// Which blocks a run keeps, and the student that it begins with.
import type { ImageSource } from "../data/loader.ts";
import { evaluationBatches, TrainingLoader } from "../data/loader.ts";
import { proceduralItems } from "../data/formats/procedural.ts";
import type { Item } from "../data/sampling.ts";
import { paperAugmentation } from "../data/transforms.ts";
import { closedFormStudent } from "./closed-form/start.ts";
import { searchBlocks } from "./search/block-search.ts";
import type { BlockCosts } from "./search/cut-costs.ts";
import { blockBudget } from "./search/sizes.ts";
import { shapeForBudget, wholeBudget } from "./search/shape-for-budget.ts";
import { methodOf } from "./methods/lookup.ts";
import type { Widths } from "./closed-form/narrowing.ts";
import { canNarrow, keptHeadCount, lessThanWhole, narrowWidth, parseBlockShape } from "./closed-form/narrowing.ts";
import { defaultReductionFactor } from "./base-options.ts";
import { everyNth, keptBlocksOf } from "./kept-blocks.ts";
import type { Model } from "../models/model.ts";
import { offloadedWeights } from "../models/model.ts";
import type { Int8Options } from "../models/precision.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { parameterCount } from "../models/definition.ts";
import { OptionError, UserError } from "../utils/errors.ts";

import type { FloatTensor } from "../utils/tensor.ts";
import { blocksWithin, parseBudget, parseBudgets, plainFormat } from "./search/budget.ts";
import type { RunContext } from "../context/run-context.ts";
import { evidenceParts, gatherEvidence } from "./search/evidence.ts";
import { limitItems } from "../evaluation/evaluate-candidates.ts";
import type { StudentRunOptions } from "./run-options.ts";
import type { ShapeKind } from "./search/shape.ts";
import { blankOf, evenBlocks, narrowShapes, shapeFor, widthsText } from "./search/shape.ts";
import type { TriedShape } from "./search/shape-search.ts";
import { searchShapes, shapeText } from "./search/shape-search.ts";
import { durationText } from "../utils/duration.ts";

/** What a run begins with: the blocks that are kept, and the student in closed form, where that is asked for. */
export interface Start {
  /** Undefined where the options say it already. */
  readonly keptBlocks?: readonly number[];
  readonly student?: ModelDefinition;
  /** What each of its blocks keeps, where that is less than the teacher's have. */
  readonly widths: Widths;
  /** Blocks whose bare copy has as many weights, to compare with. */
  readonly copied?: readonly number[];
  readonly seconds: number;
}

/** Images at once. */
const largestBatch = 16;

/** So many that three batches of one size come out, where there are three. */
export function searchItems(items: readonly Item[], most: number, seed: number): readonly Item[] {
  const drawn = limitItems(items, most, seed);
  return drawn.length < 3 ? drawn : drawn.slice(0, drawn.length - (drawn.length % 3));
}

/** Crops for evidence on blocks: `parts` batches at least, the last for evaluation. */
export function searchCrops(
  source: ImageSource,
  items: readonly Item[],
  teacher: Model,
  seed: number,
  parts = 3,
): AsyncGenerator<FloatTensor> {
  return cropBatches(source, items, 1, parts, teacher, seed);
}

/** Crops of images to fit candidates of a search on, and others to compare them on: of six images one, in three crops. */
export async function candidateCrops(
  { seed }: Pick<StudentRunOptions, "seed">,
  teacher: Model,
  source: ImageSource,
  items: readonly Item[],
): Promise<{ fitted: FloatTensor[]; compared: FloatTensor[] }> {
  const drawn = limitItems(items, candidateImages, seed);
  const isAside = (i: number) => i % asideEvery === asideEvery - 1;
  const aside = drawn.filter((_, i) => isAside(i));
  const others = drawn.filter((_, i) => !isAside(i));
  const [fitted, compared]: FloatTensor[][] = [[], []];
  for await (const batch of cropBatches(source, others, 1, 5, teacher, seed)) fitted.push(batch);
  // Too few to set one aside: other crops of the same images are compared on.
  for await (const batch of cropBatches(source, aside.length > 0 ? aside : others, 3, 3, teacher, seed))
    compared.push(batch);
  return { fitted, compared };
}
/** What cuts of a teacher cost on a run's images: ranked once for all students that a run makes. */
export type Rankings = Map<Model, readonly BlockCosts[]>;

/** Images that a search looks at, and of so many one is set aside. */
const [candidateImages, asideEvery] = [96, 6];

/**
 * Crops of images in `parts` batches at least: each as for evaluation, then random ones, so that there are `views` of each
 * image, and more where that makes no whole parts.
 */
async function* cropBatches(
  source: ImageSource,
  items: readonly Item[],
  crops: number,
  parts: number,
  { preprocessing }: Model,
  seed: number,
): AsyncGenerator<FloatTensor> {
  const rounds = Math.max(crops, Math.ceil(parts / items.length));
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

/** What a student keeps of the teacher; blocks are left out where the options say them already. */
interface Chosen extends Widths {
  readonly kept?: readonly number[];
  readonly copied?: readonly number[];
}

/**
 * Chooses blocks and refits them, where that is asked for; with `int8`, tokens move from block to block in 8 bits. The same
 * images and seed give the same again. Throws a UserError where a search is asked for beside a list of blocks, or with too few
 * images.
 */
export async function startOf(
  options: StudentRunOptions,
  teacher: Model,
  source: ImageSource,
  items: readonly Item[],
  int8: Int8Options | undefined,
  context: RunContext,
  rankings: Rankings = new Map(),
): Promise<Start> {
  const { environment, listener } = context;
  const begin = environment.now();
  const seconds = () => (environment.now() - begin) / 1000;
  const count = await budgetedCount(options, teacher, context);
  const question = { options, teacher, source, items, context, rankings };
  const { kept: keptBlocks, copied, ...wanted } = await choose(question, count);
  if (!narrows(options)) return { keptBlocks, widths: {}, seconds: seconds() };
  const kept = keptBlocks ?? keptBlocksOf(teacher.config.depth, options);
  if (isPruned(options)) {
    const student = await prunedStart(options, teacher, kept, wanted, source, items, context);
    return { keptBlocks, ...student, copied, seconds: seconds() };
  }
  const chosen = seconds();
  listener.stage?.("refitting blocks", kept.length);
  // One of five batches says whether a refit helps.
  const images = cropBatches(source, items, options.analyticCrops, 5, teacher, options.seed);
  const progress = (done: number) => listener.progress?.(done);
  const { mlpWidth, keptHeads, shapes } = wanted;
  const settings = { ...options, mlpWidth, keptHeads, shapes };
  const { student, widths, residual } = await closedFormStudent({
    teacher,
    kept,
    options: settings,
    images,
    ...(options.priorImages > 0 ? { prior: priorBatches(options, source, teacher) } : {}),
    int8,
    progress,
  });
  const took = `the closed form took ${durationText(seconds() - chosen)}`;
  // A block that stands for itself alone and has fewer channels is no nearer to its target than it was.
  listener.info?.(
    residual !== undefined && residual < 1
      ? `${took} and leaves ${(100 * residual).toFixed(0)} % of the last block's difference, on images set aside`
      : took,
  );
  return { keptBlocks, student, widths, copied, seconds: seconds() };
}

/** Procedural images as for evaluation; others than `--data procedural:` draws with the same seed. */
async function* priorBatches(
  { priorImages, seed }: Pick<StudentRunOptions, "priorImages" | "seed">,
  source: ImageSource,
  teacher: Model,
): AsyncGenerator<FloatTensor> {
  yield* cropBatches(source, await proceduralItems(priorImages, seed + 1), 1, 1, teacher, seed);
}

/** The student of a method that prunes, with the widths of its blocks. */
async function prunedStart(
  options: StudentRunOptions,
  teacher: Model,
  kept: readonly number[],
  { mlpWidth, keptHeads }: Widths,
  source: ImageSource,
  items: readonly Item[],
  { listener, signal }: RunContext,
): Promise<Required<Pick<Start, "student" | "widths">>> {
  const { prune, name: method } = methodOf(options.method);
  if (!prune || options.start !== undefined)
    throw new OptionError([
      (name) => `${name("start")} does not go with the method ${method}: it prunes the kept blocks.`,
    ]);
  if (teacher.config.blocks)
    throw new OptionError([
      (name) =>
        `The method ${method} prunes blocks that are all alike, and those of ${name("teacher")} differ. Use --method refit.`,
    ]);
  const widths = lessThanWhole(teacher.config, {
    mlpWidth: mlpWidth === undefined ? undefined : narrowWidth(teacher, mlpWidth),
    keptHeads: keptHeads === undefined ? undefined : keptHeadCount(teacher, keptHeads),
  });
  listener.stage?.("pruning blocks", kept.length);
  const images = () => cropBatches(source, items, 1, 1, teacher, options.seed);
  const progress = (done: number) => listener.progress?.(done);
  const pruned = await prune({ teacher, kept, widths, options, images, progress, signal });
  return { student: { ...pruned, weights: await offloadedWeights(pruned, teacher.device) }, widths };
}

/** Whether a run's method prunes. */
export const isPruned = ({ method }: Pick<StudentRunOptions, "method">): boolean => methodOf(method).start === "pruned";

/** Whether a run's students can have narrower blocks. */
export const narrows = (options: StudentRunOptions): boolean => isPruned(options) || isAnalytic(options);

/** Whether a run begins in closed form. */
export const isAnalytic = ({ start, method }: StudentRunOptions): boolean =>
  (start ?? methodOf(method).start) === "analytic";

/** Whether a run searches over more than shapes: sizes and times of files depend on bits and tokens too. */
export function searchesLevers(options: StudentRunOptions): boolean {
  const { budget, agreement, levers, method } = options;
  if (agreement !== undefined && !isAnalytic(options))
    throw new OptionError([
      (name) => `${name("agreement")} needs students in closed form; the method ${method} starts otherwise.`,
    ]);
  if (agreement !== undefined) return true;
  if (!isAnalytic(options)) return false;
  if (budget === undefined || levers.every((lever) => lever === "shape")) return false;
  return parseBudgets(budget).some(({ kind }) => kind !== "share");
}

/** The shape to give a student: whole blocks where blocks or widths are named, and without the closed form. */
function shapeOf(options: StudentRunOptions): ShapeKind {
  const { keptBlocks, mlpWidth, keptHeads, shape } = options;
  // Block shapes are given with the blocks that are kept.
  const open = (keptBlocks ?? mlpWidth ?? keptHeads) === undefined;
  return open && narrows(options) ? shape : "blocks";
}

/** So many blocks does every r-th leave. */
export function defaultCount({ reductionFactor }: Pick<StudentRunOptions, "reductionFactor">, depth: number): number {
  return everyNth(depth, reductionFactor ?? defaultReductionFactor).length;
}

/** What blocks and widths are chosen from. */
interface ShapeQuestion {
  readonly options: StudentRunOptions;
  readonly teacher: Model;
  readonly source: ImageSource;
  readonly items: readonly Item[];
  readonly context: RunContext;
  readonly rankings: Rankings;
}

/** The blocks that a run keeps, without its student. */
export async function keptBlocksFor(question: Omit<ShapeQuestion, "rankings">): Promise<readonly number[]> {
  const { options, teacher, context } = question;
  const count = await budgetedCount(options, teacher, context);
  const { kept } = await choose({ ...question, rankings: new Map() }, count);
  return kept ?? keptBlocksOf(teacher.config.depth, options);
}

/** Blocks, heads and channels: those named or searched for, a balance of both, or as many whole blocks as a budget allows. */
async function choose(question: ShapeQuestion, count: number | undefined): Promise<Chosen> {
  const { options, teacher, source, items, context } = question;
  const { listener } = context;
  const { mlpWidth, keptHeads, keep } = options;
  const shapes = options.blockShapes?.map(parseBlockShape);
  const { depth } = teacher.config;
  const copied = evenBlocks(depth, count ?? defaultCount(options, depth));
  if (shapeOf(options) === "by-block" && canNarrow(teacher.config)) return chooseByBlock(question, copied);
  if (keep === "auto") {
    const kept = await searchedBlocks(options, count, teacher, source, items, context);
    const narrower = narrowShapes(teacher, kept.length, shapeOf(options));
    if (narrower.size === 0) return { kept, mlpWidth, keptHeads };
    const shown = searchItems(items, searchImages, options.seed);
    const evidence = await gatherEvidence(teacher, searchCrops(source, shown, teacher, options.seed, evidenceParts));
    const [best, next] = await searchShapes(context, teacher, { kept }, narrower, evidence);
    const residualOf = ({ shape, meanAbsoluteDifference: difference }: TriedShape) =>
      `${shapeText(shape)} (${difference.toFixed(3)} from the teacher)`;
    listener.info?.(`of shapes with as many weights, nearest are ${residualOf(best)}, then ${residualOf(next)}`);
    return { ...best.shape, copied };
  }
  const narrower = shapeFor(teacher, copied.length, shapeOf(options));
  const each = widthsText(narrower);
  if (each !== "") {
    listener.info?.(
      `${narrower.kept.length} blocks with ${each} have as many weights as ${copied.length} copied blocks`,
    );
    return { ...narrower, copied };
  }
  return { kept: count === undefined ? undefined : evenBlocks(depth, count), mlpWidth, keptHeads, shapes };
}

/** Images that cuts are ranked on: their tokens are held, and their sums say what a cut costs. */
const rankedImages = 96;

/** Heads and channels of each block by what their cuts cost, for as many weights as the `copied` blocks have. */
async function chooseByBlock(
  { options, teacher, source, items, context: { listener }, rankings }: ShapeQuestion,
  copied: readonly number[],
): Promise<Chosen> {
  if (options.keep === "auto")
    throw new OptionError([
      (name) => `${name("shape")} by-block chooses blocks by itself: leave ${name("keep")} auto out.`,
    ]);
  const { config } = teacher;
  const costs = rankings.get(teacher) ?? (await ranked());
  rankings.set(teacher, costs);
  const budget = weightsOfBlocks(options, teacher, copied.length);
  const { kept, shapes } = shapeForBudget(config, costs, budget);
  listener.info?.(
    `${kept.length} blocks of ${widthsText({ shapes })} have the weights of about ${copied.length} copied blocks`,
  );
  return { kept, shapes, copied };

  async function ranked(): Promise<readonly BlockCosts[]> {
    listener.stage?.("ranking cuts", config.depth);
    const images = cropBatches(source, limitItems(items, rankedImages, options.seed), 1, 1, teacher, options.seed);
    const { rankCuts } = await import("./search/cut-costs.ts");
    return rankCuts(teacher, images, (done) => listener.progress?.(done));
  }
}

/** Which student has as many weights as so many whole blocks, by the options. */
export const studentWithin =
  (options: StudentRunOptions, teacher: Model) =>
  (blocks: number): ModelDefinition =>
    blankOf(teacher, shapeFor(teacher, blocks, shapeOf(options)));

/** How many blocks a budget allows; undefined without one. */
async function budgetedCount(
  options: StudentRunOptions,
  teacher: Model,
  { listener, environment: { now } }: RunContext,
): Promise<number | undefined> {
  const { budget, keptBlocks, reductionFactor, weightType } = options;
  if (budget === undefined) return undefined;
  if (keptBlocks ?? reductionFactor)
    throw new OptionError([
      (name) => `Give ${name("budget")}, ${name("reductionFactor")} or ${name("keptBlocks")}, not several of them.`,
    ]);
  const studentOf = studentWithin(options, teacher);
  const format = plainFormat(teacher, weightType ?? teacher.origin.weightType);
  const count = await blocksWithin({ teacher, budget: parseBudget(budget), format, studentOf, now });
  listener.info?.(`${count} of ${teacher.config.depth} blocks fit the budget of ${budget}`);
  return count;
}

/** Images that a search looks at: their tokens behind all blocks are held. */
const searchImages = 48;
/** Blocks in a run that one may stand for, beyond the mean. */
const longerThanMean = 2;

async function searchedBlocks(
  options: StudentRunOptions,
  count: number | undefined,
  teacher: Model,
  source: ImageSource,
  items: readonly Item[],
  { listener }: RunContext,
): Promise<readonly number[]> {
  const { depth } = teacher.config;
  if (options.keptBlocks)
    throw new OptionError([(name) => `Give ${name("keep")} auto or ${name("keptBlocks")}, not both.`]);
  const most = count ?? defaultCount(options, depth);
  const shown = searchItems(items, searchImages, options.seed);
  const longest = Math.min(depth, Math.ceil(depth / most) + longerThanMean);
  listener.stage?.("searching blocks", most);
  const crops = searchCrops(source, shown, teacher, options.seed);
  const { choices } = await searchBlocks(teacher, crops, { most, longest }, (done) => listener.progress?.(done));
  const best = choices.find(({ kept }) => kept.length === most);
  if (!best) throw new UserError(`${most} blocks can't stand for ${depth}`, { code: "INVALID_OPTION" });
  return best.kept;
}

/** Weights that blocks may have: those that a size allows, or as many as `count` whole blocks have. */
function weightsOfBlocks({ budget, weightType }: StudentRunOptions, teacher: Model, count: number): number {
  const { config, origin } = teacher;
  const parsed = budget === undefined ? undefined : parseBudget(budget);
  if (parsed?.kind === "share") return blockBudget(teacher, parsed.most * parameterCount(teacher), budget);
  if (parsed?.kind === "bytes")
    return blockBudget(teacher, parsed.most / plainFormat(teacher, weightType ?? origin.weightType).bytes, budget);
  return (wholeBudget(config, "weights") * count) / config.depth;
}
