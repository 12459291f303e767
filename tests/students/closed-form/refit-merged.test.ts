// Maps refitted for merged tokens: nearer to the teacher on images that nothing was fitted on, and nothing else changed.
import { describe, expect, test } from "vitest";
import type { ModelDefinition } from "wecolora/node";
import { copyBlocks, loadModel, Model } from "wecolora/node";
import { mean, rowCosines } from "../../../src/evaluation/metrics.ts";
import { mergingOf } from "../../../src/models/token-merging.ts";
import { withChannels, withHeads } from "../../../src/students/closed-form/narrowing.ts";
import { refitMerged } from "../../../src/students/closed-form/refit-merged.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";

/** Images of few directions, so that there is something to learn from one for another. */
function images(count: number, batches: number, seed: number) {
  const patterns = noise([6, 3, 32, 32], 1, "patterns");
  return Array.from({ length: batches }, (_, b) => {
    const mix = noise([count, 6], seed, `mix ${b}`);
    const one = noise([count, 3, 32, 32], seed, `noise ${b}`);
    const size = 3 * 32 * 32;
    const data = one.data.map((v, i) => {
      let sum = 0.3 * v;
      for (let k = 0; k < 6; k++) sum += mix.data[Math.floor(i / size) * 6 + k] * patterns.data[k * size + (i % size)];
      return sum;
    });
    return { ...one, data };
  });
}

describe.each(["hf-dinov2", "more-hf-dinov3", "timm-vit"])("%s", (name) => {
  test("comes nearer to its teacher on other images", async () => {
    const teacher = await loadModel(referencePath(`teachers/${name}`));
    const { config, weights, preprocessing, origin, device } = teacher;
    const merging = mergingOf(config, Array<number>(config.depth).fill(3));
    const given = { config: { ...config, merging }, weights, preprocessing, origin };
    const { student, refits } = await refitMerged(teacher, given, images(16, 10, 2));
    expect(refits.map(({ block, map }) => `${block} ${map}`)).toEqual(
      merging.flatMap((_, block) => [`${block} proj`, `${block} fc2`]),
    );
    for (const { ridge, share } of refits) expect(ridge === undefined ? share === 1 : share < 1).toBe(true);
    expect(refits.some(({ ridge }) => ridge !== undefined)).toBe(true);
    // Nothing but the two maps of each block may have changed.
    for (const [weight, tensor] of student.weights)
      if (!/attn\.proj|mlp\.fc2/.test(weight)) expect(tensor).toBe(weights.get(weight));
    const fresh = images(24, 1, 9)[0];
    const [target] = [await teacher.outputs(fresh, ["blockOutput"])];
    const cosineOf = async (definition: ModelDefinition) => {
      const model = new Model(definition, device);
      const { blockOutput } = await model.outputs(fresh, ["blockOutput"]);
      await model.dispose();
      const rows = (x: typeof blockOutput) => ({ ...x, dims: [x.dims[0] * x.dims[1], x.dims[2]] });
      return mean(rowCosines(rows(blockOutput), rows(target.blockOutput)));
    };
    expect(await cosineOf(student)).toBeGreaterThan(await cosineOf(given));
    await teacher.dispose();
  });
});

test("blocks without an attention or an MLP have their other map refitted", async () => {
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const cut = withChannels(withHeads(copyBlocks(teacher, [0, 1, 2, 3, 4, 5]), 1, []), 2, []);
  const merging = mergingOf(cut.config, [3, 3, 3, 3, 0, 0]);
  expect(merging[1]).toBe(0);
  const { refits } = await refitMerged(teacher, { ...cut, config: { ...cut.config, merging } }, images(16, 10, 2));
  expect(refits.map(({ block, map }) => `${block} ${map}`).slice(0, 6)).toEqual([
    "0 proj",
    "0 fc2",
    "1 fc2",
    "2 proj",
    "3 proj",
    "3 fc2",
  ]);
  // What is missing is much to make up for.
  expect(refits.filter(({ block }) => block === 1 || block === 2).every(({ share }) => share < 0.95)).toBe(true);
  await teacher.dispose();
});

test("nothing is refitted where nothing is merged, and one batch is too few", async () => {
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const { config, weights, preprocessing, origin } = teacher;
  const given = { config: { ...config, merging: Array<number>(config.depth).fill(0) }, weights, preprocessing, origin };
  const { student, refits } = await refitMerged(teacher, given, images(4, 2, 3));
  expect(refits.every(({ ridge }) => ridge === undefined)).toBe(true);
  for (const [weight, tensor] of student.weights) expect(tensor).toBe(weights.get(weight));
  await expect(refitMerged(teacher, given, images(4, 1, 3))).rejects.toThrow("two batches");
  await teacher.dispose();
});
