// One run from pictures to a judged student in a run folder.
import { TrainingLoader } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { sampleFewShot } from "../data/sampling.ts";
import { paperAugmentation } from "../data/transforms.ts";
import type { Distillation } from "../distill/distillation.ts";
import { createDistillation } from "../distill/distillation.ts";
import { Model } from "../model.ts";
import { parameterCount } from "../models/definition.ts";
import type { ResultRow } from "../report/results.ts";
import { resultLegend, resultTable } from "../report/results.ts";
import { markdownTable } from "../report/table.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/options.ts";
import { elementBytes } from "../utils/tensor.ts";
import type { Environment, Listener } from "./environment.ts";
import { SkippedPictures } from "./environment.ts";
import type { Parts } from "./judging.ts";
import { judgeCandidates, limitItems, splitParts } from "./judging.ts";
import type { DistillRunInput, DistillRunOptions } from "./options.ts";
import { distillRunSchema, readOptions } from "./options.ts";
import type { BatchPlan } from "./plan.ts";
import { fewShotOf, planBatches } from "./plan.ts";
import type { ManifestEntry } from "./run-folder.ts";
import { RunFolder } from "./run-folder.ts";

export interface DistillRunResult {
  readonly out: string;
  /** Where the student's directory lies. */
  readonly student: string;
  readonly pictures: number;
  readonly steps: number;
  readonly keptBlocks: readonly number[];
  readonly firstLoss: number;
  readonly lastLoss: number;
  readonly trainingSeconds: number;
  readonly skipped: number;
  /** Teacher, weight copy and student, where judging is on. */
  readonly results: readonly ResultRow[];
  /** Set where nothing could be held out, so that the figures come from training pictures. */
  readonly judgedOnTrainingPictures: boolean;
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

/** The training loop: one step after the other, each logged. */
async function train(
  distillation: Distillation,
  loader: TrainingLoader<Item>,
  plan: BatchPlan,
  folder: RunFolder,
  environment: Environment,
  listener: Listener,
): Promise<Pick<DistillRunResult, "firstLoss" | "lastLoss" | "trainingSeconds">> {
  listener.stage?.("distilling", plan.steps);
  const losses: number[] = [];
  const begin = environment.now();
  for (let step = 1; step <= plan.steps; step++) {
    const started = environment.now();
    const microBatches = Array.from({ length: plan.accumulation }, () => () => loader.next());
    const { loss, learningRate } = await distillation.step(microBatches);
    losses.push(loss);
    const seconds = Number(((environment.now() - started) / 1000).toFixed(4));
    await folder.log({ kind: "step", step, epoch: step / plan.iterationsPerEpoch, loss, learningRate, seconds });
    listener.progress?.(step, `loss ${loss.toFixed(4)}`);
  }
  return {
    firstLoss: losses[0],
    lastLoss: losses[losses.length - 1],
    trainingSeconds: (environment.now() - begin) / 1000,
  };
}

function reportOf(options: DistillRunOptions, result: DistillRunResult, notes: readonly string[]): string {
  const { columns, rows } = resultTable(result.results);
  const judged = result.judgedOnTrainingPictures
    ? " (no pictures were left to hold out: measured on training pictures)"
    : "";
  const lines = [
    "# Distillation run",
    "",
    `Teacher \`${options.teacher}\`, pictures \`${options.data}\`, blocks kept: ${result.keptBlocks.join(", ")}.`,
    "",
    ...notes.map((note) => `- ${note}`),
    `- training took ${result.trainingSeconds.toFixed(1)} s; loss ${result.firstLoss.toFixed(4)} at first, ${result.lastLoss.toFixed(4)} at last`,
    "",
    ...(rows.length > 0 ? [markdownTable(columns, rows), "", `${resultLegend}${judged}.`, ""] : []),
    "The student's directory is `student/`; settings are in `config.json`, the pictures used in `manifest.jsonl`.",
    "",
  ];
  return lines.join("\n");
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
  const options = parseOptions(distillRunSchema, input, "options of distill");
  const fewShot = fewShotOf(options);
  const warn = (message: string) => listener.warn?.(message);
  const folder = new RunFolder(environment.directory(options.out));
  await folder.check(options.overwrite);
  const data = await environment.openDataSet(options.data);
  const teacher = await environment.loadModel(options.teacher, { ...readOptions(options), warn });
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    for (const file of [...data.train.skipped, ...(data.test?.skipped ?? [])]) skipped.add(file);
    listener.stage?.("reading pictures");
    const parts = splitParts(data, options.heldOut, options.seed);
    const manifest = await choosePictures(options, parts.train, (item) => source.facts(item), skipped);
    if (manifest.length === 0) throw new UserError(`none of the pictures in ${options.data} can be read`);
    const items = manifest.map(({ item }) => item);
    const plan = planBatches(items.length, options);
    for (const note of plan.notes) listener.info?.(note);

    const { config } = teacher;
    const distillation = await createDistillation(teacher, {
      reductionFactor: options.reductionFactor,
      keptBlocks: options.keptBlocks,
      rank: options.rank,
      targetModules: options.targetModules,
      loss: options.loss,
      optimizer: options.optimizer,
      schedule: {
        kind: "cosine",
        baseLearningRate: plan.peakLearningRate,
        warmupEpochs: options.warmupEpochs,
        epochs: options.epochs,
        iterationsPerEpoch: plan.iterationsPerEpoch,
      },
      accumulation: plan.accumulation,
      seed: options.seed,
    });
    const { keptBlocks } = distillation;
    listener.info?.(`${keptBlocks.length} of ${config.depth} blocks are kept: ${keptBlocks.join(", ")}`);

    await folder.begin();
    await folder.writeConfig({ command: "distill", options, plan, keptBlocks, fewShot, about: environment.about });
    await folder.writeManifest(manifest, data.train.classes);
    const loader = new TrainingLoader({
      source,
      items,
      batch: plan.batch,
      microBatchesPerEpoch: plan.iterationsPerEpoch * plan.accumulation,
      preprocessing: teacher.preprocessing,
      augmentation: paperAugmentation,
      seed: options.seed,
    });
    const trained = await train(distillation, loader, plan, folder, environment, listener);

    listener.stage?.("saving the student");
    const weightType = options.weightType ?? teacher.origin.weightType;
    const student = await distillation.student();
    await folder.writeAdapters(await distillation.adapters(), distillation.steps);
    const studentPath = folder.directory.describe("student");
    await environment.saveModel(student, studentPath, weightType);
    const weightCopy = new Model(distillation.weightCopy, teacher.device);
    await distillation.dispose();

    const judgedOnTraining = parts.queries.length === 0;
    let results: ResultRow[] = [];
    if (options.judge) {
      // What is judged is what was saved, read back.
      const saved = await environment.loadModel(studentPath, { warn });
      const judged: Parts = {
        train: items,
        bank: limitItems(parts.bank, options.judgeBank, options.seed),
        queries: limitItems(judgedOnTraining ? items : parts.queries, options.judgeQueries, options.seed),
      };
      const candidates = [
        { name: "teacher", model: teacher, bytes: teacher.origin.bytes },
        { name: "weight copy", model: weightCopy, bytes: parameterCount(weightCopy) * elementBytes[weightType] },
        { name: "student", model: saved, bytes: saved.origin.bytes },
      ];
      const classes = judgedOnTraining ? undefined : data.train.classes;
      const judging = { candidates, reference: teacher, source, parts: judged, classes };
      results = await judgeCandidates(environment, judging, skipped, listener);
      for (const row of results) await folder.log({ kind: "result", ...row });
    }
    skipped.report(listener);
    const result: DistillRunResult = {
      out: options.out,
      student: studentPath,
      pictures: items.length,
      steps: plan.steps,
      keptBlocks,
      ...trained,
      skipped: skipped.count,
      results,
      judgedOnTrainingPictures: judgedOnTraining,
    };
    await folder.writeReport(reportOf(options, result, plan.notes));
    return result;
  } finally {
    await source.dispose();
    await teacher.dispose();
  }
}
