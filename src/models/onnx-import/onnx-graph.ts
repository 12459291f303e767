// An ONNX file as something to search: who makes a value, who reads it, which values are constants.
import { create, fromBinary } from "@bufbuild/protobuf";
import { checkMessages } from "../../engine/onnx/messages.ts";
import type { AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto } from "../../engine/onnx/onnx_pb.ts";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  TensorProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType as OnnxType,
} from "../../engine/onnx/onnx_pb.ts";
import { UserError } from "../../utils/errors.ts";
import { toFloat32 } from "../../utils/half.ts";
import { shapeText, shorten } from "../../utils/quote.ts";
import type { DataType, FloatTensor, Tensor } from "../../utils/tensor.ts";
import { elementBytes, elementCount, viewBytes } from "../../utils/tensor.ts";

const types: Readonly<Record<number, DataType | undefined>> = {
  [OnnxType.FLOAT]: "float32",
  [OnnxType.DOUBLE]: "float64",
  [OnnxType.FLOAT16]: "float16",
  [OnnxType.BFLOAT16]: "bfloat16",
  [OnnxType.INT64]: "int64",
  [OnnxType.INT32]: "int32",
  [OnnxType.INT8]: "int8",
  [OnnxType.UINT8]: "uint8",
  [OnnxType.BOOL]: "bool",
};

const floatTypes: ReadonlySet<OnnxType> = new Set([
  OnnxType.FLOAT,
  OnnxType.DOUBLE,
  OnnxType.FLOAT16,
  OnnxType.BFLOAT16,
]);

/** Bytes of the files that stand beside a model, by the name that the model calls them. */
export type ExternalFiles = ReadonlyMap<string, Uint8Array>;

/** Whole numbers of which some are not known before the model runs. */
export type PartlyKnown = readonly (number | undefined)[];

/** Longest chain of nodes that is followed from a constant or a shape. */
const farthest = 64;
/** Entries of a shape; lists of more are no shapes. */
const longestShape = 64;
/** Readers of one value that are looked at: a search must not take all nodes for each of them. */
const mostReaders = 256;

/** The graphs inside of a node (branches, loops), and those inside of these. */
function innerGraphs(node: NodeProto): GraphProto[] {
  const graphs: GraphProto[] = [];
  const open: NodeProto[] = [node];
  for (let next = open.pop(); next; next = open.pop()) {
    for (const attribute of next.attribute) {
      for (const graph of attribute.g ? [attribute.g, ...attribute.graphs] : attribute.graphs) {
        graphs.push(graph);
        for (const inner of graph.node) open.push(inner);
      }
    }
  }
  return graphs;
}

/** Names of all values that a node reads: its inputs, and what graphs inside of it take from around them. */
export function namesRead(node: NodeProto): string[] {
  if (!node.attribute.some(({ g, graphs }) => g !== undefined || graphs.length > 0)) return node.input;
  const graphs = innerGraphs(node);
  const within = new Set<string>();
  for (const graph of graphs) {
    for (const { name } of [...graph.input, ...graph.initializer]) within.add(name);
    for (const inner of graph.node) for (const name of inner.output) within.add(name);
  }
  const outer = graphs.flatMap((graph) => [
    ...graph.node.flatMap(({ input }) => input),
    ...graph.output.map(({ name }) => name),
  ]);
  return [...node.input, ...new Set(outer.filter((name) => !within.has(name)))];
}

/** All tensors of a graph: initializers and those in attributes, of graphs inside of nodes too. */
export function tensorsOf(graph: GraphProto): TensorProto[] {
  const result: TensorProto[] = [];
  const open = [graph];
  for (let next = open.pop(); next; next = open.pop()) {
    for (const tensor of next.initializer) result.push(tensor);
    for (const { values, indices } of next.sparseInitializer)
      for (const tensor of [values, indices]) if (tensor) result.push(tensor);
    for (const node of next.node) {
      for (const { t, tensors, g, graphs } of node.attribute) {
        if (t) result.push(t);
        for (const tensor of tensors) result.push(tensor);
        if (g) open.push(g);
        for (const inner of graphs) open.push(inner);
      }
    }
  }
  return result;
}

