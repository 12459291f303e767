// One run from images to a evaluated student in a run folder, begun anew or gone on with.
import { unusedOf } from "../data/dataset.ts";
import type { DataSet } from "../data/dataset.ts";
import type { ImageFacts, ImageSource } from "../data/loader.ts";
import { formatHelp } from "../data/formats/lookup.ts";
import { proceduralCount } from "../data/procedural/name.ts";
import type { Item } from "../data/sampling.ts";
import { sampleFewShot } from "../data/sampling.ts";
import { paperAugmentation } from "../data/transforms.ts";
import type { DistillationState } from "../workspace/training-state.ts";
import type { Distillation } from "../students/training/distillation.ts";
import { createDistillation } from "../students/training/distillation.ts";
import { defaultReductionFactor } from "../students/base-options.ts";
import { methodHelp, methodOf } from "../students/methods/lookup.ts";
import type { Widths } from "../students/closed-form/narrowing.ts";
import type { MethodName } from "../students/distillation-options.ts";
import { copyBlocks } from "../students/kept-blocks.ts";
import { loadedModel, loadingFacts, weightsFiles } from "../exports/weights-files.ts";
import type { VitConfig } from "../models/config.ts";
import { Model } from "../models/model.ts";
import type { Int8Options } from "../models/precision.ts";
import { largestOn } from "../models/precision.ts";
import { parameterCount } from "../models/definition.ts";
import type { Comparison } from "../report/findings.ts";
import type { LoadingFacts, WeightsFile } from "../report/loading.ts";
import { fileMegabytes, loadingCalls } from "../report/loading.ts";
import type { ResultRow } from "../report/results.ts";
import { UserError } from "../utils/errors.ts";
import { safeFileName } from "../utils/escape.ts";
import { mapInBatches } from "../utils/arrays.ts";
import { shellWord } from "../utils/option-names.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { elementBytes } from "../utils/tensor.ts";
import { writeStudent, writeStudentCard } from "./student-folder.ts";
import type { RunContext } from "../context/run-context.ts";
import { interruptible, loadRequest, SkippedImages } from "../context/run-context.ts";
import type { OtherStudent } from "./several-sizes.ts";
import { checkSizes, ofSize, rowNameOf, sizesOf, writeOtherCards, writeOtherSizes } from "./several-sizes.ts";
import { CropCache } from "./crop-cache.ts";
import type { ExportedModel } from "./export.ts";
import { checkFormats, chosenExport, exportRun, exportTable } from "./export.ts";
import { modelKey } from "../evaluation/feature-store.ts";
import type { Candidate, Parts } from "../evaluation/evaluate-candidates.ts";
import {
  compareCandidates,
  checkHeldOut,
  evaluateCandidates,
  predictionLines,
  limitItems,
  splitParts,
} from "../evaluation/evaluate-candidates.ts";
import { microBatchesOf } from "../students/training/micro-batches.ts";
import type { DistillRunInput, DistillRunOptions, ResumeInput } from "./distill-options.ts";
import { openOptions, readOptionsFor } from "../context/common-options.ts";
import { resumeSchema } from "./distill-options.ts";
import { distillInputSchema, distillOptions, recipes, refuseUnread } from "./distill-options.ts";
import type { BatchPlan } from "../students/training/step-plan.ts";
import { fewShotOf, planBatches } from "../students/training/step-plan.ts";
import { int8Of } from "../students/settle-precision.ts";
import type {
  RunStage,
  ImageUse,
  LogEntry,
  ManifestEntry,
  ManifestLine,
  RunConfig,
  RunResult,
} from "../workspace/run-folder.ts";
import type { OutputRequest } from "../workspace/output-folder.ts";
import { checkRoom, withOutput } from "../workspace/output-folder.ts";
import {
  classNames,
  distillInputs,
  listingHash,
  optionDifferences,
  requestedOptions,
  settledInt8,
  teacherHasChanged,
  withChosenShape,
  withSettledShape,
} from "./run-settings.ts";
import { RunFolder } from "../workspace/run-folder.ts";
import type { Deployment, SizedResult } from "../workspace/run-schemas.ts";
import {
  checkMethod,
  fittingBatch,
  distillationOptions,
  cachedFeaturesOf,
  teacherLabels,
  trackedItems,
  trackerOf,
  loggedCrops,
  warnOfRank,
} from "../students/training/setup.ts";
import { checkModelRanges } from "../students/model-ranges.ts";
import { withRank } from "../students/training/ranks.ts";
import type { Rankings, Start } from "../students/run-start.ts";
import { searchesLevers, startOf, defaultCount } from "../students/run-start.ts";
import type { Trained } from "../students/training/loop.ts";
import { train } from "../students/training/loop.ts";
import { defineCommand } from "./command.ts";
import { resultsText } from "./result-text.ts";
import { countText } from "../report/results.ts";
import { textTable } from "../report/table.ts";
import { chosenVerdict, verdict } from "../report/verdict.ts";

