// A graph as an ONNX ModelProto. Weights stand in the file, or beside it as external data where they are big.
import { create, toBinary } from "@bufbuild/protobuf";
import type { Attributes, OpKind } from "../graph/operators.ts";
import { operators } from "../graph/operators.ts";
import { valueNames } from "../graph/print.ts";
import { normalAxis } from "../graph/shapes.ts";
import type { Graph, Node, Shape, Value } from "../graph/graph.ts";
import { sortedNodes } from "../graph/walk.ts";
import type { OffloadedFile, OffloadedRange } from "../../utils/offloaded.ts";
import { offloadedRange } from "../../utils/offloaded.ts";
import type { DataType, Tensor } from "../../utils/tensor.ts";
import { byteCount, tensorBytes } from "../../utils/tensor.ts";
import type { AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from "./onnx_pb.ts";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as OnnxType,
  TensorProto_DataLocation,
  TensorProtoSchema,
  ValueInfoProtoSchema,
} from "./onnx_pb.ts";
import { required } from "../../utils/required.ts";

const onnxTypes: Readonly<Record<DataType, OnnxType>> = {
  float32: OnnxType.FLOAT,
  float64: OnnxType.DOUBLE,
  float16: OnnxType.FLOAT16,
  bfloat16: OnnxType.BFLOAT16,
  int64: OnnxType.INT64,
  int32: OnnxType.INT32,
  uint8: OnnxType.UINT8,
  int8: OnnxType.INT8,
  bool: OnnxType.BOOL,
};

/** Weights beside the model: `location` is the file's name as the model says it; its bytes are the chunks in order. */
export interface ExternalData {
  readonly location: string;
  readonly chunks: readonly Uint8Array[];
}

export interface OnnxFile {
  readonly model: Uint8Array;
  readonly externalData: readonly ExternalData[];
  /** Files that weights rest in, all in one folder: the model says them by name. With `separate` weights alone. */
  readonly offloadedFiles: readonly OffloadedFile[];
}

export interface OnnxOptions {
  /**
   * Where weights go: `inline` in the model file while it stays under the 2 GB that protobuf allows, else beside it in
   * `location`; `external` always beside it; `separate` each in a location of its own, so that memory is shared and
   * nothing is copied, or in the files that most of them rest in.
   */
  readonly weights: { readonly kind: "inline" | "external"; readonly location: string } | { readonly kind: "separate" };
  readonly metadata?: Readonly<Record<string, string>>;
  /** The version of ONNX's operators, from 13 on; the graph must hold operators of that version. */
  readonly opset?: number;
}

/** Protobuf's limit of 2 GiB less room for the graph itself. */
const inlineLimit = 2 ** 31 - 2 ** 26;
/** Smaller constants always stand in the model. */
const externalFrom = 1024;
/** Offsets of external data are multiples of this, so that it can be mapped into memory. */
const alignment = 4096;
const newestOpset = 21;
/** From here on, means and maxima take their axes as an input. */
const axesAsInput = 18;
const irVersion = 10n;

/** Writes a graph as ONNX. */
export function writeOnnx(graph: Graph, options: OnnxOptions): OnnxFile {
  const { proto, ...written } = buildOnnx(graph, options);
  return { model: toBinary(ModelProtoSchema, proto), ...written };
}

