// Writing a model in other formats, each loaded again and compared with our own forward pass on real images.
import { z } from "zod";
import type { Directory } from "../files/storage.ts";
import type { Embedder, RunOrigin } from "../exports/export-format.ts";
import { embedderOf, mergingTolerance } from "../exports/export-format.ts";
import type { ExportName } from "../exports/lookup.ts";
import { allExports, exportHelp, exportName, exportOf, exportsNamed } from "../exports/lookup.ts";
import { modelCard } from "../exports/model-card.ts";
import { exportOptions } from "../exports/registry.ts";
import { Model } from "../models/model.ts";
import { checkMerging, mergesTokens, mergingOf } from "../models/token-merging.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { forImageSize, parameterCount } from "../models/definition.ts";
import { patchCount } from "../models/config.ts";
import type { Interval } from "../evaluation/confidence.ts";
import { boundsText, countText, fewImages } from "../report/results.ts";
import type { Column } from "../report/table.ts";
import { OptionError, RunError, UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import { unreadOption, withOptionsOf } from "../utils/option-shapes.ts";
import { shellWord } from "../utils/option-names.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { cardOrigin } from "./run-card.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import type { Embedded, KnnShares } from "../exports/measure.ts";
import type { Calibration } from "../students/bits/quantize-weights.ts";
import { searchCrops } from "../students/run-start.ts";
import type { Item } from "../data/sampling.ts";
import { limitItems } from "../evaluation/evaluate-candidates.ts";
import { timeInRounds } from "../evaluation/latency.ts";
import { differenceOf, ExportImages, weightBytes } from "../exports/measure.ts";
import { distillInputs } from "./run-settings.ts";
import { distillOptions } from "./distill-options.ts";
import type { OutputRequest } from "../workspace/output-folder.ts";
import { checkRoom, withOutput } from "../workspace/output-folder.ts";
import type { RunResult } from "../workspace/run-folder.ts";
import { RunFolder } from "../workspace/run-folder.ts";
import {
  commonSchema,
  countOption,
  listOption,
  openOptions,
  pathOption,
  readOptions,
  readSchema,
} from "../context/common-options.ts";
import { saveSchema } from "../exports/save.ts";
import { loadingFacts, weightsFiles } from "../exports/weights-files.ts";
import type { WeightsFile } from "../report/loading.ts";
import type { ChosenExport } from "../report/verdict.ts";
import type { Deployment, MeasuredExport } from "../workspace/run-schemas.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { defineCommand } from "./command.ts";
import { textTable } from "../report/table.ts";

/** No image has more. */
const tokensOption = z.number().int().min(0).max(1_000_000);

/** `wecolora export` */
export const exportRunSchema = z.strictObject({
  model: pathOption.describe("run folder, or a model: its directory, file of weights, or hub name"),
  to: listOption(exportName).describe("formats to write; several with commas"),
  out: pathOption
    .optional()
    .describe("output folder (default: exports/ in the run folder)")
    .meta({ note: "Each of several formats gets a folder in it." }),
  data: pathOption.optional().describe("images to compare on (default: the run's own)"),
  images: pathOption
    .optional()
    .describe("images to round 4-bit weights for (default: those of the run)")
    .meta({ note: "A model without a run is rounded to nearest." }),
  maxImages: countOption
    .default(100)
    .describe("at most so many images, and three times as many labelled ones for k-NN"),
  mergeTokens: z
    .union([tokensOption, z.array(tokensOption).min(1)])
    .optional()
    .describe("tokens merged away in each block (ToMe), or a list for each; ONNX only"),
  ...saveSchema.pick({ weightType: true }).shape,
  ...exportOptions,
  ...readSchema.shape,
  ...commonSchema.omit({ strict: true }).shape,
});

export type ExportRunInput = z.input<typeof exportRunSchema>;

/** What an export is measured to be. */
export interface ExportedModel {
  readonly format: ExportName;
  readonly out: string;
  /** Bytes of the files that hold its weights. */
  readonly bytes: number;
  /** Mean absolute difference of the pooled vectors, over the mean absolute value of those of our own forward. */
  readonly relativeDifference: number;
  /** Mean cosine with our own forward's. */
  readonly cosine: number;
  /** Images that it was compared on. */
  readonly images: number;
  /** 95 % intervals over the images. */
  readonly intervals: { readonly relativeDifference?: Interval; readonly cosine?: Interval };
  /** Share of held-out images that weighted k-NN gets right: with the export, and with our own forward. */
  readonly knn?: KnnShares;
  /** Median for one image, in turns with the other exports of the command. */
  readonly millisecondsPerImage: number;
  /** The middle half of the times lies between these; exports of earlier versions don't say. */
  readonly millisecondsQuartiles?: readonly [number, number];
  /** Pixels per side of the images that it takes, where a search chose smaller ones. All figures compare with the model at its own size. */
  readonly imageSize?: number;
  /** Tokens that each block merges away, where the export merges any. All figures compare with the unmerged model. */
  readonly merging?: readonly number[];
}

export interface ExportRunResult {
  readonly model: string;
  readonly images: number;
  readonly exports: readonly ExportedModel[];
}

/** Says what is wrong with an export whose features are not near enough to the model's; undefined where they are. */
export function outOfBounds(
  measured: Pick<ExportedModel, "format" | "out" | "relativeDifference" | "cosine" | "merging">,
  options?: ExportOptions,
): string | undefined {
  const { format, out, relativeDifference: difference, cosine, merging } = measured;
  const { tolerance: usual, toleranceWith } = exportOf(format);
  const tolerance = (options && toleranceWith?.(options)) ?? usual;
  const bound = merging ? mergingTolerance(tolerance) : tolerance;
  if (difference <= bound.relativeDifference && cosine >= bound.cosine) return undefined;
  return (
    `the export ${format} in ${out} is not the model that it was made from: its features differ by ` +
    `${(100 * difference).toPrecision(3)} % (at most ${100 * bound.relativeDifference} %), cosine ${cosine.toFixed(5)} (at least ${bound.cosine}); the bounds allow for ${bound.reason}`
  );
}

/** A run that a model comes from. */
interface Origin extends RunOrigin {
  readonly folder: RunFolder;
  readonly options: DistillRunOptions;
  readonly result: RunResult;
}

/** The run whose folder, or student, a path is; undefined where it is another model. */
async function originOf({ environment }: RunContext, path: string): Promise<Origin | undefined> {
  for (const candidate of [path, `${path}/..`]) {
    const folder = new RunFolder(environment.directory(candidate));
    const entries = await folder.directory.list().catch((): string[] => []);
    if (!entries.includes("config.json") || !entries.includes("student")) continue;
    const { options } = await folder.readConfig();
    const result = await folder.readResult();
    if (!result) {
      const where = folder.directory.describe("");
      throw new UserError(
        `The run in ${where} is not finished. Resume it with: wecolora distill --resume ${shellWord(where)}`,
        {
          code: "RUN_NOT_FOUND",
        },
      );
    }
    return {
      folder,
      directory: folder.directory,
      keptBlocks: result.keptBlocks,
      options: distillOptions(options, `the options in ${folder.directory.describe("config.json")}`),
      result,
    };
  }
  return undefined;
}

/** Throws a UserError where one of the formats has no place for a model, or for what its run trained. */
export function checkFormats(
  names: readonly ExportName[],
  model: ModelDefinition,
  options: DistillRunOptions | undefined,
): void {
  for (const name of names) exportOf(name).check?.(model, options && { options });
}

/** The model with tokens merged in each block as `--merge-tokens` says; itself where it says nothing. */
function withMerging(
  model: Model,
  { mergeTokens, to }: Pick<ExportOptions, "mergeTokens" | "to">,
): { model: Model; merging?: readonly number[] } {
  if (mergeTokens === undefined) return { model };
  const { config, weights, preprocessing, origin, device } = model;
  const all = Array<number>(config.depth).fill(0);
  const merging = typeof mergeTokens === "number" ? mergingOf(config, all.fill(mergeTokens)) : [...mergeTokens];
  checkMerging({ ...config, merging }, "--merge-tokens");
  const refusing = to.filter((name) => !exportOf(name).mergesTokens);
  if (refusing.length > 0 && mergesTokens({ merging }))
    throw new UserError(
      `--merge-tokens works with ONNX exports alone (${allExports()
        .filter((format) => format.mergesTokens)
        .map(({ name }) => name)
        .join(", ")}), got --to ${refusing.join(",")}.`,
      { code: "INVALID_OPTION" },
    );
  if (!mergesTokens({ merging })) return { model };
  const merged = new Model({ config: { ...config, merging }, weights, preprocessing, origin }, device);
  return { model: merged, merging };
}

type ExportOptions = z.output<typeof exportRunSchema>;

/** Writes a model in formats and measures each. Throws a RunError where an export's features are out of bounds. */
export async function runExport(context: RunContext, input: ExportRunInput): Promise<ExportRunResult> {
  refuseUnread(input);
  const options = parseOptions(withOptionsOf(exportRunSchema, exportsNamed(input.to)), input, "options of export");
  const origin = await originOf(context, options.model);
  const { out } = options;
  const run = origin?.folder.directory.describe("");
  if (out === undefined && run === undefined)
    throw new UserError("export needs a folder to write to: add --out <folder>.", { code: "INVALID_OPTION" });
  // Where no folder is named, exports are part of the run.
  const request: OutputRequest =
    out === undefined
      ? { path: run ?? "", kind: "run", inputs: [] }
      : {
          path: out,
          kind: "export",
          inputs: [
            { option: "--model", path: origin?.folder.directory.describe("student") ?? options.model },
            ...(origin ? distillInputs(origin.options) : []),
            ...(options.data === undefined ? [] : [{ option: "--data", path: options.data }]),
            ...(options.images === undefined ? [] : [{ option: "--images", path: options.images }]),
          ],
        };
  return withOutput(context, request, async (output) => {
    const { directory } = output;
    const result = await exportInto(context, options, origin, (format) =>
      out === undefined
        ? directory.below(`exports/${format}`)
        : options.to.length > 1
          ? directory.below(format)
          : directory,
    );
    if (out === undefined) await new RunFolder(output).writeExports(result.exports);
    return result;
  });
}

/** Writes a run's student in formats into its own folder, which the caller holds; for images of another size where one is given. */
export async function exportRun(
  context: RunContext,
  folder: RunFolder,
  names: readonly ExportName[],
  more: Partial<ExportRunInput> = {},
  imageSize?: number,
): Promise<ExportRunResult> {
  const { directory } = folder;
  const model = directory.describe("");
  const options = parseOptions(
    withOptionsOf(exportRunSchema, exportsNamed(names)),
    { ...more, model, to: [...names] },
    "options of export",
  );
  const origin = await originOf(context, model);
  const directoryOf = (format: ExportName) => directory.below(`exports/${format}`);
  const result = await exportInto(context, options, origin, directoryOf, imageSize);
  await folder.writeExports(result.exports);
  return result;
}

/** At most so many images are rounded for: more say little that is new, and their tokens lie in memory. */
const calibrationImages = 300;

/** The images that an export may round weights for: those that are named, else those that the run refitted or trained with. */
async function calibrationItems(
  { environment }: RunContext,
  { images, seed }: Pick<ExportOptions, "images" | "seed">,
  origin: Origin | undefined,
): Promise<{ path: string; items: readonly Item[] } | undefined> {
  if (images !== undefined) {
    const { path, train } = await environment.openDataSet(images);
    return { path, items: limitItems(train.items, calibrationImages, seed) };
  }
  if (!origin) return undefined;
  const { path, train } = await environment.openDataSet(origin.options.data, openOptions(origin.options));
  const lines = await origin.folder.readManifest();
  const used = new Set(lines.flatMap(({ name, uses }) => (uses.includes("train") ? [name] : [])));
  const items = train.items.filter(({ name }) => used.has(name));
  if (items.length < used.size)
    throw new UserError(
      `${used.size - items.length} of the run's ${used.size} images are gone from ${origin.options.data}. Put them back, or name others with --images <folder>.`,
      { code: "NO_IMAGES" },
    );
  return { path, items: limitItems(items, calibrationImages, seed) };
}

/** Runs `write` with the images that an export may round weights for, where one of the exports makes use of them. */
async function withCalibration(
  context: RunContext,
  options: ExportOptions,
  origin: Origin | undefined,
  model: Model,
  write: (calibration: Calibration | undefined) => Promise<void>,
): Promise<void> {
  const { environment, listener } = context;
  const calibrationImages = await calibrationItems(context, options, origin);
  if (!calibrationImages) return write(undefined);
  const { path, items } = calibrationImages;
  if (items.length === 0) throw new UserError(`None of the files in ${path} is an image.`, { code: "NO_IMAGES" });
  listener.info?.(`weights are rounded for ${items.length} images of ${path}`);
  const source = environment.createImageSource(path);
  try {
    await write({ device: model.device, images: searchCrops(source, items, model, options.seed, calibrationParts) });
  } finally {
    await source.dispose();
  }
}

/** One batch of so many is set aside, to say whether a way to round helps. */
const calibrationParts = 5;

/** What exports are made from and held against. */
interface ExportSource {
  readonly context: RunContext;
  readonly options: ExportOptions;
  readonly origin: Origin | undefined;
  /** The model as it is written, for images of what size where that is not its own, and what it merges away in each block. */
  readonly model: Model;
  readonly imageSize?: number;
  readonly merging?: readonly number[];
  readonly images: ExportImages;
  /** What the model gives for the images at its own size without merging, and as it is written. */
  readonly original: Embedded;
  readonly expected: Embedded;
  readonly weightType: ModelDefinition["origin"]["weightType"];
}

/** Bytes that all exports of a model take together, at most. */
const bytesOf = ({ to, ...options }: ExportOptions, model: Model, weightType: WeightType): number =>
  parameterCount(model) * to.reduce((sum, name) => sum + exportOf(name).bytesPerWeight(weightType, options), 0);

async function exportInto(
  context: RunContext,
  options: ExportOptions,
  origin: Origin | undefined,
  directoryOf: (name: ExportName) => Directory,
  imageSize?: number,
): Promise<ExportRunResult> {
  const { environment, listener } = context;
  const path = origin ? origin.folder.directory.describe("student") : options.model;
  const data = options.data ?? origin?.options.data;
  if (data === undefined)
    throw new UserError("export needs images to compare on: add --data <folder>.", { code: "INVALID_OPTION" });
  refuseImages(options);
  const whole = await environment.loadModel(path, loadRequest(context, readOptions(options)));
  const resized = imageSize === undefined ? whole : new Model(forImageSize(whole, imageSize), whole.device);
  const { model, merging } = withMerging(resized, options);
  checkFormats(options.to, model, origin?.options);
  const images = await ExportImages.open(context, resized, data, options.maxImages, options.seed);
  try {
    const weightType = options.weightType ?? model.origin.weightType;
    await checkRoom(context, directoryOf(options.to[0]).describe(""), bytesOf(options, model, weightType));
    const original =
      resized === whole ? await images.embed(embedderOf(whole)) : await embedded(context, whole, data, options);
    const expected = model === whole ? original : await images.embed(embedderOf(model));
    const made = { model, imageSize, merging, images, original, expected, weightType };
    const source: ExportSource = { context, options, origin, ...made };
    const written: Compared[] = [];
    for (const name of options.to) {
      listener.stage?.(`exporting ${name}`);
      written.push(await exportOne(source, name, directoryOf(name)));
    }
    // Sessions of other models would share the processor's caches and memory with those that are timed.
    await model.dispose();
    await whole.dispose();
    listener.stage?.("measuring latency");
    const times = await timeExports(source, directoryOf);
    const exports = written.map((one, i): ExportedModel => ({ ...one, ...times[i] }));
    return { model: path, images: original.queries.dims[0], exports };
  } finally {
    await images.dispose();
    await model.dispose();
    await whole.dispose();
  }
}

/** What a model gives for the images that exports are compared on, read at its own size. */
async function embedded(
  context: RunContext,
  model: Model,
  data: string,
  { maxImages, seed }: ExportOptions,
): Promise<Embedded> {
  const images = await ExportImages.open(context, model, data, maxImages, seed);
  try {
    return await images.embed(embedderOf(model));
  } finally {
    await images.dispose();
  }
}

type Times = Required<Pick<ExportedModel, "millisecondsPerImage" | "millisecondsQuartiles">>;

/** An export that was held against the model, and not timed yet. */
type Compared = Omit<ExportedModel, keyof Times>;

/** Opens all exports and times them on one of the images, in turns. */
async function timeExports(source: ExportSource, directoryOf: (name: ExportName) => Directory): Promise<Times[]> {
  const { context, options, origin, model, images } = source;
  const image = images.firstImage();
  const opened: Embedder[] = [];
  try {
    for (const name of options.to)
      opened.push(
        await exportOf(name).open({
          ...{ directory: directoryOf(name), model, context, origin },
          warn: () => undefined,
        }),
      );
    const runs = opened.map((embedder) => () => embedder.pooled(image));
    const latencies = await timeInRounds(runs, () => context.environment.now());
    return latencies.map(({ median, quartiles }) => ({
      millisecondsPerImage: median,
      millisecondsQuartiles: quartiles,
    }));
  } finally {
    for (const embedder of opened) await embedder.dispose();
  }
}

/** Throws an OptionError where an option of exports is given that none of the named ones has. */
function refuseUnread(input: ExportRunInput): void {
  const named = exportsNamed(input.to);
  const unread = named.length > 0 ? unreadOption(input, allExports(), named) : undefined;
  if (!unread) return;
  const { option, having } = unread;
  const names = named.map((format) => format.name).join(", ");
  throw new OptionError(
    [(name) => `${name(option)} is for ${having.join(", ")}, and ${name("to")} is ${names}. Leave it out.`],
    "options of export",
  );
}

/** Throws a UserError where images are named that no export reads. */
function refuseImages({ images, to }: ExportOptions): void {
  if (images === undefined || to.some((name) => exportOf(name).readsImages)) return;
  const reading = allExports().flatMap(({ name, readsImages }) => (readsImages ? [name] : []));
  throw new UserError(
    `--images is for exports that round weights for images (${reading.join(", ")}), and --to is ${to.join(", ")}. Leave it out.`,
    { code: "INVALID_OPTION" },
  );
}

/** Writes one format, reads it back and compares. Throws a RunError where its features are not the model's. */
async function exportOne(source: ExportSource, name: ExportName, directory: Directory): Promise<Compared> {
  const { context, options, origin, model, imageSize, merging, images, original, expected, weightType } = source;
  const warn = (message: string) => context.listener.warn?.(message);
  const format = exportOf(name);
  const write = (calibration?: Calibration) =>
    format.write({
      ...{ model, directory, weightType, options, warn, calibration, signal: context.signal },
      run: origin && { origin, context },
    });
  await (format.readsImages ? withCalibration(context, options, origin, model, write) : write());
  const embedder = await format.open({ directory, model, context, origin, warn });
  const exported = await images.embed(embedder);
  const measured: Compared = {
    format: name,
    out: directory.describe(""),
    bytes: await weightBytes(directory, format),
    images: original.queries.dims[0],
    ...differenceOf(exported.queries, original.queries),
    ...(await images.knn(exported, original)),
    ...(imageSize === undefined ? {} : { imageSize }),
    ...(merging ? { merging } : {}),
  };
  await embedder.dispose();
  const files = await weightsFiles(directory, loadingFacts(model.config).inTransformers);
  const card = cardOf(model, options.model, origin, measured, files);
  await directory.write("README.md", [new TextEncoder().encode(card)]);
  const wrong = outOfBounds({ ...measured, ...differenceOf(exported.queries, expected.queries) }, options);
  if (wrong) throw new RunError(wrong);
  return measured;
}

function cardOf(
  model: Model,
  path: string,
  origin: Origin | undefined,
  measured: Compared,
  files: readonly WeightsFile[],
): string {
  const { format, bytes, images, imageSize, merging } = measured;
  const figures = exportFigures(measured);
  const counted = `compared on ${countText([images, images])}${images < fewImages ? "; in brackets: 95 % confidence intervals" : ""}`;
  const compared = `${format}: ${(bytes / 1e6).toFixed(1)} MB; pooled features differ from those of the original by ${figures.relativeDifference} % of their size, mean cosine ${figures.cosine}`;
  const evaluation = measured.knn
    ? [`k-NN: ${figures.exported} % with this file, ${figures.own} % with the original`]
    : [];
  return modelCard({
    name: path
      .replace(/[\\/]+$/, "")
      .split(/[\\/]/)
      .slice(-1)[0],
    config: model.config,
    folder: format,
    files,
    license: model.origin.license,
    origin: origin && cardOrigin(origin.options, origin.result),
    notes: [
      counted,
      compared,
      ...evaluation,
      ...(imageSize === undefined ? [] : [sizeNote(model)]),
      ...(merging ? [mergingNote(merging)] : []),
    ],
  });
}

/** What a reader of a file for smaller images has to know. */
const sizeNote = ({ config }: Model): string =>
  `images of ${config.imageSize}x${config.imageSize} pixels, smaller than the original's, so last_hidden_state has ${patchCount(config)} patch tokens; figures compare with the original at its own size`;

/** What a reader of a graph that merges tokens has to know. */
const mergingNote = (merging: readonly number[]): string =>
  `tokens merged away in each block (token merging, arXiv 2210.09461): ${merging.join(", ")}; last_hidden_state has all tokens, those that were merged with equal features; wecolora doesn't read this ONNX file back: use the original model`;

/** An export's figures as text, with their intervals where the images are few. */
function exportFigures({ images, relativeDifference: difference, cosine, intervals, knn }: Compared) {
  const few = images < fewImages;
  const percents = (bounds: Interval | undefined): Interval | undefined =>
    few && bounds ? [100 * bounds[0], 100 * bounds[1]] : undefined;
  const share = (value: number | undefined, bounds: Interval | undefined) =>
    value === undefined ? "-" : `${(100 * value).toFixed(1)}${boundsText(percents(bounds), 0)}`;
  const far = percents(intervals.relativeDifference);
  return {
    relativeDifference: `${(100 * difference).toPrecision(2)}${far ? ` (${far[0].toPrecision(2)}–${far[1].toPrecision(2)})` : ""}`,
    cosine: `${cosine.toFixed(5)}${boundsText(few ? intervals.cosine : undefined, 5)}`,
    exported: share(knn?.exported, knn?.intervals.exported),
    own: share(knn?.original, knn?.intervals.original),
  };
}

/** The export that a search chose, as it was measured; undefined where it isn't among these. */
export function chosenExport(
  exports: readonly MeasuredExport[],
  { export: name }: Pick<Deployment, "export">,
): ChosenExport | undefined {
  const measured = exports.find(({ format }) => format === name);
  if (!measured) return undefined;
  const { format, bytes, millisecondsPerImage, knn, cosine, images, imageSize } = measured;
  return { format, bytes, milliseconds: millisecondsPerImage, knn: knn?.exported, cosine, images, imageSize };
}

/** What the table's columns mean. */
export const exportLegend =
  "difference: mean absolute difference from the student's features, as a share of their size; cosine: mean cosine similarity with the student's features; ms/image: milliseconds for one image on this machine, median and quartiles, all formats in turns; k-NN: a vote of the 10 most similar labelled images, by this file's features and by the student's";

/** Columns and rows of what was exported. */
export function exportTable(exports: readonly ExportedModel[]): { columns: Column[]; rows: string[][] } {
  const labelled = exports.some(({ knn }) => knn);
  const resized = exports.some(({ imageSize }) => imageSize !== undefined);
  return {
    columns: [
      { title: "format", align: "left" },
      ...(resized ? [{ title: "image size" }] : []),
      { title: "MB" },
      { title: "ms/image" },
      { title: "difference %" },
      { title: "cosine" },
      ...(labelled ? [{ title: "k-NN %" }, { title: "original k-NN %" }] : []),
      { title: "folder", align: "left" },
    ],
    rows: exports.map((e) => {
      const figures = exportFigures(e);
      return [
        e.format,
        ...(resized ? [String(e.imageSize ?? "")] : []),
        (e.bytes / 1e6).toFixed(1),
        `${e.millisecondsPerImage.toFixed(1)}${boundsText(e.millisecondsQuartiles, 1)}`,
        figures.relativeDifference,
        figures.cosine,
        ...(labelled ? [figures.exported, figures.own] : []),
        e.out,
      ];
    }),
  };
}

export const command = defineCommand({
  name: "export",
  summary: "Export a model to other formats; each is loaded again and compared.",
  schema: exportRunSchema,
  run: runExport,
  details: () => `Formats:\n${exportHelp()}`,
  text({ exports, images }) {
    const { columns, rows } = exportTable(exports);
    const few = images < fewImages ? " In brackets: 95 % confidence intervals." : "";
    return `Compared on ${countText([images, images])}.${few}\n\n${textTable(columns, rows)}`;
  },
});
