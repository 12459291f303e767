// Tensors of a device that lie in a file between runs.
import { readdirSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterAll, describe, expect, test } from "vitest";
import * as ort from "onnxruntime-node";
import { createNodeDevice } from "wecolora/node";
import { compile } from "../../../src/engine/compile.ts";
import { add, graph, input } from "../../../src/engine/graph/build.ts";
import { openTensorFile } from "../../../src/platform/node/tensor-file.ts";
import type { Device, DeviceTensor } from "../../../src/runtime/device.ts";
import type { TensorFile } from "../../../src/runtime/device-memory.ts";
import type { OnnxRuntime } from "../../../src/runtime/onnx-api.ts";
import { createOnnxDevice } from "../../../src/runtime/onnxruntime.ts";
import { stoppable } from "../../../src/runtime/stoppable.ts";
import { required } from "../../../src/utils/required.ts";
import { noise } from "../../support/noise.ts";

const bytes = (...values: number[]) => Uint8Array.from(values);

test("a file gives back what was laid into it, and uses places again", () => {
  const file = openTensorFile();
  if (!file) throw new Error("no file could be opened");
  const [first, second] = [file.write(bytes(1, 2, 3)), file.write(bytes(4, 5, 6))];
  if (first === undefined || second === undefined) throw new Error("nothing was written");
  const read = (place: number) => {
    const into = new Uint8Array(3);
    file.read(place, into);
    return [...into];
  };
  expect([read(first), read(second)]).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  file.free(first, 3);
  expect(file.write(bytes(7, 8))).toBe(6);
  expect(file.write(bytes(7, 8, 9))).toBe(first);
  expect([read(first), read(second)]).toEqual([
    [7, 8, 9],
    [4, 5, 6],
  ]);
  expect(() => file.read(100, new Uint8Array(1))).toThrow("was truncated");
  // What nothing needs goes back to the disk.
  for (const [place, size] of [
    [first, 3],
    [second, 3],
    [6, 2],
  ])
    file.free(place, size);
  expect(() => file.read(0, new Uint8Array(1))).toThrow("was truncated");
  expect(file.write(bytes(1))).toBe(0);
  file.close();
});

/** A file in memory that counts what it holds, with room for so many bytes. */
function countedFile(room = Infinity) {
  const stored = new Map<number, Uint8Array>();
  let next = 0;
  const file: TensorFile = {
    write(given) {
      if (held() + given.byteLength > room) return undefined;
      stored.set(next, given.slice());
      return next++;
    },
    read: (place, into) => into.set(required(stored, place)),
    free: (place) => void stored.delete(place),
    close: () => stored.clear(),
  };
  const held = () => [...stored.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  return { file, held };
}

const deviceOn = (file: TensorFile): Device =>
  createOnnxDevice(ort as unknown as OnnxRuntime, { executionProviders: ["cpu"], threads: 1 }, () => file);

describe("a device", () => {
  // 400 bytes each.
  const numbers = [1, 2, 3, 4].map((seed) => noise([10, 10], seed));
  const x = input("x", "float32", [10, 10]);
  const doubled = graph([x], { y: add(x, x) });
  const devices: Device[] = [];
  afterAll(async () => {
    for (const device of devices) await device.dispose();
  });
  async function withFour(room?: number) {
    const { file, held } = countedFile(room);
    const device = deviceOn(file);
    devices.push(device);
    const tensors: DeviceTensor[] = [];
    for (const one of numbers) {
      const tensor = await device.upload(one);
      await device.allowOffload?.(tensor, 1000);
      tensors.push(tensor);
    }
    return { device, tensors, held };
  }

  test("offloads what is beyond the bytes that it may hold, and runs and downloads find it there", async () => {
    const { device, tensors, held } = await withFour();
    expect(held()).toBe(800);
    const session = await compile(doubled, device);
    for (const [i, tensor] of tensors.entries()) {
      const { tensors: made } = await session.run({ feeds: { x: tensor }, fetch: ["y"] });
      expect(made.y.data).toEqual(numbers[i].data.map((v) => 2 * v));
      expect((await device.download(tensor)).data).toEqual(numbers[i].data);
    }
    await session.dispose();
    expect(held()).toBe(800);
  });

  test("has room in memory again when others are released, and frees places of the file", async () => {
    const { device, tensors, held } = await withFour();
    await device.release([tensors[0], tensors[3]]);
    expect(held()).toBe(400);
    expect((await device.download(tensors[2], true)).data).toEqual(numbers[2].data);
    expect(held()).toBe(0);
    const again = await device.upload(numbers[0]);
    await device.allowOffload?.(again, 1000);
    expect(held()).toBe(0);
    await expect(device.download(tensors[2])).rejects.toThrow("was released");
  });

  test("keeps in memory what the disk has no room for", async () => {
    const { device, tensors, held } = await withFour(400);
    expect(held()).toBe(400);
    for (const [i, tensor] of tensors.entries()) expect((await device.download(tensor)).data).toEqual(numbers[i].data);
  });
});

/** Files of ours that this process has open, whether they have a name or not. */
const openFiles = () =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.includes(`wecolora-`) && path.includes(`-${process.pid}-`) ? [path] : [];
    } catch {
      return [];
    }
  });

test.runIf(process.platform === "linux")(
  "a stoppable worker's device lays tensors into a file without a name",
  async () => {
    const before = openFiles().length;
    const device = createNodeDevice();
    const stopping = stoppable(device, new AbortController().signal);
    const numbers = noise([100, 100], 1);
    const tensor = await stopping.upload(numbers);
    await stopping.allowOffload?.(tensor, 0);
    const [path, ...others] = openFiles().slice(before);
    expect(others).toEqual([]);
    expect(path).toMatch(/\(deleted\)$/);
    expect((await stopping.download(tensor)).data).toEqual(numbers.data);
    await device.dispose();
    expect(openFiles()).toHaveLength(before);
  },
);

test("the worker's device leaves no file", async () => {
  const ours = () =>
    readdirSync(tmpdir()).filter((name) => name.startsWith("wecolora-") && name.includes(`-${process.pid}-`));
  const before = ours();
  const device = createNodeDevice();
  const numbers = noise([100, 100], 1);
  const tensor = await device.upload(numbers);
  await device.allowOffload?.(tensor, 0);
  expect((await device.download(tensor)).data).toEqual(numbers.data);
  await device.dispose();
  expect(ours()).toEqual(before);
});
