// A Device over ONNX Runtime's JavaScript API. The runtime itself (onnxruntime-node or onnxruntime-web) is handed in.
//
// `onnxruntime-node` blocks its thread in `run`, so sessions live in `session-worker` behind the `Device` interface.
// Pictures are decoded in two `picture-worker`s; training pictures stay there decoded, up to 512 MiB each. Loaded
// weights lie in shared memory, so that a worker reads them without a copy, or rest in a file. ONNX Runtime takes
// shared memory as external data, but not as an input; the device copies such inputs. What a worker is told in one
// turn travels as one message, and so do its answers (`Outbox` in `platform/rpc.ts`): a step moves some hundred
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

/** A device that runs in this thread; `run` blocks it on onnxruntime-node. */
export function createOnnxDevice(runtime: OnnxRuntime, options: OnnxDeviceOptions): Device {
  const held = new Map<number, OnnxTensor>();
  const buffers = new BufferPool();
  const sessions = new Set<Session>();
  let nextId = 0;
  const create = (model: Uint8Array, more: Record<string, unknown>): Promise<OnnxSession> =>
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
  const gpu = options.copies && traits.ownMemory ? new GpuMemory(options.copies, create) : undefined;

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
  const toCpu = async (tensor: OnnxTensor): Promise<OnnxTensor> =>
    gpu && isOnGpu(tensor) ? translateErrors(gpu.toCpu(tensor)) : tensor;
  const forget = async (tensor: OnnxTensor): Promise<void> => {
    if (isOnGpu(tensor)) await gpu?.free(tensor);
    else if (isPooled(tensor.type)) buffers.give(tensor.type, tensor.data as TypedArrays[Pooled]);
  };
  const copied = ({ type, data }: Tensor): Tensor["data"] => {
    const copy = isPooled(type) ? buffers.take(type, data.length) : allocate(type, data.length);
    (copy as Float32Array).set(data as Float32Array);
    return copy;
  };
  const toOnnx = (feed: Feed): OnnxTensor =>
    "kind" in feed ? find(feed) : new runtime.Tensor(feed.type, unshared(feed.data), feed.dims);

  const createLoop = async (source: LoopSource): Promise<Loop> => {
    let goOver: ReturnType<typeof openLoop> | undefined = openLoop(source);
    const dataOf = (tensor: DeviceTensor) => find(tensor).data as Float32Array;
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
  };

  return {
    operators: traits.operators,
    ...(traits.inProcess ? { threads: options.threads, createLoop } : {}),
    async createSession(source: ModelSource, sessionOptions: SessionOptions = {}): Promise<Session> {
      const externalData = (source.externalData ?? []).map(({ location, chunks }) => ({
        path: location,
        data: joined(chunks),
      }));
      const stay = gpu ? (sessionOptions.floats ?? []) : [];
      if (stay.length > 0) await gpu?.open();
      const session = await create(source.model, {
        enableCpuMemArena: sessionOptions.keepMemory ?? true,
        intraOpNumThreads: sessionOptions.threads ?? options.threads,
        ...(externalData.length > 0 ? { externalData } : {}),
        ...(sessionOptions.profilePrefix
          ? { enableProfiling: true, profileFilePrefix: sessionOptions.profilePrefix }
          : {}),
        extra: {
          session: {
            // Packed copies of float32 weights take memory where gradients read the others as well (docs/performance-notes.md).
            disable_prepacking: sessionOptions.packWeights ? "0" : "1",
            // Each session has threads of its own, which would spin for a while after a run: in the way of the next session's.
            force_spinning_stop: "1",
            ...(source.restingFiles?.[0]
              ? { model_external_initializers_file_folder_path: source.restingFiles[0].folder }
              : {}),
          },
        },
        ...(stay.length > 0 ? leftOnGpu(stay) : {}),
      });
      // GPUs' providers may leave memory that is handed in as it is.
      const shapes = traits.inProcess ? knownOutputShapes(session) : undefined;
      const made: Session = {
        outputNames: session.outputNames,
        async run({ feeds, fetch = [], keep = [] }: RunRequest): Promise<RunResult> {
          const given = Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, toOnnx(feed)]));
          const wanted: Record<string, OnnxTensor | null> = {};
          // A session that leaves outputs on the GPU has to be asked for all of them.
          for (const name of stay.length > 0 ? session.outputNames : fetch) wanted[name] = null;
          for (const name of keep) {
            const known = shapes?.get(name);
            wanted[name] = known
              ? new runtime.Tensor(known.type, buffers.take(known.type, elementCount(known.dims)), known.dims)
              : null;
          }
          const results = await translateErrors(session.run(given, wanted));
          const tensors: Record<string, Tensor> = {};
          for (const name of fetch) tensors[name] = fromOnnx(await toCpu(results[name]));
          const kept = new Set(keep);
          for (const name of stay) {
            if (kept.has(name)) gpu?.adopt(results[name], session);
            else results[name].dispose?.();
          }
          // Memory that was handed in holds the output; what ONNX Runtime answers with is a copy of it.
          return { tensors, kept: Object.fromEntries(keep.map((name) => [name, hold(wanted[name] ?? results[name])])) };
        },
        async dispose() {
          if (!sessions.delete(made)) return;
          if (sessionOptions.profilePrefix) session.endProfiling?.();
          await (gpu ? gpu.close(session) : session.release());
        },
      };
      sessions.add(made);
      return made;
    },
    async upload(tensor, own = false) {
      const { type, dims } = tensor;
      // A view of more would keep all of it, and released memory that waits is used first.
      const whole = tensor.data.byteLength === tensor.data.buffer.byteLength;
      const taken =
        own && whole && !isShared(tensor.data) && !(isPooled(type) && buffers.has(type, tensor.data.length));
      const data = taken ? tensor.data : copied(tensor);
      const held = new runtime.Tensor(type, data, dims);
      if (!gpu?.fits(tensor)) return hold(held);
      const there = await translateErrors(gpu.toGpu(held));
      buffers.give("float32", data as Float32Array);
      return hold(there);
    },
    async download(tensor, take = false) {
      const found = find(tensor);
      const { type, dims, data } = fromOnnx(await toCpu(found));
      if (take) held.delete(tensor.id);
      if (take && isOnGpu(found)) await forget(found);
      return { type, dims, data: (take || isOnGpu(found) ? data : data.slice()) as Tensor["data"] };
    },
    async release(tensors) {
      for (const { id } of tensors) {
        const tensor = held.get(id);
        held.delete(id);
        if (tensor) await forget(tensor);
      }
    },
    async trim() {
      buffers.clear();
    },
    async dispose() {
      for (const tensor of held.values()) if (isOnGpu(tensor)) await gpu?.free(tensor);
      held.clear();
      for (const session of [...sessions]) await session.dispose();
      await gpu?.dispose();
    },
  };
}

const isShared = (data: Tensor["data"]): boolean => !(data.buffer instanceof ArrayBuffer);
/** ONNX Runtime takes no shared memory as input. */
const unshared = (data: Tensor["data"]): Tensor["data"] => (isShared(data) ? data.slice() : data);

const pooledTypes = ["float32", "float64", "float16"] as const;
type Pooled = (typeof pooledTypes)[number];
const isPooled = (type: string | undefined): type is Pooled =>
  (pooledTypes as readonly (string | undefined)[]).includes(type);

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
