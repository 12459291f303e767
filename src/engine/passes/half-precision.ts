// A graph that computes in half precision, for files half as large; what goes in and comes out stays float32.
import { cast, constant, node as makeNode } from "../graph/build.ts";
import type { Attributes } from "../graph/operators.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { sortedNodes } from "../graph/walk.ts";
import { fromFloat32 } from "../../utils/half.ts";
import type { FloatTensor } from "../../utils/tensor.ts";

/** Rebuilds every float32 value as float16. Run last: constants of half precision are not folded. */
export function toHalf(graph: Graph): Graph {
  const halved = new Map<Value, Value>();
  const half = (value: Value): Value => {
    const half = halved.get(value);
    if (half) return half;
    let made = value;
    if (value.type === "float32") {
      made =
        value.source.kind === "constant"
          ? constant(fromFloat32(value.source.tensor as FloatTensor, "float16"), value.source.name)
          : cast(value, "float16");
    }
    halved.set(value, made);
    return made;
  };
  for (const old of sortedNodes(graph.outputs.values())) {
    const inputs = old.inputs.map(half);
    const attributes =
      old.op === "Cast" && (old.attributes as Attributes<"Cast">).to === "float32"
        ? { to: "float16" as const }
        : old.attributes;
    const { outputs } = makeNode(old.op, inputs, attributes);
    old.outputs.forEach((v, i) => halved.set(v, outputs[i]));
  }
  const outputs = [...graph.outputs].map(([name, value]): [string, Value] => [
    name,
    value.type === "float32" ? cast(half(value), "float32") : half(value),
  ]);
  return { inputs: graph.inputs, outputs: new Map(outputs) };
}
