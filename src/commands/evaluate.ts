// `wecolora evaluate`: a finished model on labelled or unlabelled images.
import { z } from "zod";
import type { DataSet } from "../data/dataset.ts";
import { unusedOf } from "../data/dataset.ts";
import type { Duplicate } from "../data/duplicates.ts";
import { duplicateWarning, findDuplicates } from "../data/duplicates.ts";
import type { ImageSource, Skipped } from "../data/loader.ts";
import { dataSetNames, protocols } from "../data/protocols.ts";
import type { Item } from "../data/sampling.ts";
import type { Candidate, Evaluated, CandidatesOptions, Parts } from "../evaluation/evaluate-candidates.ts";
import { compareCandidates, evaluationOptionsOf, rowsOf, splitParts } from "../evaluation/evaluate-candidates.ts";
import type { CollectedParts } from "../evaluation/evaluate-models.ts";
import {
  collectBank,
  collectQueries,
  evaluateCollected,
  evaluationTicker,
  learnsFromBank,
} from "../evaluation/evaluate-models.ts";
import { writeEvaluation } from "../evaluation/evaluation-files.ts";
import type { FeatureStore } from "../evaluation/feature-store.ts";
import { modelKey } from "../evaluation/feature-store.ts";
import { logisticDefaults } from "../evaluation/logistic.ts";
import type { Collected } from "../evaluation/model-outputs.ts";
import { probeDefaults } from "../evaluation/probe.ts";
import { launchOptions } from "../launchers/launch-options.ts";
import { precisions } from "../models/precision.ts";
import { currentMetric, metrics } from "../report/comparison.ts";
import type { Comparison } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { inPrecision, withInt8 } from "../students/settle-precision.ts";
import { UserError } from "../utils/errors.ts";
import { batchesOf } from "../utils/arrays.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows } from "../utils/tensor.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedImages } from "../context/run-context.ts";
import { modelNames } from "../workspace/output-files.ts";
import type { NamedInput, OutputFolder } from "../workspace/output-folder.ts";
import { checkApart, withOptionalOutput } from "../workspace/output-folder.ts";
import type { HashedInput } from "../workspace/plan-folder.ts";
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
  probeCropsFor,
  readBatchOption,
  readOptionsFor,
  readSchema,
} from "../context/common-options.ts";
import type { Division, EarlierPlan, HashedItem, Prints, Work } from "./division.ts";
import {
  checkImages,
  defineDivision,
  hashedItems,
  itemSchema,
  rememberedPrints,
  runWhole,
  settledBefore,
  skippedSchema,
} from "./division.ts";
import { divisibleCommand, withoutLaunch } from "./launch.ts";
import { resultsText } from "./result-text.ts";
import { int8Schema } from "./run-settings.ts";

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
        metric: z.preprocess(currentMetric, z.enum(metrics.map(({ name }) => name) as [string, ...string[]])),
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
  ...launchOptions,
});

export type EvaluateRunInput = z.input<typeof evaluateRunSchema>;

export interface EvaluateRunResult {
  /** The teacher first, where one is given. */
  readonly results: readonly ResultRow[];
  /** The model beside the teacher on the same images, with intervals. */
  readonly comparisons: readonly Comparison[];
  /** Images that were evaluated on, and labelled ones that k-NN and probe learned from. */
  readonly queries: number;
  readonly bank: number;
  readonly skipped: number;
  /** Images to evaluate on that are in the part to learn from too. */
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
  source: Prints,
  { bank, queries }: EvaluationParts,
  { listener }: RunContext,
): Promise<Duplicate[]> {
  if (bank.length === 0) return [];
  listener.stage?.("looking for duplicates", bank.length + queries.length);
  const duplicates = await findDuplicates(source, bank, queries, (done) => listener.progress?.(done));
  if (duplicates.length > 0) listener.warn?.(duplicateWarning(duplicates));
  return duplicates;
}

/** Evaluates models in this process. */
export const runEvaluation = (context: RunContext, input: EvaluateRunInput): Promise<EvaluateRunResult> =>
  runWhole(division, context, parseOptions(evaluateRunSchema, input, "options of evaluate"));

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

/** What a plan settles for all tasks. */
const settledSchema = z.object({
  data: z.object({ path: z.string(), name: z.enum(dataSetNames).optional(), classes: z.array(z.string()).optional() }),
  queries: z.number(),
  bank: z.number(),
  /** Whether k-NN and probe learn from the bank. */
  learns: z.boolean(),
  /** Files that are not used, as listing them showed. */
  skipped: z.number(),
  duplicates: z.array(z.object({ evaluated: z.string(), learned: z.string() })),
  /** Products in 8 bits, for each of the candidates that has them. */
  int8: z.array(int8Schema.nullable()),
});
type Settled = z.output<typeof settledSchema>;

