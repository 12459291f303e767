// The page's end: the library as it is in a worker.
import type { ProgressEvent } from "../../context/progress.ts";
import type { Directory } from "../../files/storage.ts";
import type { ForwardOptions, ForwardResult } from "../../models/model.ts";
import { outputError, RunError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { Channel } from "./channel.ts";
import type { MessageEnd } from "./channel.ts";
import { encodeSvgOnPage } from "./drawing.ts";
import { WebOutput } from "./output.ts";
import type { ModelFacts } from "./serve.ts";
import { filesOf, partsOf } from "./web-files.ts";
import type { WebImage } from "./web-images.ts";
import type { WebModel, WebModelInput, WebPretrainedOptions, WebProgress } from "./web-models.ts";
import type { FrontierPoint } from "../../students/search/frontier.ts";
import type { AttentionMaps, StudentSize } from "./insights.ts";
import type {
  AnyModel,
  WebAttentionOptions,
  WebPredictOptions,
  WebReport,
  WebReportOptions,
  WebDistillOptions,
  WebDistillResult,
  Wecolora,
  WebEvaluateOptions,
  WebEvaluateResult,
  WebExportOptions,
  WebExportResult,
  WebFeaturesOptions,
  WebFeaturesResult,
} from "./local-wecolora.ts";

/** A folder that a run wrote in the worker's memory; it is only read. */
function remoteDirectory(channel: Channel, path: string): Directory {
  const at = (prefix: string): Directory => {
    const inside = (entry: string) => partsOf(`${prefix}/${entry}`).join("/");
    const describe = (entry: string) => [path, inside(entry)].filter(Boolean).join("/");
    const refuse = () => Promise.reject(outputError(`${path} belongs to the run that wrote it.`));
    return {
      describe,
      async open(entry) {
        const name = inside(entry);
        const size = await channel.call<number | undefined>("size", [path, name]);
        if (size === undefined) return undefined;
        return {
          name: describe(entry),
          size,
          readInto: async (offset, target) =>
            target.set(await channel.call<Uint8Array>("read", [path, name, offset, target.byteLength])),
          close: async () => undefined,
        };
      },
      list: (entry = "") => channel.call<string[]>("list", [path, inside(entry)]),
      below: (entry) => at(inside(entry)),
      write: refuse,
      append: refuse,
      remove: refuse,
      removeEmpty: refuse,
    };
  };
  return at("");
}

/** A model in the worker. */
class RemoteModel implements WebModel {
  readonly id: number;
  readonly source: string;
  readonly config: WebModel["config"];
  readonly preprocessing: WebModel["preprocessing"];
  readonly parameters: number;
  readonly bytes: number | undefined;
  readonly channel: Channel;

  constructor(channel: Channel, { id, source, config, preprocessing, parameters, bytes }: ModelFacts) {
    this.channel = channel;
    this.id = id;
    this.source = source;
    this.config = config;
    this.preprocessing = preprocessing;
    this.parameters = parameters;
    this.bytes = bytes;
  }

  preprocess(
    images: WebImage | readonly WebImage[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<FloatTensor> {
    const list = Array.isArray(images) ? (images as readonly WebImage[]) : [images as WebImage];
    return this.channel.call("preprocess", [this.id, list.map(sendable)], { signal });
  }

  forward(pixels: FloatTensor, options: ForwardOptions = {}): Promise<ForwardResult> {
    return this.channel.call("forward", [this.id, pixels, options]);
  }

  dispose(): Promise<void> {
    return this.channel.call("disposeModel", [this.id]);
  }
}

/** What can travel: models and outputs by their names, addresses as texts, lists of files with their paths. */
function sendable(value: unknown): unknown {
  if (value instanceof RemoteModel) return { $model: value.id };
  if (value instanceof WebOutput) return { $output: value.path };
  if (value instanceof URL) return value.href;
  const files = filesOf(value);
  if (!files?.some((file) => file.webkitRelativePath)) return files ? [...files] : value;
  // A file's path in its folder does not travel with it everywhere.
  const [{ webkitRelativePath: first }] = files;
  const top = first.split("/")[0];
  const inOne = files.every((file) => file.webkitRelativePath.startsWith(`${top}/`));
  const paths = files.map((file) => {
    const path = file.webkitRelativePath || file.name;
    return [inOne ? path.slice(top.length + 1) : path, file] as const;
  });
  return { ...(inOne ? { name: top } : {}), files: new Map(paths) };
}

interface Watched {
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

class RemoteWecolora implements Wecolora {
  private readonly channel: Channel;
  private readonly end: MessageEnd;

  constructor(end: MessageEnd) {
    this.end = end;
    this.channel = new Channel(end, { encodeSvg: (_, svg: string) => encodeSvgOnPage(svg) });
    // A script that can't be loaded, or a fault that nothing catches.
    if (typeof Worker === "function" && end instanceof Worker)
      end.addEventListener("error", ({ message }) =>
        this.channel.fail(new RunError(`The worker failed: ${message || "its script can't be loaded"}.`)),
      );
  }

  async fromPretrained(
    input: WebModelInput | WebOutput,
    { signal, onProgress, warn, ...options }: WebPretrainedOptions = {},
  ): Promise<WebModel> {
    const facts = await this.channel.call<ModelFacts>("fromPretrained", [sendable(input), options], {
      signal,
      onReport(event) {
        const { progress, warning } = event as { readonly progress?: WebProgress; readonly warning?: string };
        if (progress) onProgress?.(progress);
        if (warning !== undefined) warn?.(warning);
      },
    });
    return new RemoteModel(this.channel, facts);
  }

  private async run<Result>(method: string, { signal, onProgress, ...given }: Watched): Promise<Result> {
    const options = Object.fromEntries(
      Object.entries(given).map(([name, value]: [string, unknown]) => [
        name,
        Array.isArray(value) && (name === "model" || name === "images") && !filesOf(value)
          ? value.map(sendable)
          : sendable(value),
      ]),
    );
    const onReport = onProgress && ((event: unknown) => onProgress(event as ProgressEvent));
    const result = await this.channel.call<object>(method, [options], { signal, onReport });
    if (Array.isArray(result)) return result as Result;
    const received = Object.entries(result).map(([name, value]) => [name, this.received(value)]);
    return Object.fromEntries(received) as Result;
  }

  private received(value: unknown): unknown {
    if (typeof value !== "object" || value === null || !("$output" in value)) return value;
    const path = value.$output as string;
    return new WebOutput(path, remoteDirectory(this.channel, path));
  }

  distill(options: WebDistillOptions): Promise<WebDistillResult> {
    return this.run("distill", options);
  }

  evaluate(options: WebEvaluateOptions): Promise<WebEvaluateResult> {
    return this.run("evaluate", options);
  }

  features(options: WebFeaturesOptions): Promise<WebFeaturesResult> {
    return this.run("features", options);
  }

  exportModel(options: WebExportOptions): Promise<WebExportResult> {
    return this.run("exportModel", options);
  }

  sizes(teacher: AnyModel): Promise<StudentSize[]> {
    return this.channel.call("sizes", [sendable(teacher)]);
  }

  predict(options: WebPredictOptions): Promise<FrontierPoint[]> {
    return this.run("predict", options);
  }

  report(options: WebReportOptions): Promise<WebReport> {
    return this.run("report", options);
  }

  attention({ models, ...options }: WebAttentionOptions): Promise<AttentionMaps[]> {
    const named = Object.entries(models).map(([name, model]) => [name, sendable(model)]);
    return this.run("attention", { ...options, models: Object.fromEntries(named) } as Watched);
  }

  device(onWarning?: (message: string) => void): Promise<{ name: string; threads?: number }> {
    return this.channel.call("device", [], { onReport: (event) => onWarning?.(String(event)) });
  }

  /** Ends the worker. */
  async dispose(): Promise<void> {
    this.channel.fail(new RunError("The worker has ended."));
    this.end.terminate?.();
  }
}

/**
 * The library in a worker whose script calls `serveWecolora`.
 * @param worker the worker: `new Worker(new URL("./worker.ts", import.meta.url), { type: "module" })`
 */
export const connectWecolora = (worker: MessageEnd): Wecolora => new RemoteWecolora(worker);
