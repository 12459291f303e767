// Some of what a graph reads and gives in half precision, for tensors that lie in memory from one graph to the next.
import { cast, input, mul } from "../graph/build.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { rewrite } from "../graph/walk.ts";

/**
 * Numbers are stored divided by this, so that ones of up to a million are finite; their precision is that of half precision from
 * 0.001 on, and 1e-6 below.
 */
const scale = 16;

/** The graph with float16 in place of some inputs and outputs, by name. All it computes stays float32. */
export function storedInHalf(graph: Graph, names: ReadonlySet<string>): Graph {
  const standIns = new Map<Value, Value>();
  const inputs = graph.inputs.map((old) => {
    if (old.source.kind !== "input" || !names.has(old.source.name)) return old;
    const stored = input(old.source.name, "float16", old.shape);
    standIns.set(old, mul(cast(stored, "float32"), scale));
    return stored;
  });
  const inside = rewrite(graph, () => undefined, standIns);
  const outputs = [...inside.outputs].map(([name, value]): [string, Value] => [
    name,
    names.has(name) ? cast(mul(value, 1 / scale), "float16") : value,
  ]);
  return { inputs, outputs: new Map(outputs) };
}
