// What attention and its gradients need not compute: scales that its products apply for nothing, and a sum over all pairs of tokens.
import { mul, node as makeNode, reduceSum, transposeLast } from "../graph/build.ts";
import type { Attributes } from "../graph/operators.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { nodeOf, readerCounts, rewrite } from "../graph/walk.ts";

type Product = Node<"MatMul"> | Node<"FusedMatMul">;

const onlyMoves = ({ op }: Node): boolean => op === "Reshape" || op === "Transpose";

/** Products of two stacks of matrices: attention's, not linear maps. */
function isStacked(node: Node): node is Product {
  return (node.op === "MatMul" || node.op === "FusedMatMul") && node.inputs.every(({ shape }) => shape.length > 2);
}

/** The factors of a product with a number. */
function scaledBy({ op, inputs }: Node): { x: Value; index: number; factor: number } | undefined {
  if (op !== "Mul") return undefined;
  for (const index of [0, 1]) {
    const { source, shape } = inputs[1 - index];
    if (source.kind === "constant" && shape.length === 0)
      return { x: inputs[index], index, factor: Number(source.tensor.data[0]) };
  }
  return undefined;
}

/** What a value is a multiple of, where a scale stands before it was shaped and transposed. */
function unscaled(value: Value): { value: Value; factor: number } | undefined {
  const moved: Node[] = [];
  for (let node = nodeOf(value); node; node = nodeOf(node.inputs[0])) {
    const scale = scaledBy(node);
    if (scale) return { value: movedAgain(scale.x, moved), factor: scale.factor };
    if (!onlyMoves(node)) return undefined;
    moved.push(node);
  }
  return undefined;
}

/** A value shaped and transposed as `moved` did, of which the last comes first. */
function movedAgain(value: Value, moved: readonly Node[]): Value {
  return moved.reduceRight((x, { op, attributes }) => makeNode(op, [x], attributes).outputs[0], value);
}

function timesAlpha({ inputs, attributes }: Product, factor: number): Value {
  const { transA, transB, alpha } = { transA: false, transB: false, alpha: 1, ...attributes };
  return makeNode("FusedMatMul", inputs, { transA, transB, alpha: alpha * factor }).outputs[0];
}

/** For ONNX Runtime only, after `fuseTransposes`: scales before and behind attention's products become theirs. */
export function fuseScales(graph: Graph): Graph {
  const readers = readerCounts(graph);
  /** A product and what only shapes and transposes it, times a factor; none of it is read by anything else. */
  const scaled = (old: Value, value: Value, factor: number): Value | undefined => {
    const moved: Node[] = [];
    let [before, node] = [nodeOf(old), nodeOf(value)];
    let read = old;
    while (before && node && before.op === node.op && readers.get(read) === 1) {
      if (isStacked(node)) return movedAgain(timesAlpha(node, factor), moved);
      if (!onlyMoves(node)) return undefined;
      moved.push(node);
      read = before.inputs[0];
      [before, node] = [nodeOf(read), nodeOf(node.inputs[0])];
    }
    return undefined;
  };
  return rewrite(graph, (node, inputs) => {
    if (isStacked(node)) {
      const scales = inputs.map(unscaled);
      if (!scales.some(Boolean)) return undefined;
      const factor = scales.reduce((product, x) => product * (x?.factor ?? 1), 1);
      const operands = inputs.map((x, i) => scales[i]?.value ?? x);
      return [timesAlpha({ ...node, inputs: operands } as Product, factor)];
    }
    const scale = scaledBy(node);
    const result = scale && scaled(scale.x, inputs[scale.index], scale.factor);
    return result && [result];
  });
}

/** Whether two values are one, or one value transposed in the same way. */
function same(a: Value, b: Value): boolean {
  const [left, right] = [nodeOf(a), nodeOf(b)];
  if (a === b || left?.op !== "Transpose" || right?.op !== "Transpose") return a === b;
  const perms = [left, right].map(({ attributes }) => (attributes as Attributes<"Transpose">).perm.join());
  return left.inputs[0] === right.inputs[0] && perms[0] === perms[1];
}

/**
 * The gradient of softmax P reads each row's sum of P (dO V^T). It is that of dO (P V), which is as wide as a head instead of as
 * long as all tokens are many, and P V is there (FlashAttention, arXiv 2205.14135, appendix B.2). Run before `fuseTransposes`.
 */
export function shortenSoftmaxGradients(graph: Graph): Graph {
  const products = new Map<Value, { values: Value; result: Value }[]>();
  /** dO (P V), where `dShares` is dO V^T. */
  const shorter = (shares: Value, dShares: Value): Value | undefined => {
    const gradient = nodeOf(dShares);
    if (gradient?.op !== "MatMul") return undefined;
    const [dResult, turned] = gradient.inputs;
    const product = products.get(shares)?.find(({ values }) => same(values, transposeLast(turned)));
    return product && mul(dResult, product.result);
  };
  return rewrite(graph, (node, inputs) => {
    if (node.op === "MatMul" && isStacked(node)) {
      const [shares, values] = inputs;
      const same = inputs.every((x, i) => x === node.inputs[i]);
      const result = same ? node.outputs[0] : makeNode("MatMul", inputs, {}).outputs[0];
      products.set(shares, [...(products.get(shares) ?? []), { values, result }]);
      return [result];
    }
    if (node.op !== "ReduceSum") return undefined;
    const { axes, keepDims } = (node as Node<"ReduceSum">).attributes;
    const product = nodeOf(inputs[0]);
    const rank = inputs[0].shape.length;
    if (product?.op !== "Mul" || axes.length !== 1 || (axes[0] !== -1 && axes[0] !== rank - 1)) return undefined;
    const [a, b] = product.inputs;
    const shorterForm = shorter(a, b) ?? shorter(b, a);
    return shorterForm && [reduceSum(shorterForm, axes, keepDims)];
  });
}
