// The report of a run, made from its folder: at the end of a run, and anew whenever it is asked for.
import { z } from "zod";
import type { DataSet } from "../data/dataset.ts";
import type { ImageSource } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { methodOf } from "../students/methods/lookup.ts";
import type { Model } from "../models/model.ts";
import { markdownReport } from "../report/markdown.ts";
import type {
  Attention,
  BlockSimilarity,
  ClassFigures,
  HardImage,
  NeighbourExample,
  RunReport,
  Shown,
} from "../report/run-report.ts";
import { UserError } from "../utils/errors.ts";
import { spread } from "../utils/arrays.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { pageGenerator } from "../report/page-style.ts";
import { distillCommand } from "./run-card.ts";
import { distillInputs } from "./run-settings.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import { textChunks } from "../workspace/output-files.ts";
import { attentionOverlays } from "../evaluation/attention-overlays.ts";
import { compareLayers } from "../evaluation/compare-layers.ts";
import { distillOptions } from "./distill-options.ts";
import type { PredictionLine, RunConfig, RunResult } from "../workspace/run-folder.ts";
import type { NamedInput, OutputRequest } from "../workspace/output-folder.ts";
import { checkOutputFile, withOutput } from "../workspace/output-folder.ts";
import { RunFolder } from "../workspace/run-folder.ts";
import { widthsText } from "../students/search/shape.ts";
import { loadedModel, weightsFiles } from "../exports/weights-files.ts";
import { countText, fewImages } from "../report/results.ts";
import { shellWord } from "../utils/option-names.ts";
import type { TriedCandidate } from "../workspace/run-schemas.ts";
import { exportText } from "./export-text.ts";
import { chosenExport, exportLegend, exportTable } from "./export.ts";
import { dataUri, scaled, Thumbnails } from "./thumbnails.ts";
import { commonSchema, openOptions, pathOption, readOptions, readOptionsFor } from "../context/common-options.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { defineCommand } from "./command.ts";
import { durationText } from "../utils/duration.ts";

/** `wecolora report` */
export const reportRunSchema = z.strictObject({
  runs: z.array(pathOption).min(1).describe("run folders; several are compared on one page"),
  out: pathOption
    .optional()
    .describe("output page (default: report.html in the run folder)")
    .meta({ note: "comparison.html in the current folder for several runs." }),
  ...commonSchema.pick({ threads: true, device: true }).shape,
});

export type ReportRunInput = z.input<typeof reportRunSchema>;

/** How much of each a page shows. */
const shownExamples = 6;
const shownHardest = 6;
const shownLooks = 6;
const shownUsed = 96;
const similarityImages = 32;
/** Pixels per side. */
const [thumbnailSide, lookSide] = [96, 168];

export interface ReportRunResult {
  /** The page. */
  readonly out: string;
  readonly runs: readonly string[];
}

/** Makes the reports of runs anew, or one page that compares them. Throws a UserError for a folder without a finished run. */
export async function runReport(context: RunContext, input: ReportRunInput): Promise<ReportRunResult> {
  const { environment } = context;
  const { runs, out } = parseOptions(reportRunSchema, input, "options of report");
  for (const run of runs)
    if ((await environment.directory(run).list()).length === 0)
      throw new UserError(`There is no run in ${run}. Give the output folder of wecolora distill.`, {
        code: "RUN_NOT_FOUND",
      });
  const folders = runs.map((run) => new RunFolder(environment.directory(run)));
  const inputs: NamedInput[] = [];
  for (const folder of folders) inputs.push(...(await reportInputs(folder)));
  if (runs.length === 1) return renewReport(context, runs[0], out, inputs);
  const file = out ?? "comparison.html";
  await checkOutputFile(context, file, inputs, isPage);
  await environment.writeFile(file, textChunks(await compareReports(context, folders)));
  return { out: file, runs };
}

/** What a run's report is made from, and a page must not be written over. */
async function reportInputs(folder: RunFolder): Promise<NamedInput[]> {
  const { teacher, data } = (await readRun(folder)).options;
  const parts = ["student", "checkpoints", "exports", "tensorboard"].map((entry) => ({
    option: `the run's ${entry}/`,
    path: folder.directory.describe(entry),
  }));
  return [...distillInputs({ teacher, data }), ...parts];
}

