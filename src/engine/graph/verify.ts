// Checks that a graph holds together; run after each pass.
import { inferTypes } from "./build.ts";
import { sameShape } from "./shapes.ts";
import type { Graph, Value } from "./graph.ts";
import { formatType } from "./graph.ts";
import { sortedNodes } from "./walk.ts";

/** Throws on a cycle, a wrong type or shape, an input not listed, or two inputs of one name. */
export function verify(graph: Graph, after = "building"): void {
  const fail = (message: string): never => {
    throw new Error(`graph wrong after ${after}: ${message}`);
  };
  const names = new Set<string>();
  const listed = new Set<Value>(graph.inputs);
  for (const value of graph.inputs) {
    if (value.source.kind !== "input") fail(`a ${value.source.kind} is listed among the inputs`);
    else if (names.has(value.source.name)) fail(`two inputs are named ${value.source.name}`);
    else names.add(value.source.name);
  }
  const checkRead = (value: Value, by: string) => {
    if (value.source.kind === "input" && !listed.has(value))
      fail(`${by} reads the unlisted input ${value.source.name}`);
    if (value.source.kind === "constant" && !sameShape(value.shape, value.source.tensor.dims)) {
      fail(`the constant ${formatType(value)} that ${by} reads has data of [${value.source.tensor.dims.join(", ")}]`);
    }
  };
  for (const node of sortedNodes(graph.outputs.values())) {
    for (const value of node.inputs) checkRead(value, node.op);
    const types = inferTypes(node.op, node.inputs, node.attributes);
    types.forEach((type, i) => {
      const value = node.outputs[i];
      if (type.type !== value.type || !sameShape(type.shape, value.shape)) {
        fail(`${node.op} gives ${formatType(type)} but is marked ${formatType(value)}`);
      }
    });
  }
  for (const [name, value] of graph.outputs) {
    if (names.has(name)) fail(`the output ${name} has the name of an input`);
    checkRead(value, `output ${name}`);
  }
}
