// Loops over tensors' elements, and an optimizer's update by them: beside arithmetic that JavaScript does, and beside ONNX Runtime's.
import { afterAll, describe, expect, test, vi } from "vitest";
import { createNodeDevice } from "wecolora/node";
import { compileLoop } from "../../../src/engine/compile.ts";
import { OptimizerState } from "../../../src/students/training/optimizer-state.ts";
import { distillationSchema } from "../../../src/students/distillation-options.ts";
import { add, constant, div, graph, input, mul, reduceSum, sqrt, sub } from "../../../src/engine/graph/build.ts";
import { uploadAll } from "../../../src/runtime/device-tensors.ts";
import type { Device, Loop } from "../../../src/runtime/device.ts";
import type { FloatTensor } from "../../../src/utils/tensor.ts";
import { float32 } from "../../../src/utils/tensor.ts";
import { writeLoop } from "../../../src/engine/wasm/write-loop.ts";
import { changed, inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { relativeError } from "../../support/reference.ts";

const devices: [string, Device][] = [
  ["in this thread", inlineDevice()],
  ["in a worker", createNodeDevice({ threads: 1 })],
];
afterAll(() => Promise.all(devices.map(([, device]) => device.dispose())));

const round = Math.fround;
const [x, y, s] = [input("x", "float32", [1]), input("y", "float32", [1]), input("s", "float32", [])];

describe.each(devices)("%s", (_, device) => {
  // Around the numbers that one instruction takes, and those of a strip.
  test.each([1, 3, 4, 5, 4095, 4096, 4097, 10_000])("%d numbers are changed as float32 has it", async (count) => {
    // A scalar of scalars, a constant twice, and what is read again after it was changed.
    const scale = add(mul(s, 2), 0.25);
    const next = div(sub(mul(x, scale), y), add(sqrt(mul(y, y)), 0.25));
    const loop = await compileLoop(graph([x, s, y], { x: next }), device);
    const [a, b] = [noise([count], 1, "loops"), noise([count], 2, "loops")];
    const tensors = { x: await device.upload(a), y: await device.upload(b) };
    const expected = Float32Array.from(a.data);
    for (const scalar of [0.3, -1.7]) {
      await loop.run([{ scalars: { s: scalar }, tensors }]);
      const by = round(round(round(scalar) * 2) + 0.25);
      expected.forEach((v, i) => {
        const under = round(round(Math.sqrt(round(b.data[i] * b.data[i]))) + 0.25);
        expected[i] = round(round(round(v * by) - b.data[i]) / under);
      });
    }
    expect((await device.download(tensors.x)).data).toEqual(expected);
    expect((await device.download(tensors.y)).data).toEqual(b.data);
    await device.release(Object.values(tensors));
  });

  test("several calls go over tensors of their own", async () => {
    const loop = await compileLoop(graph([x, y, s], { x: add(x, mul(y, s)), y: x }), device);
    const uploaded = [];
    for (const from of [1, 10]) uploaded.push(await device.upload(float32([from, from + 1, from + 2], [3])));
    const [a, b] = uploaded;
    await loop.run([
      { scalars: { s: 2 }, tensors: { x: a, y: b } },
      { scalars: { s: -1 }, tensors: { x: b, y: a } },
    ]);
    // (1, 10) becomes (21, 1), and then (1, 21) becomes (-20, 1).
    expect([...(await device.download(a)).data]).toEqual([1, 2, 3]);
    expect([...(await device.download(b)).data]).toEqual([-20, -22, -24]);
    await device.release(uploaded);
  });

  test("tensors of several sizes are refused, and released ones", async () => {
    const loop = await compileLoop(graph([x, y], { x: add(x, y) }), device);
    const uploaded = { x: await device.upload(float32([1, 2], [2])), y: await device.upload(float32([1], [1])) };
    await expect(loop.run([{ scalars: {}, tensors: uploaded }])).rejects.toThrow("of one size");
    await device.release([uploaded.y]);
    await expect(loop.run([{ scalars: {}, tensors: uploaded }])).rejects.toThrow("was released");
    await device.release([uploaded.x]);
  });

  test("a loop that was disposed of can't be run", async () => {
    const loop = await compileLoop(graph([x], { x: add(x, x) }), device);
    const uploaded = await device.upload(float32([1, 2], [2]));
    await loop.run([{ scalars: {}, tensors: { x: uploaded } }]);
    await loop.dispose();
    await expect(loop.run([{ scalars: {}, tensors: { x: uploaded } }])).rejects.toThrow("this loop was disposed of");
    expect([...(await device.download(uploaded)).data]).toEqual([2, 4]);
    await device.release([uploaded]);
  });
});

test("what is not taken element by element is no loop", () => {
  expect(() => writeLoop(graph([x], { x: reduceSum(x) }))).toThrow("ReduceSum is not taken element by element");
  expect(() => writeLoop(graph([x, y], { z: add(x, y) }))).toThrow("z takes no input's place");
  const several = constant(float32([1, 2], [2]));
  expect(() => writeLoop(graph([x], { x: add(x, several) }))).toThrow("constants are single numbers");
});

const optimizers: [string, object][] = [
  ["as it is by itself", {}],
  ["gradients clipped", { clipNorm: 0.5 }],
  ["no decay, other betas, blocks at rates of their own", { weightDecay: 0, betas: [0.8, 0.95], layerDecay: 0.7 }],
];

describe.each(optimizers)("an update in place, %s", (_, more) => {
  const { optimizer } = distillationSchema.parse({ optimizer: { kind: "adamw", ...more } });
  const shapes = new Map([
    ["blocks.0.q.lora_A", [4, 70]],
    ["blocks.0.q.lora_B", [70, 4]],
    ["blocks.1.q.lora_A", [4, 70]],
    ["blocks.1.q.lora_B", [70, 4]],
    ["blocks.1.norm", [70]],
    ["scale", []],
  ]);
  const tensors = (key: string) =>
    new Map([...shapes].map(([name, dims]) => [name, noise(dims, 0, key, name)] as const));

  /** What three updates leave, by gradients that come from one device or from two. */
  async function updated(places: readonly Device[]): Promise<Map<string, FloatTensor>> {
    const state = await OptimizerState.create(places[0], tensors("start"), optimizer, 2, false);
    await state.on(places);
    for (let t = 1; t <= 3; t++) {
      const gradients = [];
      for (const [i, device] of places.entries())
        gradients.push(await uploadAll(device, tensors(places.length > 1 ? `gradients ${t} ${i}` : `gradients ${t}`)));
      await state.update(gradients, t, 0.01);
      expect(gradients.map((uploaded) => uploaded.size)).toEqual(places.map(() => 0));
    }
    const saved = await state.save();
    await state.dispose();
    return saved;
  }

  test("opens a loop for matrices and one for the rest, once, and closes them with the state", async () => {
    const [[, device]] = devices;
    const [opened, closed] = [vi.fn(), vi.fn()];
    const createLoop: Device["createLoop"] = async (source) => {
      opened();
      const loop = (await device.createLoop?.(source)) as Loop;
      return { ...loop, dispose: () => (closed(), loop.dispose()) };
    };
    await updated([changed(device, { createLoop })]);
    expect(opened).toHaveBeenCalledTimes(2);
    expect(closed).toHaveBeenCalledTimes(2);
  });

  test.each([1, 2])("is the one that ONNX Runtime makes, at %d places", async (count) => {
    const places = devices.slice(0, count).map(([, device]) => device);
    const without = places.map((device) => changed(device, { createLoop: undefined }));
    const [actual, expected] = [await updated(places), await updated(without)];
    expect([...actual.keys()]).toEqual([...expected.keys()]);
    // The same operations in the same order; ONNX Runtime's square roots may differ by their last bit.
    for (const [name, { data }] of expected)
      expect(relativeError(actual.get(name)?.data as Float32Array, data as Float32Array), name).toBeLessThan(1e-6);
    const start = tensors("start");
    for (const [name, { data }] of start)
      expect(relativeError(actual.get(name)?.data as Float32Array, data as Float32Array), name).toBeGreaterThan(1e-4);
  });
});
