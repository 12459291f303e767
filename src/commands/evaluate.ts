// `wecolora evaluate`: a finished model on labelled or unlabelled images.
import type { DataSet } from "../data/dataset.ts";
import { unusedOf } from "../data/dataset.ts";
import { z } from "zod";
import type { PictureSource } from "../data/loader.ts";
import { protocols } from "../data/protocols.ts";
import { logisticDefaults } from "../evaluation/logistic.ts";
import { probeDefaults } from "../evaluation/probe.ts";
import type { Comparison } from "../report/findings.ts";
import { metrics } from "../report/comparison.ts";
import type { ResultRow } from "../report/results.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedPictures } from "../context/run-context.ts";
import { inPrecision } from "../students/settle-precision.ts";
import type { FeatureStore } from "../evaluation/feature-store.ts";
import { modelNames } from "../workspace/output-files.ts";
import type { NamedInput, OutputFolder } from "../workspace/output-folder.ts";
import { checkApart, withOptionalOutput } from "../workspace/output-folder.ts";
import type { Candidate, Judged, JudgingOptions, Parts } from "../evaluation/evaluate-candidates.ts";
import { compareJudged, judgeCandidates, splitParts } from "../evaluation/evaluate-candidates.ts";
import type { Duplicate } from "../data/duplicates.ts";
import { duplicateWarning, findDuplicates } from "../data/duplicates.ts";
import { writeEvaluation } from "../evaluation/evaluation-files.ts";
import {
  commonSchema,
  countOption,
  mostEpochs,
  mostImages,
  rateOption,
  dataOption,
  dataSchema,
  listOption,
  normalizationOption,
  openOptions,
  pathOption,
  probeViewsFor,
  readBatchOption,
  readOptionsFor,
  readSchema,
} from "../context/common-options.ts";
import { precisions } from "../models/precision.ts";
import { defineCommand } from "./command.ts";
import { resultsText } from "./result-text.ts";

/** `wecolora evaluate` */
export const evaluateRunSchema = z.strictObject({
  model: listOption(pathOption).describe("the model or several: a directory, file of weights, or hub name"),
  data: dataOption,
  ...dataSchema.shape,
  normalization: normalizationOption,
  teacher: pathOption.optional().describe("the teacher, for fidelity"),
  out: pathOption
    .optional()
    .describe("output folder for tables of images and classes, and for charts")
    .meta({ note: "evaluation.json, images.csv, classes.csv, and the confusion matrix as a table and a chart." }),
  heldOut: z
    .number()
    .positive()
    .lt(1)
    .default(0.2)
    .describe("share held out for evaluation where the data has no val/"),
  batch: readBatchOption,
  precision: z
    .enum(precisions)
    .default("float32")
    .describe("precision of the models' products; the teacher stays float32")
    .meta({ note: "`auto` measures both and takes int8 where it is faster and features stay close." }),
  knnK: countOption.default(10).describe("k of the weighted k-NN classifier"),
  temperature: z.number().min(1e-4).max(1000).default(0.07).describe("temperature of the k-NN weights"),
  probeEpochs: countOption
    .max(mostEpochs)
    .optional()
    .describe("epochs of the linear probe (90, or the data set's published protocol)"),
  probeWarmupEpochs: z
    .number()
    .min(0)
    .max(mostEpochs)
    .optional()
    .describe("epochs of the probe's linear warm-up (10, or a ninth of the epochs)")
    .meta({ note: "The smaller of both." }),
  probeBatch: countOption.max(mostImages).default(512).describe("batch of the linear probe"),
  probeLearningRate: z
    .union([rateOption, z.array(rateOption).min(1)])
    .optional()
    .describe("base learning rate of the probe (0.1, more where images are few)")
    .meta({ note: "For a batch of 256. Of several with commas, the best on a tenth of the images is taken." }),
  probeBestEpoch: z
    .boolean()
    .default(false)
    .describe("also report the probe's best epoch on the evaluation images")
    .meta({ note: "As the paper's authors do." }),
  logistic: z.boolean().default(false).describe("also fit a logistic regression to convergence"),
  published: z
    .array(
      z.strictObject({
        model: z.string().optional().describe("the model as given, where there are several"),
        metric: z.enum(metrics.map(({ name }) => name) as [string, ...string[]]),
        value: z.number(),
      }),
    )
    .optional()
    .describe("a paper's figures, shown beside the measured ones"),
  cache: z.boolean().default(true).describe("cache features on disk"),
  cacheDir: pathOption
    .optional()
    .describe("folder of cached features (default: in the user's cache folder)")
    .meta({ note: "wecolora/features in the user's cache folder." }),
  ...readSchema.shape,
  ...commonSchema.shape,
});

export type EvaluateRunInput = z.input<typeof evaluateRunSchema>;

