// Graphs: printing, verifying, passes, gradients of whole blocks, and writing ONNX.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { gradients } from "../../../src/engine/autograd/gradients.ts";
import { compile } from "../../../src/engine/compile.ts";
import { adaptedLinear, adapterInputs } from "../../../src/students/training/adapters.ts";
import {
  add,
  concat,
  constant,
  gelu,
  graph,
  input,
  matmul,
  mul,
  reduceMean,
  reshape,
  slice,
  transpose,
  transposeLast,
} from "../../../src/engine/graph/build.ts";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import { print } from "../../../src/engine/graph/print.ts";
import type { Graph, Node, Value } from "../../../src/engine/graph/graph.ts";
import { verify } from "../../../src/engine/graph/verify.ts";
import { sortedNodes } from "../../../src/engine/graph/walk.ts";
import type { VitConfig } from "../../../src/models/config.ts";
import { plainVit } from "../../../src/models/config.ts";
import { expectedWeights } from "../../../src/models/weight-table.ts";
import { vitForward } from "../../../src/models/vit.ts";
import { attention } from "../../../src/engine/nn/layers.ts";
import { meanAbsoluteDifference } from "../../../src/engine/nn/losses.ts";
import { modelChunks } from "../../../src/engine/onnx/chunks.ts";
import { ModelProtoSchema } from "../../../src/engine/onnx/onnx_pb.ts";
import { buildOnnx, writeOnnx } from "../../../src/engine/onnx/write-model.ts";
import { deduplicate } from "../../../src/engine/passes/deduplicate.ts";
import { foldConstants } from "../../../src/engine/passes/fold-constants.ts";
import { storedInHalf } from "../../../src/engine/passes/stored-half.ts";
import { tidy } from "../../../src/engine/passes/tidy.ts";
import { unroll } from "../../../src/engine/passes/unroll.ts";
import { drawStream } from "../../../src/utils/random.ts";
import type { Tensor } from "../../../src/utils/tensor.ts";
import { fromFloat32, toFloat32 } from "../../../src/utils/half.ts";
import { elementCount, float32 } from "../../../src/utils/tensor.ts";
import { inlineDevice } from "../../support/device.ts";
import { relativeError } from "../../support/reference.ts";

const device = inlineDevice();
afterAll(() => device.dispose());

function numbers(dims: readonly number[], seed: number): Tensor<"float32"> {
  const random = drawStream(seed);
  return float32(
    Float32Array.from({ length: elementCount(dims) }, () => 2 * random.uniform() - 1),
    dims,
  );
}

function operatorsOf(g: Graph): string[] {
  return sortedNodes(g.outputs.values()).map((n) => n.op);
}

test("a graph prints itself", () => {
  const x = input("x", "float32", ["batch", 3]);
  const w = constant(numbers([2, 3], 1), "w");
  const y = gelu(matmul(x, transposeLast(w)));
  expect(print(tidy(graph([x], { y }), { target: "onnxruntime" }))).toBe(
    [
      "input x: float32[batch, 3]",
      "v0: float32[batch, 2] = FusedMatMul(x, w, transA=false, transB=true, alpha=1)",
      'y: float32[batch, 2] = Gelu(v0, approximate="none")',
      "output y = y",
    ].join("\n"),
  );
});

describe("shape errors name the operator and its inputs", () => {
  const x = input("x", "float32", [2, 3]);
  test.each([
    [() => matmul(x, x), "MatMul(float32[2, 3], float32[2, 3]): inner dimensions differ"],
    [() => reshape(x, [4, 2]), "Reshape(float32[2, 3]): float32[2, 3] can't take the shape [4, 2]"],
    [() => add(x, input("y", "float64", [2, 3])), "Add(float32[2, 3], float64[2, 3]): types differ"],
    [() => add(x, input("y", "float32", ["n", 3])), "don't broadcast"],
    [() => concat([x, input("y", "float32", [2, 4])], 0), "can't be joined"],
    [() => slice(x, 1, 2, 9), "does not lie in axis"],
  ])("%#", (make, message) => {
    expect(make).toThrow(message);
  });
});

