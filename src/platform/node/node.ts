/**
 * The library on Node, with files on disk and ONNX Runtime in a worker thread.
 * @module wecolora/node
 */
// First of all: what starts a worker must find the setting.
import "./no-telemetry.ts";
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { basename, dirname, resolve } from "node:path";
import sharp from "sharp";
import type { z } from "zod";
import packageJson from "../../../package.json" with { type: "json" };
import type { SaveOptions } from "../../exports/save.ts";
import { writeModel } from "../../exports/save.ts";
import { Model } from "../../models/model.ts";
import type { ModelDefinition, ReadOptions } from "../../models/definition.ts";
import type { Command } from "../../commands/command.ts";
import { runCommand } from "../../commands/command.ts";
import type { CancelRunResult } from "../../commands/cancel.ts";
import { command as cancelCommand } from "../../commands/cancel.ts";
import type { CacheRunResult } from "../../commands/cache.ts";
import { command as cacheCommand } from "../../commands/cache.ts";
import type { CompareRunResult } from "../../commands/compare.ts";
import { command as compareCommand } from "../../commands/compare.ts";
import type { DistillRunResult } from "../../commands/distill.ts";
import { command as distillCommand } from "../../commands/distill.ts";
import type {
  CancelOptions,
  CacheOptions,
  CompareOptions,
  DistillOptions,
  EvaluateOptions,
  ExportOptions,
  FeaturesOptions,
  InspectOptions,
  MergeOptions,
  ReportOptions,
  ResumeOptions,
  RolloutOptions,
  SegmentOptions,
  SimilarityOptions,
  StatusOptions,
  TaskOptions,
} from "../../commands/options.generated.ts";
import type { ApiOptions, DistillWithMethod } from "./api-options.ts";
import { commandOptions } from "./api-options.ts";
import type { EvaluateRunResult } from "../../commands/evaluate.ts";
import { command as evaluateCommand } from "../../commands/evaluate.ts";
import type { ExportRunResult } from "../../commands/export.ts";
import { command as exportCommand } from "../../commands/export.ts";
import type { FeaturesRunResult } from "../../commands/features.ts";
import { command as featuresCommand } from "../../commands/features.ts";
import type { InspectRunResult } from "../../commands/inspect.ts";
import { command as inspectCommand } from "../../commands/inspect.ts";
import type { Launched } from "../../commands/launch.ts";
import type { MergeRunResult } from "../../commands/merge.ts";
import { command as mergeCommand } from "../../commands/merge.ts";
import type { TaskRunResult } from "../../commands/planned-tasks.ts";
import type { StatusRunResult } from "../../commands/status.ts";
import { command as statusCommand } from "../../commands/status.ts";
import { command as taskCommand } from "../../commands/task.ts";
import { planAt } from "../../workspace/plan-folder.ts";
import type { ReportRunResult } from "../../commands/report.ts";
import { command as reportCommand } from "../../commands/report.ts";
import type { RolloutRunResult } from "../../commands/rollout.ts";
import { command as rolloutCommand } from "../../commands/rollout.ts";
import type { SegmentRunResult } from "../../commands/segment.ts";
import { command as segmentCommand } from "../../commands/segment.ts";
import type { SimilarityRunResult } from "../../commands/similarity.ts";
import { command as similarityCommand } from "../../commands/similarity.ts";
import { mostThreads } from "../../context/common-options.ts";
import type { Environment, LoadRequest } from "../../context/environment.ts";
import type { ProgressEvent, RunControls } from "../../context/progress.ts";
import { stoppableSource } from "../../data/stoppable-source.ts";
import { listenerOf } from "../../context/progress.ts";
import type { RunContext } from "../../context/run-context.ts";
import { runContext } from "../../context/run-context.ts";
import { RunFolder } from "../../workspace/run-folder.ts";
import { stoppable } from "../../runtime/stoppable.ts";
import type { Device, DeviceName } from "../../runtime/device.ts";
import { findDevice } from "../../runtime/devices.ts";
import type { OptionShape } from "../../students/methods/method.ts";
import { UserError } from "../../utils/errors.ts";
import type { RgbImage } from "../../utils/image.ts";
import type { NodeDeviceOptions } from "./node-device.ts";
import { createNodeDevice, tryDevice } from "./node-device.ts";
import type { DownloadProgress, FileStatus } from "./hub.ts";
import { encodeSvg } from "./encode-svg.ts";
import { hubCacheFolder } from "./hub-cache.ts";
import { hubSnapshot, isHubName } from "./hub.ts";
import { openModel } from "../open-model.ts";
import { nodeFeatureStore } from "./node-features.ts";
import { nodeDirectory, writeFileSafely } from "./node-files.ts";
import { nodeOutputs } from "./node-outputs.ts";
import { nodePrograms } from "./node-programs.ts";
import { readError, systemCode } from "./system-errors.ts";
import type { PretrainedOptions } from "./pretrained.ts";
import { checkDtype, pretrainedDevice, PretrainedModel, pretrainedModel, progressEvents } from "./pretrained.ts";
import { createImageSource, listFiles, listImages, openDataSet } from "./node-images.ts";
import { debug, isDebugged } from "../../utils/debug.ts";
import { nodeTimesText, profiledDevice } from "./profiled-device.ts";

