// A ModelProto as chunks of bytes. The protobuf library copies a weight once for each message that it lies in, which takes several
// times the file's size; here it writes only what is around the weights.
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { clearField, create, isFieldSet, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { GraphProto, ModelProto, TensorProto } from "./onnx_pb.ts";
import { GraphProtoSchema, ModelProtoSchema, TensorProtoSchema } from "./onnx_pb.ts";

/** A file's bytes, in order. */
export type Chunks = readonly Uint8Array[];

/** A message's bytes without one of its fields. */
function around(schema: DescMessage, message: Message, omitted: DescField): Uint8Array {
  const copy = Object.assign(create(schema), message);
  clearField(copy, omitted);
  return toBinary(schema, copy);
}

/** A field of bytes, or of a message in bytes. */
function field({ number }: DescField, content: Chunks): Chunks {
  const length = content.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return [new BinaryWriter().tag(number, WireType.LengthDelimited).uint32(length).finish(), ...content];
}

function tensorChunks(tensor: TensorProto): Chunks {
  const { rawData } = TensorProtoSchema.field;
  const rest = around(TensorProtoSchema, tensor, rawData);
  return isFieldSet(tensor, rawData) ? [rest, ...field(rawData, [tensor.rawData])] : [rest];
}

function graphChunks(graph: GraphProto): Chunks {
  const { initializer } = GraphProtoSchema.field;
  const tensors = graph.initializer.flatMap((tensor) => field(initializer, tensorChunks(tensor)));
  return [around(GraphProtoSchema, graph, initializer), ...tensors];
}

/** The bytes of an ONNX file in order; those of weights (`raw_data`) are not copied. */
export function modelChunks(model: ModelProto): Chunks {
  const { graph } = ModelProtoSchema.field;
  const rest = around(ModelProtoSchema, model, graph);
  return model.graph ? [rest, ...field(graph, graphChunks(model.graph))] : [rest];
}
