// Sums over tokens for a linear map: as graphs make them, batch by batch, and as normal equations to be solved. G are the tokens
// that enter the map `[R, K]` and a column of ones for its bias, R is what is missing behind it `[R, M]`.
import { add, cast, input, matmul, reduceSum, slice, transpose } from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import type { Tensor } from "../../utils/tensor.ts";
import type { Sums } from "../../engine/linalg/ridge.ts";

/** G'G is symmetric: it is made in so many strips, each from the diagonal on. */
const strips = 4;
/** Narrower strips are not worth it. */
const leastStrip = 128;

function stripBounds(width: number): number[] {
  const size = Math.ceil(width / strips);
  if (size < leastStrip) return [0, width];
  return [...Array.from({ length: Math.ceil(width / size) }, (_, i) => i * size), width];
}

/**
 * The sums' parts: `gram.i`, G'G's strips from the diagonal on; `entered`, its row for the ones; and, where something is missing,
 * `cross`, G'R, and `missing`, its row for the ones. `rows` `[R, K]` are without the ones.
 */
export function sumParts(rows: Value, missing?: Value): Record<string, Value> {
  const width = rows.shape[1] as number;
  const bounds = stripBounds(width);
  const turned = (tokens: Value) => transpose(tokens, [1, 0]);
  const gram = bounds.slice(0, -1).map((from, i): [string, Value] => {
    const right = from === 0 ? rows : slice(rows, 1, from, width);
    return [`gram.${i}`, matmul(turned(slice(rows, 1, from, bounds[i + 1])), right)];
  });
  return {
    ...Object.fromEntries(gram),
    entered: reduceSum(rows, [0]),
    ...(missing ? { cross: matmul(turned(rows), missing), missing: reduceSum(missing, [0]) } : {}),
  };
}

/** What the parts of batches before are fed as. */
export const partFeed = (name: string): string => `before.${name}`;

/** A batch's parts in float64, added to those of batches before, where there were any. */
export function addedUp(
  parts: Readonly<Record<string, Value>>,
  begins: boolean,
): { inputs: Value[]; outputs: Record<string, Value> } {
  const inputs: Value[] = [];
  const outputs: Record<string, Value> = {};
  for (const [name, part] of Object.entries(parts)) {
    const addend = cast(part, "float64");
    if (begins) {
      outputs[name] = addend;
      continue;
    }
    const before = input(partFeed(name), "float64", part.shape);
    inputs.push(before);
    outputs[name] = add(before, addend);
  }
  return { inputs, outputs };
}

/** The sums that parts over `count` rows say, for `outputs` right-hand sides: zeros where nothing was missing. */
export function sumsFrom(parts: Readonly<Record<string, Tensor>>, count: number, outputs: number): Sums {
  const numbers = (name: string) => parts[name].data as Float32Array | Float64Array;
  const width = numbers("entered").length;
  const [n, m] = [width + 1, outputs];
  const gram = new Float64Array(n * n);
  const bounds = stripBounds(width);
  for (let i = 0; i + 1 < bounds.length; i++) {
    const [from, to, strip] = [bounds[i], bounds[i + 1], numbers(`gram.${i}`)];
    const across = width - from;
    for (let r = 0; r < to - from; r++) gram.set(strip.subarray(r * across, (r + 1) * across), (from + r) * n + from);
    for (let c = to; c < width; c++)
      for (let r = 0; r < to - from; r++) gram[c * n + from + r] = strip[r * across + c - from];
  }
  numbers("entered").forEach((sum, i) => (gram[i * n + width] = gram[width * n + i] = sum));
  gram[n * n - 1] = count;
  const cross = new Float64Array(n * m);
  if (parts.cross) {
    cross.set(numbers("cross"));
    cross.set(numbers("missing"), width * m);
  }
  return { n, m, gram, cross };
}
