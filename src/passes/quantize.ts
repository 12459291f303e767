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
} from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import { rewrite } from "../graph/walk.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";

export type Quantization =
  /** 8-bit weights that are unfolded to float32 before the product. */
  | "weights"
  /** 8-bit products: activations are quantized as they come. */
  | "dynamic";

/** Smaller weights are not worth it. */
const smallest = 4096;
/** Activations are stored as uint8 around this. */
const middle = 128;

/** `[K, N]` weights as int8 with a scale for each of the N outputs. */
export function quantizeColumns({ dims, data }: FloatTensor): { weight: Tensor<"int8">; scale: FloatTensor } {
  const [rows, columns] = dims;
  const scale = new Float32Array(columns);
  for (let i = 0; i < data.length; i++) scale[i % columns] = Math.max(scale[i % columns], Math.abs(data[i]) / 127);
  const weight = new Int8Array(rows * columns);
  for (let i = 0; i < data.length; i++) {
    const s = scale[i % columns];
    weight[i] = s === 0 ? 0 : Math.round(data[i] / s);
  }
  return { weight: { type: "int8", dims, data: weight }, scale: { type: "float32", dims: [columns], data: scale } };
}

/** Token by token: x is about scale * (q - 128). */
function quantizeRows(x: Value): { q: Value; scale: Value } {
  // A token of zeros must not divide by zero.
  const scale = add(mul(reduceMax(abs(x), [-1], true), 1 / 127), 1e-12);
  return { q: cast(add(round(div(x, scale)), middle), "uint8"), scale };
}

/** Products of activations with constant float32 matrices, in 8 bits. Run after constants are folded. */
export function quantizeLinearMaps(graph: Graph, kind: Quantization): Graph {
  return rewrite(graph, (node, [x, weight]) => {
    if (node.op !== "MatMul" || weight.source.kind !== "constant" || weight.type !== "float32") return undefined;
    const { tensor, name } = weight.source;
    if (tensor.dims.length !== 2 || tensor.data.length < smallest) return undefined;
    const quantized = quantizeColumns(tensor as FloatTensor);
    const q = constant(quantized.weight, name && `${name}.int8`);
    const scale = constant(quantized.scale, name && `${name}.scale`);
    if (kind === "weights") return [matmul(x, dequantizeLinear(q, scale, 1))];
    const tokens = quantizeRows(x);
    const zero = constant({ type: "uint8", dims: [], data: Uint8Array.of(middle) });
    return [mul(mul(cast(matmulInteger(tokens.q, q, zero), "float32"), tokens.scale), scale)];
  });
}
