// Seeded random numbers. A stream is named by its seed and keys (epoch, image, purpose), so that what is
// drawn does not depend on the order of the work or on the number of workers.
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus, xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";

export interface RandomStream {
  /** A number in [0, 1). */
  uniform(): number;
  /** A number from the standard normal distribution (Box and Muller). */
  normal(): number;
  /** An integer in [low, high], both included. */
  integer(low: number, high: number): number;
  /** A new array with the items in random order (Fisher and Yates). */
  shuffle<T>(items: readonly T[]): T[];
}

/** 32-bit FNV-1a over the UTF-16 units of a string. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h | 0;
}

/** The finalizer of MurmurHash3: each bit of the input changes half of the output's. */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** 64 bits of a string, in two lanes that are mixed with each other at the end. */
function wideHash(text: string): readonly [number, number] {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x9e3779b1);
    a = (a << 13) | (a >>> 19);
    b = Math.imul(b ^ unit, 0x5f356495);
    b = (b << 17) | (b >>> 15);
  }
  return [mix(a ^ mix(b)), mix(b ^ mix(a ^ 0x2545f491))];
}

/** The stream named by `seed` and `keys`, 64 bits wide: the same name gives the same numbers everywhere. */
export function randomStream(seed: number, ...keys: (string | number)[]): RandomStream {
  const [a, b] = wideHash(JSON.stringify([seed, ...keys]));
  return streamOf(xoroshiro128plusFromState([~b, ~a, a, b]));
}

/**
 * A stream for what is drawn once in a run: samples, splits, first weights, resampling for intervals. Its name is 32 bits
 * wide, which is enough for a few, and its numbers are those that published figures were made with.
 */
export function drawStream(seed: number, ...keys: (string | number)[]): RandomStream {
  return streamOf(xoroshiro128plus(hash(JSON.stringify([seed, ...keys]))));
}

function streamOf(generator: RandomGenerator): RandomStream {
  const stream: RandomStream = {
    uniform: () => uniformFloat64(generator),
    normal: () => Math.sqrt(-2 * Math.log(1 - stream.uniform())) * Math.cos(2 * Math.PI * stream.uniform()),
    integer: (low, high) => uniformInt(generator, low, high),
    shuffle(items) {
      const out = [...items];
      for (let i = out.length - 1; i > 0; i--) {
        const j = uniformInt(generator, 0, i);
        [out[i], out[j]] = [out[j], out[i]];
      }
      return out;
    },
  };
  return stream;
}