/** What a Constant node holds, whichever of its attributes holds it. */
function constantOf({ attribute }: NodeProto): TensorProto | undefined {
  const [value] = attribute;
  if (!value) return undefined;
  const make = (dataType: OnnxType, dims: number[], numbers: Partial<Pick<TensorProto, "floatData" | "int64Data">>) =>
    create(TensorProtoSchema, { dataType, dims: dims.map(BigInt), ...numbers });
  switch (value.name) {
    case "value":
      return value.t;
    case "value_float":
      return make(OnnxType.FLOAT, [], { floatData: [value.f] });
    case "value_floats":
      return make(OnnxType.FLOAT, [value.floats.length], { floatData: value.floats });
    case "value_int":
      return make(OnnxType.INT64, [], { int64Data: [value.i] });
    case "value_ints":
      return make(OnnxType.INT64, [value.ints.length], { int64Data: value.ints });
    default:
      return undefined;
  }
}

/** A node's attribute of that name. */
export function attributeOf(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((attribute) => attribute.name === name);
}

export class OnnxGraph {
  /** With its nodes in the order in which they run, whatever their order in the file. */
  readonly model: ModelProto;
  readonly graph: GraphProto;
  /** What messages call it. */
  readonly file: string;
  readonly external: ExternalFiles;
  private readonly producers = new Map<string, { node: NodeProto; output: number }>();
  private readonly readers = new Map<string, NodeProto[]>();
  private readonly initializers = new Map<string, TensorProto>();
  /** Of what Identity gives, the value before all of them. */
  private readonly sources = new Map<string, string>();
  private readonly constants = new Map<string, TensorProto | undefined>();
  private readonly read = new Map<TensorProto, FloatTensor>();
  private readonly turned = new Map<string, FloatTensor>();

  constructor(model: ModelProto, file: string, external: ExternalFiles) {
    if (!model.graph) throw new UserError(`${file} holds no graph`, { code: "NOT_A_VIT" });
    this.file = file;
    this.external = external;
    const given = new Set(model.graph.input.map(({ name }) => name));
    for (const tensor of model.graph.initializer) this.initializers.set(tensor.name, tensor);
    for (const node of model.graph.node) {
      node.output.forEach((name, output) => {
        if (name === "") return;
        if (this.producers.has(name) || this.initializers.has(name) || given.has(name))
          throw this.invalid(`the value "${shorten(name)}" is made twice`);
        this.producers.set(name, { node, output });
      });
      for (const name of new Set(node.input)) {
        const readers = this.readers.get(name);
        if (!readers) this.readers.set(name, [node]);
        else if (readers.length < mostReaders) readers.push(node);
      }
    }
    this.graph = create(GraphProtoSchema, { ...model.graph, node: this.sorted(model.graph) });
    this.model = create(ModelProtoSchema, { ...model, graph: this.graph });
    for (const { opType, input, output } of this.graph.node)
      if (opType === "Identity") this.sources.set(output[0], this.source(input[0]));
  }

  private invalid(reason: string): UserError {
    return new UserError(`${this.file} is not a valid ONNX model: ${reason}.`, { code: "NOT_A_VIT" });
  }

  /**
   * Nodes each after what it reads. ONNX asks files for this order, but converters write others and ONNX Runtime takes them.
   * Throws on a cycle, and on a value that nothing makes.
   */
  private sorted(graph: GraphProto): NodeProto[] {
    const given = new Set<string>([...graph.input.map(({ name }) => name), ...this.initializers.keys(), ""]);
    for (const { values } of graph.sparseInitializer) if (values) given.add(values.name);
    const order: NodeProto[] = [];
    const state = new Map<NodeProto, "open" | "done">();
    for (const root of graph.node) {
      if (state.has(root)) continue;
      // Depth first with a stack of its own: a file may hold a chain of any length.
      const stack = [{ node: root, names: namesRead(root), next: 0 }];
      state.set(root, "open");
      while (stack.length > 0) {
        const top = stack[stack.length - 1];
        if (top.next === top.names.length) {
          state.set(top.node, "done");
          order.push(top.node);
          stack.pop();
          continue;
        }
        const name = top.names[top.next++];
        if (given.has(name)) continue;
        const producer = this.producers.get(name)?.node;
        if (!producer) throw this.invalid(`${shorten(top.node.opType)} reads "${shorten(name)}", which nothing makes`);
        const reached = state.get(producer);
        if (reached === "open")
          throw this.invalid(
            `its graph has a cycle through ${shorten(producer.opType)}, which makes "${shorten(name)}"`,
          );
        if (reached === "done") continue;
        state.set(producer, "open");
        stack.push({ node: producer, names: namesRead(producer), next: 0 });
      }
    }
    return order;
  }

  /** The node that makes a value; undefined for inputs and initializers. */
  producer(name: string): NodeProto | undefined {
    return this.producers.get(name)?.node;
  }

  /** The value itself, or where nodes that change nothing (Identity) give it, what the first of them reads. */
  source(name: string): string {
    return this.sources.get(name) ?? name;
  }

