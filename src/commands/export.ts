// Writing a model in other formats, each loaded again and compared with our own forward pass on real pictures.
import { z } from "zod";
import type { Directory } from "../files/storage.ts";
import type { ExportFormat, RunOrigin } from "../exports/export-format.ts";
import { embedderOf } from "../exports/export-format.ts";
import type { ExportName } from "../exports/lookup.ts";
import { exportHelp, exportName, exportOf, exportsNamed } from "../exports/lookup.ts";
import { modelCard } from "../exports/model-card.ts";
import { exportOptions } from "../exports/registry.ts";
import type { Model } from "../models/model.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { parameterCount } from "../models/definition.ts";
import type { Interval } from "../evaluation/confidence.ts";
import { boundsText, countText, fewImages } from "../report/results.ts";
import type { Column } from "../report/table.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { withOptionsOf } from "../utils/option-shapes.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { cardOrigin } from "./run-card.ts";
import type { Environment } from "../context/environment.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import type { NeighbourShares } from "../exports/measure.ts";
import { differenceOf, latency, Pictures } from "../exports/measure.ts";
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
  pathOption,
  readOptions,
  readSchema,
} from "../context/common-options.ts";
import { saveSchema } from "../exports/save.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { defineCommand } from "./command.ts";
import { textTable } from "../report/table.ts";

