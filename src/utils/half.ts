// IEEE half precision and bfloat16, bit patterns to float32 and back (round to nearest, ties to even).
import type { FloatTensor, Tensor } from "./tensor.ts";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

let halfTable: Float32Array | undefined;

/** Float16 patterns to float32. All 65,536 values stand in a table, built at the first call. */
export function halfToFloat(source: Uint16Array, target = new Float32Array(source.length)): Float32Array {
  halfTable ??= Float32Array.from({ length: 65536 }, (_, i) => halfToNumber(i));
  const table = halfTable;
  for (let i = 0; i < source.length; i++) target[i] = table[source[i]];
  return target;
}

function numberToHalf(value: number): number {
  float[0] = value;
  const x = bits[0];
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 and above round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal halves are multiples of 2^-24; adding 0.5 lets the float unit round to even.
    float[0] = magnitude === 0 ? 0 : Math.abs(value);
    float[0] = float[0] + 0.5;
    return sign | (bits[0] - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** The largest number that float16 has. */
const largestHalf = 65504;

/** Whether float16 has room for all numbers of a tensor. */
export const isWithinHalf = ({ data }: FloatTensor): boolean => data.every((value) => Math.abs(value) <= largestHalf);

/** The nearest number that float16 has. */
export const roundToHalf = (value: number): number => halfToNumber(numberToHalf(value));

/** Float32 to float16 patterns. */
export function floatToHalf(source: Float32Array): Uint16Array {
  const target = new Uint16Array(source.length);
  for (let i = 0; i < source.length; i++) target[i] = numberToHalf(source[i]);
  return target;
}

/** Bfloat16 patterns to float32. */
export function bfloatToFloat(source: Uint16Array, target = new Float32Array(source.length)): Float32Array {
  const words = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) words[i] = source[i] << 16;
  return target;
}

/** Float32 to bfloat16 patterns. */
export function floatToBfloat(source: Float32Array): Uint16Array {
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  const target = new Uint16Array(source.length);
  for (let i = 0; i < words.length; i++) {
    const x = words[i];
    const notANumber = (x & 0x7fffffff) > 0x7f800000;
    target[i] = notANumber ? (x >>> 16) | 0x40 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return target;
}

/** The tensor as float32; float32 ones are returned as they are. Throws on types that are no floats. */
export function toFloat32(tensor: Tensor): FloatTensor {
  switch (tensor.type) {
    case "float32":
      return tensor as FloatTensor;
    case "float16":
      return { type: "float32", dims: tensor.dims, data: halfToFloat(tensor.data as Uint16Array) };
    case "bfloat16":
      return { type: "float32", dims: tensor.dims, data: bfloatToFloat(tensor.data as Uint16Array) };
    case "float64":
      return { type: "float32", dims: tensor.dims, data: Float32Array.from(tensor.data as Float64Array) };
    default:
      throw new Error(`a tensor of ${tensor.type} can't be read as float32`);
  }
}

/** Types that weights are stored in. */
export const weightTypes = ["float32", "float16", "bfloat16"] as const;
export type WeightType = (typeof weightTypes)[number];

/** A float32 tensor in the type that a file is to hold. */
export function fromFloat32(tensor: FloatTensor, type: WeightType): Tensor {
  if (type === "float32") return tensor;
  const data = type === "float16" ? floatToHalf(tensor.data) : floatToBfloat(tensor.data);
  return { type, dims: tensor.dims, data };
}
