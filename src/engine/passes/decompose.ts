// Operators that older ONNX versions lack, in those that they have.
import { add, div, erf, mul, pow, reduceMean, sqrt, sub, tanh } from "../graph/build.ts";
import type { Attributes } from "../graph/operators.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { rewrite } from "../graph/walk.ts";

/** ONNX versions in which operators came. */
const since = { LayerNormalization: 17, Gelu: 20 } as const;

function norm(x: Value, weight: Value, bias: Value, epsilon: number): Value {
  const centred = sub(x, reduceMean(x, [-1], true));
  const variance = reduceMean(mul(centred, centred), [-1], true);
  return add(mul(div(centred, sqrt(add(variance, epsilon))), weight), bias);
}

function gelu(x: Value, approximate: "none" | "tanh"): Value {
  if (approximate === "none") return mul(mul(x, 0.5), add(erf(mul(x, Math.SQRT1_2)), 1));
  const inner = mul(add(x, mul(pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
  return mul(mul(x, 0.5), add(tanh(inner), 1));
}

/** The graph in operators that ONNX version `opset` has; from the newest on it stays as it is. */
export function decomposeFor(graph: Graph, opset: number): Graph {
  return rewrite(graph, (node, inputs) => {
    if (node.op === "LayerNormalization" && opset < since.LayerNormalization) {
      const { epsilon } = node.attributes as Attributes<"LayerNormalization">;
      return [norm(inputs[0], inputs[1], inputs[2], epsilon), ...node.outputs.slice(1)];
    }
    if (node.op === "Gelu" && opset < since.Gelu) {
      return [gelu(inputs[0], (node.attributes as Attributes<"Gelu">).approximate)];
    }
    return undefined;
  });
}
