// Every layer of every teacher layout against what PyTorch gave (tests/reference/README.md).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadModel, saveModel } from "wecolora/node";
import { expectClose, readReference, readTensors, referencePath, root } from "./support/reference.ts";

/** Features agree to 1e-4 of their largest entry in float32: summation orders differ. */
const tolerance = 1e-4;

const cases = [
  { name: "hf-dinov2", states: "hidden_states", last: "last_hidden_state" },
  { name: "hf-vit", states: "hidden_states", last: "last_hidden_state" },
  { name: "timm-vit", states: "blocks", last: "normed" },
];

describe.each(cases)("$name", ({ name, states, last }) => {
  const directory = referencePath(`teachers/${name}`);

  test("gives PyTorch's output at every layer", async () => {
    const expected = await readReference(`teachers/${name}/expected.safetensors`);
    const model = await loadModel(directory);
    const result = await model.forward(expected.get("input") as never, { hiddenStates: true });
    expect(result.hiddenStates).toHaveLength(model.config.depth + 1);
    result.hiddenStates?.forEach((state, i) => {
      expectClose(state, expected.get(`${states}.${i}`), tolerance, `${states}.${i}`);
    });
    expectClose(result.lastHiddenState, expected.get(last), tolerance, last);
    if (expected.has("logits")) expectClose(result.logits, expected.get("logits"), tolerance, "logits");
    await model.dispose();
  });

  test("takes any batch size", async () => {
    const expected = await readReference(`teachers/${name}/expected.safetensors`);
    const input = expected.get("input") as { data: Float32Array };
    const model = await loadModel(directory);
    const one = { type: "float32" as const, dims: [1, 3, 32, 32], data: input.data.slice(0, 3072) };
    const { lastHiddenState } = await model.forward(one);
    const first = expected.get(last) as { data: Float32Array };
    expectClose(
      lastHiddenState,
      { type: "float32", dims: [1, 17, 32], data: first.data.slice(0, 17 * 32) },
      tolerance,
      last,
    );
    await model.dispose();
  });

  test.each(["float32", "float16"] as const)("saved in %s and loaded equals what was saved", async (weightType) => {
    const expected = await readReference(`teachers/${name}/expected.safetensors`);
    const input = expected.get("input") as never;
    const model = await loadModel(directory);
    const folder = await mkdtemp(join(tmpdir(), "wecolora-save-"));
    try {
      await saveModel(model, folder, { format: "huggingface", weightType });
      const first = await loadModel(folder);
      // Half precision keeps 11 bits: half a unit in the last place is 5e-4, and six blocks add up.
      const bound = weightType === "float32" ? 1e-6 : 5e-3;
      const original = await model.forward(input, { hiddenStates: true });
      const again = await first.forward(input, { hiddenStates: true });
      expectClose(again.lastHiddenState, original.lastHiddenState, bound, "features");
      if (original.logits) expectClose(again.logits, original.logits, bound, "logits");
      // A second round trip loses nothing more.
      const second = join(folder, "second");
      await saveModel(first, second);
      const tensors = await readTensors(join(folder, "model.safetensors"));
      const twice = await readTensors(join(second, "model.safetensors"));
      expect([...twice.keys()].sort()).toEqual([...tensors.keys()].sort());
      for (const [key, tensor] of tensors) {
        expect(tensor.type).toBe(weightType);
        expect(twice.get(key)).toEqual(tensor);
      }
    } finally {
      await rm(folder, { recursive: true });
      await model.dispose();
    }
  });
});

test("the demo's teacher, from given pixel values", async () => {
  const expected = await readTensors(join(root, "demo/expected.safetensors"));
  const model = await loadModel(join(root, "demo/teacher"));
  const stored = await readTensors(join(root, "demo/teacher/model.safetensors"));
  stored.delete("dinov2.embeddings.mask_token");
  expect(model.parameters).toBe([...stored.values()].reduce((sum, { data }) => sum + data.length, 0));
  const { lastHiddenState, logits } = await model.forward(expected.get("pixel_values") as never);
  const [pictures, tokens, width] = lastHiddenState.dims;
  const classToken = new Float32Array(pictures * width);
  for (let i = 0; i < pictures; i++) {
    classToken.set(lastHiddenState.data.subarray(i * tokens * width, i * tokens * width + width), i * width);
  }
  // Tolerances as demo/expected.json states them: 1e-3 of the largest entry.
  expectClose(
    { type: "float32", dims: [pictures, width], data: classToken },
    expected.get("class_token"),
    1e-3,
    "class token",
  );
  expectClose(logits, expected.get("logits"), 1e-3, "logits");
  await model.dispose();
});
