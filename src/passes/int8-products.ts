// Products with frozen weights in 8 bits, for training and inference on ONNX Runtime: one scale for each output channel and,
// where tokens differ much in size, one for each token. Everything else stays float32.
import {
  abs,
  add,
  constant,
  div,
  dynamicQuantizeLinear,
  matmulIntegerToFloat,
  mul,
  reduceMax,
} from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/types.ts";
import { rewrite, sortedNodes } from "../graph/walk.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { FrozenNorm } from "./balance.ts";
import { balancedNorm, balancedWeights, channelBalance, frozenNorm } from "./balance.ts";
import type { largestWeight, QuantizedWeights, safeWeight } from "./quantize.ts";
import { quantizeColumns, quantizeRows, smallest } from "./quantize.ts";

/** Where a product with frozen weights stands in a step. */
export const int8Parts = ["teacher", "student", "backward"] as const;
export type Int8Part = (typeof int8Parts)[number];

export interface Int8Options {
  /** No 8-bit weight is larger: the safe one where products of 8-bit numbers overflow on this machine. */
  readonly largest: typeof largestWeight | typeof safeWeight;
  readonly parts: readonly Int8Part[];
}

/** What a product reads of a frozen matrix, and whether as a map does that goes forward. */
function frozenOf({ op, attributes, inputs }: Node): { stored: FloatTensor; transposed: boolean } | undefined {
  const [, weight] = inputs;
  if (weight?.source.kind !== "constant" || weight.type !== "float32" || weight.shape.length !== 2) return undefined;
  const stored = weight.source.tensor as FloatTensor;
  if (stored.data.length < smallest) return undefined;
  if (op === "MatMul") return { stored, transposed: false };
  const { transA, transB } = attributes as { transA?: boolean; transB?: boolean };
  return op === "FusedMatMul" && transB && !transA ? { stored, transposed: true } : undefined;
}

/** Values that depend on what a graph is fed under the names in `trained`. */
function dependents(graph: Graph, trained: ReadonlySet<string>): Set<Value> {
  const found = new Set(graph.inputs.filter(({ source }) => source.kind === "input" && trained.has(source.name)));
  for (const node of sortedNodes(graph.outputs.values()))
    if (node.inputs.some((v) => found.has(v))) for (const v of node.outputs) found.add(v);
  return found;
}

/** 8-bit weights, and what channels of the norm before them are divided by. */
interface Quantized extends QuantizedWeights {
  readonly balance?: Float32Array;
}

function quantize(
  stored: FloatTensor,
  transposed: boolean,
  largest: Int8Options["largest"],
  norm: FrozenNorm | undefined,
): Quantized {
  const ownScales = transposed ? quantizeRows : quantizeColumns;
  if (!norm) return ownScales(stored, largest);
  const balance = channelBalance(norm, stored, transposed);
  return { ...ownScales(balancedWeights(stored, transposed, balance), largest), balance };
}

/** `x` with one scale for all, times the weights. */
function product(x: Value, weight: Value, scale: Value): Value {
  const { q, scale: own, zero } = dynamicQuantizeLinear(x);
  return matmulIntegerToFloat(q, weight, own, scale, zero);
}

/**
 * Turns products with constant float32 matrices into 8-bit ones. Tokens behind a layer norm are of one size and share a
 * scale, with their outlier channels balanced against the weights; others are divided by their largest number first. Run after
 * `fuseTransposes` on graphs for ONNX Runtime; `trained` names the inputs that tell the student's tokens from the teacher's.
 */
export function int8Products(graph: Graph, options: Int8Options, trained: Iterable<string> = []): Graph {
  const moving = dependents(graph, new Set(trained));
  const known = new Map<string, Quantized>();
  const place = new Map<ArrayBufferLike, number>();
  const placeOf = ({ data }: FloatTensor) => {
    if (!place.has(data.buffer)) place.set(data.buffer, place.size);
    return `${place.get(data.buffer)}:${data.byteOffset}`;
  };
  const quantized = (stored: FloatTensor, transposed: boolean, norm?: FrozenNorm): Quantized => {
    const key = `${placeOf(stored)}:${stored.dims.join()}:${transposed}:${norm ? placeOf(norm.scale) : ""}`;
    const found = known.get(key) ?? quantize(stored, transposed, options.largest, norm);
    known.set(key, found);
    return found;
  };
  return rewrite(graph, (node, [x]) => {
    const frozen = frozenOf(node);
    if (!frozen || x.type !== "float32") return undefined;
    const part = !moving.has(node.outputs[0]) ? "teacher" : frozen.transposed ? "student" : "backward";
    if (!options.parts.includes(part)) return undefined;
    const norm = frozenNorm(x);
    const { weight, scale, balance } = quantized(frozen.stored, frozen.transposed, norm);
    const name = node.inputs[1].source.kind === "constant" ? node.inputs[1].source.name : undefined;
    const as = (suffix: string) => name && `${name}.${suffix}${frozen.transposed ? "" : ".backward"}`;
    const [w, s] = [constant(weight, as("int8")), constant(scale, as("scale"))];
    if (norm && balance) return [product(balancedNorm(norm, balance), w, s)];
    const even = x.source.kind === "node" && x.source.node.op === "LayerNormalization";
    if (even) return [product(x, w, s)];
    // A token of zeros must not divide by zero.
    const size = add(reduceMax(abs(x), [-1], true), 1e-12);
    return [mul(product(div(x, size), w, s), size)];
  });
}
