// What each operator computes, in plain float64 loops: for constant folding, and the reference that ONNX Runtime and
// the gradient rules are tested against. Slow and simple on purpose.
import type { Tensor } from "../../utils/tensor.ts";
import { allocate, elementCount } from "../../utils/tensor.ts";
import { interpolationMatrix } from "./interpolation.ts";
import type { BlockWeightAttributes, OpKind } from "./operators.ts";
import { broadcast, normalAxis } from "./shapes.ts";
import type { Graph, Node, Value } from "./graph.ts";
import { sortedNodes } from "./walk.ts";

/** Numbers of any type as float64, with their dimensions. */
interface Numbers {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number>;
}

type Evaluation<K extends OpKind> = (inputs: readonly Numbers[], node: Node<K>) => readonly Numbers[];

function strides(dims: readonly number[]): number[] {
  const out = new Array<number>(dims.length);
  let step = 1;
  for (let i = dims.length - 1; i >= 0; i--) {
    out[i] = step;
    step *= dims[i];
  }
  return out;
}

/** Fills an array of shape `dims`; `pick` maps a multi-index (reused between calls) to a number. */
function generate(dims: readonly number[], pick: (index: readonly number[]) => number): Numbers {
  const data = new Float64Array(elementCount(dims));
  const index = dims.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = pick(index);
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis] === dims[axis]; axis--) index[axis] = 0;
  }
  return { dims, data };
}

/** Reads `x` at a multi-index of a shape that `x` broadcasts to. */
function reader(x: Numbers): (index: readonly number[]) => number {
  const steps = strides(x.dims).map((s, i) => (x.dims[i] === 1 ? 0 : s));
  return (index) => {
    const extra = index.length - steps.length;
    let at = 0;
    for (let i = 0; i < steps.length; i++) at += steps[i] * index[extra + i];
    return x.data[at];
  };
}

const map =
  (f: (x: number) => number) =>
  ([x]: readonly Numbers[]): readonly Numbers[] => [{ dims: x.dims, data: Float64Array.from(x.data, f) }];

function zip(inputs: readonly Numbers[], f: (...numbers: number[]) => number): readonly Numbers[] {
  const dims = inputs.map((x) => x.dims).reduce((a, b) => broadcast(a, b) as number[]);
  const readers = inputs.map(reader);
  return [generate(dims, (index) => f(...readers.map((read) => read(index))))];
}

const binary = (f: (a: number, b: number) => number) => (inputs: readonly Numbers[]) => zip(inputs, f);

/** Applies `f` to each run of numbers along an axis. */
function along(x: Numbers, axis: number, f: (run: Float64Array) => ArrayLike<number>): Numbers {
  const at = normalAxis(axis, x.dims.length);
  const size = x.dims[at];
  const step = strides(x.dims)[at];
  const data = Float64Array.from(x.data);
  for (let start = 0; start < data.length; start++) {
    if (Math.floor(start / step) % size !== 0) continue;
    const out = f(Float64Array.from({ length: size }, (_, i) => data[start + i * step]));
    for (let i = 0; i < size; i++) data[start + i * step] = out[i];
  }
  return { dims: x.dims, data };
}

function logSoftmaxOf(run: Float64Array): Float64Array {
  const largest = run.reduce((most, v) => Math.max(most, v), Number.NEGATIVE_INFINITY);
  const total = Math.log(run.reduce((sum, v) => sum + Math.exp(v - largest), 0)) + largest;
  return run.map((v) => v - total);
}

function reduce(x: Numbers, node: Node, start: number, f: (sum: number, v: number) => number): Numbers {
  const { axes } = node.attributes as { axes: readonly number[] };
  const reduced = new Set(axes.map((a) => normalAxis(a, x.dims.length)));
  const kept = x.dims.map((d, i) => (reduced.has(i) ? 1 : d));
  const steps = strides(kept).map((s, i) => (kept[i] === 1 ? 0 : s));
  const data = new Float64Array(elementCount(kept)).fill(start);
  const read = reader(x);
  generate(x.dims, (index) => {
    const at = index.reduce((sum, v, i) => sum + v * steps[i], 0);
    data[at] = f(data[at], read(index));
    return 0;
  });
  return { dims: node.outputs[0].shape as number[], data };
}

