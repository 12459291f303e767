// The library in this thread: commands run as they do on Node, over mounted files and onnxruntime-web.
import type { z } from "zod";
import type { Command } from "../../commands/command.ts";
import { runCommand } from "../../commands/command.ts";
import type { DistillRunResult } from "../../commands/distill.ts";
import { command as distillCommand } from "../../commands/distill.ts";
import type { EvaluateRunResult } from "../../commands/evaluate.ts";
import { command as evaluateCommand } from "../../commands/evaluate.ts";
import { isLaunched } from "../../commands/launch.ts";
import type { ExportRunResult } from "../../commands/export.ts";
import { command as exportCommand } from "../../commands/export.ts";
import { command as featuresCommand, featureMetadataSchema } from "../../commands/features.ts";
import type {
  DistillOptions,
  EvaluateOptions,
  ExportOptions,
  FeaturesOptions,
} from "../../commands/options.generated.ts";
import { readSafetensors } from "../../checkpoints/safetensors-file.ts";
import type { RunControls } from "../../context/progress.ts";
import { listenerOf } from "../../context/progress.ts";
import type { RunContext } from "../../context/run-context.ts";
import { runContext } from "../../context/run-context.ts";
import type { Decode } from "../../data/image-reader.ts";
import { proceduralCount } from "../../data/procedural/name.ts";
import type { Model } from "../../models/model.ts";
import type { Device } from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import { required } from "../../utils/required.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { decodeImage } from "./decode-image.ts";
import type { EncodeSvg, ImageEncoder } from "./drawing.ts";
import { canvasEncoder, documentMaker, encodeSvgOnPage } from "./drawing.ts";
import { memoryFeatureStore, webEnvironment } from "./web-environment.ts";
import type { HubOptions } from "./hub.ts";
import type { RunReport } from "../../report/run-report.ts";
import { verdictsOf } from "../../report/run-report.ts";
import type { FrontierPoint } from "../../students/search/frontier.ts";
import type { AttentionMaps, StudentSize } from "./insights.ts";
import { attentionMaps, predictStudents, reportOfRun, studentSizes } from "./insights.ts";
import type { OutputTarget } from "./output.ts";
import { targetDirectory, WebOutput } from "./output.ts";
import { checkMemory, mostWasmBytes } from "./memory.ts";
import { memoryDirectory } from "../../files/memory-directory.ts";
import type { RuntimeSource, WebDeviceOption } from "./web-device.ts";
import { hasFloat64, openWebDevice } from "./web-device.ts";
import { Mounts } from "./web-files.ts";
import type { WebImages } from "./web-inputs.ts";
import { imagesDirectory } from "./web-inputs.ts";
import type { WebModel, WebModelInput, WebPretrainedOptions } from "./web-models.ts";
import { LocalModel, mountModel, readMounted } from "./web-models.ts";

/** What `createWecolora` takes. */
export interface WecoloraOptions {
  /**
   * onnxruntime-web, or what loads it for a device: in a worker
   * `(device) => device === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")`.
   */
  readonly runtime: RuntimeSource;
  /**
   * Where graphs run: "auto" (WebGPU where it gives the processor's numbers, else WASM), "cpu" or "wasm", or "webgpu"
   * (default: "auto").
   */
  readonly device?: WebDeviceOption;
  /** Threads of WASM (default: the machine's cores, at most 16; 1 where the page is not cross-origin isolated). */
  readonly threads?: number;
  /** Decodes images where there is no browser to do it (Node, Deno). */
  readonly decode?: Decode;
  /** Writes images where there is no canvas. */
  readonly encoder?: ImageEncoder;
  /** Draws charts as PNG where there is no page. */
  readonly encodeSvg?: EncodeSvg;
  /** The hub's address and the name of its cache. */
  readonly hub?: Pick<HubOptions, "endpoint" | "cacheName">;
}

/** A model in any form. */
export type AnyModel = WebModel | WebModelInput | WebOutput;

/** Where a run writes (default: memory), besides what watches and stops it. */
export interface OutputControls extends RunControls {
  /** A folder of the user's (`showDirectoryPicker`), or of the origin's private file system, or a Directory. */
  readonly out?: OutputTarget;
}

