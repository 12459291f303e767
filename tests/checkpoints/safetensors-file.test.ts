// The safetensors reader: round trips, and files that lie.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readSafetensors, writeSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import type { FileHandle } from "../../src/files/storage.ts";
import { UserError } from "../../src/utils/errors.ts";
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from "../../src/utils/half.ts";
import type { Tensor } from "../../src/utils/tensor.ts";

function memoryFile(bytes: Uint8Array, onRead?: (length: number) => void): FileHandle {
  return {
    name: "test.safetensors",
    size: bytes.byteLength,
    async readInto(offset, target) {
      onRead?.(target.byteLength);
      if (offset + target.byteLength > bytes.byteLength) throw new UserError("test.safetensors ends too early");
      target.set(bytes.subarray(offset, offset + target.byteLength));
    },
    async close() {},
  };
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(chunks));
}

const tensors = new Map<string, Tensor>([
  ["bytes", { type: "uint8", dims: [3], data: Uint8Array.from([1, 2, 3]) }],
  ["weight", { type: "float32", dims: [2, 2], data: Float32Array.from([1, -2, 3.5, 4]) }],
  ["half", { type: "float16", dims: [3], data: floatToHalf(Float32Array.from([1, 0.5, -2])) }],
  ["empty", { type: "float32", dims: [0, 4], data: new Float32Array() }],
  ["long", { type: "int64", dims: [1], data: BigInt64Array.from([5n]) }],
]);

test("what is written is read back", async () => {
  const bytes = joined(writeSafetensors(tensors, { note: "ü" }));
  const read = await readSafetensors(memoryFile(bytes));
  expect(read.metadata).toEqual({ note: "ü" });
  expect(new Map([...read.tensors].sort())).toEqual(new Map([...tensors].sort()));
});

function file(header: unknown, data = new Uint8Array(16)): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return joined([length, json, data]);
}

const entry = (change: object = {}) => ({ a: { dtype: "F32", shape: [2, 2], data_offsets: [0, 16], ...change } });

const million = 1_000_000;
const deepShape = `{"a":{"dtype":"F32","shape":${"[".repeat(million)}${"]".repeat(million)},"data_offsets":[0,16]}}`;

test("messages stay short, whatever a file's names are", async () => {
  const endless = "x".repeat(20 * million);
  for (const header of [
    { [endless]: { dtype: "F32", shape: [3, 2], data_offsets: [0, 16] } },
    { [endless]: { dtype: endless, shape: [4], data_offsets: [0, 16] } },
    { [endless]: endless },
    { a: { dtype: "F32", shape: Array.from({ length: million }, () => 1), data_offsets: [0, 16] } },
    { a: { dtype: "F32", shape: [4], data_offsets: Array.from({ length: million }, () => 1) } },
    { a: { dtype: { [endless]: endless }, shape: [4], data_offsets: [0, 16] } },
  ]) {
    const error = await readSafetensors(memoryFile(file(header))).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message.length).toBeLessThan(600);
  }
});

