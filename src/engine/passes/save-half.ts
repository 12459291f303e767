// Activations saved for the gradients in half precision: half the memory, for a rounding of 2^-11 of each number.
import { after, cast, cornersOf, node as makeNode, reshape } from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { sortedNodes } from "../graph/walk.ts";
import type { Checkpoints } from "./gradient-checkpoints.ts";
import { between, rewriteGated } from "./gradient-checkpoints.ts";

/** Vectors of tokens, or of their attention; weights have no batch, and a norm's statistics are few. */
const isWorthIt = ({ type, shape }: Value): boolean => type === "float32" && shape.length >= 3 && shape.at(-1) !== 1;

/**
 * Gradients read half-precision copies of what lies inside a block; all that is computed stays float32, and so do the blocks'
 * outputs. Run before other passes, on a graph of a loss and its gradients whose dimensions are known.
 */
export function saveInHalf(graph: Graph, checkpoints: Checkpoints): Graph {
  const { loss, states } = checkpoints;
  const order = sortedNodes([loss]);
  const forward = new Set(order);
  const blockOf = new Map<Node, number>();
  for (let k = 0; k + 1 < states.length; k++)
    for (const node of between(states[k], states[k + 1], order)) blockOf.set(node, k);
  const read = new Set(sortedNodes(graph.outputs.values()).flatMap((node) => (forward.has(node) ? [] : node.inputs)));
  return rewriteGated(graph, checkpoints, (gates) => {
    /** What gradients read in place of a block's inner values. */
    const saved = new Map<Value, Value>();
    /** Of each block, all its copies. */
    const copies = gates.map((): Value[] => []);
    return (node, inputs) => {
      const k = blockOf.get(node);
      if (k === undefined) {
        if (forward.has(node) || !node.inputs.some((v) => saved.has(v))) return undefined;
        const given = node.inputs.map((v, i) => saved.get(v) ?? inputs[i]);
        return makeNode(node.op, given, node.attributes).outputs;
      }
      const { outputs } = makeNode(node.op, inputs, node.attributes);
      return node.outputs.map((old, i) => {
        const output = outputs[i];
        // Copies would else be made when gradients ask for them, and what they are made of be kept until then.
        if (old === states[k + 1]) return copies[k].length > 0 ? after(output, cornersOf(copies[k])) : output;
        const viewed = node.op === "Reshape" ? saved.get(node.inputs[0]) : undefined;
        if (viewed) {
          saved.set(old, reshape(viewed, old.shape));
        } else if (read.has(old) && isWorthIt(old)) {
          const half = cast(output, "float16");
          copies[k].push(half);
          saved.set(old, cast(after(half, gates[k]), "float32"));
        }
        return output;
      });
    };
  });
}
