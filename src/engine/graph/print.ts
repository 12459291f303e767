// A graph as text, one line a node, for people and for comparing in tests.
import { elementCount } from "../../utils/tensor.ts";
import type { Graph, Value } from "./graph.ts";
import { formatType } from "./graph.ts";
import { sortedNodes } from "./walk.ts";
import { required } from "../../utils/required.ts";

/** Names for all values: inputs and constants by their own name where they have one, the rest numbered. */
export function valueNames(graph: Graph): Map<Value, string> {
  const names = new Map<Value, string>();
  const taken = new Set<string>();
  /** Numbers that names wanted again were given last: to count from 2 for each would take the square of their number. */
  const repeated = new Map<string, number>();
  const give = (value: Value, wanted: string) => {
    let name = wanted;
    let count = repeated.get(wanted) ?? 1;
    while (taken.has(name)) name = `${wanted}.${++count}`;
    repeated.set(wanted, count);
    taken.add(name);
    names.set(value, name);
  };
  for (const value of graph.inputs) if (value.source.kind === "input") give(value, value.source.name);
  for (const [name, value] of graph.outputs) if (value.source.kind === "node" && !names.has(value)) give(value, name);
  let count = 0;
  const nameRead = (value: Value) => {
    if (value.source.kind === "constant" && !names.has(value)) give(value, value.source.name ?? `c${count++}`);
  };
  for (const node of sortedNodes(graph.outputs.values())) {
    node.inputs.forEach(nameRead);
    for (const value of node.outputs) if (!names.has(value)) give(value, `v${count++}`);
  }
  for (const value of graph.outputs.values()) nameRead(value);
  return names;
}

/** The whole graph as text: `v3: float32[2, 4] = MatMul(v1, v2)`. Small constants show their numbers. */
export function print(graph: Graph): string {
  const names = valueNames(graph);
  const show = (value: Value): string => {
    if (value.source.kind === "constant" && elementCount(value.source.tensor.dims) === 1) {
      return String(value.source.tensor.data[0]);
    }
    return required(names, value);
  };
  const lines = graph.inputs.map((v) => `input ${names.get(v)}: ${formatType(v)}`);
  for (const node of sortedNodes(graph.outputs.values())) {
    const attributes = Object.entries(node.attributes).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
    const results = node.outputs.map((v) => `${names.get(v)}: ${formatType(v)}`).join(", ");
    lines.push(`${results} = ${node.op}(${[...node.inputs.map(show), ...attributes].join(", ")})`);
  }
  for (const [name, value] of graph.outputs) lines.push(`output ${name} = ${show(value)}`);
  return lines.join("\n");
}
