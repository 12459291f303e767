// What --debug shows of graphs and passes.
import { afterEach, expect, test } from "vitest";
import { add, constant, graph, input, mul } from "../src/engine/graph/build.ts";
import { tidy } from "../src/engine/passes/tidy.ts";
import type { DebugTopic } from "../src/utils/debug.ts";
import { setDebug } from "../src/utils/debug.ts";
import { float32 } from "../src/utils/tensor.ts";

afterEach(() => setDebug([], () => undefined));

function shown(topics: readonly DebugTopic[]): string {
  let text = "";
  setDebug(topics, (part) => {
    text += part;
  });
  const x = input("x", "float32", [2]);
  const two = constant(float32([1, 1], [2]));
  tidy(graph([x], { y: mul(x, add(two, two)) }), { target: "portable" });
  return text;
}

test("a graph before and after all passes, with counts of nodes", () => {
  const text = shown(["graph"]);
  expect(text).toContain("graph of 2 nodes before passes\ninput x: float32[2]");
  expect(text).toContain("graph of 1 nodes after passes");
  expect(text).not.toContain("foldConstants");
});

test("each pass with counts of nodes before and after", () => {
  expect(shown(["passes"])).toContain("foldConstants: 2 nodes before, 1 after\n");
});

test("nothing where nothing is asked for", () => {
  expect(shown([])).toBe("");
});
