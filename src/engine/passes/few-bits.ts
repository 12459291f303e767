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

/** How bytes of two 4-bit numbers each are stored where none is above a limit: `[..., 4 n]` as fewer bytes. */
interface Squeezing {
  /** Bits that are never set. */
  readonly free: number;
  squeezed(row: Uint8Array): Uint8Array;
  /** The bytes again, from stored ones `[..., n]`. */
  restored(stored: Value): Value;
}

const lastAxis = ({ shape }: Value): number => shape.length - 1;

/** Numbers below 4: the second half of a row's bytes lies in the free bits of the first. */
const inTwoBits: Squeezing = {
  free: 0xcc,
  squeezed(row) {
    const half = row.length / 2;
    return row.slice(0, half).map((byte, i) => byte | (row[half + i] << 2));
  },
  restored: (stored) =>
    concat([bitwiseAnd(stored, 0x33), bitwiseAnd(bitShift(stored, "RIGHT", 2), 0x33)], lastAxis(stored)),
};

/** Numbers below 8: the last quarter of a row's bytes lies in the one free bit of the numbers in the other three. */
const inThreeBits: Squeezing = {
  free: 0x88,
  squeezed(row) {
    const part = row.length / 4;
    const last = row.subarray(3 * part);
    return row.slice(0, 3 * part).map((byte, i) => byte | (((last[i % part] >> Math.floor(i / part)) & 0x11) << 3));
  },
  restored(stored) {
    const axis = lastAxis(stored);
    const part = (stored.shape[axis] as number) / 3;
    const free = bitShift(bitwiseAnd(stored, 0x88), "RIGHT", 3);
    const bits = [0, 1, 2].map((bit) => bitShift(slice(free, axis, bit * part, (bit + 1) * part), "LEFT", bit));
    return concat([bitwiseAnd(stored, 0x77), bits.reduce(bitwiseOr)], axis);
  },
};

/** Each row of bytes by itself. */
function squeezeRows({ dims, data }: Tensor<"uint8">, { squeezed }: Squeezing): Tensor<"uint8"> {
  const width = dims[dims.length - 1];
  const rows = Array.from({ length: data.length / width }, (_, i) =>
    squeezed(data.subarray(i * width, (i + 1) * width)),
  );
  const out = new Uint8Array(rows.length * rows[0].length);
  rows.forEach((row, i) => out.set(row, i * row.length));
  return { type: "uint8", dims: [...dims.slice(0, -1), rows[0].length], data: out };
}

/**
 * The graph with 4-bit matrices whose numbers are all below 4, or below 8, stored in 2 or 3 bits, and brought to 4 where they are
 * read; runtimes do that once, when a file is opened. ONNX Runtime has no product in 3 bits, and its product in 2 is slower than
 * that in 4. Run last: what is brought to 4 bits is not folded.
 */
export function storeInFewerBits(graph: Graph): Graph {
  return rewrite(graph, (node, [x, packed, scales, zeroPoints]) => {
    if (node.op !== "MatMulNBits" || packed.source.kind !== "constant") return undefined;
    const attributes = node.attributes as Attributes<"MatMulNBits">;
    if (attributes.bits !== 4) return undefined;
    const tensor = packed.source.tensor as Tensor<"uint8">;
    const used = tensor.data.reduce((bits, byte) => bits | byte, 0);
    const squeezing = [inTwoBits, inThreeBits].find(({ free }) => (used & free) === 0);
    if (!squeezing) return undefined;
    const wide = squeezing.restored(constant(squeezeRows(tensor, squeezing), packed.source.name));
    return [matmulNBits(x, { packed: wide, scales, ...(zeroPoints ? { zeroPoints } : {}) }, attributes)];
  });
}
