// Tensors that stay in a GPU's memory from one run to the next (ONNX Runtime's WebGPU provider): optimizer state, gradients and
// tokens would else be read back and sent again with each run.
import type { OnnxSession, OnnxTensor } from "./onnx-api.ts";

/** Where ONNX Runtime says that a tensor lies. */
const gpu = "gpu-buffer";

export const isOnGpu = (tensor: OnnxTensor): boolean => tensor.location === gpu;

/** How a session is told to leave these outputs on the GPU. It then answers with all of its outputs, asked for or not. */
export const leftOnGpu = (outputs: readonly string[]) => ({
  preferredOutputLocation: Object.fromEntries(outputs.map((name) => [name, gpu])),
});

type Direction = "up" | "down";

/**
 * Copies float32 tensors to a GPU and back, by graphs of one Identity node: a tensor there has no way back of its own on
 * onnxruntime-node (reading one ends the process). A tensor must not outlive the session that made it, so sessions end with the
 * last of theirs. The copies' sessions also keep the GPU's memory alive, which ends with the last session:
 * the first one opens before there is any tensor, and they close when all are gone.
 */
export class GpuMemory {
  /** ONNX models `x -> y` by the tensor's rank. */
  private readonly copies: readonly Uint8Array[];
  private readonly create: (model: Uint8Array, options: Record<string, unknown>) => Promise<OnnxSession>;
  private readonly sessions = new Map<string, Promise<OnnxSession>>();
  private readonly owners = new Map<OnnxTensor, OnnxSession>();
  private readonly living = new Map<OnnxSession, number>();
  private readonly closing = new Set<OnnxSession>();

  constructor(
    copies: readonly Uint8Array[],
    create: (model: Uint8Array, options: Record<string, unknown>) => Promise<OnnxSession>,
  ) {
    this.copies = copies;
    this.create = create;
  }

  /** To be called before a session that leaves outputs on the GPU runs. */
  async open(): Promise<void> {
    await this.session("down", 1);
  }

  /** Whether a tensor can be copied at all. */
  fits({ type, dims }: { readonly type: string; readonly dims: readonly number[] }): boolean {
    return type === "float32" && dims.length < this.copies.length && dims.every((d) => d > 0);
  }

  async toGpu(tensor: OnnxTensor): Promise<OnnxTensor> {
    return this.copy("up", tensor);
  }

  async toCpu(tensor: OnnxTensor): Promise<OnnxTensor> {
    return this.copy("down", tensor);
  }

  /** Notes that a tensor that stays came out of this session. */
  adopt(tensor: OnnxTensor, session: OnnxSession): void {
    if (!isOnGpu(tensor)) return;
    this.owners.set(tensor, session);
    this.living.set(session, (this.living.get(session) ?? 0) + 1);
  }

  /** Ends a session, or has it end with the last of its tensors, whose memory is the session's. */
  async close(session: OnnxSession): Promise<void> {
    if (this.living.has(session)) this.closing.add(session);
    else await session.release();
  }

  /** Gives a tensor's memory back. */
  async free(tensor: OnnxTensor): Promise<void> {
    tensor.dispose?.();
    const session = this.owners.get(tensor);
    if (!session) return;
    this.owners.delete(tensor);
    const count = (this.living.get(session) ?? 0) - 1;
    this.living.set(session, count);
    if (count > 0) return;
    this.living.delete(session);
    if (this.closing.delete(session)) await session.release();
  }

  async dispose(): Promise<void> {
    const opened = [...this.sessions.values()];
    this.sessions.clear();
    for (const session of opened) await (await session).release();
  }

  private async copy(direction: Direction, x: OnnxTensor): Promise<OnnxTensor> {
    await this.open();
    const session = await this.session(direction, x.dims.length);
    return (await session.run({ x }, { y: null })).y;
  }

  private session(direction: Direction, rank: number): Promise<OnnxSession> {
    const key = `${direction} ${rank}`;
    const opened = this.sessions.get(key) ?? this.create(this.copies[rank], direction === "up" ? leftOnGpu(["y"]) : {});
    this.sessions.set(key, opened);
    return opened;
  }
}