/** To the nearest whole number, halves to even. */
function toEven(x: number): number {
  return Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

function integerProduct(a: Numbers, b: Numbers, zero: Numbers, like: Value): Numbers {
  const shifted = { dims: a.dims, data: Float64Array.from(a.data, (v) => v - zero.data[0]) };
  return matmul(shifted, b, false, false, dimsOf(like));
}

/** Weights in few bits as `[N, K]`. */
function blockWeights(
  { data: packed }: Numbers,
  { data: scales }: Numbers,
  zeros: Numbers | undefined,
  { inputs, outputs, bits, blockSize }: BlockWeightAttributes,
): Numbers {
  const each = 8 / bits;
  const blocks = Math.ceil(inputs / blockSize);
  const numberIn = (data: ArrayLike<number>, rowBytes: number, row: number, at: number) =>
    (data[row * rowBytes + Math.floor(at / each)] >> (bits * (at % each))) & (2 ** bits - 1);
  const zeroBytes = Math.ceil(blocks / each);
  return generate([outputs, inputs], ([n, k]) => {
    const block = Math.floor(k / blockSize);
    const zero = zeros ? numberIn(zeros.data, zeroBytes, n, block) : 2 ** (bits - 1);
    return scales[n * blocks + block] * (numberIn(packed, (blocks * blockSize) / each, n, k) - zero);
  });
}

function matmul(a: Numbers, b: Numbers, transA: boolean, transB: boolean, dims: readonly number[]): Numbers {
  const inner = a.dims[a.dims.length - (transA ? 2 : 1)];
  const [readA, readB] = [reader(a), reader(b)];
  return generate(dims, (index) => {
    const left = [...index];
    const right = [...index];
    const [row, column] = [index.length - 2, index.length - 1];
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      left[row] = transA ? k : index[row];
      left[column] = transA ? index[row] : k;
      right[row] = transB ? index[column] : k;
      right[column] = transB ? k : index[column];
      sum += readA(left) * readB(right);
    }
    return sum;
  });
}

/** The error function: its series near 0, its continued fraction beyond; good to float64's last digits. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)));
}

function geluOf(x: number, approximate: "none" | "tanh"): number {
  if (approximate === "none") return 0.5 * x * (1 + erf(x * Math.SQRT1_2));
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function sliceOf(x: Numbers, axis: number, start: number, dims: readonly number[]): Numbers {
  const at = normalAxis(axis, dims.length);
  const read = reader(x);
  return generate(dims, (index) => read(index.map((v, i) => (i === at ? v + start : v))));
}

/** Weights of millions of numbers are folded, so matrices have a loop of their own. */
function transposeMatrix({ dims: [height, width], data: x }: Numbers): Numbers {
  const data = new Float64Array(x.length);
  for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) data[j * height + i] = x[i * width + j];
  return { dims: [width, height], data };
}

const dimsOf = (v: Value): number[] => v.shape as number[];

