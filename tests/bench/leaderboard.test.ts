// The leaderboard's rows are what commands take, and its intervals are Student's.
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { distillOptions } from "../../src/commands/distill-options.ts";
import { exportOf } from "../../src/exports/lookup.ts";
import { root } from "../support/reference.ts";

interface Row {
  readonly label: string;
  readonly method?: string;
  readonly options?: object | ((of: { milliseconds?: number }) => object);
  readonly export?: string;
  readonly rival?: string;
  readonly images: readonly number[];
}
// JavaScript without types, as the other benchmarks.
const part = (name: string): Promise<unknown> => import(join(root, "bench/leaderboard", name));
const { rows: all } = (await part("rows.js")) as { rows: readonly Row[] };
const { meanOf } = (await part("write.js")) as { meanOf: (values: unknown[]) => unknown };

test("labels differ", () => {
  expect(new Set(all.map(({ label }) => label)).size).toBe(all.length);
});

describe.each(all.filter(({ method }) => method !== undefined))("$label", ({ method, options }) => {
  test("is a run that distill takes, of half the weights or less, or within a budget", () => {
    const given = typeof options === "function" ? options({}) : options;
    const parsed = distillOptions({ teacher: "T", data: "D", out: "O", method, ...given });
    if (parsed.budget === undefined) expect(parsed.reductionFactor).toBeGreaterThanOrEqual(2);
    else expect(parsed.reductionFactor).toBeUndefined();
    // Rivals keep one width for all blocks; shapes by block are our own.
    if (method === "refit") expect(["balanced", "by-block"]).toContain(parsed.shape);
    else if (method !== "weight-copy") expect(parsed.shape).toBe("balanced");
  });
});

test("exports are known, and numbers of images are the leaderboard's", () => {
  for (const row of all) {
    if (row.export !== undefined) expect(exportOf(row.export as never).name).toBe(row.export);
    expect(row.images.every((count) => [0, 30, 90, 300, 593].includes(count))).toBe(true);
  }
});

test("intervals of a mean", () => {
  expect(meanOf([undefined])).toBeUndefined();
  expect(meanOf([2])).toEqual({ mean: 2 });
  // Deviation 1 of three draws: 4.303 / sqrt(3).
  const { mean, spread } = meanOf([1, 2, 3]) as { mean: number; spread: number };
  expect(mean).toBe(2);
  expect(spread).toBeCloseTo(2.4843, 3);
});
