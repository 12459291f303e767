// The passes that every graph goes through before it is written.
import type { Graph } from "../graph/types.ts";
import { verify } from "../graph/verify.ts";
import { deduplicate } from "./deduplicate.ts";
import { foldConstants } from "./fold-constants.ts";
import { fuseTransposes } from "./fuse-transposes.ts";

export interface PassOptions {
  /** `portable` keeps to ONNX's own operators; `onnxruntime` may use those of ONNX Runtime. */
  readonly target: "portable" | "onnxruntime";
}

type Pass = (graph: Graph) => Graph;

/**
 * Folds constants, merges common subexpressions, and for ONNX Runtime fuses transpositions into matrix products; the
 * graph is verified after each pass. Dead code needs no pass: a graph is what its outputs reach.
 */
export function tidy(graph: Graph, options: PassOptions): Graph {
  const passes: [string, Pass][] = [
    ["foldConstants", foldConstants],
    ["deduplicate", deduplicate],
  ];
  // Before folding, which would store each weight a second time, transposed.
  if (options.target === "onnxruntime") passes.unshift(["fuseTransposes", fuseTransposes]);
  verify(graph);
  return passes.reduce((current, [name, pass]) => {
    const next = pass(current);
    verify(next, name);
    return next;
  }, graph);
}
