// A Device whose sessions live in a worker thread, so that the event loop, progress and Ctrl-C stay alive.
import { compile } from "../../engine/compile.ts";
import { add, graph, input } from "../../engine/graph/build.ts";
import type { OnnxDeviceOptions } from "../../runtime/onnxruntime.ts";
import type { DeviceName } from "../../runtime/devices.ts";
import { defaultDeviceName, deviceOf } from "../../runtime/devices.ts";
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
} from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import type { LoopSource } from "../../utils/loop-source.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { float32 } from "../../utils/tensor.ts";
import { copyModels } from "../copy-models.ts";
import { bytesOf, leftBehind } from "./collect-garbage.ts";
import { offloadWeights } from "./offload.ts";
import { ownMemory } from "./rpc.ts";
import { threadsHere } from "./threads.ts";
import { WorkerCalls } from "./worker-calls.ts";

export interface NodeDeviceOptions {
  /** Threads that one operator may use; all that this process may use where it is left out (`threadsHere`). */
  readonly threads?: number;
  /** Where graphs run; the CPU where it is left out. */
  readonly device?: DeviceName;
}

/**
 * Sees whether a device can be used, by running a graph of one node. Throws a UserError that says what is missing. The CPU,
 * CUDA and WebGPU (through Vulkan) were tried by its makers.
 */
export async function tryDevice(device: Device, name: DeviceName): Promise<void> {
  const x = input("x", "float32", [2]);
  try {
    const session = await compile(graph([x], { y: add(x, x) }), device);
    const { tensors } = await session.run({ feeds: { x: float32([1, 2], [2]) }, fetch: ["y"] });
    await session.dispose();
    if (String(tensors.y.data) !== "2,4") throw new Error(`1 + 1 and 2 + 2 gave ${String(tensors.y.data)}`);
  } catch (error) {
    const { needs } = deviceOf(name);
    if (needs === undefined) throw error;
    const [reason] = (error as Error).message.split("\n");
    throw new UserError(
      `The device ${name} can't be used here: ${needs}. Or leave --device out. (ONNX Runtime: ${reason})`,
      { code: "DEVICE_NOT_AVAILABLE" },
    );
  }
}

/**
 * What is fed as it is sent to another thread, and the memory that is given away with it. Of tensors just the fields: callers may pass ONNX Runtime's
 * own tensors, which don't survive the way. Crops are copied: a message would take along all the memory that they look into.
 */
function sent<T extends Feed>(feed: T): { readonly plain: T | Tensor; readonly given: readonly ArrayBuffer[] } {
  if ("kind" in feed) return { plain: feed, given: [] };
  const { type, dims, data } = feed;
  const { buffer, byteLength } = data;
  if (byteLength === buffer.byteLength || !(buffer instanceof ArrayBuffer))
    return { plain: { type, dims: [...dims], data }, given: [] };
  const plain: Tensor = { type, dims: [...dims], data: data.slice() };
  return { plain, given: ownMemory(plain) };
}

/** What a device has that computes in the process's own memory: a sibling device, and loops. */
function inProcessParts(worker: WorkerCalls, options: NodeDeviceOptions, threads: number | undefined) {
  let sibling: Device | undefined;
  const parts = {
    threads,
    sibling: () => {
      sibling ??= createNodeDevice(options);
      return sibling;
    },
    async createLoop(source: LoopSource): Promise<Loop> {
      const id = await worker.call<number>("createLoop", source);
      return {
        run: (calls) => worker.call<void>("runLoop", id, calls),
        dispose: () => worker.call<void>("disposeLoop", id),
      };
    },
  };
  return { parts, dispose: async () => sibling?.dispose() };
}

async function openSession(worker: WorkerCalls, source: ModelSource, options?: SessionOptions): Promise<Session> {
  const opened = await worker.call<{ id: number; outputNames: string[] }>("createSession", source, options);
  // What it was made of: rounded and balanced weights, fresh parameters.
  leftBehind(bytesOf(source), "old");
  return {
    outputNames: opened.outputNames,
    run: (request: RunRequest) => {
      const all = Object.entries(request.feeds).map(([name, feed]) => ({ name, ...sent(feed) }));
      const feeds = Object.fromEntries(all.map(({ name, plain }) => [name, plain]));
      const given = all.flatMap((one) => one.given);
      return worker.callWith<RunResult>(given, "run", opened.id, { ...request, feeds });
    },
    dispose: () => worker.call<void>("disposeSession", opened.id),
  };
}

/** ONNX Runtime in a worker thread. What a device has no kernel for runs on the CPU. */
export function createNodeDevice(options: NodeDeviceOptions = {}): Device {
  const row = deviceOf(options.device ?? defaultDeviceName);
  const data: OnnxDeviceOptions = {
    executionProviders: [row.provider],
    threads: options.threads ?? threadsHere(),
    ...(row.ownMemory ? { copies: copyModels() } : {}),
  };
  const worker = new WorkerCalls("session-worker", data);
  const sibling = row.inProcess ? inProcessParts(worker, options, data.threads) : undefined;
  return {
    operators: row.operators,
    name: row.name,
    ...sibling?.parts,
    createSession: (source, sessionOptions) => openSession(worker, source, sessionOptions),
    offload: offloadWeights,
    upload: (tensor: Tensor, mayTake = false) => {
      const { plain, given } = sent(tensor);
      return worker.callWith<DeviceTensor>(mayTake ? ownMemory(plain) : given, "upload", plain);
    },
    download: (tensor: DeviceTensor, take = false) => worker.call<Tensor>("download", tensor, take),
    release: (tensors: readonly DeviceTensor[]) => worker.call<void>("release", tensors),
    allowOffload: (tensor: DeviceTensor, most: number) => worker.call<void>("allowOffload", tensor, most),
    trim: () => worker.call<void>("trim"),
    async dispose() {
      await sibling?.dispose();
      await worker.call("dispose").catch(() => undefined);
      await worker.end();
    },
  };
}