describe("the verifier", () => {
  const x = input("x", "float32", [2]);

  test("finds an input that is not listed", () => {
    expect(() => verify(graph([], { y: add(x, x) }))).toThrow("reads the unlisted input x");
  });

  test("finds two inputs of one name", () => {
    expect(() => verify(graph([x, input("x", "float32", [2])], { y: add(x, x) }))).toThrow("two inputs are named x");
  });

  test("finds a wrong type", () => {
    const y = add(x, x);
    const forged: Value = { ...y, shape: [3] };
    (forged.source as { node: Node }).node = { ...(y.source as { node: Node }).node, outputs: [forged] };
    expect(() => verify(graph([x], { y: forged }), "a bad pass")).toThrow(
      "wrong after a bad pass: Add gives float32[2]",
    );
  });

  test("finds a cycle", () => {
    const y = add(x, x) as Value & { source: { node: { inputs: Value[] } } };
    y.source.node.inputs[0] = mul(y, x);
    expect(() => verify(graph([x], { y }))).toThrow("cycle");
  });
});

describe("passes", () => {
  const x = input("x", "float32", [4, 3]);
  const feeds = { x: numbers([4, 3], 5) };

  test("equal expressions and equal constants become one", () => {
    const two = () => constant(float32([2], []));
    const weights = numbers([8, 3], 6);
    const view = () => constant(float32(weights.data.subarray(6, 24), [6, 3]));
    const half = (w: Value) => matmul(mul(x, two()), transposeLast(w));
    const before = graph([x], { y: add(half(view()), half(view())) });
    const after = deduplicate(before);
    expect(operatorsOf(before)).toHaveLength(7);
    expect(operatorsOf(after)).toEqual(["Mul", "Transpose", "MatMul", "Add"]);
    expect(evaluate(after, feeds).get("y")).toEqual(evaluate(before, feeds).get("y"));
  });

  test("constants fold, and neutral operands vanish", () => {
    const table = constant(numbers([2, 3], 7));
    const rows = add(concat([table, table], 0), 1);
    const before = graph([x], { y: mul(add(x, rows), 1) });
    const after = foldConstants(before);
    expect(operatorsOf(after)).toEqual(["Add"]);
    expect(evaluate(after, feeds).get("y")).toEqual(evaluate(before, feeds).get("y"));
  });

  test("tensors go from graph to graph in half precision", async () => {
    const device = inlineDevice();
    const given = graph([x], { y: mul(x, 3), plain: mul(x, 2) });
    const session = await compile(storedInHalf(given, new Set(["x", "y"])), device);
    // 12 numbers from far below half precision's own range to far above it.
    const values = Float32Array.from({ length: 12 }, (_, i) => (i % 2 ? -1 : 1) * 1.23456 * 10 ** (i - 6));
    const stored = fromFloat32(
      float32(
        values.map((v) => v / 16),
        [4, 3],
      ),
      "float16",
    );
    const { kept } = await session.run({ feeds: { x: stored }, keep: ["y"] });
    const { tensors } = await session.run({ feeds: { x: kept.y }, fetch: ["y", "plain"] });
    expect([tensors.y.type, tensors.plain.type]).toEqual(["float16", "float32"]);
    const y = toFloat32(tensors.y).data.map((v) => v * 16);
    values.forEach((v, i) => {
      // Half precision rounds to 2^-11 of a number, or to 2^-25 where it is small, times 16: three roundings, each times 3 or 9.
      const error = (times: number) => 3 * Math.max(Math.abs(times * v) * 2 ** -11, 9 * 16 * 2 ** -25);
      if (Math.abs(9 * v) < 16 * 65504) expect(Math.abs(y[i] - 9 * v)).toBeLessThan(error(9));
      if (Math.abs(3 * v) < 16 * 65504)
        expect(Math.abs((tensors.plain.data[i] as number) - 6 * v)).toBeLessThan(error(6));
    });
    await device.dispose();
  });

  test("a neutral operand that widens the shape stays", () => {
    const y = add(input("s", "float32", []), constant(numbers([3], 1)));
    const zero = add(input("s", "float32", []), constant(float32([0, 0], [2])));
    expect(operatorsOf(foldConstants(graph([x], { y })))).toEqual(["Add"]);
    expect(operatorsOf(foldConstants(graph([x], { zero })))).toEqual(["Add"]);
  });

  test("a transposition undone is none", () => {
    expect(transpose(transpose(x, [1, 0]), [1, 0])).toBe(x);
  });

  test("what no output reaches is not written", () => {
    const unused = gelu(x);
    expect(operatorsOf(graph([x], { y: add(x, x) }))).toEqual(["Add"]);
    expect(unused.shape).toEqual([4, 3]);
  });
});

