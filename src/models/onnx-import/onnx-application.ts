// An ONNX file with a smaller backbone: what stood behind the teacher's blocks is put behind the student's.
import { create } from "@bufbuild/protobuf";
import { graph as makeGraph, input } from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import { verify } from "../../engine/graph/verify.ts";
import type { ModelDefinition } from "../definition.ts";
import { frozenWeights, vitForward } from "../vit.ts";
import type { Chunks } from "../../engine/onnx/chunks.ts";
import { modelChunks } from "../../engine/onnx/chunks.ts";
import type { ModelProto, NodeProto } from "../../engine/onnx/onnx_pb.ts";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProtoSchema,
  TensorProto_DataLocation,
} from "../../engine/onnx/onnx_pb.ts";
import { buildOnnx } from "../../engine/onnx/write-model.ts";
import { decomposeFor } from "../../engine/passes/decompose.ts";
import { tidy } from "../../engine/passes/tidy.ts";
import { UserError } from "../../utils/errors.ts";
import type { OnnxGraph } from "./onnx-graph.ts";
import { namesRead } from "./onnx-graph.ts";

/** ONNX versions that the writer knows. */
const [oldest, newest] = [13, 21];

/** In front of the student's own names, so that they meet none of the file's. */
const studentName = (name: string) => `student/${name}`;

function opsetOf(model: ModelProto, file: string): number {
  const version = Number(model.opsetImport.find(({ domain }) => domain === "" || domain === "ai.onnx")?.version ?? 0);
  if (version < oldest)
    throw new UserError(
      `${file} is of ONNX version ${version}; what stands behind its backbone can be kept from version ${oldest} on`,
      { code: "NOT_A_VIT" },
    );
  return Math.min(version, newest);
}

/** Nodes that make the outputs, back to the cuts; in their order. */
function tailOf({ graph }: OnnxGraph, cuts: ReadonlySet<string>): NodeProto[] {
  const needed = new Set(graph.output.map(({ name }) => name));
  const kept: NodeProto[] = [];
  for (const node of [...graph.node].reverse()) {
    if (!node.output.some((name) => needed.has(name) && !cuts.has(name))) continue;
    kept.push(node);
    for (const name of namesRead(node)) needed.add(name);
  }
  return kept.reverse();
}

/**
 * The file's bytes with `student` in the backbone's place. `blockOutputs` are the values that the teacher's blocks give
 * in the file; `stands[j]` is the teacher's block that the student's block j ends at.
 */
export function putBehind(
  source: OnnxGraph,
  inputName: string,
  blockOutputs: readonly string[],
  student: ModelDefinition,
  stands: readonly number[],
): Chunks {
  const opset = opsetOf(source.model, source.file);
  const { config } = student;
  const pixels = input(inputName, "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const { hiddenStates } = vitForward(config, frozenWeights(student.weights), pixels);
  const cuts = new Map(
    blockOutputs.map((name, block) => {
      const j = stands.findIndex((last) => last >= block);
      return [name, j < 0 ? config.depth : j + 1] as const;
    }),
  );
  const tail = tailOf(source, new Set(cuts.keys()));
  const read = new Set(tail.flatMap(namesRead));
  const results = source.graph.output.map(({ name }) => name);
  const used = [...cuts].filter(([name]) => read.has(name) || results.includes(name));
  const states = new Map(used.map(([, state]): [string, Value] => [`state.${state}`, hiddenStates[state]]));
  const built = decomposeFor(tidy(makeGraph([pixels], states), { target: "portable" }), opset);
  verify(built, "putBehind");
  const { proto } = buildOnnx(built, { weights: { kind: "inline", location: "" }, opset });
  const inner = proto.graph;
  if (!inner) throw new Error("the student's graph is missing");
  const rename = (name: string) => (name === "" || name === inputName ? name : studentName(name));
  const studentNodes = inner.node.map((node) =>
    create(NodeProtoSchema, {
      ...node,
      name: studentName(node.name),
      input: node.input.map(rename),
      output: node.output.map(rename),
    }),
  );
  // By the names that the tail reads, also from graphs inside of its nodes.
  const standing = used.map(([name, state]) =>
    create(NodeProtoSchema, { opType: "Identity", input: [studentName(`state.${state}`)], output: [name] }),
  );
  const tailInitializers = source.graph.initializer
    .filter(({ name }) => read.has(name))
    .map((tensor) =>
      tensor.dataLocation === TensorProto_DataLocation.EXTERNAL
        ? create(TensorProtoSchema, {
            ...tensor,
            dataLocation: TensorProto_DataLocation.DEFAULT,
            externalData: [],
            rawData: source.bytesOf(tensor) ?? new Uint8Array(),
          })
        : tensor,
    );
  const model = create(ModelProtoSchema, {
    ...source.model,
    producerName: "wecolora",
    graph: create(GraphProtoSchema, {
      ...source.graph,
      valueInfo: [],
      node: [...studentNodes, ...standing, ...tail],
      initializer: [
        ...inner.initializer.map((tensor) => create(TensorProtoSchema, { ...tensor, name: studentName(tensor.name) })),
        ...tailInitializers,
      ],
    }),
  });
  return modelChunks(model);
}
