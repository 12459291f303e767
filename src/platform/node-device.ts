// A Device whose sessions live in a worker thread, so that the event loop, progress and Ctrl-C stay alive.
import { availableParallelism } from "node:os";
import type { OnnxDeviceOptions } from "../runtime/onnxruntime.ts";
import type {
  Device,
  DeviceTensor,
  ModelSource,
  RunRequest,
  RunResult,
  Session,
  SessionOptions,
} from "../runtime/types.ts";
import type { Tensor } from "../utils/tensor.ts";
import { WorkerCalls } from "./worker-calls.ts";

export interface NodeDeviceOptions {
  /** Threads that one operator may use; all cores where it is left out. */
  readonly threads?: number;
}

/** Just the fields: callers may pass ONNX Runtime's own tensors, which don't survive the way to another thread. */
function plainTensor({ type, dims, data }: Tensor): Tensor {
  return { type, dims: [...dims], data };
}

function plainFeeds(feeds: RunRequest["feeds"]): RunRequest["feeds"] {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, feed]) => [name, "kind" in feed ? feed : plainTensor(feed)]),
  );
}

/** ONNX Runtime on the CPU, in a worker thread. */
export function createNodeDevice(options: NodeDeviceOptions = {}): Device {
  const data: OnnxDeviceOptions = {
    executionProviders: ["cpu"],
    threads: options.threads ?? availableParallelism(),
  };
  const worker = new WorkerCalls("./session-worker.js", data);
  return {
    async createSession(source: ModelSource, sessionOptions?: SessionOptions): Promise<Session> {
      const opened = await worker.call<{ id: number; outputNames: string[] }>("createSession", source, sessionOptions);
      return {
        outputNames: opened.outputNames,
        run: (request: RunRequest) =>
          worker.call<RunResult>("run", opened.id, { ...request, feeds: plainFeeds(request.feeds) }),
        dispose: () => worker.call<void>("disposeSession", opened.id),
      };
    },
    upload: (tensor: Tensor) => worker.call<DeviceTensor>("upload", plainTensor(tensor)),
    download: (tensor: DeviceTensor) => worker.call<Tensor>("download", tensor),
    release: (tensors: readonly DeviceTensor[]) => worker.call<void>("release", tensors),
    trim: () => worker.call<void>("trim"),
    async dispose() {
      await worker.call("dispose").catch(() => undefined);
      await worker.end();
    },
  };
}
