// Graphs on WebGPU, with what stays in its memory: the same numbers as on the CPU.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distillArguments, noiseImage, script } from "../support/cli.ts";
import { referencePath, relativeError, root } from "../support/reference.ts";
import { hasSwiftShader, withSwiftShader } from "../support/webgpu.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-webgpu-"));
  for (let i = 0; i < 12; i++) await noiseImage(join(folder, "data", `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

describe.runIf(hasSwiftShader)("on WebGPU", () => {
  test("steps, features and a start in closed form are those of the CPU", async () => {
    const work = join(root, "tests/support/on-device.mjs");
    const outcomes = await Promise.all(["cpu", "webgpu"].map((device) => withSwiftShader(work, device, teacher)));
    for (const { code, err } of outcomes) expect(code, err).toBe(0);
    interface Found {
      losses: number[];
      gradients: number[][];
      trained: number[];
      started: number[];
    }
    const [cpu, gpu] = outcomes.map(({ out }) => JSON.parse(out) as Found);
    // Float32 sums in another order; the loss's gradient is made of signs, one of which may turn.
    expect(relativeError(Float64Array.from(gpu.losses), Float64Array.from(cpu.losses))).toBeLessThan(1e-5);
    expect(gpu.gradients).toHaveLength(cpu.gradients.length);
    const flat = ({ gradients }: Found) => Float64Array.from(gradients.flat());
    expect(relativeError(flat(gpu), flat(cpu))).toBeLessThan(1e-2);
    expect(relativeError(Float64Array.from(gpu.trained), Float64Array.from(cpu.trained))).toBeLessThan(1e-3);
    expect(relativeError(Float64Array.from(gpu.started), Float64Array.from(cpu.started))).toBeLessThan(1e-3);
  });

  test("the command line distils there", async () => {
    const settings = [
      ...["--method", "wecolora", "--start", "weight-copy", "--rank", "2"],
      ...["--effective-batch", "6", "--epochs", "3", "--json"],
    ];
    const outcomes = await Promise.all(
      ["cpu", "webgpu"].map((device) => {
        const args = distillArguments(teacher, join(folder, "data"), join(folder, device));
        return withSwiftShader(script, ...args, ...settings, "--device", device);
      }),
    );
    const results = outcomes.map(({ code, out, err }) => {
      expect(code, err).toBe(0);
      return JSON.parse(out.trim().split("\n").at(-1) as string).results.at(-1).fidelity
        .meanAbsoluteDifference as number;
    });
    expect(Math.abs(results[1] / results[0] - 1)).toBeLessThan(1e-3);
  });
});
