// One gradient rule per operator. The table is exhaustive: an operator without an entry does not type-check.
// A rule gets the gradients of the node's outputs and answers with those of its inputs; broadcasting is undone by the
// reverse walk, so rules may answer with the broadcast shape.
import {
  add,
  cast,
  concat,
  constant,
  conv,
  div,
  equal,
  erf,
  exp,
  expand,
  filled,
  log,
  matmul,
  mul,
  neg,
  pad,
  pow,
  reduceMean,
  reduceSum,
  reshape,
  sign,
  slice,
  split,
  sub,
  tanh,
  transpose,
  transposeLast,
  where,
} from "../graph/build.ts";
import { interpolationMatrix } from "../graph/interpolation.ts";
import type { OpKind } from "../graph/operators.ts";
import { knownDim, knownShape, normalAxis } from "../graph/shapes.ts";
import type { Node, Shape, Value } from "../graph/graph.ts";
import type { Tensor } from "../../utils/tensor.ts";

/** What a rule may ask for: `needs[i]` says whether input i's gradient is wanted at all. */
export interface RuleContext<K extends OpKind> {
  readonly node: Node<K>;
  readonly needs: readonly boolean[];
  /** Gradients of the outputs; undefined where nothing downstream reads one. The first is there for one output. */
  readonly gradients: readonly (Value | undefined)[];
}

export type GradientRule<K extends OpKind> =
  | ((dy: Value, context: RuleContext<K>) => readonly (Value | undefined)[])
  /** Constant to the gradient, piecewise or by definition: the walk stops here. */
  | "zero"
  /** No rule: asking for a gradient through it is an error. */
  | "not differentiable";

/** The gradient of a reduced value, with the reduced axes back as 1. */
function keepReduced(dy: Value, shape: Shape, axes: readonly number[]): Value {
  const reduced = new Set(axes.map((a) => normalAxis(a, shape.length)));
  return reshape(
    dy,
    shape.map((d, i) => (reduced.has(i) ? 1 : d)),
  );
}

/** `[..., M, K] -> [rows, K]`, so that a product with a shared matrix is one product. */
function flattenRows(x: Value): Value {
  const dims = knownShape(x);
  const width = dims[dims.length - 1];
  return reshape(x, [dims.slice(0, -1).reduce((a, b) => a * b, 1), width]);
}

