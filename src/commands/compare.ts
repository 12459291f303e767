// A grid of runs on one data set, one after the other, and one table at the end.
import { markdown, markdownCode, safeFileName } from "../utils/escape.ts";
import type { Column } from "../report/table.ts";
import { z } from "zod";
import { readText } from "../files/storage.ts";
import { ReferenceOutputs } from "../evaluation/model-outputs.ts";
import type { ComparisonChart } from "../report/chart.ts";
import type { ComparedRun, Summary } from "../report/comparison.ts";
import {
  currentMetric,
  comparedMetrics,
  comparisonCsv,
  comparisonTable,
  metrics,
  summarize,
} from "../report/comparison.ts";
import type { ResultRow } from "../report/results.ts";
import { boundsText, evaluatedOn, fewImages } from "../report/results.ts";
import { markdownTable } from "../report/table.ts";
import { codeOf, UserError } from "../utils/errors.ts";
import { required } from "../utils/required.ts";
import { launchOptions } from "../launchers/launch-options.ts";
import type { HashedInput } from "../workspace/plan-folder.ts";
import { currentOptions, parseOptions } from "../utils/parse-options.ts";
import type { DistillRunResult } from "./distill.ts";
import { resumeDistillation, runDistillation } from "./distill.ts";
import type { Environment } from "../context/environment.ts";
import type { RunContext } from "../context/run-context.ts";
import { interruptible, loadRequest } from "../context/run-context.ts";
import type { EvaluateRunInput } from "./evaluate.ts";
import { evaluateRunSchema, runEvaluation } from "./evaluate.ts";
import { textChunks, writeChart } from "../workspace/output-files.ts";
import { commonSchema, dataSchema, openOptions, pathOption, readOptionsFor } from "../context/common-options.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { distillOptions, distillRunSchema } from "./distill-options.ts";
import {
  distillInputs,
  listingHash,
  ofTheEnd,
  optionDifferences,
  requestedOptions,
  teacherHasChanged,
} from "./run-settings.ts";
import type { DataSet } from "../data/dataset.ts";
import type { Directory } from "../files/storage.ts";
import { modelKey } from "../evaluation/feature-store.ts";
import { mapInBatches } from "../utils/arrays.ts";
import { OutputFolder, withOutput } from "../workspace/output-folder.ts";
import type { RunStage } from "../workspace/run-folder.ts";
import {
  resultRowSchema,
  studentRowFormat,
  studentRowSchema,
  teacherFormat,
  teacherRowSchema,
} from "../workspace/run-schemas.ts";
import { currentRowFile } from "../workspace/earlier-names.ts";
import { checkVersion, parseJson } from "../workspace/versioned.ts";
import { RunFolder } from "../workspace/run-folder.ts";
import type { Division, Work } from "./division.ts";
import { defineDivision, runWhole } from "./division.ts";
import { divisibleCommand } from "./launch.ts";
import { textTable } from "../report/table.ts";

const path = pathOption;
const gridValue = z.union([
  z.string(),
  z.number(),
  z.boolean(),
  z.array(z.unknown()),
  z.record(z.string(), z.unknown()),
]);

const gridSchema = z.record(z.string(), z.array(gridValue).min(1));

/** `wecolora compare` */
export const compareRunSchema = z.strictObject({
  teacher: path.optional().describe("the teacher, where the grid has none"),
  data: path.optional().describe("the images, where the grid has none"),
  out: path.describe("output folder of the comparison; each run has a folder in it"),
  title: z.string().optional().describe("title above the table"),
  grid: z
    .union([gridSchema, z.array(gridSchema).min(1)])
    .transform((grid) => (Array.isArray(grid) ? grid : [grid]))
    .describe("options of distill, each with the values to try")
    .meta({ note: "Several seeds give mean and spread. A list of grids shares one table." }),
  base: z.record(z.string(), z.unknown()).default({}).describe("options of distill that all runs share"),
  evaluations: z
    .record(z.string().regex(/^[\w-]+$/), z.record(z.string(), z.unknown()))
    .default({})
    .describe("further evaluations of each student: options of evaluate, by name"),
  published: z
    .array(
      z.strictObject({
        where: z.record(z.string(), z.union([z.string(), z.number()]).transform(String)),
        on: z.string().optional().describe("the evaluation that it belongs to"),
        metric: z.preprocess(currentMetric, z.enum(metrics.map(({ name }) => name) as [string, ...string[]])),
        value: z.number(),
      }),
    )
    .default([])
    .describe("a paper's figures, shown beside the measured ones"),
  overwrite: z.boolean().default(false).describe("run again where settings, teacher or data have changed"),
  ...commonSchema.pick({ threads: true, device: true }).shape,
  ...launchOptions,
});

