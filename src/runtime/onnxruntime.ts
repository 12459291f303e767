// A Device over ONNX Runtime's JavaScript API. The runtime itself (onnxruntime-node or onnxruntime-web) is handed in.
import { RunError } from "../utils/errors.ts";
import type { DataType, Tensor, TypedArrays } from "../utils/tensor.ts";
import { allocate, elementCount } from "../utils/tensor.ts";
import type {
  Device,
  DeviceTensor,
  Feed,
  ModelSource,
  RunRequest,
  RunResult,
  Session,
  SessionOptions,
} from "./types.ts";

/** The part of ONNX Runtime's JavaScript API that is used; onnxruntime-node and onnxruntime-web both have it. */
export interface OnnxRuntime {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: Record<string, unknown>): Promise<OnnxSession>;
  };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => OnnxTensor;
}

interface OnnxTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly outputMetadata: readonly {
    readonly name: string;
    readonly type?: string;
    readonly shape?: readonly (number | string)[];
  }[];
  run(
    feeds: Record<string, OnnxTensor>,
    fetches: Record<string, OnnxTensor | null>,
  ): Promise<Record<string, OnnxTensor>>;
  release(): Promise<void>;
  endProfiling?(): void;
}

export interface OnnxDeviceOptions {
  readonly executionProviders: readonly string[];
  /** Threads that one operator may use. */
  readonly threads: number;
}

/** Providers without kernels for ONNX Runtime's own operators: on WebGPU a step took 18 times as long with them (docs/performance.md). */
const portable: ReadonlySet<string> = new Set(["webgpu", "coreml"]);

/** Which operators graphs for a provider may use. */
export function operatorsOf(provider: string): Device["operators"] {
  return portable.has(provider) ? "portable" : "onnxruntime";
}

/** A device that runs in this thread; `run` blocks it on onnxruntime-node. */
export function createOnnxDevice(runtime: OnnxRuntime, options: OnnxDeviceOptions): Device {
  const held = new Map<number, OnnxTensor>();
  const buffers = new BufferPool();
  const sessions = new Set<Session>();
  let nextId = 0;

  const hold = (tensor: OnnxTensor): DeviceTensor => {
    const id = nextId++;
    held.set(id, tensor);
    return { kind: "device", id, dims: tensor.dims };
  };
  const find = ({ id }: DeviceTensor): OnnxTensor => {
    const tensor = held.get(id);
    if (!tensor) throw new Error("this device tensor was released or belongs to another device");
    return tensor;
  };
  const toOnnx = (feed: Feed): OnnxTensor =>
    "kind" in feed ? find(feed) : new runtime.Tensor(feed.type, unshared(feed.data), feed.dims);

  return {
    operators: operatorsOf(options.executionProviders[0]),
    async createSession(source: ModelSource, sessionOptions: SessionOptions = {}): Promise<Session> {
      const externalData = (source.externalData ?? []).map(({ location, chunks }) => ({
        path: location,
        data: joined(chunks),
      }));
      const session = await translateErrors(
        runtime.InferenceSession.create(source.model, {
          executionProviders: [...options.executionProviders],
          intraOpNumThreads: options.threads,
          interOpNumThreads: 1,
          executionMode: "sequential",
          enableMemPattern: false,
          enableCpuMemArena: sessionOptions.keepMemory ?? true,
          graphOptimizationLevel: "all",
          logSeverityLevel: 3,
          ...(externalData.length > 0 ? { externalData } : {}),
          ...(sessionOptions.profilePrefix
            ? { enableProfiling: true, profileFilePrefix: sessionOptions.profilePrefix }
            : {}),
          // Packed copies of the weights take memory, and whole steps are no faster with them (docs/performance.md).
          extra: { session: { disable_prepacking: "1" } },
        }),
      );
      const shapes = knownOutputShapes(session);
      const made: Session = {
        outputNames: session.outputNames,
        async run({ feeds, fetch = [], keep = [] }: RunRequest): Promise<RunResult> {
          const given = Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, toOnnx(feed)]));
          const wanted: Record<string, OnnxTensor | null> = {};
          for (const name of fetch) wanted[name] = null;
          for (const name of keep) {
            const known = shapes.get(name);
            wanted[name] = known
              ? new runtime.Tensor(known.type, buffers.take(known.type, elementCount(known.dims)), known.dims)
              : null;
          }
          const results = await translateErrors(session.run(given, wanted));
          return {
            tensors: Object.fromEntries(fetch.map((name) => [name, fromOnnx(results[name])])),
            kept: Object.fromEntries(keep.map((name) => [name, hold(results[name])])),
          };
        },
        async dispose() {
          if (!sessions.delete(made)) return;
          if (sessionOptions.profilePrefix) session.endProfiling?.();
          await session.release();
        },
      };
      sessions.add(made);
      return made;
    },
    async upload(tensor) {
      // A copy: what the caller does with its own memory afterwards must not show here.
      const { type, dims } = tensor;
      const count = elementCount(dims);
      const data = (isPooled(type) ? buffers.take(type, count) : allocate(type, count)) as TypedArrays["float32"];
      data.set(tensor.data as TypedArrays["float32"]);
      return hold(new runtime.Tensor(type, data, dims));
    },
    async download(tensor) {
      const { type, dims, data } = fromOnnx(find(tensor));
      return { type, dims, data: data.slice() as Tensor["data"] };
    },
    async release(tensors) {
      for (const { id } of tensors) {
        const tensor = held.get(id);
        if (tensor && isPooled(tensor.type)) buffers.give(tensor.type, tensor.data as TypedArrays[Pooled]);
        held.delete(id);
      }
    },
    async trim() {
      buffers.clear();
    },
    async dispose() {
      for (const session of [...sessions]) await session.dispose();
      held.clear();
    },
  };
}

