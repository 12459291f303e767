// Writing a model in other formats, each loaded again and compared with our own forward pass on real pictures.
import { z } from "zod";
import { readSafetensors } from "../checkpoints/safetensors.ts";
import type { Directory } from "../files/storage.ts";
import { longestFile, readFile } from "../files/storage.ts";
import type { AdapterPlan } from "../students/training/adapters.ts";
import { createDistillation } from "../students/training/distillation.ts";
import { adapterPlanOf } from "../students/methods/lookup.ts";
import { copyBlocks } from "../students/weight-copy.ts";
import type { ExportFormat, OnnxFormat } from "../exports/registry.ts";
import { isOnnxFormat, onnxFiles } from "../exports/registry.ts";
import { modelCard } from "../exports/model-card.ts";
import { peftBase, readPeft, writePeft } from "../exports/peft.ts";
import { checkFormat, writeModel } from "../exports/save.ts";
import type { Model } from "../models/model.ts";
import type { VitConfig } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { parameterCount } from "../models/definition.ts";
import { prefixCount } from "../models/config.ts";
import { badOutput } from "../models/finite-outputs.ts";
import type { Interval } from "../evaluation/confidence.ts";
import { boundsText, countText, fewImages } from "../report/results.ts";
import type { Column } from "../report/table.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { elementBytes, zeros } from "../utils/tensor.ts";
import type { WeightType } from "../utils/half.ts";
import { cardOrigin } from "./run-card.ts";
import type { Environment } from "../context/environment.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import type { Embedder, NeighbourShares } from "../exports/measure.ts";
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
import { exportFormats } from "../exports/registry.ts";
import { saveSchema } from "../exports/save.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { defineCommand } from "./command.ts";
import { textTable } from "../report/table.ts";

/** `wecolora export` */
export const exportRunSchema = z.strictObject({
  model: pathOption.describe("a run's folder, or a model: its directory, file of weights, or hub name"),
  to: listOption(z.enum(exportFormats)).describe(`what to write, several with commas`),
  out: pathOption
    .optional()
    .describe(
      "where to write (exports/ in the run's folder where left out); a folder a format where there are several",
    ),
  data: pathOption.optional().describe("pictures to compare on (the run's own where left out)"),
  pictures: countOption
    .default(100)
    .describe("at most so many pictures, and three times as many labelled ones for neighbours"),
  ...saveSchema.pick({ weightType: true }).shape,
  ...readSchema.shape,
  ...commonSchema.omit({ strict: true }).shape,
});

export type ExportRunInput = z.input<typeof exportRunSchema>;

/** What an export is measured to be. */
export interface ExportedModel {
  readonly format: ExportFormat;
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

/** The most that a format's features may differ by, and the most that neighbours may lose. */
const bounds: Readonly<Record<ExportFormat, { readonly difference: number; readonly cosine: number }>> = {
  huggingface: { difference: 1e-3, cosine: 0.9999 },
  timm: { difference: 1e-3, cosine: 0.9999 },
  safetensors: { difference: 1e-3, cosine: 0.9999 },
  peft: { difference: 1e-3, cosine: 0.9999 },
  onnx: { difference: 1e-3, cosine: 0.9999 },
  // 11 bits at every step of the computation.
  "onnx-float16": { difference: 0.02, cosine: 0.999 },
  // 8 bits: a part in 250 of the largest, in every map.
  "onnx-int8": { difference: 0.25, cosine: 0.97 },
  "onnx-int8-weights": { difference: 0.2, cosine: 0.98 },
};

/** Says what is wrong with an export whose features are not near enough to the model's; undefined where they are. */
export function outOfBounds({
  format,
  out,
  difference,
  cosine,
}: Pick<ExportedModel, "format" | "out" | "difference" | "cosine">): string | undefined {
  const bound = bounds[format];
  if (difference <= bound.difference && cosine >= bound.cosine) return undefined;
  return (
    `the export ${format} in ${out} is not the model that it was made from: its features differ by ` +
    `${(100 * difference).toPrecision(3)} % (at most ${100 * bound.difference} %), cosine ${cosine.toFixed(5)} (at least ${bound.cosine})`
  );
}

/** A run that a model comes from. */
interface Origin {
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
      options: distillOptions(options, `the options in ${folder.directory.describe("config.json")}`),
      result,
    };
  }
  return undefined;
}

/** Throws a UserError where one of the formats has no place for a model, or for what its run trained. */
export function checkFormats(
  formats: readonly ExportFormat[],
  model: ModelDefinition,
  options: DistillRunOptions | undefined,
): void {
  for (const format of formats) {
    if (format === "peft") adapterPlan(options);
    else checkFormat(model, format);
  }
}

