// Every operator: ONNX Runtime against plain float64 loops, and every gradient rule against finite differences.
import { afterAll, describe, expect, test } from "vitest";
import { gradients } from "../../../src/engine/autograd/gradients.ts";
import { gradientRules } from "../../../src/engine/autograd/rules.ts";
import { compile } from "../../../src/engine/compile.ts";
import { add, cast, constant, graph, input, mul, node, reduceSum } from "../../../src/engine/graph/build.ts";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import type { Attributes, OpKind } from "../../../src/engine/graph/operators.ts";
import { operators } from "../../../src/engine/graph/operators.ts";
import type { Value } from "../../../src/engine/graph/graph.ts";
import { drawStream } from "../../../src/utils/random.ts";
import type { DataType, Tensor } from "../../../src/utils/tensor.ts";
import { elementCount } from "../../../src/utils/tensor.ts";
import { inlineDevice, runOnce } from "../../support/device.ts";
import { relativeError } from "../../support/reference.ts";

type FloatType = "float32" | "float64";

interface Case<K extends OpKind> {
  readonly shapes: readonly (readonly number[])[];
  readonly attributes: Attributes<K>;
  /** Where inputs must lie; away from kinks and poles. Default: -2 to 2. */
  readonly range?: readonly [number, number];
  /** Keeps inputs at least this far from 0, on both sides. */
  readonly awayFromZero?: number;
  /** Types of inputs that are no floats. */
  readonly types?: readonly (DataType | undefined)[];
  /** The first input is a condition. */
  readonly condition?: boolean;
  /** Outputs that a loss may use; all where left out. */
  readonly outputs?: readonly number[];
}

const plain = { attributes: {} };
const pair = {
  shapes: [
    [2, 3, 4],
    [2, 3, 4],
  ],
  ...plain,
};
const broadcasts = {
  shapes: [
    [2, 3, 4],
    [3, 1],
  ],
  ...plain,
};
const single = { shapes: [[2, 3, 4]], ...plain };

