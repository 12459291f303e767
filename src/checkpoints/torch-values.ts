// What the pickle of a PyTorch file describes: storages, and tensors as views of them. The constructors of tensors are a
// table; everything else stays opaque.
import type { Construct, PickleHandlers, PickleValue } from "../files/pickle.ts";
import { Global, Opaque } from "../files/pickle.ts";
import { UserError } from "../utils/errors.ts";
import { quote, shorten } from "../utils/quote.ts";
import type { DataType } from "../utils/tensor.ts";

/** An element type of PyTorch. */
export interface ElementType {
  /** PyTorch's name without `torch.`. */
  readonly name: string;
  /** Bytes of an element; undefined where it isn't known. */
  readonly bytes: number | undefined;
  /** Our name of it; undefined where nothing here computes with it. */
  readonly type?: DataType;
}

const typeOf = (name: string, bytes: number, type?: DataType): ElementType => ({ name, bytes, type });

/** By the names of `torch.dtype`. */
const elementTypes: ReadonlyMap<string, ElementType> = new Map(
  [
    typeOf("float64", 8, "float64"),
    typeOf("float32", 4, "float32"),
    typeOf("float16", 2, "float16"),
    typeOf("bfloat16", 2, "bfloat16"),
    typeOf("int64", 8, "int64"),
    typeOf("int32", 4, "int32"),
    typeOf("int16", 2),
    typeOf("int8", 1, "int8"),
    typeOf("uint64", 8),
    typeOf("uint32", 4),
    typeOf("uint16", 2),
    typeOf("uint8", 1, "uint8"),
    typeOf("bool", 1, "bool"),
    typeOf("complex32", 4),
    typeOf("complex64", 8),
    typeOf("complex128", 16),
    typeOf("qint8", 1),
    typeOf("quint8", 1),
    typeOf("qint32", 4),
    typeOf("quint4x2", 1),
    typeOf("quint2x4", 1),
    typeOf("float8_e4m3fn", 1),
    typeOf("float8_e5m2", 1),
    typeOf("float8_e4m3fnuz", 1),
    typeOf("float8_e5m2fnuz", 1),
    typeOf("float8_e8m0fnu", 1),
    typeOf("float4_e2m1fn_x2", 1),
    // Bytes without a type: the tensor says it.
    typeOf("untyped bytes", 1),
  ].map((type) => [type.name, type]),
);

/** By the names of storage classes. */
const storageTypes: Readonly<Record<string, string>> = {
  DoubleStorage: "float64",
  FloatStorage: "float32",
  HalfStorage: "float16",
  BFloat16Storage: "bfloat16",
  LongStorage: "int64",
  IntStorage: "int32",
  ShortStorage: "int16",
  CharStorage: "int8",
  ByteStorage: "uint8",
  BoolStorage: "bool",
  ComplexFloatStorage: "complex64",
  ComplexDoubleStorage: "complex128",
  QInt8Storage: "qint8",
  QUInt8Storage: "quint8",
  QInt32Storage: "qint32",
  QUInt4x2Storage: "quint4x2",
  QUInt2x4Storage: "quint2x4",
  UntypedStorage: "untyped bytes",
};

function elementType(name: string): ElementType {
  return elementTypes.get(name) ?? { name: shorten(name), bytes: undefined };
}

/** `torch.FloatStorage`, `torch.storage.UntypedStorage`: types are named, not called. */
function storageType(className: string): ElementType {
  const name = className.replace(/^torch\.(cuda\.|storage\.)?/, "");
  return elementType(Object.hasOwn(storageTypes, name) ? storageTypes[name] : className);
}

/** A storage: where its bytes lie is known once the pickle is read. */
export class Storage {
  readonly key: string;
  readonly element: ElementType;
  readonly count: number;
  constructor(key: string, element: ElementType, count: number) {
    this.key = key;
    this.element = element;
    this.count = count;
  }
}

/** A tensor as the pickle describes it, in elements of its storage. */
export class TensorRecord {
  readonly element: ElementType;
  /** Undefined where its numbers are not plainly in one storage (sparse, quantized and meta tensors). */
  readonly storage: Storage | undefined;
  readonly offset: number;
  readonly dims: readonly number[];
  readonly strides: readonly number[];
  constructor(
    element: ElementType,
    storage: Storage | undefined,
    offset: number,
    dims: readonly number[],
    strides: readonly number[],
  ) {
    this.element = element;
    this.storage = storage;
    this.offset = offset;
    this.dims = dims;
    this.strides = strides;
  }
}

const isCount = (value: PickleValue): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
/** PyTorch's tensors have at most 64 axes. */
const isCounts = (value: PickleValue): value is number[] =>
  Array.isArray(value) && value.length <= 64 && value.every(isCount);

