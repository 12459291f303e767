// The worker's end: the library in this thread, answering the page's calls.
import type { Tensor } from "../../utils/tensor.ts";
import type { ForwardOptions } from "../../models/model.ts";
import type { MessageEnd } from "./channel.ts";
import { Channel, Moved } from "./channel.ts";
import { WebOutput } from "./output.ts";
import type { WebImage } from "./web-images.ts";
import type { WebModel } from "./web-models.ts";
import type { WebFeaturesResult, Wecolora, WecoloraOptions } from "./local-wecolora.ts";
import { createWecolora } from "./local-wecolora.ts";

/** A model or an output of the worker's, as the page names it. */
export type Named = { readonly $model: number } | { readonly $output: string };

/** What a page knows of a loaded model. */
export interface ModelFacts extends Pick<WebModel, "source" | "config" | "preprocessing" | "parameters" | "bytes"> {
  readonly id: number;
}

/** Memory of tensors that nobody else looks into. */
function memoryOf(tensors: readonly (Tensor | undefined)[]): ArrayBuffer[] {
  const buffers = tensors.flatMap((tensor) => {
    const buffer = tensor?.data.buffer;
    return buffer instanceof ArrayBuffer && tensor?.data.byteLength === buffer.byteLength ? [buffer] : [];
  });
  return [...new Set(buffers)];
}

/** A worker's scope; TypeScript's library takes it for a page's. */
function ownScope(): MessageEnd {
  const scope: unknown = globalThis;
  return scope as MessageEnd;
}

/**
 * Serves the library to the page that started this worker.
 * @param options as `createWecolora` takes them
 * @param end where messages come from: this worker's own scope where left out
 */
export function serveWecolora(options: WecoloraOptions, end: MessageEnd = ownScope()): void {
  const models = new Map<number, WebModel>();
  const outputs = new Map<string, WebOutput>();
  let nextModel = 0;
  const channel: Channel = new Channel(end, methods());
  const library: Wecolora = createWecolora({
    // Only a page can draw an SVG.
    encodeSvg: (svg) => channel.call<Uint8Array>("encodeSvg", [svg]),
    ...options,
  });

  const modelOf = (id: number): WebModel => {
    const model = models.get(id);
    if (!model) throw new Error("this model was disposed of");
    return model;
  };
  const outputOf = (path: string): WebOutput => {
    const output = outputs.get(path);
    if (!output) throw new Error(`there is no output ${path}`);
    return output;
  };
  /** Names that stand for what this thread holds, replaced by it. */
  const resolved = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if ("$model" in value) return modelOf(value.$model as number);
    if ("$output" in value) return outputOf(value.$output as string);
    return value;
  };
  const inputs = (given: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(given).map(([name, value]) => [
        name,
        Array.isArray(value) && name === "model" ? value.map(resolved) : resolved(value),
      ]),
    );
  /** Outputs in a result, replaced by names. */
  const sent = (result: object): object => {
    if (Array.isArray(result)) return result;
    return Object.fromEntries(
      Object.entries(result).map(([name, value]: [string, unknown]) => {
        if (!(value instanceof WebOutput)) return [name, value];
        outputs.set(value.path, value);
        return [name, { $output: value.path }];
      }),
    );
  };

  function methods() {
    const command =
      (name: "distill" | "evaluate" | "exportModel" | "predict" | "report" | "attention") =>
      async ({ signal, report }: Controls, given: Record<string, unknown>) => {
        const call = library[name].bind(library) as (options: object) => Promise<object>;
        return sent(await call({ ...inputs(given), signal, onProgress: report }));
      };
    return {
      async fromPretrained({ signal, report }: Controls, input: unknown, more: object): Promise<ModelFacts> {
        const model = await library.fromPretrained(resolved(input) as WebOutput, {
          ...more,
          signal,
          onProgress: (progress) => report({ progress }),
          warn: (warning) => report({ warning }),
        });
        const id = nextModel++;
        models.set(id, model);
        const { source, config, preprocessing, parameters, bytes } = model;
        return { id, source, config, preprocessing, parameters, bytes };
      },
      async preprocess({ signal }: Controls, id: number, images: readonly WebImage[]) {
        const pixels = await modelOf(id).preprocess(images, { signal });
        return new Moved(pixels, memoryOf([pixels]));
      },
      async forward(_: Controls, id: number, pixels: Parameters<WebModel["forward"]>[0], more: ForwardOptions) {
        const result = await modelOf(id).forward(pixels, more);
        const { hiddenStates = [], ...single } = result;
        return new Moved(result, memoryOf([...Object.values(single), ...hiddenStates]));
      },
      async disposeModel(_: Controls, id: number) {
        await models.get(id)?.dispose();
        models.delete(id);
      },
      distill: command("distill"),
      evaluate: command("evaluate"),
      exportModel: command("exportModel"),
      async features({ signal, report }: Controls, given: Record<string, unknown>) {
        const call = library.features.bind(library) as (options: object) => Promise<WebFeaturesResult>;
        const result = await call({ ...inputs(given), signal, onProgress: report });
        return new Moved(result, memoryOf([result.features]));
      },
      sizes: (_: Controls, teacher: unknown) => library.sizes(resolved(teacher) as WebModel),
      predict: command("predict"),
      report: command("report"),
      attention: (controls: Controls, { models: named, ...given }: { models: object }) =>
        command("attention")(controls, { ...given, models: inputs({ ...named }) }),
      list: (_: Controls, path: string, entry: string) => outputOf(path).directory.list(entry),
      async size(_: Controls, path: string, entry: string) {
        const file = await outputOf(path).directory.open(entry);
        await file?.close();
        return file?.size;
      },
      async read(_: Controls, path: string, entry: string, offset: number, length: number) {
        const file = await outputOf(path).directory.open(entry);
        if (!file) throw new Error(`there is no ${entry} any more`);
        const bytes = new Uint8Array(length);
        await file.readInto(offset, bytes).finally(() => file.close());
        return new Moved(bytes, [bytes.buffer]);
      },
      device: ({ report }: Controls) => library.device(report),
      dispose: () => library.dispose(),
    };
  }
}

interface Controls {
  readonly signal: AbortSignal;
  report(event: unknown): void;
}
