// Graph to session: the one place that joins the graph side with the runtime side.
import type { Graph } from "./graph/types.ts";
import { writeOnnx } from "./onnx/write.ts";
import { tidy } from "./passes/tidy.ts";
import type { Device, Session, SessionOptions } from "./runtime/types.ts";

/** Tidies a graph, writes it and opens a session. Weights are handed over where they lie, without a copy in between. */
export async function compile(graph: Graph, device: Device, options?: SessionOptions): Promise<Session> {
  const { model, externalData } = writeOnnx(tidy(graph, { target: "onnxruntime" }), { weights: { kind: "separate" } });
  return device.createSession({ model, externalData }, options);
}