export interface EvaluateRunResult {
  /** The teacher first, where one is given. */
  readonly results: readonly ResultRow[];
  /** The model beside the teacher on the same pictures, with intervals. */
  readonly comparisons: readonly Comparison[];
  /** Pictures that were judged on, and labelled ones that neighbours and probe learned from. */
  readonly queries: number;
  readonly bank: number;
  readonly skipped: number;
  /** Pictures to judge on that are in the part to learn from too. */
  readonly duplicates: readonly Duplicate[];
  /** The published data set, where it is one. */
  readonly dataSet?: string;
  readonly out?: string;
  /** A paper's figures beside those measured, where such are given. */
  readonly published?: readonly PublishedBeside[];
}

/** A published figure and the one measured here, in the unit of the metric. */
export interface PublishedBeside {
  readonly model: string;
  readonly metric: string;
  readonly published: number;
  /** Left out where the metric was not measured. */
  readonly measured?: number;
}

type Published = NonNullable<z.output<typeof evaluateRunSchema>["published"]>;

/** Checks which models published figures speak of. Throws a UserError where one is none of those evaluated. */
function checkPublished({ published = [], model }: z.output<typeof evaluateRunSchema>): void {
  const elsewhere = published.find((figure) => figure.model === undefined && model.length > 1);
  const unknown = published.find((figure) => figure.model !== undefined && !model.includes(figure.model));
  const problem = unknown
    ? `is of ${unknown.model}, which is not evaluated`
    : elsewhere && `of ${elsewhere.metric} does not say its model`;
  if (problem === undefined) return;
  throw new UserError(`A published figure ${problem}. The models are: ${model.join(", ")}.`, {
    code: "INVALID_OPTION",
  });
}

const besideMeasured = (published: Published, models: readonly string[], rows: readonly ResultRow[]) =>
  published.map(({ model = models[0], metric: name, value }): PublishedBeside => {
    const row = rows[models.indexOf(model)];
    const measured = metrics.find((metric) => metric.name === name)?.of({ setting: {}, seed: 0, row });
    return { model, metric: name, published: value, ...(measured === undefined ? {} : { measured }) };
  });

function publishedText({ published = [] }: Pick<EvaluateRunResult, "published">): string {
  return published
    .map(({ model, metric: name, published: theirs, measured }) => {
      const { title = name, digits = 1 } = metrics.find((metric) => metric.name === name) ?? {};
      const ours = measured === undefined ? "not measured" : `measured ${measured.toFixed(digits)}`;
      return `\n${model}, ${title}: published ${theirs.toFixed(digits)}, ${ours}`;
    })
    .join("");
}

/** Equal files in both parts, with a warning where there are any. */
async function duplicatesOf(
  source: PictureSource,
  { bank, queries }: EvaluationParts,
  { listener }: RunContext,
): Promise<Duplicate[]> {
  if (bank.length === 0) return [];
  listener.stage?.("looking for duplicates", bank.length + queries.length);
  const found = await findDuplicates(source, bank, queries, (done) => listener.progress?.(done));
  if (found.length > 0) listener.warn?.(duplicateWarning(found));
  return found;
}

/** Judges a model on a folder of pictures, beside its teacher where one is given. */
export async function runEvaluation(context: RunContext, input: EvaluateRunInput): Promise<EvaluateRunResult> {
  const options = parseOptions(evaluateRunSchema, input, "options of evaluate");
  checkPublished(options);
  const { environment } = context;
  const inputs = evaluationInputs(options);
  if (options.cacheDir !== undefined) await checkApart(environment, options.cacheDir, inputs, "--cache-dir");
  return withOptionalOutput(environment, { path: options.out, kind: "evaluation", inputs }, (output) =>
    evaluateInto(context, options, output),
  );
}

type EvaluateOptions = z.output<typeof evaluateRunSchema>;

/** What an evaluation reads, and must not write over. */
const evaluationInputs = ({ model, teacher, data }: EvaluateOptions): NamedInput[] => [
  ...model.map((path) => ({ option: "--model", path })),
  ...(teacher === undefined ? [] : [{ option: "--teacher", path: teacher }]),
  { option: "--data", path: data },
];

/** Where features are kept; undefined, with a warning, where nothing can be written there. */
async function storeFor(
  { environment, listener }: RunContext,
  { cache, cacheDir }: EvaluateOptions,
): Promise<FeatureStore | undefined> {
  if (!cache) return undefined;
  const warn = (message: string) => listener.warn?.(message);
  const store = environment.featureStore(cacheDir, warn);
  const problem = await store.problem();
  if (problem === undefined) return store;
  warn(`Features are not cached: ${problem}`);
  return undefined;
}

type EvaluationParts = Pick<Parts, "bank" | "queries">;

/** What an evaluation opened. */
interface Opened {
  readonly data: DataSet;
  readonly source: PictureSource;
  /** The teacher first, where one is given. */
  readonly candidates: Candidate[];
  readonly hasTeacher: boolean;
}

