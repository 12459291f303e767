// Tensors that stay on a device between runs, and the memory of those that were released.
import type { GpuMemory } from "./gpu-memory.ts";
import { isOnGpu } from "./gpu-memory.ts";
import type { OnnxRuntime, OnnxTensor } from "./onnx-api.ts";
import { translateErrors } from "./onnx-errors.ts";
import type { DataType, Tensor, TypedArrays } from "../utils/tensor.ts";
import { allocate, byteCount, elementCount } from "../utils/tensor.ts";
import type { DeviceTensor, Feed } from "./device.ts";

/** A file that tensors lie in while no run reads them. */
export interface TensorFile {
  /** Lays bytes down and says where; undefined where there is no room. */
  write(bytes: Uint8Array): number | undefined;
  /** @throws a RunError where the file does not hold them any more */
  read(place: number, into: Uint8Array): void;
  /** Others may take the place. */
  free(place: number, byteLength: number): void;
  close(): void;
}

/** Opens such a file; undefined where none can be opened. */
export type OpenTensorFile = () => TensorFile | undefined;

/** A tensor whose numbers lie in the file. */
interface OffloadedTensor {
  readonly type: Pooled;
  readonly dims: readonly number[];
  readonly place: number;
}

const isOffloaded = (tensor: OnnxTensor | OffloadedTensor): tensor is OffloadedTensor => "place" in tensor;
const bytesOf = (data: ArrayBufferView): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** Tensors that stay on a device, and the memory of those that were released. */
export class DeviceMemory {
  readonly buffers = new BufferPool();
  private readonly held = new Map<number, OnnxTensor | OffloadedTensor>();
  /** Bytes of tensors that may be offloaded, and lie in memory. */
  private readonly offloadable = new Map<number, number>();
  private offloadableBytes = 0;
  private file: TensorFile | undefined;
  private readonly runtime: OnnxRuntime;
  private readonly gpu: GpuMemory | undefined;
  private readonly openFile: OpenTensorFile | undefined;
  private nextId = 0;

  constructor(runtime: OnnxRuntime, gpu: GpuMemory | undefined, openFile?: OpenTensorFile) {
    this.runtime = runtime;
    this.gpu = gpu;
    this.openFile = openFile;
  }

  hold(tensor: OnnxTensor): DeviceTensor {
    const id = this.nextId++;
    this.held.set(id, tensor);
    return { kind: "device", id, dims: tensor.dims };
  }

  /** A tensor in memory, where it stays. */
  find({ id }: DeviceTensor): OnnxTensor {
    const tensor = this.at(id);
    if (!isOffloaded(tensor)) return tensor;
    const read = this.read(tensor);
    this.freePlace(tensor);
    this.held.set(id, read);
    return read;
  }

