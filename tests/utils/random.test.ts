// Streams of random numbers: named, reproducible, and wide enough for a crop of each image in each epoch.
import { expect, test } from "vitest";
import { drawStream, randomStream } from "../../src/utils/random.ts";

test("a name gives the same numbers, another name others", () => {
  const [a, b] = [randomStream(3, "view", 1, "a.jpg"), randomStream(3, "view", 1, "a.jpg")];
  const others = [
    randomStream(4, "view", 1, "a.jpg"),
    randomStream(3, "view", 2, "a.jpg"),
    randomStream(3, "view", 1, "b.jpg"),
  ];
  const first = a.uniform();
  expect(b.uniform()).toBe(first);
  for (const other of others) expect(other.uniform()).not.toBe(first);
});

test("a million crops have a million streams; 32 bits would give about a hundred equal ones", () => {
  const count = 1_000_000;
  const beginnings = (streamOf: typeof randomStream) => {
    const seen = new Set<bigint>();
    for (let i = 0; i < count; i++) {
      const stream = streamOf(0, "view", i >> 10, `img_${i & 1023}.jpg`);
      seen.add(BigInt(stream.integer(0, 2 ** 31 - 1)) * 2n ** 31n + BigInt(stream.integer(0, 2 ** 31 - 1)));
    }
    return seen.size;
  };
  // Two draws of 31 bits: streams that differ agree in both once in 2^62; of 5e11 pairs none does.
  expect(beginnings(randomStream)).toBe(count);
  // n^2 / 2^33 = 116 pairs, give or take; FNV-1a spreads names like these a little more evenly.
  expect(count - beginnings(drawStream)).toBeGreaterThan(20);
});

test("each bit of a stream's first number is one half of the time", () => {
  const count = 20_000;
  const ones = new Array<number>(31).fill(0);
  for (let i = 0; i < count; i++) {
    const drawn = randomStream(i, "bits").integer(0, 2 ** 31 - 1);
    for (let bit = 0; bit < 31; bit++) ones[bit] += (drawn >>> bit) & 1;
  }
  // Six standard deviations of a binomial.
  for (const n of ones) expect(Math.abs(n - count / 2)).toBeLessThan(6 * Math.sqrt(count) * 0.5);
});