/** A graph as a ModelProto, with the data that goes beside it. */
export function buildOnnx(graph: Graph, options: OnnxOptions): Omit<OnnxFile, "model"> & { proto: ModelProto } {
  const opset = options.opset ?? newestOpset;
  const names = valueNames(graph);
  const nodes = sortedNodes(graph.outputs.values());
  const read = readValues(graph, nodes);
  const constants = [...read].filter((v) => v.source.kind === "constant");
  const weights = new WeightStore(options, constants);
  const initializers = constants.map((v) => weights.add(required(names, v), tensorOf(v)));

  const protos: NodeProto[] = [];
  const fresh = freshNames(new Set(names.values()));
  for (const node of nodes) {
    const extra = (values: readonly number[]) => {
      const name = fresh("shape");
      initializers.push(integers(name, values));
      return name;
    };
    const { inputs: more, attributes, leftOut } = lower(node, extra, opset);
    const inputs = [...node.inputs.map((v) => required(names, v)), ...more];
    if (leftOut !== undefined) inputs.splice(leftOut, 0, "");
    protos.push(
      create(NodeProtoSchema, {
        opType: operators[node.op].onnx ?? node.op,
        domain: operators[node.op].domain ?? "",
        name: names.get(node.outputs[0]),
        input: inputs,
        output: outputNames(node, names, read),
        attribute: attributes,
      }),
    );
  }
  // An output that is an input, a constant or the second name of a value needs a node of its own.
  for (const [name, value] of graph.outputs) {
    if (names.get(value) === name && value.source.kind === "node") continue;
    protos.push(create(NodeProtoSchema, { opType: "Identity", input: [required(names, value)], output: [name] }));
  }
  const model = create(ModelProtoSchema, {
    irVersion,
    producerName: "wecolora",
    opsetImport: [
      { domain: "", version: BigInt(opset) },
      { domain: "com.microsoft", version: 1n },
    ].filter(({ domain }) => domain === "" || nodes.some((n) => operators[n.op].domain === domain)),
    metadataProps: Object.entries(options.metadata ?? {}).map(([key, value]) => ({ key, value })),
    graph: {
      name: "wecolora",
      node: protos,
      initializer: initializers,
      input: graph.inputs.map((v) => valueInfo(required(names, v), v)),
      output: [...graph.outputs].map(([name, value]) => valueInfo(name, value)),
    },
  });
  return { proto: model, externalData: weights.files(), offloadedFiles: [...weights.offloadedFiles] };
}

function readValues(graph: Graph, nodes: readonly Node[]): Set<Value> {
  const read = new Set<Value>(graph.outputs.values());
  for (const node of nodes) for (const v of node.inputs) read.add(v);
  return read;
}

function tensorOf(value: Value): Tensor {
  if (value.source.kind !== "constant") throw new Error("only constants hold a tensor");
  return value.source.tensor;
}

function freshNames(taken: Set<string>): (wanted: string) => string {
  let count = 0;
  return (wanted) => {
    let name = `${wanted}${count++}`;
    while (taken.has(name)) name = `${wanted}${count++}`;
    taken.add(name);
    return name;
  };
}

/** Trailing outputs that nobody reads are left out. */
function outputNames(node: Node, names: ReadonlyMap<Value, string>, read: ReadonlySet<Value>): string[] {
  let last = node.outputs.length;
  while (last > 1 && !read.has(node.outputs[last - 1])) last--;
  return node.outputs.slice(0, last).map((v) => required(names, v));
}

function valueInfo(name: string, value: Value): ValueInfoProto {
  const dim = value.shape.map((d) => ({
    value:
      typeof d === "number" ? { case: "dimValue" as const, value: BigInt(d) } : { case: "dimParam" as const, value: d },
  }));
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: "tensorType", value: { elemType: onnxTypes[value.type], shape: { dim } } } },
  });
}

function integers(name: string, values: readonly number[]): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dataType: OnnxType.INT64,
    dims: [BigInt(values.length)],
    rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  });
}

const int = (name: string, i: number): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(i) });
const ints = (name: string, values: readonly number[]): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: values.map(BigInt) });
const real = (name: string, f: number): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f });
const text = (name: string, s: string): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.STRING, s: new TextEncoder().encode(s) });

interface Lowered {
  /** Behind those of the node. */
  readonly inputs: readonly string[];
  /** Which input of ONNX's own the node leaves out: an empty name stands there. */
  readonly leftOut?: number;
  readonly attributes: AttributeProto[];
}

type Extra = (values: readonly number[]) => string;
type Lowering<K extends OpKind> = (node: Node<K>, extra: Extra, opset: number) => Lowered;

const withAxis = ({ attributes }: { readonly attributes: { readonly axis: number } }): Lowered => ({
  inputs: [],
  attributes: [int("axis", attributes.axis)],
});

interface Reduction {
  readonly attributes: { readonly axes: readonly number[]; readonly keepDims: boolean };
}
const reduction = ({ attributes }: Reduction, extra: Extra): Lowered => ({
  inputs: [extra(attributes.axes)],
  attributes: [int("keepdims", attributes.keepDims ? 1 : 0)],
});

function laterReduction(node: Reduction, extra: Extra, opset: number): Lowered {
  if (opset >= axesAsInput) return reduction(node, extra);
  const { axes, keepDims } = node.attributes;
  return { inputs: [], attributes: [ints("axes", axes), int("keepdims", keepDims ? 1 : 0)] };
}

/** A row: how attributes are written, or `as is` for operators that have none. */
type LoweringRow<K extends OpKind> = Lowering<K> | (keyof Attributes<K> extends never ? "as is" : never);

