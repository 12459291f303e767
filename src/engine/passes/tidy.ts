// The passes that every graph goes through before it is written.
import type { Graph } from "../graph/graph.ts";
import { debug } from "../../utils/debug.ts";
import { print } from "../graph/print.ts";
import { verify } from "../graph/verify.ts";
import { sortedNodes } from "../graph/walk.ts";
import { fuseScales, shortenSoftmaxGradients } from "./attention.ts";
import { deduplicate } from "./deduplicate.ts";
import { foldConstants } from "./fold-constants.ts";
import { fuseTransposes } from "./fuse-transposes.ts";
import type { Int8Inputs, Int8Options } from "./int8/int8-products.ts";
import { int8Products } from "./int8/int8-products.ts";
import type { UnrollOptions } from "./unroll.ts";
import { unroll } from "./unroll.ts";

export interface PassOptions {
  /** `portable` keeps to ONNX's own operators; `onnxruntime` may use those of ONNX Runtime. */
  readonly target: "portable" | "onnxruntime";
  /** For ONNX Runtime: products with frozen weights and with adapters in 8 bits. */
  readonly int8?: Int8Options & { readonly inputs?: Int8Inputs };
  /** Takes the images of a run in turns, and adds up what is a sum. */
  readonly unrolled?: UnrollOptions;
}

const nodeCount = ({ outputs }: Graph): number => sortedNodes(outputs.values()).length;

type Pass = (graph: Graph) => Graph;

/**
 * Shortens softmax's gradients, folds constants, merges common subexpressions, and for ONNX Runtime fuses transpositions and scales
 * into matrix products; the graph is verified after each pass. Dead code needs no pass: a graph is what its outputs reach.
 */
export function tidy(graph: Graph, options: PassOptions): Graph {
  const { int8, unrolled } = options;
  const forRuntime: [string, Pass][] =
    options.target === "onnxruntime"
      ? [
          ["fuseTransposes", fuseTransposes],
          ["fuseScales", fuseScales],
        ]
      : [];
  const passes: [string, Pass][] = [
    ["shortenSoftmaxGradients", shortenSoftmaxGradients],
    // Before folding, which would store each weight a second time, transposed.
    ...forRuntime,
    // Before folding too, which would make two constants of what two parts of a graph do to one weight.
    ["deduplicate", deduplicate],
    ["foldConstants", foldConstants],
    ["deduplicate", deduplicate],
  ];
  if (int8) passes.push(["int8Products", (g) => int8Products(g, int8, int8.inputs)], ["deduplicate", deduplicate]);
  if (unrolled) passes.push(["unroll", (g) => unroll(g, unrolled)]);
  verify(graph);
  debug("graph", () => `graph of ${nodeCount(graph)} nodes before passes\n${print(graph)}`);
  const tidied = passes.reduce((current, [name, pass]) => {
    const next = pass(current);
    verify(next, name);
    debug("passes", () => `${name}: ${nodeCount(current)} nodes before, ${nodeCount(next)} after\n${print(next)}`);
    return next;
  }, graph);
  debug("graph", () => `graph of ${nodeCount(tidied)} nodes after passes\n${print(tidied)}`);
  return tidied;
}
