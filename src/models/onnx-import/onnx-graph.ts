// An ONNX file as something to search: who makes a value, who reads it, which values are constants.
import { fromBinary } from "@bufbuild/protobuf";
import type { GraphProto, ModelProto, NodeProto, TensorProto } from "../../engine/onnx/onnx_pb.ts";
import {
  ModelProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType as OnnxType,
} from "../../engine/onnx/onnx_pb.ts";
import { UserError } from "../../utils/errors.ts";
import { toFloat32 } from "../../utils/half.ts";
import type { DataType, FloatTensor, Tensor } from "../../utils/tensor.ts";
import { elementBytes, elementCount, viewBytes } from "../../utils/tensor.ts";

const types: Readonly<Record<number, DataType | undefined>> = {
  [OnnxType.FLOAT]: "float32",
  [OnnxType.DOUBLE]: "float64",
  [OnnxType.FLOAT16]: "float16",
  [OnnxType.BFLOAT16]: "bfloat16",
  [OnnxType.INT64]: "int64",
  [OnnxType.INT32]: "int32",
};

/** Bytes of the files that stand beside a model, by the name that the model calls them. */
export type ExternalFiles = ReadonlyMap<string, Uint8Array>;

/** Whole numbers of which some are not known before the model runs. */
export type PartlyKnown = readonly (number | undefined)[];

export class OnnxGraph {
  readonly model: ModelProto;
  readonly graph: GraphProto;
  /** What messages call it. */
  readonly file: string;
  private readonly external: ExternalFiles;
  private readonly producers = new Map<string, { node: NodeProto; output: number }>();
  private readonly readers = new Map<string, NodeProto[]>();
  private readonly initializers = new Map<string, TensorProto>();

  constructor(model: ModelProto, file: string, external: ExternalFiles) {
    if (!model.graph) throw new UserError(`${file} holds no graph`);
    this.model = model;
    this.graph = model.graph;
    this.file = file;
    this.external = external;
    for (const tensor of this.graph.initializer) this.initializers.set(tensor.name, tensor);
    for (const node of this.graph.node) {
      node.output.forEach((name, output) => {
        if (name === "") return;
        if (this.producers.has(name)) throw new UserError(`${file} is no valid ONNX model: two nodes make ${name}`);
        this.producers.set(name, { node, output });
      });
      for (const name of new Set(node.input)) this.readers.set(name, [...(this.readers.get(name) ?? []), node]);
    }
    this.checkOrder();
  }

  /** ONNX asks for nodes in the order in which they run: nothing is read before it is made, so there are no cycles. */
  private checkOrder(): void {
    const made = new Set<string>([...this.graph.input.map(({ name }) => name), ...this.initializers.keys(), ""]);
    for (const tensor of this.graph.sparseInitializer) if (tensor.values) made.add(tensor.values.name);
    for (const node of this.graph.node) {
      const unmade = node.input.find((name) => !made.has(name));
      if (unmade !== undefined) {
        throw new UserError(
          `${this.file} is no valid ONNX model: ${node.opType} reads ${JSON.stringify(unmade)}, which nothing before it makes`,
        );
      }
      for (const name of node.output) made.add(name);
    }
  }

  /** The node that makes a value; undefined for inputs and initializers. */
  producer(name: string): NodeProto | undefined {
    return this.producers.get(name)?.node;
  }

  /** Which of its node's outputs a value is. */
  outputIndex(name: string): number {
    return this.producers.get(name)?.output ?? 0;
  }

  consumers(name: string): readonly NodeProto[] {
    return this.readers.get(name) ?? [];
  }

  /** The initializer, or what a Constant node holds, behind nodes that change nothing. */
  private constantProto(name: string): TensorProto | undefined {
    const initializer = this.initializers.get(name);
    if (initializer) return initializer;
    const node = this.producer(name);
    if (node?.opType === "Constant") return node.attribute.find((a) => a.name === "value")?.t;
    if (node?.opType === "Identity") return this.constantProto(node.input[0]);
    return undefined;
  }

  isConstant(name: string): boolean {
    return this.constantProto(name) !== undefined || this.isTransposedConstant(name);
  }

  private isTransposedConstant(name: string): boolean {
    const node = this.producer(name);
    return node?.opType === "Transpose" && this.constantProto(node.input[0]) !== undefined;
  }

  /** A constant's dimensions, without its numbers. */
  constantDims(name: string): readonly number[] | undefined {
    const proto = this.constantProto(name);
    if (proto) return proto.dims.map(Number);
    if (!this.isTransposedConstant(name)) return undefined;
    const dims = this.constantDims((this.producer(name) as NodeProto).input[0]) ?? [];
    return [...dims].reverse();
  }

