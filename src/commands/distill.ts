// One run from pictures to a judged student in a run folder, begun anew or gone on with.
import { unusedOf } from "../data/dataset.ts";
import type { DataSet } from "../data/dataset.ts";
import type { PictureSource } from "../data/loader.ts";
import { formatHelp } from "../data/formats/lookup.ts";
import type { Item } from "../data/sampling.ts";
import { sampleFewShot } from "../data/sampling.ts";
import { paperAugmentation } from "../data/transforms.ts";
import type { DistillationState } from "../workspace/training-state.ts";
import type { Distillation } from "../students/training/distillation.ts";
import { createDistillation } from "../students/training/distillation.ts";
import { methodHelp, methodOf } from "../students/methods/lookup.ts";
import type { Widths } from "../students/closed-form/narrowing.ts";
import type { MethodName } from "../students/distillation-options.ts";
import { copyBlocks } from "../students/weight-copy.ts";
import { modelCard } from "../exports/model-card.ts";
import type { VitConfig } from "../models/config.ts";
import { Model } from "../models/model.ts";
import type { Int8Options } from "../models/precision.ts";
import { parameterCount } from "../models/definition.ts";
import type { Comparison } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { UserError } from "../utils/errors.ts";
import { shellWord } from "../utils/option-names.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { elementBytes } from "../utils/tensor.ts";
import { cardOrigin } from "./run-card.ts";
import type { RunContext } from "../context/run-context.ts";
import { interruptible, loadRequest, SkippedPictures } from "../context/run-context.ts";
import type { ExportedModel } from "./export.ts";
import { checkFormats, exportTable, runExport } from "./export.ts";
import type { Parts } from "../evaluation/evaluate-candidates.ts";
import {
  compareJudged,
  judgeCandidates,
  judgedLines,
  limitItems,
  splitParts,
} from "../evaluation/evaluate-candidates.ts";
import { microBatchesOf } from "../students/training/micro-batches.ts";
import type { DistillRunInput, DistillRunOptions, ResumeInput } from "./distill-options.ts";
import { openOptions, readOptionsFor } from "../context/common-options.ts";
import { resumeSchema } from "./distill-options.ts";
import { distillOptions, distillRunSchema } from "./distill-options.ts";
import type { BatchPlan } from "../students/training/step-plan.ts";
import { fewShotOf, planBatches } from "../students/training/step-plan.ts";
import { int8Of } from "../students/settle-precision.ts";
import type { LogEntry, ManifestEntry } from "../workspace/run-folder.ts";
import { writeRunReport } from "./report.ts";
import { RunFolder } from "../workspace/run-folder.ts";
import {
  checkMethod,
  fittingBatch,
  distillationOptions,
  keptViewsOf,
  teacherLabels,
  trackerOf,
  viewsOf,
  warnOfRank,
} from "../students/training/setup.ts";
import type { Start } from "../students/start.ts";
import { startOf } from "../students/start.ts";
import type { Trained } from "../students/training/loop.ts";
import { train } from "../students/training/loop.ts";
import { defineCommand } from "./command.ts";
import { resultsText } from "./result-text.ts";
import { textTable } from "../report/table.ts";

export interface DistillRunResult extends Trained, Widths {
  readonly out: string;
  /** Where the student's directory lies. */
  readonly student: string;
  /** Where the report's page lies, if one was wanted. */
  readonly report?: string;
  readonly method: MethodName;
  readonly teacherFromHub: boolean;
  readonly pictures: number;
  readonly keptBlocks: readonly number[];
  /** Choosing blocks and refitting them. */
  readonly startSeconds: number;
  readonly skipped: number;
  /** Teacher, weight copy and student, where judging is on. */
  readonly results: readonly ResultRow[];
  /** The student beside the other rows on the same pictures, with intervals. */
  readonly comparisons: readonly Comparison[];
  /** Set where nothing could be held out, so that the figures come from training pictures. */
  readonly judgedOnTrainingPictures: boolean;
  /** What was written besides, where it was asked for. */
  readonly exports?: readonly ExportedModel[];
}

