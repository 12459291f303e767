// Products with frozen weights in 8 bits, for training and inference on ONNX Runtime: one scale for each output channel and,
// where tokens differ much in size, one for each token. Everything else stays float32.
import {
  add,
  constant,
  div,
  dynamicQuantizeLinear,
  matmulIntegerToFloat,
  mul,
  neg,
  reduceMax,
  reduceMin,
  relu,
  sub,
  withBias,
} from "../graph/build.ts";
import { sameShape } from "../graph/shapes.ts";
import type { Graph, Node, Value } from "../graph/types.ts";
import { readerCounts, rewrite, sortedNodes } from "../graph/walk.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { FrozenMatrix, FrozenNorm } from "./balance.ts";
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

/** The frozen matrix that a product reads, transposed as a map's is that goes forward, or not. */
function frozenOf({ op, attributes, inputs }: Node): FrozenMatrix | undefined {
  const [x, weight] = inputs;
  if (x?.type !== "float32" || weight?.source.kind !== "constant") return undefined;
  if (weight.type !== "float32" || weight.shape.length !== 2) return undefined;
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

/** Says the same of tensors over the same memory: teacher and student share their frozen weights. */
function placeTeller(): (tensor: FloatTensor) => string {
  const places = new Map<ArrayBufferLike, number>();
  return ({ data, dims }) => {
    if (!places.has(data.buffer)) places.set(data.buffer, places.size);
    return `${places.get(data.buffer)}:${data.byteOffset}:${dims.join()}`;
  };
}

/** `x` with one scale for all, times the weights. */
function product(x: Value, weight: Value, scale: Value): Value {
  const { q, scale: own, zero } = dynamicQuantizeLinear(x);
  return matmulIntegerToFloat(q, weight, own, scale, zero);
}

const larger = (a: Value, b: Value | number): Value => add(relu(sub(a, b)), b);
/** No number that a GELU, exact or by tanh, gives is further below zero. */
const geluDip = 0.171;

/** At least the largest absolute number of each token, and never zero. */
function tokenSizes(x: Value): Value {
  const high = reduceMax(x, [-1], true);
  if (x.source.kind === "node" && x.source.node.op === "Gelu") return larger(high, geluDip);
  return add(larger(high, neg(reduceMin(x, [-1], true))), 1e-12);
}

/** Frozen matrices in 8 bits and the norms before them, each made once. */
class Quantizer {
  private readonly largest: Int8Options["largest"];
  private readonly placeOf = placeTeller();
  private readonly behind = new Map<string, FrozenMatrix[]>();
  private readonly balances = new Map<string, Float32Array>();
  private readonly weights = new Map<string, QuantizedWeights>();
  private readonly norms = new Map<Value, Value>();

  constructor(largest: Int8Options["largest"]) {
    this.largest = largest;
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
    const found =
      this.weights.get(key) ?? ownScales(norm ? balancedWeights(matrix, this.balanceOf(norm)) : stored, this.largest);
    this.weights.set(key, found);
    return found;
  }

  /** The value of a norm with each channel divided by its balance. */
  balanced(value: Value, norm: FrozenNorm): Value {
    const found = this.norms.get(value) ?? balancedNorm(norm, this.balanceOf(norm));
    this.norms.set(value, found);
    return found;
  }

  private balanceOf(norm: FrozenNorm): Float32Array {
    const key = this.placeOf(norm.scale);
    const found = this.balances.get(key) ?? channelBalance(norm, this.behind.get(key) ?? []);
    this.balances.set(key, found);
    return found;
  }
}

/**
 * Turns products with constant float32 matrices into 8-bit ones, with the bias that is added to them. Tokens behind a layer
 * norm are of one size and share a scale, with their outlier channels balanced against the weights; others are divided by
 * their largest number first. Run after `fuseTransposes` on graphs for ONNX Runtime; `trained` names the inputs that tell the
 * student's tokens from the teacher's.
 */
export function int8Products(graph: Graph, options: Int8Options, trained: Iterable<string> = []): Graph {
  const moving = dependents(graph, new Set(trained));
  const readers = readerCounts(graph);
  const quantizer = new Quantizer(options.largest);
  const wantedOf = (node: Node): FrozenMatrix | undefined => {
    const frozen = frozenOf(node);
    if (!frozen) return undefined;
    const part = !moving.has(node.outputs[0]) ? "teacher" : frozen.transposed ? "student" : "backward";
    return options.parts.includes(part) ? frozen : undefined;
  };
  for (const node of sortedNodes(graph.outputs.values())) {
    const [wanted, norm] = [wantedOf(node), node.inputs[0] && frozenNorm(node.inputs[0])];
    if (wanted && norm) quantizer.expect(norm, wanted);
  }
  return rewrite(graph, (node, inputs) => {
    if (node.op === "Add" && readers.get(node.inputs[0]) === 1) {
      const [{ source }, bias] = inputs;
      if (source.kind !== "node" || source.node.op !== "MatMulIntegerToFloat" || source.node.inputs.length > 5)
        return undefined;
      const columns = source.node.inputs[3];
      const fits = bias.source.kind === "constant" && sameShape(bias.shape, columns.shape);
      return fits ? [withBias(source.node as Node<"MatMulIntegerToFloat">, bias)] : undefined;
    }
    const frozen = wantedOf(node);
    if (!frozen) return undefined;
    const [x] = inputs;
    const norm = frozenNorm(x);
    const { weight, scale } = quantizer.weightsOf(frozen, norm);
    const name = node.inputs[1].source.kind === "constant" ? node.inputs[1].source.name : undefined;
    const as = (suffix: string) => name && `${name}.${suffix}${frozen.transposed ? "" : ".backward"}`;
    const [w, s] = [constant(weight, as("int8")), constant(scale, as("scale"))];
    if (norm) return [product(quantizer.balanced(x, norm), w, s)];
    const even = x.source.kind === "node" && x.source.node.op === "LayerNormalization";
    if (even) return [product(x, w, s)];
    const size = tokenSizes(x);
    return [mul(product(div(x, size), w, s), size)];
  });
}
