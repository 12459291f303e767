// Scales behind linear maps, folded into the maps: (x W + b) g = x (W g) + b g for constants W `[K, N]`, b `[N]` and g, one number
// or `[N]`. Attention's scale and LayerScale are such, and each is a pass over all tokens. For files in float32: sessions of our own
// share their weights as they are, and half precision would round small scales' products.
import { add, constant, matmul } from "../graph/build.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { nodeOf, readerCounts, rewrite } from "../graph/walk.ts";
import type { Tensor } from "../../utils/tensor.ts";

function floatsOf({ source }: Value): Tensor<"float32"> | undefined {
  if (source.kind !== "constant" || source.tensor.type !== "float32") return undefined;
  return source.tensor as Tensor<"float32">;
}

/** A matrix or a row, each of its columns times its number of `scale`. */
function scaledColumns({ type, dims, data }: Tensor<"float32">, scale: Float32Array): Value {
  const columns = dims[dims.length - 1];
  const factor = (i: number) => (scale.length === 1 ? scale[0] : scale[i % columns]);
  return constant({ type, dims, data: data.map((v, i) => v * factor(i)) });
}

/** Folds scales into the maps before them, where nothing else reads what these give. Run after constants are folded. */
export function foldScales(graph: Graph): Graph {
  const readers = readerCounts(graph);
  const isReadOnce = (value: Value) => readers.get(value) === 1;

  /** A product with a constant matrix, times a scale; `old` is what it was before the graph was rewritten. */
  const scaledProduct = (old: Value, value: Value, scale: Float32Array): Value | undefined => {
    const product = nodeOf(value);
    const weight = product?.op === "MatMul" ? floatsOf(product.inputs[1]) : undefined;
    if (!product || weight?.dims.length !== 2 || !isReadOnce(old)) return undefined;
    // A weight that several products read would be stored several times.
    if (!isReadOnce(product.inputs[1]) || (scale.length !== 1 && scale.length !== weight.dims[1])) return undefined;
    return matmul(product.inputs[0], scaledColumns(weight, scale));
  };

  /** A product and maybe its bias, times a scale. */
  const scaledMap = (old: Value, value: Value, scale: Float32Array): Value | undefined => {
    const [before, sum] = [nodeOf(old), nodeOf(value)];
    if (before?.op !== "Add" || sum?.op !== "Add") return scaledProduct(old, value, scale);
    const biasPlace = sum.inputs.findIndex((given) => floatsOf(given)?.dims.length === 1);
    if (biasPlace < 0 || !isReadOnce(old)) return undefined;
    const bias = floatsOf(sum.inputs[biasPlace]);
    const product = scaledProduct(before.inputs[1 - biasPlace], sum.inputs[1 - biasPlace], scale);
    const columns = product?.shape.at(-1);
    return product && bias && bias.dims[0] === columns ? add(product, scaledColumns(bias, scale)) : undefined;
  };

  return rewrite(graph, (node, inputs) => {
    if (node.op !== "Mul") return undefined;
    const scalePlace = inputs.findIndex((given) => (floatsOf(given)?.dims.length ?? 2) <= 1);
    const scale = scalePlace < 0 ? undefined : floatsOf(inputs[scalePlace]);
    const folded = scale && scaledMap(node.inputs[1 - scalePlace], inputs[1 - scalePlace], scale.data);
    return folded && [folded];
  });
}