const tiny: VitConfig = {
  ...plainVit,
  imageSize: 4,
  patchSize: 2,
  channels: 3,
  width: 6,
  depth: 2,
  heads: 2,
  mlpWidth: 8,
  activation: "gelu",
  normEpsilon: 1e-6,
  layerScale: true,
  pooler: true,
  head: { classes: 3, input: "class+mean" },
};

test.each(["gelu", "gelu_tanh", "quick_gelu", "relu"] as const)(
  "gradients through whole blocks with %s",
  (activation) => {
    const config: VitConfig = { ...tiny, activation };
    const random = drawStream(9);
    const numbers64 = (dims: readonly number[], scale: number): Tensor => ({
      type: "float64",
      dims,
      data: Float64Array.from({ length: elementCount(dims) }, () => scale * (2 * random.uniform() - 1)),
    });
    const weights = new Map(
      [...expectedWeights(config)].map(([name, dims]) => [name, constant(numbers64(dims, 0.8), name)]),
    );
    const pixels = input("pixels", "float64", [2, 3, 4, 4]);
    const plan = { rank: 2, targetModules: ["q", "v", "proj", "fc1", "fc2"] as const };
    const adapters = new Map(
      [...adapterInputs(config, plan)].map(([name, v]) => [name, input(name, "float64", v.shape)]),
    );
    const built = vitForward(config, (name) => weights.get(name) as Value, pixels, adaptedLinear(adapters, plan));
    const loss = meanAbsoluteDifference(built.hiddenStates[2], constant(numbers64([2, 5, 6], 1)));
    const names = [...adapters.keys()];
    const actual = gradients(loss, [...adapters.values()]);
    const feeds: Record<string, Tensor> = { pixels: numbers64([2, 3, 4, 4], 1) };
    for (const [name, v] of adapters) feeds[name] = numbers64(v.shape as number[], 0.5);
    const all = graph(
      [pixels, ...adapters.values()],
      Object.fromEntries([["loss", loss], ...names.map((n, i) => [`d.${n}`, actual[i]] as [string, Value])]),
    );
    const analytic = evaluate(all, feeds);
    const lossOnly = graph(all.inputs, { loss });
    const h = 1e-6;
    for (const name of ["blocks.0.q.lora_A", "blocks.0.fc1.lora_B", "blocks.1.fc2.lora_A", "blocks.1.proj.lora_B"]) {
      const tensor = feeds[name] as Tensor<"float64">;
      const numeric = tensor.data.map((_, i) => {
        const at = (shift: number) => {
          const data = tensor.data.slice();
          data[i] += shift;
          return Number(evaluate(lossOnly, { ...feeds, [name]: { ...tensor, data } }).get("loss")?.data[0]);
        };
        return (at(h) - at(-h)) / (2 * h);
      });
      // |s - t| has kinks, which the small step rarely meets; else 1e-16 / h over gradients of 1e-2.
      expect(relativeError(analytic.get(`d.${name}`)?.data as Float64Array, numeric), name).toBeLessThan(1e-6);
    }
  },
);

