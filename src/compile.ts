// Graph to session: the one place that joins the graph side with the runtime side.
import type { Graph } from "./graph/types.ts";
import { writeOnnx } from "./onnx/write.ts";
import type { PassOptions } from "./passes/tidy.ts";
import { tidy } from "./passes/tidy.ts";
import type { Device, ModelSource, Session, SessionOptions } from "./runtime/types.ts";

export type CompileOptions = SessionOptions & Pick<PassOptions, "int8">;

/** A graph as sessions are made of it, and what they have to know of it. */
interface Compiled {
  readonly source: ModelSource;
  readonly session: SessionOptions;
}

function compiled(graph: Graph, device: Device, { int8, ...session }: CompileOptions): Compiled {
  const tidied = tidy(graph, { target: device.operators ?? "onnxruntime", int8 });
  const { model, externalData } = writeOnnx(tidied, { weights: { kind: "separate" } });
  const floats = [...tidied.outputs].filter(([, { type }]) => type === "float32").map(([name]) => name);
  return { source: { model, externalData }, session: { packWeights: int8 !== undefined, floats, ...session } };
}

/** Tidies a graph, writes it and opens a session. Weights are handed over where they lie, without a copy in between. */
export async function compile(graph: Graph, device: Device, options: CompileOptions = {}): Promise<Session> {
  const { source, session } = compiled(graph, device, options);
  return device.createSession(source, session);
}

/** A second session has a copy of the weights, which is worth its while up to so many bytes. */
const lightWeights = 192 * 2 ** 20;

/**
 * Two sessions of a graph that run at the same time, each with half of the threads, on the device and on the one beside it: two
 * runs so end sooner than one after the other, each by all threads, which wait for each other at each node. One session where there
 * is no device beside, threads are too few or weights too heavy, with the `more` bytes that the second one takes.
 */
export async function compilePair(
  graph: Graph,
  device: Device,
  more: number,
  options: CompileOptions = {},
): Promise<{ readonly device: Device; readonly session: Session }[]> {
  const { source, session } = compiled(graph, device, options);
  const chunks = (source.externalData ?? []).flatMap((stored) => stored.chunks);
  const bytes = chunks.reduce((sum, { byteLength }) => sum + byteLength, more);
  const { threads = 1 } = device;
  const neighbour = threads > 1 && bytes <= lightWeights ? device.beside?.() : undefined;
  if (!neighbour) return [{ device, session: await device.createSession(source, session) }];
  const half = { ...session, threads: Math.floor(threads / 2) };
  return Promise.all(
    [device, neighbour].map(async (each) => ({ device: each, session: await each.createSession(source, half) })),
  );
}

/** Sessions by what they are for, each compiled when it is first asked for. */
export class Sessions {
  private readonly device: Device;
  private readonly options: CompileOptions;
  private readonly opened = new Map<string, Promise<Session>>();

  constructor(device: Device, options: CompileOptions = {}) {
    this.device = device;
    this.options = options;
  }

  /** The session of this key: that of an earlier call, or one made of what `build` gives. */
  get(key: string, build: () => Graph): Promise<Session> {
    const opened = this.opened.get(key) ?? this.open(build);
    this.opened.set(key, opened);
    // A session that could not be opened must not stand in the way of a later try.
    opened.catch(() => this.opened.delete(key));
    return opened;
  }

  private async open(build: () => Graph): Promise<Session> {
    return compile(build(), this.device, this.options);
  }

  /** Closes all of them; others may be asked for afterwards. */
  async dispose(): Promise<void> {
    const opened = [...this.opened.values()];
    this.opened.clear();
    for (const session of opened) await (await session).dispose();
  }
}