export type CompareRunInput = z.input<typeof compareRunSchema>;
type CompareRunOptions = z.output<typeof compareRunSchema>;

/** Options of `evaluate` for a model, as a comparison's `evaluations` hold them. */
const evaluationOf = (name: string, given: Readonly<Record<string, unknown>>, model: string) =>
  parseOptions(evaluateRunSchema, { ...given, model }, `options of the evaluation ${name}`);

export interface CompareRunResult {
  readonly out: string;
  readonly runs: readonly ComparedRun[];
  readonly summaries: readonly Summary[];
  /** Teachers beside the students, by path. */
  readonly teachers: Readonly<Record<string, ResultRow>>;
}

interface Planned {
  readonly options: DistillRunOptions;
  readonly setting: Record<string, string>;
  readonly seed: number;
  readonly name: string;
}

/** All combinations of the grid's values, the first key slowest. */
function combinations(grid: z.output<typeof gridSchema>): Record<string, unknown>[] {
  return Object.entries(grid).reduce<Record<string, unknown>[]>(
    (all, [key, values]) => all.flatMap((chosen) => values.map((value) => ({ ...chosen, [key]: value }))),
    [{}],
  );
}

const shown = (value: unknown) => (typeof value === "object" ? JSON.stringify(value) : String(value));
/** A name for a run's folder or a teacher's file, which later runs of the same comparison find again. */
const fileName = (text: string) => safeFileName(text.replace(/[^\w.=,+-]+/g, "_"));

/** The runs of a comparison, their options checked before the first begins. */
export function planRuns(options: CompareRunOptions): Planned[] {
  const { teacher, data, grid, base, threads, evaluations, published } = options;
  for (const [name, given] of Object.entries(evaluations)) evaluationOf(name, given, "student");
  const elsewhere = published.find(({ on }) => on !== undefined && !Object.hasOwn(evaluations, on));
  if (elsewhere) {
    const names = Object.keys(evaluations).join(", ") || "none";
    throw new UserError(`A published figure is on ${elsewhere.on}, but the evaluations are: ${names}.`, {
      code: "INVALID_OPTION",
    });
  }
  const planned = grid.flatMap(combinations).map((chosen): Planned => {
    const { seed = base.seed ?? 0, ...setting } = chosen;
    const name = fileName(
      Object.entries(chosen)
        .map(([key, value]) => `${key}=${shown(value)}`)
        .join(",") || "run",
    );
    const runOptions = currentOptions(distillRunSchema, { ...base, ...chosen }) as Record<string, unknown>;
    const run = { teacher, data, evaluateTeacher: false, threads, ...runOptions, out: `${options.out}/${name}` };
    const checked = distillOptions(run, `the options of the run ${name}`);
    const named = Object.entries(setting).map(([key, value]): [string, string] => [key, shown(value)]);
    return { options: checked, setting: Object.fromEntries(named), seed: Number(seed), name };
  });
  const names = planned.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice) throw new UserError(`The grid holds the run ${twice} twice.`, { code: "INVALID_OPTION" });
  return planned;
}

/**
 * A run's student on a further data set; kept in a file of the comparison with what it follows from, and read from there while
 * that is the same.
 */
