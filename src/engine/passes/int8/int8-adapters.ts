// Products with low-rank adapters in 8 bits: with A and B going forward and back, and those that their gradients are. Both sides
// move here, so matrices are brought to 8 bits in the graph, with one scale for each: they are thin, which makes that cheap.
import { constant, mul, quantizeLinear, transpose } from "../../graph/build.ts";
import type { Value } from "../../graph/graph.ts";
import type { TokenProducts, Tokens } from "./int8-tokens.ts";
import { largestSize } from "./int8-tokens.ts";

interface Matrix {
  readonly q: Value;
  readonly scale: Value;
}

const channels = (balance: Float32Array, dims: readonly number[]): Value =>
  constant({ type: "float32", dims, data: balance });
const swapped = (x: Value): Value => transpose(x, [1, 0]);

/** Adapters' products of one graph; what several of them read is made once. */
export class AdapterProducts {
  private readonly largest: number;
  private readonly matrices = new Map<Value, Map<Float32Array | undefined, Matrix>>();
  private readonly products: TokenProducts;

  /** No number of a matrix in 8 bits is above `largest`. */
  constructor(largest: number, products: TokenProducts) {
    this.largest = largest;
    this.products = products;
  }

  /** Tokens `[..., K]` times a matrix that trains, `[N, K]` where it is read transposed, else `[K, N]`. */
  of(tokens: Tokens, matrix: Value, transposed: boolean): Value {
    const { q, scale } = this.matrixOf(matrix, tokens.balance, transposed);
    return this.products.of(tokens, transposed ? swapped(q) : q, scale);
  }

  /** `[K, N]`: the sum of all tokens' `[K]` times `[N]`, which are `thin`, `[rows, N]`. */
  gradient(tokens: Tokens, thin: Value): Value {
    const { q, scale } = this.rounded(tokens.size ? mul(thin, tokens.size) : thin);
    const sum = this.products.of({ ...tokens, q: swapped(tokens.q), size: undefined }, q, scale);
    const { balance } = tokens;
    return balance ? mul(sum, channels(balance, [balance.length, 1])) : sum;
  }

  private matrixOf(matrix: Value, balance: Float32Array | undefined, transposed: boolean): Matrix {
    const matrices = this.matrices.get(matrix) ?? new Map<Float32Array | undefined, Matrix>();
    this.matrices.set(matrix, matrices);
    const stored =
      matrices.get(balance) ??
      this.rounded(
        balance ? mul(matrix, channels(balance, transposed ? [balance.length] : [balance.length, 1])) : matrix,
      );
    matrices.set(balance, stored);
    return stored;
  }

  /** A matrix in 8 bits, zero where it is. */
  private rounded(x: Value): Matrix {
    const scale = mul(largestSize(x), 1 / this.largest);
    const zero = constant({ type: "int8", dims: [], data: Int8Array.of(0) });
    return { q: quantizeLinear(x, scale, zero), scale };
  }
}
