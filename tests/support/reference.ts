// Reading reference files, and comparing with them relative to their scale.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { nodeDirectory } from "wecolora/node";
import { readSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import { toFloat32 } from "../../src/utils/half.ts";
import type { FloatTensor, Tensor } from "../../src/utils/tensor.ts";

export const root: string = fileURLToPath(new URL("../../", import.meta.url));

export function referencePath(name: string): string {
  return fileURLToPath(new URL(`../reference/${name}`, import.meta.url));
}

export async function readTensors(path: string): Promise<Map<string, Tensor>> {
  const file = await nodeDirectory("/").open(path);
  if (!file) throw new Error(`no ${path}`);
  const { tensors } = await readSafetensors(file);
  await file.close();
  return tensors;
}

export async function readReference(name: string): Promise<Map<string, FloatTensor>> {
  const tensors = await readTensors(referencePath(name));
  return new Map([...tensors].filter(([, t]) => t.type.startsWith("float")).map(([key, t]) => [key, toFloat32(t)]));
}

export function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(referencePath(name), "utf8")) as T;
}

/** Largest absolute difference over the largest absolute expected value. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} numbers, expected ${expected.length}`);
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(actual[i] - expected[i]);
    if (!(d <= difference)) difference = d;
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return scale === 0 ? difference : difference / scale;
}

export function expectClose(
  actual: Tensor | undefined,
  expected: Tensor | undefined,
  tolerance: number,
  what: string,
): void {
  if (!actual || !expected) throw new Error(`${what}: ${actual ? "expected" : "actual"} tensor is missing`);
  expect([what, ...actual.dims]).toEqual([what, ...expected.dims]);
  const error = relativeError(actual.data as Float32Array, expected.data as Float32Array);
  expect(error, `${what}: relative error`).toBeLessThanOrEqual(tolerance);
}
