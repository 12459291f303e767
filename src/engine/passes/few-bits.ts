// Products with constant matrices in few bits, and constants that a file holds in half precision.
import { cast, constant, matmulNBits } from "../graph/build.ts";
import type { Graph, Value } from "../graph/graph.ts";
import type { Attributes } from "../graph/operators.ts";
import { nodeOf, rewrite } from "../graph/walk.ts";
import { fromFloat32, isWithinHalf } from "../../utils/half.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";

/** A matrix `[N, K]` as MatMulNBits takes it. */
export interface PackedWeights extends Omit<Attributes<"MatMulNBits">, "accuracyLevel"> {
  readonly packed: Tensor<"uint8">;
  readonly scales: FloatTensor;
  readonly zeroPoints?: Tensor<"uint8">;
}

/** A constant matrix `[N, K]` in few bits, with what its values are named after; undefined for those that stay floats. */
export type FindPacked = (matrix: FloatTensor, outputs: number) => { weights: PackedWeights; name: string } | undefined;

/** The constant that a value is a transposition of, perhaps reshaped to a matrix first. */
function transposedConstant(value: Value): { tensor: FloatTensor; outputs: number } | undefined {
  const turned = nodeOf(value);
  if (turned?.op !== "Transpose" || value.shape.length !== 2) return undefined;
  const [matrix] = turned.inputs;
  const shaped = nodeOf(matrix);
  const { source, type } = shaped?.op === "Reshape" ? shaped.inputs[0] : matrix;
  if (source.kind !== "constant" || type !== "float32") return undefined;
  return { tensor: source.tensor as FloatTensor, outputs: matrix.shape[0] as number };
}

/** Puts matrices in few bits in the place of those that they stand for. Run before constants are folded. */
export function packProducts(graph: Graph, find: FindPacked, accuracyLevel: 0 | 4): Graph {
  return rewrite(graph, (node, [x, matrix]) => {
    const stored = node.op === "MatMul" ? transposedConstant(matrix) : undefined;
    const match = stored && find(stored.tensor, stored.outputs);
    if (!match) return undefined;
    const { weights, name } = match;
    const { packed, scales, zeroPoints, bits, blockSize, inputs, outputs } = weights;
    const values = {
      packed: constant(packed, `${name}_Q${bits}`),
      scales: constant(scales, `${name}_scales`),
      ...(zeroPoints ? { zeroPoints: constant(zeroPoints, `${name}_zero_points`) } : {}),
    };
    return [matmulNBits(x, values, { inputs, outputs, bits, blockSize, accuracyLevel })];
  });
}

/** Smaller constants stay as they are: half of nothing is nothing. */
const leastStored = 64;

/**
 * The graph with its float32 constants stored in half precision and cast where they are read; runtimes cast them once, when a
 * file is opened. Constants that float16 has no room for stay. Run last: what is cast is not folded.
 */
export function storeConstantsInHalf(graph: Graph): Graph {
  const cached = new Map<Value, Value>();
  const stored = (value: Value): Value => {
    const stored = cached.get(value);
    if (stored) return stored;
    const { source, type } = value;
    let made = value;
    if (source.kind === "constant" && type === "float32" && elementCount(source.tensor.dims) >= leastStored) {
      const tensor = source.tensor as FloatTensor;
      if (isWithinHalf(tensor)) made = cast(constant(fromFloat32(tensor, "float16"), source.name), "float32");
    }
    cached.set(value, made);
    return made;
  };
  const constants = new Map<Value, Value>();
  rewrite(graph, (node) => {
    for (const value of node.inputs) if (value.source.kind === "constant") constants.set(value, stored(value));
    return undefined;
  });
  return rewrite(graph, () => undefined, constants);
}