/** How each operator is written. The table is exhaustive: an operator without a row does not type-check. */
const lowerings: { readonly [K in OpKind]: LoweringRow<K> } = {
  Add: "as is",
  Sub: "as is",
  Mul: "as is",
  Div: "as is",
  Pow: "as is",
  Max: "as is",
  Neg: "as is",
  Abs: "as is",
  Sign: "as is",
  Sqrt: "as is",
  Exp: "as is",
  Log: "as is",
  Erf: "as is",
  Tanh: "as is",
  Sigmoid: "as is",
  Relu: "as is",
  Floor: "as is",
  Round: "as is",
  StopGradient: "as is",
  Equal: "as is",
  Greater: "as is",
  Where: "as is",
  MatMul: "as is",
  MatMulInteger: "as is",
  DynamicQuantizeLinear: "as is",
  BitwiseAnd: "as is",
  BitwiseOr: "as is",
  BitShift: ({ attributes }) => ({ inputs: [], attributes: [text("direction", attributes.direction)] }),
  // Its shape comes in as an input.
  AwaitedReshape: () => ({ inputs: [], attributes: [] }),
  Gelu: ({ attributes }) => ({ inputs: [], attributes: [text("approximate", attributes.approximate)] }),
  Cast: ({ attributes }) => ({ inputs: [], attributes: [int("to", onnxTypes[attributes.to])] }),
  FusedMatMul: ({ attributes }) => ({
    inputs: [],
    attributes: [
      int("transA", attributes.transA ? 1 : 0),
      int("transB", attributes.transB ? 1 : 0),
      real("alpha", attributes.alpha),
    ],
  }),
  QuantizeLinear: withAxis,
  DequantizeLinear: withAxis,
  Softmax: withAxis,
  LogSoftmax: withAxis,
  LayerNormalization: ({ attributes }) => ({
    inputs: [],
    attributes: [int("axis", -1), real("epsilon", attributes.epsilon)],
  }),
  ReduceSum: reduction,
  ReduceMean: laterReduction,
  ReduceMax: laterReduction,
  ReduceMin: laterReduction,
  // The weights' zero point, before the bias.
  MatMulIntegerToFloat: ({ inputs }) => ({ inputs: [], attributes: [], leftOut: inputs.length > 5 ? 5 : undefined }),
  MatMulNBits: ({ attributes: { inputs, outputs, bits, blockSize, accuracyLevel } }) => ({
    inputs: [],
    attributes: [
      int("K", inputs),
      int("N", outputs),
      int("bits", bits),
      int("block_size", blockSize),
      int("accuracy_level", accuracyLevel),
    ],
  }),
  Reshape: ({ attributes, inputs }, extra) => ({
    inputs: [extra(reshapeTarget(inputs[0].shape, attributes.shape))],
    attributes: [],
  }),
  Transpose: ({ attributes }) => ({ inputs: [], attributes: [ints("perm", attributes.perm)] }),
  Expand: ({ attributes, inputs }, extra) => ({
    inputs: [extra(expandTarget(inputs[0].shape, attributes.shape))],
    attributes: [],
  }),
  Concat: ({ attributes }) => ({ inputs: [], attributes: [int("axis", attributes.axis)] }),
  Split: ({ attributes }, extra) => ({
    inputs: [extra(attributes.sizes)],
    attributes: [int("axis", attributes.axis)],
  }),
  Slice: ({ attributes }, extra) => ({
    inputs: [extra([attributes.start]), extra([attributes.end]), extra([attributes.axis])],
    attributes: [],
  }),
  Pad: ({ attributes, inputs }, extra) => {
    const rank = inputs[0].shape.length;
    const pads = new Array<number>(2 * rank).fill(0);
    const axis = normalAxis(attributes.axis, rank);
    pads[axis] = attributes.before;
    pads[rank + axis] = attributes.after;
    return { inputs: [extra(pads)], attributes: [] };
  },
  Conv: ({ attributes: { padding } }) => ({
    inputs: [],
    attributes: [ints("pads", new Array<number>(4).fill(padding))],
  }),
  // Neither region nor scales: an empty name stands for an input that is left out.
  Resize: ({ attributes: { height, width, coordinates } }, extra) => ({
    inputs: ["", "", extra([height, width])],
    attributes: [ints("axes", [2, 3]), text("mode", "linear"), text("coordinate_transformation_mode", coordinates)],
  }),
};

function lower<K extends OpKind>(node: Node<K>, extra: Extra, opset: number): Lowered {
  const lowering: Lowering<K> | "as is" = lowerings[node.op];
  return lowering === "as is" ? { inputs: [], attributes: [] } : lowering(node, extra, opset);
}

