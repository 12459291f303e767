// Matrices in few bits in ONNX Runtime's own kernel: the product with the numbers that their bits stand for.
import { afterAll, describe, expect, test } from "vitest";
import { buildOnnx } from "../../../src/engine/onnx/write-model.ts";
import { add, constant, graph, input, matmul, slice, transposeLast } from "../../../src/engine/graph/build.ts";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import type { Graph } from "../../../src/engine/graph/graph.ts";
import { sortedNodes } from "../../../src/engine/graph/walk.ts";
import { modelChunks } from "../../../src/engine/onnx/chunks.ts";
import { packProducts, storeConstantsInHalf, storeInFewerBits } from "../../../src/engine/passes/few-bits.ts";
import { toHalf } from "../../../src/engine/passes/half-precision.ts";
import { tidy } from "../../../src/engine/passes/tidy.ts";
import { dequantize, roundPlain } from "../../../src/students/bits/block-weights.ts";
import { packRows } from "../../../src/students/bits/pack.ts";
import type { FloatTensor, Tensor } from "../../../src/utils/tensor.ts";
import { inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { relativeError } from "../../support/reference.ts";

const device = inlineDevice();
afterAll(() => device.dispose());

async function run(built: Graph, x: FloatTensor): Promise<FloatTensor> {
  const { proto } = buildOnnx(built, { weights: { kind: "inline", location: "" } });
  const chunks = modelChunks(proto);
  const session = await device.createSession({ model: Buffer.concat(chunks), externalData: [] }, { packWeights: true });
  try {
    return (await session.run({ feeds: { x }, fetch: ["y"] })).tensors.y as FloatTensor;
  } finally {
    await session.dispose();
  }
}

/** Bytes of the matrices that a graph holds packed. */
const packedBytes = ({ outputs }: Graph): number =>
  [...new Set(sortedNodes(outputs.values()).flatMap(({ inputs }) => inputs))]
    .map(({ source }) => (source.kind === "constant" && source.name?.startsWith("w_Q") ? source.tensor.data.length : 0))
    .reduce((sum, bytes) => sum + bytes, 0);

const cases = ([2, 3, 4, 8] as const).flatMap((bits) =>
  [false, true].flatMap((symmetric) => [64, 80, 588].map((inputs) => ({ bits, symmetric, inputs }))),
);

describe("a packed product", () => {
  test.each(cases)("$bits bits, symmetric $symmetric, $inputs inputs", async ({ bits, symmetric, inputs }) => {
    const [outputs, rows] = [40, 7];
    const weight = noise([outputs, inputs], 1, "weight", inputs);
    const map = roundPlain(weight, { bits, symmetric, blockSize: 32 });
    const near = dequantize(map);
    const x = input("x", "float32", [rows, inputs]);
    // The first and the last outputs as products of their own, as q, k and v are.
    const part = (from: number, to: number) => matmul(x, transposeLast(constant(rowsOf(near, from, to))));
    const bias = noise([outputs], 1, "bias");
    const joined = (built: (from: number, to: number) => ReturnType<typeof part>) =>
      add(slice(built(0, outputs), 1, 0, outputs), constant(bias, "bias"));
    const plain = graph([x], { y: joined(part) });
    const feed = noise([rows, inputs], 2, "x");
    const exact = evaluate(plain, { x: feed }).get("y") as Tensor;
    const packed = packProducts(plain, (_, count) => ({ weights: packRows(map, 0, count), name: "w" }), 0);
    expect(sortedNodes(packed.outputs.values()).map(({ op }) => op)).toContain("MatMulNBits");
    const tidied = tidy(packed, { target: "portable" });
    // Float32 sums of some hundred products.
    expect(relativeError((await run(tidied, feed)).data, exact.data as Float32Array)).toBeLessThan(3e-6);
    // The bias is stored in half precision; scales are numbers that it has.
    const stored = storeConstantsInHalf(tidied);
    expect(relativeError((await run(stored, feed)).data, exact.data as Float32Array)).toBeLessThan(3e-6);
    // What has 2 or 3 bits is stored in as many, and gives the same numbers.
    const squeezed = storeInFewerBits(stored);
    expect(packedBytes(squeezed)).toBe((packedBytes(stored) * Math.min(bits, 4)) / 4);
    expect([...(await run(squeezed, feed)).data]).toEqual([...(await run(stored, feed)).data]);
    const evaluated = (built: Graph) => evaluate(built, { x: feed }).get("y");
    expect(evaluated(storeInFewerBits(tidied))).toEqual(evaluated(tidied));
    // 11 bits at each step.
    expect(relativeError((await run(toHalf(tidied), feed)).data, exact.data as Float32Array)).toBeLessThan(3e-3);
    // Inputs are brought to 8 bits: a part in 250 of the largest of 32.
    const quick = packProducts(plain, () => ({ weights: packRows(map, 0, outputs), name: "w" }), 4);
    expect(
      relativeError((await run(tidy(quick, { target: "portable" }), feed)).data, exact.data as Float32Array),
    ).toBeLessThan(0.02);
  });

  test("rows of a map are its outputs", () => {
    const map = roundPlain(noise([12, 40], 1, "weight"), { bits: 4, symmetric: false, blockSize: 32 });
    const [whole, part] = [packRows(map, 0, 12), packRows(map, 4, 8)];
    const bytes = whole.packed.data.length / 12;
    expect([...part.packed.data]).toEqual([...whole.packed.data.subarray(4 * bytes, 8 * bytes)]);
    expect([...part.scales.data]).toEqual([...whole.scales.data.subarray(8, 16)]);
    expect([...(part.zeroPoints?.data ?? [])]).toEqual([...(whole.zeroPoints?.data.subarray(4, 8) ?? [])]);
  });
});

describe("constants in half precision", () => {
  const x = input("x", "float32", [2, 80]);
  test("are cast where they are read; small ones and those that float16 has no room for stay", () => {
    const large = noise([80], 3, "large");
    large.data[3] = 70000;
    const values = [noise([80], 1, "a"), noise([1], 1, "b"), large].map((tensor) => constant(tensor));
    const built = storeConstantsInHalf(graph([x], { y: values.reduce((sum, v) => add(sum, v), x) }));
    const nodes = sortedNodes(built.outputs.values());
    expect(nodes.filter(({ op }) => op === "Cast").map(({ inputs }) => inputs[0].type)).toEqual(["float16"]);
  });
});

function rowsOf({ dims: [, inputs], data }: FloatTensor, from: number, to: number): FloatTensor {
  return { type: "float32", dims: [to - from, inputs], data: data.subarray(from * inputs, to * inputs) };
}