/** A new operator does not type-check until it has cases. */
const cases: { readonly [K in OpKind]: readonly Case<K>[] } = {
  Add: [pair, broadcasts, { shapes: [[], [2, 2]], ...plain }],
  Sub: [pair, broadcasts],
  Mul: [pair, broadcasts],
  Div: [{ ...broadcasts, awayFromZero: 0.5 }],
  Pow: [{ ...broadcasts, range: [0.5, 2] }],
  Max: [pair, broadcasts, { shapes: [[2, 3, 4], [3, 1], []], ...plain }],
  Neg: [single],
  Abs: [{ ...single, awayFromZero: 0.1 }],
  Sign: [{ ...single, awayFromZero: 0.1 }],
  Sqrt: [{ ...single, range: [0.2, 3] }],
  Exp: [single],
  Log: [{ ...single, range: [0.2, 3] }],
  Erf: [single],
  Tanh: [single],
  Sigmoid: [single],
  Relu: [{ ...single, awayFromZero: 0.1 }],
  Floor: [single],
  Round: [{ ...single, range: [-3, 3] }],
  MatMulInteger: [
    { shapes: [[2, 3, 4], [4, 5], []], types: ["uint8", "int8", "uint8"], range: [0, 100], ...plain },
    { shapes: [[3, 4], [4, 5], []], types: ["uint8", "int8", "uint8"], range: [0, 127], ...plain },
  ],
  BitwiseAnd: [{ shapes: [[2, 5], [5]], types: ["uint8", "uint8"], range: [0, 256], ...plain }],
  BitwiseOr: [{ shapes: [[2, 5], []], types: ["uint8", "uint8"], range: [0, 256], ...plain }],
  BitShift: (["LEFT", "RIGHT"] as const).map((direction) => ({
    shapes: [[2, 5], [5]],
    types: ["uint8", "uint8"],
    range: [0, 8],
    attributes: { direction },
  })),
  MatMulIntegerToFloat: [
    {
      shapes: [[2, 3, 4], [4, 5], [], [5], []],
      types: ["uint8", "int8", undefined, undefined, "uint8"],
      range: [0.1, 100],
      ...plain,
    },
    {
      shapes: [[2, 3, 4], [4, 5], [], [5], [], [5]],
      types: ["uint8", "int8", undefined, undefined, "uint8", undefined],
      range: [0.1, 100],
      ...plain,
    },
    {
      shapes: [[2, 3, 4], [4, 5], [], [], []],
      types: ["uint8", "int8", undefined, undefined, "uint8"],
      range: [0.1, 100],
      ...plain,
    },
  ],
  // Widths that fill their blocks and that don't, with zero points and without, in all bits that the kernel has.
  MatMulNBits: [
    {
      shapes: [
        [2, 3, 80],
        [5, 3, 16],
        [5, 3],
        [5, 2],
      ],
      types: [undefined, "uint8", undefined, "uint8"],
      range: [0.1, 255],
      attributes: { inputs: 80, outputs: 5, bits: 4, blockSize: 32, accuracyLevel: 0 },
    },
    {
      shapes: [
        [3, 64],
        [6, 2, 16],
        [6, 2],
      ],
      types: [undefined, "uint8", undefined],
      range: [0.1, 255],
      attributes: { inputs: 64, outputs: 6, bits: 4, blockSize: 32, accuracyLevel: 0 },
    },
    {
      shapes: [
        [3, 40],
        [6, 2, 8],
        [6, 2],
        [6, 1],
      ],
      types: [undefined, "uint8", undefined, "uint8"],
      range: [0.1, 255],
      attributes: { inputs: 40, outputs: 6, bits: 2, blockSize: 32, accuracyLevel: 0 },
    },
    {
      shapes: [
        [3, 40],
        [6, 2, 32],
        [6, 2],
        [6, 2],
      ],
      types: [undefined, "uint8", undefined, "uint8"],
      range: [0.1, 255],
      attributes: { inputs: 40, outputs: 6, bits: 8, blockSize: 32, accuracyLevel: 0 },
    },
  ],
  DynamicQuantizeLinear: [
    { shapes: [[3, 4]], ...plain },
    { shapes: [[3, 4]], range: [1, 3], ...plain },
  ],
  QuantizeLinear: [
    { shapes: [[3, 4], [], []], types: [undefined, undefined, "int8"], range: [0.1, 9], attributes: { axis: 0 } },
    { shapes: [[3, 4], [], []], types: [undefined, undefined, "uint8"], range: [0.1, 9], attributes: { axis: 0 } },
    { shapes: [[3, 4], [3], [3]], types: [undefined, undefined, "uint8"], range: [0.1, 9], attributes: { axis: 0 } },
    { shapes: [[3, 4], [4], [4]], types: [undefined, undefined, "int8"], range: [0.1, 9], attributes: { axis: 1 } },
  ],
  DequantizeLinear: [
    { shapes: [[3, 4], [4]], types: ["int8", undefined], range: [-9, 9], attributes: { axis: 1 } },
    { shapes: [[3, 4], [3]], types: ["int8", undefined], range: [-9, 9], attributes: { axis: 0 } },
  ],
  StopGradient: [single],
  Gelu: [
    { ...single, attributes: { approximate: "none" } },
    { ...single, attributes: { approximate: "tanh" } },
  ],
  Equal: [pair],
  Greater: [pair],
  Where: [
    {
      shapes: [
        [2, 3, 4],
        [3, 4],
        [2, 3, 1],
      ],
      condition: true,
      ...plain,
    },
  ],
  Cast: [
    { ...single, attributes: { to: "float32" } },
    { ...single, attributes: { to: "float64" } },
  ],
  MatMul: [
    {
      shapes: [
        [3, 4],
        [4, 5],
      ],
      ...plain,
    },
    {
      shapes: [
        [2, 3, 4],
        [4, 5],
      ],
      ...plain,
    },
    {
      shapes: [
        [2, 2, 3, 4],
        [2, 2, 4, 5],
      ],
      ...plain,
    },
    {
      shapes: [
        [3, 4],
        [2, 4, 5],
      ],
      ...plain,
    },
  ],
  FusedMatMul: [
    {
      shapes: [
        [4, 3],
        [5, 4],
      ],
      attributes: { transA: true, transB: true, alpha: 1 },
    },
    {
      shapes: [
        [2, 3, 4],
        [5, 4],
      ],
      attributes: { transA: false, transB: true, alpha: 0.25 },
    },
    {
      shapes: [
        [2, 2, 4, 3],
        [2, 2, 4, 5],
      ],
      attributes: { transA: true, transB: false, alpha: 1 },
    },
  ],
  Softmax: [
    { ...single, attributes: { axis: -1 } },
    { ...single, attributes: { axis: 1 } },
  ],
  LogSoftmax: [{ ...single, attributes: { axis: -1 } }],
  LayerNormalization: [{ shapes: [[2, 3, 6], [6], [6]], attributes: { epsilon: 2 ** -10 }, outputs: [0] }],
  ReduceSum: [
    { ...single, attributes: { axes: [1], keepDims: true } },
    { ...single, attributes: { axes: [0, 2], keepDims: false } },
  ],
  ReduceMean: [
    { ...single, attributes: { axes: [-1], keepDims: false } },
    { ...single, attributes: { axes: [0, 1, 2], keepDims: false } },
  ],
  ReduceMax: [{ ...single, attributes: { axes: [-1], keepDims: true } }],
  ReduceMin: [
    { ...single, attributes: { axes: [-1], keepDims: true } },
    { ...single, attributes: { axes: [0, 2], keepDims: false } },
  ],
  Reshape: [{ ...single, attributes: { shape: [6, 4] } }],
  // The shape that it waits for is that of the attribute.
  AwaitedReshape: [{ shapes: [[2, 2], [1]], types: [undefined, "int64"], range: [4, 4.4], attributes: { shape: [4] } }],
  Transpose: [
    { ...single, attributes: { perm: [2, 0, 1] } },
    { shapes: [[3, 4]], attributes: { perm: [1, 0] } },
  ],
  Expand: [{ shapes: [[3, 1]], attributes: { shape: [2, 3, 4] } }],
  Concat: [
    {
      shapes: [
        [2, 1, 3],
        [2, 4, 3],
      ],
      attributes: { axis: 1 },
    },
  ],
  Split: [{ shapes: [[2, 7]], attributes: { axis: -1, sizes: [2, 1, 4] } }],
  Slice: [{ shapes: [[2, 7]], attributes: { axis: 1, start: 2, end: 5 } }],
  Pad: [{ shapes: [[2, 3]], attributes: { axis: 1, before: 2, after: 1 } }],
  Conv: [
    {
      shapes: [
        [2, 3, 4, 5],
        [2, 3, 3, 3],
      ],
      attributes: { padding: 1 },
    },
    {
      shapes: [
        [1, 2, 4, 4],
        [3, 2, 2, 2],
      ],
      attributes: { padding: 0 },
    },
    {
      shapes: [
        [2, 3, 2, 2],
        [4, 3, 1, 1],
      ],
      attributes: { padding: 0 },
    },
    {
      shapes: [
        [1, 2, 4, 3],
        [3, 2, 3, 3],
      ],
      attributes: { padding: 1 },
    },
  ],
  Resize: [
    { shapes: [[2, 2, 3, 4]], attributes: { height: 6, width: 8, coordinates: "align_corners" } },
    { shapes: [[1, 2, 3, 2]], attributes: { height: 7, width: 4, coordinates: "half_pixel" } },
    { shapes: [[1, 2, 6, 5]], attributes: { height: 3, width: 2, coordinates: "half_pixel" } },
  ],
};