export * from "../../index.ts";
export type * from "../../commands/options.generated.ts";
export type { ApiOptions, DistillWithMethod } from "./api-options.ts";
export type { NodeDeviceOptions } from "./node-device.ts";
export type { DownloadProgress } from "./hub.ts";
export { createNodeDevice } from "./node-device.ts";
export type { NodeTime, ProfiledDevice } from "./profiled-device.ts";
export { profiledDevice } from "./profiled-device.ts";
export { nodeDirectory } from "./node-files.ts";
export type { ImageInput, PixelImage, SharpImage } from "./preprocess-images.ts";
export type { PretrainedDevice, PretrainedDtype, PretrainedOptions, PretrainedProgress } from "./pretrained.ts";
export { PretrainedModel } from "./pretrained.ts";
export { createImageSource, listImages, openDataSet } from "./node-images.ts";
export type {
  CancelRunResult,
  CacheRunResult,
  CompareRunResult,
  DistillRunResult,
  EvaluateRunResult,
  ExportRunResult,
  FeaturesRunResult,
  InspectRunResult,
  Launched,
  MergeRunResult,
  ProgressEvent,
  ReportRunResult,
  RolloutRunResult,
  RunControls,
  SegmentRunResult,
  SimilarityRunResult,
  StatusRunResult,
  TaskRunResult,
};

/** This package's version. */
export const packageVersion: string = packageJson.version;

let sharedDevice: Device | undefined;

/** What the system can still give; macOS counts memory that it would free at once as taken, so half of all stands for it there. */
function availableMemory(): number {
  if (process.platform === "darwin") return totalmem() / 2;
  // Since Node 20.13; it knows the limits of containers.
  return "availableMemory" in process ? process.availableMemory() : freemem();
}

/** The device that models use unless they are given another: ONNX Runtime on all cores, in one worker. */
export function defaultDevice(): Device {
  sharedDevice ??= createNodeDevice();
  return sharedDevice;
}

export interface LoadOptions extends Omit<ReadOptions, "weightsFile"> {
  readonly device?: Device;
  /** A branch, tag or commit, where the model is named as on the hub. */
  readonly revision?: string;
  /** Told while a model is downloaded from the hub. */
  readonly download?: (progress: DownloadProgress) => void;
  /** Receives when a file is looked for, downloaded and there. */
  readonly fileStatus?: (status: FileStatus, file: string) => void;
  /** The cache folder of models from the hub; huggingface_hub's where left out. */
  readonly cacheFolder?: string;
  /** Takes models by hub name from the cache alone. */
  readonly localFilesOnly?: boolean;
  /** Stops a download at once; what was downloaded is resumed the next time. */
  readonly signal?: AbortSignal;
}

/**
 * Reads a model's definition from a directory, or from a file of weights with its config.json, if it has one, beside it.
 * Throws a UserError that names the file on whatever is missing or wrong.
 */
