// Devices over onnxruntime-web: WASM, with threads where the page is isolated, and WebGPU where it gives the same numbers.
import { compile } from "../../engine/compile.ts";
import {
  cast,
  constant,
  gelu,
  graph,
  input,
  layerNormalization,
  matmul,
  reduceSum,
  softmax,
} from "../../engine/graph/build.ts";
import { evaluate } from "../../engine/graph/evaluate-graph.ts";
import type { Device, RunRequest, Session } from "../../runtime/device.ts";
import type { OnnxRuntime } from "../../runtime/onnx-api.ts";
import { createOnnxDevice } from "../../runtime/onnxruntime.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import { copyModels } from "../copy-models.ts";
import { drawStream } from "../../utils/random.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { float32 } from "../../utils/tensor.ts";

/** The part of onnxruntime-web that is used besides what all ONNX Runtimes have. */
export interface WebRuntime extends OnnxRuntime {
  readonly env: {
    readonly wasm: { numThreads?: number };
    readonly versions?: { readonly web?: string };
  };
}

/** Devices by the names that `wecolora/web` takes; `wasm` is transformers.js's name for `cpu`. */
export type WebDeviceName = "cpu" | "webgpu";
export type WebDeviceOption = "auto" | "wasm" | WebDeviceName;

export interface WebDeviceOptions {
  readonly device?: WebDeviceName;
  /** Threads of WASM; as many as the machine has cores, and one where the page is not isolated, where left out. */
  readonly threads?: number;
}

/**
 * onnxruntime-web, or what loads the build of it for a device: `"onnxruntime-web/wasm"` for `cpu`, `"onnxruntime-web/webgpu"`
 * for `webgpu`. Loaded in files of their own, they start their threads without the code around them.
 */
export type RuntimeSource = WebRuntime | ((device: WebDeviceName) => Promise<WebRuntime>);

const loaded = (source: RuntimeSource, device: WebDeviceName): Promise<WebRuntime> =>
  typeof source === "function" ? source(device) : Promise.resolve(source);

/** WASM gains little by more, and each takes a stack of its own. */
const mostUseful = 16;

/** Whether WASM can have threads here: browsers share memory in isolated pages alone. */
export const canShareMemory = (): boolean =>
  typeof SharedArrayBuffer === "function" &&
  // Not there in Node and Deno, which always share.
  (globalThis as { readonly crossOriginIsolated?: boolean }).crossOriginIsolated !== false;

/** Threads that WASM runs with. */
export function threadsOf(wanted?: number): number {
  if (!canShareMemory()) return 1;
  const cores = typeof navigator === "object" ? navigator.hardwareConcurrency : undefined;
  return wanted ?? Math.min(mostUseful, cores || 1);
}

/** Milliseconds after which messages are let through between two runs. */
const longestHold = 40;

/** Lets this thread's event loop go round once. Timers would be slowed down in a background tab; messages are not. */
export function yieldToEvents(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

/** A device whose runs let messages through: WASM holds its thread, and a message that stops the run would not be read. */
export function yielding(device: Device): Device {
  let last = performance.now();
  const wrapped = (session: Session): Session => ({
    outputNames: session.outputNames,
    async run(request: RunRequest) {
      if (performance.now() - last > longestHold) {
        await yieldToEvents();
        last = performance.now();
      }
      return session.run(request);
    },
    dispose: () => session.dispose(),
  });
  return {
    ...device,
    createSession: async (source, options) => wrapped(await device.createSession(source, options)),
  };
}

/**
 * A device whose calls wait for each other. ONNX Runtime's web builds lay a session's weights into files of one name for all while
 * it is made, and WebGPU's has one run at a time under way.
 */
export function inTurn(device: Device): Device {
  let last: Promise<unknown> = Promise.resolve();
  const next = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work, work);
    last = result.catch(() => undefined);
    return result;
  };
  return {
    ...device,
    createSession: (source, options) =>
      next(async () => {
        const session = await device.createSession(source, options);
        return {
          outputNames: session.outputNames,
          run: (request) => next(() => session.run(request)),
          dispose: () => next(() => session.dispose()),
        };
      }),
    upload: (tensor, mayTake) => next(() => device.upload(tensor, mayTake)),
    download: (tensor, take) => next(() => device.download(tensor, take)),
    release: (tensors) => next(() => device.release(tensors)),
  };
}

/** A device over onnxruntime-web, in this thread. */
export function createWebDevice(runtime: WebRuntime, { device = "cpu", threads }: WebDeviceOptions = {}): Device {
  const count = threadsOf(threads);
  // Read when the first session opens; all sessions share them.
  runtime.env.wasm.numThreads = count;
  if (device === "webgpu") {
    const gpu = createOnnxDevice(runtime, { executionProviders: ["webgpu"], threads: count, copies: copyModels() });
    return yielding(inTurn({ ...gpu, name: "webgpu" }));
  }
  const wasm = createOnnxDevice(runtime, { executionProviders: ["wasm"], threads: count });
  return yielding(inTurn({ ...wasm, name: "cpu", threads: count }));
}

