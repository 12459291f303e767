// Graph to session: the one place that joins the graph side with the runtime side.
import type { Graph } from "./graph/types.ts";
import { writeOnnx } from "./onnx/write.ts";
import type { PassOptions } from "./passes/tidy.ts";
import { tidy } from "./passes/tidy.ts";
import type { Device, Session, SessionOptions } from "./runtime/types.ts";

export type CompileOptions = SessionOptions & Pick<PassOptions, "int8">;

/** Tidies a graph, writes it and opens a session. Weights are handed over where they lie, without a copy in between. */
export async function compile(
  graph: Graph,
  device: Device,
  { int8, ...session }: CompileOptions = {},
): Promise<Session> {
  const tidied = tidy(graph, { target: "onnxruntime", int8 });
  const { model, externalData } = writeOnnx(tidied, { weights: { kind: "separate" } });
  return device.createSession({ model, externalData }, session);
}