export async function readDefinition(directoryOrFile: string, options: LoadOptions = {}): Promise<ModelDefinition> {
  const stats = await stat(directoryOrFile).catch((error: unknown) => {
    if (["ENOENT", "ENOTDIR", "ENAMETOOLONG"].includes(systemCode(error))) return undefined;
    throw readError(directoryOrFile, error);
  });
  if (!stats) {
    if (!isHubName(directoryOrFile))
      throw new UserError(`There is no file or folder ${directoryOrFile}.`, { code: "FILE_NOT_FOUND" });
    const { revision, download: progress, warn, signal, fileStatus, cacheFolder, localFilesOnly } = options;
    const hubOptions = { revision, progress, warn, signal, fileStatus, cacheFolder, localFilesOnly };
    const snapshot = await hubSnapshot(directoryOrFile, hubOptions);
    const definition = await readDefinition(snapshot, options);
    const origin = { ...definition.origin, hub: directoryOrFile, path: directoryOrFile, commit: basename(snapshot) };
    return { ...definition, origin };
  }
  const settings = { memory: availableMemory(), ...options, device: () => options.device ?? defaultDevice() };
  if (stats.isDirectory())
    return openModel({ path: directoryOrFile, directory: nodeDirectory(directoryOrFile) }, settings);
  const folder = dirname(directoryOrFile);
  const isInner = basename(folder) === "onnx";
  const place = { path: directoryOrFile, directory: nodeDirectory(folder), file: basename(directoryOrFile) };
  return openModel(isInner ? { ...place, around: nodeDirectory(dirname(folder)) } : place, settings);
}

/**
 * Loads a vision transformer as `fromPretrained` does, with the options that commands read models by (`mean`, `std`) and a
 * device that the caller owns. Use `fromPretrained` where that is not needed.
 */
export async function loadModel(directoryOrFile: string, options: LoadOptions = {}): Promise<PretrainedModel> {
  const device = options.device ?? defaultDevice();
  return new PretrainedModel(await readDefinition(directoryOrFile, { ...options, device }), device, directoryOrFile);
}

/**
 * Loads a vision transformer, ready to run.
 * @param id a directory of transformers or timm, a file of weights (safetensors, .pth, .bin) with or without config.json
 * beside it, an ONNX file, or a model by its hub name
 * @throws a UserError that names the option or the file where something does not fit
 */
export async function fromPretrained(id: string, options: PretrainedOptions = {}): Promise<PretrainedModel> {
  const { dtype, revision, cacheDir, localFilesOnly, imageSize, numHeads, signal, onProgress, warn } = options;
  signal?.throwIfAborted();
  checkDtype(dtype);
  const device = await pretrainedDevice(options.device, defaultDevice);
  const events = onProgress && progressEvents(id, onProgress);
  const definition = await readDefinition(id, {
    device,
    revision,
    localFilesOnly,
    imageSize,
    numHeads,
    signal,
    warn,
    ...(cacheDir === undefined ? {} : { cacheFolder: resolve(cacheDir) }),
    ...(events ? { download: events.progress, fileStatus: events.fileStatus } : {}),
  });
  signal?.throwIfAborted();
  const model = await pretrainedModel(definition, device, id, dtype);
  onProgress?.({ status: "ready", model: id });
  return model;
}

/** A model that the caller has loaded, for a run on a device. Throws a UserError on options that say how to read it. */
function loadedModel(model: Model, device: Device, options: LoadRequest): Model {
  for (const name of ["imageSize", "numHeads", "revision"] as const)
    if (options[name] !== undefined)
      throw new UserError(`${name} belongs to fromPretrained where a loaded model is given, not to the run.`, {
        code: "INVALID_OPTION",
      });
  const { config, weights, origin } = model;
  const { mean = model.preprocessing.mean, std = model.preprocessing.std } = options;
  return new Model({ config, weights, origin, preprocessing: { ...model.preprocessing, mean, std } }, device);
}

const rawImage = ({ width, height, data }: RgbImage) => sharp(data, { raw: { width, height, channels: 3 } });

/** What a run notes of the machine. */
const aboutMachine = (): Environment["about"] => ({
  wecolora: packageVersion,
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
  processor: cpus()[0]?.model,
  cores: availableParallelism(),
});

