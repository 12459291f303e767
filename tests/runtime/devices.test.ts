// One suite for every device: in this thread, and in a worker.

import { afterAll, describe, expect, test } from "vitest";
import type { Device } from "wecolora/node";
import { createNodeDevice } from "wecolora/node";
import { compile } from "../../src/engine/compile.ts";
import { add, constant, graph, input, matmul, mul, transposeLast } from "../../src/engine/graph/build.ts";
import { decodeOnnx } from "../../src/models/onnx-import/onnx-graph.ts";
import type { ModelSource } from "../../src/runtime/device.ts";
import { float32 } from "../../src/utils/tensor.ts";
import { wecolora } from "../support/cli.ts";
import { inlineDevice } from "../support/device.ts";
import { noise } from "../support/noise.ts";
import { referencePath } from "../support/reference.ts";

test("devices that are not there say what they need", async () => {
  // No macOS and no Windows, or no GPU: on any machine at least one of these is missing.
  const missing = [
    process.platform === "darwin" ? undefined : ["coreml", "it needs macOS"],
    process.platform === "win32" ? undefined : ["dml", "it needs Windows"],
  ].filter((pair) => pair !== undefined);
  for (const [device, reason] of missing) {
    const { code, err } = await wecolora(
      "evaluate",
      "--device",
      device,
      "--model",
      referencePath("teachers/timm-vit"),
      "--data",
      referencePath("images"),
    );
    expect(err).toContain(`The device ${device} can't be used here: ${reason}`);
    expect(code).toBe(2);
  }
});

test("graphs keep to ONNX's operators where a device has no kernels for ONNX Runtime's own", async () => {
  const x = input("x", "float32", [2, 4]);
  const weights = constant(noise([3, 4], 1, "weights"));
  const written = async (operators: Device["operators"]) => {
    const domains: string[] = [];
    const listening = {
      operators,
      async createSession({ model }: ModelSource) {
        domains.push(...(decodeOnnx(model, "the graph").graph?.node ?? []).map(({ domain }) => domain));
        throw new Error("seen");
      },
    } as unknown as Device;
    await expect(compile(graph([x], { y: matmul(x, transposeLast(weights)) }), listening)).rejects.toThrow("seen");
    return domains;
  };
  expect(await written("portable")).toEqual([""]);
  expect(await written("onnxruntime")).toEqual(["com.microsoft"]);
  expect(await written(undefined)).toEqual(["com.microsoft"]);
  for (const [name, operators] of [
    ["cpu", "onnxruntime"],
    ["cuda", "onnxruntime"],
    ["webgpu", "portable"],
  ] as const) {
    const device = createNodeDevice({ device: name });
    expect(device.operators).toBe(operators);
    await device.dispose();
  }
});

const devices: [string, () => Device][] = [
  ["in this thread", inlineDevice],
  ["in a worker", () => createNodeDevice({ threads: 1 })],
];

