// Tensors whose numbers rest in a file: sessions read them there in place, and they come into JavaScript's memory only while
// somebody looks at them.
import type { DataType, Tensor, TypedArrays } from "./tensor.ts";
import { byteCount, rows } from "./tensor.ts";

/** A file of numbers; it is there for as long as this object is reachable. */
export interface OffloadedFile {
  readonly folder: string;
  readonly name: string;
}

/** Where a tensor's numbers begin, in bytes. */
export interface OffloadedRange {
  readonly file: OffloadedFile;
  readonly offset: number;
}

// Not a field of the tensor: a changed copy (`{ ...tensor, data }`) lies in memory.
const places = new WeakMap<Tensor, OffloadedRange>();

/** A tensor whose numbers `read` gives, each time that they are asked for. */
export function offloadedTensor<T extends DataType>(
  type: T,
  dims: readonly number[],
  place: OffloadedRange,
  read: () => TypedArrays[T],
): Tensor<T> {
  const tensor: Tensor<T> = {
    type,
    dims,
    get data() {
      return read();
    },
  };
  places.set(tensor, place);
  return tensor;
}

/** Where a tensor rests; undefined where it lies in memory. */
export function offloadedRange(tensor: Tensor): OffloadedRange | undefined {
  return places.get(tensor);
}

/** Rows `from` to `to` (exclusive) along the first axis, which rest where the tensor does. */
export function rowsInPlace<T extends DataType>(tensor: Tensor<T>, from: number, to: number): Tensor<T> {
  const place = places.get(tensor);
  if (!place) return rows(tensor, from, to);
  const dims = [to - from, ...tensor.dims.slice(1)];
  const offset = place.offset + from * byteCount({ type: tensor.type, dims: tensor.dims.slice(1) });
  return offloadedTensor(tensor.type, dims, { ...place, offset }, () => rows(tensor, from, to).data);
}

/** What a tensor's numbers are a part of, memory or file, and where they begin in it: the same for two over the same numbers. */
export function wholeOf(tensor: Tensor): { readonly whole: object; readonly offset: number } {
  const place = places.get(tensor);
  return place
    ? { whole: place.file, offset: place.offset }
    : { whole: tensor.data.buffer, offset: tensor.data.byteOffset };
}
