// One row per operator: its attributes, how many inputs it takes, and the rule for its outputs' types and shapes.
// Names and meaning are ONNX's; what newer ONNX versions take as integer inputs (axes, shapes, starts) stands in
// the attributes, and the writer turns it into inputs.
import type { DataType } from "../../utils/tensor.ts";
import type { Coordinates } from "./interpolation.ts";
import { broadcast, countKey, normalAxis, ShapeError, sameShape } from "./shapes.ts";
import type { Dim, Shape, TensorType } from "./tensor-type.ts";
import { formatType } from "./tensor-type.ts";

type None = Readonly<Record<never, never>>;
interface Axis {
  readonly axis: number;
}
interface Reduction {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

/** How weights in few bits are stored: see MatMulNBits. */
export interface BlockWeightAttributes {
  /** K */
  readonly inputs: number;
  /** N */
  readonly outputs: number;
  readonly bits: 2 | 4 | 8;
  readonly blockSize: number;
  readonly accuracyLevel: 0 | 4;
}

/** The attributes of each operator. */
export interface OperatorAttributes {
  Add: None;
  Sub: None;
  Mul: None;
  Div: None;
  Pow: None;
  /** The largest of any number of values. */
  Max: None;
  Neg: None;
  Abs: None;
  Sign: None;
  Sqrt: None;
  Exp: None;
  Log: None;
  Erf: None;
  Tanh: None;
  Sigmoid: None;
  Relu: None;
  Floor: None;
  /** To the nearest whole number, halves to even. */
  Round: None;
  /** The value itself, a constant to the gradient; ONNX's Identity. */
  StopGradient: None;
  Gelu: { readonly approximate: "none" | "tanh" };
  Equal: None;
  Greater: None;
  Where: None;
  Cast: { readonly to: DataType };
  MatMul: None;
  /** com.microsoft: `alpha` times a matrix product that reads its last two axes transposed. Made by passes, never by hand. */
  FusedMatMul: { readonly transA: boolean; readonly transB: boolean; readonly alpha: number };
  /** 8-bit numbers a `[..., M, K]` less a zero point, times 8-bit weights `[K, N]`: int32. */
  MatMulInteger: None;
  /**
   * com.microsoft: 8-bit numbers a `[..., M, K]`, 8-bit weights `[K, N]`, a's scale, one scale for each of the N outputs or for
   * all, a's zero point: the product as floats.
   */
  MatMulIntegerToFloat: None;
  /**
   * com.microsoft: floats `[..., K]` times the transpose of `[N, K]` weights in 2, 4 or 8 bits, with a scale for each block along
   * the inputs. Inputs: a; packed weights, uint8 `[N, blocks, blockSize * bits / 8]`; scales `[N, blocks]` of a's type; and
   * packed zero points, uint8 `[N, ceil(blocks * bits / 8)]`, which are 2^(bits - 1) where left out. Smaller numbers stand in
   * the lower bits of a byte; the last block is padded where K is no multiple of the block size. `accuracyLevel` is what a's
   * numbers are brought to on the way: 0 as they are, 4 int8.
   */
  MatMulNBits: BlockWeightAttributes;
  /** Floats as 8-bit numbers with one scale and zero point for all, which are the second and third output. */
  DynamicQuantizeLinear: None;
  /**
   * Floats over a scale, rounded and brought around a zero point, whose type the 8-bit numbers have: one of each for all, or for
   * each place along an axis.
   */
  QuantizeLinear: Axis;
  /** 8-bit numbers times one scale for each place along an axis. */
  DequantizeLinear: Axis;
  /** On bytes, bit by bit. */
  BitwiseAnd: None;
  BitwiseOr: None;
  /** Bytes times or over a power of 2; bits that leave a byte are lost. */
  BitShift: { readonly direction: "LEFT" | "RIGHT" };
  Softmax: Axis;
  LogSoftmax: Axis;
  /** Over the last axis. Outputs: the result, and each row's mean and inverse deviation `[..., 1]`. */
  LayerNormalization: { readonly epsilon: number };
  ReduceSum: Reduction;
  ReduceMean: Reduction;
  ReduceMax: Reduction;
  ReduceMin: Reduction;
  Reshape: { readonly shape: Shape };
  /** A reshape that waits for a shape that is computed, `int64[rank]`: always that of the attribute. */
  AwaitedReshape: { readonly shape: Shape };
  Transpose: { readonly perm: readonly number[] };
  Expand: { readonly shape: Shape };
  Concat: Axis;
  Split: { readonly axis: number; readonly sizes: readonly number[] };
  Slice: { readonly axis: number; readonly start: number; readonly end: number };
  /** Zeros before and after along one axis. */
  Pad: { readonly axis: number; readonly before: number; readonly after: number };
  /** `[B, C, H, W]` with kernels `[O, C, k, l]`: steps of one, as many zeros on each side. */
  Conv: { readonly padding: number };
  /** `[B, C, H, W]` made larger or smaller, bilinear. */
  Resize: { readonly height: number; readonly width: number; readonly coordinates: Coordinates };
}

export type OpKind = keyof OperatorAttributes;
export type Attributes<K extends OpKind> = OperatorAttributes[K];

interface OperatorRow<A> {
  /** Where there are several, trailing inputs may be left out. */
  readonly arity: number | readonly number[] | "any";
  readonly domain?: "com.microsoft";
  /** ONNX's name where it is another. */
  readonly onnx?: string;
  /** Types and shapes of the outputs; throws a ShapeError on inputs that the operator can't take. */
  infer(inputs: readonly TensorType[], attributes: A): TensorType[];
}

const floats: ReadonlySet<DataType> = new Set(["float32", "float64", "float16"]);

function requireFloat(x: TensorType): void {
  if (!floats.has(x.type)) throw new ShapeError(`needs floats, got ${formatType(x)}`);
}

function requireSameType(a: TensorType, b: TensorType): void {
  if (a.type !== b.type) throw new ShapeError(`types differ: ${formatType(a)} and ${formatType(b)}`);
}

const unary: OperatorRow<None> = {
  arity: 1,
  infer([x]) {
    requireFloat(x);
    return [{ type: x.type, shape: x.shape }];
  },
};

const binary: OperatorRow<None> = {
  arity: 2,
  infer([a, b]) {
    requireSameType(a, b);
    return [{ type: a.type, shape: broadcast(a.shape, b.shape) }];
  },
};

const comparison: OperatorRow<None> = {
  arity: 2,
  infer([a, b]) {
    requireSameType(a, b);
    return [{ type: "bool", shape: broadcast(a.shape, b.shape) }];
  },
};

/** Two values of bytes. */
function byteShape([a, b]: readonly TensorType[]): TensorType[] {
  for (const x of [a, b]) if (x.type !== "uint8") throw new ShapeError(`needs uint8, got ${formatType(x)}`);
  return [{ type: "uint8", shape: broadcast(a.shape, b.shape) }];
}

const bitwise: OperatorRow<None> = { arity: 2, infer: byteShape };

const alongAxis: OperatorRow<Axis> = {
  arity: 1,
  infer([x], { axis }) {
    requireFloat(x);
    normalAxis(axis, x.shape.length);
    return [{ type: x.type, shape: x.shape }];
  },
};

const reduction: OperatorRow<Reduction> = {
  arity: 1,
  infer([x], { axes, keepDims }) {
    requireFloat(x);
    const reduced = new Set(axes.map((a) => normalAxis(a, x.shape.length)));
    const shape = keepDims
      ? x.shape.map((d, i) => (reduced.has(i) ? 1 : d))
      : x.shape.filter((_, i) => !reduced.has(i));
    return [{ type: x.type, shape }];
  },
};

function matmulShape(a: TensorType, b: TensorType, transA: boolean, transB: boolean): TensorType {
  requireFloat(a);
  requireSameType(a, b);
  if (a.shape.length < 2 || b.shape.length < 2) throw new ShapeError("matrix products need rank 2 or more");
  const [m, k] = transA ? [a.shape.at(-1), a.shape.at(-2)] : [a.shape.at(-2), a.shape.at(-1)];
  const [k2, n] = transB ? [b.shape.at(-1), b.shape.at(-2)] : [b.shape.at(-2), b.shape.at(-1)];
  if (k !== k2) throw new ShapeError(`inner dimensions differ: ${formatType(a)} and ${formatType(b)}`);
  const batch = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  return { type: a.type, shape: [...batch, m as Dim, n as Dim] };
}

function requireRank4(x: TensorType): void {
  requireFloat(x);
  if (x.shape.length !== 4) throw new ShapeError(`needs [B, C, H, W], got ${formatType(x)}`);
}

function withAxis(shape: Shape, axis: number, size: Dim): Shape {
  return shape.map((d, i) => (i === axis ? size : d));
}

function sizeAt(x: TensorType, axis: number): number {
  const size = x.shape[axis];
  if (typeof size !== "number") throw new ShapeError(`axis ${axis} of ${formatType(x)} must have a known size`);
  return size;
}

/** What uint8 numbers less a scalar zero point give with int8 weights. */
function integerProduct(a: TensorType, b: TensorType, zero: TensorType): TensorType {
  for (const [x, type] of [
    [a, "uint8"],
    [b, "int8"],
    [zero, "uint8"],
  ] as const) {
    if (x.type !== type) throw new ShapeError(`needs ${type}, got ${formatType(x)}`);
  }
  if (zero.shape.length !== 0) throw new ShapeError(`the zero point must be a scalar, got ${formatType(zero)}`);
  return matmulShape({ ...a, type: "float32" }, { ...b, type: "float32" }, false, false);
}

/** What floats give with weights in few bits. */
function blockProduct(values: readonly TensorType[], attributes: BlockWeightAttributes): TensorType {
  const [a, packed, scales, zeros] = values;
  const { inputs, outputs, bits, blockSize } = attributes;
  requireFloat(a);
  requireSameType(a, scales);
  if (a.shape.at(-1) !== inputs) throw new ShapeError(`needs [..., ${inputs}], got ${formatType(a)}`);
  if (blockSize < 16 || !Number.isInteger(Math.log2(blockSize)))
    throw new ShapeError(`the block size must be a power of 2 from 16 on, got ${blockSize}`);
  const blocks = Math.ceil(inputs / blockSize);
  if (!sameShape(scales.shape, [outputs, blocks]))
    throw new ShapeError(`the scales must be [${outputs}, ${blocks}], got ${formatType(scales)}`);
  for (const [what, x, shape] of [
    ["packed weights", packed, [outputs, blocks, (blockSize * bits) / 8]],
    ["zero points", zeros, [outputs, Math.ceil((blocks * bits) / 8)]],
  ] as const) {
    if (x !== undefined && (x.type !== "uint8" || !sameShape(x.shape, shape)))
      throw new ShapeError(`the ${what} must be [${shape.join(", ")}], got ${formatType(x)}`);
  }
  return { type: a.type, shape: [...a.shape.slice(0, -1), outputs] };
}

/** Every operator that graphs may hold. */
export const operators: { readonly [K in OpKind]: OperatorRow<Attributes<K>> } = {
  Add: binary,
  Sub: binary,
  Mul: binary,
  Div: binary,
  Pow: binary,
  Max: {
    arity: "any",
    infer([first, ...rest]) {
      requireFloat(first);
      for (const x of rest) requireSameType(x, first);
      return [{ type: first.type, shape: rest.reduce((shape, x) => broadcast(shape, x.shape), first.shape) }];
    },
  },
  Neg: unary,
  Abs: unary,
  Sign: unary,
  Sqrt: unary,
  Exp: unary,
  Log: unary,
  Erf: unary,
  Tanh: unary,
  Sigmoid: unary,
  Relu: unary,
  Floor: unary,
  Round: unary,
  StopGradient: { ...unary, onnx: "Identity" },
  Gelu: { arity: 1, infer: (inputs) => unary.infer(inputs, {}) },
  Equal: comparison,
  Greater: comparison,
  Where: {
    arity: 3,
    infer([condition, a, b]) {
      if (condition.type !== "bool") throw new ShapeError(`the condition must be bool, got ${formatType(condition)}`);
      requireSameType(a, b);
      return [{ type: a.type, shape: broadcast(condition.shape, broadcast(a.shape, b.shape)) }];
    },
  },
  Cast: { arity: 1, infer: ([x], { to }) => [{ type: to, shape: x.shape }] },
  MatMul: { arity: 2, infer: ([a, b]) => [matmulShape(a, b, false, false)] },
  FusedMatMul: {
    arity: 2,
    domain: "com.microsoft",
    infer: ([a, b], { transA, transB }) => [matmulShape(a, b, transA, transB)],
  },
  MatMulInteger: { arity: 3, infer: ([a, b, zero]) => [{ ...integerProduct(a, b, zero), type: "int32" }] },
  MatMulIntegerToFloat: {
    arity: [5, 6],
    domain: "com.microsoft",
    infer([a, b, scale, columns, zero, bias]) {
      const product = integerProduct(a, b, zero);
      const width = b.shape.slice(-1);
      for (const [what, x, shape] of [
        ["scale", scale, []],
        ["scale", columns, columns.shape.length === 0 ? [] : width],
        ["bias", bias ?? { type: "float32", shape: width }, width],
      ] as const) {
        if (x.type !== "float32" || !sameShape(x.shape, shape)) throw new ShapeError(`${formatType(x)} is no ${what}`);
      }
      return [product];
    },
  },
  MatMulNBits: {
    arity: [3, 4],
    domain: "com.microsoft",
    infer: (values, attributes) => [blockProduct(values, attributes)],
  },
  DynamicQuantizeLinear: {
    arity: 1,
    infer([x]) {
      if (x.type !== "float32") throw new ShapeError(`needs float32, got ${formatType(x)}`);
      return [
        { type: "uint8", shape: x.shape },
        { type: "float32", shape: [] },
        { type: "uint8", shape: [] },
      ];
    },
  },
  QuantizeLinear: {
    arity: 3,
    infer([x, scale, zero], { axis }) {
      requireFloat(x);
      requireSameType(x, scale);
      if (zero.type !== "int8" && zero.type !== "uint8") throw new ShapeError(`needs 8 bits, got ${formatType(zero)}`);
      const shape = scale.shape.length > 0 ? [x.shape[normalAxis(axis, x.shape.length)]] : [];
      for (const v of [scale, zero])
        if (!sameShape(v.shape, shape)) throw new ShapeError(`needs [${shape.join()}], got ${formatType(v)}`);
      return [{ type: zero.type, shape: x.shape }];
    },
  },
  DequantizeLinear: {
    arity: 2,
    infer([x, scale], { axis }) {
      requireFloat(scale);
      if (x.type !== "int8" && x.type !== "uint8") throw new ShapeError(`needs 8-bit numbers, got ${formatType(x)}`);
      if (!sameShape(scale.shape, [x.shape[normalAxis(axis, x.shape.length)]])) {
        throw new ShapeError(`${formatType(scale)} is no scale for axis ${axis} of ${formatType(x)}`);
      }
      return [{ type: scale.type, shape: x.shape }];
    },
  },
  BitwiseAnd: bitwise,
  BitwiseOr: bitwise,
  BitShift: { arity: 2, infer: (inputs) => byteShape(inputs) },
  Softmax: alongAxis,
  LogSoftmax: alongAxis,
  LayerNormalization: {
    arity: 3,
    infer([x, scale, bias]) {
      requireFloat(x);
      const width = x.shape.slice(-1);
      for (const v of [scale, bias]) {
        requireSameType(x, v);
        if (!sameShape(v.shape, width)) throw new ShapeError(`scale and bias must be [${width}], got ${formatType(v)}`);
      }
      const row = { type: x.type, shape: [...x.shape.slice(0, -1), 1] };
      return [{ type: x.type, shape: x.shape }, row, row];
    },
  },
  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceMin: reduction,
  Reshape: {
    arity: 1,
    infer([x], { shape }) {
      if (countKey(x.shape) !== countKey(shape)) {
        throw new ShapeError(`${formatType(x)} can't take the shape [${shape.join(", ")}]`);
      }
      return [{ type: x.type, shape }];
    },
  },
  AwaitedReshape: {
    arity: 2,
    onnx: "Reshape",
    infer([x, given], { shape }) {
      if (given.type !== "int64" || !sameShape(given.shape, [shape.length]))
        throw new ShapeError(`${formatType(given)} is no shape [${shape.join(", ")}]`);
      return operators.Reshape.infer([x], { shape });
    },
  },
  Transpose: {
    arity: 1,
    infer([x], { perm }) {
      if ([...perm].sort((a, b) => a - b).join() !== x.shape.map((_, i) => i).join()) {
        throw new ShapeError(`[${perm.join(", ")}] does not permute the axes of ${formatType(x)}`);
      }
      return [{ type: x.type, shape: perm.map((p) => x.shape[p]) }];
    },
  },
  Expand: {
    arity: 1,
    infer([x], { shape }) {
      if (!sameShape(broadcast(x.shape, shape), shape)) {
        throw new ShapeError(`${formatType(x)} does not expand to [${shape.join(", ")}]`);
      }
      return [{ type: x.type, shape }];
    },
  },
  Concat: {
    arity: "any",
    infer(inputs, { axis }) {
      const [first] = inputs;
      const at = normalAxis(axis, first.shape.length);
      let size = 0;
      for (const x of inputs) {
        requireSameType(first, x);
        if (!sameShape(withAxis(x.shape, at, 0), withAxis(first.shape, at, 0))) {
          throw new ShapeError(`${formatType(x)} can't be joined to ${formatType(first)} along axis ${axis}`);
        }
        size += sizeAt(x, at);
      }
      return [{ type: first.type, shape: withAxis(first.shape, at, size) }];
    },
  },
  Split: {
    arity: 1,
    infer([x], { axis, sizes }) {
      const at = normalAxis(axis, x.shape.length);
      if (sizes.reduce((a, b) => a + b, 0) !== sizeAt(x, at)) {
        throw new ShapeError(`parts of ${sizes.join(", ")} don't fill axis ${axis} of ${formatType(x)}`);
      }
      return sizes.map((size) => ({ type: x.type, shape: withAxis(x.shape, at, size) }));
    },
  },
  Slice: {
    arity: 1,
    infer([x], { axis, start, end }) {
      const at = normalAxis(axis, x.shape.length);
      if (!(start >= 0 && end > start && end <= sizeAt(x, at))) {
        throw new ShapeError(`${start} to ${end} does not lie in axis ${axis} of ${formatType(x)}`);
      }
      return [{ type: x.type, shape: withAxis(x.shape, at, end - start) }];
    },
  },
  Pad: {
    arity: 1,
    infer([x], { axis, before, after }) {
      const at = normalAxis(axis, x.shape.length);
      return [{ type: x.type, shape: withAxis(x.shape, at, before + sizeAt(x, at) + after) }];
    },
  },
  Conv: {
    arity: 2,
    infer([x, kernels], { padding }) {
      requireRank4(x);
      requireRank4(kernels);
      requireSameType(x, kernels);
      if (sizeAt(x, 1) !== sizeAt(kernels, 1))
        throw new ShapeError(`channels differ: ${formatType(x)} and ${formatType(kernels)}`);
      const [height, width] = [2, 3].map((a) => sizeAt(x, a) + 2 * padding - sizeAt(kernels, a) + 1);
      if (height < 1 || width < 1) throw new ShapeError(`${formatType(kernels)} is larger than ${formatType(x)}`);
      return [{ type: x.type, shape: [x.shape[0], kernels.shape[0], height, width] }];
    },
  },
  Resize: {
    arity: 1,
    infer([x], { height, width }) {
      requireRank4(x);
      return [{ type: x.type, shape: [x.shape[0], x.shape[1], height, width] }];
    },
  },
};
