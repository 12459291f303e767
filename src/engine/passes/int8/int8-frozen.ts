// Frozen matrices in 8 bits, one scale for each output channel, and the tokens that go into them: those behind a norm share its
// balance, others are sized each by itself.
import type { Node, Value } from "../../graph/graph.ts";
import { nodeOf } from "../../graph/walk.ts";
import { wholeOf } from "../../../utils/offloaded.ts";
import type { FloatTensor } from "../../../utils/tensor.ts";
import { elementCount } from "../../../utils/tensor.ts";
import type { FrozenMatrix, FrozenNorm } from "./balance.ts";
import { balancedNorm, balancedWeights, channelBalance, frozenNorm } from "./balance.ts";
import type { Tokens, TokenProducts } from "./int8-tokens.ts";
import { evenTokens, reshapedTokens, sizedTokens } from "./int8-tokens.ts";
import type { QuantizedWeights } from "./quantize.ts";
import { quantizeColumns, quantizeRows, smallest } from "./quantize.ts";

/** The frozen matrix that a product reads, transposed as a map's is that goes forward, or not. */
export function frozenOf({ op, attributes, inputs }: Node): FrozenMatrix | undefined {
  const [x, weight] = inputs;
  if (x?.type !== "float32" || weight?.source.kind !== "constant") return undefined;
  if (weight.type !== "float32" || weight.shape.length !== 2) return undefined;
  const stored = weight.source.tensor as FloatTensor;
  if (elementCount(stored.dims) < smallest) return undefined;
  if (op === "MatMul") return { stored, transposed: false };
  const { transA, transB } = attributes as { transA?: boolean; transB?: boolean };
  return op === "FusedMatMul" && transB && !transA ? { stored, transposed: true } : undefined;
}

/** Says the same of tensors over the same numbers: teacher and student share their frozen weights. */
function placeTeller(): (tensor: FloatTensor) => string {
  const places = new Map<object, number>();
  return (tensor) => {
    const { whole, offset } = wholeOf(tensor);
    if (!places.has(whole)) places.set(whole, places.size);
    return `${places.get(whole)}:${offset}:${tensor.dims.join()}`;
  };
}

/** Frozen matrices in 8 bits and the norms before them, each made once. */
export class Quantizer {
  private readonly largest: number;
  private readonly products: TokenProducts;
  private readonly placeOf = placeTeller();
  private readonly behind = new Map<string, FrozenMatrix[]>();
  private readonly balances = new Map<string, Float32Array>();
  private readonly weights = new Map<string, QuantizedWeights>();
  private readonly tokens = new Map<Value, Tokens>();

  constructor(largest: number, products: TokenProducts) {
    this.largest = largest;
    this.products = products;
  }

  /** Told of each matrix behind a norm before the first one is asked for: they share the norm's balance. */
  expect(norm: FrozenNorm, matrix: FrozenMatrix): void {
    const key = this.placeOf(norm.scale);
    this.behind.set(key, [...(this.behind.get(key) ?? []), matrix]);
  }

  weightsOf(matrix: FrozenMatrix, norm: FrozenNorm | undefined): QuantizedWeights {
    const { stored, transposed } = matrix;
    const key = `${this.placeOf(stored)}:${transposed}:${norm ? this.placeOf(norm.scale) : ""}`;
    const ownScales = transposed ? quantizeRows : quantizeColumns;
    const weights =
      this.weights.get(key) ?? ownScales(norm ? balancedWeights(matrix, this.balanceOf(norm)) : stored, this.largest);
    this.weights.set(key, weights);
    return weights;
  }

  /** Tokens in 8 bits, made once for all that read them. */
  tokensOf(x: Value): Tokens {
    const quantized = this.tokens.get(x) ?? this.newTokens(x);
    this.tokens.set(x, quantized);
    return quantized;
  }

  private newTokens(x: Value): Tokens {
    const norm = frozenNorm(x);
    if (norm) {
      const balance = this.balanceOf(norm);
      return { ...evenTokens(balancedNorm(norm, balance)), balance };
    }
    const node = nodeOf(x);
    if (node?.op === "LayerNormalization") return evenTokens(x);
    if (node?.op === "Reshape" && node.inputs[0].shape.at(-1) === x.shape.at(-1))
      return reshapedTokens(this.tokensOf(node.inputs[0]), x.shape);
    return this.products.tokens(x) ?? sizedTokens(x);
  }

  private balanceOf(norm: FrozenNorm): Float32Array {
    const key = this.placeOf(norm.scale);
    const balance = this.balances.get(key) ?? channelBalance(norm, this.behind.get(key) ?? []);
    this.balances.set(key, balance);
    return balance;
  }
}
