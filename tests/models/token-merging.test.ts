// Token merging against what PyTorch gave (tests/reference/make_token_merging.py), in ONNX Runtime and in float64.
import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { defaultDevice, loadModel, Model } from "wecolora/node";
import { gradients } from "../../src/engine/autograd/gradients.ts";
import { compile } from "../../src/engine/compile.ts";
import { constant, graph, input, mul, reduceSum } from "../../src/engine/graph/build.ts";
import { evaluate } from "../../src/engine/graph/evaluate-graph.ts";
import type { Value } from "../../src/engine/graph/graph.ts";
import type { VitConfig } from "../../src/models/config.ts";
import { plainVit } from "../../src/models/config.ts";
import { checkMerging, mergedPlaces, mergingOf, tokensBehindBlocks } from "../../src/models/token-merging.ts";
import { embed, frozenWeights, vitBlocks, vitForward } from "../../src/models/vit.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { required } from "../../src/utils/required.ts";
import { rows } from "../../src/utils/tensor.ts";
import { expectClose, readReference, readTensors, referencePath } from "../support/reference.ts";

/** As for the teachers themselves: summation orders differ. */
const tolerance = 1e-4;
const names = readdirSync(referencePath("token-merging")).map((file) => file.replace(".safetensors", ""));

async function merging(name: string): Promise<{ model: Model; merged: Model; input: FloatTensor }> {
  const model = await loadModel(referencePath(`teachers/${name}`), {});
  const tensors = await readTensors(referencePath(`token-merging/${name}.safetensors`));
  const counts = Array.from(tensors.get("merging")?.data as BigInt64Array, Number);
  const { input } = Object.fromEntries(await readReference(`teachers/${name}/expected.safetensors`));
  const merged = new Model({ ...definitionOf(model), config: { ...model.config, merging: counts } }, model.device);
  return { model, merged, input: rows(input, 0, 2) };
}

const definitionOf = ({ config, weights, preprocessing, origin }: Model) => ({
  config,
  weights,
  preprocessing,
  origin,
});

describe.each(names)("%s", (name) => {
  test("gives what PyTorch's model gives when its blocks merge tokens", async () => {
    const { merged, input: pixels } = await merging(name);
    const expected = await readReference(`token-merging/${name}.safetensors`);
    const actual = await merged.forward(pixels, { hiddenStates: true });
    const states = expected.has("blocks.1") ? "blocks" : "hidden_states";
    for (let i = 1; i <= merged.config.depth; i++)
      expectClose(actual.hiddenStates?.[i], expected.get(`${states}.${i}`), tolerance, `block ${i}`);
    expectClose(
      actual.lastHiddenState,
      expected.get("normed") ?? expected.get("last_hidden_state"),
      tolerance,
      "last hidden state",
    );
    const outputs = [
      ["logits", actual.logits],
      ["image_embeds", actual.imageEmbeds],
      ["pooler_output", actual.poolerOutput],
    ] as const;
    for (const [output, value] of outputs)
      if (expected.has(output) && value) expectClose(value, expected.get(output), tolerance, output);
    await merged.dispose();
  });

  test("is the same in float64 as in ONNX Runtime, image by image as together", async () => {
    const { merged, input: pixels } = await merging(name);
    const { config } = merged;
    const fed = input("pixels", "float32", pixels.dims);
    const { pooled, lastHiddenState } = vitForward(config, frozenWeights(merged.weights), fed);
    const exact = evaluate(graph([fed], { pooled, lastHiddenState }), { pixels });
    const together = await merged.outputs(pixels, ["pooled", "lastHiddenState"]);
    expectClose(together.pooled, exact.get("pooled") as FloatTensor, tolerance, "pooled");
    expectClose(together.lastHiddenState, exact.get("lastHiddenState") as FloatTensor, tolerance, "tokens");
    const alone = await merged.outputs(rows(pixels, 1, 2), ["pooled", "lastHiddenState"]);
    expectClose(alone.pooled, rows(together.pooled, 1, 2), tolerance, "pooled alone");
    await merged.dispose();
  });
});

/** What the merging decides for keys `[1, N, d]`, in float64 and in ONNX Runtime. */
async function placesOf(keys: FloatTensor, prefix: number, count: number): Promise<number[]> {
  const fed = input("keys", "float32", keys.dims);
  const built = graph([fed], { places: mergedPlaces(fed, prefix, count) });
  const exact = Array.from(evaluate(built, { keys }).get("places")?.data as Float32Array);
  const session = await compile(built, defaultDevice());
  const { tensors } = await session.run({ feeds: { keys }, fetch: ["places"] });
  expect(Array.from(tensors.places.data as Float32Array)).toEqual(exact);
  await session.dispose();
  return exact;
}

