// Matrix products that read a transposed operand where it lies, and whose transposed result is computed as such. Spares a
// copy of each weight (`x W^T` reads W as it is stored), of each activation that a gradient reads transposed, and of
// gradients of weights, which come out as they are stored.
import { node as makeNode, transpose } from "../graph/build.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { readerCounts, rewrite } from "../graph/walk.ts";

/** The permutation that, followed by an exchange of the last two axes, is `perm`; where it copies whole rows. */
function beforeSwap(perm: readonly number[]): readonly number[] | undefined {
  const rank = perm.length;
  return rank >= 2 && perm[rank - 2] === rank - 1 ? [...perm.slice(0, -2), perm[rank - 1], rank - 1] : undefined;
}

/** The permutation that, after an exchange of the last two axes, is `perm`; where it copies whole rows. */
function afterSwap(perm: readonly number[]): readonly number[] | undefined {
  const rank = perm.length;
  if (rank < 2 || perm[rank - 1] !== rank - 2) return undefined;
  return perm.map((p) => (p === rank - 1 ? rank - 2 : p === rank - 2 ? rank - 1 : p));
}

/** The operand before a transposition of its last two axes; what else the transposition did stays. */
function beforeTranspose(value: Value): Value | undefined {
  if (value.source.kind !== "node" || value.source.node.op !== "Transpose") return undefined;
  const { attributes, inputs } = value.source.node as Node<"Transpose">;
  const permutation = beforeSwap(attributes.perm);
  return permutation && transpose(inputs[0], permutation);
}

/** `a b`, with each operand read transposed where it says so. */
function product(a: Value, b: Value, transA: boolean, transB: boolean): Value {
  const [a0, b0] = [beforeTranspose(a), beforeTranspose(b)];
  return makeNode("FusedMatMul", [a0 ?? a, b0 ?? b], { transA: transA !== !!a0, transB: transB !== !!b0, alpha: 1 })
    .outputs[0];
}

/** For ONNX Runtime only: the result holds its own operator `FusedMatMul`. Run after differentiation. */
export function fuseTransposes(graph: Graph): Graph {
  const readers = readerCounts(graph);
  return rewrite(graph, (node, inputs) => {
    if (node.op === "MatMul") {
      const [a, b] = inputs;
      return beforeTranspose(a) || beforeTranspose(b) ? [product(a, b, false, false)] : undefined;
    }
    if (node.op !== "Transpose" || readers.get(node.inputs[0]) !== 1) return undefined;
    const permutation = afterSwap((node as Node<"Transpose">).attributes.perm);
    const { source } = inputs[0];
    if (!permutation || source.kind !== "node" || (source.node.op !== "MatMul" && source.node.op !== "FusedMatMul"))
      return undefined;
    // (a b)^T = b^T a^T. Operands of other ranks would make one product many.
    const [a, b] = source.node.inputs;
    if (a.shape.length !== b.shape.length) return undefined;
    const { transA = false, transB = false } = source.node.attributes as { transA?: boolean; transB?: boolean };
    return [transpose(product(b, a, !transB, !transA), permutation)];
  });
}