/** Writes a run's report into its folder, and the page to `out` too where that is given. */
async function renewReport(
  context: RunContext,
  run: string,
  out: string | undefined,
  inputs: readonly NamedInput[],
): Promise<ReportRunResult> {
  const { environment } = context;
  if (out !== undefined) await checkOutputFile(context, out, inputs, isPage);
  const request: OutputRequest = { path: run, kind: "run", inputs: [] };
  return withOutput(context, request, async (output) => {
    const folder = new RunFolder(output);
    const page = await writeRunReport(context, folder);
    if (out !== undefined) await environment.writeFile(out, textChunks(page));
    return { out: out ?? folder.directory.describe("report.html"), runs: [run] };
  });
}

/** One page that compares runs. */
async function compareReports({ environment }: RunContext, folders: readonly RunFolder[]): Promise<string> {
  const reports: RunReport[] = [];
  for (const folder of folders) reports.push((await readRun(folder)).report);
  const named = distinct(reports.map(({ name }) => name));
  const { comparisonPage } = await import("../report/comparison-page.ts");
  return comparisonPage(
    reports.map((report, i) => ({ ...report, name: named[i] })),
    await environment.createDocument(),
  );
}

/** Whether a file begins as our pages do. */
const isPage = (head: string) => head.includes(pageGenerator);

/** Names as they are, with a number behind those that are there twice. */
function distinct(names: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return names.map((name) => {
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count === 1 ? name : `${name} (${count})`;
  });
}

/** Writes report.html and report.md into a run's folder, and gives the page. */
export async function writeRunReport(context: RunContext, folder: RunFolder): Promise<string> {
  return (await makeRunReport(context, folder)).page;
}

/** The same, with what the page is made of. */
export async function makeRunReport(
  context: RunContext,
  folder: RunFolder,
): Promise<{ readonly page: string; readonly report: RunReport }> {
  const { environment, listener } = context;
  listener.stage?.("writing the report");
  const whole = await withImages(context, folder, await readRun(folder));
  const { reportPage } = await import("../report/page.ts");
  const page = await reportPage(whole, await environment.createDocument());
  await folder.writeReport(markdownReport(whole), page);
  return { page, report: whole };
}

interface RunFiles {
  readonly report: RunReport;
  readonly options: DistillRunOptions;
  readonly predictions: PredictionLine[];
}

/** What the folder's files say, without an image or a model. */
async function readRun(folder: RunFolder): Promise<RunFiles> {
  const path = folder.directory.describe("");
  const config = await folder.readConfig();
  const result = await folder.readResult();
  if (!result)
    throw new UserError(
      `The run in ${path} is not finished. Resume it with: wecolora distill --resume ${shellWord(path)}`,
      {
        code: "RUN_NOT_FOUND",
      },
    );
  const options = distillOptions(
    { ...config.options, out: path },
    `the options in ${folder.directory.describe("config.json")}`,
  );
  const log = await folder.readLog();
  const predictions = await folder.readPredictions();
  const trained = (await folder.readManifest()).filter(({ uses }) => uses.includes("train"));
  const report: RunReport = {
    ...settingsOf(path, options, config),
    ...outcomeOf(result),
    ...(await filesOf(folder, result)),
    ...(await exportsOf(folder, config)),
    ...searchOf(options, config),
    notes: notesOf(result, config),
    evaluatedImages: predictions.length,
    steps: log.filter((entry) => entry.kind === "step"),
    evaluations: log.filter((entry) => entry.kind === "evaluation"),
    classes: classFigures(predictions),
    hardest: [],
    neighbours: [],
    attention: [],
    used: { total: trained.length, shown: trained.map(({ name, class: of }) => ({ name, className: of })) },
    missing: [],
  };
  return { report, options, predictions };
}

/** What was asked for. */
const settingsOf = (path: string, options: DistillRunOptions, { about }: RunConfig) => ({
  name: path.split(/[\\/]/).filter(Boolean).at(-1) ?? "run",
  method: options.method,
  methodSummary: summaryOf(options),
  teacher: options.teacher,
  data: options.data,
  settings: Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : String(value)] as const),
  command: distillCommand(options),
  about,
});