type Common = "device" | "threads" | "out" | "data" | "teacher" | "model";
/** Who runs work as tasks: a page runs all of its work itself. */
type OfLaunchers = "launcher" | "tasks" | "maxParallel" | "retries" | "slurm" | "kubernetes";

/** Options of `distill`: the command line's, with the teacher and the images as a page has them. */
export interface WebDistillOptions extends Omit<DistillOptions, Common>, OutputControls {
  readonly teacher: AnyModel;
  readonly images: WebImages;
}

/** Options of `evaluate`. */
export interface WebEvaluateOptions extends Omit<EvaluateOptions, Common | OfLaunchers>, OutputControls {
  /** The model, or several. */
  readonly model: AnyModel | readonly (WebModel | WebOutput)[];
  /** For fidelity. */
  readonly teacher?: AnyModel;
  readonly images: WebImages;
}

/** Options of `features`. */
export interface WebFeaturesOptions extends Omit<FeaturesOptions, Common | OfLaunchers>, RunControls {
  readonly model: AnyModel;
  readonly images: WebImages;
}

/** Options of `exportModel`. */
export interface WebExportOptions extends Omit<ExportOptions, Common | "images">, OutputControls {
  /** A model, or what `distill` gave. */
  readonly model: AnyModel;
  /** Images to compare on (default: the run's own). 4-bit weights are rounded without images here. */
  readonly images?: WebImages;
}

export interface WebDistillResult extends Omit<DistillRunResult, "out" | "student" | "report"> {
  /** The run's folder: student, report, log, settings. */
  readonly output: WebOutput;
  /** The student's folder, which `fromPretrained` takes. */
  readonly student: WebOutput;
}

export interface WebEvaluateResult extends EvaluateRunResult {
  /** What was written, where `out` was given. */
  readonly output?: WebOutput;
}

export interface WebFeaturesResult {
  /** `[n, D]`, a row an image. */
  readonly features: FloatTensor;
  /** The images' names, in the order of the rows. */
  readonly names: readonly string[];
  readonly skipped: number;
}

export interface WebExportResult extends ExportRunResult {
  readonly output: WebOutput;
}

/** Options of `predict`. */
export interface WebPredictOptions extends RunControls {
  readonly teacher: AnyModel;
  readonly images: WebImages;
  /** Numbers of whole blocks whose weights students have (default: six, over the whole range). */
  readonly sizes?: readonly number[];
}

/** What a run's report shows. */
export interface WebReport extends RunReport {
  /** The result in a sentence; another one where a search chose an export. */
  readonly verdicts: readonly string[];
}

/** Options of `report`. */
export interface WebReportOptions extends RunControls {
  /** What `distill` wrote. */
  readonly run: WebOutput;
  /** The run's teacher, so that it is not read again. */
  readonly teacher?: AnyModel;
}

/** Options of `attention`. */
export interface WebAttentionOptions extends RunControls {
  /** Models by the names that results have for them. */
  readonly models: Readonly<Record<string, AnyModel>>;
  readonly images: WebImages;
}

/** What the library does, in this thread or in a worker. */
export interface Wecolora {
  /** Loads a vision transformer, ready to run. Throws a UserError that names the file where something does not fit. */
  fromPretrained(model: WebModelInput | WebOutput, options?: WebPretrainedOptions): Promise<WebModel>;
  /** Distils a teacher with images: what `wecolora distill` does. */
  distill(options: WebDistillOptions): Promise<WebDistillResult>;
  /** Evaluates models on images: what `wecolora evaluate` does. */
  evaluate(options: WebEvaluateOptions): Promise<WebEvaluateResult>;
  /** A feature vector an image: what `wecolora features` computes. */
  features(options: WebFeaturesOptions): Promise<WebFeaturesResult>;
  /** Writes a model in other formats and measures each: what `wecolora export` does. */
  exportModel(options: WebExportOptions): Promise<WebExportResult>;
  /** The sizes that students of a teacher can have. Nothing is run. */
  sizes(teacher: AnyModel): Promise<StudentSize[]>;
  /** What students of some sizes cost and give up, measured on a few of the images. */
  predict(options: WebPredictOptions): Promise<FrontierPoint[]>;
  /** Makes a run's report page anew, and gives what it is made of. */
  report(options: WebReportOptions): Promise<WebReport>;
  /** Where models look in images. */
  attention(options: WebAttentionOptions): Promise<AttentionMaps[]>;
  /** Which device graphs run on, once it was tried: "cpu" with its threads, or "webgpu". */
  device(onWarning?: (message: string) => void): Promise<{ readonly name: string; readonly threads?: number }>;
  /** Frees all memory that is held; nothing can be run afterwards. */
  dispose(): Promise<void>;
}

