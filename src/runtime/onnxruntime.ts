// A Device over ONNX Runtime's JavaScript API. The runtime itself (onnxruntime-node or onnxruntime-web) is handed in.
//
// `onnxruntime-node` blocks its thread in `run`, so sessions live in `session-worker` behind the `Device` interface.
// Images are decoded in two `image-worker`s; training images stay there decoded, up to 512 MiB each. Loaded
// weights lie in shared memory, so that a worker reads them without a copy, or rest in a file. ONNX Runtime takes
// shared memory as external data, but not as an input; the device copies such inputs. What a worker is told in one
// turn travels as one message, and so do its answers (`Outbox` in `platform/node/rpc.ts`): a step moves some hundred
// tensors.
import type { OpenTensorFile, Pooled } from "./device-memory.ts";
import { DeviceMemory, fromOnnx, isPooled } from "./device-memory.ts";
import type { OnnxRuntime, OnnxSession, OnnxTensor } from "./onnx-api.ts";
import { translateErrors } from "./onnx-errors.ts";
import { providerTraits } from "./devices.ts";
import { GpuMemory, leftOnGpu } from "./gpu-memory.ts";
import { openLoop } from "./loop-runner.ts";
import type { LoopSource } from "../utils/loop-source.ts";
import type { Tensor } from "../utils/tensor.ts";
import { elementCount } from "../utils/tensor.ts";
import type {
  Device,
  DeviceTensor,
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

/** A device that runs in this thread; `run` blocks it on onnxruntime-node. It offloads tensors to what `openFile` gives. */
export function createOnnxDevice(runtime: OnnxRuntime, options: OnnxDeviceOptions, openFile?: OpenTensorFile): Device {
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
  const memory = new DeviceMemory(runtime, gpu, openFile);
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
    allowOffload: async (tensor, most) => memory.allowOffload(tensor, most),
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
    const { given, giveBack } = memory.lend(feeds);
    const wanted = this.wanted(fetch, keep);
    const results = await translateErrors(inner.run(given, wanted));
    giveBack();
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

/** Types and shapes of the outputs of numbers whose dimensions are all known beforehand. */
function knownOutputShapes(session: OnnxSession): OutputShapes {
  const shapes = new Map<string, { type: Pooled; dims: readonly number[] }>();
  for (const { name, shape, type } of session.outputMetadata) {
    if (isPooled(type) && shape?.every((d) => typeof d === "number"))
      shapes.set(name, { type, dims: shape as number[] });
  }
  return shapes;
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