export interface DistillRunResult extends Trained, Widths {
  readonly out: string;
  /** Where the student's directory lies. */
  readonly student: string;
  /** The other students of a run that makes several (`sizes`), the largest first. */
  readonly sizes?: readonly SizedResult[];
  /** Where the report's page lies, if one was wanted. */
  readonly report?: string;
  readonly method: MethodName;
  readonly teacherFromHub: boolean;
  readonly images: number;
  readonly keptBlocks: readonly number[];
  /** Choosing blocks and refitting them. */
  readonly startSeconds: number;
  readonly skipped: number;
  /** The student's files of weights, with their sizes. */
  readonly files: readonly WeightsFile[];
  /** What decides who loads the student. */
  readonly loading?: LoadingFacts;
  /** Teacher, weight copy and student, where evaluation is on. */
  readonly results: readonly ResultRow[];
  /** The student beside the other rows on the same images, with intervals. */
  readonly comparisons: readonly Comparison[];
  /** Set where nothing could be held out, so that the figures come from training images. */
  readonly evaluatedOnTrainingImages: boolean;
  /** What was written besides, where it was asked for. */
  readonly exports?: readonly ExportedModel[];
  /** What a search over shape, image size, token merging and exports chose. */
  readonly deployment?: Deployment;
}

/** Draws the training images and takes their facts; unreadable ones are skipped. */
async function chooseImages(
  options: DistillRunOptions,
  candidates: readonly Item[],
  source: ImageSource,
  skipped: SkippedImages,
): Promise<Map<Item, ImageFacts>> {
  const facts = new Map<Item, ImageFacts>();
  const usable = async (item: Item): Promise<boolean> => {
    try {
      facts.set(item, await source.facts(item));
      return true;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      skipped.add({ name: item.name, reason: error.message });
      return false;
    }
  };
  const chosen = await sampleFewShot(candidates, fewShotOf(options), options.seed, usable);
  return new Map(
    chosen.flatMap((item) => {
      const imageFacts = facts.get(item);
      return imageFacts ? [[item, imageFacts] as const] : [];
    }),
  );
}

/** The images of a run, by what they are used for. */
interface RunImages {
  readonly manifest: readonly ManifestEntry[];
  readonly train: readonly Item[];
  /** What k-NN and probe learn from, and what is evaluated on, at the end and while training. */
  readonly evaluationParts: Pick<Parts, "bank" | "queries">;
  readonly tracked: Pick<Parts, "bank" | "queries">;
  /** Whether the images that are evaluated on are not trained on. */
  readonly heldOut: boolean;
}

/** The hash of each image; undefined of what can't be read. */
async function hashes(source: ImageSource, items: readonly Item[]): Promise<Map<Item, string | undefined>> {
  const prints = await mapInBatches(items, (item) =>
    source.fingerprint(item).catch((error: unknown) => {
      // Evaluating skips it and says so.
      if (error instanceof UserError) return undefined;
      throw error;
    }),
  );
  return new Map(items.map((item, i) => [item, prints[i]]));
}

/** Draws all images of a run. */
async function drawImages(
  options: DistillRunOptions,
  data: DataSet,
  source: ImageSource,
  skipped: SkippedImages,
): Promise<RunImages> {
  const { seed } = options;
  const parts = splitParts(data, options.heldOut, seed);
  const facts = await chooseImages(options, parts.train, source, skipped);
  const train = [...facts.keys()];
  const heldOut = parts.queries.length > 0;
  const none = { bank: [], queries: [] };
  const evaluationParts = options.evaluate
    ? {
        bank: limitItems(parts.bank, options.labelledImages, seed),
        queries: limitItems(heldOut ? parts.queries : train, options.evaluationImages, seed),
      }
    : none;
  const tracked = heldOut && options.evaluateSteps !== 0 ? trackedItems(options, parts, data) : none;
  const used: readonly (readonly [ImageUse, readonly Item[]])[] = [
    ["train", train],
    // Without classes nothing learns from the bank.
    ["bank", data.train.classes ? evaluationParts.bank : []],
    ["evaluation", evaluationParts.queries],
    ["tracking bank", tracked.bank],
    ["tracking", tracked.queries],
  ];
  const uses = new Map<Item, ImageUse[]>();
  for (const [use, items] of used) for (const item of items) uses.set(item, [...(uses.get(item) ?? []), use]);
  const others = await hashes(
    source,
    [...uses.keys()].filter((item) => !facts.has(item)),
  );
  const manifest = manifestOf(data, uses, (item) => {
    const sha256 = others.get(item);
    return facts.get(item) ?? (sha256 === undefined ? {} : { sha256 });
  });
  return { manifest, train, evaluationParts, tracked, heldOut };
}

/** The images that are used, in the data set's order, in which all lists of them are. */
const manifestOf = (
  data: DataSet,
  uses: ReadonlyMap<Item, ImageUse[]>,
  factsOf: (item: Item) => Omit<ManifestEntry, "item" | "uses">,
): ManifestEntry[] =>
  [...data.train.items, ...(data.test?.items ?? [])].flatMap((item) => {
    const itemUses = uses.get(item);
    return itemUses ? [{ item, uses: itemUses, ...factsOf(item) }] : [];
  });

