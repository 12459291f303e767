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

/** `x` with one scale for all, times the weights. */
function product(x: Value, weight: Value, scale: Value): Value {
  const { q, scale: own, zero } = dynamicQuantizeLinear(x);
  return matmulIntegerToFloat(q, weight, own, scale, zero);
}

/**
 * Turns products with constant float32 matrices into 8-bit ones. Tokens behind a layer norm are of one size and share a
 * scale; others are divided by their largest number first. Run after `fuseTransposes` on graphs for ONNX Runtime; `trained`
 * names the inputs that tell the student's tokens from the teacher's.
 */
export function int8Products(graph: Graph, options: Int8Options, trained: Iterable<string> = []): Graph {
  const moving = dependents(graph, new Set(trained));
  const known = new Map<string, QuantizedWeights>();
  const place = new Map<ArrayBufferLike, number>();
  const quantized = ({ data, dims }: FloatTensor, transposed: boolean): QuantizedWeights => {
    if (!place.has(data.buffer)) place.set(data.buffer, place.size);
    const key = `${place.get(data.buffer)}:${data.byteOffset}:${dims.join()}:${transposed}`;
    const found =
      known.get(key) ?? (transposed ? quantizeRows : quantizeColumns)({ type: "float32", data, dims }, options.largest);
    known.set(key, found);
    return found;
  };
  return rewrite(graph, (node, [x]) => {
    const frozen = frozenOf(node);
    if (!frozen || x.type !== "float32") return undefined;
    const part = !moving.has(node.outputs[0]) ? "teacher" : frozen.transposed ? "student" : "backward";
    if (!options.parts.includes(part)) return undefined;
    const { weight, scale } = quantized(frozen.stored, frozen.transposed);
    const name = node.inputs[1].source.kind === "constant" ? node.inputs[1].source.name : undefined;
    const as = (suffix: string) => name && `${name}.${suffix}${frozen.transposed ? "" : ".backward"}`;
    const [w, s] = [constant(weight, as("int8")), constant(scale, as("scale"))];
    const even = x.source.kind === "node" && x.source.node.op === "LayerNormalization";
    if (even) return [product(x, w, s)];
    // A token of zeros must not divide by zero.
    const size = add(reduceMax(abs(x), [-1], true), 1e-12);
    return [mul(product(div(x, size), w, s), size)];
  });
}