async function evaluateStudent(
  context: RunContext,
  directory: Directory,
  { name: run, options }: Planned,
  name: string,
  given: Readonly<Record<string, unknown>>,
): Promise<ResultRow> {
  const { environment, listener } = context;
  const student = environment.directory(options.out).describe("student");
  const settings = evaluationOf(name, given, student);
  const data = await environment.openDataSet(settings.data, openOptions(settings));
  const model = await environment.loadModel(student, loadRequest(context, readOptionsFor(settings, data)));
  const basis = {
    settings: JSON.stringify(given),
    student: await modelKey(model),
    data: await listingHash(data),
  };
  await model.dispose();
  const entry = `evaluation-${name}-${run}.json`;
  const file = directory.describe(entry);
  const written = await readText(directory, entry);
  const stored =
    written === undefined
      ? undefined
      : checkVersion(studentRowSchema, parseJson(written, file), file, {
          ...studentRowFormat,
          earlier: { 1: currentRowFile },
        });
  const isSame = stored?.student === basis.student && stored.data === basis.data;
  if (isSame && stored.settings === basis.settings) return stored.row;
  listener.info?.(`evaluating on ${name}`);
  const { results } = await runEvaluation(context, { ...given, model: student } as EvaluateRunInput);
  const [row] = results.slice(-1);
  const kept: z.input<typeof studentRowSchema> = { ...basis, row };
  await directory.write(entry, textChunks(JSON.stringify({ ...studentRowFormat, ...kept })));
  return row;
}

/** How far the run in a folder has come. */
async function stageOf({ environment }: RunContext, out: string): Promise<RunStage> {
  const directory = environment.directory(out);
  const output = await OutputFolder.open(directory, "run");
  return new RunFolder(output).stage();
}

/** Hashes of teachers and of data sets, each made once for all runs. */
class InputHashes {
  private readonly hashes = new Map<string, Promise<string>>();

  private readonly context: RunContext;

  constructor(context: RunContext) {
    this.context = context;
  }

  teacher({ teacher, ...options }: DistillRunOptions, data: DataSet): Promise<string> {
    const read = readOptionsFor(options, data);
    return this.once([teacher, read], async () =>
      modelKey(await this.context.environment.loadModel(teacher, loadRequest(this.context, read))),
    );
  }

  listing(options: DistillRunOptions, data: DataSet): Promise<string> {
    return this.once([options.data, openOptions(options)], () => listingHash(data));
  }

  private once(of: readonly unknown[], make: () => Promise<string>): Promise<string> {
    const key = JSON.stringify(of);
    const hash = this.hashes.get(key) ?? make();
    this.hashes.set(key, hash);
    return hash;
  }
}

/**
 * Runs that are in the folder already and are not what is planned now, by name. Throws a UserError that says what differs (which
 * option, teacher, data) unless they are to be run again.
 */
async function changedRuns(
  context: RunContext,
  planned: readonly Planned[],
  { overwrite, out }: CompareRunOptions,
): Promise<Set<string>> {
  const changed = new Map<string, string[]>();
  const hashes = new InputHashes(context);
  for (const { options, name } of planned) {
    if ((await stageOf(context, options.out)) === "absent") continue;
    const differences = await differencesOf(context, options, hashes);
    if (differences.length > 0) changed.set(name, differences);
  }
  if (changed.size > 0 && !overwrite) {
    const lines = [...changed].slice(0, 5).map(([name, differences]) => `${name}: ${differences.join("; ")}`);
    const more = changed.size > lines.length ? [`and ${changed.size - lines.length} more`] : [];
    throw new UserError(
      `${out} holds runs with other settings than are asked for now. Give another output folder, or --overwrite to run them again.\n  ${[...lines, ...more].join("\n  ")}`,
      { code: "OUTPUT_IN_USE" },
    );
  }
  return new Set(changed.keys());
}

/** What differs between the run in a folder and the one that is planned for it: options, teacher, data, images. */
async function differencesOf(context: RunContext, options: DistillRunOptions, hashes: InputHashes): Promise<string[]> {
  const { environment } = context;
  const folder = new RunFolder(environment.directory(options.out));
  const config = await folder.readConfig();
  const before = requestedOptions(config, options.out, folder.directory.describe("config.json"));
  const differences = optionDifferences(before, options, ofTheEnd);
  const data = await environment.openDataSet(options.data, openOptions(options));
  const teacherHash = await hashes.teacher(options, data);
  if (before.teacher === options.teacher && config.teacher.sha256 !== teacherHash)
    differences.push(teacherHasChanged(options.teacher));
  const listing = await hashes.listing(options, data);
  if (before.data !== options.data) return differences;
  if (config.data.listing !== listing)
    return [...differences, `the data ${options.data} has other images or classes than when the run began`];
  return [...differences, ...(await changedImages(context, folder, data))];
}