/** ONNX Runtime takes no shared memory as input. */
function unshared(data: Tensor["data"]): Tensor["data"] {
  return data.buffer instanceof ArrayBuffer ? data : data.slice();
}

type Pooled = "float32" | "float64";
const isPooled = (type: string | undefined): type is Pooled => type === "float32" || type === "float64";

/** Types and shapes of the outputs of numbers whose dimensions are all known beforehand. */
function knownOutputShapes(session: OnnxSession): Map<string, { type: Pooled; dims: readonly number[] }> {
  const shapes = new Map<string, { type: Pooled; dims: readonly number[] }>();
  for (const { name, shape, type } of session.outputMetadata) {
    if (isPooled(type) && shape?.every((d) => typeof d === "number"))
      shapes.set(name, { type, dims: shape as number[] });
  }
  return shapes;
}

/**
 * Memory of released tensors, for the outputs that stay on the device: gradients and optimizer state have the same
 * sizes at each step, and fresh memory for them would have to be cleared and collected each time.
 */
class BufferPool {
  private readonly free: Record<Pooled, Map<number, TypedArrays[Pooled][]>> = {
    float32: new Map(),
    float64: new Map(),
  };

  take(type: Pooled, count: number): TypedArrays[Pooled] {
    return this.free[type].get(count)?.pop() ?? allocate(type, count);
  }

  clear(): void {
    for (const lists of Object.values(this.free)) lists.clear();
  }

  give(type: Pooled, data: TypedArrays[Pooled]): void {
    const list = this.free[type].get(data.length);
    if (list) list.push(data);
    else this.free[type].set(data.length, [data]);
  }
}

function fromOnnx({ type, dims, data }: OnnxTensor): Tensor {
  return { type: type as DataType, dims: dims.map(Number), data: data as Tensor["data"] };
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length === 1) return chunks[0];
  const bytes = new Uint8Array(chunks.reduce((sum, c) => sum + c.byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

/** ONNX Runtime's own errors carry file paths of its sources; its running out of memory deserves plain words. */
async function translateErrors<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (/alloc|out of memory/i.test(message)) {
      throw new RunError(`ONNX Runtime ran out of memory: use a smaller batch. (${message})`, { cause: error });
    }
    throw new RunError(`ONNX Runtime could not run the graph: ${message}`, { cause: error });
  }
}
