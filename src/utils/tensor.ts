// Tensors as ONNX Runtime has them: an element type, dimensions and flat row-major data.

/** Element types that graphs and files use. float16 and bfloat16 data is raw 16-bit patterns. */
export interface TypedArrays {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  int64: BigInt64Array;
  int32: Int32Array;
  uint8: Uint8Array;
  int8: Int8Array;
  bool: Uint8Array;
}

export type DataType = keyof TypedArrays;

export interface Tensor<T extends DataType = DataType> {
  readonly type: T;
  readonly dims: readonly number[];
  readonly data: TypedArrays[T];
}

export type FloatTensor = Tensor<"float32">;

/** Bytes one element takes. */
export const elementBytes: Readonly<Record<DataType, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  uint8: 1,
  int8: 1,
  bool: 1,
};

const constructors: {
  readonly [T in DataType]: {
    new (length: number): TypedArrays[T];
    new (buffer: ArrayBufferLike, byteOffset: number, length: number): TypedArrays[T];
  };
} = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
};

/** Number of elements of a shape. */
export function elementCount(dims: readonly number[]): number {
  let count = 1;
  for (const d of dims) count *= d;
  return count;
}

/** Bytes that a tensor's numbers take. */
export function byteCount({ type, dims }: Pick<Tensor, "type" | "dims">): number {
  return elementCount(dims) * elementBytes[type];
}

/** Memory that other threads can read without a copy, where the platform has it; else memory of this thread. */
export function sharedBuffer(bytes: number): ArrayBufferLike {
  return typeof SharedArrayBuffer === "undefined" ? new ArrayBuffer(bytes) : new SharedArrayBuffer(bytes);
}

/** An array of zeros for `count` elements of `type`. */
export function allocate<T extends DataType>(type: T, count: number): TypedArrays[T] {
  return new constructors[type](count);
}

/** Sees `bytes` as elements of `type`; copies only where the offset is not aligned. */
export function viewBytes<T extends DataType>(type: T, bytes: Uint8Array): TypedArrays[T] {
  const size = elementBytes[type];
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new constructors[type](aligned.buffer, aligned.byteOffset, aligned.byteLength / size);
}

/** The bytes of a tensor's data, without a copy. */
export function tensorBytes(tensor: Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.data;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** A float32 tensor from numbers. Throws where the count does not fit the shape. */
export function float32(data: Float32Array | readonly number[], dims: readonly number[]): FloatTensor {
  const array = data instanceof Float32Array ? data : Float32Array.from(data);
  if (array.length !== elementCount(dims)) {
    throw new Error(`${array.length} numbers don't fill the shape [${dims.join(", ")}]`);
  }
  return { type: "float32", dims, data: array };
}

export function zeros(dims: readonly number[]): FloatTensor {
  return { type: "float32", dims, data: new Float32Array(elementCount(dims)) };
}

/** Rows `from` to `to` (exclusive) along the first axis, sharing memory. */
export function rows<T extends DataType>(tensor: Tensor<T>, from: number, to: number): Tensor<T> {
  const stride = elementCount(tensor.dims.slice(1));
  return {
    type: tensor.type,
    dims: [to - from, ...tensor.dims.slice(1)],
    data: tensor.data.subarray(from * stride, to * stride) as TypedArrays[T],
  };
}

/** The chosen rows along the first axis, in the order in which they are named (a copy). */
export function chosenRows(tensor: FloatTensor, chosen: readonly number[]): FloatTensor {
  return concatRows(chosen.map((row) => rows(tensor, row, row + 1)));
}

/** Each row along the first axis times a factor of its own. */
export function scaledRows(tensor: FloatTensor, factors: Float32Array): FloatTensor {
  const stride = elementCount(tensor.dims.slice(1));
  return { ...tensor, data: tensor.data.map((v, i) => v * factors[Math.floor(i / stride)]) };
}

/** Joins tensors along the first axis (a copy). */
export function concatRows(tensors: readonly FloatTensor[]): FloatTensor {
  const first = tensors[0];
  if (!first) throw new Error("nothing to join");
  const count = tensors.reduce((sum, t) => sum + t.dims[0], 0);
  const out = zeros([count, ...first.dims.slice(1)]);
  let at = 0;
  for (const t of tensors) {
    out.data.set(t.data, at);
    at += t.data.length;
  }
  return out;
}
