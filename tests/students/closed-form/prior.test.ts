// Prior images of the closed form: what they count for, at the ends and where they say nothing new.
import { afterAll, describe, expect, test } from "vitest";
import type { AnalyticOptions, FloatTensor, Model } from "wecolora/node";
import { analyticDefaults, analyticStart, loadModel } from "wecolora/node";
import { noise } from "../../support/noise.ts";
import { referencePath, relativeError } from "../../support/reference.ts";

const teacher: Model = await loadModel(referencePath("teachers/timm-vit"));
afterAll(() => teacher.dispose());

const { channels, imageSize, depth } = teacher.config;
const kept = Array.from({ length: depth }, (_, i) => i);
/** Three of four heads' and half of all channels' worth: every map of a block is changed. */
const narrow: Partial<AnalyticOptions> = { mlpWidth: 0.5, keptHeads: 0.5, tokensPerUnknown: Infinity };

const batches = (seed: number, count = 5): FloatTensor[] =>
  Array.from({ length: count }, (_, i) => noise([8, channels, imageSize, imageSize], seed, i));

async function weightsOf(images: FloatTensor[], more: Partial<AnalyticOptions> = {}) {
  const { student } = await analyticStart(teacher, kept, images, { ...analyticDefaults, ...narrow, ...more });
  return student.weights;
}

/** The largest relative error of any of two students' weights; Infinity where they kept other channels. */
function farthest(a: Awaited<ReturnType<typeof weightsOf>>, b: Awaited<ReturnType<typeof weightsOf>>): number {
  return Math.max(
    ...[...a].map(([name, { data }]) => {
      const other = b.get(name);
      return other?.data.length === data.length ? relativeError(data, other.data) : Infinity;
    }),
  );
}

describe("prior images", () => {
  const ownImages = batches(1);

  test.each([0.3, 1, 7])("that are the images themselves change nothing, with a weight of %d", async (weight) => {
    // All sums, and with them the ridge, are then 1 + weight times as large; sums in float32 products round otherwise.
    const actual = await weightsOf(ownImages, { prior: { images: ownImages, weight } });
    expect(farthest(actual, await weightsOf(ownImages))).toBeLessThan(1e-3);
  });

  test("count for nothing with a weight near 0", async () => {
    const actual = await weightsOf(ownImages, { prior: { images: batches(2), weight: 1e-9 } });
    expect(farthest(actual, await weightsOf(ownImages))).toBeLessThan(1e-4);
  });

  test("rule alone with a large weight", async () => {
    const prior = batches(3);
    const actual = await weightsOf(ownImages, { prior: { images: prior, weight: 1e9 } });
    expect(farthest(actual, await weightsOf(prior))).toBeLessThan(1e-3);
    expect(farthest(actual, await weightsOf(ownImages))).toBeGreaterThan(1e-2);
  });

  test("count together for their weight, whatever their number", async () => {
    const prior = batches(4);
    const twice = [...prior, ...prior];
    const once = await weightsOf(ownImages, { prior: { images: prior, weight: 0.5 } });
    expect(farthest(await weightsOf(ownImages, { prior: { images: twice, weight: 0.5 } }), once)).toBeLessThan(1e-3);
  });
});