/** What an image that is gone or changed is used for, in words. */
const useText: Readonly<Record<ImageUse, string>> = {
  train: "trains on",
  bank: "compares with",
  evaluation: "evaluates on",
  "tracking bank": "compares with",
  tracking: "evaluates on",
};

/**
 * The images that a run recorded, in its order; others may have come to the data since. Throws a UserError where one is gone or
 * is not what it was.
 */
async function recordedImages(
  { heldOut }: RunConfig["data"],
  lines: readonly ManifestLine[],
  data: DataSet,
  source: ImageSource,
): Promise<RunImages> {
  const { classes } = data.train;
  const byName = new Map([...data.train.items, ...(data.test?.items ?? [])].map((item) => [item.name, item]));
  const manifest = await mapInBatches(lines, async (line): Promise<ManifestEntry> => {
    const { name, uses, sha256, class: of, labels, ...facts } = line;
    const item = byName.get(name);
    if (!item)
      throw new UserError(`The run ${useText[uses[0]]} ${name}, which is missing. Put it back to resume.`, {
        code: "INVALID_DATA",
      });
    if (sha256 !== undefined && (await source.fingerprint(item)) !== sha256)
      throw new UserError(`${name} has changed since the run began. Put the old image back, or begin a new run.`, {
        code: "INVALID_DATA",
      });
    const recorded = labels ?? (of === undefined ? [] : [of]);
    const names = classes ? classNames(item, classes) : [];
    if (JSON.stringify(recorded) !== JSON.stringify(names))
      throw new UserError(
        `${name} had the class ${recorded.join(", ") || "none"} when the run began, and now has ${names.join(", ") || "none"}`,
        { code: "INVALID_DATA" },
      );
    return { item, uses, ...(sha256 === undefined ? {} : { sha256 }), ...facts };
  });
  const usedFor = (use: ImageUse) => manifest.flatMap(({ item, uses }) => (uses.includes(use) ? [item] : []));
  return {
    manifest,
    train: usedFor("train"),
    evaluationParts: { bank: usedFor("bank"), queries: usedFor("evaluation") },
    tracked: { bank: usedFor("tracking bank"), queries: usedFor("tracking") },
    heldOut,
  };
}

/** Classes as a run knows them: a class that has come to the data since must not move the others. */
function withRecordedClasses(data: DataSet, classes: readonly string[] | undefined): DataSet {
  const now = data.train.classes;
  if (!classes || !now || JSON.stringify(classes) === JSON.stringify(now)) return data;
  const moved = (index: number) => classes.indexOf(now[index]);
  const renumbered = (item: Item): Item[] => {
    const { label, labels } = item;
    const all = [...(label === undefined ? [] : [label]), ...(labels ?? [])].map(moved);
    // Of a class that the run does not know, so it is none of its images.
    if (all.includes(-1)) return [];
    return [
      {
        ...item,
        ...(label === undefined ? {} : { label: moved(label) }),
        ...(labels === undefined ? {} : { labels: labels.map(moved) }),
      },
    ];
  };
  const { train, test } = data;
  return {
    ...data,
    train: { ...train, classes, items: train.items.flatMap(renumbered) },
    ...(test ? { test: { ...test, items: test.items.flatMap(renumbered) } } : {}),
  };
}

/** What an earlier process left of a run in its folder. */
interface Resumed {
  readonly config: RunConfig;
  readonly manifest: readonly ManifestLine[];
  readonly before: readonly LogEntry[];
  readonly state?: DistillationState & { readonly losses: readonly number[] };
  readonly int8: Int8Options | undefined;
  /** Where it resumes. */
  readonly device: string;
}

/**
 * Distils a teacher with a folder of images and writes the run folder. Throws a UserError on settings, models or images that
 * don't fit (nothing is written then), and a RunError where the run itself fails.
 */
export async function runDistillation(context: RunContext, input: DistillRunInput): Promise<DistillRunResult> {
  const { listener } = context;
  const options = distillOptions(input);
  checkSizes(options);
  if (options.recipe !== undefined) listener.info?.(`recipe ${options.recipe}: ${methodOf(options.method).summary}`);
  fewShotOf(options);
  const request: OutputRequest = { path: options.out, kind: "run", inputs: distillInputs(options) };
  return withOutput(context, request, async (output) => {
    const folder = new RunFolder(output);
    if (!options.overwrite) {
      // A run that was stopped behind its last step has nothing left to decide: the same command ends it too.
      const measured = (await folder.stage()) === "measured" ? await measuredRun(folder, options.out) : undefined;
      if (measured && optionDifferences(measured.options, options).length === 0)
        return resumable(context, folder, () =>
          addReports(context, folder, measured.options, measured.result, measured.deployment),
        );
      await folder.refuseRun();
    }
    return perform(context, options, folder, undefined);
  });
}

/** A run that has its result, but maybe not its report and exports. */
async function measuredRun(folder: RunFolder, out: string) {
  const config = await folder.readConfig();
  const result = await folder.readResult();
  if (!result) return undefined;
  const file = folder.directory.describe("config.json");
  return { options: requestedOptions(config, out, file), result, deployment: config.deployment };
}

