// Resizing and transforms against Pillow and torchvision.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { resize } from "../../src/data/resize.ts";
import { resizePixels } from "../../src/data/resize-pixels.ts";
import { evaluationPixels, evaluationCrop, normalise, randomCrop } from "../../src/data/transforms.ts";
import type { RgbImage, Preprocessing } from "../../src/utils/image.ts";
import { drawStream } from "../../src/utils/random.ts";
import type { Tensor } from "../../src/utils/tensor.ts";
import { readJson, readTensors, referencePath, root } from "../support/reference.ts";

async function decode(path: string): Promise<RgbImage> {
  const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data };
}

function meanDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i] - b[i]);
  return sum / a.length;
}

describe("crops that were read for another size", () => {
  test.each(["bicubic", "bilinear", "lanczos", "box", "hamming", "nearest"] as const)("%s", (interpolation) => {
    const [from, to] = [48, 36];
    const stream = drawStream(1, "pixels");
    // Far from 0 and 255, so that nothing is clipped.
    const data = Uint8Array.from({ length: from * from * 3 }, () => 80 + Math.floor(96 * stream.uniform()));
    const image = { width: from, height: from, data };
    const expected = resize(image, { left: 0, top: 0, width: from, height: from }, to, to, interpolation);
    const planes = Float32Array.from({ length: 3 * from * from }, (_, i) => {
      const [channel, at] = [Math.floor(i / from ** 2), i % from ** 2];
      return (data[at * 3 + channel] - 127.5) / 50;
    });
    const { dims, data: out } = resizePixels(
      { type: "float32", dims: [1, 3, from, from], data: planes },
      to,
      interpolation,
    );
    expect(dims).toEqual([1, 3, to, to]);
    // Pillow rounds to whole numbers twice: behind each pass at most half of one is lost, and the second pass weighs the first's errors.
    for (let i = 0; i < out.length; i++) {
      const [channel, at] = [Math.floor(i / to ** 2), i % to ** 2];
      expect(Math.abs(out[i] * 50 + 127.5 - expected.data[at * 3 + channel])).toBeLessThan(1.5);
    }
  });
});

describe("against Pillow", () => {
  let source: RgbImage;
  let expected: Map<string, Tensor>;
  beforeAll(async () => {
    source = await decode(referencePath("images/source.png"));
    expected = await readTensors(referencePath("images/expected.safetensors"));
  });

  test.each([0, 1, 2, 3].flatMap((crop) => [224, 96].map((side) => [crop, side])))("crop %i to %i", (crop, side) => {
    const { boxes_left_top_width_height: boxes } = readJson<{ boxes_left_top_width_height: number[][] }>(
      "images/expected.json",
    );
    const [left, top, width, height] = boxes[crop];
    const out = resize(source, { left, top, width, height }, side, side, "bicubic");
    // The same arithmetic as Pillow's, so the same bits.
    expect(out.data).toEqual(expected.get(`crop${crop}_to${side}`)?.data);
  });

  test("the evaluation transform", () => {
    const preprocessing: Preprocessing = {
      resize: { shortestEdge: 256 },
      cropSize: 224,
      interpolation: "bicubic",
      mean: [0, 0, 0],
      std: [1, 1, 1],
    };
    const { data } = evaluationPixels(source, preprocessing);
    expect(meanDifference(data, expected.get("eval_resize256_center224")?.data as Uint8Array)).toBe(0);
  });
});

test("the demo's images become the pixel values that PyTorch saw", async () => {
  const { pictures: images } = JSON.parse(readFileSync(join(root, "demo/expected.json"), "utf8")) as {
    pictures: string[];
  };
  const expected = (await readTensors(join(root, "demo/expected.safetensors"))).get("pixel_values") as Tensor;
  const size = 3 * 224 * 224;
  for (const [i, name] of images.entries()) {
    const pixels = evaluationCrop(await decode(join(root, "demo", name)), {
      resize: { shortestEdge: 256 },
      cropSize: 224,
      interpolation: "bicubic",
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    });
    const wanted = (expected.data as Float32Array).subarray(i * size, (i + 1) * size);
    // The bound that demo/expected.json states.
    expect(meanDifference(pixels, wanted), name).toBeLessThan(0.02);
  }
});

test("a window of a resized image is that part of the whole", () => {
  const random = drawStream(3);
  const image = {
    width: 50,
    height: 37,
    data: Uint8Array.from({ length: 50 * 37 * 3 }, () => random.integer(0, 255)),
  };
  const box = { left: 3, top: 2, width: 41, height: 30 };
  const whole = resize(image, box, 64, 20, "bicubic");
  const window = resize(image, box, 64, 20, "bicubic", { left: 10, top: 4, width: 16, height: 9 });
  for (let y = 0; y < 9; y++) {
    const from = ((y + 4) * 64 + 10) * 3;
    expect(window.data.subarray(y * 48, (y + 1) * 48)).toEqual(whole.data.subarray(from, from + 48));
  }
});

test("a flip mirrors rows, and normalising uses each channel's own numbers", () => {
  const image = { width: 2, height: 1, data: Uint8Array.from([0, 51, 255, 255, 102, 0]) };
  const normalisation = { mean: [0.5, 0, 0] as const, std: [0.5, 1, 0.5] as const };
  const plain = Array.from(normalise(image, normalisation), (v) => Math.round(v * 1e5) / 1e5);
  const flipped = Array.from(normalise(image, normalisation, true), (v) => Math.round(v * 1e5) / 1e5);
  expect(plain).toEqual([-1, 1, 0.2, 0.4, 2, 0]);
  expect(flipped).toEqual([1, -1, 0.4, 0.2, 0, 2]);
});

test("random crops lie inside and cover the asked share of the area", () => {
  const random = drawStream(5);
  const shares: number[] = [];
  for (let i = 0; i < 500; i++) {
    const box = randomCrop({ width: 300, height: 200, data: new Uint8Array() }, [0.2, 1], random);
    expect(box.left >= 0 && box.top >= 0 && box.left + box.width <= 300 && box.top + box.height <= 200).toBe(true);
    shares.push((box.width * box.height) / 60000);
  }
  expect(Math.min(...shares)).toBeGreaterThan(0.19);
  expect(Math.max(...shares)).toBeGreaterThan(0.85);
  const narrow = randomCrop({ width: 1000, height: 10, data: new Uint8Array() }, [0.9, 1], random);
  expect(narrow).toEqual({ left: 493, top: 0, width: 13, height: 10 });
});