/** The student's files and how they are loaded. */
async function filesOf(folder: RunFolder, { loading }: RunResult): Promise<Pick<RunReport, "files" | "loading">> {
  const directory = folder.directory.below("student");
  const files = await weightsFiles(directory, loading?.inTransformers);
  const loaded = loading && loadedModel(loading, folder.directory.describe("student"), files);
  return { files, ...(loaded && files.length > 0 ? { loading: loaded } : {}) };
}

/** What was exported into the run's folder, and the export that a search chose. */
async function exportsOf(folder: RunFolder, { deployment }: RunConfig): Promise<Pick<RunReport, "exports" | "chosen">> {
  const measured = await folder.readExports();
  if (measured.length === 0) return {};
  const { columns, rows } = exportTable(measured.map((one) => ({ ...one, out: `exports/${one.format}` })));
  const counts = measured.map(({ images }) => images);
  const few = counts.some((count) => count < fewImages) ? " In brackets: 95 % confidence intervals." : "";
  const heading = `Compared on ${countText([Math.min(...counts), Math.max(...counts)])}.${few}`;
  const chosen = deployment && chosenExport(measured, deployment);
  return { exports: { heading, columns, rows, legend: `${exportLegend}.` }, ...(chosen ? { chosen } : {}) };
}

/** What a search tried, where there was one. */
function searchOf({ budget, agreement }: DistillRunOptions, { deployment }: RunConfig): Pick<RunReport, "search"> {
  if (!deployment) return {};
  const asked = [
    ...(budget === undefined ? [] : [`a budget of ${budget}`]),
    ...(agreement === undefined ? [] : [`an agreement of at least ${agreement}`]),
  ].join(" and ");
  const keyOf = ({ export: name, exportOptions, imageSize = 0, merging, blockShare }: TriedCandidate) =>
    JSON.stringify([name, exportOptions ?? {}, imageSize, merging ?? [], blockShare]);
  const candidates = deployment.tried.map((one) => ({
    format: exportText(one),
    blockShare: one.blockShare,
    ...(one.imageSize === undefined ? {} : { imageSize: one.imageSize }),
    mergedTokens: (one.merging ?? []).reduce((sum, count) => sum + count, 0),
    bytes: one.bytes,
    ...(one.milliseconds === undefined ? {} : { milliseconds: one.milliseconds }),
    agreement: one.agreement,
    cosine: 1 - one.loss,
    isChosen: keyOf(one) === keyOf(deployment),
  }));
  // Without a classifier the search puts the mean cosine similarity in the place of agreement.
  const isCosine = deployment.tried.every(({ agreement: share, loss }) => share === 1 - loss);
  const decides = agreement === undefined ? "nearest" : "cheapest";
  return { search: { asked, decides, measure: isCosine ? "cosine" : "agreement", candidates } };
}

/** What came of it. */
const outcomeOf = (result: RunResult) => ({
  keptBlocks: result.keptBlocks,
  widths: widthsText(result),
  trainingSeconds: result.trainingSeconds,
  results: result.results,
  comparisons: result.comparisons,
  evaluatedOnTrainingImages: result.evaluatedOnTrainingImages,
});

const notesOf = ({ startSeconds }: RunResult, { plan }: RunConfig): string[] => [
  ...(startSeconds >= 1 ? [`the closed form took ${durationText(startSeconds)}`] : []),
  ...plan.notes,
];

function summaryOf({ method, start }: DistillRunOptions): string {
  const { summary, start: defaultStart } = methodOf(method);
  return start === undefined || start === defaultStart ? summary : `${summary}; start: ${start}`;
}

/** k-NN accuracy by class, the widest gap of the student to the teacher first. */
function classFigures(predictions: readonly PredictionLine[]): ClassFigures[] {
  const byClass = new Map<string, PredictionLine[]>();
  for (const line of predictions)
    if (line.class !== undefined) byClass.set(line.class, [...(byClass.get(line.class) ?? []), line]);
  const figures = [...byClass].flatMap(([name, lines]): ClassFigures[] => {
    const models = Object.keys(lines[0].models).filter((model) => lines[0].models[model].knn !== undefined);
    if (models.length === 0) return [];
    const share = (model: string) => lines.filter((line) => line.models[model].knn === name).length / lines.length;
    return [{ name, images: lines.length, models: Object.fromEntries(models.map((model) => [model, share(model)])) }];
  });
  const gap = ({ models }: ClassFigures) => (models.teacher ?? 1) - (models.student ?? 0);
  return figures.sort((a, b) => gap(b) - gap(a));
}

