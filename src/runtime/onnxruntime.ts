// A Device over ONNX Runtime's JavaScript API. The runtime itself (onnxruntime-node or onnxruntime-web) is handed in.
//
// `onnxruntime-node` blocks its thread in `run`, so sessions live in `session-worker` behind the `Device` interface.
// Images are decoded in two `image-worker`s; training images stay there decoded, up to 512 MiB each. Loaded
// weights lie in shared memory, so that a worker reads them without a copy, or rest in a file. ONNX Runtime takes
// shared memory as external data, but not as an input; the device copies such inputs. What a worker is told in one
// turn travels as one message, and so do its answers (`Outbox` in `platform/node/rpc.ts`): a step moves some hundred
// tensors.
import { RunError } from "../utils/errors.ts";
import type { OnnxRuntime, OnnxSession, OnnxTensor } from "./onnx-api.ts";
import { providerTraits } from "./devices.ts";
import { GpuMemory, isOnGpu, leftOnGpu } from "./gpu-memory.ts";
import { openLoop } from "./loop-runner.ts";
import type { LoopSource } from "../utils/loop-source.ts";
import type { DataType, Tensor, TypedArrays } from "../utils/tensor.ts";
import { allocate, elementCount } from "../utils/tensor.ts";
import type {
  Device,
  DeviceTensor,
  Feed,
  Loop,
  ModelSource,
  RunRequest,
  RunResult,
  Session,
  SessionOptions,
} from "./device.ts";

export interface OnnxDeviceOptions {
  readonly executionProviders: readonly string[];
  /** Threads that one operator may use. */
  readonly threads: number;
  /** ONNX models that give `y = x` for float32 tensors of rank 0, 1, ...: with them, a device with memory of its own keeps tensors there. */
  readonly copies?: readonly Uint8Array[];
}

/** Opens an ONNX model with options beside those that all sessions have. */
type OpenModel = (model: Uint8Array, more: Record<string, unknown>) => Promise<OnnxSession>;

/** A device that runs in this thread; `run` blocks it on onnxruntime-node. */
export function createOnnxDevice(runtime: OnnxRuntime, options: OnnxDeviceOptions): Device {
  const open: OpenModel = (model, more) =>
    translateErrors(
      runtime.InferenceSession.create(model, {
        executionProviders: [...options.executionProviders],
        intraOpNumThreads: options.threads,
        interOpNumThreads: 1,
        executionMode: "sequential",
        enableMemPattern: false,
        graphOptimizationLevel: "all",
        logSeverityLevel: 3,
        ...more,
      }),
    );
  const traits = providerTraits(options.executionProviders[0]);
  const gpu = options.copies && traits.ownMemory ? new GpuMemory(options.copies, open) : undefined;
  const memory = new DeviceMemory(runtime, gpu);
  const sessions = new Set<OpenedSession>();
  const createLoop = async (source: LoopSource) => loopOver(source, memory);
  return {
    operators: traits.operators,
    ...(traits.inProcess ? { threads: options.threads, createLoop } : {}),
    async createSession(source: ModelSource, given: SessionOptions = {}): Promise<Session> {
      const stay = gpu ? (given.floats ?? []) : [];
      if (stay.length > 0) await gpu?.open();
      const inner = await open(source.model, sessionSettings(source, given, given.threads ?? options.threads, stay));
      // GPUs' providers may leave memory that is handed in as it is.
      const shapes = traits.inProcess ? knownOutputShapes(inner) : undefined;
      const session = new OpenedSession({ runtime, memory, gpu, inner, stay, shapes, given, sessions });
      sessions.add(session);
      return session;
    },
    upload: (tensor, mayTake = false) => memory.upload(tensor, mayTake),
    download: (tensor, take = false) => memory.download(tensor, take),
    release: (tensors) => memory.release(tensors),
    trim: async () => memory.trim(),
    async dispose() {
      await memory.freeAll();
      for (const session of [...sessions]) await session.dispose();
      await gpu?.dispose();
    },
  };
}

