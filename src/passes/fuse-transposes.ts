// Matrix products that read a transposed operand where it lies. Spares a copy of each weight (`x W^T` reads W as it is
// stored) and of each activation that a gradient reads transposed.
import { node as makeNode } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import { rewrite } from "../graph/walk.ts";

/** The operand before a transposition of its last two axes. */
function beforeTranspose(value: Value): Value | undefined {
  if (value.source.kind !== "node" || value.source.node.op !== "Transpose") return;
  const { perm } = value.source.node.attributes as { perm: readonly number[] };
  const rank = perm.length;
  const swapsLast = perm.every((p, i) => p === (i === rank - 1 ? rank - 2 : i === rank - 2 ? rank - 1 : i));
  return rank >= 2 && swapsLast ? value.source.node.inputs[0] : undefined;
}

/** For ONNX Runtime only: the result holds its own operator `FusedMatMul`. Run after differentiation. */
export function fuseTransposes(graph: Graph): Graph {
  return rewrite(graph, (node, inputs) => {
    if (node.op !== "MatMul") return undefined;
    const [a, b] = [beforeTranspose(inputs[0]), beforeTranspose(inputs[1])];
    if (!a && !b) return undefined;
    return makeNode("FusedMatMul", [a ?? inputs[0], b ?? inputs[1]], { transA: !!a, transB: !!b }).outputs;
  });
}
