// Constant folding: what depends on constants alone is computed once, when the graph is built.
import { constant } from "../graph/build.ts";
import { evaluateNode } from "../graph/evaluate-graph.ts";
import { sameShape } from "../graph/shapes.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { rewrite } from "../graph/walk.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";

/** Results up to this size are always folded; larger ones only where the file does not grow by it. */
const smallResult = 1 << 16;

function constantInputs(inputs: readonly Value[]): Tensor[] | undefined {
  const tensors = inputs.map((v) => (v.source.kind === "constant" ? v.source.tensor : undefined));
  return tensors.every((t) => t !== undefined) ? tensors : undefined;
}

/** The scalar that a constant holds everywhere, if it does and is small. */
function uniformValue(value: Value): number | undefined {
  if (value.source.kind !== "constant" || value.type === "float16") return;
  const { tensor } = value.source;
  return elementCount(tensor.dims) === 1 ? Number(tensor.data[0]) : undefined;
}

/** Whether a value is another less itself, the latter without a gradient: zeros, once gradients are made. */
function isGradientOnly({ source }: Value): boolean {
  if (source.kind !== "node" || source.node.op !== "Sub") return false;
  const [x, same] = source.node.inputs;
  return same.source.kind === "node" && same.source.node.op === "StopGradient" && same.source.node.inputs[0] === x;
}

/** `x` where `node` adds 0 to it or multiplies it by 1 without widening it. */
function identityOperand(node: Node, inputs: readonly Value[]): Value | undefined {
  const neutral = { Add: 0, Sub: 0, Mul: 1, Div: 1 }[node.op as string];
  if (neutral === undefined) return;
  const [a, b] = inputs;
  const keepsShape = (x: Value) => x.shape.length === node.outputs[0].shape.length;
  if (node.op === "Add" && isGradientOnly(b) && sameShape(a.shape, node.outputs[0].shape)) return a;
  if (uniformValue(b) === neutral && keepsShape(a)) return a;
  const commutes = node.op === "Add" || node.op === "Mul";
  return commutes && uniformValue(a) === neutral && keepsShape(b) ? b : undefined;
}

/** Replaces nodes of constants by their results, and drops additions of 0 and multiplications by 1. */
export function foldConstants(graph: Graph): Graph {
  return rewrite(graph, (node, inputs) => {
    const kept = identityOperand(node, inputs);
    if (kept) return [kept];
    const tensors = constantInputs(inputs);
    const largestInput = Math.max(0, ...(tensors ?? []).map((t) => elementCount(t.dims)));
    const fits = node.outputs.every(
      ({ shape, type }) =>
        shape.every((d) => typeof d === "number") &&
        type !== "float16" &&
        elementCount(shape as number[]) <= Math.max(smallResult, largestInput),
    );
    // 8-bit weights stay what they are: unfolding them is the runtime's business.
    if (node.op === "DequantizeLinear") return undefined;
    if (!tensors || !fits || tensors.some((t) => t.type === "float16")) return undefined;
    return evaluateNode(node, tensors).map((tensor) => constant(tensor));
  });
}