describe("transpositions around products", () => {
  const x = input("x", "float32", [2, 5, 3, 4]);
  const y = input("y", "float32", [2, 5, 3, 4]);
  const heads = (v: Value) => transpose(v, [0, 2, 1, 3]);
  const g = input("g", "float32", [6, 3]);
  const h = input("h", "float32", [6, 4]);
  const product = matmul(transposeLast(g), h);
  const cases: [string, Graph, string[]][] = [
    // The keys' own turn and that of their last axes are one node, which would copy number by number.
    [
      "scores",
      graph([x, y], { z: matmul(heads(x), transposeLast(heads(y))) }),
      ["Transpose", "Transpose", "FusedMatMul"],
    ],
    [
      "the keys' gradient",
      graph([x, y], { z: transpose(matmul(transposeLast(heads(x)), heads(y)), [0, 3, 1, 2]) }),
      ["Transpose", "Transpose", "FusedMatMul", "Transpose"],
    ],
    ["a weight's gradient", graph([g, h], { z: transposeLast(product) }), ["FusedMatMul"]],
    [
      "a product that others read too",
      graph([g, h], { z: transposeLast(product), p: product }),
      ["FusedMatMul", "Transpose"],
    ],
    ["both operands", graph([g, h], { z: matmul(transposeLast(h), transposeLast(transposeLast(g))) }), ["FusedMatMul"]],
  ];

  test.each(cases)("%s", (_, before, ops) => {
    const after = tidy(before, { target: "onnxruntime" });
    expect(operatorsOf(after).sort()).toEqual([...ops].sort());
    for (const { op, attributes } of sortedNodes(after.outputs.values())) {
      const { perm } = attributes as { perm?: readonly number[] };
      // Whole rows are copied, or else the product itself is read by others.
      if (op === "Transpose" && perm && perm.length > 2) expect(perm.at(-1)).toBe(perm.length - 1);
    }
    const feeds = Object.fromEntries(
      before.inputs.map((v, i) => [(v.source as { name: string }).name, numbers(v.shape as number[], i)]),
    );
    const [expected, actual] = [evaluate(before, feeds), evaluate(after, feeds)];
    for (const [name, { data, dims }] of expected) {
      expect(actual.get(name)?.dims).toEqual(dims);
      expect(relativeError(actual.get(name)?.data as Float32Array, data as Float32Array)).toBeLessThan(1e-6);
    }
  });
});