/** Why there is nothing to resume; undefined where there is. */
function whyNotResumed(stage: RunStage, { directory }: RunFolder, resume: string): string | undefined {
  if (stage === "finished") return `The run in ${resume} is finished: its student is ${directory.describe("student")}`;
  if (stage === "absent") return `${resume} holds no run to resume: run the command that made it again.`;
  return undefined;
}

/**
 * Resumes a run that was stopped, killed or failed; its settings are those in its folder. A resumed run ends with the same bits
 * as one that never stopped. Throws a UserError where the folder holds no run, or teacher or images have changed.
 */
export async function resumeDistillation(context: RunContext, input: ResumeInput): Promise<DistillRunResult> {
  const { environment, listener } = context;
  const { resume } = parseOptions(resumeSchema, input, "options of distill --resume");
  // A folder without a run is left alone.
  await new RunFolder(environment.directory(resume)).readConfig();
  const request: OutputRequest = { path: resume, kind: "run", inputs: [], option: "--resume" };
  return withOutput(context, request, async (output) => {
    const folder = new RunFolder(output);
    const stage = await folder.stage();
    const config = await folder.readConfig();
    const file = folder.directory.describe("config.json");
    const reason = whyNotResumed(stage, folder, resume);
    if (reason !== undefined) throw new UserError(reason, { code: "RUN_NOT_FOUND" });
    const measured = stage === "measured" ? await measuredRun(folder, resume) : undefined;
    if (measured) {
      listener.info?.(`resuming ${resume} after its result: report and exports are missing`);
      return resumable(context, folder, () =>
        addReports(context, folder, measured.options, measured.result, measured.deployment),
      );
    }
    const options = requestedOptions(config, resume, file);
    const state = await folder.readState();
    listener.info?.(`resuming ${resume} after step ${state?.steps ?? 0}`);
    const log = await folder.readLog();
    const resumed: Resumed = {
      config,
      manifest: await folder.readManifest(),
      // Steps after the checkpoint are taken again.
      before: log.filter((entry) => entry.kind !== "result" && entry.step <= (state?.steps ?? -1)),
      state,
      int8: settledInt8(config, file),
      device: input.device ?? options.device,
    };
    return perform(context, options, folder, resumed);
  });
}

/** Names what makes a resumed run's bits differ from those of one that never stopped, where the machine or the user changes it. */
async function checkMachine(
  { listener }: RunContext,
  { config, int8, device }: Resumed,
  teacher: Model,
): Promise<void> {
  const { threads } = teacher.device;
  if (config.threads !== undefined && threads !== undefined && threads !== config.threads)
    listener.warn?.(
      `The run began with --threads ${config.threads} and resumes with ${threads}, so its bits differ from those of a run that was not stopped`,
    );
  if (config.options.device !== device)
    listener.warn?.(
      `The run began with --device ${String(config.options.device)} and resumes with ${device}, so its bits differ from those of a run that was not stopped`,
    );
  if (int8 && int8.largest > (await largestOn(teacher.device)))
    throw new UserError(
      "The run uses int8 products with 8-bit weights, which overflow on this processor (it adds pairs of products in 16 bits). Resume it on a processor such as the one it began on.",
      { code: "DEVICE_NOT_AVAILABLE" },
    );
}

/** Bytes that a run surely writes: the student's weights in their own type, and as float32 and int8 for ONNX. */
function leastBytes(options: DistillRunOptions, teacher: Model): number {
  // A budget may leave less than this share.
  if (options.budget !== undefined || options.mlpWidth !== undefined || options.keptHeads !== undefined) return 0;
  const { depth } = teacher.config;
  const blocks = options.keptBlocks?.length ?? defaultCount(options, depth);
  // A student has about this share of the teacher's weights; half of it, so that no run is refused that would fit.
  const parameters = (parameterCount(teacher) * blocks) / depth / 2;
  return (
    parameters *
    (elementBytes[options.weightType ?? teacher.origin.weightType] + elementBytes.float32 + elementBytes.int8)
  );
}

/** The files and models that a run reads. */
export interface Inputs {
  readonly data: DataSet;
  readonly teacher: Model;
  readonly source: ImageSource;
  readonly skipped: SkippedImages;
  readonly images: RunImages;
  readonly teacherHash: string;
}

/** A run that is under way. */
interface Run extends Inputs {
  readonly context: RunContext;
  readonly options: DistillRunOptions;
  readonly folder: RunFolder;
  /** What an earlier process left of it, where it is resumed. */
  readonly resumed: Resumed | undefined;
  /** The teacher's features of its crops, where these were made before. */
  readonly cache: CropCache | undefined;
}

/** A run with its images, its plan and what it begins with. */
interface Begun extends Run {
  readonly items: readonly Item[];
  readonly plan: BatchPlan;
  /** The teacher's classes for the data set's, where the method learns from labels. */
  readonly labels: readonly number[] | undefined;
  readonly initial: Start;
  readonly int8: Int8Options | undefined;
  /** Blocks whose weight copy has as many weights as the student, where these are others. */
  readonly copied: readonly number[] | undefined;
  readonly distillation: Distillation;
  /** What a search over shape, image size, token merging and exports chose, where one was asked for. */
  readonly deployment: Deployment | undefined;
  readonly rankings: Rankings;
}

