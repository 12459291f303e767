// Devices over onnxruntime-web, on Node: tried against float64, one call at a time, and stopped by a message between two runs.
import * as runtime from "onnxruntime-web";
import { expect, test } from "vitest";
import { compile } from "../../../src/engine/compile.ts";
import { constant, graph, input, matmul } from "../../../src/engine/graph/build.ts";
import { hasFloat64, createWebDevice, openWebDevice, tryWebDevice } from "../../../src/platform/web/web-device.ts";
import { checkMemory, memoryNeeded, mostWasmBytes } from "../../../src/platform/web/memory.ts";
import { plainVit } from "../../../src/models/config.ts";
import { stoppable } from "../../../src/runtime/stoppable.ts";
import { float32 } from "../../../src/utils/tensor.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { changed } from "../../support/device.ts";

const side = 64;
const filled = (value: number) => float32(new Float32Array(side * side).fill(value), [side, side]);
const times = (value: number) => {
  const x = input("x", "float32", [1, side]);
  return graph([x], { y: matmul(x, constant(filled(value))) });
};
const ones = float32(new Float32Array(side).fill(1), [1, side]);

test("WASM gives float64's numbers, and has float64", async () => {
  const device = createWebDevice(runtime, { threads: 1 });
  await tryWebDevice(device);
  expect(await hasFloat64(device)).toBe(true);
  expect(device).toMatchObject({ name: "cpu", threads: 1 });
  await device.dispose();
});

test("a device whose numbers are off is refused", async () => {
  const device = createWebDevice(runtime, { threads: 1 });
  const wrong = changed(device, {
    async createSession(source, options) {
      const session = await device.createSession(source, options);
      return {
        ...session,
        async run(request) {
          const result = await session.run(request);
          const data = (result.tensors.y.data as Float32Array).map((value) => 1.001 * value);
          return { ...result, tensors: { y: { ...result.tensors.y, data } } };
        },
      };
    },
  } satisfies Partial<Device>);
  await expect(tryWebDevice(wrong)).rejects.toThrow(/its numbers are off by 1\.0e-3/);
  await device.dispose();
});

test("sessions that are made at once keep their own weights", async () => {
  const device = createWebDevice(runtime, { threads: 1 });
  const sessions = await Promise.all([1, 2, 3, 4, 5, 6].map((value) => compile(times(value), device)));
  const results = await Promise.all(sessions.map((session) => session.run({ feeds: { x: ones }, fetch: ["y"] })));
  expect(results.map(({ tensors }) => tensors.y.data[0])).toEqual([1, 2, 3, 4, 5, 6].map((value) => value * side));
  await device.dispose();
});

test("without WebGPU, auto takes WASM and says why; WebGPU alone is refused", async () => {
  const warnings: string[] = [];
  const settings = { threads: 1, warn: (message: string) => warnings.push(message) };
  const device = await openWebDevice(runtime, "auto", settings);
  expect(device.name).toBe("cpu");
  expect(warnings).toEqual([expect.stringMatching(/^WebGPU is not used: .* The run uses WASM with 1 threads?\.$/)]);
  await expect(openWebDevice(runtime, "webgpu", settings)).rejects.toMatchObject({ code: "DEVICE_NOT_AVAILABLE" });
  await device.dispose();
});

test("a message between two runs is read: runs stop", async () => {
  const controller = new AbortController();
  const device = stoppable(createWebDevice(runtime, { threads: 1 }), controller.signal);
  const session = await compile(times(1), device);
  // A message, as a page sends one; nothing but messages and promises runs meanwhile.
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => controller.abort();
  port2.postMessage("stop");
  const runs = async () => {
    for (;;) await session.run({ feeds: { x: ones }, fetch: ["y"] });
  };
  await expect(runs()).rejects.toMatchObject({ name: "AbortError" });
  port1.close();
});

test("memory: ViT-B fits a browser, ViT-L does not", () => {
  const vit = (width: number, depth: number, parameters: number) => ({
    config: {
      ...plainVit,
      ...{ width, depth, heads: width / 64, mlpWidth: 4 * width },
      ...{ imageSize: 224, patchSize: 16, channels: 3, normEpsilon: 1e-6 },
    },
    parameters,
  });
  const base = memoryNeeded(vit(768, 12, 86e6), 100);
  expect(base.wasm).toBeLessThan(mostWasmBytes);
  expect(base.wasm + base.script).toBeLessThan(4e9);
  expect(() => checkMemory(vit(768, 12, 86e6), "base")).not.toThrow();
  expect(() => checkMemory(vit(1024, 24, 304e6), "large")).toThrow(/^large has 304 million parameters.*GB of WASM/);
});
