// Micro-batches taken in halves, by two sessions at the same time, or in turns by one: the same steps as at once, whatever comes in between.
import { afterAll, describe, expect, test } from "vitest";
import type { CreateDistillationOptions, FloatTensor } from "wecolora/node";
import { createDistillation, createNodeDevice, loadModel, Model } from "wecolora/node";
import type { MicroBatch } from "../../../src/students/training/distillation.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { changed } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { referencePath, relativeError } from "../../support/reference.ts";

/** A device that tells how often the one beside it was asked for. */
function watched(device: Device): { device: Device; asked: () => number } {
  let count = 0;
  const sibling = device.sibling && (() => (count++, device.sibling?.() as Device));
  return { device: changed(device, { sibling }), asked: () => count };
}

const [alone, both, three] = [1, 2, 3].map((threads) => createNodeDevice({ threads }));
const loaded = await loadModel(referencePath("teachers/timm-vit"));
afterAll(async () => {
  await loaded.dispose();
  for (const device of [alone, both, three]) await device.dispose();
});
const { config, weights, preprocessing, origin } = loaded;
const teacherOn = (device: Device) => new Model({ config, weights, preprocessing, origin }, device);
const images = (part: number, count = 2): FloatTensor =>
  noise([count, config.channels, config.imageSize, config.imageSize], part, "pairs");
const settings: CreateDistillationOptions = { reductionFactor: 2, rank: 4, accumulation: 2 };
const stepOf = (step: number) => [0, 1].map((part) => images(2 * step + part));

/** Distances of what trains, and of gradients, by name; none is to be far. */
function expectNear(
  actual: ReadonlyMap<string, FloatTensor>,
  expected: ReadonlyMap<string, FloatTensor>,
  most: number,
) {
  expect([...actual.keys()]).toEqual([...expected.keys()]);
  for (const [name, { data }] of expected)
    expect(relativeError(actual.get(name)?.data as Float32Array, data as Float32Array), name).toBeLessThan(most);
}

const cases: [string, CreateDistillationOptions][] = [
  ["float32", {}],
  ["one micro-batch to a step", { accumulation: 1 }],
  ["gradients that are clipped", { optimizer: { kind: "adamw", clipNorm: 0.01 } }],
  ["dropout, drawn for rows and for columns", { adapterDropout: 0.2 }],
  ["several blocks' outputs", { loss: { kind: "multi-block" } }],
  ["masks drawn for each image", { method: "dmae", rank: undefined }],
  ["relations between tokens", { method: "minivit", rank: undefined }],
];

describe.each(cases)("%s", (_, more) => {
  test("steps are those of one session", async () => {
    const all = { ...settings, ...more };
    const { device, asked } = watched(both);
    const pair = await createDistillation(teacherOn(device), all);
    const initialAdapters = await pair.adapters();
    const single = await createDistillation(teacherOn(alone), { ...all, initialAdapters });
    for (let step = 0; step < 3; step++) {
      const shown = stepOf(step).slice(0, all.accumulation);
      const [actual, expected] = [
        await pair.step(shown, { gradients: true }),
        await single.step(shown, { gradients: true }),
      ];
      expect(actual.loss / expected.loss).toBeCloseTo(1, 5);
      // Float32's sums in another order; later ones are of parameters that Adam has moved by signs of tiny gradients.
      if (step === 0 && actual.gradients && expected.gradients) expectNear(actual.gradients, expected.gradients, 1e-4);
    }
    expectNear(await pair.adapters(), await single.adapters(), 2e-3);
    expect(asked()).toBe(1);
    await pair.dispose();
    await single.dispose();
  });
});

/** A device that tells how large graphs were. */
function measured(device: Device): { device: Device; largest: () => number } {
  const sizes: number[] = [];
  const createSession: Device["createSession"] = (source, options) => {
    sizes.push(source.model.byteLength);
    return device.createSession(source, options);
  };
  const made = changed(device, { createSession });
  return { device: made, largest: () => Math.max(...sizes) };
}

describe.each([
  ...cases,
  ["8 bits", { precision: "int8" }],
  ["activations that are computed anew", { checkpointing: true }],
  ["activations in half precision", { activations: "float16" }],
] satisfies [string, CreateDistillationOptions][])("images in turns: %s", (_, more) => {
  test("steps are those of all at once", async () => {
    const all = { ...settings, ...more };
    // Four images are two for each of two turns with one thread, and too few for turns with three.
    const [inTurns, atOnce] = [measured(alone), measured(three)];
    const actual = await createDistillation(teacherOn(inTurns.device), all);
    const initialAdapters = await actual.adapters();
    const expected = await createDistillation(teacherOn(atOnce.device), { ...all, initialAdapters });
    const shown = [0, 1].map((part) => images(part, 4)).slice(0, all.accumulation);
    const [a, b] = [await actual.step(shown, { gradients: true }), await expected.step(shown, { gradients: true })];
    // In 8 bits, tokens and thin gradients have scales for each turn, so other roundings, which move gradients by up to 0.2 themselves
    // (dev/performance-notes.md, cosines of 0.981); else float32's sums come in another order.
    const int8 = all.precision === "int8";
    expect(Math.abs(a.loss / b.loss - 1)).toBeLessThan(int8 ? 2e-3 : 5e-6);
    const most = int8 ? 0.1 : all.activations ? 1e-3 : 1e-4;
    if (a.gradients && b.gradients) expectNear(a.gradients, b.gradients, most);
    expect(inTurns.largest()).toBeGreaterThan(1.3 * atOnce.largest());
    await actual.dispose();
    await expected.dispose();
  });
});

