// Fewer tokens: smaller images and merged tokens as a search tries them.
import { expect, test } from "vitest";
import { forImageSize } from "../../../src/models/definition.ts";
import { Model } from "../../../src/models/model.ts";
import { patchCount } from "../../../src/models/config.ts";
import { tokenSettings, withTokens } from "../../../src/students/search/token-settings.ts";
import { defaultDevice, loadModel } from "../../../src/platform/node/node.ts";
import type { Resize } from "../../../src/utils/image.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";

const device = defaultDevice();

const vit = (imageSize: number, patchSize: number, layout = "timm", resize: Resize = { shortestEdge: 256 }) => ({
  config: { imageSize, patchSize },
  origin: { layout },
  preprocessing: { resize },
});

test("images are smaller by whole patches, and no setting is there twice", () => {
  const sizes = (...of: Parameters<typeof vit>) =>
    tokenSettings(vit(...of), { merges: false, resizes: true }).map((one) => one.imageSize);
  expect(sizes(224, 14)).toEqual([undefined, 196, 168, 140, 112]);
  expect(sizes(224, 16)).toEqual([undefined, 192, 176, 144, 112]);
  expect(sizes(518, 14)).toEqual([undefined, 448, 392, 322, 266]);
  // Two patches a side: one is all that is less.
  expect(sizes(32, 16)).toEqual([undefined, 16]);
  expect(sizes(16, 16)).toEqual([undefined]);
  // An ONNX file's graph is for one size.
  expect(sizes(224, 14, "ONNX")).toEqual([undefined]);
  // Without resizing, a smaller image would be another part of it.
  expect(sizes(224, 14, "timm", { unchanged: true })).toEqual([undefined]);
});

test("levers that are left out are not tried", () => {
  const settings = (merges: boolean, resizes: boolean) => tokenSettings(vit(224, 14), { merges, resizes });
  expect(settings(false, false)).toEqual([{}]);
  expect(settings(true, false).every(({ imageSize }) => imageSize === undefined)).toBe(true);
  expect(settings(false, true).every(({ merging }) => merging === undefined)).toBe(true);
  const both = settings(true, true);
  expect(both[0]).toEqual({});
  expect(both.some(({ imageSize, merging }) => imageSize !== undefined && merging !== undefined)).toBe(true);
  expect(new Set(both.map((one) => JSON.stringify(one))).size).toBe(both.length);
});

test.each(["timm-vit", "hf-dinov2", "more-hf-dinov3"])(
  "%s: a smaller image gives what reading it at that size gives",
  async (name) => {
    const path = referencePath(`teachers/${name}`);
    const whole = await loadModel(path, { device });
    const imageSize = whole.config.imageSize - whole.config.patchSize;
    const read = await loadModel(path, { device, imageSize });
    const smaller = new Model(forImageSize(whole, imageSize), device);
    expect(smaller.preprocessing).toEqual(read.preprocessing);
    expect(smaller.config).toEqual(read.config);
    const pixels = noise([2, 3, imageSize, imageSize], 1, "smaller");
    const [a, b] = [await smaller.outputs(pixels, ["pooled"]), await read.outputs(pixels, ["pooled"])];
    expect(a.pooled).toEqual(b.pooled);
    // Tokens are merged by the smaller number.
    const merged = withTokens(whole, { imageSize, merging: { family: "alternate", share: 0.6 } });
    const gone = (merged.config.merging ?? []).reduce((sum, count) => sum + count, 0);
    expect(gone).toBeGreaterThan(0);
    expect(gone).toBeLessThan(patchCount(merged.config));
    for (const model of [whole, read, smaller]) await model.dispose();
  },
);
