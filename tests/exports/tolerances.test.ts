// How far exports may be from their model: merging tokens widens each bound, and leaves something to check.
import { describe, expect, test } from "vitest";
import { mergingTolerance } from "../../src/exports/export-format.ts";
import { allExports } from "../../src/exports/lookup.ts";

const tolerances = allExports().flatMap(({ name, tolerance, toleranceWith }) => [
  { name, tolerance },
  ...([2, 3, 4] as const).flatMap((bits) => {
    const own = toleranceWith?.({ bits } as never);
    return own ? [{ name: `${name} of ${bits} bits`, tolerance: own }] : [];
  }),
]);

describe.each(tolerances)("$name", ({ tolerance }) => {
  test("with merged tokens", () => {
    const merged = mergingTolerance(tolerance);
    expect(merged.cosine).toBeLessThan(tolerance.cosine);
    expect(merged.relativeDifference).toBeGreaterThan(tolerance.relativeDifference);
    // Rounding to 2 bits without images leaves a cosine of 0.16, which is nothing (dev/bits.md).
    expect(merged.cosine).toBeGreaterThan(0.19);
    expect(merged.cosine).toBeLessThanOrEqual(0.99);
    expect(merged.reason).toContain(tolerance.reason);
  });
});
