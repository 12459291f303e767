// Tokens in 8 bits, as products take them: one scale for all, and where they differ much in size, each divided by its own first.
import {
  add,
  constant,
  div,
  dynamicQuantizeLinear,
  filled,
  matmulIntegerToFloat,
  mul,
  max,
  neg,
  quantizeLinear,
  reduceMax,
  reduceMin,
  reshape,
  withBias,
} from "../../graph/build.ts";
import { sameShape } from "../../graph/shapes.ts";
import type { Node, Shape, Value } from "../../graph/graph.ts";
import { nodeOf } from "../../graph/walk.ts";
import { elementCount } from "../../../utils/tensor.ts";

/** What `[..., K]` is in 8 bits: about `size * scale * (q - zero)`, with each channel multiplied by its balance. */
export interface Tokens {
  readonly q: Value;
  readonly scale: Value;
  readonly zero: Value;
  /** Each token's size `[..., 1]`; of tokens that are of one size, none. */
  readonly size?: Value;
  /** What each of the K channels was divided by beforehand. */
  readonly balance?: Float32Array;
}

/** No largest number is below this, so that nothing is divided by zero. */
const leastSize = 1e-12;
/** No number that a GELU, exact or by tanh, gives is further below zero. */
const geluDip = 0.171;

/** The largest absolute number along `axes`, or of all, and never zero. */
export const largestSize = (x: Value, axes?: readonly number[], keepDims = false): Value =>
  max(reduceMax(x, axes, keepDims), neg(reduceMin(x, axes, keepDims)), leastSize);

const behindGelu = (x: Value): boolean => nodeOf(x)?.op === "Gelu";

/** At least the largest absolute number of each token, and never zero; behind a GELU not below `dip`. */
const tokenSizes = (x: Value, dip = geluDip): Value =>
  behindGelu(x) ? max(reduceMax(x, [-1], true), dip) : largestSize(x, [-1], true);

/** Tokens so long are brought to 8 bits each by its own scale, which takes a task for each; shorter ones are divided first. */
const longToken = 1024;

/** Tokens `[..., K]`, of which there are `rows`, each rounded by a scale of its own. */
function longTokens(x: Value, rows: number): Tokens {
  // A token's largest number is so many steps above the zero point. What a GELU gives goes little below zero.
  const [steps, zeroPoint] = behindGelu(x) ? [191, 64] : [127, 128];
  const size = tokenSizes(x, (geluDip * steps) / zeroPoint);
  const bytes = (dims: readonly number[]) =>
    constant({ type: "uint8", dims, data: new Uint8Array(dims[0] ?? 1).fill(zeroPoint) });
  const each = reshape(mul(size, 1 / steps), [rows]);
  const q = quantizeLinear(reshape(x, [rows, x.shape.at(-1) as number]), each, bytes([rows]));
  return { q: reshape(q, x.shape), scale: filled(size, 1 / steps), zero: bytes([]), size };
}

/** Tokens of one size: one scale for all. */
export const evenTokens = (x: Value): Tokens => dynamicQuantizeLinear(x);

/** Tokens of any size. */
export function sizedTokens(x: Value): Tokens {
  const isFixed = x.shape.every((d) => typeof d === "number");
  if (isFixed && (x.shape.at(-1) as number) >= longToken)
    return longTokens(x, elementCount(x.shape.slice(0, -1) as number[]));
  const size = tokenSizes(x);
  return { ...evenTokens(div(x, size)), size };
}

/** Tokens of a value that is only shaped differently, with the last axis as it was. */
export function reshapedTokens(tokens: Tokens, shape: Shape): Tokens {
  const { q, size } = tokens;
  return { ...tokens, q: reshape(q, shape), size: size && reshape(size, [...shape.slice(0, -1), 1]) };
}

/** A product with tokens but for their sizes, and what is added behind them. */
interface Parts {
  readonly even: Value;
  readonly size: Value | undefined;
  readonly bias?: Value;
}

/** Products of tokens in 8 bits with 8-bit matrices `[K, N]`. Sums of them are taken before tokens get their sizes again. */
export class TokenProducts {
  private readonly partsOf = new Map<Value, Parts>();

  of({ q, scale, zero, size }: Tokens, matrix: Value, matrixScale: Value): Value {
    const even = matmulIntegerToFloat(q, matrix, scale, matrixScale, zero);
    return this.joined({ even, size });
  }

  /** Tokens that a product gave: of one size where those that entered it were, but for the sizes that they had. */
  tokens(product: Value): Tokens | undefined {
    const parts = this.partsOf.get(product);
    return parts && !parts.bias ? { ...evenTokens(parts.even), size: parts.size } : undefined;
  }

  /** A product, perhaps with a bias behind it, and a bias `[N]` or another product of the same tokens. */
  sum(a: Value, b: Value): Value | undefined {
    const [left, right] = [this.partsOf.get(a), this.partsOf.get(b)];
    if (!left) return undefined;
    if (right) {
      const fits = left.size === right.size && !right.bias;
      return fits ? this.joined({ ...left, even: add(left.even, right.even) }) : undefined;
    }
    if (left.bias || b.source.kind !== "constant" || !sameShape(b.shape, a.shape.slice(-1))) return undefined;
    const { source } = left.even;
    const bare = source.kind === "node" && source.node.op === "MatMulIntegerToFloat" && source.node.inputs.length === 5;
    if (!left.size && bare)
      return this.joined({ ...left, even: withBias(source.node as Node<"MatMulIntegerToFloat">, b) });
    return this.joined({ ...left, bias: b });
  }

  private joined(parts: Parts): Value {
    const { even, size, bias } = parts;
    const sized = size ? mul(even, size) : even;
    const result = bias ? add(sized, bias) : sized;
    this.partsOf.set(result, parts);
    return result;
  }
}
