// Whole models in few bits: what is packed, what stays, and that rounding for images keeps features nearer on others.
import { expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { analyticDefaults, analyticStart, loadModel, Model, quantizeWeights } from "wecolora/node";
import { dequantize } from "../../../src/students/bits/block-weights.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";
import { differenceTo } from "../../support/students.ts";

/** Images whose pixels go together, so that tokens lie near few directions, as those of photographs do. */
function smooth(count: number, { channels, imageSize }: Model["config"], seed: string): FloatTensor {
  const small = noise([count * channels, 4, 4], 1, seed);
  const data = new Float32Array(count * channels * imageSize ** 2);
  for (let i = 0, at = 0; i < count * channels; i++)
    for (let y = 0; y < imageSize; y++)
      for (let x = 0; x < imageSize; x++, at++) {
        const [u, v] = [(3 * y) / imageSize, (3 * x) / imageSize];
        const [r, c] = [Math.floor(u), Math.floor(v)];
        const pixel = (j: number, k: number) => small.data[(i * 4 + j) * 4 + k];
        const across = (j: number) => (1 - v + c) * pixel(j, c) + (v - c) * pixel(j, c + 1);
        data[at] = 2 * ((1 - u + r) * across(r) + (u - r) * across(r + 1));
      }
  return { type: "float32", dims: [count, channels, imageSize, imageSize], data };
}

/** Plain, gated, without biases of q, k and v, and with fewer heads: all kinds of maps. */
const teachers = ["hf-dinov2", "more-hf-dinov2-swiglu", "more-timm-noqkvbias", "fewer-hf-vit"];

test.each(teachers)("%s: rounding for images beats plain rounding on others", async (name) => {
  const teacher = await loadModel(referencePath(`teachers/${name}`));
  const batches = Array.from({ length: 10 }, (_, i) => smooth(16, teacher.config, `fit ${i}`));
  const others = smooth(48, teacher.config, "others");
  const options = { bits: 3, outerBits: 8 } as const;
  const plain = await quantizeWeights(teacher, options);
  const calibration = { device: teacher.device, images: batches };
  const rounded = await quantizeWeights(teacher, { ...options, calibration, tokensPerUnknown: Infinity });
  const differences = await Promise.all(
    [plain, rounded].map(({ definition }) => differenceTo(teacher, new Model(definition, teacher.device), others)),
  );
  expect(differences[1]).toBeLessThan(differences[0]);
  for (const { definition, maps } of [plain, rounded])
    for (const [map, weights] of maps) {
      const { data } = definition.weights.get(map) as FloatTensor;
      expect(data).toEqual(dequantize(weights).data);
    }
  // The same images give the same bits.
  const again = await quantizeWeights(teacher, { ...options, calibration, tokensPerUnknown: Infinity });
  for (const [map, { values, scales }] of again.maps) {
    expect(values).toEqual(rounded.maps.get(map)?.values);
    expect(scales).toEqual(rounded.maps.get(map)?.scales);
  }
  await teacher.dispose();
});

test("a narrowed student's maps, of widths that are no whole blocks", async () => {
  const teacher = await loadModel(referencePath("teachers/timm-vit"));
  const batches = Array.from({ length: 5 }, (_, i) => smooth(16, teacher.config, `fit ${i}`));
  const { heads, mlpWidth, depth } = teacher.config;
  const kept = Array.from({ length: depth }, (_, i) => i);
  const widths = { keptHeads: heads / 2, mlpWidth: Math.round(0.6 * mlpWidth) };
  const { student } = await analyticStart(teacher, kept, batches, { ...analyticDefaults, ...widths });
  const model = new Model(student, teacher.device);
  const others = smooth(16, teacher.config, "others");
  const calibration = { device: teacher.device, images: batches };
  const { definition, maps } = await quantizeWeights(model, { bits: 8, calibration });
  expect(maps.size).toBeGreaterThan(0);
  // 8 bits change next to nothing.
  const tokens = (await model.outputs(others, ["blockOutput"])).blockOutput.data;
  const size = tokens.reduce((sum, v) => sum + Math.abs(v), 0);
  expect((await differenceTo(model, new Model(definition, teacher.device), others)) / size).toBeLessThan(0.02);
  await teacher.dispose();
});

test("rounding stops between rows, images or not", async () => {
  const teacher = await loadModel(referencePath("teachers/hf-dinov2"));
  const calibration = { device: teacher.device, images: [smooth(4, teacher.config, "fit")] };
  for (const given of [{}, { calibration }]) {
    const controller = new AbortController();
    const rounding = quantizeWeights(teacher, { ...given, signal: controller.signal });
    controller.abort(new Error("stopped"));
    await expect(rounding).rejects.toThrow("stopped");
  }
  await teacher.dispose();
});