const evaluations: { readonly [K in OpKind]: Evaluation<K> } = {
  Add: binary((a, b) => a + b),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b),
  Div: binary((a, b) => a / b),
  Pow: binary((a, b) => a ** b),
  Max: (inputs) => zip(inputs, Math.max),
  Neg: map((x) => -x),
  Abs: map(Math.abs),
  Sign: map(Math.sign),
  Sqrt: map(Math.sqrt),
  Exp: map(Math.exp),
  Log: map(Math.log),
  Erf: map(erf),
  Tanh: map(Math.tanh),
  Sigmoid: map((x) => 1 / (1 + Math.exp(-x))),
  Relu: map((x) => Math.max(x, 0)),
  Floor: map(Math.floor),
  Round: map(toEven),
  StopGradient: map((x) => x),
  Gelu: (inputs, { attributes }) => map((x) => geluOf(x, attributes.approximate))(inputs),
  Equal: binary((a, b) => (a === b ? 1 : 0)),
  Greater: binary((a, b) => (a > b ? 1 : 0)),
  Where: (inputs) => zip(inputs, (condition, a, b) => (condition ? a : b)),
  Cast: ([x], { attributes }) => {
    if (attributes.to === "bool") return map((v) => (v ? 1 : 0))([x]);
    return attributes.to.startsWith("float") ? [x] : map(Math.trunc)([x]);
  },
  MatMul: ([a, b], node) => [matmul(a, b, false, false, dimsOf(node.outputs[0]))],
  FusedMatMul: ([a, b], { attributes: { transA, transB, alpha }, outputs }) =>
    map((v) => alpha * v)([matmul(a, b, transA, transB, dimsOf(outputs[0]))]),
  MatMulInteger: ([a, b, zero], node) => [integerProduct(a, b, zero, node.outputs[0])],
  MatMulIntegerToFloat: ([a, b, scale, columns, zero, bias], node) => {
    const { dims, data } = integerProduct(a, b, zero, node.outputs[0]);
    const width = b.dims[1];
    const scaled = (v: number, column: number) =>
      v * scale.data[0] * columns.data[columns.dims.length && column] + (bias ? bias.data[column] : 0);
    return [{ dims, data: Float64Array.from(data, (v, i) => scaled(v, i % width)) }];
  },
  MatMulNBits: ([x, packed, scales, zeros], { attributes, outputs }) => {
    const matrix = blockWeights(packed, scales, zeros, attributes);
    return [matmul(x, matrix, false, true, dimsOf(outputs[0]))];
  },
  BitwiseAnd: (inputs) => zip(inputs, (a, b) => a & b),
  BitwiseOr: (inputs) => zip(inputs, (a, b) => a | b),
  BitShift: (inputs, { attributes: { direction } }) =>
    zip(inputs, direction === "LEFT" ? (a, b) => (a << b) & 0xff : (a, b) => a >> b),
  DynamicQuantizeLinear: ([x]) => {
    // The range holds 0, which the zero point stands for exactly (ONNX's definition).
    let [low, high] = [0, 0];
    for (let i = 0; i < x.data.length; i++) [low, high] = [Math.min(low, x.data[i]), Math.max(high, x.data[i])];
    const scale = Math.fround((high - low) / 255) || 1;
    const zero = toEven(Math.max(0, Math.min(255, -low / scale)));
    const q = Float64Array.from(x.data, (v) => Math.max(0, Math.min(255, toEven(v / scale) + zero)));
    return [
      { dims: x.dims, data: q },
      { dims: [], data: Float64Array.of(scale) },
      { dims: [], data: Float64Array.of(zero) },
    ];
  },
  QuantizeLinear: ([x, scale, zero], { attributes, outputs }) => {
    const [low, high] = outputs[0].type === "int8" ? [-128, 127] : [0, 255];
    const axis = normalAxis(attributes.axis, x.dims.length);
    const read = reader(x);
    const rounded = (index: readonly number[]) => {
      const at = scale.dims.length && index[axis];
      return Math.max(low, Math.min(high, toEven(read(index) / scale.data[at]) + zero.data[at]));
    };
    return [generate(x.dims, rounded)];
  },
  DequantizeLinear: ([x, scale], { attributes }) => {
    const axis = normalAxis(attributes.axis, x.dims.length);
    const read = reader(x);
    return [generate(x.dims, (index) => read(index) * scale.data[index[axis]])];
  },
  Softmax: ([x], { attributes }) => [along(x, attributes.axis, (run) => logSoftmaxOf(run).map(Math.exp))],
  LogSoftmax: ([x], { attributes }) => [along(x, attributes.axis, logSoftmaxOf)],
  LayerNormalization: ([x, scale, bias], { attributes, outputs }) => {
    const width = scale.data.length;
    const means = new Float64Array(elementCount(dimsOf(outputs[1])));
    const inverses = new Float64Array(means.length);
    const data = new Float64Array(x.data.length);
    for (let row = 0; row < means.length; row++) {
      const run = Float64Array.from({ length: width }, (_, i) => x.data[row * width + i]);
      const mean = run.reduce((a, b) => a + b, 0) / width;
      const variance = run.reduce((sum, v) => sum + (v - mean) ** 2, 0) / width;
      means[row] = mean;
      inverses[row] = 1 / Math.sqrt(variance + attributes.epsilon);
      for (let i = 0; i < width; i++) {
        data[row * width + i] = (run[i] - mean) * inverses[row] * scale.data[i] + bias.data[i];
      }
    }
    const rowDims = dimsOf(outputs[1]);
    return [
      { dims: x.dims, data },
      { dims: rowDims, data: means },
      { dims: rowDims, data: inverses },
    ];
  },
  ReduceSum: ([x], node) => [reduce(x, node, 0, (sum, v) => sum + v)],
  ReduceMean: ([x], node) => {
    const sum = reduce(x, node, 0, (total, v) => total + v);
    const count = x.data.length / sum.data.length;
    return map((v) => v / count)([sum]);
  },
  ReduceMax: ([x], node) => [reduce(x, node, Number.NEGATIVE_INFINITY, Math.max)],
  ReduceMin: ([x], node) => [reduce(x, node, Number.POSITIVE_INFINITY, Math.min)],
  Reshape: ([x], { outputs }) => [{ dims: dimsOf(outputs[0]), data: x.data }],
  AwaitedReshape: ([x], { outputs }) => [{ dims: dimsOf(outputs[0]), data: x.data }],
  Transpose: ([x], { attributes, outputs }) => {
    if (x.dims.length === 2) return [transposeMatrix(x)];
    const steps = strides(x.dims);
    const picked = attributes.perm.map((p) => steps[p]);
    return [generate(dimsOf(outputs[0]), (index) => x.data[index.reduce((sum, v, i) => sum + v * picked[i], 0)])];
  },
  Expand: ([x], { outputs }) => [generate(dimsOf(outputs[0]), reader(x))],
  Concat: (inputs, { attributes, outputs }) => {
    const at = normalAxis(attributes.axis, inputs[0].dims.length);
    const readers = inputs.map(reader);
    return [
      generate(dimsOf(outputs[0]), (index) => {
        const position = [...index];
        let part = 0;
        while (position[at] >= inputs[part].dims[at]) position[at] -= inputs[part++].dims[at];
        return readers[part](position);
      }),
    ];
  },
  Split: ([x], { attributes, outputs }) => {
    let start = 0;
    return outputs.map((out, i) => {
      const part = sliceOf(x, attributes.axis, start, dimsOf(out));
      start += attributes.sizes[i];
      return part;
    });
  },
  Slice: ([x], { attributes, outputs }) => [sliceOf(x, attributes.axis, attributes.start, dimsOf(outputs[0]))],
  Pad: ([x], { attributes, outputs }) => {
    const read = reader(x);
    const at = normalAxis(attributes.axis, x.dims.length);
    return [
      generate(dimsOf(outputs[0]), (index) => {
        const position = index[at] - attributes.before;
        if (position < 0 || position >= x.dims[at]) return 0;
        return read(index.map((v, i) => (i === at ? position : v)));
      }),
    ];
  },
  Conv: ([x, kernels], { attributes: { padding }, outputs }) => {
    const [, channels, height, width] = x.dims;
    const [, , tall, wide] = kernels.dims;
    const [readX, readK] = [reader(x), reader(kernels)];
    return [
      generate(dimsOf(outputs[0]), ([b, o, y, z]) => {
        let sum = 0;
        for (let c = 0; c < channels; c++)
          for (let i = 0; i < tall; i++)
            for (let j = 0; j < wide; j++) {
              const [row, column] = [y + i - padding, z + j - padding];
              if (row < 0 || column < 0 || row >= height || column >= width) continue;
              sum += readX([b, c, row, column]) * readK([o, c, i, j]);
            }
        return sum;
      }),
    ];
  },
  Resize: ([x], { attributes: { height, width, coordinates }, outputs }) => {
    const [h, w] = [x.dims[2], x.dims[3]];
    const [rows, columns] = [interpolationMatrix(h, height, coordinates), interpolationMatrix(w, width, coordinates)];
    const read = reader(x);
    return [
      generate(dimsOf(outputs[0]), ([b, c, y, z]) => {
        let sum = 0;
        for (let i = 0; i < h; i++)
          for (let j = 0; j < w; j++) {
            const share = rows[y * h + i] * columns[z * w + j];
            if (share !== 0) sum += share * read([b, c, i, j]);
          }
        return sum;
      }),
    ];
  },
};