/** Options of all functions that are no option of a command. */
interface Given extends OutputControls {
  readonly teacher?: AnyModel;
  readonly model?: AnyModel | readonly (WebModel | WebOutput)[];
  readonly images?: WebImages;
}

class LocalWecolora implements Wecolora {
  private readonly options: WecoloraOptions;
  private readonly mounts = new Mounts();
  private readonly featureStore = memoryFeatureStore();
  private readonly locked = new Set<string>();
  private opened: Promise<Device> | undefined;
  private fitting: Promise<Device> | undefined;
  private readonly warnings: string[] = [];
  private outputs = 0;

  constructor(options: WecoloraOptions) {
    this.options = options;
  }

  private open(): Promise<Device> {
    const { runtime, device = "auto", threads } = this.options;
    this.opened ??= openWebDevice(runtime, device, { threads, warn: (message) => this.warnings.push(message) });
    this.opened.catch(() => (this.opened = undefined));
    return this.opened;
  }

  /** The device for closed form, training and exports: WASM where the other can't add up in float64. */
  private async openForFitting(warn: (message: string) => void): Promise<Device> {
    const device = await this.open();
    if (device.name !== "webgpu") return device;
    this.fitting ??= hasFloat64(device).then((has) => {
      if (has) return device;
      const { runtime, threads } = this.options;
      return openWebDevice(runtime, "cpu", { threads, warn });
    });
    const fitting = await this.fitting;
    if (fitting !== device)
      warn(
        `This runs on WASM (${fitting.threads} threads): WebGPU's build of ONNX Runtime lacks types that making and exporting students need.`,
      );
    return fitting;
  }

  async device(onWarning?: (message: string) => void) {
    const { name = "cpu", threads } = await this.open();
    for (const warning of this.warnings.splice(0)) onWarning?.(warning);
    return { name, ...(threads === undefined ? {} : { threads }) };
  }

  private get decode(): Decode {
    return this.options.decode ?? decodeImage;
  }

  async fromPretrained(input: WebModelInput | WebOutput, options: WebPretrainedOptions = {}): Promise<LocalModel> {
    const { signal, onProgress, warn, revision, localFilesOnly, imageSize, numHeads } = options;
    signal?.throwIfAborted();
    const device = await this.open();
    const source = sourceOf(input);
    const report = (status: "initiate" | "download" | "done", file: string) =>
      onProgress?.({ status, name: source, file });
    const { path, hub } =
      input instanceof WebOutput
        ? { path: input.path }
        : await mountModel({ mounts: this.mounts, hub: this.options.hub ?? {} }, input, {
            revision,
            localFilesOnly,
            signal,
            warn,
            fileStatus: report,
            progress: ({ file, done, total }) =>
              onProgress?.({
                status: "progress",
                name: source,
                file,
                loaded: done,
                total,
                progress: total > 0 ? (100 * done) / total : 100,
              }),
          });
    const reading = { imageSize, numHeads, warn, memory: mostWasmBytes, device: () => device };
    const definition = await readMounted(this.mounts, path, reading);
    signal?.throwIfAborted();
    // Runs know a model of the hub by its name there, which its card tells.
    const named = hub === undefined ? definition : { ...definition, origin: { ...definition.origin, hub, path: hub } };
    const model = new LocalModel(named, device, { source: hub ?? path, path: hub ?? path, decode: this.decode });
    onProgress?.({ status: "ready", model: source });
    return model;
  }