describe("the places of merged tokens", () => {
  /** Keys that point in these directions, in degrees. */
  const pointing = (...degrees: number[]): FloatTensor => ({
    type: "float32",
    dims: [1, degrees.length, 2],
    data: Float32Array.from(degrees.flatMap((d) => [Math.cos((d * Math.PI) / 180), Math.sin((d * Math.PI) / 180)])),
  });

  test("put the most similar source with its destination, behind a class token", async () => {
    // Tokens 2, 4 and 6 are sources; 1, 3 and 5 destinations. 4 is nearest to 1, by one degree; then 2 to 5, by two.
    const keys = pointing(0, 90, 182, 30, 91, 180, 50);
    expect(await placesOf(keys, 1, 1)).toEqual([0, 3, 1, 4, 3, 5, 2]);
    expect(await placesOf(keys, 1, 2)).toEqual([0, 2, 4, 3, 2, 4, 1]);
    expect(await placesOf(keys, 1, 3)).toEqual([0, 1, 3, 2, 1, 3, 2]);
  });

  test("order sources by falling similarity where no token is before the patches, and take odd numbers of patches", async () => {
    // Sources 0, 2, 4; destinations 1, 3. 4 is one degree from 1, 0 five from 3, 2 ten from 3.
    const keys = pointing(55, 91, 40, 50, 90);
    expect(await placesOf(keys, 0, 1)).toEqual([0, 2, 1, 3, 2]);
    expect(await placesOf(keys, 0, 2)).toEqual([2, 1, 0, 2, 1]);
  });

  test("take the first of equal tokens, and never merge learned ones", async () => {
    // Learned tokens 0 and 1 are equal to the patches.
    const keys = pointing(0, 0, 0, 0, 0, 0);
    expect(await placesOf(keys, 2, 1)).toEqual([0, 1, 3, 3, 2, 4]);
    expect(await placesOf(keys, 2, 2)).toEqual([0, 1, 2, 2, 2, 3]);
  });
});

describe("a configuration's merging", () => {
  const config: VitConfig = {
    ...plainVit,
    ...{ imageSize: 32, patchSize: 8, channels: 3, width: 32, depth: 3, heads: 4, mlpWidth: 64, normEpsilon: 1e-6 },
  };

  test("is cut to half of the patches that enter a block, and refused beyond", () => {
    const merging = mergingOf(config, [9, 9, 9]);
    expect(merging).toEqual([8, 4, 2]);
    expect(tokensBehindBlocks({ ...config, merging })).toEqual([9, 5, 3]);
    expect(() => checkMerging({ ...config, merging })).not.toThrow();
    expect(() => checkMerging({ ...config, merging: [8, 5, 0] }, "--merge-tokens")).toThrow(
      "--merge-tokens must be between 0 and 4 for block 1 (half of the 8 patch tokens that enter it), got 5.",
    );
    expect(() => checkMerging({ ...config, merging: [8, 1] })).toThrow("each of the model's 3 blocks, got 2 numbers");
    expect(() => checkMerging({ ...config, merging: [1.5, 0, 0] })).toThrow("got 1.5");
  });

  test("is refused for models whose blocks see the grid, and no matter where it is zero", () => {
    const sharing = { factor: 3 };
    expect(() => checkMerging({ ...config, sharing, merging: [1, 0, 0] })).toThrow("MiniViT");
    expect(() => checkMerging({ ...config, sharing, merging: [0, 0, 0] })).not.toThrow();
  });
});

test("attention is followed through merged tokens: rows over all patches, equal for the members of a token", async () => {
  const { merged, input: pixels } = await merging("timm-vit");
  const watched: Value[] = [];
  const fed = input("pixels", "float32", pixels.dims);
  const weight = frozenWeights(merged.weights);
  vitBlocks(merged.config, weight, embed(merged.config, weight, fed), undefined, undefined, (v) => watched.push(v));
  const { data, dims } = evaluate(graph([fed], { last: watched[5] }), { pixels }).get("last") as FloatTensor;
  expect(dims).toEqual([2, 4, 17, 17]);
  const rowsOf = Array.from({ length: data.length / 17 }, (_, i) => Array.from(data.subarray(i * 17, (i + 1) * 17)));
  for (const row of rowsOf) expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
  // 17 tokens became 8 before the last block, so that rows repeat.
  expect(new Set(rowsOf.slice(0, 17).map((row) => row.map((v) => v.toFixed(6)).join())).size).toBe(8);
  await merged.dispose();
});

test("gradients pass through merged tokens as finite differences say", async () => {
  const { merged, input: pixels } = await merging("timm-vit");
  const { config, weights } = merged;
  const name = "blocks.3.mlp.fc2.bias";
  const trained = input(name, "float32", [config.width]);
  const frozen = frozenWeights(weights);
  const { pooled } = vitForward(config, (n) => (n === name ? trained : frozen(n)), constant(pixels));
  const loss = reduceSum(mul(pooled, pooled));
  const [gradient] = gradients(loss, [trained]);
  const bias = required(weights, name);
  const feeds = (at: number, by: number) => ({
    [name]: { ...bias, data: bias.data.map((v, i) => (i === at ? v + by : v)) },
  });
  const slope = evaluate(graph([trained], { slope: gradient }), feeds(0, 0)).get("slope")?.data as Float32Array;
  const lossAt = (at: number, by: number) =>
    Number(evaluate(graph([trained], { loss }), feeds(at, by)).get("loss")?.data[0]);
  for (const at of [0, 7]) {
    // Small enough for the curve, large enough for float32 in between.
    const step = 1e-2;
    const numeric = (lossAt(at, step) - lossAt(at, -step)) / (2 * step);
    expect(Math.abs(slope[at] - numeric)).toBeLessThan(1e-2 * Math.max(1, Math.abs(numeric)));
  }
  await merged.dispose();
});