function toNumbers(tensor: Tensor): Numbers {
  if (tensor.type === "float16" || tensor.type === "bfloat16") throw new Error(`${tensor.type} is not evaluated here`);
  const data = tensor.data;
  return { dims: tensor.dims, data: data instanceof BigInt64Array ? Float64Array.from(data, Number) : data };
}

function toTensor(numbers: Numbers, like: Value): Tensor {
  const data = allocate(like.type, numbers.data.length);
  if (data instanceof BigInt64Array) for (let i = 0; i < data.length; i++) data[i] = BigInt(numbers.data[i]);
  else data.set(numbers.data);
  return { type: like.type, dims: numbers.dims, data };
}

/** Evaluates one node on tensors; results are rounded to the types of the node's outputs. */
export function evaluateNode(node: Node, inputs: readonly Tensor[]): Tensor[] {
  const evaluate = evaluations[node.op] as Evaluation<OpKind>;
  return evaluate(inputs.map(toNumbers), node).map((numbers, i) => toTensor(numbers, node.outputs[i]));
}

/** Evaluates a whole graph. Every shape must be known. Throws on a missing input. */
export function evaluate(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Map<string, Tensor> {
  const tensors = new Map<Value, Tensor>();
  const read = (value: Value): Tensor => {
    if (value.source.kind === "constant") return value.source.tensor;
    const tensor = value.source.kind === "input" ? feeds[value.source.name] : tensors.get(value);
    if (!tensor)
      throw new Error(`no tensor for ${value.source.kind === "input" ? value.source.name : value.source.kind}`);
    return tensor;
  };
  for (const node of sortedNodes(graph.outputs.values())) {
    evaluateNode(node, node.inputs.map(read)).forEach((tensor, i) => {
      tensors.set(node.outputs[i], tensor);
    });
  }
  return new Map([...graph.outputs].map(([name, value]) => [name, read(value)]));
}