/** ONNX Runtime's CPU kernels of these take float32 only. */
const float32Only: ReadonlySet<OpKind> = new Set([
  "Erf",
  "Gelu",
  "FusedMatMul",
  "MatMulIntegerToFloat",
  "MatMulNBits",
  "DynamicQuantizeLinear",
  "QuantizeLinear",
  "DequantizeLinear",
  "Conv",
  "Resize",
]);
/** These give the row statistics as float32 whatever comes in. */
const float32Statistics: ReadonlySet<OpKind> = new Set(["LayerNormalization"]);

const device = inlineDevice();
afterAll(() => device.dispose());

interface Built {
  readonly inputs: Value[];
  readonly feeds: Record<string, Tensor>;
  readonly outputs: readonly Value[];
}

function build(
  op: OpKind,
  { shapes, attributes, range = [-2, 2], awayFromZero = 0, condition, types }: Case<never>,
  type: FloatType,
): Built {
  const random = drawStream(1, op);
  const feeds: Record<string, Tensor> = {};
  const inputs = shapes.map((shape, i) => {
    const count = elementCount(shape);
    const name = `x${i}`;
    if (condition && i === 0) {
      feeds[name] = { type: "bool", dims: shape, data: Uint8Array.from({ length: count }, () => random.integer(0, 1)) };
      return input(name, "bool", shape);
    }
    const numbers = Float64Array.from({ length: count }, () => {
      const value = range[0] + (range[1] - range[0]) * random.uniform();
      return Math.abs(value) < awayFromZero ? (value < 0 ? -1 : 1) * (awayFromZero + random.uniform()) : value;
    });
    const inputType = types?.[i];
    if (inputType) {
      feeds[name] = {
        type: inputType,
        dims: shape,
        data:
          inputType === "int64"
            ? BigInt64Array.from(numbers, (v) => BigInt(Math.floor(v)))
            : inputType === "uint8"
              ? Uint8Array.from(numbers)
              : Int8Array.from(numbers),
      } as Tensor;
      return input(name, inputType, shape);
    }
    const data = type === "float64" ? numbers : Float32Array.from(numbers);
    feeds[name] = { type, dims: shape, data } as Tensor;
    return input(name, type, shape);
  });
  return { inputs, feeds, outputs: node(op, inputs, attributes).outputs };
}