/** Runs a part of a run; where it is stopped, says how to go on from what is in the folder then. */
function resumable<T>(context: RunContext, { directory }: RunFolder, run: () => Promise<T>): Promise<T> {
  const advice = () => `Resume with: wecolora distill --resume ${shellWord(directory.describe(""))}`;
  return interruptible(context, advice, run);
}

async function perform(
  context: RunContext,
  options: DistillRunOptions,
  folder: RunFolder,
  resumed: Resumed | undefined,
): Promise<DistillRunResult> {
  const inputs = await openInputs(context, options, resumed);
  try {
    const cache = await cacheOf(context, options, inputs);
    const run: Run = { ...inputs, context, options: withRank(options, inputs.teacher.config), folder, resumed, cache };
    const start = async () => {
      const begun = await begin(run);
      await writeBeginning(begun);
      return begun;
    };
    // Until something is written there is nothing to resume.
    const begun = resumed ? await resumable(context, folder, start) : await start();
    return await resumable(context, folder, async () => {
      const trained = await trainStudent(begun);
      const saved = await saveStudent(begun);
      return finish(begun, saved, trained, await evaluateStudent(begun, saved));
    });
  } finally {
    await inputs.source.dispose();
    await inputs.teacher.dispose();
  }
}

/** The teacher's features that were cached for such a run. Throws a UserError where they are of another one. */
async function cacheOf(
  { environment }: RunContext,
  options: DistillRunOptions,
  { images, teacherHash }: Inputs,
): Promise<CropCache | undefined> {
  const { cachedFeatures, cachedCrops: crops, seed } = options;
  if (cachedFeatures === undefined) return undefined;
  const hashes = new Map(images.manifest.map(({ item, sha256 }) => [item, sha256]));
  return CropCache.open(environment.directory(cachedFeatures), {
    ...{ teacherHash, seed, crops, embedding: embeddingOf(options) },
    images: images.train.map((item) => [item.name, hashes.get(item) ?? null]),
  });
}

/** Whose embedding a student starts with. */
export const embeddingOf = ({ start, method }: DistillRunOptions): "teacher" | "random" =>
  (start ?? methodOf(method).start) === "random" ? "random" : "teacher";

/** What a student of procedural images costs; dev/procedural.md has the figures. */
const proceduralWarning = (data: string) =>
  `No real images are used (--data ${data}): procedural ones stand in for them, and the figures below are on procedural images too. Real images of your kind make a better student; check this one on yours with wecolora evaluate.`;

/** Throws a UserError where the teacher is another one than when the run began. */
function checkTeacher({ config }: Resumed, sha256: string, path: string): void {
  if (config.teacher.sha256 === sha256) return;
  throw new UserError(`${teacherHasChanged(path)}. Put the old one back, or begin a new run.`, {
    code: "RUN_NOT_FOUND",
  });
}

export async function openInputs(
  context: RunContext,
  options: DistillRunOptions,
  resumed: Resumed | undefined,
): Promise<Inputs> {
  const { environment, listener } = context;
  const opened = await environment.openDataSet(options.data, openOptions(options));
  if (!resumed && proceduralCount(options.data) !== undefined) listener.warn?.(proceduralWarning(options.data));
  const data = resumed ? withRecordedClasses(opened, resumed.config.data.classes) : opened;
  if (!resumed) checkHeldOut(data, options.heldOut);
  const read = readOptionsFor(options, data);
  // A branch of the hub may have moved on since the run began.
  const revision = resumed?.config.teacher.commit ?? read.revision;
  const skipped = new SkippedImages(options.strict);
  // What decodes images starts beside the reading of the teacher.
  const source = environment.createImageSource(data.path);
  let teacher: Model | undefined;
  try {
    teacher = await environment.loadModel(options.teacher, loadRequest(context, { ...read, revision }));
    await checkModelRanges(options, teacher);
    skipped.open(context, unusedOf(data));
    if (!resumed) await checkRoom(context, options.out, leastBytes(options, teacher));
    // Both go over the weights, on other threads for the most part.
    const settling = Promise.all([modelKey(teacher), teacher.offload()]);
    if (resumed) {
      checkTeacher(resumed, (await settling)[0], options.teacher);
      await checkMachine(context, resumed, teacher);
    }
    listener.stage?.("reading images");
    const reading = resumed
      ? recordedImages(resumed.config.data, resumed.manifest, data, source)
      : drawImages(options, data, source, skipped);
    const [[teacherHash], images] = await Promise.all([settling, reading]);
    if (images.train.length === 0)
      throw new UserError(`None of the images in ${options.data} can be read`, { code: "NO_IMAGES" });
    if (options.evaluate && !images.heldOut)
      listener.info?.("no images are held out, since classes have too few: figures are of training images");
    return { data, teacher, source, skipped, images, teacherHash };
  } catch (error) {
    await source.dispose();
    await teacher?.dispose();
    throw error;
  }
}