/** Draws the training pictures and takes their facts; unreadable ones are passed over. */
async function choosePictures(
  options: DistillRunOptions,
  candidates: readonly Item[],
  facts: (item: Item) => Promise<Omit<ManifestEntry, "item">>,
  skipped: SkippedPictures,
): Promise<ManifestEntry[]> {
  const known = new Map<Item, ManifestEntry>();
  const usable = async (item: Item): Promise<boolean> => {
    try {
      known.set(item, { item, ...(await facts(item)) });
      return true;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      skipped.add({ name: item.name, reason: error.message });
      return false;
    }
  };
  const chosen = await sampleFewShot(candidates, fewShotOf(options), options.seed, usable);
  return chosen.map((item) => known.get(item) as ManifestEntry);
}

/** Where a run begins: with nothing, or with what an earlier process left in the folder. */
interface Progress {
  readonly manifest: readonly ManifestEntry[];
  readonly before: readonly LogEntry[];
  readonly state?: DistillationState & { readonly losses: readonly number[] };
  /** Pictures at once, as the run has chosen before. */
  readonly batch?: number;
}

/**
 * Distils a teacher with a folder of pictures and writes the run folder. Throws a UserError on settings, models or
 * pictures that don't fit (nothing is written then), and a RunError where the run itself fails.
 */
export async function runDistillation(context: RunContext, input: DistillRunInput): Promise<DistillRunResult> {
  const { environment, listener } = context;
  const options = distillOptions(input);
  if (options.recipe !== undefined) listener.info?.(`recipe ${options.recipe}: ${methodOf(options.method).summary}`);
  fewShotOf(options);
  const folder = new RunFolder(environment.directory(options.out));
  await folder.check(options.overwrite);
  return perform(context, options, folder, async (parts, facts, skipped) => ({
    manifest: await choosePictures(options, parts.train, facts, skipped),
    before: [],
  }));
}

/**
 * Goes on with a run that was stopped, killed or failed; its settings are those in its folder. A run that goes on ends
 * with the same bits as one that never stopped. Throws a UserError where the folder holds no run, or its pictures have
 * changed.
 */
export async function resumeDistillation(context: RunContext, input: ResumeInput): Promise<DistillRunResult> {
  const { environment, listener } = context;
  const { resume } = parseOptions(resumeSchema, input, "options of distill --resume");
  const folder = new RunFolder(environment.directory(resume));
  const config = await folder.readConfig();
  if (await folder.readResult())
    throw new UserError(`the run in ${resume} is finished: its student is ${folder.directory.describe("student")}`);
  const kept = { ...(config.options as object), out: resume };
  const options = distillOptions(kept, `the options in ${folder.directory.describe("config.json")}`);
  const state = await folder.readState();
  listener.info?.(`going on with ${resume} after step ${state?.steps ?? 0}`);
  return perform(context, options, folder, async (parts, facts) => {
    const log = await folder.readLog();
    return {
      manifest: await confirmPictures(folder, parts.train, facts),
      // Steps after the checkpoint are taken again.
      before: log.filter(({ kind, step }) => kind !== "result" && Number(step) <= (state?.steps ?? -1)),
      state,
      batch: (config.plan as Partial<BatchPlan> | undefined)?.batch,
    };
  });
}

type Facts = (item: Item) => Promise<Omit<ManifestEntry, "item">>;

/** The run's own pictures, in its order. Throws a UserError where one is gone or is not what it was. */
async function confirmPictures(folder: RunFolder, candidates: readonly Item[], facts: Facts): Promise<ManifestEntry[]> {
  const known = new Map(candidates.map((item) => [item.name, item]));
  const recorded = await folder.readManifest();
  return Promise.all(
    recorded.map(async ({ name, sha256 }) => {
      const item = known.get(name);
      if (!item) throw new UserError(`the run trains on ${name}, which is gone; put it back to go on`);
      const found = await facts(item);
      if (found.sha256 !== sha256) {
        throw new UserError(`${name} has changed since the run began; put the old picture back, or begin a new run`);
      }
      return { item, ...found };
    }),
  );
}