export interface NodeEnvironmentOptions extends NodeDeviceOptions {
  /** Stops every session and image source once it is aborted. */
  readonly signal?: AbortSignal;
  /** Loaded models, by the names that options have for them. */
  readonly models?: ReadonlyMap<string, Model>;
}

/** What runs need, on Node. */
export function nodeEnvironment({ signal, models, ...options }: NodeEnvironmentOptions = {}): Environment & {
  tryDevice(name: DeviceName): Promise<void>;
  dispose(): Promise<void>;
} {
  const inner = createNodeDevice(options);
  const profile = isDebugged("time") ? profiledDevice(inner) : undefined;
  const runDevice = profile?.device ?? inner;
  const device = signal ? stoppable(runDevice, signal) : runDevice;
  return {
    async loadModel(path, options) {
      const loaded = models?.get(path);
      return loaded ? loadedModel(loaded, device, options) : loadModel(path, { ...options, device });
    },
    openDataSet,
    listFiles,
    openImages: listImages,
    createImageSource: (path) => (signal ? stoppableSource(createImageSource(path), signal) : createImageSource(path)),
    featureStore: nodeFeatureStore,
    directory: nodeDirectory,
    outputs: nodeOutputs((path) => (!existsSync(path) && isHubName(path) ? hubCacheFolder(process.env) : path)),
    writeFile: writeFileSafely,
    encodePng: (image) => rawImage(image).png().toBuffer(),
    encodeJpeg: (image) => rawImage(image).jpeg({ quality: 78 }).toBuffer(),
    // Loaded where something is drawn: it takes longer to read than most of the package.
    createDocument: async () => (await import("linkedom")).parseHTML("<html></html>").document,
    encodeSvg,
    availableMemory,
    programs: nodePrograms(options.threads),
    now: () => performance.now(),
    about: aboutMachine(),
    tryDevice: (name) => tryDevice(device, name),
    async dispose() {
      await device.dispose();
      if (profile) debug("time", () => nodeTimesText(profile.times()));
    },
  };
}

/** Who watches and stops a run, and models that are loaded already, by the names that its options have for them. */
export interface RunSettings extends Partial<Pick<RunContext, "listener" | "signal">> {
  readonly models?: ReadonlyMap<string, Model>;
}

interface MachineOptions {
  readonly threads?: unknown;
  readonly device?: unknown;
}

/** Threads and device to run with: those given, or those of the run that is resumed or of the plan, since they decide bits. */
async function machineOptions(options: unknown): Promise<MachineOptions> {
  const given = (options ?? {}) as MachineOptions & { readonly resume?: unknown; readonly plan?: unknown };
  if (typeof given.plan === "string") return (await planAt(nodeDirectory, given.plan)).plan.options;
  if (typeof given.resume !== "string") return given;
  const recorded = await new RunFolder(nodeDirectory(given.resume)).readConfig();
  return { threads: given.threads ?? recorded.threads, device: given.device ?? recorded.options.device };
}

/** Runs a command on this machine: with the threads and on the device that its options name, until its signal stops it. */
export async function runOnNode<Schema extends z.ZodObject, Result>(
  command: Command<Schema, Result>,
  options: z.input<Schema>,
  { listener, signal, models = new Map() }: RunSettings = {},
): Promise<Result> {
  // The command's own schema says what is wrong with these, if anything is.
  const { threads, device } = await machineOptions(options);
  const row = findDevice(device);
  const environment = nodeEnvironment({
    ...(typeof threads === "number" && threads > 0 && threads <= mostThreads ? { threads } : {}),
    device: row?.name,
    signal,
    models,
  });
  try {
    if (row?.needs !== undefined) await environment.tryDevice(row.name);
    return await runCommand(command, runContext(environment, { listener, signal }), options);
  } finally {
    await environment.dispose();
  }
}

/** A command as a function: its options, with `signal` and `onProgress` beside them. */
const callable =
  <Options extends object, Schema extends z.ZodObject, Result>(command: Command<Schema, Result>) =>
  async ({ signal, onProgress, ...given }: ApiOptions<Options> & RunControls): Promise<Result> => {
    const { options, models } = commandOptions(given, command.schema.shape);
    return runOnNode(command, options as z.input<Schema>, {
      signal,
      models,
      ...(onProgress ? { listener: listenerOf(onProgress) } : {}),
    });
  };

