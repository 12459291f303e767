// One run from pictures to a judged student in a run folder, begun anew or gone on with.
import type { Item } from "../data/sampling.ts";
import { sampleFewShot } from "../data/sampling.ts";
import { paperAugmentation } from "../data/transforms.ts";
import type { DistillationState } from "../workspace/training-state.ts";
import { createDistillation } from "../students/training/distillation.ts";
import { methods } from "../students/methods/registry.ts";
import type { Widths } from "../students/closed-form/narrowing.ts";
import type { MethodName } from "../students/distillation-options.ts";
import { copyBlocks } from "../students/weight-copy.ts";
import { modelCard } from "../exports/model-card.ts";
import { Model } from "../models/model.ts";
import { parameterCount } from "../models/definition.ts";
import type { Comparison } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { elementBytes } from "../utils/tensor.ts";
import { cardOrigin } from "./run-card.ts";
import type { Environment, Listener } from "../context/environment.ts";
import { loadRequest, SkippedPictures } from "../context/environment.ts";
import type { ExportedModel } from "./export.ts";
import { checkFormats, runExport } from "./export.ts";
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
import { distillOptions } from "./distill-options.ts";
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
import { startOf } from "../students/start.ts";
import type { Trained } from "../students/training/loop.ts";
import { train } from "../students/training/loop.ts";

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
export async function runDistillation(
  environment: Environment,
  input: DistillRunInput,
  listener: Listener = {},
): Promise<DistillRunResult> {
  const options = distillOptions(input);
  if (options.recipe !== undefined) listener.info?.(`recipe ${options.recipe}: ${methods[options.method].summary}`);
  fewShotOf(options);
  const folder = new RunFolder(environment.directory(options.out));
  await folder.check(options.overwrite);
  return perform(environment, options, folder, listener, async (parts, facts, skipped) => ({
    manifest: await choosePictures(options, parts.train, facts, skipped),
    before: [],
  }));
}

/**
 * Goes on with a run that was stopped, killed or failed; its settings are those in its folder. A run that goes on ends
 * with the same bits as one that never stopped. Throws a UserError where the folder holds no run, or its pictures have
 * changed.
 */
