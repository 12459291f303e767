// More than ten thousand mutated files, of every kind that comes from outside.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { closeReaders, dataReaders, mutate, mutation, readers } from "../support/hostile.ts";

let folder: string;
let files = 0;
const kinds = new Set<string>();
/** Reads a mutated file: a value or a UserError, in bounded time and memory. */
async function read(reader: (typeof readers)[number] | (typeof dataReaders)[number], bytes: Uint8Array): Promise<void> {
  await reader.read(bytes, folder);
  files++;
  kinds.add(reader.kind);
}
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-hostile-"));
});
afterAll(async () => {
  console.log(`${files} mutated files of ${kinds.size} kinds: all were read or refused`);
  await closeReaders();
  await rm(folder, { recursive: true });
});

const runs: Readonly<Record<string, number>> = {
  safetensors: 4000,
  pth: 4000,
  "old-lists.pth": 1000,
  "old-protocol-4.pth": 1000,
  "beside-classes.pth": 1000,
  "beside-tensors.pth": 1000,
  "lightning.ckpt": 1000,
  "model.ckpt": 500,
  onnx: 1000,
  "config.json": 1200,
  png: 600,
  jpg: 600,
};

test("ten thousand in all", () => {
  expect(readers.reduce((sum, { kind }) => sum + runs[kind], 0)).toBeGreaterThan(10_000);
});

test.each(dataReaders.map((reader) => [reader.kind, reader] as const))("data sets: %s", async (_, reader) => {
  const good = reader.good();
  await fc.assert(
    fc.asyncProperty(mutation, (m) => read(reader, mutate(good, m))),
    { numRuns: 500 },
  );
});

test.each(readers.map((reader) => [reader.kind, reader] as const))("%s", async (kind, reader) => {
  const good = reader.good();
  await fc.assert(
    fc.asyncProperty(mutation, (m) => read(reader, mutate(good, m))),
    { numRuns: runs[kind] },
  );
});