  /** What a session takes, by name; `giveBack` says that it has run. */
  lend(feeds: Readonly<Record<string, Feed>>): { given: Record<string, OnnxTensor>; giveBack: () => void } {
    const borrowed: OnnxTensor[] = [];
    const lent = (feed: Feed): OnnxTensor => {
      if (!("kind" in feed)) return new this.runtime.Tensor(feed.type, unshared(feed.data), feed.dims);
      const tensor = this.at(feed.id);
      if (!isOffloaded(tensor)) return tensor;
      const read = this.read(tensor);
      borrowed.push(read);
      return read;
    };
    const given = Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, lent(feed)]));
    return { given, giveBack: () => borrowed.forEach((tensor) => this.reuse(tensor)) };
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
    const stored = this.at(tensor.id);
    if (isOffloaded(stored)) {
      const read = fromOnnx(this.read(stored));
      if (take) this.drop(tensor.id);
      return read;
    }
    const { type, dims, data } = fromOnnx(await this.toCpu(stored));
    if (take) this.drop(tensor.id);
    if (take && isOnGpu(stored)) await this.forget(stored);
    return { type, dims, data: (take || isOnGpu(stored) ? data : data.slice()) as Tensor["data"] };
  }

  async release(tensors: readonly DeviceTensor[]): Promise<void> {
    for (const { id } of tensors) {
      const tensor = this.held.get(id);
      this.drop(id);
      if (tensor && !isOffloaded(tensor)) await this.forget(tensor);
    }
  }

  /** See `Device.allowOffload`. */
  allowOffload({ id }: DeviceTensor, most: number): void {
    const tensor = this.at(id);
    if (isOffloaded(tensor) || isOnGpu(tensor) || !isPooled(tensor.type) || this.offloadable.has(id)) return;
    const { type, dims } = tensor;
    const data = tensor.data as TypedArrays[Pooled];
    const bytes = bytesOf(data);
    const place = this.offloadableBytes + bytes.byteLength > most ? this.opened()?.write(bytes) : undefined;
    if (place === undefined) {
      this.offloadable.set(id, bytes.byteLength);
      this.offloadableBytes += bytes.byteLength;
      return;
    }
    this.held.set(id, { type, dims, place });
    // One that waits is enough: what is offloaded next would only add to those.
    if (!this.buffers.has(type, data.length)) this.reuse(tensor);
  }

  /** Lets go of the memory of released tensors. */
  trim(): void {
    this.buffers.clear();
  }

  async freeAll(): Promise<void> {
    for (const tensor of this.held.values()) if (!isOffloaded(tensor) && isOnGpu(tensor)) await this.gpu?.free(tensor);
    this.held.clear();
    this.file?.close();
    this.file = undefined;
  }

  private at(id: number): OnnxTensor | OffloadedTensor {
    const tensor = this.held.get(id);
    if (!tensor) throw new Error("this device tensor was released or belongs to another device");
    return tensor;
  }

  private opened(): TensorFile | undefined {
    this.file ??= this.openFile?.();
    return this.file;
  }

  private read({ type, dims, place }: OffloadedTensor): OnnxTensor {
    const data = this.buffers.take(type, elementCount(dims));
    this.file?.read(place, bytesOf(data));
    return new this.runtime.Tensor(type, data, dims);
  }

  private freePlace({ type, dims, place }: OffloadedTensor): void {
    this.file?.free(place, byteCount({ type, dims }));
  }

  /** Holds a tensor no longer. */
  private drop(id: number): void {
    const tensor = this.held.get(id);
    if (tensor && isOffloaded(tensor)) this.freePlace(tensor);
    this.offloadableBytes -= this.offloadable.get(id) ?? 0;
    this.offloadable.delete(id);
    this.held.delete(id);
  }

  private async forget(tensor: OnnxTensor): Promise<void> {
    if (isOnGpu(tensor)) await this.gpu?.free(tensor);
    else this.reuse(tensor);
  }

  /** Leaves a tensor's memory to others. */
  private reuse({ type, data }: OnnxTensor): void {
    if (isPooled(type)) this.buffers.give(type, data as TypedArrays[Pooled]);
  }

  private copied({ type, data }: Tensor): Tensor["data"] {
    const copy = isPooled(type) ? this.buffers.take(type, data.length) : allocate(type, data.length);
    (copy as Float32Array).set(data as Float32Array);
    return copy;
  }
}

const isShared = (data: Tensor["data"]): boolean => !(data.buffer instanceof ArrayBuffer);
/** ONNX Runtime takes no shared memory as input. */
const unshared = (data: Tensor["data"]): Tensor["data"] => (isShared(data) ? data.slice() : data);

const pooledTypes = ["float32", "float64", "float16"] as const;
export type Pooled = (typeof pooledTypes)[number];
/** Whether released memory of this type waits for others to take it. */
export const isPooled = (type: string | undefined): type is Pooled =>
  (pooledTypes as readonly (string | undefined)[]).includes(type);

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

export function fromOnnx({ type, dims, data }: OnnxTensor): Tensor {
  return { type: type as DataType, dims: dims.map(Number), data: data as Tensor["data"] };
}