/** What a search chose, now or when the run began; undefined where none was asked for. */
async function deploymentOf({
  context,
  options,
  teacher,
  source,
  images,
  resumed,
}: Run): Promise<Deployment | undefined> {
  if (resumed) return resumed.config.deployment;
  if (!searchesLevers(options)) return undefined;
  const { chooseLevers } = await import("./choose-levers.ts");
  return chooseLevers({ options, teacher, source, items: images.train, context });
}

/** Products in 8 bits: as they were when the run began, as cached features were made, or as options and measurements say. */
async function settledPrecision({ context, options, teacher, source, images, resumed, cache }: Run) {
  if (resumed) return resumed.int8;
  if (cache && options.precision === "auto") return cache.facts.int8 ?? undefined;
  return int8Of(context, options, teacher, source, images.train);
}

/** Crops of each image that a run draws from; new ones in each epoch where undefined. */
const cropsOf = ({ options, cache }: Pick<Run, "options" | "cache">): number | undefined =>
  cache?.facts.crops ?? options.cachedCrops;

/** Settles batch, precision, blocks and widths, and makes the student before training. */
async function begin(run: Run): Promise<Begun> {
  const { context, options, teacher, data, source, resumed } = run;
  const { listener } = context;
  const { train: items } = run.images;
  const method = methodOf(options.method);
  const batch = resumed?.config.plan.batch;
  const fitting = batch === undefined ? fittingBatch(context, options, teacher) : () => batch;
  const plan = planBatches(items.length, options, method.trains, fitting);
  for (const note of plan.notes) listener.info?.(note);
  const labels = method.needsLabels ? teacherLabels(teacher, data, options) : undefined;
  const deployment = await deploymentOf(run);
  const shaped = resumed
    ? withSettledShape(options, resumed.config)
    : deployment
      ? withChosenShape(options, deployment.choice)
      : ofSize(options, sizesOf(options)[0]);
  const rankings: Rankings = new Map();
  const int8 = await settledPrecision(run);
  const initial = await startOf(shaped, teacher, source, items, int8, context, rankings);
  const copied = resumed ? resumed.config.copied : (deployment?.choice.copied ?? initial.copied);
  checkFormats(options.export ?? [], initial.student ?? teacher, options);
  const distillation = await createDistillation(teacher, {
    ...distillationOptions(shaped, plan, initial.keptBlocks),
    precision: int8 ? "int8" : "float32",
    initialStudent: initial.student,
    int8,
  });
  checkMethod({ ...options, cachedCrops: cropsOf(run) }, distillation);
  run.cache?.check(int8, distillation.targetNames);
  const { keptBlocks } = distillation;
  const { depth } = teacher.config;
  listener.info?.(
    keptBlocks.length === depth
      ? `all ${depth} blocks are kept`
      : `${keptBlocks.length} of ${depth} blocks are kept: ${keptBlocks.join(", ")}`,
  );
  warnOfRank(context, options, items.length);
  return { ...run, items, plan, labels, initial, int8, copied, distillation, deployment, rankings };
}

/** All that decides a run's bits, as config.json holds it. */
async function settingsOf(begun: Begun): Promise<RunConfig> {
  const { context, options, int8, plan, distillation, initial, copied, teacher, teacherHash, data, images } = begun;
  if (begun.resumed) return begun.resumed.config;
  const { precision, int8Parts } = options;
  const { commit } = teacher.origin;
  return {
    command: "distill",
    // What was decided by measuring is decided: a run that is resumed takes the same.
    options: {
      ...options,
      overwrite: false,
      ...(int8 ? { precision: "int8", int8Parts: int8.parts } : { precision: "float32" }),
    },
    requested: { precision, int8Parts },
    teacher: { sha256: teacherHash, ...(commit === undefined ? {} : { commit }) },
    data: { listing: await listingHash(data), classes: data.train.classes, heldOut: images.heldOut },
    int8: int8 && { largest: int8.largest, parts: int8.parts },
    plan,
    keptBlocks: distillation.keptBlocks,
    ...initial.widths,
    copied,
    deployment: begun.deployment,
    threads: teacher.device.threads,
    fewShot: fewShotOf(options),
    about: context.environment.about,
  };
}

/** Writes what a run begins with, or takes up what an earlier process has left. */
async function writeBeginning(begun: Begun): Promise<void> {
  const { folder, resumed, options, images, data, distillation } = begun;
  if (!resumed) return folder.begin(await settingsOf(begun), images.manifest, data.train.classes);
  if (resumed.state) await distillation.loadState(resumed.state);
  await folder.prepareResume(resumed.before, options.keepCheckpoints);
}

async function trainStudent(begun: Begun): Promise<Trained> {
  const { context, options, folder, teacher, data, source, images, items, plan, labels, resumed } = begun;
  const { distillation } = begun;
  const before = resumed?.before ?? [];
  const loaderOptions = {
    source,
    items,
    batch: plan.batch,
    microBatchesPerEpoch: plan.iterationsPerEpoch * plan.accumulation,
    preprocessing: teacher.preprocessing,
    augmentation: paperAugmentation,
    seed: options.seed,
    crops: cropsOf(begun),
  };
  const kept =
    begun.cache?.crops(items) ??
    (await cachedFeaturesOf(context, options, distillation, loaderOptions, folder.directory));
  await folder.writeEvents(before, await settingsOf(begun), await loggedCrops(context, loaderOptions));
  const training = {
    distillation,
    next: microBatchesOf(loaderOptions, distillation.steps * plan.accumulation, kept, labels),
    plan,
    options,
    folder,
    tracker: images.tracked.queries.length > 0 ? trackerOf(teacher, source, images.tracked, data) : undefined,
    before,
    losses: resumed?.state?.losses ?? [],
  };
  return train(training, context).finally(() => kept?.dispose());
}

