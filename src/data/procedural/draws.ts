// Draws that images are made of. A stream's own `normal` takes Math.log and Math.cos, so it is not used here.
import type { RandomStream } from "../../utils/random.ts";
import { power } from "./exact-math.ts";

/** Numbers between two, evenly. */
export const between = (random: RandomStream, low: number, high: number): number =>
  low + (high - low) * random.uniform();

/** Numbers between two, evenly over their logarithms. */
export const scaled = (random: RandomStream, low: number, high: number): number =>
  low * power(high / low, random.uniform());

export const chance = (random: RandomStream, share: number): boolean => random.uniform() < share;

export const pick = <T>(random: RandomStream, from: readonly T[]): T => from[random.integer(0, from.length - 1)];

/** Nearly normal, with mean 0 and deviation 1: the sum of twelve even draws (Irwin and Hall). */
export function bell(random: RandomStream): number {
  let sum = -6;
  for (let i = 0; i < 12; i++) sum += random.uniform();
  return sum;
}

/** Sizes with the density 1 / r^3 between two, which makes dead leaves scale invariant (Lee, Mumford and Huang 2001). */
export function leafSize(random: RandomStream, least: number, most: number): number {
  const [a, b] = [1 / (least * least), 1 / (most * most)];
  return 1 / Math.sqrt(a + (b - a) * random.uniform());
}

/** Many even numbers, quickly (mulberry32), begun by a draw of the stream. */
export function evenNumbers(random: RandomStream): () => number {
  let state = random.integer(-0x80000000, 0x7fffffff);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
