// ONNX exports that merge tokens: the same numbers as our own forward, formats that refuse, and what can be read back.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor as OnnxTensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDistillation, exportModel, loadModel, Model, saveModel } from "wecolora/node";
import { outOfBounds } from "../../src/commands/export.ts";
import { noiseImage } from "../support/cli.ts";
import { noise } from "../support/noise.ts";
import { referencePath, relativeError } from "../support/reference.ts";

const directory = referencePath("teachers/hf-dinov2");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-merging-"));
  for (let i = 0; i < 12; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

async function merged(path: string, merging: readonly number[]): Promise<Model> {
  const { config, weights, preprocessing, origin, device } = await loadModel(path);
  return new Model({ config: { ...config, merging }, weights, preprocessing, origin }, device);
}
const count = 4;
/** As far as each block can: 16 patches, then 12 and so on. */
const asFar = (depth: number) => [4, 4, 4, 2, 1, 0].slice(0, depth);

describe("--merge-tokens", () => {
  test("writes a graph that gives our own forward's numbers for one image and for three", async () => {
    const { exports } = await exportModel({
      model: directory,
      to: "onnx",
      out: at("onnx"),
      data: at("data"),
      mergeTokens: count,
    });
    const exported = await merged(directory, exports[0].merging ?? []);
    expect(exported.config.merging).toEqual(asFar(exported.config.depth));
    const session = await InferenceSession.create(at("onnx", "onnx", "model.onnx"));
    for (const batch of [1, 3]) {
      const pixels = noise([batch, 3, exported.config.imageSize, exported.config.imageSize], 3, `batch ${batch}`);
      const fed = new OnnxTensor("float32", pixels.data, pixels.dims);
      const { last_hidden_state: tokens } = await session.run({ pixel_values: fed });
      const { lastHiddenState } = await exported.forward(pixels);
      // The full grid of patches, whatever was merged.
      expect(tokens.dims).toEqual([batch, 17, exported.config.width]);
      // Float32 sums in another order.
      expect(relativeError(tokens.data as Float32Array, lastHiddenState.data)).toBeLessThan(1e-4);
    }
    const card = await readFile(at("onnx", "README.md"), "utf8");
    expect(card).toContain("token merging");
    // Merging changes features: the figures are of the unmerged model.
    expect(exports[0].cosine).toBeLessThan(0.99999);
    await exported.dispose();
  });

  test("works in half precision and with 8-bit maps", async () => {
    const to = ["onnx-float16", "onnx-int8", "onnx-int8-weights", "onnx-q4", "onnx-q4f16"];
    const data = at("data");
    const { exports } = await exportModel({ model: directory, to, out: at("several"), data, mergeTokens: 2 });
    // Each is within the bounds of the merging model, or exportModel throws; near the unmerged one as far as two tokens go.
    expect(exports.map(({ format }) => format)).toEqual(to);
    for (const { cosine } of exports) expect(cosine).toBeGreaterThan(0.9);
  });

  test("is refused by name where a format is no graph, and where blocks have too few tokens", async () => {
    const wrong = (more: object) =>
      exportModel({ model: directory, to: "onnx", out: at("none"), data: at("data"), ...more });
    for (const to of ["huggingface", "safetensors", "timm"])
      await expect(wrong({ to, mergeTokens: 2 })).rejects.toThrow(
        `--merge-tokens works with ONNX exports alone (onnx, onnx-float16, onnx-int8, onnx-int8-weights, onnx-q4, onnx-q4f16), got --to ${to}.`,
      );
    await expect(wrong({ mergeTokens: [1, 1] })).rejects.toThrow("--merge-tokens must have one number for each");
    await expect(wrong({ mergeTokens: -1 })).rejects.toThrow("mergeTokens");
  });

  test("says what is wrong with a graph that is not the merging model", () => {
    const measured = { format: "onnx", out: "there", merging: [1] };
    expect(outOfBounds({ ...measured, relativeDifference: 0.05, cosine: 0.995 })).toBeUndefined();
    expect(outOfBounds({ ...measured, relativeDifference: 0.05, cosine: 0.98 })).toContain(
      "which may merge other tokens",
    );
    expect(outOfBounds({ ...measured, merging: undefined, relativeDifference: 0.05, cosine: 0.995 })).toContain(
      "not the model",
    );
  });
});

describe("a model that merges tokens", () => {
  test("is stored in our own format and read back, and is refused by other libraries' formats", async () => {
    const { depth } = (await loadModel(directory)).config;
    const exported = await merged(directory, asFar(depth));
    await saveModel(exported, at("native"), { format: "safetensors" });
    const again = await loadModel(at("native"));
    expect(again.config.merging).toEqual(exported.config.merging);
    const pixels = noise([2, 3, exported.config.imageSize, exported.config.imageSize], 5, "native");
    const [a, b] = [await exported.outputs(pixels, ["pooled"]), await again.outputs(pixels, ["pooled"])];
    expect(relativeError(b.pooled.data, a.pooled.data)).toBeLessThan(1e-5);
    for (const format of ["huggingface", "timm"] as const)
      await expect(saveModel(exported, at(format), { format })).rejects.toThrow(
        /no class for a model that merges tokens/,
      );
    await exported.dispose();
    await again.dispose();
  });

  test("is no teacher", async () => {
    const exported = await merged(directory, [2, 0, 0, 0, 0, 0].slice(0, (await loadModel(directory)).config.depth));
    await expect(createDistillation(exported, { reductionFactor: 2, rank: 4 })).rejects.toThrow(
      "The teacher merges tokens",
    );
    await exported.dispose();
  });

  test("is not read from its ONNX file", async () => {
    await expect(loadModel(at("onnx", "onnx", "model.onnx"))).rejects.toThrow(
      "holds no vision transformer that can be recognised",
    );
  });
});
