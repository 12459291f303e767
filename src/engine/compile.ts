// Graph to session: the one place that joins the graph side with the runtime side.
import type { Graph } from "./graph/graph.ts";
import { writeOnnx } from "./onnx/write-model.ts";
import type { PassOptions } from "./passes/tidy.ts";
import { toHalf } from "./passes/half-precision.ts";
import { tidy } from "./passes/tidy.ts";
import type { Device, Loop, Session, SessionOptions } from "../runtime/device.ts";
import { writeLoop } from "./wasm/write-loop.ts";

export type CompileOptions = SessionOptions &
  Pick<PassOptions, "int8" | "unrolled"> & {
    /** Compute in float16, with ONNX's own operators; inputs and outputs stay float32. */
    readonly half?: boolean;
  };

/** Tidies a graph, writes it and opens a session. Weights are handed over where they lie, without a copy in between. */
export async function compile(graph: Graph, device: Device, options: CompileOptions = {}): Promise<Session> {
  const [session] = await compileOn([device], graph, options);
  return session;
}

/** A session of a graph on each of several devices of one kind. */
export async function compileOn(
  devices: readonly Device[],
  graph: Graph,
  { int8, unrolled, half, ...session }: CompileOptions,
): Promise<Session[]> {
  // Not all of ONNX Runtime's own operators are there in float16.
  const target = half ? "portable" : (devices[0].operators ?? "onnxruntime");
  const exact = tidy(graph, { target, int8, unrolled });
  const tidied = half ? toHalf(exact) : exact;
  const source = writeOnnx(tidied, { weights: { kind: "separate" } });
  const floats = [...tidied.outputs].filter(([, { type }]) => type === "float32").map(([name]) => name);
  const options = { packWeights: int8 !== undefined, floats, ...session };
  return Promise.all(devices.map((device) => device.createSession(source, options)));
}

/**
 * A loop that takes a graph element by element and changes tensors of the device in place: the inputs that outputs are named after. For
 * devices that have loops.
 */
export async function compileLoop(graph: Graph, device: Device): Promise<Loop> {
  if (!device.createLoop) throw new Error("this device has no loops");
  return device.createLoop(writeLoop(graph));
}

/** What was opened under a key before, or is now. */
function openedOnce<T>(cache: Map<string, Promise<T>>, key: string, open: () => Promise<T>): Promise<T> {
  const opened = cache.get(key) ?? open();
  cache.set(key, opened);
  // What could not be opened must not stand in the way of a later try.
  opened.catch(() => cache.delete(key));
  return opened;
}

/** Sessions and loops by what they are for, each compiled when it is first asked for. */
export class Sessions {
  private readonly device: Device;
  private readonly options: CompileOptions;
  private readonly opened = new Map<string, Promise<Session>>();
  private readonly loops = new Map<string, Promise<Loop>>();

  constructor(device: Device, options: CompileOptions = {}) {
    this.device = device;
    this.options = options;
  }

  /** The session of this key: that of an earlier call, or one made of what `build` gives. */
  get(key: string, build: () => Graph): Promise<Session> {
    return openedOnce(this.opened, key, async () => compile(build(), this.device, this.options));
  }

  /** The loop of this key, likewise; for devices that have loops. */
  loop(key: string, build: () => Graph): Promise<Loop> {
    return openedOnce(this.loops, key, async () => compileLoop(build(), this.device));
  }

  /** Closes all of them; others may be asked for afterwards. */
  async dispose(): Promise<void> {
    const opened = [...this.opened.values(), ...this.loops.values()];
    this.opened.clear();
    this.loops.clear();
    for (const one of opened) await (await one).dispose();
  }
}