/** How ONNX Runtime opens a session; `stay` are the outputs that it leaves on a GPU. */
function sessionSettings(
  source: ModelSource,
  options: SessionOptions,
  threads: number,
  stay: readonly string[],
): Record<string, unknown> {
  const externalData = (source.externalData ?? []).map(({ location, chunks }) => ({
    path: location,
    data: joined(chunks),
  }));
  return {
    enableCpuMemArena: options.keepMemory ?? true,
    intraOpNumThreads: threads,
    ...(externalData.length > 0 ? { externalData } : {}),
    ...(options.profilePrefix ? { enableProfiling: true, profileFilePrefix: options.profilePrefix } : {}),
    extra: {
      session: {
        // Packed copies of float32 weights take memory where gradients read the others as well (dev/performance-notes.md).
        disable_prepacking: options.packWeights ? "0" : "1",
        // Each session has threads of its own, which would spin for a while after a run: in the way of the next session's.
        force_spinning_stop: "1",
        ...(source.offloadedFiles?.[0]
          ? { model_external_initializers_file_folder_path: source.offloadedFiles[0].folder }
          : {}),
      },
    },
    ...(stay.length > 0 ? leftOnGpu(stay) : {}),
  };
}

/** A loop that changes tensors where they lie. */
function loopOver(source: LoopSource, memory: DeviceMemory): Loop {
  let goOver: ReturnType<typeof openLoop> | undefined = openLoop(source);
  const dataOf = (tensor: DeviceTensor) => memory.find(tensor).data as Float32Array;
  return {
    async run(calls) {
      if (!goOver) throw new Error("this loop was disposed of");
      for (const { scalars, tensors } of calls)
        goOver({
          scalars,
          tensors: Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, dataOf(tensor)])),
        });
    },
    // An engine sets gigabytes of addresses aside for a loop's memory.
    async dispose() {
      goOver = undefined;
    },
  };
}

/** Tensors that stay on a device, and the memory of those that were released. */
class DeviceMemory {
  readonly buffers = new BufferPool();
  private readonly uploaded = new Map<number, OnnxTensor>();
  private readonly runtime: OnnxRuntime;
  private readonly gpu: GpuMemory | undefined;
  private nextId = 0;

  constructor(runtime: OnnxRuntime, gpu: GpuMemory | undefined) {
    this.runtime = runtime;
    this.gpu = gpu;
  }

  hold(tensor: OnnxTensor): DeviceTensor {
    const id = this.nextId++;
    this.uploaded.set(id, tensor);
    return { kind: "device", id, dims: tensor.dims };
  }

  find({ id }: DeviceTensor): OnnxTensor {
    const tensor = this.uploaded.get(id);
    if (!tensor) throw new Error("this device tensor was released or belongs to another device");
    return tensor;
  }

  /** What a session takes. */
  toOnnx(feed: Feed): OnnxTensor {
    return "kind" in feed ? this.find(feed) : new this.runtime.Tensor(feed.type, unshared(feed.data), feed.dims);
  }

  async toCpu(tensor: OnnxTensor): Promise<OnnxTensor> {
    return this.gpu && isOnGpu(tensor) ? translateErrors(this.gpu.toCpu(tensor)) : tensor;
  }

  async upload(tensor: Tensor, mayTake: boolean): Promise<DeviceTensor> {
    const { type, dims } = tensor;
    // A view of more would keep all of it, and released memory that waits is used first.
    const whole = tensor.data.byteLength === tensor.data.buffer.byteLength;
    const taken =
      mayTake && whole && !isShared(tensor.data) && !(isPooled(type) && this.buffers.has(type, tensor.data.length));
    const data = taken ? tensor.data : this.copied(tensor);
    const onCpu = new this.runtime.Tensor(type, data, dims);
    if (!this.gpu?.fits(tensor)) return this.hold(onCpu);
    const there = await translateErrors(this.gpu.toGpu(onCpu));
    this.buffers.give("float32", data as Float32Array);
    return this.hold(there);
  }

  async download(tensor: DeviceTensor, take: boolean): Promise<Tensor> {
    const onDevice = this.find(tensor);
    const { type, dims, data } = fromOnnx(await this.toCpu(onDevice));
    if (take) this.uploaded.delete(tensor.id);
    if (take && isOnGpu(onDevice)) await this.forget(onDevice);
    return { type, dims, data: (take || isOnGpu(onDevice) ? data : data.slice()) as Tensor["data"] };
  }

  async release(tensors: readonly DeviceTensor[]): Promise<void> {
    for (const { id } of tensors) {
      const tensor = this.uploaded.get(id);
      this.uploaded.delete(id);
      if (tensor) await this.forget(tensor);
    }
  }

  /** Lets go of the memory of released tensors. */
  trim(): void {
    this.buffers.clear();
  }

  async freeAll(): Promise<void> {
    for (const tensor of this.uploaded.values()) if (isOnGpu(tensor)) await this.gpu?.free(tensor);
    this.uploaded.clear();
  }

  private async forget(tensor: OnnxTensor): Promise<void> {
    if (isOnGpu(tensor)) await this.gpu?.free(tensor);
    else if (isPooled(tensor.type)) this.buffers.give(tensor.type, tensor.data as TypedArrays[Pooled]);
  }