/** A scalar that depends on all the outputs unevenly. */
function lossOf(outputs: readonly Value[], type: FloatType): Value {
  const random = drawStream(2, "weights");
  return outputs
    .map((y) => {
      const dims = y.shape as number[];
      const data = Float64Array.from({ length: elementCount(dims) }, () => 2 * random.uniform() - 1);
      const weights = constant({ type, dims, data: type === "float64" ? data : Float32Array.from(data) } as Tensor);
      return reduceSum(mul(cast(y, type), weights));
    })
    .reduce(add);
}

const listed = (Object.keys(cases) as OpKind[]).flatMap((op) =>
  cases[op].map((c, i) => [op, i, c as Case<never>] as const),
);

describe("values equal those of float64 loops", () => {
  test.each(listed)("%s %i", async (op, _, c) => {
    const type: FloatType = float32Only.has(op) ? "float32" : "float64";
    const { inputs, feeds, outputs } = build(op, c, type);
    const checked = float32Statistics.has(op) ? outputs.slice(0, 1) : outputs;
    const named = Object.fromEntries(checked.map((v, i) => [`y${i}`, v]));
    const actual = await runOnce(device, inputs, named, feeds);
    const expected = evaluate(graph(inputs, named), feeds);
    for (const name of Object.keys(named)) {
      const [a, e] = [actual[name], expected.get(name) as Tensor];
      expect(a.type).toBe(e.type);
      expect(a.dims).toEqual(e.dims);
      // float64: rounding of a few sums; float32: 2^-24 times a few operations.
      const bound = a.type === "float32" ? 2e-6 : 1e-13;
      expect(relativeError(a.data as Float32Array, e.data as Float32Array)).toBeLessThanOrEqual(bound);
    }
  });
});

