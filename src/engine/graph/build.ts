// Plain functions that make values. Each call checks types and shapes at once, where the mistake was made.
import type { DataType, Tensor } from "../../utils/tensor.ts";
import { allocate, elementCount } from "../../utils/tensor.ts";
import type { Coordinates } from "./interpolation.ts";
import type { Attributes, OpKind } from "./operators.ts";
import { operators } from "./operators.ts";
import { normalAxis, ShapeError, sameShape } from "./shapes.ts";
import type { Dim, Graph, Node, Shape, TensorType, Value } from "./graph.ts";
import { formatType } from "./graph.ts";

/** Types of a node's outputs; errors name the operator and the shapes of its inputs. */
export function inferTypes<K extends OpKind>(
  op: K,
  inputs: readonly TensorType[],
  attributes: Attributes<K>,
): TensorType[] {
  const row = operators[op];
  if (row.arity === "any" ? inputs.length === 0 : ![row.arity].flat().includes(inputs.length)) {
    throw new ShapeError(`${op} takes ${[row.arity].flat().join(" or ")} inputs, got ${inputs.length}`);
  }
  try {
    return row.infer(inputs, attributes);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ShapeError(`${op}(${inputs.map(formatType).join(", ")}): ${error.message}`);
  }
}

/** A node of any operator; the functions below are the default way to make one. */
export function node<K extends OpKind>(op: K, inputs: readonly Value[], attributes: Attributes<K>): Node<K> {
  const outputs: Value[] = [];
  const made: Node<K> = { op, inputs, attributes, outputs };
  inferTypes(op, inputs, attributes).forEach((type, index) => {
    outputs.push({ ...type, source: { kind: "node", node: made, index } });
  });
  return made;
}

function one<K extends OpKind>(op: K, inputs: readonly Value[], attributes: Attributes<K>): Value {
  return node(op, inputs, attributes).outputs[0];
}

export function input(name: string, type: DataType, shape: Shape): Value {
  return { type, shape, source: { kind: "input", name } };
}

export function constant(tensor: Tensor, name?: string): Value {
  return { type: tensor.type, shape: tensor.dims, source: { kind: "constant", tensor, name } };
}

/** A constant of the same type as `like`, filled with one number; broadcasts from rank 0. */
export function filled(like: TensorType, value: number, dims: readonly number[] = []): Value {
  if (like.type === "float16" || like.type === "bfloat16" || like.type === "int64") {
    throw new ShapeError(`no ${like.type} constant can be made from a number here`);
  }
  const data = allocate(like.type, elementCount(dims)).fill(value);
  return constant({ type: like.type, dims, data });
}

type Operand = Value | number;

/** Numbers stand for constants of the other operand's type. */
function pair(a: Operand, b: Operand): [Value, Value] {
  if (typeof a === "number") {
    if (typeof b === "number") throw new ShapeError("one operand must be a value");
    return [filled(b, a), b];
  }
  return [a, typeof b === "number" ? filled(a, b) : b];
}

export const add = (a: Operand, b: Operand): Value => one("Add", pair(a, b), {});
export const sub = (a: Operand, b: Operand): Value => one("Sub", pair(a, b), {});
export const mul = (a: Operand, b: Operand): Value => one("Mul", pair(a, b), {});
export const div = (a: Operand, b: Operand): Value => one("Div", pair(a, b), {});
export const pow = (a: Operand, b: Operand): Value => one("Pow", pair(a, b), {});
/** The largest of all. */
export const max = (first: Value, ...rest: readonly Operand[]): Value =>
  one("Max", [first, ...rest.map((v) => (typeof v === "number" ? filled(first, v) : v))], {});