/** What reading a PyTorch file's pickle needs: the handlers, and the storages that it has met. */
export interface TorchHandlers extends PickleHandlers {
  readonly storages: ReadonlyMap<string, Storage>;
}

/** The handlers for one file. Nothing else than tensors is made; storages are noted as they come, wherever they are. */
export function torchHandlers(file: string): TorchHandlers {
  const fail = (message: string): never => {
    throw new UserError(`${file} can't be read: ${message}`, { code: "NOT_A_MODEL" });
  };
  const storages = new Map<string, Storage>();
  const view = (
    element: ElementType,
    storage: PickleValue,
    offset: PickleValue,
    dims: PickleValue,
    strides: PickleValue,
  ): TensorRecord => {
    const isWhole = storage instanceof Storage && isCount(offset) && isCounts(dims) && isCounts(strides);
    if (!isWhole || dims.length !== strides.length) return fail("a tensor's description is malformed");
    return new TensorRecord(element, storage, offset, dims, strides);
  };
  const elementOf = (storage: PickleValue) => (storage instanceof Storage ? storage.element : elementType("unknown"));
  const plain: Construct = ([storage, offset, dims, strides]) =>
    view(elementOf(storage), storage, offset, dims, strides);
  const typed: Construct = ([storage, offset, dims, strides, , , dtype]) =>
    view(dtypeOf(dtype), storage, offset, dims, strides);
  const inner: Construct = ([tensor]) => tensor;
  const shaped =
    (kind: string, dims: (args: readonly PickleValue[]) => PickleValue): Construct =>
    (args) => {
      const result = dims(args);
      return new TensorRecord({ name: kind, bytes: undefined }, undefined, 0, isCounts(result) ? result : [], []);
    };
  const constructors: Readonly<Record<string, Construct>> = {
    "torch._utils._rebuild_tensor": plain,
    "torch._utils._rebuild_tensor_v2": plain,
    "torch._utils._rebuild_tensor_v3": typed,
    "torch._utils._rebuild_parameter": inner,
    "torch._utils._rebuild_parameter_with_state": inner,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": inner,
    "torch.nn.parameter.Parameter": inner,
    "torch.nn.parameter.Buffer": inner,
    // A subclass of Tensor: the function and the arguments that would make it.
    "torch._tensor._rebuild_from_type_v2": ([make, of, args]) => rebuilt(make, of, args),
    "torch._tensor._rebuild_from_type": ([make, of, args]) => rebuilt(make, of, args),
    "torch._utils._rebuild_qtensor": shaped("quantized numbers", (args) => args[2]),
    "torch._utils._rebuild_sparse_tensor": shaped("sparse numbers", (args) =>
      Array.isArray(args[1]) ? (args[1][2] as PickleValue) : undefined,
    ),
    "torch._utils._rebuild_sparse_csr_tensor": shaped("sparse numbers", () => undefined),
    "torch._utils._rebuild_nested_tensor": shaped("nested tensors", () => undefined),
    "torch._utils._rebuild_meta_tensor_no_storage": shaped("no numbers (a meta tensor)", (args) => args[1]),
    "torch._utils._rebuild_device_tensor_from_numpy": shaped("a NumPy array", () => undefined),
    "torch._utils._rebuild_wrapper_subclass": shaped("a tensor of its own class", (args) => args[2]),
  };
  const construct = (name: string): Construct | undefined =>
    Object.hasOwn(constructors, name) ? constructors[name] : undefined;
  const rebuilt = (make: PickleValue, of: PickleValue, args: PickleValue): PickleValue => {
    const result = make instanceof Global ? construct(make.name) : undefined;
    if (result && Array.isArray(args)) return result(args);
    return new Opaque(of instanceof Global ? of.name : "torch.Tensor", args);
  };
  return {
    storages,
    construct,
    persistent(id) {
      if (!Array.isArray(id) || id[0] !== "storage") return fail("it refers to something other than a storage");
      const [, kind, key, , count, part] = id as PickleValue[];
      if (!(kind instanceof Global) || typeof key !== "string" || !isCount(count))
        return fail("a storage's description is malformed");
      if (part !== null && part !== undefined)
        return fail(`storage ${quote(key)} is a part of another, which PyTorch has not written since 0.4`);
      const storage = storages.get(key) ?? new Storage(key, storageType(kind.name), count);
      storages.set(key, storage);
      return storage;
    },
  };
}

/** `torch.uint16`: a name, as types are pickled. */
function dtypeOf(value: PickleValue): ElementType {
  return elementType(value instanceof Global ? value.name.replace(/^torch\./, "") : "unknown");
}