describe.each(["onnxruntime", "portable"] as const)("attention and its gradients for %s", (target) => {
  const [images, tokens, width, heads] = [2, 7, 8, 2];
  const dims = [images, tokens, width];
  const [q, k, v] = ["q", "k", "v"].map((name) => input(name, "float32", dims));
  const feeds = { q: numbers(dims, 1), k: numbers(dims, 2), v: numbers(dims, 3) };
  const y = attention(q, k, v, heads);
  const wrt = gradients(reduceMean(mul(y, constant(numbers(dims, 4)))), [q, k, v]);
  const before = graph([q, k, v], new Map([["y", y], ...wrt.map((d, i) => [`d${i}`, d] as [string, Value])]));
  const after = tidy(before, { target });
  const pairsOfTokens = ({ shape }: Value) => shape.at(-1) === tokens && shape.at(-2) === tokens;

  test("softmax's gradient sums over a head's width, not over all tokens", () => {
    const summed = (g: Graph) => sortedNodes(g.outputs.values()).filter(({ op }) => op === "ReduceSum");
    expect(summed(before).filter(({ inputs }) => pairsOfTokens(inputs[0]))).toHaveLength(1);
    expect(summed(after).map(({ inputs }) => inputs[0].shape)).toEqual([[images, heads, tokens, width / heads]]);
  });

  test("the scale of queries is the products'", () => {
    const scales = sortedNodes(after.outputs.values()).filter(
      ({ op, inputs }) => op === "Mul" && inputs.some(({ shape }) => shape.length === 0),
    );
    // What is left in front of all gradients is the mean of the loss.
    expect(scales.filter(({ inputs }) => inputs.some(({ shape }) => shape.length > 1))).toHaveLength(
      target === "onnxruntime" ? 0 : 2,
    );
    const alphas = sortedNodes(after.outputs.values()).map(
      ({ attributes }) => (attributes as { alpha?: number }).alpha,
    );
    const scaled = alphas.filter((alpha) => alpha !== undefined && alpha !== 1);
    expect(scaled).toEqual(target === "onnxruntime" ? Array(3).fill((width / heads) ** -0.5) : []);
  });

  test("all results stay", async () => {
    const expected = evaluate(before, feeds);
    const actual = evaluate(after, feeds);
    const session = await compile(before, device);
    const { tensors } = await session.run({ feeds, fetch: [...expected.keys()] });
    await session.dispose();
    for (const [name, { data }] of expected) {
      // Sums of float32 numbers in another order; the session rounds each of them, too.
      expect(relativeError(actual.get(name)?.data as Float32Array, data as Float32Array), name).toBeLessThan(1e-6);
      expect(relativeError(tensors[name].data as Float32Array, data as Float32Array), name).toBeLessThan(1e-5);
    }
  });
});

describe("images of a run in turns", () => {
  const [batch, repeats] = [2, 3];
  /** A loss of `rows` images, and its gradient. */
  function lossOf(rows: number, runs: number): Graph {
    const x = input("x", "float32", [rows, 4]);
    const w = input("w", "float32", [2, 4]);
    // One for all images, though it has as many rows.
    const shared = input("shared", "float32", [2, 1]);
    const loss = reduceMean(gelu(matmul(x, transpose(mul(w, shared), [1, 0]))));
    const [gradient] = gradients(mul(loss, 1 / runs), [w]);
    return graph([x, w, shared], { loss, "gradient.w": gradient });
  }
  const options = (begin?: string) => ({
    repeats,
    images: new Set(["x"]),
    sums: new Map([["gradient.w", begin]]),
  });
  const others = {
    x: numbers([repeats * batch, 4], 1),
    w: numbers([2, 4], 2),
    shared: numbers([2, 1], 4),
  };
  const before = numbers([2, 4], 3);
  const feeds = { ...others, "sum.w": before };
  const data = (tensor: { data: unknown }) => [...(tensor.data as Float32Array)];

  test("give the loss and the gradients of all at once", async () => {
    const unrolled = unroll(lossOf(batch, repeats), options("sum.w"));
    const [actual, expected] = [evaluate(unrolled, feeds), evaluate(lossOf(repeats * batch, 1), others)].map(
      Object.fromEntries,
    );
    const sum = data(expected["gradient.w"]).map((v, i) => v + before.data[i]);
    expected["gradient.w"] = { data: sum };
    for (const name of ["loss", "gradient.w"])
      data(actual[name]).forEach((v, i) => expect(v).toBeCloseTo(data(expected[name])[i], 6));
    const session = await compile(lossOf(batch, repeats), device, { unrolled: options("sum.w") });
    const { tensors } = await session.run({ feeds, fetch: ["loss", "gradient.w"] });
    for (const name of ["loss", "gradient.w"])
      data(tensors[name]).forEach((v, i) => expect(v).toBeCloseTo(data(expected[name])[i], 5));
    await session.dispose();
  });

  test("sums that begin with them are not fed", () => {
    const unrolled = unroll(lossOf(batch, repeats), options());
    expect(unrolled.inputs.map(({ source }) => source.kind === "input" && source.name)).toEqual(["x", "w", "shared"]);
    const expected = evaluate(lossOf(repeats * batch, 1), others).get("gradient.w") as Tensor;
    data(evaluate(unrolled, others).get("gradient.w") as Tensor).forEach((v, i) =>
      expect(v).toBeCloseTo(data(expected)[i], 6),
    );
  });

  test("each waits for all gradients of the one before", () => {
    const { outputs } = unroll(lossOf(batch, repeats), options("sum.w"));
    const order = operatorsOf({ inputs: [], outputs });
    expect(order.filter((op) => op === "AwaitedReshape")).toHaveLength(repeats - 1);
    // What is made of the parameters alone is there once.
    const once = operatorsOf(lossOf(batch, repeats)).filter((op) => op === "Transpose").length;
    expect(order.filter((op) => op === "Transpose").length).toBeLessThan(repeats * once);
  });
});