export const gradientRules: { readonly [K in OpKind]: GradientRule<K> } = {
  Add: (dy) => [dy, dy],
  Sub: (dy, { needs }) => [dy, needs[1] ? neg(dy) : undefined],
  Mul: (dy, { node, needs }) => [
    needs[0] ? mul(dy, node.inputs[1]) : undefined,
    needs[1] ? mul(dy, node.inputs[0]) : undefined,
  ],
  Div: (dy, { node, needs }) => {
    const [, b] = node.inputs;
    const da = div(dy, b);
    return [da, needs[1] ? neg(mul(da, node.outputs[0])) : undefined];
  },
  Pow: (dy, { node, needs }) => {
    const [a, b] = node.inputs;
    return [
      needs[0] ? mul(dy, mul(b, pow(a, sub(b, 1)))) : undefined,
      needs[1] ? mul(dy, mul(node.outputs[0], log(a))) : undefined,
    ];
  },
  // Equal maxima share the gradient, as in PyTorch.
  Max(dy, { node }) {
    const isLargest = node.inputs.map((x) => where(equal(x, node.outputs[0]), filled(x, 1), 0));
    const count = isLargest.reduce((sum, one) => add(sum, one));
    return isLargest.map((one) => mul(dy, div(one, count)));
  },
  Neg: (dy) => [neg(dy)],
  Abs: (dy, { node }) => [mul(dy, sign(node.inputs[0]))],
  Sign: "zero",
  Sqrt: (dy, { node }) => [div(mul(dy, 0.5), node.outputs[0])],
  Exp: (dy, { node }) => [mul(dy, node.outputs[0])],
  Log: (dy, { node }) => [div(dy, node.inputs[0])],
  Erf: (dy, { node }) => [mul(dy, mul(exp(neg(mul(node.inputs[0], node.inputs[0]))), 2 / Math.sqrt(Math.PI)))],
  Tanh: (dy, { node }) => [mul(dy, sub(1, mul(node.outputs[0], node.outputs[0])))],
  Sigmoid: (dy, { node }) => [mul(dy, mul(node.outputs[0], sub(1, node.outputs[0])))],
  Relu: (dy, { node }) => [mul(dy, sign(node.outputs[0]))],
  Floor: "zero",
  Round: "zero",
  StopGradient: "zero",
  Gelu: (dy, { node }) => [mul(dy, geluSlope(node.inputs[0], node.attributes.approximate))],
  Equal: "zero",
  Greater: "zero",
  Where: (dy, { node, needs }) => [
    undefined,
    needs[1] ? where(node.inputs[0], dy, 0) : undefined,
    needs[2] ? where(node.inputs[0], 0, dy) : undefined,
  ],
  Cast: (dy, { node }) => [cast(dy, node.inputs[0].type)],
  MatMul: (dy, { node, needs }) => {
    const [a, b] = node.inputs;
    // A matrix shared by all rows (a linear map): its gradient is one product over all of them.
    const shared = b.shape.length === 2 && a.shape.length > 2;
    return [
      needs[0] ? matmul(dy, transposeLast(b)) : undefined,
      needs[1]
        ? shared
          ? matmul(transpose(flattenRows(a), [1, 0]), flattenRows(dy))
          : matmul(transposeLast(a), dy)
        : undefined,
    ];
  },
  FusedMatMul: "not differentiable",
  MatMulInteger: "not differentiable",
  MatMulIntegerToFloat: "not differentiable",
  MatMulNBits: "not differentiable",
  DynamicQuantizeLinear: "not differentiable",
  QuantizeLinear: "not differentiable",
  BitwiseAnd: "not differentiable",
  BitwiseOr: "not differentiable",
  BitShift: "not differentiable",
  DequantizeLinear: "not differentiable",
  Softmax: (dy, { node }) => {
    const y = node.outputs[0];
    return [mul(y, sub(dy, reduceSum(mul(dy, y), [node.attributes.axis], true)))];
  },
  LogSoftmax: (dy, { node }) => [sub(dy, mul(exp(node.outputs[0]), reduceSum(dy, [node.attributes.axis], true)))],
  LayerNormalization: (_, { node, needs, gradients }) => {
    const [dy, dMean, dInverse] = gradients;
    if (!dy || dMean || dInverse) throw new Error("only the first output of LayerNormalization is differentiable");
    const [x, scale] = node.inputs;
    const [, mean, inverse] = node.outputs;
    // y = n * scale + bias with n = (x - mean) * inverse;
    // dx = inverse * (g - mean(g) - n * mean(g * n)), g = dy * scale.
    const n = mul(sub(x, mean), inverse);
    const g = mul(dy, scale);
    const rowMean = (v: Value) => reduceMean(v, [-1], true);
    return [
      needs[0] ? mul(inverse, sub(sub(g, rowMean(g)), mul(n, rowMean(mul(g, n))))) : undefined,
      needs[1] ? mul(dy, n) : undefined,
      dy,
    ];
  },
  ReduceSum: (dy, { node }) => {
    const [x] = node.inputs;
    return [expand(keepReduced(dy, x.shape, node.attributes.axes), x.shape)];
  },
  ReduceMean: (dy, { node }) => {
    const [x] = node.inputs;
    const { axes } = node.attributes;
    const count = axes.reduce((product, a) => product * knownDim(x, a), 1);
    return [expand(keepReduced(mul(dy, 1 / count), x.shape, axes), x.shape)];
  },
  ReduceMax: "not differentiable",
  ReduceMin: "not differentiable",
  Reshape: (dy, { node }) => [reshape(dy, node.inputs[0].shape)],
  AwaitedReshape: (dy, { node }) => [reshape(dy, node.inputs[0].shape), undefined],
  Transpose: (dy, { node }) => {
    const inverse: number[] = [];
    node.attributes.perm.forEach((from, to) => {
      inverse[from] = to;
    });
    return [transpose(dy, inverse)];
  },
  // The walk sums over what was expanded.
  Expand: (dy) => [dy],
  Concat: (dy, { node }) => {
    const { axis } = node.attributes;
    return split(
      dy,
      axis,
      node.inputs.map((x) => knownDim(x, axis)),
    );
  },
  Split: (_, { node, gradients }) => [
    concat(
      gradients.map((g, i) => g ?? filled(node.outputs[i], 0, knownShape(node.outputs[i]))),
      node.attributes.axis,
    ),
  ],
  Slice: (dy, { node }) => {
    const { axis, start, end } = node.attributes;
    return [pad(dy, axis, start, knownDim(node.inputs[0], axis) - end)];
  },
  Pad: (dy, { node }) => {
    const { axis, before } = node.attributes;
    return [slice(dy, axis, before, before + knownDim(node.inputs[0], axis))];
  },
  Conv: (dy, { node, needs }) => {
    const [x, kernels] = node.inputs;
    const { padding } = node.attributes;
    const [tall, wide] = [knownDim(kernels, 2), knownDim(kernels, 3)];
    if (needs[0] && tall !== wide) throw new Error("the gradient of a convolution needs square kernels");
    return [
      needs[0] ? conv(dy, flipped(transpose(kernels, [1, 0, 2, 3])), tall - 1 - padding) : undefined,
      needs[1] ? kernelGradient(x, dy, [tall, wide], padding) : undefined,
    ];
  },
  Resize: (dy, { node }) => {
    const [x] = node.inputs;
    const { height, width, coordinates } = node.attributes;
    const rows = matrix(dy, [height, knownDim(x, 2)], interpolationMatrix(knownDim(x, 2), height, coordinates));
    const columns = matrix(dy, [width, knownDim(x, 3)], interpolationMatrix(knownDim(x, 3), width, coordinates));
    return [matmul(transposeLast(rows), matmul(dy, columns))];
  },
};

