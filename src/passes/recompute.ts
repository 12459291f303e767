// Activations computed anew where gradients need them, instead of kept from the forward pass (arXiv 1604.06174): of each
// block only what enters it is kept.
import { abs, greater, input, node as makeNode, reduceSum, slice, where } from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/types.ts";
import { rewrite, sortedNodes } from "../graph/walk.ts";

export interface Checkpoints {
  readonly loss: Value;
  /** What enters the first block, and what each block gives. */
  readonly states: readonly Value[];
  /** The loss's gradient to each state; to the first it is not asked for. */
  readonly gradients: readonly Value[];
}

/**
 * `x` itself, but not before `gate` is there: the runtime takes nodes as soon as their inputs are known, and activations that
 * are computed anew too early are kept as long as those of the forward pass.
 */
function after(x: Value, gate: Value): Value {
  const rank = gate.shape.length;
  let corner = gate;
  for (let axis = 0; axis < rank; axis++) corner = slice(corner, axis, 0, 1);
  // Nothing is greater than infinity, and what is not a number is not greater than anything.
  return where(greater(abs(reduceSum(corner)), Number.POSITIVE_INFINITY), gate, x);
}

/** Nodes from one state to the next: those that read the first, directly or not, and that the second needs. */
function between(from: Value, to: Value, order: readonly Node[]): Set<Node> {
  const reached = new Set<Value>([from]);
  const inside = order.filter((node) => {
    if (!node.inputs.some((v) => reached.has(v))) return false;
    for (const v of node.outputs) reached.add(v);
    return true;
  });
  const needed = new Set(sortedNodes([to]));
  return new Set(inside.filter((node) => needed.has(node)));
}

const late = (state: number) => `late.${state}`;

/** Run before other passes, on a graph of a loss and its gradients. */
export function recompute(graph: Graph, { loss, states, gradients }: Checkpoints): Graph {
  const order = sortedNodes([loss]);
  const forward = new Set(order);
  /** What gradients read in place of a block's inner values. */
  const anew = new Map<Value, Value>();
  const blocks = states.slice(0, -1).map((state, k) => {
    // Stands for the gradient behind the block until that is rebuilt.
    const gate = input(late(k + 1), gradients[k + 1].type, gradients[k + 1].shape);
    const inside = between(state, states[k + 1], order);
    const copies = new Map<Value, Value>([[state, after(state, gate)]]);
    for (const node of order) {
      if (!inside.has(node)) continue;
      const inputs = node.inputs.map((v) => copies.get(v) ?? v);
      makeNode(node.op, inputs, node.attributes).outputs.forEach((copy, i) => {
        copies.set(node.outputs[i], copy);
        if (node.outputs[i] !== states[k + 1]) anew.set(node.outputs[i], copy);
      });
    }
    return { state: k + 1, gate };
  });
  const watched = blocks.map(({ state }): [string, Value] => [late(state), gradients[state]]);
  let rebuilt = rewrite({ ...graph, outputs: new Map([...graph.outputs, ...watched]) }, (node, inputs) => {
    if (forward.has(node) || !node.inputs.some((v) => anew.has(v))) return undefined;
    const read = node.inputs.map((v, i) => anew.get(v) ?? inputs[i]);
    return makeNode(node.op, read, node.attributes).outputs;
  });
  // From the last block to the first: the gradient behind a block holds no gate but those behind it.
  for (const { state, gate } of blocks.reverse()) {
    const gradient = rebuilt.outputs.get(late(state)) as Value;
    rebuilt = rewrite(rebuilt, () => undefined, new Map([[gate, gradient]]));
  }
  return {
    ...rebuilt,
    outputs: new Map([...graph.outputs.keys()].map((name) => [name, rebuilt.outputs.get(name) as Value])),
  };
}
