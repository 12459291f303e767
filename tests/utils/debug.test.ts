// What --debug shows of graphs and passes.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { add, constant, graph, input, mul } from "../../src/engine/graph/build.ts";
import { tidy } from "../../src/engine/passes/tidy.ts";
import type { DebugTopic } from "../../src/utils/debug.ts";
import { setDebug } from "../../src/utils/debug.ts";
import { float32 } from "../../src/utils/tensor.ts";
import { noiseFolder, wecolora } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

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

test("the command line shows graphs, passes, the time of each kind of node, and the files that were read", async () => {
  const folder = await noiseFolder("debug");
  try {
    const teacher = referencePath("teachers/timm-vit");
    const args = [
      "features",
      "--model",
      teacher,
      "--data",
      join(folder, "data"),
      "--out",
      join(folder, "x.safetensors"),
    ];
    const shown = await wecolora(...args, "--debug", "graph,passes,time,files");
    expect(shown).toMatchObject({ code: 0 });
    expect(shown.err).toMatch(/graph of \d+ nodes before passes/);
    expect(shown.err).toMatch(/foldConstants: \d+ nodes before, \d+ after/);
    expect(shown.err).toMatch(/node kind +runs +ms +%\n[\s\S]*CPU MatMul/);
    expect(shown.err).toContain(`read ${join(teacher, "model.safetensors")}`);
    expect(shown.err).toContain(`read ${join(folder, "data", "c1", "1.jpg")}`);
    const plain = await wecolora(...args);
    expect(plain.err).not.toMatch(/nodes before|node kind|read \//);
    const wrong = await wecolora(...args, "--debug", "time,nodes");
    expect(wrong).toMatchObject({ code: 2 });
    expect(wrong.err).toContain("--debug takes graph, passes, time, files, got nodes.");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("nothing where nothing is asked for", () => {
  expect(shown([])).toBe("");
});