/** A student in its directory. */
interface Saved {
  readonly path: string;
  readonly config: VitConfig;
  readonly keptBlocks: readonly number[];
  /** The other students of a run that makes several. */
  readonly others: readonly OtherStudent[];
}

/** Writes the students and what was trained, and frees it. */
async function saveStudent(begun: Begun): Promise<Saved> {
  const { context, options, folder, teacher, distillation, source, items, int8, rankings } = begun;
  context.listener.stage?.("saving the student");
  const student = await distillation.student();
  const adapters = await distillation.adapters();
  const { steps } = distillation;
  // What trained is done with, and takes most of the memory.
  await distillation.dispose();
  await folder.writeAdapters(adapters, steps);
  const path = folder.directory.describe("student");
  const warn = (message: string) => context.listener.warn?.(message);
  await writeStudent(student, folder.directory.below("student"), options, teacher, warn);
  await student.dispose();
  const others = await writeOtherSizes({
    ...{ options, teacher, warn, directory: folder.directory },
    start: (sized) => startOf(sized, teacher, source, items, int8, context, rankings),
  });
  return { path, config: student.config, keptBlocks: distillation.keptBlocks, others };
}

type Figures = Pick<DistillRunResult, "results" | "comparisons">;

/** Evaluates what was saved, read back, beside the teacher and the weight copy. */
async function evaluateStudent(begun: Begun, { path, keptBlocks, others }: Saved): Promise<Figures> {
  const { context, options, folder, teacher, data, source, images, skipped, copied } = begun;
  if (!options.evaluate) return { results: [], comparisons: [] };
  const { environment } = context;
  // The student's file holds the mean and deviation that it was trained with; a protocol's transform is the run's.
  const { transform } = readOptionsFor(options, data);
  const read = (path: string) => environment.loadModel(path, loadRequest(context, { transform }));
  const saved = await read(path);
  const weightCopy = new Model(copyBlocks(teacher, copied ?? keptBlocks), teacher.device);
  const weightType = options.weightType ?? teacher.origin.weightType;
  const candidate = { name: "student", model: saved, bytes: saved.origin.bytes };
  const baseline = parameterCount(weightCopy) * elementBytes[weightType];
  const smaller: Candidate[] = [];
  for (const { result: other } of others) {
    const model = await read(folder.directory.describe(other.student));
    smaller.push({ name: rowNameOf(other), model, bytes: model.origin.bytes });
  }
  const candidates = options.evaluateTeacher
    ? [
        { name: "teacher", model: teacher, bytes: teacher.origin.bytes },
        { name: "weight copy", model: weightCopy, bytes: baseline },
        candidate,
        ...smaller,
      ]
    : [candidate, ...smaller];
  const classes = images.heldOut ? data.train.classes : undefined;
  const evaluationOptions = { candidates, reference: teacher, source, parts: images.evaluationParts, classes };
  const evaluated = await evaluateCandidates(context, evaluationOptions, skipped);
  await folder.writePredictions(predictionLines(evaluated, data.train.classes));
  for (const row of evaluated.rows) await folder.log({ kind: "result", ...row });
  // Sessions hold memory for their largest batch; a comparison has many runs in one process.
  for (const { model } of candidates) await model.dispose();
  return { results: evaluated.rows, comparisons: compareCandidates(evaluated) };
}

/** Writes the model card and the result, then the report and the exports that were asked for. */
async function finish(
  begun: Begun,
  { config, keptBlocks, others }: Saved,
  trained: Trained,
  figures: Figures,
): Promise<DistillRunResult> {
  const { context, options, folder, teacher, images, items, skipped, initial } = begun;
  skipped.report(context);
  const result: RunResult = {
    teacherFromHub: teacher.origin.hub !== undefined,
    images: items.length,
    keptBlocks,
    ...initial.widths,
    ...(others.length > 0 ? { sizes: others.map((other) => other.result) } : {}),
    ...trained,
    startSeconds: initial.seconds,
    skipped: skipped.count,
    ...figures,
    evaluatedOnTrainingImages: !images.heldOut,
    ...(teacher.origin.license ? { teacherLicense: teacher.origin.license } : {}),
    loading: loadingFacts(config),
  };
  const about = { name: `${options.method} student`, config, folder: "student" };
  await writeStudentCard(folder.directory.below("student"), about, options, result);
  await writeOtherCards(others, folder.directory, options, result);
  await folder.writeResult(result);
  return addReports(context, folder, options, result, begun.deployment);
}