/** A constant matrix of the same type as `like`. */
function matrix(like: Value, dims: readonly [number, number], numbers: Float64Array): Value {
  const data = like.type === "float64" ? numbers : Float32Array.from(numbers);
  return constant({ type: like.type, dims, data } as Tensor);
}

/** Kernels `[.., k, k]` turned by half a circle, as products with the matrix that reverses. */
function flipped(kernels: Value): Value {
  const side = knownDim(kernels, -1);
  const reversal = new Float64Array(side * side);
  for (let i = 0; i < side; i++) reversal[i * side + side - 1 - i] = 1;
  const reverse = matrix(kernels, [side, side], reversal);
  return matmul(matmul(reverse, kernels), reverse);
}

/**
 * The gradient `[O, C, k, l]` of a convolution's kernels: for each place in the kernel one product of the output's
 * gradient with the input shifted there, over all places of all images. What has fewer channels is what is shifted,
 * as shifting copies.
 */
function kernelGradient(x: Value, dy: Value, [tall, wide]: readonly [number, number], padding: number): Value {
  const [batch, outputs] = knownShape(dy);
  const channels = knownDim(x, 1);
  const shiftsInput = channels < outputs;
  const [still, moved] = shiftsInput ? [dy, x] : [x, dy];
  const [height, width] = [knownDim(still, 2), knownDim(still, 3)];
  const [above, beside] = shiftsInput ? [padding, padding] : [tall - 1 - padding, wide - 1 - padding];
  const padded = pad(pad(moved, 2, above, above), 3, beside, beside);
  const flat = (v: Value) => reshape(v, [batch, knownDim(v, 1), height * width]);
  const places: Value[] = [];
  for (let i = 0; i < tall; i++)
    for (let j = 0; j < wide; j++) {
      const [top, left] = shiftsInput ? [i, j] : [tall - 1 - i, wide - 1 - j];
      const shifted = slice(slice(padded, 2, top, top + height), 3, left, left + width);
      const [a, b] = shiftsInput ? [still, shifted] : [shifted, still];
      places.push(reshape(reduceSum(matmul(flat(a), transposeLast(flat(b))), [0]), [1, outputs, channels]));
    }
  return transpose(reshape(concat(places, 0), [tall, wide, outputs, channels]), [2, 3, 0, 1]);
}

/** The derivative of GELU, exact or of its tanh approximation. */
function geluSlope(x: Value, approximate: "none" | "tanh"): Value {
  if (approximate === "none") {
    // d/dx x * Phi(x) = (1 + erf(u) + 2/sqrt(pi) * u * exp(-u^2)) / 2 with u = x / sqrt(2).
    const u = mul(x, Math.SQRT1_2);
    // The factor goes into the exponent: one pass over the widest tensor of a block less.
    const bell = mul(u, exp(sub(Math.log(2 / Math.sqrt(Math.PI)), mul(u, u))));
    return mul(add(add(erf(u), bell), 1), 0.5);
  }
  // x/2 * (1 + t) with t = tanh(c * (x + k x^3)).
  const [c, k] = [Math.sqrt(2 / Math.PI), 0.044715];
  const square = mul(x, x);
  const t = tanh(mul(mul(x, c), add(mul(square, k), 1)));
  const inner = mul(add(mul(square, 3 * k), 1), c);
  return mul(add(add(t, 1), mul(mul(x, inner), sub(1, mul(t, t)))), 0.5);
}