  /** The path of a model in any form, and the model where it is loaded. */
  private async pathOf(
    model: AnyModel,
    { signal }: RunControls,
    models: Map<string, Model>,
    loading: LocalModel[],
  ): Promise<string> {
    if (model instanceof WebOutput) return model.path;
    if (model instanceof LocalModel) {
      const other = models.get(model.path);
      if (other && other !== model)
        throw new UserError(`Two different models that were loaded from ${model.path} can't be told apart in one run.`);
      models.set(model.path, model);
      return model.path;
    }
    if (isWebModel(model)) throw new UserError("This model belongs to another worker. Load it where it is to be used.");
    const loaded = await this.fromPretrained(model, { signal });
    loading.push(loaded);
    models.set(loaded.path, loaded);
    return loaded.path;
  }

  /** Where images stand, for commands; procedural ones have no files. */
  private async mountImages(images: WebImages, signal?: AbortSignal): Promise<string> {
    if (typeof images === "string" && proceduralCount(images) !== undefined) return images;
    const { name, directory, file } = await imagesDirectory(images, signal);
    const mounted = this.mounts.add(name, directory);
    return file === undefined ? mounted : `${mounted}/${file}`;
  }

  /** Runs work over what was given: models and images by paths of mounted files, and the environment. */
  private async within<Result>(
    { images, signal, onProgress }: Pick<Given, "images" | "signal" | "onProgress">,
    work: (at: {
      readonly context: RunContext;
      readonly device: Device;
      /** Where the images stand. */
      readonly data: string | undefined;
      pathOf(model: AnyModel): Promise<string>;
      modelOf(model: AnyModel): Promise<Model>;
      /** Those that were asked for, by their paths. */
      readonly models: ReadonlyMap<string, Model>;
    }) => Promise<Result>,
    fits = false,
  ): Promise<Result> {
    signal?.throwIfAborted();
    const listener = onProgress ? listenerOf(onProgress) : {};
    const warn = (message: string) => listener.warn?.(message);
    const device = await (fits ? this.openForFitting(warn) : this.open());
    const models = new Map<string, Model>();
    const loading: LocalModel[] = [];
    const pathOf = (one: AnyModel) => this.pathOf(one, { signal }, models, loading);
    const data = images === undefined ? undefined : await this.mountImages(images, signal);
    try {
      for (const warning of this.warnings.splice(0)) warn(warning);
      const environment = await this.environment(device, models, signal);
      const context = runContext(environment, { listener, signal });
      const modelOf = async (one: AnyModel) => environment.loadModel(await pathOf(one), { signal });
      return await work({ context, device, data, pathOf, modelOf, models });
    } finally {
      for (const one of loading) await one.dispose();
      await device.trim();
    }
  }

  /** Runs a command; `writes` says whether it needs an output: a folder (""), or a file of that name in one. */
  private run<Schema extends z.ZodObject, Result>(
    command: Command<Schema, Result>,
    given: Given,
    writes: string | undefined,
  ): Promise<{ readonly result: Result; readonly path: string; readonly output: WebOutput }> {
    const fits = command.name === distillCommand.name || command.name === exportCommand.name;
    return this.within(
      given,
      async ({ context, device, data, pathOf, models }) => {
        const { teacher, model, images: _, out, signal: __, onProgress: ___, ...commandOptions } = given;
        const isList = (value: Given["model"]): value is readonly (WebModel | WebOutput)[] =>
          Array.isArray(value) && value.some((one) => one instanceof WebOutput || isWebModel(one));
        const target = out === undefined ? memoryDirectory(new Map(), "output") : targetDirectory(out);
        // Outputs stay mounted: later runs read them.
        const root =
          out === undefined && writes === undefined ? undefined : this.mounts.add(`run-${++this.outputs}`, target);
        const path = writes ? `${root}/${writes}` : (root ?? "");
        const paths = {
          ...(teacher === undefined ? {} : { teacher: await pathOf(teacher) }),
          ...(model === undefined
            ? {}
            : { model: isList(model) ? await Promise.all(model.map(pathOf)) : await pathOf(model as AnyModel) }),
          ...(data === undefined ? {} : { data }),
          ...(root === undefined ? {} : { out: path }),
        };
        if (command.name === distillCommand.name) for (const [name, loaded] of models) checkMemory(loaded, name);
        const name = device.name === "webgpu" ? "webgpu" : "cpu";
        const options = {
          ...commandOptions,
          ...paths,
          device: name,
          ...(device.threads ? { threads: device.threads } : {}),
        };
        const result = await runCommand(command, context, options as z.input<Schema>);
        return { result, path, output: new WebOutput(path, this.mounts.directory(path)) };
      },
      fits,
    );
  }

