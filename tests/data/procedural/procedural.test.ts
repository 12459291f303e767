// Procedural images: the parts that they are made of against mathematics, and that they are the same wherever they are made.
import { createHash } from "node:crypto";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createImageSource, openDataSet, paintedKind, proceduralImage, proceduralKinds } from "wecolora/node";
import { maskOf, segment } from "../../../src/data/procedural/canvas.ts";
import { bell, leafSize } from "../../../src/data/procedural/draws.ts";
import { cosineOfTurns, exp2, log2, power, sineOfTurns } from "../../../src/data/procedural/exact-math.ts";
import { cellField, fractalNoise, ringNoise, side } from "../../../src/data/procedural/scalar-fields.ts";
import { kindOf } from "../../../src/data/procedural/procedural-image.ts";
import { evaluationCrop } from "../../../src/data/transforms.ts";
import { randomStream } from "../../../src/utils/random.ts";

const random = (key: string) => randomStream(5, key);

describe("functions that are the same to the bit in each engine", () => {
  const points = Array.from({ length: 2001 }, (_, i) => (i - 1000) / 97);

  test("sine and cosine stay within the error of the series' first term left out", () => {
    // (pi / 2)^15 / 15! is 7e-10.
    for (const t of points) {
      expect(Math.abs(sineOfTurns(t) - Math.sin(2 * Math.PI * t))).toBeLessThan(1e-9);
      expect(Math.abs(cosineOfTurns(t) - Math.cos(2 * Math.PI * t))).toBeLessThan(1e-9);
    }
  });

  test("powers and logarithms", () => {
    for (const x of points) expect(Math.abs(exp2(x) / 2 ** x - 1)).toBeLessThan(1e-10);
    for (const x of points.filter((v) => v > 0)) expect(Math.abs(log2(x) - Math.log2(x))).toBeLessThan(1e-10);
    expect(Math.abs(power(7.3, -1.7) / 7.3 ** -1.7 - 1)).toBeLessThan(1e-9);
  });
});

describe("fields", () => {
  /** Mean power of a field's waves along x with `f` cycles, by sums over pixels. */
  function powerAt(field: Float32Array, f: number): number {
    let sum = 0;
    for (let y = 0; y < side; y++) {
      let [re, im] = [0, 0];
      for (let x = 0; x < side; x++) {
        re += field[y * side + x] * Math.cos((2 * Math.PI * f * x) / side);
        im += field[y * side + x] * Math.sin((2 * Math.PI * f * x) / side);
      }
      sum += re * re + im * im;
    }
    return sum / side;
  }

  test("noise has the spectrum that is asked for, mean 0 and deviation 1, and its two fields are independent", () => {
    const [a, b] = fractalNoise(random("noise"), { exponent: 1.5 });
    const mean = (of: (i: number) => number) => a.reduce((sum, _, i) => sum + of(i), 0) / a.length;
    // float32 rounds 65536 numbers about 1.
    expect(Math.abs(mean((i) => a[i]))).toBeLessThan(1e-4);
    expect(Math.abs(mean((i) => a[i] * a[i]) - 1)).toBeLessThan(1e-4);
    // Few waves make up most of this noise, so chance correlations are of about their root: not far below 1 / sqrt(20).
    expect(Math.abs(mean((i) => a[i] * b[i]))).toBeLessThan(0.5);
    // Along x a wave of amplitude f^-1.5 sums over all frequencies across: power f^(1 - 3). 64 over 8: 8^-2, in each of 4 seeds.
    let [low, high] = [0, 0];
    for (let seed = 0; seed < 4; seed++) {
      const [field] = fractalNoise(randomStream(seed, "slope"), { exponent: 1.5 });
      for (const step of [-1, 0, 1]) {
        low += powerAt(field, 8 + step);
        high += powerAt(field, 64 + step);
      }
    }
    // The law of an unbounded plane; the spectrum ends at 128 cycles, which takes a tenth, and chance a third at 8 cycles.
    expect(Math.log2(low / high)).toBeGreaterThan(5);
    expect(Math.log2(low / high)).toBeLessThan(7.2);
  });

  test("a ring has its frequencies alone", () => {
    const [field] = ringNoise(random("ring"), 24, { width: 0.1 });
    // Rows cut a ring's waves at all frequencies up to its outer edge, 24 + 3 * 2.4.
    expect(powerAt(field, 40)).toBeLessThan(1e-6 * powerAt(field, 20));
  });

  test("cells know their nearest points", () => {
    const { near, edge } = cellField(random("cells"), 6);
    for (const values of [near, edge]) {
      expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
      // Two cells' diagonal is the farthest that a nearest point can lie.
      expect(Math.max(...values)).toBeLessThan(2 * Math.SQRT2);
    }
  });
});