/** Evaluates in five stages: open the inputs, split the images, look for duplicates, measure, write. */
async function evaluateInto(
  context: RunContext,
  options: EvaluateOptions,
  output: OutputFolder | undefined,
): Promise<EvaluateRunResult> {
  const { listener } = context;
  const store = await storeFor(context, options);
  const opened = await openInputs(context, options);
  const { data, source, candidates } = opened;
  const skipped = new SkippedPictures(options.strict);
  try {
    await takePrecision(opened, options, context);
    skipped.open(unusedOf(data), listener);
    const parts = partsOf(data, options);
    const duplicates = await duplicatesOf(source, parts, context);
    const judging = { ...judgingOf(options, opened), parts, store };
    const judged = await judgeCandidates(context, judging, skipped);
    skipped.report(listener);
    return await finish(context, options, output, { opened, parts, judged, duplicates, skipped: skipped.count });
  } finally {
    await source.dispose();
    for (const { model } of candidates) await model.dispose();
  }
}

async function openInputs(context: RunContext, options: EvaluateOptions): Promise<Opened> {
  const { environment } = context;
  const data = await environment.openDataSet(options.data, openOptions(options));
  const names = options.model.length === 1 ? ["model"] : modelNames(options.model);
  const hasTeacher = options.teacher !== undefined;
  const teachers = options.teacher === undefined ? [] : [["teacher", options.teacher]];
  const candidates: Candidate[] = [];
  for (const [name, path] of [...teachers, ...options.model.map((path, i) => [names[i], path])]) {
    const model = await environment.loadModel(path, loadRequest(readOptionsFor(options, data), context));
    await model.rest();
    candidates.push({ name, model, bytes: model.origin.bytes });
  }
  return { data, source: environment.createPictureSource(data.path), candidates, hasTeacher };
}

/** Lets the models, not the teacher, compute in the precision that is asked for. */
async function takePrecision(
  { data, source, candidates, hasTeacher }: Opened,
  { precision }: EvaluateOptions,
  { listener }: RunContext,
): Promise<void> {
  const { items } = data.test ?? data.train;
  for (const [i, candidate] of candidates.entries()) {
    if (hasTeacher && i === 0) continue;
    candidates[i] = { ...candidate, model: await inPrecision(candidate.model, precision, source, items, listener) };
  }
}

/** The images to learn from and those to evaluate on. Throws a UserError where none are left to evaluate on. */
function partsOf(data: DataSet, { heldOut, seed, data: path }: EvaluateOptions): EvaluationParts {
  const split = splitParts(data, heldOut, seed);
  const labelled = data.train.classes !== undefined;
  // Without labels there is nothing to learn from, so every picture can be judged on.
  const parts = labelled ? split : { bank: [], queries: (data.test ?? data.train).items };
  if (parts.queries.length > 0) return parts;
  throw new UserError(
    `The classes in ${path} have too few images to hold any out. Raise heldOut (--held-out), or put the evaluation images in val/ and the others in train/.`,
    { code: "INVALID_DATA" },
  );
}

/** How candidates are measured, but for the images and the store of features. */
function judgingOf(
  options: EvaluateOptions,
  { data, source, candidates, hasTeacher }: Opened,
): Omit<JudgingOptions, "parts" | "store"> {
  const probeEpochs = options.probeEpochs ?? (data.name ? protocols[data.name].probeEpochs : probeDefaults.epochs);
  return {
    candidates,
    reference: hasTeacher ? candidates[0].model : undefined,
    source,
    classes: data.train.classes,
    batch: options.batch,
    neighbours: { k: options.knnK, temperature: options.temperature },
    logistic: options.logistic ? logisticDefaults : undefined,
    probeViews: probeViewsFor(options, data),
    probe: {
      epochs: probeEpochs,
      warmupEpochs: options.probeWarmupEpochs ?? Math.min(10, probeEpochs / 9),
      batch: options.probeBatch,
      baseLearningRate: options.probeLearningRate,
      bestEpoch: options.probeBestEpoch,
      seed: options.seed,
    },
  };
}

interface Evaluated {
  readonly opened: Opened;
  readonly parts: EvaluationParts;
  readonly judged: Judged;
  readonly duplicates: readonly Duplicate[];
  readonly skipped: number;
}

/** Compares the models with the teacher and with published figures, and writes the files that are asked for. */
async function finish(
  { environment }: RunContext,
  options: EvaluateOptions,
  output: OutputFolder | undefined,
  { opened: { data, hasTeacher }, parts, judged, duplicates, skipped }: Evaluated,
): Promise<EvaluateRunResult> {
  const comparisons = compareJudged(judged);
  const rows = judged.rows.slice(hasTeacher ? 1 : 0);
  const published = options.published && besideMeasured(options.published, options.model, rows);
  const { bank, queries } = parts;
  const facts = { queries: queries.length, bank: bank.length, skipped, duplicates, published };
  if (output) {
    const { classes } = data.train;
    await writeEvaluation(environment, output.directory, judged, classes, { options, comparisons, ...facts });
    await output.removeStale();
  }
  return { results: judged.rows, comparisons, dataSet: data.name, out: options.out, ...facts };
}

export const command = defineCommand({
  name: "evaluate",
  summary: "Evaluate a model on a folder of images.",
  schema: evaluateRunSchema,
  run: runEvaluation,
  text: ({ results, comparisons, bank, ...result }) =>
    `${resultsText(results, comparisons)}${publishedText(result)}${bank > 0 ? `\n\nk-NN and probe learned from ${bank} images.` : ""}`,
});
