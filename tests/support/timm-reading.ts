// A model that timm saved beside what it gave, read by us: right, wrong by so much, or refused with these words.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { FloatTensor, Model } from "wecolora/node";
import { loadModel, UserError } from "wecolora/node";
import { readTensors } from "./reference.ts";

export type Reading =
  | { readonly state: "right" }
  | { readonly state: "wrong"; readonly difference: number }
  | { readonly state: "refused"; readonly reason: string };

/** The largest difference of two tensors' entries, relative to the largest entry of the second. */
function relativeDifference(a: FloatTensor | undefined, b: FloatTensor): number {
  if (a?.dims.join() !== b.dims.join()) return Number.POSITIVE_INFINITY;
  let [difference, scale] = [0, 0];
  b.data.forEach((value, i) => {
    difference = Math.max(difference, Math.abs(value - a.data[i]));
    scale = Math.max(scale, Math.abs(value));
  });
  return Number.isFinite(difference) ? difference / scale : Number.POSITIVE_INFINITY;
}

/** Features agree to 1e-4 of their largest entry in float32: summation orders differ. */
const tolerance = 1e-4;

/**
 * Features, tokens and logits against timm's (`make_timm_tiny.py`).
 * @param options - `imageSize` of models that neither a position table nor a configuration tells.
 */
export async function readTimmModel(folder: string, options: { imageSize?: number } = {}): Promise<Reading> {
  let model: Model;
  try {
    model = await loadModel(folder, options);
  } catch (error) {
    if (error instanceof UserError) return { state: "refused", reason: error.message };
    throw error;
  }
  try {
    const expected = await readTensors(join(folder, "expected.safetensors"));
    const { pooled, lastHiddenState, logits } = await model.forward(expected.get("input") as FloatTensor);
    const { architecture } = JSON.parse(await readFile(join(folder, "config.json"), "utf8")) as {
      architecture: string;
    };
    const differences = [
      relativeDifference(lastHiddenState, expected.get("tokens") as FloatTensor),
      relativeDifference(logits, expected.get("logits") as FloatTensor),
    ];
    // timm's features of a distilled model are the mean of its two tokens, ours the class token.
    if (!architecture.includes("distilled"))
      differences.push(relativeDifference(pooled, expected.get("features") as FloatTensor));
    const difference = Math.max(...differences);
    return difference <= tolerance ? { state: "right" } : { state: "wrong", difference };
  } finally {
    await model.dispose();
  }
}
