// What passes share that change how a block's activations get from the forward pass to its gradients.
import { input } from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { rewrite, sortedNodes } from "../graph/walk.ts";
import { required } from "../../utils/required.ts";

export interface Checkpoints {
  readonly loss: Value;
  /** What enters the first block, and what each block gives. */
  readonly states: readonly Value[];
  /** The loss's gradient to each state; to the first it is not asked for. */
  readonly gradients: readonly Value[];
}

/** Nodes from one state to the next: those that read the first, directly or not, and that the second needs. */
export function between(from: Value, to: Value, order: readonly Node[]): Set<Node> {
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

/**
 * Rewrites a graph of a loss and its gradients with the help of `gates`: for each block a value that stands for the gradient
 * behind it, so that what reads it waits until the way back has come there.
 */
export function rewriteGated(
  graph: Graph,
  { gradients }: Checkpoints,
  replacing: (gates: readonly Value[]) => Parameters<typeof rewrite>[1],
): Graph {
  const behind = gradients.slice(1);
  const gates = behind.map(({ type, shape }, k) => input(late(k + 1), type, shape));
  const watched = behind.map((gradient, k): [string, Value] => [late(k + 1), gradient]);
  let rebuilt = rewrite({ ...graph, outputs: new Map([...graph.outputs, ...watched]) }, replacing(gates));
  // From the last block to the first: the gradient behind a block holds no gate but those behind it.
  for (const [k, gate] of [...gates.entries()].reverse()) {
    const gradient = required(rebuilt.outputs, late(k + 1));
    rebuilt = rewrite(rebuilt, () => undefined, new Map([[gate, gradient]]));
  }
  return {
    ...rebuilt,
    outputs: new Map([...graph.outputs.keys()].map((name) => [name, required(rebuilt.outputs, name)])),
  };
}
