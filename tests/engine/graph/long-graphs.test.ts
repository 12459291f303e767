// Graphs of any depth: nothing that walks them recurses, so that a long chain does not overflow the stack.
import { expect, test } from "vitest";
import { gradients } from "../../../src/engine/autograd/gradients.ts";
import { constant, graph, input, neg, node, reduceSum, transpose } from "../../../src/engine/graph/build.ts";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import { print } from "../../../src/engine/graph/print.ts";
import type { Value } from "../../../src/engine/graph/graph.ts";
import { verify } from "../../../src/engine/graph/verify.ts";
import { sortedNodes } from "../../../src/engine/graph/walk.ts";
import { writeOnnx } from "../../../src/engine/onnx/write-model.ts";
import { fuseScales } from "../../../src/engine/passes/attention.ts";
import { tidy } from "../../../src/engine/passes/tidy.ts";
import { float32 } from "../../../src/utils/tensor.ts";

const long = 200_000;

function chain(x: Value, count: number): Value {
  let value = x;
  for (let i = 0; i < count; i++) value = neg(value);
  return value;
}

test("a chain of 200,000 nodes is sorted, verified, printed, evaluated, differentiated and written", () => {
  const x = input("x", "float32", [2]);
  const loss = reduceSum(chain(x, long));
  const built = graph([x], { loss });
  expect(sortedNodes([loss])).toHaveLength(long + 1);
  verify(built);
  expect(print(built).split("\n")).toHaveLength(long + 3);
  const feeds = { x: float32([1, 2], [2]) };
  expect(evaluate(built, feeds).get("loss")?.data[0]).toBe(3);
  const [gradient] = gradients(loss, [x]);
  expect([...(evaluate(graph([x], { gradient }), feeds).get("gradient")?.data ?? [])]).toEqual([1, 1]);
  expect(writeOnnx(built, { weights: { kind: "inline", location: "" } }).model.byteLength).toBeGreaterThan(long);
});

test("passes go through a chain of 50,000 nodes", () => {
  const x = input("x", "float32", [2]);
  const built = tidy(graph([x], { y: chain(x, 50_000) }), { target: "onnxruntime" });
  expect(evaluate(built, { x: float32([1, 2], [2]) }).get("y")?.data[1]).toBe(2);
});

test("transpositions of transpositions, and scales behind a chain of them", () => {
  const x = input("x", "float32", [1, 2, 3]);
  const perm = [0, 2, 1];
  let turned: Value = node("Mul", [x, constant(float32([2], []))], {}).outputs[0];
  for (let i = 0; i < long; i++) turned = node("Transpose", [turned], { perm }).outputs[0];
  // An even number of exchanges, and one more.
  const shape = transpose(turned, perm).shape;
  expect(shape).toEqual([1, 3, 2]);
  const product = node("MatMul", [turned, transpose(x, perm)], {}).outputs[0];
  const fused = fuseScales(graph([x], { product }));
  const feeds = { x: float32([1, 2, 3, 4, 5, 6], [1, 2, 3]) };
  // 2 x x^T
  expect([...(evaluate(fused, feeds).get("product")?.data ?? [])]).toEqual([28, 64, 64, 154]);
});

test("a run of 200,000 numbers through softmax, and many constants of one name", () => {
  const x = input("x", "float32", [long]);
  const { outputs } = node("Softmax", [x], { axis: 0 });
  const shares = evaluate(graph([x], { y: outputs[0] }), { x: float32(new Float32Array(long), [long]) }).get("y");
  expect(Number(shares?.data[0]) * long).toBeCloseTo(1, 4);
  const scalars = Array.from({ length: 50_000 }, (_, i) => constant(float32([i], [1]), "same"));
  const joined = node("Concat", scalars, { axis: 0 }).outputs[0];
  expect(print(graph([], { joined }))).toContain("Concat(0, 1, 2");
});