/** A batch of images to evaluate on or to learn from. */
interface EvaluateUnit {
  readonly part: "queries" | "bank";
  readonly items: readonly HashedItem[];
}

const unitSchema: z.ZodType<EvaluateUnit> = z.object({
  part: z.enum(["queries", "bank"]),
  items: z.array(itemSchema),
});

/** What models gave for some batches, by the models' names. */
interface EvaluatePart extends CollectedParts {
  readonly skipped: readonly Skipped[];
}

/** What an evaluation opened. */
interface Opened {
  readonly source: ImageSource;
  /** The teacher first, where one is given. */
  readonly candidates: Candidate[];
}

/** Models evaluated on images, batch by batch. */
class EvaluateWork implements Work<EvaluateUnit, EvaluatePart, EvaluateRunResult> {
  private readonly context: RunContext;
  private readonly options: EvaluateOptions;
  private readonly skipped: SkippedImages;
  private facts: Settled | undefined;
  private opened: Opened | undefined;
  private store: FeatureStore | undefined;
  private tick: ((count: number) => void) | undefined;

  constructor(context: RunContext, options: EvaluateOptions, settled: unknown) {
    this.context = context;
    this.options = options;
    this.skipped = new SkippedImages(options.strict);
    this.facts = settled === undefined ? undefined : settledSchema.parse(settled);
  }

  async units(forPlan: boolean, earlier?: EarlierPlan): Promise<EvaluateUnit[]> {
    const { context, options } = this;
    this.store = await storeFor(context, options);
    const data = await context.environment.openDataSet(options.data, openOptions(options));
    this.facts = { ...nothingSettled, data: { path: data.path, name: data.name, classes: classesOf(data) } };
    const { source, candidates } = await this.open();
    const int8 = await this.takePrecision(data, earlier);
    const unused = unusedOf(data);
    this.skipped.open(context, unused);
    const parts = partsOf(data, options);
    // A plan has the hash of each image too.
    const prints = forPlan ? rememberedPrints(source) : source;
    const duplicates = await duplicatesOf(prints, parts, context);
    const [queries, bank] = [parts.queries.length, parts.bank.length];
    const learns = learnsFromBank({ bank: parts.bank, classes: data.train.classes });
    this.facts = { ...this.facts, queries, bank, learns, skipped: unused.length, duplicates, int8 };
    this.tick = evaluationTicker(
      evaluationOptionsOf(context, { ...this.evaluationOptions(source, candidates), parts }, this.skipped.add),
    );
    const units = (part: EvaluateUnit["part"], items: readonly HashedItem[]) =>
      batchesOf(items, options.batch).map((batch) => ({ part, items: batch }));
    const listed = async (items: readonly Item[]) => (forPlan ? hashedItems(prints, items) : items);
    const learned = learns ? await listed(parts.bank) : [];
    return [...units("queries", await listed(parts.queries)), ...units("bank", learned)];
  }

  settled(): unknown {
    return this.facts;
  }

  async inputs(): Promise<HashedInput[]> {
    const { candidates } = await this.open();
    const { model, teacher } = this.options;
    const paths = [
      ...(teacher === undefined ? [] : [["--teacher", teacher]]),
      ...model.map((path) => ["--model", path]),
    ];
    return Promise.all(
      candidates.map(async (candidate, i) => ({
        option: paths[i][0],
        path: paths[i][1],
        sha256: await modelKey(candidate.model),
      })),
    );
  }

  async run(units: readonly EvaluateUnit[]): Promise<EvaluatePart> {
    const { context } = this;
    const { source, candidates } = await this.open();
    this.store ??= await storeFor(context, this.options);
    const itemsOf = (wanted: EvaluateUnit["part"]) =>
      units.filter(({ part }) => part === wanted).flatMap(({ items }) => items);
    const parts = { queries: itemsOf("queries"), bank: itemsOf("bank") };
    await checkImages(source, [...parts.queries, ...parts.bank]);
    const skipped: Skipped[] = [];
    const skip = (file: Skipped) => {
      this.skipped.add(file);
      skipped.push(file);
    };
    const evaluationOptions = evaluationOptionsOf(
      context,
      { ...this.evaluationOptions(source, candidates), parts },
      skip,
    );
    const tick = (this.tick ??= evaluationTicker(evaluationOptions));
    const queries = await collectQueries(evaluationOptions, parts.queries, tick);
    const bank = this.facts?.learns ? await collectBank(evaluationOptions, parts.bank, tick) : undefined;
    return { queries, bank, skipped };
  }