  /** Which of its node's outputs a value is. */
  outputIndex(name: string): number {
    return this.producers.get(name)?.output ?? 0;
  }

  /** Nodes that read a value; the first ones where there are very many. */
  consumers(name: string): readonly NodeProto[] {
    return this.readers.get(name) ?? [];
  }

  /** The initializer, or what a Constant node holds, behind nodes that change nothing but its type. */
  private constantProto(name: string): TensorProto | undefined {
    if (this.constants.has(name)) return this.constants.get(name);
    let constant: TensorProto | undefined;
    let at = name;
    for (let i = 0; i < farthest && !constant; i++) {
      constant = this.initializers.get(at);
      const node = this.producer(at);
      if (constant || !node) break;
      if (node.opType === "Constant") constant = constantOf(node);
      if (constant || (node.opType !== "Identity" && node.opType !== "Cast")) break;
      at = node.input[0];
    }
    this.constants.set(name, constant);
    return constant;
  }

  isConstant(name: string): boolean {
    return this.constantProto(name) !== undefined || this.isTransposedConstant(name);
  }

  /** Rows and columns of a matrix exchanged. */
  private isTransposedConstant(name: string): boolean {
    const node = this.producer(name);
    if (node?.opType !== "Transpose" || this.constantProto(node.input[0])?.dims.length !== 2) return false;
    const perm = attributeOf(node, "perm")?.ints.join() ?? "1,0";
    return perm === "1,0";
  }

  /** A constant's dimensions, without its numbers. */
  constantDims(name: string): readonly number[] | undefined {
    const proto = this.constantProto(name);
    if (proto) return proto.dims.map(Number);
    const node = this.producer(name);
    if (!node || !this.isTransposedConstant(name)) return undefined;
    return [...(this.constantProto(node.input[0])?.dims.map(Number) ?? [])].reverse();
  }

  /**
   * A constant's numbers as float32; undefined where it is no constant, or one of whole numbers. Throws a UserError where its
   * bytes are not there.
   */
  floats(name: string): FloatTensor | undefined {
    const proto = this.constantProto(name);
    if (proto) {
      if (!floatTypes.has(proto.dataType)) return undefined;
      const tensor = this.read.get(proto) ?? toFloat32(this.tensorOf(proto));
      this.read.set(proto, tensor);
      return tensor;
    }
    const node = this.producer(name);
    if (!node || !this.isTransposedConstant(name)) return undefined;
    const inner = this.floats(node.input[0]);
    return inner && this.transposed(name, inner);
  }

  /** Rows and columns exchanged; done once for each name. */
  transposed(name: string, matrix: FloatTensor): FloatTensor {
    const tensor = this.turned.get(name) ?? transposed(matrix);
    this.turned.set(name, tensor);
    return tensor;
  }

  /** A constant's one number. */
  scalar(name: string): number | undefined {
    const proto = this.constantProto(name);
    if (!proto || !types[proto.dataType] || elementCount(proto.dims.map(Number)) !== 1) return undefined;
    const tensor = this.tensorOf(proto);
    return floatTypes.has(proto.dataType) ? toFloat32(tensor).data[0] : Number(tensor.data[0]);
  }

  /** The whole numbers of a shape or index, as far as they are constants; undefined where it is computed otherwise. */
  integers(name: string): PartlyKnown | undefined {
    const computed = new Set(["Unsqueeze", "Cast", "Concat"]);
    const first = this.producer(name)?.opType;
    if (!this.constantProto(name) && !(first && computed.has(first))) return undefined;
    const numbers: (number | undefined)[] = [];
    // From the last part to the first.
    const open = [name];
    for (let steps = 0; open.length > 0; steps++) {
      if (steps > 4 * farthest || numbers.length > longestShape) return undefined;
      const part = open.pop() ?? "";
      const proto = this.constantProto(part);
      const node = this.producer(part);
      if (proto) {
        const count = elementCount(proto.dims.map(Number));
        if (count > longestShape || !types[proto.dataType]) return undefined;
        numbers.push(...Array.from(this.tensorOf(proto).data as Iterable<number | bigint>, Number));
      } else if (node?.opType === "Concat") {
        if (node.input.length > longestShape) return undefined;
        open.push(...[...node.input].reverse());
      } else if (node?.opType === "Unsqueeze" || node?.opType === "Cast") open.push(node.input[0]);
      else numbers.push(undefined);
    }
    return numbers;
  }