describe("writing ONNX", () => {
  const w = numbers([64, 32], 3);
  const x = input("x", "float32", ["batch", 32]);
  const g = graph([x], {
    y: matmul(x, transposeLast(constant(w, "w"))),
    same: x,
    constant: constant(float32([3], [])),
  });
  const feeds = { x: numbers([2, 32], 4) };

  test.each([
    { kind: "inline", location: "weights" } as const,
    { kind: "external", location: "weights" } as const,
    { kind: "separate" } as const,
  ])("weights $kind", async (weights) => {
    const { model, externalData } = writeOnnx(tidy(g, { target: "portable" }), { weights });
    expect(externalData.length > 0).toBe(weights.kind !== "inline");
    const session = await device.createSession({ model, externalData });
    const { tensors } = await session.run({ feeds, fetch: ["y", "same", "constant"] });
    const two = input("x", "float32", [2, 32]);
    const expected = evaluate(graph([two], { y: matmul(two, transposeLast(constant(w))) }), feeds);
    expect(relativeError(tensors.y.data as Float32Array, expected.get("y")?.data as Float32Array)).toBeLessThan(1e-6);
    expect(tensors.same.data).toEqual(feeds.x.data);
    expect(Number(tensors.constant.data[0])).toBe(3);
    await session.dispose();
  });

  test("in chunks, a file holds the same and copies no weights", () => {
    const { proto } = buildOnnx(g, { weights: { kind: "inline", location: "" }, metadata: { made: "here" } });
    const chunks = modelChunks(proto);
    expect(chunks.map(({ buffer }) => buffer)).toContain(w.data.buffer);
    expect(fromBinary(ModelProtoSchema, new Uint8Array(Buffer.concat(chunks)))).toEqual(
      fromBinary(ModelProtoSchema, toBinary(ModelProtoSchema, proto)),
    );
    // What is not there is not written, so that nothing is read as an empty weight.
    const bare = create(ModelProtoSchema, { graph: { initializer: [{ name: "w", dataType: 1, floatData: [1] }] } });
    expect(Buffer.concat(modelChunks(bare))).toEqual(Buffer.from(toBinary(ModelProtoSchema, bare)));
  });

  test("weights over 2 GB go beside the model", () => {
    // Memory that is never touched costs nothing; the writer must not copy it.
    const big = { type: "float32" as const, dims: [23_000, 23_000], data: new Float32Array(23_000 * 23_000) };
    const wide = input("x", "float32", ["batch", 23_000]);
    const { model, externalData } = writeOnnx(graph([wide], { y: matmul(wide, constant(big, "w")) }), {
      weights: { kind: "inline", location: "model.onnx_data" },
    });
    expect(model.byteLength).toBeLessThan(1000);
    expect(
      externalData.map(({ location, chunks }) => [location, chunks.reduce((sum, c) => sum + c.byteLength, 0)]),
    ).toEqual([["model.onnx_data", big.data.byteLength]]);
    expect(externalData[0].chunks.at(-1)?.buffer).toBe(big.data.buffer);
  });

  test("a mean of a named dimension has no gradient", () => {
    expect(() => gradients(reduceMean(x), [x])).toThrow("must be a number here");
  });
});
