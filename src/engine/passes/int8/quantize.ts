// Linear maps with constant weights in 8 bits, for files that are a quarter as large: weights with one scale for each
// output channel, and, where the products are to be 8-bit too, activations with one scale for each token.
import {
  abs,
  add,
  cast,
  constant,
  dequantizeLinear,
  div,
  matmul,
  matmulInteger,
  mul,
  reduceMax,
  round,
} from "../../graph/build.ts";
import type { Graph, Value } from "../../graph/graph.ts";
import { rewrite } from "../../graph/walk.ts";
import type { FloatTensor, Tensor } from "../../../utils/tensor.ts";
import { elementCount, sharedBuffer } from "../../../utils/tensor.ts";

export type Quantization =
  /** 8-bit weights that are unfolded to float32 before the product. */
  | "weights"
  /** 8-bit products: activations are quantized as they come. */
  | "dynamic";

/** Smaller weights are not worth it. */
export const smallest = 4096;
export const largestWeight = 127 as const;
/**
 * Processors without instructions for 8-bit products (AVX2, AVX-512 before VNNI) add two products of 8 bits in 16, which
 * overflows where weights use all of their range. A file is for all machines.
 */
export const safeWeight = 63 as const;
/** Activations are stored as uint8 around this. */
const middle = 128;

/** 8-bit weights `[K, N]` and a scale for each of the N outputs. */
export interface QuantizedWeights {
  readonly weight: Tensor<"int8">;
  readonly scale: FloatTensor;
}

/** Weights that are read as `[K, N]` and stored so that element (k, n) is at `k * row + n * column`. */
function quantizeWeights(
  data: FloatTensor["data"],
  [rows, columns]: readonly [number, number],
  [row, column]: readonly [number, number],
  largest: number,
): QuantizedWeights {
  const scale = new Float32Array(columns);
  const weight = new Int8Array(sharedBuffer(rows * columns));
  for (let n = 0; n < columns; n++) {
    let most = 0;
    for (let k = 0, at = n * column; k < rows; k++, at += row) most = Math.max(most, Math.abs(data[at]));
    scale[n] = most / largest;
    if (most === 0) continue;
    for (let k = 0, at = n * column; k < rows; k++, at += row)
      weight[k * columns + n] = Math.round((data[at] * largest) / most);
  }
  return {
    weight: { type: "int8", dims: [rows, columns], data: weight },
    scale: { type: "float32", dims: [columns], data: scale },
  };
}

/** `[K, N]` weights as int8 with a scale for each of the N outputs; none is above `largest`. */
export function quantizeColumns({ dims: [rows, columns], data }: FloatTensor, largest: number): QuantizedWeights {
  return quantizeWeights(data, [rows, columns], [columns, 1], largest);
}

/** The same for weights stored as `[N, K]`. */
export function quantizeRows({ dims: [outputs, inputs], data }: FloatTensor, largest: number): QuantizedWeights {
  return quantizeWeights(data, [inputs, outputs], [1, inputs], largest);
}

/** Token by token: x is about scale * (q - 128). */
function quantizeTokens(x: Value): { q: Value; scale: Value } {
  // A token of zeros must not divide by zero.
  const scale = add(mul(reduceMax(abs(x), [-1], true), 1 / 127), 1e-12);
  return { q: cast(add(round(div(x, scale)), middle), "uint8"), scale };
}

/** Products of activations with constant float32 matrices, in 8 bits. Run after constants are folded. */
export function quantizeLinearMaps(graph: Graph, kind: Quantization): Graph {
  return rewrite(graph, (node, [x, weight]) => {
    if (node.op !== "MatMul" || weight.source.kind !== "constant" || weight.type !== "float32") return undefined;
    const { tensor, name } = weight.source;
    if (tensor.dims.length !== 2 || elementCount(tensor.dims) < smallest) return undefined;
    const quantized = quantizeColumns(tensor as FloatTensor, kind === "weights" ? largestWeight : safeWeight);
    const q = constant(quantized.weight, name && `${name}.int8`);
    const scale = constant(quantized.scale, name && `${name}.scale`);
    if (kind === "weights") return [matmul(x, dequantizeLinear(q, scale, 1))];
    const tokens = quantizeTokens(x);
    const zero = constant({ type: "uint8", dims: [], data: Uint8Array.of(middle) });
    return [mul(mul(cast(matmulInteger(tokens.q, q, zero), "float32"), tokens.scale), scale)];
  });
}