describe("gradient rules equal finite differences", () => {
  const differentiable = listed.filter(([op]) => typeof gradientRules[op] === "function");

  test.each(differentiable)("%s %i", async (op, _, c) => {
    const { inputs, feeds, outputs } = build(op, c, "float64");
    const loss = lossOf(c.outputs ? c.outputs.map((i) => outputs[i]) : outputs, "float64");
    const wrt = inputs.filter((v) => v.type === "float64");
    const names = wrt.map((v) => (v.source.kind === "input" ? v.source.name : ""));
    const actual = gradients(loss, wrt);
    const named = Object.fromEntries(names.map((name, i) => [`d.${name}`, actual[i]]));
    const analytic = evaluate(graph(inputs, named), feeds);
    const ortTakes64 = !float32Only.has(op) && !float32Statistics.has(op) && !usesFloat32Only(actual);
    const lossAt = async (changed: Record<string, Tensor>): Promise<number> => {
      const value = ortTakes64
        ? (await session.run({ feeds: changed, fetch: ["loss"] })).tensors.loss
        : (evaluate(graph(inputs, { loss }), changed).get("loss") as Tensor);
      return Number(value.data[0]);
    };
    const session = await compile(graph(inputs, { loss: ortTakes64 ? loss : reduceSum(wrt[0]) }), device);
    const h = 1e-5;
    for (const name of names) {
      const tensor = feeds[name] as Tensor<"float64">;
      const numeric = new Float64Array(tensor.data.length);
      for (let i = 0; i < numeric.length; i++) {
        const at = async (shift: number) => {
          const data = tensor.data.slice();
          data[i] += shift;
          return lossAt({ ...feeds, [name]: { ...tensor, data } });
        };
        numeric[i] = ((await at(h)) - (await at(-h))) / (2 * h);
      }
      // Central differences err by h^2 times a third derivative, and by 1e-16 / h: some 1e-10 each. Casting to
      // float32 on the way leaves 2^-24 / h.
      const bound = op === "Cast" ? 1e-2 : 1e-7;
      expect(relativeError((analytic.get(`d.${name}`) as Tensor).data as Float64Array, numeric), name).toBeLessThan(
        bound,
      );
    }
    await session.dispose();
    // The gradient's graph in ONNX Runtime gives what the loops give.
    const again = build(op, c, "float32");
    const lossAgain = lossOf(c.outputs ? c.outputs.map((i) => again.outputs[i]) : again.outputs, "float32");
    const wrtAgain = again.inputs.filter((v) => v.type === "float32");
    const graphs = gradients(lossAgain, wrtAgain);
    const run = await runOnce(
      device,
      again.inputs,
      Object.fromEntries(names.map((name, i) => [`d.${name}`, graphs[i]])),
      again.feeds,
    );
    for (const name of names) {
      const error = relativeError(
        run[`d.${name}`].data as Float32Array,
        (analytic.get(`d.${name}`) as Tensor).data as Float64Array,
      );
      expect(error, `${name} in ONNX Runtime`).toBeLessThan(2e-5);
    }
  });

  test("rules without a gradient say so", () => {
    const rest = (Object.keys(operators) as OpKind[]).filter((op) => typeof gradientRules[op] !== "function");
    expect(rest.sort()).toEqual([
      "BitShift",
      "BitwiseAnd",
      "BitwiseOr",
      "DequantizeLinear",
      "DynamicQuantizeLinear",
      "Equal",
      "Floor",
      "FusedMatMul",
      "Greater",
      "MatMulInteger",
      "MatMulIntegerToFloat",
      "MatMulNBits",
      "QuantizeLinear",
      "ReduceMax",
      "ReduceMin",
      "Round",
      "Sign",
      "StopGradient",
    ]);
    const x = input("x", "float64", [2, 3]);
    expect(() => gradients(reduceSum(node("ReduceMax", [x], { axes: [1], keepDims: false }).outputs[0]), [x])).toThrow(
      "no gradient can pass through ReduceMax",
    );
    const stopped = graph([x], { dx: gradients(reduceSum(node("Sign", [x], {}).outputs[0]), [x])[0] });
    const feeds = { x: { type: "float64" as const, dims: [2, 3], data: Float64Array.from([1, -2, 3, 4, -5, 6]) } };
    expect(Array.from(evaluate(stopped, feeds).get("dx")?.data as Float64Array)).toEqual([0, 0, 0, 0, 0, 0]);
  });
});

/** Whether a gradient is made of kernels that take float32 only. */
function usesFloat32Only(values: readonly Value[]): boolean {
  const seen = new Set<Value>();
  const visit = (v: Value): boolean => {
    if (seen.has(v) || v.source.kind !== "node") return false;
    seen.add(v);
    return float32Only.has(v.source.node.op) || v.source.node.inputs.some(visit);
  };
  return values.some(visit);
}