/** Takes what can be had for a report, and notes what can't. */
class Attempts {
  /** What is missing, with its reason. */
  readonly missing: string[] = [];

  async try<T>(what: string, action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.missing.push(`${what} (${error.message})`);
      return undefined;
    }
  }
}

/** The report with images and with what models make of them; what can't be had is said. */
async function withImages(context: RunContext, folder: RunFolder, files: RunFiles): Promise<RunReport> {
  const { environment, listener } = context;
  const { report, options } = files;
  const attempts = new Attempts();
  const { missing } = attempts;
  const data = await attempts.try("images", () => environment.openDataSet(options.data, openOptions(options)));
  const models = await openModels(context, folder, options, data, attempts);
  const source = data && environment.createImageSource(data.path);
  try {
    const seen = models.get("teacher") ?? models.get("student");
    if (!source || !seen) return { ...report, used: { ...report.used, shown: [] }, missing };
    const thumbnails = new Thumbnails(context, source, seen.preprocessing, thumbnailSide);
    return {
      ...report,
      ...(await drawnParts(context, files, { data, source, models, thumbnails }, attempts)),
      missing,
    };
  } finally {
    for (const what of missing) listener.warn?.(`The report lacks ${what}`);
    await source?.dispose();
    for (const model of models.values()) await model.dispose();
  }
}

/** Teacher and student by these names, as far as they can be opened. */
async function openModels(
  context: RunContext,
  folder: RunFolder,
  options: DistillRunOptions,
  data: DataSet | undefined,
  attempts: Attempts,
): Promise<Map<string, Model>> {
  const { environment } = context;
  const teacher = await attempts.try("the teacher's side of the images", () => {
    const read = data ? readOptionsFor(options, data) : readOptions(options);
    return environment.loadModel(options.teacher, loadRequest({ ...context, listener: {} }, read));
  });
  const student = await attempts.try("the student's side", () =>
    environment.loadModel(folder.directory.describe("student"), {}),
  );
  const models = new Map<string, Model>();
  if (teacher) models.set("teacher", teacher);
  if (student) models.set("student", student);
  return models;
}

/** What parts of a report are drawn from. */
interface Drawing {
  readonly data: DataSet;
  readonly source: ImageSource;
  readonly models: ReadonlyMap<string, Model>;
  readonly thumbnails: Thumbnails;
}

/** The parts of a report that show images or what models make of them. */
async function drawnParts(
  context: RunContext,
  { report, predictions }: RunFiles,
  { data, source, models, thumbnails }: Drawing,
  attempts: Attempts,
): Promise<Partial<RunReport>> {
  const items = new Map([...data.train.items, ...(data.test?.items ?? [])].map((item) => [item.name, item]));
  // An image that is gone has no place to be found in; looking for it by its name says so.
  const itemOf = (name: string): Item => items.get(name) ?? { name };
  const classOf = ({ label }: Item) => (label === undefined ? undefined : data.train.classes?.[label]);
  const shown: Show = async (name, className = classOf(itemOf(name))) => ({
    name,
    className,
    image: await thumbnails.of(itemOf(name)),
  });
  const isBlank = (name: string) => thumbnails.isBlank(itemOf(name));
  const evaluatedItems = (predictions.length > 0 ? predictions : report.used.shown).map(({ name }) => itemOf(name));
  const attention = async () =>
    attentionOf(context, models, source, await examples(evaluatedItems, shownLooks, ({ name }) => isBlank(name)));
  const used = spread(report.used.shown, shownUsed);
  return {
    teacherDepth: models.get("teacher")?.config.depth,
    hardest: await hardestImages(predictions, shown),
    neighbours: await neighbourExamples(predictions, shown, isBlank),
    attention: (await attempts.try("where models look", attention)) ?? [],
    similarity: await attempts.try("similarity of layers", () =>
      similarityOf(models, source, spread(evaluatedItems, similarityImages), report.keptBlocks),
    ),
    used: {
      total: report.used.total,
      shown: await Promise.all(used.map(({ name, className }) => shown(name, className))),
    },
  };
}