/** The files and models that a run reads. */
interface Inputs {
  readonly data: DataSet;
  readonly teacher: Model;
  readonly source: PictureSource;
  readonly skipped: SkippedPictures;
  readonly parts: Parts;
}

/** A run that is under way. */
interface Run extends Inputs {
  readonly context: RunContext;
  readonly options: DistillRunOptions;
  readonly folder: RunFolder;
}

/** A run with its pictures, its plan and what it begins with. */
interface Begun extends Run, Progress {
  readonly items: readonly Item[];
  readonly plan: BatchPlan;
  /** The teacher's classes for the data set's, where the method learns from labels. */
  readonly labels: readonly number[] | undefined;
  readonly initial: Start;
  readonly int8: Int8Options | undefined;
  readonly distillation: Distillation;
}

type FindProgress = (parts: Parts, facts: Facts, skipped: SkippedPictures) => Promise<Progress>;

async function perform(
  context: RunContext,
  options: DistillRunOptions,
  folder: RunFolder,
  progress: FindProgress,
): Promise<DistillRunResult> {
  const advice = () => `Resume with: wecolora distill --resume ${shellWord(folder.directory.describe(""))}`;
  return interruptible(context, advice, async () => {
    const inputs = await openInputs(context, options);
    const run: Run = { ...inputs, context, options, folder };
    try {
      const begun = await begin(run, await progress(inputs.parts, (item) => inputs.source.facts(item), inputs.skipped));
      await writeBeginning(begun);
      const trained = await trainStudent(begun);
      const saved = await saveStudent(begun);
      return await finish(begun, saved, trained, await judgeStudent(begun, saved));
    } finally {
      await inputs.source.dispose();
      await inputs.teacher.dispose();
    }
  });
}

async function openInputs(context: RunContext, options: DistillRunOptions): Promise<Inputs> {
  const { environment, listener } = context;
  const data = await environment.openDataSet(options.data, openOptions(options));
  const teacher = await environment.loadModel(options.teacher, loadRequest(readOptionsFor(options, data), context));
  await teacher.rest();
  const skipped = new SkippedPictures(options.strict);
  skipped.open(unusedOf(data), listener);
  listener.stage?.("reading pictures");
  const parts = splitParts(data, options.heldOut, options.seed);
  return { data, teacher, source: environment.createPictureSource(data.path), skipped, parts };
}

/** Settles batch, precision, blocks and widths, and makes the student before training. */
async function begin(run: Run, progress: Progress): Promise<Begun> {
  const { context, options, teacher, data, source } = run;
  const { environment, listener } = context;
  if (progress.manifest.length === 0) throw new UserError(`none of the pictures in ${options.data} can be read`);
  const items = progress.manifest.map(({ item }) => item);
  const method = methodOf(options.method);
  const { batch } = progress;
  const fitting = batch === undefined ? fittingBatch(options, teacher, environment) : () => batch;
  const plan = planBatches(items.length, options, method.trains, fitting);
  for (const note of plan.notes) listener.info?.(note);
  const labels = method.needsLabels ? teacherLabels(teacher, data, options) : undefined;
  const int8 = await int8Of(options, teacher, source, items, listener);
  const initial = await startOf(options, teacher, source, items, int8, context);
  checkFormats(options.export ?? [], initial.student ?? teacher, options);
  const distillation = await createDistillation(teacher, {
    ...distillationOptions(options, plan, initial.keptBlocks),
    precision: int8 ? "int8" : "float32",
    initialStudent: initial.student,
    int8,
  });
  checkMethod(options, distillation);
  const { keptBlocks } = distillation;
  const { depth } = teacher.config;
  listener.info?.(
    keptBlocks.length === depth
      ? `all ${depth} blocks are kept`
      : `${keptBlocks.length} of ${depth} blocks are kept: ${keptBlocks.join(", ")}`,
  );
  warnOfRank(options, items.length, (message) => listener.warn?.(message));
  return { ...run, ...progress, items, plan, labels, initial, int8, distillation };
}

