// An ONNX model of half precision computed in float32: its weights keep their values, and what it computes no longer depends on
// how a runtime rounds in between. What is read out of it can then be proved exactly.
import { create } from "@bufbuild/protobuf";
import type {
  AttributeProto,
  GraphProto,
  ModelProto,
  NodeProto,
  TensorProto,
  ValueInfoProto,
} from "../../engine/onnx/onnx_pb.ts";
import {
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType as OnnxType,
  TensorProtoSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from "../../engine/onnx/onnx_pb.ts";
import type { WeightType } from "../../utils/half.ts";
import { bfloatToFloat, halfToFloat } from "../../utils/half.ts";
import { elementCount, viewBytes } from "../../utils/tensor.ts";
import type { ExternalFiles } from "./onnx-graph.ts";
import { OnnxGraph, tensorsOf } from "./onnx-graph.ts";

const halves: ReadonlySet<number> = new Set([OnnxType.FLOAT16, OnnxType.BFLOAT16]);
const widened = (type: number): number => (halves.has(type) ? OnnxType.FLOAT : type);

/** Where widened weights are kept: beside the model, since a model's own bytes are limited to 2 GiB. */
const locationOf = (index: number) => `float32/${index}`;
/** Smaller ones stand in the model: ONNX Runtime reads shapes before it has external data. */
const externalFrom = 1024;

/** The type that most of a model's numbers are stored in. */
export function storedTypeOf(model: ModelProto): WeightType {
  const counts = { float32: 0, float16: 0, bfloat16: 0 };
  for (const { dataType, dims } of model.graph ? tensorsOf(model.graph) : []) {
    const count = elementCount(dims.map(Number));
    if (dataType === OnnxType.FLOAT) counts.float32 += count;
    if (dataType === OnnxType.FLOAT16) counts.float16 += count;
    if (dataType === OnnxType.BFLOAT16) counts.bfloat16 += count;
  }
  if (counts.float16 > counts.float32 + counts.bfloat16) return "float16";
  return counts.bfloat16 > counts.float32 ? "bfloat16" : "float32";
}

/** The graph with float32 in place of float16 and bfloat16 everywhere, and with small constants in the model. */
export function inFloat32(source: OnnxGraph, external: ExternalFiles): OnnxGraph {
  const { graph } = source;
  const isHalf = ({ type }: ValueInfoProto) =>
    type?.value.case === "tensorType" && halves.has(type.value.value.elemType);
  const casts = graph.node.some(({ opType, attribute }) =>
    attribute.some(({ name, i }) => opType === "Cast" && name === "to" && halves.has(Number(i))),
  );
  const has =
    tensorsOf(graph).some(({ dataType }) => halves.has(dataType)) || [...graph.input, ...graph.output].some(isHalf);
  const isSmall = (tensor: TensorProto) =>
    tensor.dataLocation === TensorProto_DataLocation.EXTERNAL &&
    (source.bytesOf(tensor)?.byteLength ?? 0) < externalFrom;
  if (!has && !casts && !tensorsOf(graph).some(isSmall)) return source;

  const files = new Map(external);
  const tensor = (old: TensorProto): TensorProto => {
    if (!halves.has(old.dataType)) {
      if (!isSmall(old)) return old;
      const { name, dims, dataType } = old;
      return create(TensorProtoSchema, { name, dims, dataType, rawData: source.bytesOf(old)?.slice() });
    }
    const bytes = source.bytesOf(old);
    const patterns = bytes ? viewBytes("float16", bytes) : Uint16Array.from(old.int32Data);
    const floats = old.dataType === OnnxType.FLOAT16 ? halfToFloat(patterns) : bfloatToFloat(patterns);
    const rawData = new Uint8Array(floats.buffer);
    const common = { name: old.name, dims: old.dims, dataType: OnnxType.FLOAT };
    if (rawData.byteLength < externalFrom) return create(TensorProtoSchema, { ...common, rawData });
    const location = locationOf(files.size);
    files.set(location, rawData);
    return create(TensorProtoSchema, {
      ...common,
      dataLocation: TensorProto_DataLocation.EXTERNAL,
      externalData: [
        { key: "location", value: location },
        { key: "length", value: String(rawData.byteLength) },
      ],
    });
  };
  const info = (old: ValueInfoProto): ValueInfoProto =>
    isHalf(old) && old.type?.value.case === "tensorType"
      ? create(ValueInfoProtoSchema, {
          ...old,
          type: create(TypeProtoSchema, {
            ...old.type,
            value: { case: "tensorType", value: { ...old.type.value.value, elemType: OnnxType.FLOAT } },
          }),
        })
      : old;
  // Decoding bounds how deep graphs lie in one another.
  const attribute = (old: AttributeProto, opType: string): AttributeProto => {
    const namesType = (opType === "Cast" && old.name === "to") || old.name === "dtype" || old.name === "output_dtype";
    // Fields that are set where they were not would make another kind of attribute of it.
    return create(AttributeProtoSchema, {
      ...old,
      ...(namesType ? { i: BigInt(widened(Number(old.i))) } : {}),
      ...(old.t ? { t: tensor(old.t) } : {}),
      ...(old.g ? { g: widen(old.g) } : {}),
      tensors: old.tensors.map(tensor),
      graphs: old.graphs.map(widen),
    });
  };
  const node = (old: NodeProto): NodeProto =>
    old.attribute.length === 0
      ? old
      : create(NodeProtoSchema, { ...old, attribute: old.attribute.map((a) => attribute(a, old.opType)) });
  const widen = (old: GraphProto): GraphProto =>
    create(GraphProtoSchema, {
      ...old,
      node: old.node.map(node),
      initializer: old.initializer.map(tensor),
      input: old.input.map(info),
      output: old.output.map(info),
      // Types of inner values follow from the nodes.
      valueInfo: [],
    });
  const model = create(ModelProtoSchema, { ...source.model, graph: widen(graph) });
  return new OnnxGraph(model, source.file, files);
}
