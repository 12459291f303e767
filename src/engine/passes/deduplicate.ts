// Common subexpressions: nodes that compute the same from the same values become one, and so do equal constants.

import { node as makeNode } from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { rewrite } from "../graph/walk.ts";
import { wholeOf } from "../../utils/offloaded.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";

/** Constants up to this many elements are compared by content, larger ones by the identity of their data. */
const compareByContent = 64;

/** Merges equal nodes and equal constants. */
export function deduplicate(graph: Graph): Graph {
  const identities = new Map<object, number>();
  const identity = (key: object): number => {
    const earlier = identities.get(key);
    if (earlier !== undefined) return earlier;
    identities.set(key, identities.size);
    return identities.size - 1;
  };
  // Cut from the same memory: two views of the same bytes are the same constant.
  const place = (tensor: Tensor) => {
    const { whole, offset } = wholeOf(tensor);
    return `#${identity(whole)}:${offset}`;
  };
  const constants = new Map<string, Value>();
  const shared = (value: Value): Value => {
    if (value.source.kind !== "constant") return value;
    const { tensor } = value.source;
    const content = elementCount(tensor.dims) <= compareByContent ? `=${tensor.data.join()}` : place(tensor);
    const key = `${tensor.type}[${tensor.dims.join()}]${content}`;
    const earlier = constants.get(key);
    if (!earlier) constants.set(key, value);
    return earlier ?? value;
  };
  const nodes = new Map<string, Node>();
  return rewrite(graph, (old, inputs) => {
    const read = inputs.map(shared);
    const key = `${old.op}(${read.map(identity).join()})${JSON.stringify(old.attributes)}`;
    const earlier = nodes.get(key);
    if (earlier) return earlier.outputs;
    const kept = read.every((v, i) => v === old.inputs[i]) ? old : makeNode(old.op, read, old.attributes);
    nodes.set(key, kept);
    return kept.outputs;
  });
}
