// Orders of nodes and rebuilding of graphs: what verifier, printer, passes and writer share.
import { node as makeNode } from "./build.ts";
import type { Graph, Node, Value } from "./graph.ts";

/** The nodes that reach `roots`, each after what it reads. A node that reads itself is an error. */
export function sortedNodes(roots: Iterable<Value>): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, "open" | "done">();
  for (const root of roots) {
    if (root.source.kind !== "node") continue;
    // Depth first without recursion: graphs of hundreds of blocks must not overflow the stack.
    const stack = [{ node: root.source.node, next: 0 }];
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      if (top.next === 0) {
        if (state.get(top.node) === "done") {
          stack.pop();
          continue;
        }
        state.set(top.node, "open");
      }
      const read = top.node.inputs[top.next++];
      if (!read) {
        state.set(top.node, "done");
        order.push(top.node);
        stack.pop();
      } else if (read.source.kind === "node") {
        const reached = state.get(read.source.node);
        if (reached === "open") throw new Error(`the graph has a cycle through ${read.source.node.op}`);
        if (!reached) stack.push({ node: read.source.node, next: 0 });
      }
    }
  }
  return order;
}

/** The node that makes a value; of inputs and constants, none. */
export function nodeOf({ source }: Value): Node | undefined {
  return source.kind === "node" ? source.node : undefined;
}

/** Number of nodes that read each value; a graph output counts as one reader more. */
export function readerCounts(graph: Graph): Map<Value, number> {
  const counts = new Map<Value, number>();
  const count = (v: Value) => counts.set(v, (counts.get(v) ?? 0) + 1);
  for (const n of sortedNodes(graph.outputs.values())) n.inputs.forEach(count);
  for (const v of graph.outputs.values()) count(v);
  return counts;
}

/**
 * Rebuilds a graph from its inputs on. `replace` sees each node with its inputs already rebuilt and answers with the
 * values that stand for its outputs, or undefined to keep the node.
 */
export function rewrite(
  graph: Graph,
  replace: (node: Node, inputs: readonly Value[]) => readonly Value[] | undefined,
  /** Values that stand for others from the start on; what they are made of must not need rewriting itself. */
  standIns: ReadonlyMap<Value, Value> = new Map(),
): Graph {
  const replaced = new Map(standIns);
  const lookUp = (v: Value) => replaced.get(v) ?? v;
  for (const old of sortedNodes(graph.outputs.values())) {
    const inputs = old.inputs.map(lookUp);
    const unchanged = inputs.every((v, i) => v === old.inputs[i]);
    const outputs = replace(old, inputs) ?? (unchanged ? old : makeNode(old.op, inputs, old.attributes)).outputs;
    old.outputs.forEach((v, i) => {
      if (outputs[i] !== v) replaced.set(v, outputs[i]);
    });
  }
  return {
    inputs: graph.inputs,
    outputs: new Map([...graph.outputs].map(([name, value]) => [name, lookUp(value)])),
  };
}
