// The worker that holds ONNX Runtime's sessions: `run` blocks its thread, and this one may be blocked.
import { workerData } from "node:worker_threads";
import * as runtime from "onnxruntime-node";
import type { OnnxDeviceOptions } from "../../runtime/onnxruntime.ts";
import { createOnnxDevice } from "../../runtime/onnxruntime.ts";
import type { LoopArguments } from "../../runtime/loop-runner.ts";
import type {
  DeviceTensor,
  Loop,
  ModelSource,
  RunRequest,
  RunResult,
  Session,
  SessionOptions,
} from "../../runtime/device.ts";
import type { LoopSource } from "../../utils/loop-source.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";
import { bytesOf, leftBehind } from "./collect-garbage.ts";
import { ownMemory, serve } from "./rpc.ts";
import { openTensorFile } from "./tensor-file.ts";

const device = createOnnxDevice(runtime, workerData as OnnxDeviceOptions, openTensorFile);
const sessions = new Map<number, Session>();
let nextSession = 0;
const loops = new Map<number, Loop>();
let nextLoop = 0;

const methods = {
  async createSession(source: ModelSource, options?: SessionOptions) {
    const session = await device.createSession(source, options);
    leftBehind(bytesOf(source), "old");
    sessions.set(nextSession, session);
    return { id: nextSession++, outputNames: [...session.outputNames] };
  },
  async run(id: number, request: RunRequest) {
    const session = sessions.get(id);
    if (!session) throw new Error("this session was disposed of");
    const result = await session.run(request);
    // ONNX Runtime answers with copies of what is kept, which nobody reads.
    leftBehind(
      Object.values(result.kept).reduce((sum, { dims }) => sum + 4 * elementCount(dims), 0),
      "fresh",
    );
    return result;
  },
  async disposeSession(id: number) {
    await sessions.get(id)?.dispose();
    sessions.delete(id);
  },
  async createLoop(source: LoopSource) {
    const loop = await device.createLoop?.(source);
    if (!loop) throw new Error("this device has no loops");
    loops.set(nextLoop, loop);
    return nextLoop++;
  },
  async runLoop(id: number, calls: readonly LoopArguments<DeviceTensor>[]) {
    const loop = loops.get(id);
    if (!loop) throw new Error("this loop was disposed of");
    await loop.run(calls);
  },
  async disposeLoop(id: number) {
    await loops.get(id)?.dispose();
    loops.delete(id);
  },
  // What came as a message is this thread's own.
  upload: (tensor: Tensor) => device.upload(tensor, true),
  download: (tensor: DeviceTensor, take: boolean) => device.download(tensor, take),
  release: (tensors: DeviceTensor[]) => device.release(tensors),
  allowOffload: async (tensor: DeviceTensor, most: number) => device.allowOffload?.(tensor, most),
  trim: () => device.trim(),
  dispose: () => device.dispose(),
};

// This thread has no use for what is downloaded or fetched.
serve(methods, (method, value) => {
  if (method === "download") return ownMemory(value as Tensor);
  return method === "run" ? Object.values((value as RunResult).tensors).flatMap(ownMemory) : [];
});