export async function resumeDistillation(
  environment: Environment,
  input: ResumeInput,
  listener: Listener = {},
): Promise<DistillRunResult> {
  const { resume } = parseOptions(resumeSchema, input, "options of distill --resume");
  const folder = new RunFolder(environment.directory(resume));
  const config = await folder.readConfig();
  if (await folder.readResult())
    throw new UserError(`the run in ${resume} is finished: its student is ${folder.directory.describe("student")}`);
  const kept = { ...(config.options as object), out: resume };
  const options = distillOptions(kept, `the options in ${folder.directory.describe("config.json")}`);
  const state = await folder.readState();
  listener.info?.(`going on with ${resume} after step ${state?.steps ?? 0}`);
  return perform(environment, options, folder, listener, async (parts, facts) => {
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

async function perform(
  environment: Environment,
  options: DistillRunOptions,
  folder: RunFolder,
  listener: Listener,
  start: (parts: Parts, facts: Facts, skipped: SkippedPictures) => Promise<Progress>,
): Promise<DistillRunResult> {
  const warn = (message: string) => listener.warn?.(message);
  const data = await environment.openDataSet(options.data, openOptions(options));
  const teacher = await environment.loadModel(options.teacher, loadRequest(readOptionsFor(options, data), listener));
  await teacher.rest();
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    for (const file of [...data.train.skipped, ...(data.test?.skipped ?? [])]) skipped.add(file);
    listener.stage?.("reading pictures");
    const parts = splitParts(data, options.heldOut, options.seed);
    const { manifest, before, state, batch } = await start(parts, (item) => source.facts(item), skipped);
    if (manifest.length === 0) throw new UserError(`none of the pictures in ${options.data} can be read`);
    const items = manifest.map(({ item }) => item);
    const method = methods[options.method];
    const fitting = batch === undefined ? fittingBatch(options, teacher, environment) : () => batch;
    const plan = planBatches(items.length, options, method.trains, fitting);
    for (const note of plan.notes) listener.info?.(note);
    const labels = method.needsLabels ? teacherLabels(teacher, data, options) : undefined;

    const int8 = await int8Of(options, teacher, source, items, listener);
    const initial = await startOf(options, teacher, source, items, int8, listener, environment);
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
    warnOfRank(options, items.length, warn);

    const settings = {
      command: "distill",
      // What was decided by measuring is decided: a run that goes on takes the same.
      options: { ...options, ...(int8 ? { precision: "int8", int8Parts: int8.parts } : { precision: "float32" }) },
      int8,
      plan,
      keptBlocks,
      ...initial.widths,
      fewShot: fewShotOf(options),
      about: environment.about,
    };
    if (state) {
      await distillation.loadState(state);
      await folder.sweep();
      await folder.writeLog(before);
    } else {
      await folder.begin();
      await folder.writeManifest(manifest, data.train.classes);
      await folder.writeConfig(settings);
    }
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
    const kept = await keptViewsOf(options, distillation, loaderOptions, folder.directory, listener);
    await folder.writeEvents(before, settings, await viewsOf(environment, loaderOptions));
    const judgedOnTraining = parts.queries.length === 0;
    const tracker =
      judgedOnTraining || options.evaluateSteps === 0 ? undefined : trackerOf(options, teacher, source, parts, data);
    const trained = await train(
      {
        distillation,
        next: microBatchesOf(loaderOptions, distillation.steps * plan.accumulation, kept, labels),
        plan,
        options,
        folder,
        tracker,
        before,
        losses: state?.losses ?? [],
      },
      environment,
      listener,
    ).finally(() => kept?.dispose());

    listener.stage?.("saving the student");
    const weightType = options.weightType ?? teacher.origin.weightType;
    const student = await distillation.student();
    const adapters = await distillation.adapters();
    const { steps } = distillation;
    // What trained is done with, and takes most of the memory.
    await distillation.dispose();
    await folder.writeAdapters(adapters, steps);
    const studentPath = folder.directory.describe("student");
    await environment.saveModel(student, studentPath, weightType);
    await student.dispose();
    const weightCopy = new Model(copyBlocks(teacher, initial.copied ?? keptBlocks), teacher.device);

    let results: ResultRow[] = [];
    let comparisons: Comparison[] = [];
    if (options.judge) {
      // What is judged is what was saved, read back.
      const saved = await environment.loadModel(studentPath, { warn });
      const judged: Parts = {
        train: items,
        bank: limitItems(parts.bank, options.judgeBank, options.seed),
        queries: limitItems(judgedOnTraining ? items : parts.queries, options.judgeQueries, options.seed),
      };
      const own = { name: "student", model: saved, bytes: saved.origin.bytes };
      const candidates = options.judgeTeacher
        ? [
            { name: "teacher", model: teacher, bytes: teacher.origin.bytes },
            { name: "weight copy", model: weightCopy, bytes: parameterCount(weightCopy) * elementBytes[weightType] },
            own,
          ]
        : [own];
      const classes = judgedOnTraining ? undefined : data.train.classes;
      const judging = { candidates, reference: teacher, source, parts: judged, classes };
      const found = await judgeCandidates(environment, judging, skipped, listener);
      results = found.rows;
      comparisons = compareJudged(found);
      await folder.writeJudged(judgedLines(found, data.train.classes));
      for (const row of results) await folder.log({ kind: "result", ...row });
      // Sessions hold memory for their largest batch; a comparison has many runs in one process.
      for (const { model } of candidates) await model.dispose();
    }
    skipped.report(listener);
    const result: DistillRunResult = {
      out: options.out,
      student: studentPath,
      method: options.method,
      teacherFromHub: teacher.origin.hub !== undefined,
      pictures: items.length,
      keptBlocks,
      ...initial.widths,
      ...trained,
      startSeconds: initial.seconds,
      skipped: skipped.count,
      results,
      comparisons,
      judgedOnTrainingPictures: judgedOnTraining,
    };
    await folder.writeCard(
      modelCard({
        name: `${options.method} student`,
        config: student.config,
        origin: cardOrigin(options, result as unknown as Readonly<Record<string, unknown>>),
        notes: [],
      }),
    );
    await folder.writeResult(result);
    if (options.report) await writeRunReport(environment, folder, listener);
    const reported = options.report ? { ...result, report: folder.directory.describe("report.html") } : result;
    if (options.export === undefined) return reported;
    const { exports } = await runExport(
      environment,
      { model: folder.directory.describe(""), to: options.export },
      listener,
    );
    return { ...reported, exports };
  } finally {
    await source.dispose();
    await teacher.dispose();
  }
}
