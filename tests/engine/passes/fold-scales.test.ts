// Scales behind linear maps become the maps' own, and what files compute stays the same.
import { describe, expect, test } from "vitest";
import { add, constant, graph, input, matmul, mul } from "../../../src/engine/graph/build.ts";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import type { Graph, Value } from "../../../src/engine/graph/graph.ts";
import { sortedNodes } from "../../../src/engine/graph/walk.ts";
import { foldScales } from "../../../src/engine/passes/fold-scales.ts";
import { inferenceGraph } from "../../../src/exports/onnx-file.ts";
import { tidy } from "../../../src/engine/passes/tidy.ts";
import { loadModel } from "wecolora/node";
import type { Tensor } from "../../../src/utils/tensor.ts";
import { noise } from "../../support/noise.ts";
import { referencePath, relativeError } from "../../support/reference.ts";

const operatorsOf = (g: Graph) => sortedNodes(g.outputs.values()).map(({ op }) => op);

const x = input("x", "float32", [2, 4, 3]);
const feeds = { x: noise([2, 4, 3], 1) };
const [weight, bias, gamma] = [constant(noise([3, 5], 2)), constant(noise([5], 3), "bias"), constant(noise([5], 4))];
const linear = () => add(matmul(x, weight), bias);

describe("a scale is folded", () => {
  test.each<[string, Value]>([
    ["of one number", mul(linear(), 0.125)],
    ["of a number for each output", mul(linear(), gamma)],
    ["that stands first", mul(gamma, linear())],
    ["behind a map without a bias", mul(matmul(x, weight), gamma)],
  ])("%s", (_, y) => {
    const before = graph([x], { y });
    const after = foldScales(before);
    expect(operatorsOf(after)).not.toContain("Mul");
    const [expected, actual] = [before, after].map((g) => evaluate(g, feeds).get("y")?.data as Float32Array);
    // Each number is rounded once more or once less, to 2^-24 of itself.
    expect(relativeError(actual, expected)).toBeLessThan(1e-6);
  });
});

describe("a scale stays", () => {
  const shared = linear();
  test.each<[string, Record<string, Value>]>([
    ["where the map's result is read too", { y: mul(shared, gamma), shared }],
    ["where other products read the weight too", { y: mul(linear(), gamma), other: matmul(x, weight) }],
    ["where the bias is one number for all", { y: mul(add(matmul(x, weight), constant(noise([1], 7))), gamma) }],
    ["of each token", { y: mul(linear(), constant(noise([4, 1], 5))) }],
    ["behind a product that is no map", { y: mul(matmul(x, constant(noise([2, 3, 5], 6))), 0.125) }],
    ["that depends on the input", { y: mul(matmul(x, weight), input("s", "float32", [5])) }],
  ])("%s", (_, outputs) => {
    const before = graph([x, input("s", "float32", [5])], outputs);
    expect(operatorsOf(foldScales(before))).toEqual(operatorsOf(before));
  });
});

test("float32 files multiply by no LayerScale and by no scale of attention", async () => {
  const model = await loadModel(referencePath("teachers/timm-vit"));
  const { config, weights } = model;
  const scales = Array.from({ length: config.depth }, (_, block) =>
    ["ls1", "ls2"].map((name): [string, Tensor<"float32">] => [
      `blocks.${block}.${name}.gamma`,
      noise([config.width], block),
    ]),
  ).flat();
  const scaled = { ...model.config, layerScale: true };
  const definition = { ...model, config: scaled, weights: new Map([...weights, ...scales]) };
  const made = inferenceGraph(definition);
  const inBlocks = (g: Graph) =>
    sortedNodes(g.outputs.values()).filter(
      ({ op, inputs }) => op === "Mul" && inputs.some(({ source }) => source.kind === "constant"),
    );
  expect(inBlocks(made).length).toBeGreaterThanOrEqual(3 * config.depth);
  const tidied = tidy(made, { target: "portable" });
  const folded = foldScales(tidied);
  expect(inBlocks(folded)).toEqual([]);
  const pixels = noise([1, config.channels, config.imageSize, config.imageSize], 99);
  const [expected, actual] = [tidied, folded].map(
    (g) => evaluate(g, { pixel_values: pixels }).get("last_hidden_state")?.data as Float32Array,
  );
  // Each map rounds its numbers once more or once less.
  expect(relativeError(actual, expected)).toBeLessThan(1e-5);
  await model.dispose();
});