  private copied({ type, data }: Tensor): Tensor["data"] {
    const copy = isPooled(type) ? this.buffers.take(type, data.length) : allocate(type, data.length);
    (copy as Float32Array).set(data as Float32Array);
    return copy;
  }
}

type OutputShapes = ReadonlyMap<string, { readonly type: Pooled; readonly dims: readonly number[] }>;

interface SessionParts {
  readonly runtime: OnnxRuntime;
  readonly memory: DeviceMemory;
  readonly gpu: GpuMemory | undefined;
  readonly inner: OnnxSession;
  /** Outputs that stay on the GPU. */
  readonly stay: readonly string[];
  /** Of outputs whose memory can be handed in. */
  readonly shapes: OutputShapes | undefined;
  readonly given: SessionOptions;
  /** The device's open sessions. */
  readonly sessions: Set<OpenedSession>;
}

class OpenedSession implements Session {
  readonly outputNames: readonly string[];
  private readonly parts: SessionParts;

  constructor(parts: SessionParts) {
    this.parts = parts;
    this.outputNames = parts.inner.outputNames;
  }

  async run({ feeds, fetch = [], keep = [] }: RunRequest): Promise<RunResult> {
    const { memory, inner, stay } = this.parts;
    const given = Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, memory.toOnnx(feed)]));
    const wanted = this.wanted(fetch, keep);
    const results = await translateErrors(inner.run(given, wanted));
    const tensors: Record<string, Tensor> = {};
    for (const name of fetch) tensors[name] = fromOnnx(await memory.toCpu(results[name]));
    if (stay.length > 0) this.takeOver(results, keep);
    // Memory that was handed in holds the output; what ONNX Runtime answers with is a copy of it.
    return {
      tensors,
      kept: Object.fromEntries(keep.map((name) => [name, memory.hold(wanted[name] ?? results[name])])),
    };
  }

  async dispose(): Promise<void> {
    const { sessions, given, inner, gpu } = this.parts;
    if (!sessions.delete(this)) return;
    if (given.profilePrefix) inner.endProfiling?.();
    await (gpu ? gpu.close(inner) : inner.release());
  }

  /** Outputs that are asked for, with the memory of those that can be written into it. */
  private wanted(fetch: readonly string[], keep: readonly string[]): Record<string, OnnxTensor | null> {
    const { runtime, memory, stay, shapes } = this.parts;
    const wanted: Record<string, OnnxTensor | null> = {};
    // A session that leaves outputs on the GPU has to be asked for all of them.
    for (const name of stay.length > 0 ? this.outputNames : fetch) wanted[name] = null;
    for (const name of keep) {
      const shape = shapes?.get(name);
      wanted[name] = shape
        ? new runtime.Tensor(shape.type, memory.buffers.take(shape.type, elementCount(shape.dims)), shape.dims)
        : null;
    }
    return wanted;
  }

  /** Keeps the outputs on the GPU that were asked for, and frees the others. */
  private takeOver(results: Record<string, OnnxTensor>, keep: readonly string[]): void {
    const { gpu, inner, stay } = this.parts;
    const kept = new Set(keep);
    for (const name of stay) {
      if (kept.has(name)) gpu?.adopt(results[name], inner);
      else results[name].dispose?.();
    }
  }
}

const isShared = (data: Tensor["data"]): boolean => !(data.buffer instanceof ArrayBuffer);
/** ONNX Runtime takes no shared memory as input. */
const unshared = (data: Tensor["data"]): Tensor["data"] => (isShared(data) ? data.slice() : data);

const pooledTypes = ["float32", "float64", "float16"] as const;
type Pooled = (typeof pooledTypes)[number];
const isPooled = (type: string | undefined): type is Pooled =>
  (pooledTypes as readonly (string | undefined)[]).includes(type);

/** Types and shapes of the outputs of numbers whose dimensions are all known beforehand. */
function knownOutputShapes(session: OnnxSession): OutputShapes {
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
    float16: new Map(),
  };

  take(type: Pooled, count: number): TypedArrays[Pooled] {
    return this.free[type].get(count)?.pop() ?? allocate(type, count);
  }

  has(type: Pooled, count: number): boolean {
    return !!this.free[type].get(count)?.length;
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
      throw new RunError(`ONNX Runtime ran out of memory: use a smaller batch. (${message})`, {
        code: "OUT_OF_MEMORY",
        cause: error,
      });
    }
    throw new RunError(`ONNX Runtime could not run the graph: ${message}`, { cause: error });
  }
}