  /** A constant's numbers as float32; undefined where it is none. Throws a UserError where its bytes are not there. */
  floats(name: string): FloatTensor | undefined {
    const proto = this.constantProto(name);
    if (proto) return toFloat32(this.tensorOf(proto));
    if (!this.isTransposedConstant(name)) return undefined;
    const inner = this.floats((this.producer(name) as NodeProto).input[0]);
    return inner?.dims.length === 2 ? transposed(inner) : undefined;
  }

  /** A constant's one number. */
  scalar(name: string): number | undefined {
    const dims = this.constantDims(name);
    if (!dims || elementCount(dims) !== 1) return undefined;
    const proto = this.constantProto(name);
    return proto && Number(this.tensorOf(proto).data[0]);
  }

  /** The whole numbers of a shape or index, as far as they are constants. */
  integers(name: string): PartlyKnown | undefined {
    const proto = this.constantProto(name);
    if (proto)
      return elementCount(proto.dims.map(Number)) > 64
        ? undefined
        : Array.from(this.tensorOf(proto).data as Iterable<number | bigint>, Number);
    const node = this.producer(name);
    if (node?.opType === "Unsqueeze" || node?.opType === "Cast") return this.integers(node.input[0]) ?? [undefined];
    if (node?.opType === "Concat") return node.input.flatMap((part) => this.integers(part) ?? [undefined]);
    return undefined;
  }

  private tensorOf(proto: TensorProto): Tensor {
    const type = types[proto.dataType];
    if (!type)
      throw new UserError(
        `${this.file}: the constant ${proto.name} is of a type that can't be read here (${OnnxType[proto.dataType]}); quantized models can't be read`,
      );
    const dims = proto.dims.map(Number);
    const bytes = this.bytesOf(proto);
    const count = elementCount(dims);
    if (bytes) {
      if (bytes.byteLength !== count * elementBytes[type]) {
        throw new UserError(
          `${this.file}: the constant ${proto.name} [${dims.join(", ")}] has ${bytes.byteLength} bytes`,
        );
      }
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
      throw new UserError(
        `${this.file}: the constant ${proto.name} [${dims.join(", ")}] holds ${listed.length} numbers`,
      );
    if (type === "int64") return { type, dims, data: BigInt64Array.from(listed as bigint[]) };
    if (type === "float32") return { type, dims, data: Float32Array.from(listed as number[]) };
    if (type === "float64") return { type, dims, data: Float64Array.from(listed as number[]) };
    if (type === "int32") return { type, dims, data: Int32Array.from(listed as number[]) };
    return { type, dims, data: Uint16Array.from(listed as number[]) } as Tensor;
  }

  /** A constant's bytes, wherever they lie; undefined where its numbers are listed. */
  bytesOf(proto: TensorProto): Uint8Array | undefined {
    if (proto.dataLocation !== TensorProto_DataLocation.EXTERNAL)
      return proto.rawData.byteLength > 0 ? proto.rawData : undefined;
    const entry = (key: string) => proto.externalData.find((e) => e.key === key)?.value;
    const location = entry("location") ?? "";
    const file = this.external.get(location);
    if (!file)
      throw new UserError(`${this.file} keeps ${proto.name} in ${JSON.stringify(location)}, which is not beside it`);
    const [offset, length] = [Number(entry("offset") ?? 0), Number(entry("length") ?? file.byteLength)];
    if (!(offset >= 0 && length >= 0 && offset + length <= file.byteLength)) {
      throw new UserError(`${this.file}: ${proto.name} is said to lie beyond the end of ${location} (is it cut off?)`);
    }
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
    model = fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    throw new UserError(`${file} is no ONNX model: ${(error as Error).message}`);
  }
  if (!model.graph || model.graph.node.length === 0) throw new UserError(`${file} is no ONNX model: it holds no graph`);
  return model;
}

/** The names of the files that a model keeps its weights in. Throws a UserError on one outside of its folder. */
export function externalNames(model: ModelProto, file: string): string[] {
  const names = new Set<string>();
  for (const tensor of model.graph?.initializer ?? []) {
    if (tensor.dataLocation !== TensorProto_DataLocation.EXTERNAL) continue;
    const location = tensor.externalData.find(({ key }) => key === "location")?.value ?? "";
    if (!/^[^/\\]+$/.test(location) || location === ".." || location === ".") {
      throw new UserError(
        `${file} names the file ${JSON.stringify(location)} for its weights, which is no plain file name`,
      );
    }
    names.add(location);
  }
  return [...names];
}
