// Seeded random numbers. A stream is named by its seed and keys (epoch, picture, purpose), so that what is
// drawn does not depend on the order of the work or on the number of workers.
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

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

/** The stream named by `seed` and `keys`: the same name gives the same numbers everywhere. */
export function randomStream(seed: number, ...keys: (string | number)[]): RandomStream {
  const generator = xoroshiro128plus(hash(JSON.stringify([seed, ...keys])));
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