describe("outlines", () => {
  /** The area inside, by the shoelace formula. */
  const area = (outline: readonly number[]) => {
    let sum = 0;
    for (let i = 0, j = outline.length - 2; i < outline.length; j = i, i += 2)
      sum += outline[j] * outline[i + 1] - outline[i] * outline[j + 1];
    return Math.abs(sum) / 2;
  };

  test.each([
    ["a triangle", [10.3, 20.7, 90.1, 33.2, 41.5, 80.9]],
    ["a sliver", [10, 10.2, 200, 11.1, 10, 12.3]],
    ["a line with round ends", segment(50, 60, 120, 90, 8)],
  ])("%s covers its area", (_, outline) => {
    const covered = maskOf(outline)?.alpha.reduce((sum, a) => sum + a, 0) ?? 0;
    // Exact along lines, of which there are three a pixel: an edge of 100 pixels is off by a tenth of a pixel each at most.
    expect(Math.abs(covered / area(outline) - 1)).toBeLessThan(0.03);
  });

  test("what lies outside of the image is cut off", () => {
    expect(maskOf([-50, -50, -10, -50, -10, -10])).toBeUndefined();
    const whole = maskOf([-10, -10, side + 10, -10, side + 10, side + 10, -10, side + 10]);
    expect(whole?.alpha.every((a) => Math.abs(a - 1) < 1e-5)).toBe(true);
  });
});

test("sizes of leaves follow 1 / r^3", () => {
  const stream = random("leaves");
  const sizes = Array.from({ length: 4000 }, () => leafSize(stream, 4, 64));
  // P(r > 8) = (1/64 - 1/4096) / (1/16 - 1/4096); 4000 draws have a deviation of 0.007.
  const share = sizes.filter((r) => r > 8).length / sizes.length;
  expect(Math.abs(share - (1 / 64 - 1 / 4096) / (1 / 16 - 1 / 4096))).toBeLessThan(0.03);
  const bells = Array.from({ length: 4000 }, () => bell(stream));
  expect(Math.abs(bells.reduce((sum, v) => sum + v * v, 0) / 4000 - 1)).toBeLessThan(0.1);
});

describe("images", () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test.each(proceduralKinds)("%s takes no function that differs between engines, and is no blank", (kind) => {
    for (const name of ["sin", "cos", "tan", "exp", "log", "log2", "pow", "atan2", "cbrt", "hypot"] as const)
      vi.spyOn(Math, name).mockImplementation(() => {
        throw new Error(`Math.${name} was asked`);
      });
    // A few seeds, since a single image may well be of one colour.
    const spreads = [0, 1, 2].map((index) => {
      const { width, height, data } = paintedKind(kind, 1, index);
      expect([width, height, data.length]).toEqual([side, side, 3 * side * side]);
      return new Set(data).size;
    });
    expect(Math.max(...spreads)).toBeGreaterThan(2);
  });

  test("every kind has its share of a long row, and a short one has many kinds", () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 3000; i++) counts.set(kindOf(3, i), (counts.get(kindOf(3, i)) ?? 0) + 1);
    expect([...counts.keys()].sort()).toEqual([...proceduralKinds].sort());
    expect(new Set(Array.from({ length: 20 }, (_, i) => kindOf(3, i))).size).toBeGreaterThan(10);
  });

  test("a seed and a number give the same image again, others another", () => {
    const hash = (seed: number, index: number) =>
      createHash("sha256").update(proceduralImage(seed, index).data).digest("hex");
    expect(hash(0, 7)).toBe(hash(0, 7));
    expect(new Set([hash(0, 7), hash(1, 7), hash(0, 8)]).size).toBe(3);
  });

  test("version 1 has these bits on each platform: where they are to change, the version does", () => {
    const hash = createHash("sha256");
    for (const kind of proceduralKinds) hash.update(paintedKind(kind, 2, 0).data);
    expect(hash.digest("hex")).toBe("d94319910a6679380d2c431b557739d65ae1cd6f596495088cfdbc55690f232d");
  });
});

describe("as data", () => {
  test("procedural:<n> gives n images, and a view is what the transform makes of the image", async () => {
    const { train, test: test } = await openDataSet("procedural:5", { seed: 3 });
    expect(train.items.map(({ name }) => name)).toEqual(
      Array.from({ length: 5 }, (_, i) => `procedural-v1-seed3/0000${i}-${kindOf(3, i)}`),
    );
    expect([train.classes, test]).toEqual([undefined, undefined]);
    const preprocessing = {
      resize: { shortestEdge: 64 },
      cropSize: 56,
      interpolation: "bicubic",
      mean: [0.5, 0.4, 0.3],
      std: [0.2, 0.3, 0.4],
    } as const;
    const source = createImageSource("procedural:5");
    try {
      const [, second] = train.items;
      const pixels = await source.evaluationCrop(second, preprocessing);
      expect(pixels).toEqual(evaluationCrop(proceduralImage(3, 1), preprocessing));
      const { width, height, sha256 } = await source.facts(second);
      const bits = createHash("sha256").update(proceduralImage(3, 1).data).digest("hex");
      expect([width, height, sha256]).toEqual([side, side, bits]);
      expect(await source.fingerprint(second)).toBe(bits);
      expect(await source.stamp(second)).toContain('"version":1');
    } finally {
      await source.dispose();
    }
  });

  test.each(["procedural:0", "procedural:100001", "procedural:", "procedural:-3", "procedural:3x", "procedural:1e3"])(
    "%s is refused",
    async (name) => {
      await expect(openDataSet(name)).rejects.toThrow(`--data procedural:<n> takes n from 1 to 100000, got ${name}.`);
    },
  );
});