  private tensorOf(proto: TensorProto): Tensor {
    const name = `the constant "${shorten(proto.name)}"`;
    const type = types[proto.dataType];
    if (!type)
      throw new UserError(
        `${this.file}: ${name} has the type ${OnnxType[proto.dataType] ?? proto.dataType}, which can't be read; quantized models can't be read.`,
        { code: "NOT_A_VIT" },
      );
    const dims = proto.dims.map(Number);
    const count = elementCount(dims);
    const bytes = this.bytesOf(proto);
    if (bytes) {
      if (bytes.byteLength !== count * elementBytes[type])
        throw new UserError(`${this.file}: ${name} ${shapeText(dims)} has ${bytes.byteLength} bytes.`, {
          code: "NOT_A_VIT",
        });
      return { type, dims, data: viewBytes(type, bytes) };
    }
    const listed =
      type === "int64"
        ? proto.int64Data
        : type === "float64"
          ? proto.doubleData
          : type === "float32"
            ? proto.floatData
            : proto.int32Data;
    if (listed.length !== count)
      throw new UserError(`${this.file}: ${name} ${shapeText(dims)} holds ${listed.length} numbers.`, {
        code: "NOT_A_VIT",
      });
    if (type === "int64") return { type, dims, data: BigInt64Array.from(listed as bigint[]) };
    if (type === "float32") return { type, dims, data: Float32Array.from(listed as number[]) };
    if (type === "float64") return { type, dims, data: Float64Array.from(listed as number[]) };
    if (type === "int32") return { type, dims, data: Int32Array.from(listed as number[]) };
    if (type === "int8") return { type, dims, data: Int8Array.from(listed as number[]) };
    if (type === "uint8" || type === "bool") return { type, dims, data: Uint8Array.from(listed as number[]) };
    return { type, dims, data: Uint16Array.from(listed as number[]) };
  }

  /** A constant's bytes, wherever they lie; undefined where its numbers are listed. */
  bytesOf(proto: TensorProto): Uint8Array | undefined {
    if (proto.dataLocation !== TensorProto_DataLocation.EXTERNAL)
      return proto.rawData.byteLength > 0 ? proto.rawData : undefined;
    const entry = (key: string) => proto.externalData.find((e) => e.key === key)?.value;
    const location = entry("location") ?? "";
    const file = this.external.get(location);
    const name = `"${shorten(proto.name)}"`;
    if (!file)
      throw new UserError(`${this.file} keeps ${name} in "${shorten(location)}", which is not beside it.`, {
        code: "NOT_A_VIT",
      });
    const offset = Number(entry("offset") ?? 0);
    const length = Number(entry("length") ?? file.byteLength - offset);
    if (!(Number.isInteger(offset) && offset >= 0 && length >= 0 && offset + length <= file.byteLength))
      throw new UserError(
        `${this.file}: ${name} has an offset beyond the end of ${shorten(location)} (is it cut off?).`,
        { code: "NOT_A_VIT" },
      );
    return file.subarray(offset, offset + length);
  }
}

/** Rows and columns exchanged. */
export function transposed({ dims, data }: FloatTensor): FloatTensor {
  const [rows, columns] = dims;
  const out = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j];
  return { type: "float32", dims: [columns, rows], data: out };
}

/** Decodes a model. Throws a UserError that names the file where the bytes are none. */
export function decodeOnnx(bytes: Uint8Array, file: string): ModelProto {
  let model: ModelProto;
  try {
    checkMessages(ModelProtoSchema, bytes);
    model = fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    throw new UserError(`${file} is not an ONNX model that can be read: ${shorten((error as Error).message, 200)}.`, {
      code: "NOT_A_VIT",
    });
  }
  if (!model.graph || model.graph.node.length === 0)
    throw new UserError(`${file} is not an ONNX model that can be read: it holds no graph.`, { code: "NOT_A_VIT" });
  return model;
}

/** The names of the files that a model keeps its weights in. Throws a UserError on one outside of its folder. */
export function externalNames(model: ModelProto, file: string): string[] {
  const names = new Set<string>();
  for (const tensor of model.graph ? tensorsOf(model.graph) : []) {
    if (tensor.dataLocation !== TensorProto_DataLocation.EXTERNAL) continue;
    const location = tensor.externalData.find(({ key }) => key === "location")?.value ?? "";
    if (!/^[^/\\\0]+$/.test(location) || location === ".." || location === ".") {
      throw new UserError(
        `${file} names the file ${JSON.stringify(shorten(location))} for its weights, which is not a plain file name`,
        { code: "NOT_A_VIT" },
      );
    }
    names.add(location);
  }
  return [...names];
}