describe("refuses, and says why", () => {
  const huge = new Uint8Array(16);
  new DataView(huge.buffer).setBigUint64(0, 2n ** 62n, true);
  test.each<[string, Uint8Array, string]>([
    ["an empty file", new Uint8Array(), "it holds 0 bytes"],
    ["a header longer than the file", huge, "its header claims"],
    ["a cut header", file(entry()).subarray(0, 20), "is it cut off?"],
    ["cut data", file(entry()).subarray(0, -4), "is it cut off?"],
    ["not JSON", file("not json"), "its header is not JSON"],
    ["a list", file([1]), "not a JSON object"],
    ["a type of another size", file(entry({ dtype: "F8_E4M3" })), "a takes 4 bytes as F8_E4M3 [2, 2]"],
    ["a type that nothing computes with", file(entry({ dtype: "F8_E4M3", shape: [4, 4] })), "a holds F8_E4M3"],
    ["a type that is no text", file(entry({ dtype: ["F32"] })), 'a has the type ["F32"]'],
    ["a name that every object has as type", file(entry({ dtype: "constructor" })), "a holds constructor"],
    ["a shape of a million lists", file(deepShape), "a has the shape [[[[[...]]]]]"],
    ["a negative dimension", file(entry({ shape: [-2, -2] })), "a has the shape [-2,-2]"],
    ["a huge shape", file(entry({ shape: [2 ** 40, 2 ** 40] })), "but its offsets say 16"],
    ["a shape of another size", file(entry({ shape: [3, 2] })), "a takes 24 bytes"],
    ["offsets beyond the data", file(entry({ shape: [8, 2], data_offsets: [0, 64] })), "the data is 16 bytes long"],
    ["offsets turned round", file(entry({ data_offsets: [16, 0] })), "a has the offsets 16 to 0"],
    ["offsets that are no numbers", file(entry({ data_offsets: ["0", 16] })), "a has the offsets"],
    ["overlaps", file({ ...entry(), b: { dtype: "F32", shape: [1], data_offsets: [8, 12] } }), "where 16 was expected"],
    ["holes", file({ a: { dtype: "F32", shape: [2], data_offsets: [8, 16] } }), "where 0 was expected"],
    [
      "bytes that belong to nothing",
      file({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8] } }),
      "8 bytes at the end",
    ],
  ])("%s", async (_, bytes, message) => {
    const reading = readSafetensors(memoryFile(bytes));
    await expect(reading).rejects.toThrow(UserError);
    await expect(reading).rejects.toThrow(message);
    await expect(reading).rejects.toThrow("test.safetensors");
  });

  test("any mutation is read or refused, and never asks for more memory than the file has", async () => {
    const good = joined(writeSafetensors(tensors));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
        fc.nat(good.length),
        async (changes, length) => {
          const bytes = good.slice();
          for (const [at, value] of changes) bytes[at] = value;
          const cut = bytes.subarray(0, length);
          try {
            await readSafetensors(memoryFile(cut, (asked) => expect(asked).toBeLessThanOrEqual(cut.byteLength)));
          } catch (error) {
            expect(error).toBeInstanceOf(UserError);
          }
        },
      ),
      { numRuns: 400, seed: 1 },
    );
  });
});

describe("half precision", () => {
  test("all 65,536 patterns survive the way to float32 and back", () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const floats = halfToFloat(all);
    const back = floatToHalf(floats);
    for (let i = 0; i < all.length; i++) {
      if (Number.isNaN(floats[i])) expect((back[i] & 0x7c00) === 0x7c00 && (back[i] & 0x3ff) !== 0).toBe(true);
      else expect(back[i]).toBe(all[i]);
    }
  });

  test("rounds to the nearest, ties to even, and overflows to infinity", () => {
    const [ulp, smallest] = [2 ** -10, 2 ** -24];
    const cases: [number, number][] = [
      [1 + ulp / 2, 1],
      [1 + 1.5 * ulp, 1 + 2 * ulp],
      [1 + 0.51 * ulp, 1 + ulp],
      [smallest / 2, 0],
      [smallest * 1.5, smallest * 2],
      [-smallest * 0.51, -smallest],
      [65519, 65504],
      [65520, Number.POSITIVE_INFINITY],
      [1e-30, 0],
    ];
    for (const [value, expected] of cases) {
      expect(halfToFloat(floatToHalf(Float32Array.from([value])))[0]).toBe(expected === 0 ? 0 : expected);
    }
  });

  test("bfloat16 keeps the upper half of the bits, rounded", () => {
    const floats = Float32Array.from([1, -2.5, 1 + 2 ** -8, 1 + 3 * 2 ** -8, Number.NaN, 3e38]);
    const back = bfloatToFloat(floatToBfloat(floats));
    expect(Array.from(back.subarray(0, 4))).toEqual([1, -2.5, 1, 1 + 2 ** -6]);
    expect(back[4]).toBeNaN();
    expect(Math.abs(back[5] / 3e38 - 1)).toBeLessThan(2 ** -8);
  });
});