describe.each(devices)("%s", (_, create) => {
  const device = create();
  afterAll(() => device.dispose());
  const x = input("x", "float32", [3]);
  const s = input("s", "float32", [3]);

  test("fetched outputs come back, kept ones stay and can be fed again", async () => {
    const session = await compile(graph([x, s], { sum: add(x, s), twice: mul(x, 2) }), device);
    let state = await device.upload(float32([0, 0, 0], [3]));
    for (let i = 1; i <= 5; i++) {
      const { tensors, kept } = await session.run({
        feeds: { x: float32([i, 1, 0], [3]), s: state },
        fetch: ["twice"],
        keep: ["sum"],
      });
      expect(Array.from(tensors.twice.data as Float32Array)).toEqual([2 * i, 2, 0]);
      await device.release([state]);
      state = kept.sum;
    }
    expect(Array.from((await device.download(state)).data as Float32Array)).toEqual([15, 5, 0]);
    await session.dispose();
  });

  test("what was downloaded does not change with later runs", async () => {
    const session = await compile(graph([s], { next: add(s, 1) }), device);
    const first = await device.upload(float32([1, 2, 3], [3]));
    const { kept } = await session.run({ feeds: { s: first }, keep: ["next"] });
    const seen = await device.download(kept.next);
    await device.release([first, kept.next]);
    const again = await device.upload(float32([7, 7, 7], [3]));
    await session.run({ feeds: { s: again }, keep: ["next"] });
    expect(Array.from(seen.data as Float32Array)).toEqual([2, 3, 4]);
    await session.dispose();
  });

  test("what was uploaded does not change with the caller's memory", async () => {
    const session = await compile(graph([s], { next: add(s, 0.5) }), device);
    const mine = float32([1, 2, 3], [3]);
    const uploaded = await device.upload(mine);
    mine.data.fill(9);
    const { tensors } = await session.run({ feeds: { s: uploaded }, fetch: ["next"] });
    expect(Array.from(tensors.next.data as Float32Array)).toEqual([1.5, 2.5, 3.5]);
    await session.dispose();
  });

  test("views are fed and uploaded as what they show, and stay their owner's", async () => {
    const session = await compile(graph([x, s], { sum: add(x, s) }), device);
    const all = float32([9, 1, 2, 3, 4, 5, 6, 9], [8]);
    const view = (from: number) => float32(all.data.subarray(from, from + 3), [3]);
    const uploaded = [await device.upload(view(4)), await device.upload(view(4), true)];
    for (const second of uploaded) {
      const { tensors } = await session.run({ feeds: { x: view(1), s: second }, fetch: ["sum"] });
      expect(Array.from(tensors.sum.data as Float32Array)).toEqual([5, 7, 9]);
    }
    expect(Array.from(all.data)).toEqual([9, 1, 2, 3, 4, 5, 6, 9]);
    await session.dispose();
  });

  test("errors keep their kind", async () => {
    const session = await compile(graph([x], { y: mul(x, 2) }), device);
    await expect(session.run({ feeds: { x: float32([1, 2], [2]) }, fetch: ["y"] })).rejects.toMatchObject({
      name: "RunError",
    });
    await session.dispose();
  });

  test("a released tensor can't be used", async () => {
    const uploaded = await device.upload(float32([1], [1]));
    await device.release([uploaded]);
    await expect(device.download(uploaded)).rejects.toThrow("was released");
  });
});

test("calls of one turn travel together, and each gets its own answer", async () => {
  const device = createNodeDevice({ threads: 1 });
  const tensors = Array.from({ length: 100 }, (_, i) => float32([i, i + 0.5], [2]));
  const uploaded = await Promise.all(tensors.map((tensor) => device.upload(tensor, true)));
  // The device has their memory now.
  expect(tensors[7].data).toHaveLength(0);
  const [first, ...rest] = await Promise.all(uploaded.map((one, i) => device.download(one, i > 0)));
  expect([first, ...rest].map(({ data }) => Array.from(data as Float32Array))).toEqual(
    uploaded.map((_, i) => [i, i + 0.5]),
  );
  await device.release([uploaded[0]]);
  const again = await Promise.allSettled(uploaded.map((one) => device.download(one)));
  expect(again.every(({ status }) => status === "rejected")).toBe(true);
  // What can't travel is said to all that would have travelled with it, and to nobody after them.
  const sent = [device.upload({ ...first, dims: [(() => 0) as never] }), device.upload(float32([1], [1]))];
  for (const outcome of await Promise.allSettled(sent)) expect(outcome.status).toBe("rejected");
  expect((await device.download(await device.upload(float32([3], [1])))).data).toEqual(Float32Array.of(3));
  await device.dispose();
});

test("the event loop stays alive while a session runs in a worker", async () => {
  const device = createNodeDevice();
  const big = input("x", "float32", [2_000_000]);
  let y = add(big, 1);
  for (let i = 0; i < 60; i++) y = mul(y, add(y, 0.5));
  const session = await compile(graph([big], { y: mul(y, 0) }), device);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  await session.run({ feeds: { x: float32(new Float32Array(2_000_000), [2_000_000]) }, fetch: ["y"] });
  clearInterval(timer);
  expect(ticks).toBeGreaterThan(3);
  await device.dispose();
});

test("a device that was disposed of refuses work", async () => {
  const device = createNodeDevice();
  await device.dispose();
  await expect(device.upload(float32([1], [1]))).rejects.toThrow("ended");
});