type Show = (name: string, className?: string) => Promise<Shown>;

/** The images whose features are furthest from the teacher's. */
async function hardestImages(predictions: readonly PredictionLine[], shown: Show): Promise<HardImage[]> {
  const differenceOf = ({ models }: PredictionLine) => models.student?.meanAbsoluteDifference ?? Number.NaN;
  const measured = predictions.filter((line) => Number.isFinite(differenceOf(line)));
  const worst = measured.sort((a, b) => differenceOf(b) - differenceOf(a)).slice(0, shownHardest);
  return Promise.all(
    worst.map(async (line) => ({
      ...(await shown(line.name, line.class)),
      meanAbsoluteDifference: differenceOf(line),
      cosine: line.models.student.cosine ?? Number.NaN,
      takenFor: Object.fromEntries(
        Object.entries(line.models).flatMap(([model, { knn }]) =>
          knn !== undefined && (model === "teacher" || model === "student") ? [[model, knn]] : [],
        ),
      ),
    })),
  );
}

/** Some of a list, spread over it, without those that show nothing as far as there are others among twice as many. */
async function examples<T>(list: readonly T[], count: number, isBlank: (one: T) => Promise<boolean>): Promise<T[]> {
  const candidates = spread(list, 2 * count);
  const blank = await Promise.all(candidates.map(isBlank));
  const showing = candidates.filter((_, i) => !blank[i]);
  return showing.length < count ? spread(candidates, count) : spread(showing, count);
}

/** Some images with their neighbours under teacher and student. */
async function neighbourExamples(
  predictions: readonly PredictionLine[],
  shown: Show,
  isBlank: (name: string) => Promise<boolean>,
): Promise<NeighbourExample[]> {
  const withNearest = predictions.filter(({ models }) => models.student?.nearest);
  const showsBlank = async ({ name, models }: PredictionLine) => {
    const nearest = [models.teacher, models.student].flatMap((model) => model?.nearest ?? []);
    return (await Promise.all([name, ...nearest].map(isBlank))).includes(true);
  };
  const chosen = await examples(withNearest, shownExamples, showsBlank);
  return Promise.all(
    chosen.map(async (line) => {
      const rows = ["teacher", "student"].flatMap((model) => {
        const nearest = line.models[model]?.nearest;
        return nearest ? [Promise.all(nearest.map((name) => shown(name))).then((list) => [model, list] as const)] : [];
      });
      return { ...(await shown(line.name, line.class)), nearest: Object.fromEntries(await Promise.all(rows)) };
    }),
  );
}

async function attentionOf(
  context: RunContext,
  models: ReadonlyMap<string, Model>,
  source: ImageSource,
  items: readonly Item[],
): Promise<Attention[]> {
  const attentions: Attention[] = [];
  const uri = (image: Parameters<typeof scaled>[0]) => dataUri(context, scaled(image, lookSide));
  for await (const { item, image, overlays } of attentionOverlays(models, source, items, undefined, () => undefined)) {
    const drawn: Record<string, string> = {};
    for (const [name, overlay] of overlays) drawn[name] = await uri(overlay);
    attentions.push({ name: item.name, image: await uri(image), models: drawn });
  }
  return attentions;
}

/** How alike the blocks of student and teacher are; undefined where one of the two is missing. */
async function similarityOf(
  models: ReadonlyMap<string, Model>,
  source: ImageSource,
  items: readonly Item[],
  keptBlocks: readonly number[],
): Promise<BlockSimilarity | undefined> {
  const [teacher, student] = [models.get("teacher"), models.get("student")];
  if (!teacher || !student) return undefined;
  return { ...(await compareLayers(student, teacher, source, items, () => undefined)), keptBlocks };
}

export const command = defineCommand({
  name: "report",
  summary: "Write the report of a run again, or one page that compares runs.",
  schema: reportRunSchema,
  positional: ["runs"],
  run: runReport,
  text: ({ out }) => out,
});
