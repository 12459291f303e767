// 8-bit products in ONNX's own operators, for files that every runtime reads. ONNX Runtime makes one operator of each again as it
// loads a file (MatMulIntegerToFloat, and DynamicQuantizeMatMul where one product alone reads the tokens), if it finds these nodes in
// this order: MatMulInteger, Cast, and a Mul by the product of both scales.
import { add, cast, matmulInteger, mul } from "../../graph/build.ts";
import type { Graph } from "../../graph/graph.ts";
import { rewrite } from "../../graph/walk.ts";
import { deduplicate } from "../deduplicate.ts";
import { int8Products } from "./int8-products.ts";
import { safeWeight } from "./quantize.ts";

/** Products of tokens with constant matrices in 8 bits, in operators that every runtime has. Run after constants are folded. */
export function portableInt8(graph: Graph): Graph {
  const quantized = deduplicate(int8Products(graph, { largest: safeWeight, parts: ["teacher"] }));
  return rewrite(quantized, (node, [q, weight, scale, columns, zero, bias]) => {
    if (node.op !== "MatMulIntegerToFloat") return undefined;
    const product = mul(cast(matmulInteger(q, weight, zero), "float32"), mul(scale, columns));
    return [bias ? add(product, bias) : product];
  });
}
