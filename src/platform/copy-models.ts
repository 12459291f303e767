// Models that do nothing but copy, for what ONNX Runtime's API can't move by itself.
import { graph, input, stopGradient } from "../engine/graph/build.ts";
import { writeOnnx } from "../engine/onnx/write-model.ts";

/** Graphs of one node that give what they are fed, by rank: see OnnxDeviceOptions. */
export function copyModels(): Uint8Array[] {
  return Array.from({ length: 6 }, (_, rank) => {
    const x = input(
      "x",
      "float32",
      Array.from({ length: rank }, (_, i) => `d${i}`),
    );
    return writeOnnx(graph([x], { y: stopGradient(x) }), { weights: { kind: "separate" } }).model;
  });
}