/** Bytes of a weight in a format; PEFT's adapters are small. */
function bytesOfWeight(format: ExportFormat, weightType: WeightType): number {
  if (format === "peft") return 0;
  if (!isOnnxFormat(format)) return elementBytes[weightType];
  return format === "onnx" ? elementBytes.float32 : format === "onnx-float16" ? elementBytes.float16 : 1;
}

type ExportOptions = z.output<typeof exportRunSchema>;

/** Writes a model in formats and measures each. Throws a RunError where an export's features are out of bounds. */
export async function runExport(context: RunContext, input: ExportRunInput): Promise<ExportRunResult> {
  const { environment } = context;
  const options = parseOptions(exportRunSchema, input, "options of export");
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
  formats: readonly ExportFormat[],
): Promise<ExportRunResult> {
  const model = directory.describe("");
  const options = parseOptions(exportRunSchema, { model, to: [...formats] }, "options of export");
  const origin = await originOf(context.environment, model);
  return exportInto(context, options, origin, (format) => directory.below(`exports/${format}`));
}

async function exportInto(
  context: RunContext,
  options: ExportOptions,
  origin: Origin | undefined,
  directoryOf: (format: ExportFormat) => Directory,
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
    const bytes = options.to.reduce((sum, format) => sum + parameters * bytesOfWeight(format, weightType), 0);
    await checkRoom(environment, directoryOf(options.to[0]).describe(""), bytes);
    const own = await pictures.embed({
      pooled: async (x, images) => (await model.outputs(x, ["pooled"], { images })).pooled,
      dispose: async () => undefined,
    });
    const exports: ExportedModel[] = [];
    for (const format of options.to) {
      listener.stage?.(`exporting ${format}`);
      const directory = directoryOf(format);
      await writeFormat(context, format, model, directory, origin, weightType);
      const embedder = await openExport(environment, format, model, directory, origin, warn);
      const exported = await pictures.embed(embedder);
      const measured: ExportedModel = {
        format,
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

async function writeFormat(
  context: RunContext,
  format: ExportFormat,
  model: Model,
  directory: Directory,
  origin: Origin | undefined,
  weightType: WeightType,
): Promise<void> {
  const warn = (message: string) => context.listener.warn?.(message);
  if (format !== "peft") return writeModel(model, directory, { format, weightType }, warn);
  const plan = adapterPlan(origin?.options);
  const run = origin as Origin;
  const adapters = await readFloats(run.folder.directory, "checkpoints/final/adapters.safetensors");
  const teacher = await context.environment.loadModel(
    run.options.teacher,
    loadRequest(readOptions(run.options), context),
  );
  const base = await peftBaseOf(model, teacher, adapters, plan, run);
  await writePeft(base, adapters, plan, directory, weightType, warn);
  await teacher.dispose();
}

/**
 * The model that a run's adapters were trained on: the weight copy, or, where that was changed before, the student with
 * the adapters taken out again. Throws a UserError where they can't be (DoRA scales what it adds to).
 */
async function peftBaseOf(
  student: Model,
  teacher: Model,
  adapters: ReadonlyMap<string, FloatTensor>,
  plan: AdapterPlan,
  { options, result }: Origin,
): Promise<ModelDefinition> {
  if (options.start === undefined || options.start === "weight-copy") return copyBlocks(teacher, result.keptBlocks);
  if (plan.magnitude)
    throw new UserError(
      `The format peft can't hold dora's adapters over a start that is not the teacher's (${options.start}).`,
      { code: "INVALID_OPTION" },
    );
  const negated = [...adapters].map(([name, tensor]): [string, FloatTensor] => [
    name,
    name.endsWith("lora_B") ? { ...tensor, data: tensor.data.map((v) => -v) } : tensor,
  ]);
  return folded(student, options, plan, new Map(negated));
}

/** A model with adapters folded in. */
async function folded(
  model: Model,
  { alpha, rankStabilized, method }: DistillRunOptions,
  plan: AdapterPlan,
  initialAdapters: ReadonlyMap<string, FloatTensor>,
): Promise<Model> {
  const distillation = await createDistillation(model, {
    method,
    reductionFactor: 1,
    rank: plan.rank,
    alpha,
    rankStabilized,
    targetModules: [...plan.targetModules],
    initialAdapters,
  });
  const result = await distillation.student();
  await distillation.dispose();
  return result;
}

/** Where the adapters of a run sit. Throws a UserError where there is no run, or it trained none. */
function adapterPlan(options: DistillRunOptions | undefined): AdapterPlan {
  if (!options)
    throw new UserError("The format peft needs the adapters of a run: give the run's folder, --model <run>.", {
      code: "INVALID_OPTION",
    });
  const plan = adapterPlanOf(options);
  if (plan) return plan;
  throw new UserError(`The method ${options.method} trains no adapters, so there is nothing to write for PEFT.`, {
    code: "INVALID_OPTION",
  });
}

async function readFloats(directory: Directory, entry: string): Promise<Map<string, FloatTensor>> {
  const file = await directory.open(entry);
  if (!file) throw new UserError(`there is no ${directory.describe(entry)}`);
  try {
    return (await readSafetensors(file)).tensors as Map<string, FloatTensor>;
  } finally {
    await file.close();
  }
}

/** The export as a reader sees it: loaded from its files. */
async function openExport(
  environment: Environment,
  format: ExportFormat,
  model: Model,
  directory: Directory,
  origin: Origin | undefined,
  warn: (message: string) => void,
): Promise<Embedder> {
  if (isOnnxFormat(format)) return openOnnx(directory, format, model);
  const loaded = await environment.loadModel(directory.describe(format === "peft" ? peftBase : ""), {});
  if (model.config.head && !loaded.config.head)
    warn(`${format} has no place for the model's head, so it holds the features alone`);
  const used = format === "peft" && origin ? await withPeft(loaded, directory, origin) : loaded;
  return {
    pooled: async (pixels, images) =>
      (await used.outputs(pixels, ["pooled"], { model: `that the export ${format} holds`, images })).pooled,
    dispose: () => used.dispose(),
  };
}

/** The base with the adapters that the directory's files hold folded in. */
async function withPeft(base: Model, directory: Directory, { options }: Origin): Promise<Model> {
  const plan = adapterPlan(options);
  const adapters = readPeft(base, await readFloats(directory, "adapter_model.safetensors"), plan);
  return folded(base, options, plan, adapters);
}

async function openOnnx(directory: Directory, format: OnnxFormat, { device, config }: Model): Promise<Embedder> {
  const { file } = onnxFiles[format];
  const model = await readFile(directory, `onnx/${file}`, longestFile.graph);
  if (!model) throw new RunError(`${directory.describe(`onnx/${file}`)} is gone`);
  const beside = await readFile(directory, `onnx/${file}_data`, longestFile.graph);
  const externalData = beside ? [{ location: `${file}_data`, chunks: [beside] }] : [];
  // As other runtimes open it, so that the time is theirs.
  const session = await device.createSession({ model, externalData }, { packWeights: true });
  return {
    async pooled(pixels, images) {
      const name = hasPooledOutput(config) ? "pooler_output" : "last_hidden_state";
      const { tensors } = await session.run({ feeds: { pixel_values: pixels }, fetch: [name] });
      const tensor = tensors[name] as FloatTensor;
      const bad = badOutput({ [name]: tensor }, images);
      if (bad)
        throw new RunError(
          `The export ${format} gives ${bad.value} in ${name} for the image ${bad.image}, where the model's own features are finite.`,
        );
      return tensor.dims.length === 2 ? tensor : pooledTokens(tensor, config);
    },
    dispose: () => session.dispose(),
  };
}

/** Whether the ONNX file's `pooler_output` is what stands for a picture. */
const hasPooledOutput = (config: VitConfig) => config.pooling === "attention" || config.finalNorm === "pooled";

/** Class token or mean of the patches, of `[B, N, D]`. */
function pooledTokens({ dims, data }: FloatTensor, config: VitConfig): FloatTensor {
  const [batch, count, width] = dims;
  const [from, to] = config.pooling === "mean" ? [prefixCount(config), count] : [0, 1];
  const out = zeros([batch, width]);
  for (let b = 0; b < batch; b++) {
    for (let n = from; n < to; n++) {
      for (let d = 0; d < width; d++) out.data[b * width + d] += data[(b * count + n) * width + d] / (to - from);
    }
  }
  return out;
}

/** Bytes of the files in an export that hold weights. */
async function weightBytes(directory: Directory, format: ExportFormat): Promise<number> {
  const files = isOnnxFormat(format)
    ? [`onnx/${onnxFiles[format].file}`, `onnx/${onnxFiles[format].file}_data`]
    : format === "peft"
      ? ["adapter_model.safetensors", `${peftBase}/model.safetensors`]
      : ["model.safetensors"];
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
    ? [`nearest neighbours: ${figures.exported} % with this file, ${figures.own} % with the original`]
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
  summary: "Write a model in other formats; each is loaded again and compared.",
  schema: exportRunSchema,
  run: runExport,
  text({ exports, pictures }) {
    const { columns, rows } = exportTable(exports);
    const few = pictures < fewImages ? " In brackets: 95 % confidence intervals." : "";
    return `Compared on ${countText([pictures, pictures])}.${few}\n\n${textTable(columns, rows)}`;
  },
});