/** All that decides a run's bits, as config.json holds it. */
function settingsOf({ context, options, int8, plan, distillation, initial }: Begun) {
  return {
    command: "distill",
    // What was decided by measuring is decided: a run that is resumed takes the same.
    options: { ...options, ...(int8 ? { precision: "int8", int8Parts: int8.parts } : { precision: "float32" }) },
    int8,
    plan,
    keptBlocks: distillation.keptBlocks,
    ...initial.widths,
    fewShot: fewShotOf(options),
    about: context.environment.about,
  };
}

/** Writes what a run begins with, or takes up what an earlier process has left. */
async function writeBeginning(begun: Begun): Promise<void> {
  const { folder, state, before, manifest, data, distillation } = begun;
  if (state) {
    await distillation.loadState(state);
    await folder.sweep();
    await folder.writeLog(before);
    return;
  }
  await folder.begin();
  await folder.writeManifest(manifest, data.train.classes);
  await folder.writeConfig(settingsOf(begun));
}

async function trainStudent(begun: Begun): Promise<Trained> {
  const { context, options, folder, teacher, data, source, parts, items, plan, labels, before, state } = begun;
  const { distillation } = begun;
  const loaderOptions = {
    source,
    items,
    batch: plan.batch,
    microBatchesPerEpoch: plan.iterationsPerEpoch * plan.accumulation,
    preprocessing: teacher.preprocessing,
    augmentation: paperAugmentation,
    seed: options.seed,
    views: options.keptViews,
  };
  const kept = await keptViewsOf(options, distillation, loaderOptions, folder.directory, context.listener);
  await folder.writeEvents(before, settingsOf(begun), await viewsOf(context.environment, loaderOptions));
  const tracked = parts.queries.length > 0 && options.evaluateSteps !== 0;
  const training = {
    distillation,
    next: microBatchesOf(loaderOptions, distillation.steps * plan.accumulation, kept, labels),
    plan,
    options,
    folder,
    tracker: tracked ? trackerOf(options, teacher, source, parts, data) : undefined,
    before,
    losses: state?.losses ?? [],
  };
  return train(training, context).finally(() => kept?.dispose());
}

/** A student in its directory. */
interface Saved {
  readonly path: string;
  readonly config: VitConfig;
  readonly keptBlocks: readonly number[];
}

/** Writes the student and its adapters, and frees what trained. */
async function saveStudent({ context, options, folder, teacher, distillation }: Begun): Promise<Saved> {
  const { environment, listener } = context;
  listener.stage?.("saving the student");
  const student = await distillation.student();
  const adapters = await distillation.adapters();
  const { steps } = distillation;
  // What trained is done with, and takes most of the memory.
  await distillation.dispose();
  await folder.writeAdapters(adapters, steps);
  const path = folder.directory.describe("student");
  const weightType = options.weightType ?? teacher.origin.weightType;
  await environment.saveModel(student, path, weightType, (message) => listener.warn?.(message));
  await student.dispose();
  return { path, config: student.config, keptBlocks: distillation.keptBlocks };
}

type Figures = Pick<DistillRunResult, "results" | "comparisons">;

