// Products with constant matrices in few bits, and constants that a file holds in half precision.
import { bitShift, bitwiseAnd, bitwiseOr, cast, concat, constant, matmulNBits, slice } from "../graph/build.ts";
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

/** Both numbers of a byte, and the one bit that numbers of 3 bits leave free in each. */
const [lowBits, freeBits] = [0x77, 0x88];

/** Bytes `[..., 4 n]` of two 4-bit numbers below 8 each, as `[..., 3 n]`: the last n lie in the free bits of the others. */
function squeezed({ dims, data }: Tensor<"uint8">): Tensor<"uint8"> {
  const width = dims[dims.length - 1];
  const part = width / 4;
  const out = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += width, to += 3 * part)
    for (let i = 0; i < 3 * part; i++) {
      const last = data[from + 3 * part + (i % part)] >> Math.floor(i / part);
      out[to + i] = data[from + i] | ((last & 0x11) << 3);
    }
  return { type: "uint8", dims: [...dims.slice(0, -1), 3 * part], data: out };
}

/** The bytes behind `squeezed`. */
function unsqueezed(stored: Value): Value {
  const axis = stored.shape.length - 1;
  const part = (stored.shape[axis] as number) / 3;
  const free = bitShift(bitwiseAnd(stored, freeBits), "RIGHT", 3);
  const bits = [0, 1, 2].map((bit) => bitShift(slice(free, axis, bit * part, (bit + 1) * part), "LEFT", bit));
  return concat([bitwiseAnd(stored, lowBits), bits.reduce(bitwiseOr)], axis);
}

/**
 * The graph with the 4-bit matrices that have no number above 7 stored in 3 bits, and brought to 4 where they are read; runtimes do
 * that once, when a file is opened. ONNX Runtime has no product in 3 bits. Run last: what is brought to 4 bits is not folded.
 */
export function storeInThreeBits(graph: Graph): Graph {
  return rewrite(graph, (node, [x, packed, ...rest]) => {
    if (node.op !== "MatMulNBits" || packed.source.kind !== "constant") return undefined;
    const attributes = node.attributes as Attributes<"MatMulNBits">;
    const tensor = packed.source.tensor as Tensor<"uint8">;
    if (attributes.bits !== 4 || tensor.data.some((byte) => byte & freeBits)) return undefined;
    const wide = unsqueezed(constant(squeezed(tensor), packed.source.name));
    const [scales, zeroPoints] = rest;
    return [matmulNBits(x, { packed: wide, scales, ...(zeroPoints ? { zeroPoints } : {}) }, attributes)];
  });
}
