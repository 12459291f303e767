// Images in parts: the same outputs as one by one, with few images at once on a processor and all at once elsewhere.
import { afterAll, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { createDistillation, createNodeDevice, loadModel, Model } from "wecolora/node";
import type { Device, Feed } from "../../src/runtime/device.ts";
import { rows } from "../../src/utils/tensor.ts";
import { changed } from "../support/device.ts";
import { noise } from "../support/noise.ts";
import { expectClose, referencePath } from "../support/reference.ts";

const processor = createNodeDevice({ threads: 2 });
const { config, weights, preprocessing, origin } = await loadModel(referencePath("teachers/timm-vit"));
afterAll(() => processor.dispose());

/** A device that tells how many images its sessions' runs took. */
function counting(threads: number | undefined): { device: Device; taken: number[] } {
  const taken: number[] = [];
  const createSession: Device["createSession"] = async (...given) => {
    const session = await processor.createSession(...given);
    return {
      ...session,
      run: (request) => {
        const { pixels } = request.feeds as Record<string, Feed | undefined>;
        if (pixels) taken.push(pixels.dims[0]);
        return session.run(request);
      },
    };
  };
  return { device: changed(processor, { createSession, threads }), taken };
}

const modelOn = (device: Device) => new Model({ config, weights, preprocessing, origin }, device);
const images = noise([19, config.channels, config.imageSize, config.imageSize], 1, "parts");

/** The images' outputs are those of each by itself, to float32's rounding: products of other sizes add up in another order. */
async function expectEach(
  outputs: Readonly<Record<string, FloatTensor>>,
  of: (pixels: FloatTensor) => Promise<Record<string, FloatTensor>>,
) {
  for (let i = 0; i < images.dims[0]; i++) {
    const single = await of(rows(images, i, i + 1));
    expect(Object.keys(outputs)).toEqual(Object.keys(single));
    for (const [name, tensor] of Object.entries(single)) {
      const actual = rows(outputs[name], i, i + 1);
      expect(actual.dims).toEqual(tensor.dims);
      expectClose(actual, tensor, 1e-5, `${name} of picture ${i}`);
    }
  }
}

test("a model's outputs come in even parts of four images a thread at most", async () => {
  const { device, taken } = counting(2);
  const model = modelOn(device);
  const { hiddenStates = [], ...actual } = await model.forward(images, { hiddenStates: true });
  expect(taken).toEqual([6, 6, 7]);
  const states = (list: readonly FloatTensor[]) => Object.fromEntries(list.map((state, i) => [`hidden ${i}`, state]));
  expect(hiddenStates).toHaveLength(config.depth + 1);
  const outputs = { ...actual, ...states(hiddenStates) } as Record<string, FloatTensor>;
  await expectEach(outputs, async (pixels) => {
    const { hiddenStates: single = [], ...rest } = await model.forward(pixels, { hiddenStates: true });
    return { ...rest, ...states(single) } as Record<string, FloatTensor>;
  });
  await model.dispose();
});

test("few images go at once, and so do all where no processor's caches count", async () => {
  for (const [threads, count, expected] of [
    [2, 8, [8]],
    [2, 9, [4, 5]],
    [1, 9, [3, 3, 3]],
    [4, 17, [8, 9]],
    [undefined, 19, [19]],
  ] as const) {
    const { device, taken } = counting(threads);
    const model = modelOn(device);
    const { pooled } = await model.outputs(rows(images, 0, count), ["pooled"]);
    expect(pooled.dims).toEqual([count, config.width]);
    expect(taken).toEqual(expected);
    await model.dispose();
  }
});

test("so do a distillation's targets and its student's features", async () => {
  const { device, taken } = counting(2);
  const distillation = await createDistillation(modelOn(device), { reductionFactor: 2, rank: 4 });
  const targets = await distillation.targets(images);
  const features = await distillation.features(images);
  expect(taken).toEqual([6, 6, 7, 6, 6, 7]);
  await expectEach(targets as Record<string, FloatTensor>, async (pixels) => ({
    ...(await distillation.targets(pixels)),
  }));
  await expectEach(features, (pixels) => distillation.features(pixels));
  await distillation.dispose();
});

test("a session that gives more serves who asks for less, until it is closed", async () => {
  const { device, taken } = counting(2);
  let opened = 0;
  const createSession: Device["createSession"] = (...given) => (opened++, device.createSession(...given));
  const model = modelOn(changed(device, { createSession }));
  const few = rows(images, 0, 2);
  const wide = await model.outputs(few, ["pooled", "blockOutput"]);
  const narrow = await model.outputs(few, ["pooled"]);
  expect(opened).toBe(1);
  expect(Object.keys(narrow)).toEqual(["pooled"]);
  expect(narrow.pooled.data).toEqual(wide.pooled.data);
  // What it does not give needs one of its own, and what there is not is said each time.
  await model.outputs(few, ["lastHiddenState"]);
  expect(opened).toBe(2);
  const headless = new Model({ config: { ...config, head: undefined }, weights, preprocessing, origin }, device);
  for (let i = 0; i < 2; i++)
    await expect(headless.outputs(few, ["logits"])).rejects.toThrow("The model has no logits");
  await model.dispose();
  expectClose((await model.outputs(few, ["pooled"])).pooled, wide.pooled, 1e-5, "pooled");
  expect(opened).toBe(3);
  expect(taken).toEqual([2, 2, 2, 2]);
  await model.dispose();
});