/** Evaluates what was saved, read back, beside the teacher and the weight copy. */
async function judgeStudent(begun: Begun, { path, keptBlocks }: Saved): Promise<Figures> {
  const { context, options, folder, teacher, data, source, parts, items, skipped, initial } = begun;
  if (!options.judge) return { results: [], comparisons: [] };
  const { environment } = context;
  const saved = await environment.loadModel(path, loadRequest({}, context));
  const weightCopy = new Model(copyBlocks(teacher, initial.copied ?? keptBlocks), teacher.device);
  const onTraining = parts.queries.length === 0;
  const weightType = options.weightType ?? teacher.origin.weightType;
  const own = { name: "student", model: saved, bytes: saved.origin.bytes };
  const baseline = parameterCount(weightCopy) * elementBytes[weightType];
  const candidates = options.judgeTeacher
    ? [
        { name: "teacher", model: teacher, bytes: teacher.origin.bytes },
        { name: "weight copy", model: weightCopy, bytes: baseline },
        own,
      ]
    : [own];
  const judged: Parts = {
    train: items,
    bank: limitItems(parts.bank, options.judgeBank, options.seed),
    queries: limitItems(onTraining ? items : parts.queries, options.judgeQueries, options.seed),
  };
  const classes = onTraining ? undefined : data.train.classes;
  const judging = { candidates, reference: teacher, source, parts: judged, classes };
  const found = await judgeCandidates(context, judging, skipped);
  await folder.writeJudged(judgedLines(found, data.train.classes));
  for (const row of found.rows) await folder.log({ kind: "result", ...row });
  // Sessions hold memory for their largest batch; a comparison has many runs in one process.
  for (const { model } of candidates) await model.dispose();
  return { results: found.rows, comparisons: compareJudged(found) };
}

/** Writes the model card and the result, then the report and the exports that were asked for. */
async function finish(
  begun: Begun,
  { path, config, keptBlocks }: Saved,
  trained: Trained,
  figures: Figures,
): Promise<DistillRunResult> {
  const { context, options, folder, teacher, parts, items, skipped, initial } = begun;
  skipped.report(context.listener);
  const result: DistillRunResult = {
    out: options.out,
    student: path,
    method: options.method,
    teacherFromHub: teacher.origin.hub !== undefined,
    pictures: items.length,
    keptBlocks,
    ...initial.widths,
    ...trained,
    startSeconds: initial.seconds,
    skipped: skipped.count,
    ...figures,
    judgedOnTrainingPictures: parts.queries.length === 0,
  };
  await folder.writeCard(
    modelCard({
      name: `${options.method} student`,
      config,
      origin: cardOrigin(options, result as unknown as Readonly<Record<string, unknown>>),
      notes: [],
    }),
  );
  await folder.writeResult(result);
  if (options.report) await writeRunReport(context, folder);
  const reported = options.report ? { ...result, report: folder.directory.describe("report.html") } : result;
  if (options.export === undefined) return reported;
  const { exports } = await runExport(context, { model: folder.directory.describe(""), to: options.export });
  return { ...reported, exports };
}

/** Distils, or resumes a run where `resume` names its folder. */
function runOrResume(context: RunContext, options: DistillRunInput | ResumeInput): Promise<DistillRunResult> {
  return "resume" in options && options.resume !== undefined
    ? resumeDistillation(context, options)
    : runDistillation(context, options as DistillRunInput);
}

/** The result for people: the table, the exports, and where things lie. */
export function distillText({ results, comparisons, exports, student, report }: DistillRunResult): string {
  const exported = exports && exportTable(exports);
  return [
    resultsText(results, comparisons),
    ...(exported ? [`\n${textTable(exported.columns, exported.rows)}`] : []),
    `\nstudent: ${student}`,
    ...(report === undefined ? [] : [`report:  ${report}`]),
  ].join("\n");
}

export const command = defineCommand({
  name: "distill",
  summary: "Distil a teacher into a smaller student.",
  schema: distillRunSchema.extend(resumeSchema.partial().shape),
  insteadOfAll: "resume",
  run: (context, options) => runOrResume(context, options as DistillRunInput | ResumeInput),
  details: () => `Methods:\n${methodHelp()}\n\nData:\n${formatHelp()}`,
  text: distillText,
});
