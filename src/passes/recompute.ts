// Activations computed anew where gradients need them, instead of kept from the forward pass (arXiv 1604.06174): of each
// block only what enters it is kept.
import { after, node as makeNode } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import { sortedNodes } from "../graph/walk.ts";
import type { Checkpoints } from "./checkpoints.ts";
import { between, rewriteGated } from "./checkpoints.ts";

/** Run before other passes, on a graph of a loss and its gradients. */
export function recompute(graph: Graph, checkpoints: Checkpoints): Graph {
  const { loss, states } = checkpoints;
  const order = sortedNodes([loss]);
  const forward = new Set(order);
  return rewriteGated(graph, checkpoints, (gates) => {
    /** What gradients read in place of a block's inner values. */
    const anew = new Map<Value, Value>();
    for (const [k, gate] of gates.entries()) {
      const inside = between(states[k], states[k + 1], order);
      // The runtime takes nodes as soon as their inputs are known, and activations that are computed anew too early are kept as
      // long as those of the forward pass.
      const copies = new Map<Value, Value>([[states[k], after(states[k], gate)]]);
      for (const node of order) {
        if (!inside.has(node)) continue;
        const inputs = node.inputs.map((v) => copies.get(v) ?? v);
        makeNode(node.op, inputs, node.attributes).outputs.forEach((copy, i) => {
          copies.set(node.outputs[i], copy);
          if (node.outputs[i] !== states[k + 1]) anew.set(node.outputs[i], copy);
        });
      }
    }
    return (node, inputs) => {
      if (forward.has(node) || !node.inputs.some((v) => anew.has(v))) return undefined;
      const read = node.inputs.map((v, i) => anew.get(v) ?? inputs[i]);
      return makeNode(node.op, read, node.attributes).outputs;
    };
  });
}