/** A command whose work may be handed over to a cluster: it gives its result where it runs here. */
export interface Divided<Options extends object, Result> {
  (options: ApiOptions<Options> & RunControls & { readonly launcher?: "local" }): Promise<Result>;
  (options: ApiOptions<Options> & RunControls): Promise<Result | Launched>;
}

const runDistill = callable<object, typeof distillCommand.schema, DistillRunResult>(distillCommand);

/**
 * Distils a teacher with a folder of images into a run folder, or resumes a run (`{ resume: folder }`): what
 * `wecolora distill` does. `method` may be a method of one's own (`defineMethod`), whose options stand beside the others.
 */
export function distill(options: ApiOptions<DistillOptions> & RunControls): Promise<DistillRunResult>;
export function distill(options: ResumeOptions & RunControls): Promise<DistillRunResult>;
export function distill<Own extends OptionShape>(
  options: DistillWithMethod<Own> & RunControls,
): Promise<DistillRunResult>;
export function distill(options: object): Promise<DistillRunResult> {
  return runDistill(options);
}

/** Caches a teacher's features of training crops for `distill` (`cachedFeatures`): what `wecolora cache` does. */
export const cacheFeatures = callable(cacheCommand) as Divided<CacheOptions, CacheRunResult>;

/** Runs a grid of distillations and tables what they give: what `wecolora compare` does. */
export const compare = callable(compareCommand) as Divided<CompareOptions, CompareRunResult>;

/** Writes a model in other formats and measures each: what `wecolora export` does. */
export const exportModel = callable<ExportOptions, typeof exportCommand.schema, ExportRunResult>(exportCommand);

/** Makes the report of a run anew, or one page that compares runs: what `wecolora report` does. */
export const report = callable<ReportOptions, typeof reportCommand.schema, ReportRunResult>(reportCommand);

/** Draws where models look in images: what `wecolora rollout` does. */
export const rollout = callable<RolloutOptions, typeof rolloutCommand.schema, RolloutRunResult>(rolloutCommand);

/** What a model is and, with `data`, how much its blocks matter for these images: what `wecolora inspect` does. */
export const inspect = callable(inspectCommand) as Divided<InspectOptions, InspectRunResult>;

/** Trains decoders on models' patch tokens and evaluates their masks: what `wecolora segment` does. */
export const segment = callable<SegmentOptions, typeof segmentCommand.schema, SegmentRunResult>(segmentCommand);

/** Compares a student's blocks with a teacher's: what `wecolora similarity` does. */
export const similarity = callable<SimilarityOptions, typeof similarityCommand.schema, SimilarityRunResult>(
  similarityCommand,
);

/** Evaluates a model on a folder of images: what `wecolora evaluate` does. */
export const evaluate = callable(evaluateCommand) as Divided<EvaluateOptions, EvaluateRunResult>;

/** Writes the features of a folder of images: what `wecolora features` does. */
export const features = callable(featuresCommand) as Divided<FeaturesOptions, FeaturesRunResult>;

/** Runs one task of a plan: what `wecolora task` does. */
export const runTask = callable<TaskOptions, typeof taskCommand.schema, TaskRunResult>(taskCommand);

/** Joins the results of a plan's tasks: what `wecolora merge` does. */
export const mergeTasks = callable<MergeOptions, typeof mergeCommand.schema, MergeRunResult>(mergeCommand);

/** Where the tasks of an output stand: what `wecolora status` does. */
export const taskStatus = callable<StatusOptions, typeof statusCommand.schema, StatusRunResult>(statusCommand);

/** Ends the tasks of an output: what `wecolora cancel` does. */
export const cancelTasks = callable<CancelOptions, typeof cancelCommand.schema, CancelRunResult>(cancelCommand);

/** Writes a model into a directory (made where it is missing). Existing files of the same names are replaced. */
export async function saveModel(
  model: ModelDefinition,
  directory: string,
  { warn, ...options }: SaveOptions & { readonly warn?: (message: string) => void } = {},
): Promise<void> {
  await writeModel(model, nodeDirectory(directory), options, warn);
}