/** Writes the exports that were asked for, and the one that a search chose with its image size and the tokens that it merges. */
async function exportAll(
  context: RunContext,
  folder: RunFolder,
  { export: names = [] }: DistillRunOptions,
  deployment: Deployment | undefined,
): Promise<readonly ExportedModel[]> {
  const plain = names.filter((name) => name !== deployment?.export);
  const exported = plain.length > 0 ? (await exportRun(context, folder, plain)).exports : [];
  if (!deployment) return exported;
  const { export: chosen, imageSize, merging, exportOptions = {} } = deployment;
  const allOptions = { ...exportOptions, ...(merging ? { mergeTokens: [...merging] } : {}) };
  const more = await exportRun(context, folder, [chosen], allOptions, imageSize);
  return [...more.exports, ...exported];
}

/** Adds what was asked for besides the student: report and exports. With them the run is finished. */
async function addReports(
  context: RunContext,
  folder: RunFolder,
  options: DistillRunOptions,
  result: RunResult,
  deployment: Deployment | undefined,
): Promise<DistillRunResult> {
  const { directory } = folder;
  const exported = await exportAll(context, folder, options, deployment);
  if (options.report) {
    // Charts come with a library that is larger than all else.
    const { writeRunReport } = await import("./report.ts");
    await writeRunReport(context, folder);
  }
  await folder.markFinished();
  return {
    ...result,
    files: await weightsFiles(directory.below("student"), result.loading?.inTransformers),
    out: options.out,
    student: directory.describe("student"),
    method: options.method,
    ...(options.report ? { report: directory.describe("report.html") } : {}),
    ...(exported.length > 0 ? { exports: exported } : {}),
    ...(deployment ? { deployment } : {}),
  };
}

/** Options with an output folder of their own where none is named: `runs/dinov2-small-2x-20261129-141502`. */
export function withOutputFolder<O extends Partial<DistillRunInput & ResumeInput>>(options: O, time: Date): O {
  const { teacher, out, resume, reductionFactor = defaultReductionFactor, budget = `${reductionFactor}x` } = options;
  if (resume !== undefined || out !== undefined || teacher === undefined) return options;
  const name = teacher
    .replace(/[\\/]+$/, "")
    .split(/[\\/]/)
    .slice(-1)[0];
  const stamp = time.toISOString().replace(/[-:]/g, "").replace("T", "-").slice(0, 15);
  return { ...options, out: `runs/${safeFileName(`${name}-${budget}-${stamp}`)}` };
}

/** Distils, or resumes a run where `resume` names its folder. */
async function runOrResume(context: RunContext, input: DistillRunInput | ResumeInput): Promise<DistillRunResult> {
  if ("resume" in input && input.resume !== undefined) return resumeDistillation(context, input);
  refuseUnread(input, distillOptions(input));
  return runDistillation(context, input as DistillRunInput);
}

/** The student's files and the calls that load it. */
function loadingText({ student, files, loading }: DistillRunResult): string[] {
  const columns = [
    { title: "file", align: "left" as const },
    { title: "MB" },
    { title: "read by default by", align: "left" as const },
  ];
  const rows = files.map((file) => [file.name, fileMegabytes(file), file.readBy]);
  const calls = loading?.inTransformers && loadingCalls(loadedModel(loading, student, files));
  return [
    `\nStudent: ${student}`,
    ...(files.length > 0 ? [textTable(columns, rows)] : []),
    ...(calls ? ["", `Load it in Python:     ${calls.python}`, `Load it in JavaScript: ${calls.javascript}`] : []),
    "",
  ];
}

/** The result for people: a verdict, the table, the exports, and where things lie. */
export function distillText(result: DistillRunResult): string {
  const { results, comparisons, exports, report, deployment, evaluatedOnTrainingImages: onTraining } = result;
  const student = verdict({ results, comparisons, onTraining });
  const chosen = exports && deployment && chosenExport(exports, deployment);
  const verdicts = [...(student === undefined ? [] : [student]), ...(chosen ? [chosenVerdict(chosen)] : [])];
  const exported = exports && exportTable(exports);
  return [
    ...(verdicts.length > 0 ? [...verdicts, ""] : []),
    resultsText(results, comparisons, onTraining ? "training " : ""),
    ...(exports && exported
      ? [
          `\nExports, compared on ${countText([exports[0].images, exports[0].images])}:`,
          textTable(exported.columns, exported.rows),
        ]
      : []),
    ...loadingText(result),
    ...(result.sizes ?? []).map(({ size, student: path }) => `${size.padEnd(8)} ${result.out}/${path}`),
    ...(report === undefined ? [] : [`Report: ${report}`]),
  ].join("\n");
}

export const command = defineCommand({
  name: "distill",
  summary: "Distil a teacher into a smaller student.",
  schema: distillInputSchema.extend(resumeSchema.partial().shape),
  positional: ["teacher", "data", "out"],
  insteadOfAll: "resume",
  recipes,
  run: (context, options) =>
    runOrResume(context, withOutputFolder(options, new Date()) as DistillRunInput | ResumeInput),
  details: () => `Methods:\n${methodHelp()}\n\nData:\n${formatHelp()}`,
  text: distillText,
});