/** Images of a run whose files are others than when it began; the first of them by name. */
async function changedImages({ environment }: RunContext, folder: RunFolder, data: DataSet): Promise<string[]> {
  const byName = new Map([...data.train.items, ...(data.test?.items ?? [])].map((item) => [item.name, item]));
  const source = environment.createImageSource(data.path);
  try {
    const lines = (await folder.readManifest()).filter(({ sha256 }) => sha256 !== undefined);
    const prints = await mapInBatches(lines, async ({ name }) => {
      const item = byName.get(name);
      return item && source.fingerprint(item);
    });
    const changed = lines.filter(({ sha256 }, i) => sha256 !== prints[i]);
    if (changed.length === 0) return [];
    const others = changed.length === 1 ? "" : ` and ${changed.length - 1} more`;
    return [`${changed[0].name}${others} changed since the run began`];
  } finally {
    await source.dispose();
  }
}

/**
 * Runs the grid and writes `table.md`, `table.csv`, `comparison.svg` and `.png` into the folder. What is finished is not
 * run again; what was begun goes on. Throws a UserError on settings that don't fit, before the first run.
 */
export const runComparison = (context: RunContext, input: CompareRunInput): Promise<CompareRunResult> =>
  runWhole(division, context, parseOptions(compareRunSchema, input, "options of compare"));

/** Teachers are loaded once, so that what they give for images to evaluate on is known to the next run. */
function withSharedTeachers(context: RunContext, planned: readonly Planned[]): RunContext {
  const { environment } = context;
  const paths = new Set(planned.map(({ options }) => options.teacher));
  const loaded = new Map<string, ReturnType<Environment["loadModel"]>>();
  const shared: Environment = {
    ...environment,
    referenceOutputs: new ReferenceOutputs(),
    loadModel(path, { warn, ...options }) {
      if (!paths.has(path)) return environment.loadModel(path, { warn, ...options });
      const key = JSON.stringify([path, options]);
      const model = loaded.get(key) ?? environment.loadModel(path, { warn, ...options });
      loaded.set(key, model);
      return model;
    },
  };
  return { ...context, environment: shared };
}

/** A run of the grid, or a teacher of some of them. */
type CompareUnit = { readonly run: string; readonly changed?: true } | { readonly teacher: string };

const unitSchema: z.ZodType<CompareUnit> = z.union([
  z.strictObject({ run: z.string(), changed: z.literal(true).optional() }),
  z.strictObject({ teacher: z.string() }),
]);

interface ComparePart {
  readonly runs: readonly ComparedRun[];
  readonly teachers: CompareRunResult["teachers"];
}

const partSchema = z.object({
  runs: z.array(
    z.object({
      setting: z.record(z.string(), z.string()),
      seed: z.number(),
      row: resultRowSchema.optional(),
      evaluations: z.record(z.string(), resultRowSchema).optional(),
      trainingSeconds: z.number().optional(),
      failure: z.string().optional(),
    }),
  ),
  teachers: z.record(z.string(), resultRowSchema),
});

/** The runs of a grid, then their teachers. */
class CompareWork implements Work<CompareUnit, ComparePart, CompareRunResult> {
  private readonly context: RunContext;
  private readonly options: CompareRunOptions;
  private readonly planned: readonly Planned[];
  /** Whether this is a task of a plan, which is run again where it fails. */
  private readonly isTask: boolean;
  private changed: ReadonlySet<string> | undefined;

  constructor(context: RunContext, options: CompareRunOptions, settled: unknown) {
    this.options = options;
    this.planned = planRuns(options);
    this.context = withSharedTeachers(context, this.planned);
    this.isTask = settled !== undefined;
  }

