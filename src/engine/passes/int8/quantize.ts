// Weights of linear maps in 8 bits, with one scale for each output channel, for files that are a quarter as large and for products in
// 8 bits.
import { constant, dequantizeLinear, matmul } from "../../graph/build.ts";
import type { Graph } from "../../graph/graph.ts";
import { rewrite } from "../../graph/walk.ts";
import type { FloatTensor, Tensor } from "../../../utils/tensor.ts";
import { elementCount, sharedBuffer } from "../../../utils/tensor.ts";

/** Smaller weights are not worth it. */
export const smallest = 4096;
export const largestWeight = 127 as const;
/**
 * Processors without instructions for 8-bit products (AVX2, AVX-512 before VNNI) add two products of 8 bits in 16, which
 * overflows where weights use all of their range. A file is for all machines.
 */
export const safeWeight = 63 as const;

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

/**
 * Products with constant float32 matrices, with weights in 8 bits that are unfolded to float32 before each product. Run after constants
 * are folded.
 */
export function quantizeLinearMaps(graph: Graph): Graph {
  return rewrite(graph, (node, [x, weight]) => {
    if (node.op !== "MatMul" || weight.source.kind !== "constant" || weight.type !== "float32") return undefined;
    const { tensor, name } = weight.source;
    if (tensor.dims.length !== 2 || elementCount(tensor.dims) < smallest) return undefined;
    const quantized = quantizeColumns(tensor as FloatTensor, largestWeight);
    const q = constant(quantized.weight, name && `${name}.int8`);
    const scale = constant(quantized.scale, name && `${name}.scale`);
    return [matmul(x, dequantizeLinear(q, scale, 1))];
  });
}
