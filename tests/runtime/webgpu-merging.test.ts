// Token merging on WebGPU: the same tokens as on the CPU, and operators that ONNX Runtime's provider has.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadModel } from "wecolora/node";
import { sortedNodes } from "../../src/engine/graph/walk.ts";
import { tidy } from "../../src/engine/passes/tidy.ts";
import { inferenceGraph } from "../../src/exports/onnx-file.ts";
import { mergingOf } from "../../src/models/token-merging.ts";
import { referencePath, relativeError, root } from "../support/reference.ts";
import { hasSwiftShader, withSwiftShader } from "../support/webgpu.ts";

const teachers = ["timm-vit", "more-hf-dinov3", "more-timm-avg"].map((name) => referencePath(`teachers/${name}`));

test.each(teachers)("%s: all operators of a merging graph are in the provider's table", async (directory) => {
  const model = await loadModel(directory);
  const merging = mergingOf(model.config, Array<number>(model.config.depth).fill(3));
  const { weights, preprocessing, origin } = model;
  const definition = { config: { ...model.config, merging }, weights, preprocessing, origin };
  const built = tidy(inferenceGraph(definition), { target: "portable" });
  const web = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
  const table = readFileSync(join(web, "..", "docs", "webgpu-operators.md"), "utf8");
  const missing = [...new Set(sortedNodes(built.outputs.values()).map(({ op }) => op))].filter(
    (op) => !table.includes(`| ${op} |`),
  );
  // These are written as operators of the table: `engine/onnx/write-model.ts`.
  const written = ["StopGradient", "LayerNormalization", "Reshape"];
  expect(missing.filter((op) => !written.includes(op))).toEqual([]);
  await model.dispose();
});

describe.runIf(hasSwiftShader)("on WebGPU", () => {
  test.each(teachers)("%s: merged tokens are those of the CPU", async (directory) => {
    const work = join(root, "tests/support/merging-on-device.mjs");
    const [cpu, gpu] = await Promise.all(["cpu", "webgpu"].map((device) => withSwiftShader(work, device, directory)));
    for (const { code, err } of [cpu, gpu]) expect(code, err).toBe(0);
    const [a, b] = [cpu, gpu].map(({ out }) => JSON.parse(out) as Record<"tokens" | "pooled", number[]>);
    // Float32 sums in another order; another choice of tokens would differ by far more.
    expect(relativeError(Float64Array.from(b.tokens), Float64Array.from(a.tokens))).toBeLessThan(1e-3);
    expect(relativeError(Float64Array.from(b.pooled), Float64Array.from(a.pooled))).toBeLessThan(1e-3);
  });
});