  async units(): Promise<CompareUnit[]> {
    this.changed = await changedRuns(this.context, this.planned, this.options);
    const teachers = [
      ...new Set(this.planned.filter(({ options }) => options.evaluate).map((run) => this.teacherOf(run))),
    ];
    // What is run again since settings, teacher or images changed is another unit than what is finished.
    const runs = this.planned.map(({ name }): CompareUnit =>
      this.changed?.has(name) ? { run: name, changed: true } : { run: name },
    );
    return [...runs, ...teachers.map((teacher) => ({ teacher }))];
  }

  settled(): unknown {
    return {};
  }

  async inputs(units: readonly CompareUnit[]): Promise<HashedInput[]> {
    const { environment } = this.context;
    const hashes = new InputHashes(this.context);
    const inputs = new Map<string, HashedInput>();
    const listed = new Map<string, Promise<DataSet>>();
    for (const { options } of this.runsOf(units)) {
      const key = JSON.stringify([options.data, openOptions(options)]);
      const opening = listed.get(key) ?? environment.openDataSet(options.data, openOptions(options));
      listed.set(key, opening);
      const data = await opening;
      const paths = [
        { option: "--teacher", path: options.teacher, sha256: await hashes.teacher(options, data) },
        { option: "--data", path: options.data, sha256: await hashes.listing(options, data) },
      ];
      for (const input of paths) inputs.set(JSON.stringify(input), input);
    }
    for (const [name, given] of Object.entries(this.options.evaluations)) {
      const settings = evaluationOf(name, given, "student");
      const data = await environment.openDataSet(settings.data, openOptions(settings));
      const input = { option: `evaluations.${name}`, path: settings.data, sha256: await listingHash(data) };
      inputs.set(JSON.stringify(input), input);
    }
    return [...inputs.values()];
  }

  async run(units: readonly CompareUnit[], output: OutputFolder | undefined): Promise<ComparePart> {
    const { context, options, planned } = this;
    await output?.begin();
    const kept = output?.directory ?? context.environment.directory(options.out);
    const chosen = planned.filter(({ name }) => units.some((unit) => "run" in unit && unit.run === name));
    const changed = this.changed ?? (await changedRuns(context, chosen, options));
    const runs: ComparedRun[] = [];
    for (const [i, run] of chosen.entries()) {
      context.listener.info?.(`run ${i + 1} of ${chosen.length}: ${run.name}`);
      const advice = () => `${i} of ${chosen.length} runs are finished. Run the same command again to continue.`;
      runs.push(await interruptible(context, advice, () => this.runOne(run, changed.has(run.name), kept)));
    }
    const keys = units.flatMap((unit) => ("teacher" in unit ? [unit.teacher] : []));
    const teachers: Record<string, ResultRow> = {};
    for (const key of keys) teachers[key] = await this.evaluateTeacher(key, kept);
    return { runs, teachers };
  }

  async merge(parts: readonly ComparePart[], output: OutputFolder | undefined): Promise<CompareRunResult> {
    const { context, options } = this;
    const { environment } = context;
    const directory = output?.directory ?? environment.directory(options.out);
    const runs = parts.flatMap((part) => part.runs);
    const teachers = Object.fromEntries(parts.flatMap((part) => Object.entries(part.teachers)));
    const summaries = summarize(runs, options.published);
    const table = comparisonText(options, runs, summaries, teachers);
    await directory.write("table.md", textChunks(table));
    await directory.write("table.csv", textChunks(comparisonCsv(summaries)));
    const chart = chartOf(options, summaries, Object.values(teachers));
    if (chart) {
      const { comparisonChart } = await import("../report/chart.ts");
      const svg = comparisonChart(chart, await environment.createDocument());
      await writeChart(context, directory, "comparison", svg);
    }
    return { out: options.out, runs, summaries, teachers };
  }

  async dispose(): Promise<void> {
    // Models belong to the environment, which is disposed with the device.
  }

  /** The teacher's name in the table: its path, with the data where runs have several. */
  private teacherOf({ options: { teacher, data } }: Planned): string {
    return this.planned.some((p) => p.options.data !== data) ? `${teacher} on ${data}` : teacher;
  }