test.each<[string, CreateDistillationOptions, number, Device]>([
  ["an odd number of images", {}, 3, both],
  ["an odd number of threads", {}, 2, three],
  ["activations that are computed anew", { checkpointing: true }, 2, both],
])("%s: one session", async (_, more, count, on) => {
  const { device, asked } = watched(on);
  const distillation = await createDistillation(teacherOn(device), { ...settings, ...more });
  expect((await distillation.step([0, 1].map((part) => images(part, count)))).loss).toBeGreaterThan(0);
  expect(asked()).toBe(0);
  await distillation.dispose();
});

test("one that goes on from a saved state is the same to the bit", async () => {
  const whole = await createDistillation(teacherOn(both), settings);
  const initialAdapters = await whole.adapters();
  const begun = await createDistillation(teacherOn(both), { ...settings, initialAdapters });
  await begun.step(stepOf(0));
  const saved = await begun.saveState();
  await begun.dispose();
  const rest = await createDistillation(teacherOn(both), settings);
  await rest.loadState(saved);
  await whole.step(stepOf(0));
  const losses = [await whole.step(stepOf(1)), await rest.step(stepOf(1))].map(({ loss }) => loss);
  expect(losses[0]).toBe(losses[1]);
  expect(await rest.adapters()).toEqual(await whole.adapters());
  await whole.dispose();
  await rest.dispose();
});

test("steps of odd and of even numbers of images: what trains goes from two devices to one and back", async () => {
  const pair = await createDistillation(teacherOn(both), settings);
  const initialAdapters = await pair.adapters();
  const single = await createDistillation(teacherOn(alone), { ...settings, initialAdapters });
  const [begun, ended] = [await pair.saveState(), await single.saveState()];
  expect([...begun.tensors.keys()]).toEqual([...ended.tensors.keys()]);
  for (const count of [2, 3, 4, 4, 1]) {
    const shown = [0, 1].map((part) => images(10 * count + part, count));
    const losses = [await pair.step(shown), await single.step(shown)].map(({ loss }) => loss);
    expect(losses[0] / losses[1]).toBeCloseTo(1, 4);
    const [actual, expected] = [await pair.saveState(), await single.saveState()];
    expectNear(actual.tensors, expected.tensors, 5e-3);
  }
  await pair.dispose();
  await single.dispose();
});

test("micro-batches are asked for in order, once and one at a time", async () => {
  const distillation = await createDistillation(teacherOn(both), { ...settings, accumulation: 4 });
  const order: string[] = [];
  const parts = [0, 1, 2, 3].map((part): MicroBatch => async () => {
    order.push(`asked ${part}`);
    await new Promise((resolve) => setTimeout(resolve, part < 2 ? 30 : 1));
    order.push(`came ${part}`);
    return images(part);
  });
  await distillation.step(parts);
  expect(order).toEqual([0, 1, 2, 3].flatMap((part) => [`asked ${part}`, `came ${part}`]));
  await distillation.dispose();
});

describe("what goes wrong in one of them ends the step, and the next one goes well", () => {
  const missing = () => Promise.reject(new Error("no such picture"));
  const cases: [string, readonly MicroBatch[], string][] = [
    ["images that can't be read", [images(0), missing], "no such picture"],
    ["in the first", [missing, images(1)], "no such picture"],
    ["more images than in the others", [images(0), images(1, 4)], "as many images each"],
    [
      "images that are not finite",
      [images(0), { ...images(1), data: images(1).data.map((v, i, all) => (i < all.length / 2 ? v : Number.NaN)) }],
      "The loss is NaN at step 1",
    ],
  ];
  test.each(cases)("%s", async (_, parts, message) => {
    const distillation = await createDistillation(teacherOn(both), settings);
    const before = await distillation.adapters();
    await expect(distillation.step(parts)).rejects.toThrow(message);
    expect(distillation.steps).toBe(0);
    expect(await distillation.adapters()).toEqual(before);
    expect((await distillation.step(stepOf(0))).loss).toBeGreaterThan(0);
    await distillation.dispose();
  });
});
