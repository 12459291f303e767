// Unpacking with a bound: a packed file says in a few bytes that it is a thousand times as long.
import type { FlateStreamHandler } from "fflate";
import { Inflate, Unzlib } from "fflate";

/** Bytes that are pushed at once: deflate packs to a 1032nd at most, so that a push makes no more than 16 MiB. */
const push = 2 ** 14;

/** The most that `length` packed bytes can become. */
export const mostInflated = (length: number): number => 1032 * length + 258;

/**
 * Feeds packed bytes piece by piece to a stream, which hands on what they become; stops where `take` returns false.
 *
 * @returns whether all was taken.
 */
export function pumpInflated(
  stream: { push(chunk: Uint8Array, final?: boolean): void; ondata?: FlateStreamHandler },
  packed: Uint8Array,
  take: (chunk: Uint8Array) => boolean,
): boolean {
  let goesOn = true;
  stream.ondata = (chunk) => {
    goesOn &&= take(chunk);
  };
  for (let at = 0; goesOn && at < packed.length; at += push)
    stream.push(packed.subarray(at, at + push), at + push >= packed.length);
  return goesOn;
}

/**
 * Unpacks bare deflate (zip) or zlib. `size` bytes are taken at most; `isExact` says that there must be just as many. Throws a
 * RangeError where there are others, and an Error where the bytes are damaged.
 */
export function inflateBounded(
  kind: "deflate" | "zlib",
  packed: Uint8Array,
  { size, isExact }: { readonly size: number; readonly isExact: boolean },
): Uint8Array {
  if (isExact && size > mostInflated(packed.length))
    throw new RangeError(`${packed.length} bytes can't become the ${size} that are stated`);
  const out = new Uint8Array(isExact ? size : Math.min(size, mostInflated(packed.length)));
  let at = 0;
  const whole = pumpInflated(kind === "zlib" ? new Unzlib() : new Inflate(), packed, (chunk) => {
    if (at + chunk.length > out.length) return false;
    out.set(chunk, at);
    at += chunk.length;
    return true;
  });
  if (!whole) throw new RangeError(`it becomes longer than ${size} bytes`);
  if (isExact && at !== size) throw new RangeError(`it becomes ${at} bytes where ${size} are stated`);
  return out.subarray(0, at);
}
