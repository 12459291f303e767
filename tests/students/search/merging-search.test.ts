// How many tokens each block merges: operations, greedy schedules, and what is chosen.
import { describe, expect, test } from "vitest";
import { loadModel, Model } from "wecolora/node";
import type { VitConfig } from "../../../src/models/config.ts";
import { plainVit } from "../../../src/models/config.ts";
import { checkMerging } from "../../../src/models/token-merging.ts";
import { rowCosines } from "../../../src/evaluation/metrics.ts";
import {
  blockOperations,
  chooseMerging,
  compareMergings,
  greedySchedule,
  scheduleForShare,
} from "../../../src/students/search/merging-search.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";

const config: VitConfig = {
  ...plainVit,
  ...{ imageSize: 32, patchSize: 8, channels: 3, width: 32, depth: 3, heads: 4, mlpWidth: 64, normEpsilon: 1e-6 },
};
const images = [0, 1].map((batch) => noise([6, 3, 32, 32], 4, `batch ${batch}`));
const now = () => performance.now();

test("operations are the products of the blocks, and those of merging", () => {
  // 17 tokens: qkv and proj 4 x 17 x 32 x 32, attention 2 x 17 x 17 x 32, MLP 2 x 17 x 32 x 64.
  const block = 69_632 + 18_496 + 69_632;
  expect(blockOperations(config)).toBe(3 * block);
  // Block 2 merges 4 of 17: its MLP sees 13, similarities take 8.5 x 8.5 x 8, the merging 13 x 17 x 32.
  const merging = [0, 0, 4];
  expect(blockOperations({ ...config, merging })).toBe(3 * block - 4 * 2 * 32 * 64 + 578 + 7072);
});

test("greedy schedules spare the blocks that lose most, and reach the share", () => {
  const merging = greedySchedule(config, [1, 1e-6, 1], 0.8);
  checkMerging({ ...config, merging });
  expect(merging[1]).toBeGreaterThan(merging[0]);
  expect(merging[1]).toBeGreaterThan(merging[2]);
  expect(blockOperations({ ...config, merging }) / blockOperations(config)).toBeLessThanOrEqual(0.8);
  // Where the share is beyond what merging can save, all that can be merged is.
  const most = greedySchedule(config, [1, 1, 1], 0.01);
  checkMerging({ ...config, merging: most });
});

test("alternate schedules merge in every second block that has an attention", () => {
  const blocks = [2, 0, 4, 4, 0, 4].map((heads) => ({ heads, mlpWidth: 64 }));
  const cut = { ...config, depth: 6, blocks };
  const whole = scheduleForShare({ ...config, depth: 6 }, 0.6, "alternate");
  const some = scheduleForShare(cut, 0.6, "alternate");
  const places = (merging: readonly number[]) => merging.flatMap((count, i) => (count > 0 ? [i] : []));
  expect(places(whole)).toEqual([0, 2, 4]);
  expect(places(some)).toEqual([0, 3]);
  for (const [of, merging] of [
    [{ ...config, depth: 6 }, whole],
    [cut, some],
  ] as const) {
    checkMerging({ ...of, merging });
    expect(blockOperations({ ...of, merging }) / blockOperations(of)).toBeLessThan(0.75);
  }
});

describe("on a small model", () => {
  test("fidelities of several schedules in one session are those of each model", async () => {
    const model = await loadModel(referencePath("teachers/timm-vit"));
    const { weights, preprocessing, origin, device } = model;
    const merging = [4, 0, 2, 0, 0, 1];
    const [none, some] = await compareMergings(model, [[0, 0, 0, 0, 0, 0], merging], images.slice(0, 1));
    expect(none).toEqual({ cosine: expect.closeTo(1, 6) as number, agreement: 1 });
    const merged = new Model({ config: { ...model.config, merging }, weights, preprocessing, origin }, device);
    const [a, b] = [await merged.outputs(images[0], ["pooled"]), await model.outputs(images[0], ["pooled"])];
    const cosines = rowCosines(a.pooled, b.pooled);
    expect(some.cosine).toBeCloseTo(cosines.reduce((x, y) => x + y) / cosines.length, 5);
    await merged.dispose();
    await model.dispose();
  });

  test("the frontier rises from quick to faithful, and the target chooses on it", async () => {
    const model = await loadModel(referencePath("teachers/timm-vit"));
    const {
      frontier,
      chosen,
      images: judged,
    } = await chooseMerging(model, images, {
      target: { cosine: 0.999_999 },
      shares: [0.8, 0.6],
      now,
    });
    expect(judged).toBe(6);
    frontier.forEach((point, i) => {
      checkMerging({ ...model.config, merging: point.merging });
      if (i > 0) expect(point.cosine).toBeGreaterThan(frontier[i - 1].cosine);
      if (i > 0) expect(point.milliseconds).toBeGreaterThanOrEqual(frontier[i - 1].milliseconds);
    });
    // Only the unmerged model is that faithful with random weights.
    expect(chosen?.family).toBe("none");
    await model.dispose();
  });

  test("targets that mean nothing are refused", async () => {
    const headless = await loadModel(referencePath("teachers/hf-dinov2"));
    await expect(chooseMerging(headless, images, { target: { agreement: 0.9 }, now })).rejects.toThrow(
      "The target agreement needs a model with a classifier head",
    );
    await expect(chooseMerging(headless, images, { target: { time: 1.5 }, now })).rejects.toThrow(
      "The target time must be above 0 and at most 1, got 1.5.",
    );
    await expect(chooseMerging(headless, images.slice(0, 1), { target: { time: 0.5 }, now })).rejects.toThrow(
      "two batches",
    );
    await headless.dispose();
  });
});