  private async environment(device: Device, models: ReadonlyMap<string, Model>, signal?: AbortSignal) {
    const { encoder = canvasEncoder, encodeSvg = encodeSvgOnPage, hub = {} } = this.options;
    return webEnvironment({
      mounts: this.mounts,
      device,
      decode: this.decode,
      encoder,
      encodeSvg,
      createDocument: documentMaker(),
      hub,
      features: this.featureStore,
      locked: this.locked,
      models,
      signal,
    });
  }

  async distill(options: WebDistillOptions): Promise<WebDistillResult> {
    const { result, output } = await this.run<typeof distillCommand.schema, DistillRunResult>(
      distillCommand,
      options,
      "",
    );
    const { out: _, student: __, report: ___, ...rest } = result;
    return { ...rest, output, student: output.below("student") };
  }

  async evaluate(options: WebEvaluateOptions): Promise<WebEvaluateResult> {
    const { result, output } = await this.run(evaluateCommand, options, undefined);
    if (isLaunched(result)) throw new Error("work can't be handed over here");
    return { ...result, ...(options.out === undefined ? {} : { output }) };
  }

  async features(options: WebFeaturesOptions): Promise<WebFeaturesResult> {
    const { result, path } = await this.run(featuresCommand, options, "features.safetensors");
    if (isLaunched(result)) throw new Error("work can't be handed over here");
    const { directory, name } = this.mounts.split(path);
    const file = await directory.open(name);
    if (!file) throw new Error("the features were not written");
    const { tensors, metadata } = await readSafetensors(file);
    await directory.remove(name);
    const { names } = featureMetadataSchema.parse(metadata);
    const features = required(tensors, "features") as FloatTensor;
    return { features, names: JSON.parse(names) as string[], skipped: result.skipped };
  }

  async exportModel(options: WebExportOptions): Promise<WebExportResult> {
    const { result, output } = await this.run(exportCommand, options, "");
    return { ...result, output };
  }

  async sizes(model: AnyModel): Promise<StudentSize[]> {
    return this.within({}, async ({ modelOf }) => studentSizes(await modelOf(model)));
  }

  async predict({ teacher, sizes, ...controls }: WebPredictOptions): Promise<FrontierPoint[]> {
    return this.within(
      controls,
      async ({ context, data = "", modelOf }) => {
        const model = await modelOf(teacher);
        return predictStudents(context, model, data, sizes).finally(() => model.dispose());
      },
      true,
    );
  }

  async report({ run, teacher, ...controls }: WebReportOptions): Promise<WebReport> {
    return this.within(controls, async ({ context, pathOf }) => {
      // Models and images that the run was made with are mounted still; a teacher that is loaded is not read again.
      if (teacher !== undefined) await pathOf(teacher);
      const report = await reportOfRun(context, run.path);
      return { ...report, verdicts: verdictsOf(report) };
    });
  }

  async attention({ models, ...controls }: WebAttentionOptions): Promise<AttentionMaps[]> {
    return this.within(controls, async ({ context, data = "", modelOf }) => {
      const loaded = new Map<string, Model>();
      for (const [name, model] of Object.entries(models)) loaded.set(name, await modelOf(model));
      const dispose = () => Promise.all([...loaded.values()].map((model) => model.dispose()));
      return attentionMaps(context, loaded, data).finally(dispose);
    });
  }

  async dispose(): Promise<void> {
    for (const opened of [this.opened, this.fitting]) await (await opened?.catch(() => undefined))?.dispose();
  }
}

/** What a model's progress and messages call it. */
function sourceOf(input: WebModelInput | WebOutput): string {
  if (input instanceof WebOutput) return input.path;
  if (typeof input === "string" || input instanceof URL) return String(input);
  return "name" in input && typeof input.name === "string" ? input.name : "model";
}

/** Whether something is a model that was loaded. */
export const isWebModel = (value: unknown): value is WebModel =>
  typeof value === "object" && value !== null && "forward" in value && "preprocess" in value;

/** The library over a handed-in onnxruntime-web, in this thread: for workers, Node, Deno and Electron. */
export const createWecolora = (options: WecoloraOptions): Wecolora => new LocalWecolora(options);