export const equal = (a: Value, b: Value): Value => one("Equal", [a, b], {});
export const greater = (a: Operand, b: Operand): Value => one("Greater", pair(a, b), {});
export const where = (condition: Value, a: Operand, b: Operand): Value => one("Where", [condition, ...pair(a, b)], {});
export const neg = (x: Value): Value => one("Neg", [x], {});
export const abs = (x: Value): Value => one("Abs", [x], {});
export const sign = (x: Value): Value => one("Sign", [x], {});
export const sqrt = (x: Value): Value => one("Sqrt", [x], {});
export const exp = (x: Value): Value => one("Exp", [x], {});
export const log = (x: Value): Value => one("Log", [x], {});
export const erf = (x: Value): Value => one("Erf", [x], {});
export const tanh = (x: Value): Value => one("Tanh", [x], {});
export const sigmoid = (x: Value): Value => one("Sigmoid", [x], {});
export const relu = (x: Value): Value => one("Relu", [x], {});
export const floor = (x: Value): Value => one("Floor", [x], {});
export const round = (x: Value): Value => one("Round", [x], {});
export const matmulInteger = (a: Value, b: Value, zero: Value): Value => one("MatMulInteger", [a, b, zero], {});
export const matmulIntegerToFloat = (a: Value, b: Value, scale: Value, columns: Value, zero: Value): Value =>
  one("MatMulIntegerToFloat", [a, b, scale, columns, zero], {});
/** The product with `[N]` added to each of its rows. */
export const withBias = ({ inputs }: Node<"MatMulIntegerToFloat">, bias: Value): Value =>
  one("MatMulIntegerToFloat", [...inputs.slice(0, 5), bias], {});
/** `x` `[..., K]` times the transpose of weights in few bits: `[..., N]`. */
export const matmulNBits = (
  x: Value,
  weights: { readonly packed: Value; readonly scales: Value; readonly zeroPoints?: Value },
  attributes: Attributes<"MatMulNBits">,
): Value => {
  const { packed, scales, zeroPoints } = weights;
  return one("MatMulNBits", [x, packed, scales, ...(zeroPoints ? [zeroPoints] : [])], attributes);
};
/** 8-bit numbers, their scale and their zero point. */
export function dynamicQuantizeLinear(x: Value): { q: Value; scale: Value; zero: Value } {
  const [q, scale, zero] = node("DynamicQuantizeLinear", [x], {}).outputs;
  return { q, scale, zero };
}
/** `scale` and `zero` are one number each, or as many as there are along `axis`. */
export const quantizeLinear = (x: Value, scale: Value, zero: Value, axis = 0): Value =>
  one("QuantizeLinear", [x, scale, zero], { axis });
export const dequantizeLinear = (x: Value, scale: Value, axis: number): Value =>
  one("DequantizeLinear", [x, scale], { axis });
/** `x`, which no gradient passes. */
export const bitwiseAnd = (a: Value, mask: number): Value => one("BitwiseAnd", [a, filled(a, mask)], {});
export const bitwiseOr = (a: Value, b: Value): Value => one("BitwiseOr", [a, b], {});
export const bitShift = (x: Value, direction: "LEFT" | "RIGHT", by: number): Value =>
  by === 0 ? x : one("BitShift", [x, filled(x, by)], { direction });
export const stopGradient = (x: Value): Value => one("StopGradient", [x], {});
export const gelu = (x: Value, approximate: "none" | "tanh" = "none"): Value => one("Gelu", [x], { approximate });
export const cast = (x: Value, to: DataType): Value => (x.type === to ? x : one("Cast", [x], { to }));
/** `[..., M, K] x [..., K, N] -> [..., M, N]` */
export const matmul = (a: Value, b: Value): Value => one("MatMul", [a, b], {});
export const softmax = (x: Value, axis = -1): Value => one("Softmax", [x], { axis });
export const logSoftmax = (x: Value, axis = -1): Value => one("LogSoftmax", [x], { axis });

/** Over the last axis; `scale` and `bias` are `[D]`. */
export const layerNormalization = (x: Value, scale: Value, bias: Value, epsilon: number): Value =>
  one("LayerNormalization", [x, scale, bias], { epsilon });

const reduce =
  (op: "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin") =>
  (x: Value, axes?: readonly number[], keepDims = false): Value =>
    one(op, [x], { axes: axes ?? x.shape.map((_, i) => i), keepDims });

/** Over `axes`, or all of them. */
export const reduceSum = reduce("ReduceSum");
export const reduceMean = reduce("ReduceMean");
export const reduceMax = reduce("ReduceMax");
export const reduceMin = reduce("ReduceMin");

export const reshape = (x: Value, shape: Shape): Value =>
  sameShape(x.shape, shape) ? x : one("Reshape", [x], { shape });