/** `wecolora export` */
export const exportRunSchema = z.strictObject({
  model: pathOption.describe("a run's folder, or a model: its directory, file of weights, or hub name"),
  to: listOption(exportName).describe("formats to write; several with commas"),
  out: pathOption
    .optional()
    .describe(
      "output folder (exports/ in the run's folder where left out), with a folder per format where there are several",
    ),
  data: pathOption.optional().describe("images to compare on (the run's own where left out)"),
  pictures: countOption.default(100).describe("at most so many images, and three times as many labelled ones for k-NN"),
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
  readonly difference: number;
  /** Mean cosine with our own forward's. */
  readonly cosine: number;
  /** Images that it was compared on. */
  readonly images: number;
  /** 95 % intervals over the images. */
  readonly intervals: { readonly difference?: Interval; readonly cosine?: Interval };
  /** Share of held-out images that the weighted neighbours get right: with the export, and with our own forward. */
  readonly neighbours?: NeighbourShares;
  readonly millisecondsAPicture: number;
}

export interface ExportRunResult {
  readonly model: string;
  readonly pictures: number;
  readonly exports: readonly ExportedModel[];
}

/** Says what is wrong with an export whose features are not near enough to the model's; undefined where they are. */
export function outOfBounds({
  format,
  out,
  difference,
  cosine,
}: Pick<ExportedModel, "format" | "out" | "difference" | "cosine">): string | undefined {
  const bound = exportOf(format).tolerance;
  if (difference <= bound.difference && cosine >= bound.cosine) return undefined;
  return (
    `the export ${format} in ${out} is not the model that it was made from: its features differ by ` +
    `${(100 * difference).toPrecision(3)} % (at most ${100 * bound.difference} %), cosine ${cosine.toFixed(5)} (at least ${bound.cosine}); the bounds allow for ${bound.reason}`
  );
}

/** A run that a model comes from. */
interface Origin extends RunOrigin {
  readonly folder: RunFolder;
  readonly options: DistillRunOptions;
  readonly result: RunResult;
}

/** The run whose folder, or student, a path is; undefined where it is another model. */
async function originOf(environment: Environment, path: string): Promise<Origin | undefined> {
  for (const candidate of [path, `${path}/..`]) {
    const folder = new RunFolder(environment.directory(candidate));
    const entries = await folder.directory.list().catch((): string[] => []);
    if (!entries.includes("config.json") || !entries.includes("student")) continue;
    const { options } = await folder.readConfig();
    const result = await folder.readResult();
    if (!result) {
      const where = folder.directory.describe("");
      throw new UserError(`The run in ${where} is not finished. Resume it with: wecolora distill --resume ${where}`, {
        code: "RUN_NOT_FOUND",
      });
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

type ExportOptions = z.output<typeof exportRunSchema>;

/** Writes a model in formats and measures each. Throws a RunError where an export's features are out of bounds. */
export async function runExport(context: RunContext, input: ExportRunInput): Promise<ExportRunResult> {
  const { environment } = context;
  const options = parseOptions(withOptionsOf(exportRunSchema, exportsNamed(input.to)), input, "options of export");
  const origin = await originOf(environment, options.model);
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
          ],
        };
  return withOutput(environment, request, ({ directory }) =>
    exportInto(context, options, origin, (format) =>
      out === undefined
        ? directory.below(`exports/${format}`)
        : options.to.length > 1
          ? directory.below(format)
          : directory,
    ),
  );
}

/** Writes a run's student in formats into its own folder, which the caller holds. */
export async function exportRun(
  context: RunContext,
  { directory }: RunFolder,
  names: readonly ExportName[],
): Promise<ExportRunResult> {
  const model = directory.describe("");
  const options = parseOptions(
    withOptionsOf(exportRunSchema, exportsNamed(names)),
    { model, to: [...names] },
    "options of export",
  );
  const origin = await originOf(context.environment, model);
  return exportInto(context, options, origin, (format) => directory.below(`exports/${format}`));
}

async function exportInto(
  context: RunContext,
  options: ExportOptions,
  origin: Origin | undefined,
  directoryOf: (name: ExportName) => Directory,
): Promise<ExportRunResult> {
  const { environment, listener } = context;
  const warn = (message: string) => listener.warn?.(message);
  const path = origin ? origin.folder.directory.describe("student") : options.model;
  const data = options.data ?? origin?.options.data;
  if (data === undefined)
    throw new UserError("export needs images to compare on: add --data <folder>.", { code: "INVALID_OPTION" });
  const model = await environment.loadModel(path, loadRequest(readOptions(options), context));
  const pictures = await Pictures.open(environment, model, data, options.pictures, options.seed);
  try {
    checkFormats(options.to, model, origin?.options);
    const weightType = options.weightType ?? model.origin.weightType;
    const parameters = parameterCount(model);
    const bytes = options.to.reduce((sum, format) => sum + parameters * exportOf(format).bytesPerWeight(weightType), 0);
    await checkRoom(environment, directoryOf(options.to[0]).describe(""), bytes);
    const own = await pictures.embed(embedderOf(model));
    const exports: ExportedModel[] = [];
    for (const name of options.to) {
      const format = exportOf(name);
      listener.stage?.(`exporting ${name}`);
      const directory = directoryOf(name);
      await format.write({ model, directory, weightType, options, warn, run: origin && { origin, context } });
      const embedder = await format.open({ directory, model, context, origin, warn });
      const exported = await pictures.embed(embedder);
      const measured: ExportedModel = {
        format: name,
        out: directory.describe(""),
        bytes: await weightBytes(directory, format),
        images: own.queries.dims[0],
        ...differenceOf(exported.queries, own.queries),
        ...(await pictures.neighbours(exported, own)),
        millisecondsAPicture: await latency(environment, embedder, model),
      };
      await embedder.dispose();
      await directory.write("README.md", [new TextEncoder().encode(cardOf(model, options.model, origin, measured))]);
      exports.push(measured);
      const wrong = outOfBounds(measured);
      if (wrong) throw new RunError(wrong);
    }
    return { model: path, pictures: own.queries.dims[0], exports };
  } finally {
    await pictures.dispose();
    await model.dispose();
  }
}

/** Bytes of the files in an export that hold weights. */
async function weightBytes(directory: Directory, { files }: ExportFormat): Promise<number> {
  let bytes = 0;
  for (const name of files) {
    const file = await directory.open(name);
    bytes += file?.size ?? 0;
    await file?.close();
  }
  return bytes;
}

function cardOf(model: Model, path: string, origin: Origin | undefined, measured: ExportedModel): string {
  const { format, bytes, images } = measured;
  const figures = exportFigures(measured);
  const counted = `compared on ${countText([images, images])}${images < fewImages ? "; in brackets: 95 % confidence intervals" : ""}`;
  const compared = `${format}: ${(bytes / 1e6).toFixed(1)} MB; pooled features differ from those of the original by ${figures.difference} % of their size, mean cosine ${figures.cosine}`;
  const judged = measured.neighbours
    ? [`k-NN: ${figures.exported} % with this file, ${figures.own} % with the original`]
    : [];
  return modelCard({
    name: path
      .replace(/[\\/]+$/, "")
      .split(/[\\/]/)
      .slice(-1)[0],
    config: model.config,
    origin: origin && cardOrigin(origin.options, origin.result),
    notes: [counted, compared, ...judged],
  });
}

/** An export's figures as text, with their intervals where the images are few. */
function exportFigures({ images, difference, cosine, intervals, neighbours }: ExportedModel) {
  const few = images < fewImages;
  const percents = (bounds: Interval | undefined): Interval | undefined =>
    few && bounds ? [100 * bounds[0], 100 * bounds[1]] : undefined;
  const share = (value: number | undefined, bounds: Interval | undefined) =>
    value === undefined ? "-" : `${(100 * value).toFixed(1)}${boundsText(percents(bounds), 0)}`;
  const far = percents(intervals.difference);
  return {
    difference: `${(100 * difference).toPrecision(2)}${far ? ` (${far[0].toPrecision(2)}–${far[1].toPrecision(2)})` : ""}`,
    cosine: `${cosine.toFixed(5)}${boundsText(few ? intervals.cosine : undefined, 5)}`,
    exported: share(neighbours?.exported, neighbours?.intervals.exported),
    own: share(neighbours?.own, neighbours?.intervals.own),
  };
}

/** Columns and rows of what was exported. */
export function exportTable(exports: readonly ExportedModel[]): { columns: Column[]; rows: string[][] } {
  const labelled = exports.some(({ neighbours }) => neighbours);
  return {
    columns: [
      { title: "format", align: "left" },
      { title: "MB" },
      { title: "ms/picture" },
      { title: "difference %" },
      { title: "cosine" },
      ...(labelled ? [{ title: "neighbours %" }, { title: "ours %" }] : []),
      { title: "folder", align: "left" },
    ],
    rows: exports.map((e) => {
      const figures = exportFigures(e);
      return [
        e.format,
        (e.bytes / 1e6).toFixed(1),
        e.millisecondsAPicture.toFixed(1),
        figures.difference,
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
  text({ exports, pictures }) {
    const { columns, rows } = exportTable(exports);
    const few = pictures < fewImages ? " In brackets: 95 % confidence intervals." : "";
    return `Compared on ${countText([pictures, pictures])}.${few}\n\n${textTable(columns, rows)}`;
  },
});