  private runsOf(units: readonly CompareUnit[]): Planned[] {
    return this.planned.filter((run) =>
      units.some((unit) => ("run" in unit ? unit.run === run.name : unit.teacher === this.teacherOf(run))),
    );
  }

  /** The result of one run: read where it is finished, resumed where it was begun, else run. */
  private async runOne(run: Planned, overwrite: boolean, directory: Directory): Promise<ComparedRun> {
    const { context, options } = this;
    const { setting, seed } = run;
    try {
      const result = await distilled(context, run, overwrite);
      const evaluated: Record<string, ResultRow> = {};
      for (const [name, given] of Object.entries(options.evaluations))
        evaluated[name] = await evaluateStudent(context, directory, run, name, given);
      return {
        ...{ setting, seed },
        ...(Object.keys(evaluated).length > 0 ? { evaluations: evaluated } : {}),
        row: result.results.find(({ name }) => name === "student"),
        trainingSeconds: result.trainingSeconds + result.startSeconds,
      };
    } catch (error) {
      if (context.signal.aborted || !(error instanceof Error)) throw error;
      // What would fail again is a row of the table; all else fails the task, which is run again.
      if (this.isTask && !failsAgain.has(codeOf(error))) throw error;
      context.listener.warn?.(`The run ${run.name} failed: ${error.message}`);
      return { setting, seed, failure: error.message };
    }
  }

  /** A teacher on the data that its runs are evaluated on; kept in a file with what it follows from. */
  private async evaluateTeacher(key: string, directory: Directory): Promise<ResultRow> {
    const { context, planned } = this;
    const { environment, listener } = context;
    const { options } = required(new Map(planned.map((run) => [this.teacherOf(run), run] as const).reverse()), key);
    const { teacher, data } = options;
    const entry = `teacher-${fileName(key)}.json`;
    const listed = await environment.openDataSet(data, openOptions(options));
    const hashes = {
      teacher: await modelKey(
        await environment.loadModel(teacher, loadRequest(context, readOptionsFor(options, listed))),
      ),
      data: await listingHash(listed),
    };
    const written = await readText(directory, entry);
    const file = directory.describe(entry);
    const stored =
      written === undefined
        ? undefined
        : checkVersion(teacherRowSchema, parseJson(written, file), file, {
            ...teacherFormat,
            earlier: { 1: currentRowFile },
          });
    if (stored?.teacher === hashes.teacher && stored.data === hashes.data) return stored.row;
    listener.info?.(`evaluating the teacher ${key}`);
    const { results } = await runEvaluation(context, { ...seenBy(options), model: teacher, data } as EvaluateRunInput);
    const kept: z.input<typeof teacherRowSchema> = { ...hashes, row: results[0] };
    await directory.write(entry, textChunks(JSON.stringify({ ...teacherFormat, ...kept })));
    return results[0];
  }
}

/** Errors that the same inputs and options give again, on any machine. */
const failsAgain: ReadonlySet<string> = new Set(["INVALID_OPTION", "INVALID_INPUT", "INVALID_DATA", "NOT_FINITE"]);

/** What a run's folder holds once it is finished: read, resumed, or run. */
async function distilled(context: RunContext, { options }: Planned, overwrite: boolean): Promise<RunFigures> {
  const { out } = options;
  const stage = overwrite ? "absent" : await stageOf(context, out);
  const finished =
    stage === "finished" ? await new RunFolder(context.environment.directory(out)).readResult() : undefined;
  if (finished) return finished;
  return stage === "absent" || stage === "finished"
    ? runDistillation(context, { ...options, overwrite })
    : resumeDistillation(context, { resume: out });
}

type RunFigures = Pick<DistillRunResult, "results" | "trainingSeconds" | "startSeconds">;