  async merge(parts: readonly EvaluatePart[], output: OutputFolder | undefined): Promise<EvaluateRunResult> {
    const { context } = this;
    const { source, candidates } = await this.open();
    const evaluationOptions = this.evaluationOptions(source, candidates);
    const nothing = { bank: [], queries: [] };
    const options = evaluationOptionsOf(context, { ...evaluationOptions, parts: nothing }, this.skipped.add);
    const collected = { queries: joinCollected(parts.map(({ queries }) => queries)), bank: joinBanks(parts) };
    const evaluated = await rowsOf(
      context,
      evaluationOptions,
      await evaluateCollected(options, collected, this.tick ?? noTick),
    );
    const unread = parts.flatMap(({ skipped }) => skipped);
    for (const file of unread) this.skipped.add(file);
    this.skipped.report(context);
    return this.finish(output, evaluated, new Set(unread.map(({ name }) => name)).size);
  }

  async dispose(): Promise<void> {
    await this.opened?.source.dispose();
    for (const { model } of this.opened?.candidates ?? []) await model.dispose();
  }

  private get hasTeacher(): boolean {
    return this.options.teacher !== undefined;
  }

  private async open(): Promise<Opened> {
    if (this.opened) return this.opened;
    const { context, options } = this;
    const { data, int8 } = this.facts ?? { ...nothingSettled, data: { path: options.data } };
    const names = options.model.length === 1 ? ["model"] : modelNames(options.model);
    const teachers = options.teacher === undefined ? [] : [["teacher", options.teacher]];
    const candidates: Candidate[] = [];
    for (const [i, [name, path]] of [...teachers, ...options.model.map((path, i) => [names[i], path])].entries()) {
      const request = loadRequest(context, readOptionsFor(options, data));
      const model = await context.environment.loadModel(path, request);
      await model.offload();
      candidates.push({ name, model: await withInt8(model, int8[i] ?? undefined), bytes: model.origin.bytes });
    }
    this.opened = { source: context.environment.createImageSource(data.path), candidates };
    return this.opened;
  }

  /**
   * Lets the models, not the teacher, compute in the precision that is asked for; gives what was settled for each. What an earlier
   * plan measured is not measured again.
   */
  private async takePrecision(data: DataSet, earlier: EarlierPlan | undefined): Promise<Settled["int8"]> {
    const { source, candidates } = await this.open();
    const { items } = data.test ?? data.train;
    const { precision } = this.options;
    const before = await settledBefore(earlier, settledSchema, () => this.inputs());
    for (const [i, candidate] of candidates.entries()) {
      if (this.hasTeacher && i === 0) continue;
      const model = before
        ? await withInt8(candidate.model, before.int8[i] ?? undefined)
        : await inPrecision(this.context, candidate.model, precision, source, items);
      candidates[i] = { ...candidate, model };
    }
    return candidates.map(({ model: { int8 } }) => (int8 ? { ...int8, parts: [...int8.parts] } : null));
  }

