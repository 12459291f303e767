// Activations computed anew where gradients need them, instead of kept from the forward pass (arXiv 1604.06174): of each
// block only what enters it is kept. So it is with weights that are made of what trains.
import { after, node as makeNode } from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { sortedNodes } from "../graph/walk.ts";
import type { Checkpoints } from "./gradient-checkpoints.ts";
import { between, rewriteGated } from "./gradient-checkpoints.ts";

/** Nodes that `inside` needs and that no tokens go through: products that make weights of adapters, and what is made of those. */
function weightNodes(inside: ReadonlySet<Node>, tokenNodes: ReadonlySet<Node>): Set<Node> {
  const nodes = new Set<Node>();
  const isFound = ({ source }: Value) => source.kind === "node" && nodes.has(source.node);
  for (const node of sortedNodes([...inside].flatMap(({ inputs }) => inputs)))
    if (!tokenNodes.has(node) && (node.op === "MatMul" || node.inputs.some(isFound))) nodes.add(node);
  return nodes;
}

/** Run before other passes, on a graph of a loss and its gradients. */
export function recompute(graph: Graph, checkpoints: Checkpoints): Graph {
  const { loss, states } = checkpoints;
  const order = sortedNodes([loss]);
  const forward = new Set(order);
  const tokenNodes = new Set([...sortedNodes([states[0]]), ...between(states[0], loss, order)]);
  return rewriteGated(graph, checkpoints, (gates) => {
    /** What gradients read in place of a block's inner values. */
    const anew = new Map<Value, Value>();
    for (const [k, gate] of gates.entries()) {
      const inside = between(states[k], states[k + 1], order);
      // The runtime takes nodes as soon as their inputs are known, and activations that are computed anew too early are kept as
      // long as those of the forward pass.
      const copies = new Map<Value, Value>([[states[k], after(states[k], gate)]]);
      const ofWeights = weightNodes(inside, tokenNodes);
      for (const node of order) {
        if (!inside.has(node) && !ofWeights.has(node)) continue;
        const inputs = node.inputs.map((v) => copies.get(v) ?? v);
        // A weight's product waits too.
        if (ofWeights.has(node) && node.op === "MatMul") inputs[0] = after(inputs[0], gate);
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