/** table.md: the students, the teachers, and what all runs share. */
function comparisonText(
  { title, base }: CompareRunOptions,
  runs: readonly ComparedRun[],
  summaries: readonly Summary[],
  teachers: CompareRunResult["teachers"],
): string {
  const { columns, rows } = comparisonTable(summaries);
  const teacherColumns = ["teacher", "k-NN %", "probe %", "classifier %", "M params", "ms/image"].map(
    (name, i): Column => ({ title: name, align: i === 0 ? "left" : "right" }),
  );
  const teacherRows = Object.entries(teachers).map(([name, row]) => [name, ...teacherCells(row)]);
  return [
    markdown`# ${title ?? "Comparison"}`,
    "",
    evaluatedOn(rowsOf(runs)),
    "",
    markdownTable(columns, rows),
    "",
    markdownTable(teacherColumns, teacherRows),
    "",
    markdown`Mean over seeds, with the standard deviation where there are several. Settings shared by all: ${markdownCode(JSON.stringify(base))}.`,
    "",
  ].join("\n");
}

/** The students' rows. */
const rowsOf = (runs: readonly ComparedRun[]): ResultRow[] => runs.flatMap(({ row }) => row ?? []);

function teacherCells({ knn, probe, head, parameters, millisecondsPerImage, images }: ResultRow): string[] {
  const few = images !== undefined && images < fewImages;
  const share = (figure: ResultRow["head"]) => {
    if (!figure) return "-";
    const { top1, interval } = figure;
    const bounds = few && interval ? boundsText([100 * interval[0], 100 * interval[1]], 0) : "";
    return `${(100 * top1).toFixed(1)}${bounds}`;
  };
  return [
    share(knn),
    share(probe),
    share(head),
    parameters === undefined ? "-" : (parameters / 1e6).toFixed(1),
    millisecondsPerImage?.toFixed(1) ?? "-",
  ];
}

/** Options of a run that say how data and images are read: its teacher is evaluated with the same. */
function seenBy(options: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const names = [...Object.keys(dataSchema.shape), "normalization", "imageSize", "mean", "std"];
  return Object.fromEntries(names.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]));
}

/** The first accuracy that was measured, else the fidelity. */
function chartOf(
  { title }: CompareRunOptions,
  summaries: readonly Summary[],
  teachers: readonly ResultRow[],
): ComparisonChart | undefined {
  const names = summaries.flatMap(({ evaluations }) => evaluations);
  const metric = comparedMetrics(names).find(({ name }) => summaries.some(({ figures }) => figures[name]));
  if (!metric) return undefined;
  const [first] = Object.keys(summaries[0].setting);
  const marks = summaries.flatMap(({ setting, figures }) => {
    const figure = figures[metric.name];
    if (!figure) return [];
    const others = Object.entries(setting).filter(([key]) => key !== first);
    const series = others.map(([key, value]) => `${key} ${value}`).join(", ") || metric.title;
    return [{ label: setting[first] ?? "run", series, value: figure.mean, spread: figure.deviation }];
  });
  const teacher = teachers.length === 1 ? metric.of({ setting: {}, seed: 0, row: teachers[0] }) : undefined;
  return {
    title: title ?? "Comparison",
    unit: metric.title,
    labels: [...new Set(marks.map(({ label }) => label))],
    marks,
    ...(teacher === undefined || metric.metric === "difference"
      ? {}
      : { reference: { label: "teacher", value: teacher } }),
  };
}

function compareText({ summaries, runs, out }: CompareRunResult): string {
  const { columns, rows } = comparisonTable(summaries);
  return `${evaluatedOn(rowsOf(runs))}\n\n${textTable(columns, rows)}\n\n${out}: table.md, table.csv, comparison.svg, comparison.png`;
}

export const division: Division<typeof compareRunSchema, CompareUnit, ComparePart, CompareRunResult> = defineDivision({
  name: "compare",
  schema: compareRunSchema,
  unit: unitSchema,
  out: ({ out }) => out,
  async within(context, options, use) {
    const inputs = planRuns(options).flatMap((run) => distillInputs(run.options));
    const unique = [...new Map(inputs.map((input) => [JSON.stringify(input), input])).values()];
    return withOutput(context, { path: options.out, kind: "comparison", inputs: unique }, use);
  },
  open: async (context, options, settled) => new CompareWork(context, options, settled),
  store: (value) => ({ value, tensors: new Map() }),
  read: ({ value }) => partSchema.parse(value),
  text: compareText,
});

export const command = divisibleCommand(
  division,
  "Run a grid of distillations and compare them in one table; needs --config.",
);