/** Of the trial's numbers: float32 sums in another order, and approximations of erf and exp. */
const tolerance = 1e-4;

/** What every model consists of, small: normalised, multiplied, softmax, GELU. */
function trial(): { inputs: Record<string, Tensor>; built: ReturnType<typeof graph> } {
  const random = drawStream(0, "device trial");
  const numbers = (...dims: number[]) =>
    float32(
      Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random.normal()),
      dims,
    );
  const x = input("x", "float32", [2, 17, 24]);
  const normed = layerNormalization(x, constant(numbers(24)), constant(numbers(24)), 1e-6);
  const mixed = softmax(matmul(normed, constant(numbers(24, 17))));
  const y = gelu(matmul(mixed, matmul(normed, constant(numbers(24, 24)))));
  return { inputs: { x: numbers(2, 17, 24) }, built: graph([x], { y }) };
}

/** Throws an Error where a device gives other numbers than float64 arithmetic does. */
export async function tryWebDevice(device: Device): Promise<void> {
  const { inputs, built } = trial();
  const session = await compile(built, device);
  try {
    const { tensors } = await session.run({ feeds: inputs, fetch: ["y"] });
    const exact = evaluate(built, inputs).get("y");
    if (!exact) throw new Error("the trial has no output");
    const [got, wanted] = [Array.from(tensors.y.data as Float32Array), Array.from(exact.data as Float32Array)];
    const size = Math.max(...wanted.map(Math.abs));
    const off = Math.max(...wanted.map((value, i) => Math.abs(value - got[i])));
    // NaN is no number below the tolerance.
    if (!(off <= tolerance * size)) throw new Error(`its numbers are off by ${(off / size).toExponential(1)}`);
  } finally {
    await session.dispose();
  }
}

/** Whether a device adds up in float64, which the closed form and training need: WebGPU's build of ONNX Runtime for browsers does not. */
export async function hasFloat64(device: Device): Promise<boolean> {
  const x = input("x", "float32", [3]);
  try {
    const session = await compile(graph([x], { y: cast(reduceSum(cast(x, "float64")), "float32") }), device);
    await session.run({ feeds: { x: float32([1, 2, 3], [3]) }, fetch: ["y"] }).finally(() => session.dispose());
    return true;
  } catch {
    return false;
  }
}

/** What is used of WebGPU's own API. */
interface Gpu {
  requestAdapter(): Promise<{ readonly info?: { readonly isFallbackAdapter?: boolean } } | null>;
}

/** Why WebGPU is not tried here; undefined where it can be. */
async function noWebgpu(mayBeSlow: boolean): Promise<string | undefined> {
  const { gpu } = (typeof navigator === "object" ? navigator : {}) as { readonly gpu?: Gpu };
  if (!gpu) return "this browser has no WebGPU";
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter) return "there is no GPU that the browser may use";
  return adapter.info?.isFallbackAdapter && !mayBeSlow ? "the browser computes WebGPU on the processor" : undefined;
}

/**
 * Opens the device that an option names and sees whether it gives the processor's numbers. `auto` takes WebGPU where it does,
 * else WASM, and says why. Throws a UserError where WebGPU is asked for and can't be used.
 */
export async function openWebDevice(
  runtime: RuntimeSource,
  option: WebDeviceOption,
  { threads, warn }: { readonly threads?: number; readonly warn: (message: string) => void },
): Promise<Device> {
  const wasm = async () => {
    const device = createWebDevice(await loaded(runtime, "cpu"), { threads });
    try {
      // It is fetched and compiled by this, so that nothing of it is missing in the middle of the work.
      await tryWebDevice(device);
    } catch (error) {
      throw new RunError(`WebAssembly can't be used here: ${(error as Error).message}`, {
        code: "DEVICE_NOT_AVAILABLE",
        cause: error,
      });
    }
    return device;
  };
  if (option === "cpu" || option === "wasm") return wasm();
  let reason = await noWebgpu(option === "webgpu");
  if (reason === undefined) {
    let device: Device | undefined;
    try {
      device = createWebDevice(await loaded(runtime, "webgpu"), { device: "webgpu", threads });
      await tryWebDevice(device);
      return device;
    } catch (error) {
      [reason] = (error as Error).message.split("\n");
      await device?.dispose().catch(() => undefined);
    }
  }
  if (option === "webgpu")
    throw new UserError(`The device webgpu can't be used here: ${reason}. Use "cpu" (WASM).`, {
      code: "DEVICE_NOT_AVAILABLE",
    });
  warn(`WebGPU is not used: ${reason}. The run uses WASM with ${threadsOf(threads)} threads.`);
  return wasm();
}