/** A tensor's first number, as float32. */
export function cornerOf(x: Value): Value {
  let corner = x;
  for (let axis = 0; axis < x.shape.length; axis++) corner = slice(corner, axis, 0, 1);
  return cast(reshape(corner, []), "float32");
}

/** Numbers of all these values: what waits for them waits for all. */
export const cornersOf = (values: readonly Value[]): Value =>
  concat(
    values.map((x) => reshape(cornerOf(x), [1])),
    0,
  );

/** `x` itself, but not before `gate` (float) is there: without a copy, by a shape that is known only then. */
export function after(x: Value, gate: Value): Value {
  const dims = x.shape.map((d) => BigInt(d));
  const shape = constant({ type: "int64", dims: [dims.length], data: BigInt64Array.from(dims) });
  // Nothing is greater than infinity, and what is not a number is not greater than anything: it is this shape either way.
  const chosen = where(greater(abs(cornerOf(gate)), Number.POSITIVE_INFINITY), shape, shape);
  return one("AwaitedReshape", [x, chosen], { shape: x.shape });
}

/** Transposing what was transposed reads the original; a permutation that changes nothing returns `x`. */
export function transpose(x: Value, perm: readonly number[]): Value {
  let [from, order] = [x, perm];
  while (from.source.kind === "node" && from.source.node.op === "Transpose") {
    if (isIdentity(order)) return from;
    const inner = from.source.node.attributes as Attributes<"Transpose">;
    order = order.map((p) => inner.perm[p]);
    from = from.source.node.inputs[0];
  }
  return order.length === from.shape.length && isIdentity(order) ? from : one("Transpose", [from], { perm: order });
}

const isIdentity = (perm: readonly number[]): boolean => perm.every((p, i) => p === i);

/** The last two axes exchanged. */
export function transposeLast(x: Value): Value {
  const rank = x.shape.length;
  return transpose(x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
}

export const expand = (x: Value, shape: Shape): Value =>
  sameShape(x.shape, shape) ? x : one("Expand", [x], { shape });

export const concat = (values: readonly Value[], axis: number): Value =>
  values.length === 1 ? values[0] : one("Concat", values, { axis });

/** Parts of the given sizes along an axis. */
export const split = (x: Value, axis: number, sizes: readonly number[]): readonly Value[] =>
  node("Split", [x], { axis, sizes }).outputs;

export function slice(x: Value, axis: number, start: number, end: number): Value {
  const at = normalAxis(axis, x.shape.length);
  return start === 0 && end === x.shape[at] ? x : one("Slice", [x], { axis: at, start, end });
}

export const pad = (x: Value, axis: number, before: number, after: number): Value =>
  before === 0 && after === 0 ? x : one("Pad", [x], { axis: normalAxis(axis, x.shape.length), before, after });

/** `[B, C, H, W]` with kernels `[O, C, k, k]`, in steps of one, between `padding` zeros. */
export const conv = (x: Value, kernels: Value, padding: number): Value => one("Conv", [x, kernels], { padding });

/** `[B, C, H, W]` resized, bilinear. */
export const resize = (x: Value, height: number, width: number, coordinates: Coordinates): Value =>
  one("Resize", [x], { height, width, coordinates });

/** The slice `[.., index, ..]` with the axis dropped. */
export function at(x: Value, axis: number, index: number): Value {
  const position = normalAxis(axis, x.shape.length);
  const kept: Dim[] = x.shape.filter((_, i) => i !== position);
  return reshape(slice(x, position, index, index + 1), kept);
}

/** Sums over the axes that broadcasting from `shape` has added or widened, so that the result has `shape`. */
export function sumTo(x: Value, shape: Shape): Value {
  if (sameShape(x.shape, shape)) return x;
  const extra = x.shape.length - shape.length;
  const axes = x.shape.flatMap((d, i) => (i < extra || (shape[i - extra] === 1 && d !== 1) ? [i] : []));
  return reshape(axes.length > 0 ? reduceSum(x, axes, true) : x, shape);
}

export function graph(inputs: readonly Value[], outputs: Record<string, Value> | ReadonlyMap<string, Value>): Graph {
  return { inputs, outputs: outputs instanceof Map ? outputs : new Map(Object.entries(outputs)) };
}