  /** How candidates are measured, but for the images. */
  private evaluationOptions(source: ImageSource, candidates: readonly Candidate[]): Omit<CandidatesOptions, "parts"> {
    const { options, store, facts } = this;
    const { data } = facts ?? nothingSettled;
    const probeEpochs = options.probeEpochs ?? (data.name ? protocols[data.name].probeEpochs : probeDefaults.epochs);
    return {
      candidates,
      reference: this.hasTeacher ? candidates[0].model : undefined,
      source,
      store,
      classes: data.classes,
      batch: options.batch,
      knn: { k: options.knnK, temperature: options.temperature },
      logistic: options.logistic ? logisticDefaults : undefined,
      probeCrops: probeCropsFor(options, data),
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

  /** Compares the models with the teacher and with published figures, and writes the files that are asked for. */
  private async finish(
    output: OutputFolder | undefined,
    evaluated: Evaluated,
    unread: number,
  ): Promise<EvaluateRunResult> {
    const { options } = this;
    const { data, queries, bank, duplicates, skipped } = this.facts ?? nothingSettled;
    const comparisons = compareCandidates(evaluated);
    const rows = evaluated.rows.slice(this.hasTeacher ? 1 : 0);
    const published = options.published && besideMeasured(options.published, options.model, rows);
    const facts = { queries, bank, skipped: skipped + unread, duplicates, published };
    if (output) {
      const asked = withoutLaunch(options);
      await writeEvaluation(this.context, output.directory, evaluated, data.classes, {
        options: asked,
        comparisons,
        ...facts,
      });
      await output.removeStale();
    }
    return { results: evaluated.rows, comparisons, dataSet: data.name, out: options.out, ...facts };
  }
}

/** Where what is merged was computed by other processes. */
const noTick = () => undefined;

const nothingSettled: Settled = {
  data: { path: "" },
  ...{ queries: 0, bank: 0, learns: false, skipped: 0, duplicates: [], int8: [] },
};

const classesOf = ({ train }: DataSet) => (train.classes ? [...train.classes] : undefined);

/** The images to learn from and those to evaluate on. Throws a UserError where none are left to evaluate on. */
function partsOf(data: DataSet, { heldOut, seed, data: path }: EvaluateOptions): EvaluationParts {
  const split = splitParts(data, heldOut, seed);
  const labelled = data.train.classes !== undefined;
  // Without labels there is nothing to learn from, so every image can be evaluated on.
  const parts = labelled ? split : { bank: [], queries: (data.test ?? data.train).items };
  if (parts.queries.length > 0) return parts;
  throw new UserError(
    `The classes in ${path} have too few images to hold any out. Raise heldOut (--held-out), or put the evaluation images in val/ and the others in train/.`,
    { code: "INVALID_DATA" },
  );
}

/** What models gave in several parts, as if it had been one. */
function joinCollected(parts: readonly ReadonlyMap<string, Collected>[]): Map<string, Collected> {
  const [first = new Map<string, Collected>(), ...others] = parts;
  if (others.length === 0) return new Map(first);
  const all = (name: string) => parts.flatMap((part) => part.get(name) ?? []);
  return new Map(
    [...first.keys()].map((name) => [
      name,
      {
        items: all(name).flatMap(({ items }) => items),
        tokens: all(name).flatMap(({ tokens }) => tokens),
        logits: all(name).flatMap(({ logits }) => logits),
        differences: all(name).flatMap(({ differences }) => differences),
        cosines: all(name).flatMap(({ cosines }) => cosines),
        agreements: all(name).flatMap(({ agreements }) => agreements),
      },
    ]),
  );
}

function joinBanks(parts: readonly EvaluatePart[]): Map<string, Collected> | undefined {
  const banks = parts.flatMap(({ bank }) => bank ?? []);
  return banks.length === 0 ? undefined : joinCollected(banks);
}

const collectedSchema = z.object({
  items: z.array(itemSchema),
  differences: z.array(z.number()),
  cosines: z.array(z.number()),
  agreements: z.array(z.boolean()),
});
const storedSchema = z.object({
  queries: z.record(z.string(), collectedSchema),
  bank: z.record(z.string(), collectedSchema).optional(),
  skipped: z.array(skippedSchema),
});

/** What models gave, as JSON and tensors: `queries/model/tokens` `[n, D]`. */
function storeCollected(collected: ReadonlyMap<string, Collected>, part: string, tensors: Map<string, FloatTensor>) {
  return Object.fromEntries(
    [...collected].map(([name, { tokens, logits, ...values }]) => {
      if (tokens.length > 0) tensors.set(`${part}/${name}/tokens`, concatRows(tokens));
      if (logits.length > 0) tensors.set(`${part}/${name}/logits`, concatRows(logits));
      return [name, values];
    }),
  );
}

function readCollected(
  stored: z.output<typeof storedSchema>["queries"],
  part: string,
  tensors: ReadonlyMap<string, FloatTensor>,
): Map<string, Collected> {
  const rows = (name: string) => {
    const tensor = tensors.get(name);
    return tensor ? [tensor] : [];
  };
  return new Map(
    Object.entries(stored).map(([name, values]) => [
      name,
      { ...values, tokens: rows(`${part}/${name}/tokens`), logits: rows(`${part}/${name}/logits`) },
    ]),
  );
}

const evaluateText = ({ results, comparisons, bank, ...result }: EvaluateRunResult) =>
  `${resultsText(results, comparisons)}${publishedText(result)}${bank > 0 ? `\n\nk-NN and probe learned from ${bank} images.` : ""}`;

export const division: Division<typeof evaluateRunSchema, EvaluateUnit, EvaluatePart, EvaluateRunResult> =
  defineDivision({
    name: "evaluate",
    schema: evaluateRunSchema,
    unit: unitSchema,
    out: ({ out }) => out,
    async within(context, options, use) {
      checkPublished(options);
      const inputs = evaluationInputs(options);
      if (options.cacheDir !== undefined) await checkApart(context, options.cacheDir, inputs, "--cache-dir");
      return withOptionalOutput(context, { path: options.out, kind: "evaluation", inputs }, use);
    },
    open: async (context, options, settled) => new EvaluateWork(context, options, settled),
    store({ queries, bank, skipped }) {
      const tensors = new Map<string, FloatTensor>();
      const value = {
        queries: storeCollected(queries, "queries", tensors),
        ...(bank ? { bank: storeCollected(bank, "bank", tensors) } : {}),
        skipped,
      };
      return { value, tensors };
    },
    read({ value, tensors }) {
      const { queries, bank, skipped } = storedSchema.parse(value);
      return {
        queries: readCollected(queries, "queries", tensors),
        bank: bank && readCollected(bank, "bank", tensors),
        skipped,
      };
    },
    text: evaluateText,
  });

export const command = divisibleCommand(division, "Evaluate a model on a folder of images.");