/** A named dimension is written as 0 (copied) where it keeps its place, else as -1, which ONNX allows once. */
function reshapeTarget(from: Shape, to: Shape): number[] {
  const target = to.map((d, i) => (typeof d === "number" ? d : from[i] === d ? 0 : -1));
  if (target.filter((d) => d === -1).length > 1) {
    throw new Error(`a reshape to [${to.join(", ")}] can't be written with more than one moved named dimension`);
  }
  return target;
}

/** Expand's shape broadcasts both ways, so a named dimension that the input has already is written as 1. */
function expandTarget(from: Shape, to: Shape): number[] {
  return to.map((d, i) => {
    if (typeof d === "number") return d;
    if (from[i - to.length + from.length] === d) return 1;
    throw new Error(`can't expand to the named dimension ${d}`);
  });
}

/** Turns weights into initializers and keeps the bytes of those that go beside the model. */
class WeightStore {
  private readonly chunks: Uint8Array[] = [];
  private readonly separate: ExternalData[] = [];
  private offset = 0;
  private readonly isSeparate: boolean;
  private readonly shared = new Map<ArrayBufferLike, Map<number, string>>();
  private readonly options: OnnxOptions;
  /** ONNX Runtime takes weights from files or from memory, not both: where most rest in files, the others stand in the model. */
  private readonly fromFiles: boolean;
  readonly offloadedFiles = new Set<OffloadedFile>();

  constructor(options: OnnxOptions, constants: readonly Value[]) {
    this.options = options;
    const bytesOf = (values: readonly Value[]) => values.reduce((sum, v) => sum + byteCount(tensorOf(v)), 0);
    const total = bytesOf(constants);
    const offloadedFiles = bytesOf(constants.filter((v) => offloadedRange(tensorOf(v))));
    this.fromFiles =
      options.weights.kind === "separate" && offloadedFiles > total / 2 && total - offloadedFiles < inlineLimit;
    this.isSeparate = options.weights.kind !== "inline" || total > inlineLimit;
  }

  add(name: string, tensor: Tensor): TensorProto {
    const length = byteCount(tensor);
    const proto = create(TensorProtoSchema, {
      name,
      dataType: onnxTypes[tensor.type],
      dims: tensor.dims.map(BigInt),
    });
    const offloadedFiles = this.fromFiles ? offloadedRange(tensor) : undefined;
    if (!this.isSeparate || (this.fromFiles && !offloadedFiles) || length < externalFrom) {
      proto.rawData = tensorBytes(tensor);
      return proto;
    }
    proto.dataLocation = TensorProto_DataLocation.EXTERNAL;
    const entry = (key: string, value: string | number) => ({ key, value: String(value) });
    const place = offloadedFiles ? this.stay(offloadedFiles) : this.put(tensorBytes(tensor));
    const entries = [entry("location", place.location), entry("offset", place.offset), entry("length", length)];
    proto.externalData = create(TensorProtoSchema, { externalData: entries }).externalData;
    return proto;
  }

  private stay({ file, offset }: OffloadedRange): { location: string; offset: number } {
    this.offloadedFiles.add(file);
    return { location: file.name, offset };
  }

  private put(bytes: Uint8Array): { location: string; offset: number } {
    const { weights } = this.options;
    return weights.kind === "separate" ? this.addSeparate(bytes) : this.append(weights.location, bytes);
  }

  private append(location: string, bytes: Uint8Array): { location: string; offset: number } {
    const padding = (alignment - (this.offset % alignment)) % alignment;
    if (padding > 0) this.chunks.push(new Uint8Array(padding));
    const offset = this.offset + padding;
    this.chunks.push(bytes);
    this.offset = offset + bytes.byteLength;
    return { location, offset };
  }

  private addSeparate(bytes: Uint8Array): { location: string; offset: number } {
    const ofBuffer = this.shared.get(bytes.buffer) ?? new Map<number, string>();
    this.shared.set(bytes.buffer, ofBuffer);
    let location = ofBuffer.get(bytes.byteOffset);
    if (!location) {
      location = `weight${this.separate.length}`;
      ofBuffer.set(bytes.byteOffset, location);
      this.separate.push({ location, chunks: [bytes] });
    }
    return { location, offset: 0 };
  }

  files(): ExternalData[] {
    const { weights } = this.options;
    if (weights.kind === "separate") return this.separate;
    return this.chunks.length > 0 ? [{ location: weights.location, chunks: this.chunks }] : [];
  }
}
