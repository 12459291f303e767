// PyTorch's .pth and .bin files: a zip with a pickle and one stored entry a storage, or the pickles in a row that
// PyTorch wrote before 1.6. Nothing in them is run.
import { UserError } from "../utils/errors.ts";
import type { DataType } from "../utils/tensor.ts";
import { elementBytes, elementCount } from "../utils/tensor.ts";
import type { PickleHandlers, PickleValue } from "../files/pickle.ts";
import { unpickle } from "../files/pickle.ts";
import type { FileHandle, StoredTensor, StoredTensors } from "../files/storage.ts";
import { readBytes, storedSize } from "../files/storage.ts";
import { listZip } from "../files/zip.ts";

const storageTypes: Readonly<Record<string, DataType>> = {
  DoubleStorage: "float64",
  FloatStorage: "float32",
  HalfStorage: "float16",
  BFloat16Storage: "bfloat16",
  LongStorage: "int64",
  IntStorage: "int32",
  CharStorage: "int8",
  ByteStorage: "uint8",
  BoolStorage: "bool",
};

/** A storage: where its bytes lie is known once the pickle is read. */
class Storage {
  readonly key: string;
  readonly type: DataType;
  readonly count: number;
  constructor(key: string, type: DataType, count: number) {
    this.key = key;
    this.type = type;
    this.count = count;
  }
}

/** A tensor as the pickle describes it, in elements of its storage. */
class TensorRecord {
  readonly storage: Storage;
  readonly offset: number;
  readonly dims: readonly number[];
  readonly strides: readonly number[];
  constructor(storage: Storage, offset: number, dims: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.dims = dims;
    this.strides = strides;
  }
}

/** Pickles of tensors' descriptions; the numbers lie elsewhere. */
const largestPickle = 256 * 2 ** 20;
/** How often a file's bytes may be used, on average. */
const mostSharing = 4;
const legacyMagic = "1950a86a20f9469cfc6c";

const isCounts = (value: PickleValue): value is number[] =>
  Array.isArray(value) && value.length <= 8 && value.every((v) => Number.isSafeInteger(v) && v >= 0);

/** The constructors that tensors need, and what other settings in checkpoints are made of. */
function handlersFor(file: string): PickleHandlers {
  const fail = (message: string): never => {
    throw new UserError(`${file} can't be read: ${message}`);
  };
  const rebuild = ([storage, offset, dims, strides]: readonly PickleValue[]): TensorRecord => {
    if (
      !(storage instanceof Storage) ||
      !isCounts([offset]) ||
      !isCounts(dims) ||
      !isCounts(strides) ||
      dims.length !== strides.length
    ) {
      return fail("a tensor's description is malformed");
    }
    return new TensorRecord(storage, offset as number, dims, strides);
  };
  const known: Readonly<Record<string, (args: readonly PickleValue[]) => PickleValue>> = {
    "collections.OrderedDict": ([pairs]) =>
      new Map(Array.isArray(pairs) ? (pairs as [PickleValue, PickleValue][]) : []),
    "torch._utils._rebuild_tensor_v2": rebuild,
    "torch._utils._rebuild_tensor": rebuild,
    "torch._utils._rebuild_parameter": ([tensor]) => tensor,
    "torch.nn.parameter.Parameter": ([tensor]) => tensor,
    "torch.Size": ([dims]) => dims,
    "torch.device": ([name]) => name,
    // What training scripts keep beside the weights: settings without meaning here.
    "argparse.Namespace": () => new Map(),
    "pathlib.PosixPath": (parts) => parts.join("/"),
    "pathlib.WindowsPath": (parts) => parts.join("/"),
    "collections.defaultdict": () => new Map(),
    "builtins.set": ([items]) => new Set(Array.isArray(items) ? items : []),
    "numpy.core.multiarray.scalar": () => null,
    "numpy._core.multiarray.scalar": () => null,
    "numpy.dtype": () => null,
    "_codecs.encode": () => null,
  };
  return {
    construct: (name) => (Object.hasOwn(known, name) ? known[name] : undefined),
    persistent(id) {
      if (!Array.isArray(id) || id[0] !== "storage") return fail("it refers to something other than a storage");
      const [, kind, key, , count] = id as PickleValue[];
      // Types are named, not called: `torch.FloatStorage`.
      const name = String((kind as { name?: unknown })?.name ?? kind);
      const type = storageTypes[name.replace(/^torch\.(storage\.)?/, "")];
      if (!type) return fail(`it holds a storage of ${name}, which is not known here`);
      if (!isCounts([count])) return fail("a storage's size is malformed");
      return new Storage(String(key), type, count as number);
    },
  };
}

/** The tensors of a PyTorch file. Throws a UserError on anything that is not tensors and plain settings. */
export async function openTorchFile(file: FileHandle): Promise<StoredTensors> {
  const first = await readBytes(file, 0, Math.min(2, file.size));
  return first[0] === 0x50 ? openZip(file) : openLegacy(file);
}

async function openZip(file: FileHandle): Promise<StoredTensors> {
  const entries = await listZip(file, "PyTorch");
  const main = [...entries.values()].find(({ name }) => /^([^/]+\/)?data\.pkl$/.test(name));
  if (!main) {
    const isScript = [...entries.keys()].some((name) => name.endsWith("constants.pkl"));
    throw new UserError(
      `${file.name} is a zip archive without data.pkl, so no PyTorch checkpoint${isScript ? " (a TorchScript model can't be read)" : ""}`,
    );
  }
  if (main.size > largestPickle) throw new UserError(`${file.name}: its data.pkl takes ${main.size} bytes`);
  const folder = main.name.slice(0, -"data.pkl".length);
  const order = entries.get(`${folder}byteorder`);
  if (
    order &&
    order.size <= 16 &&
    new TextDecoder().decode(await readBytes(file, order.offset, order.size)) === "big"
  ) {
    throw new UserError(`${file.name} was written on a big-endian machine, which can't be read here`);
  }
  const { value } = unpickle(await readBytes(file, main.offset, main.size), handlersFor(file.name), file.name);
  return collect(value, file, ({ key, type, count }) => {
    const entry = entries.get(`${folder}data/${key}`);
    if (!entry) throw new UserError(`${file.name} lacks the data of storage ${key}`);
    if (entry.size < count * elementBytes[type]) {
      throw new UserError(
        `${file.name}: storage ${key} has ${entry.size} bytes where ${count * elementBytes[type]} were expected`,
      );
    }
    return entry.offset;
  });
}

/** Before PyTorch 1.6: magic number, version, system, the object, the storages' keys; then each storage's numbers. */
async function openLegacy(file: FileHandle): Promise<StoredTensors> {
  // The pickles stand in front; their length is not known beforehand.
  const bytes = await readBytes(file, 0, Math.min(file.size, largestPickle));
  const magic = [...bytes.subarray(4, 14)]
    .reverse()
    .map((b) => b.toString(16).padStart(2, "0"))
    .join("");
  if (bytes[2] !== 0x8a || magic !== legacyMagic) {
    throw new UserError(`${file.name} is a pickle, but not one that torch.save wrote`);
  }
  const handlers = handlersFor(file.name);
  let at = bytes.indexOf(0x2e, 13) + 1;
  const next = () => {
    const { value, end } = unpickle(bytes, handlers, file.name, at);
    at = end;
    return value;
  };
  if (next() !== 1001)
    throw new UserError(`${file.name} was written by a version of torch.save that is not known here`);
  next();
  const value = next();
  const keys = next();
  if (!Array.isArray(keys)) throw new UserError(`${file.name} has no list of storages`);
  const sizes = new Map<string, number>();
  const seen = new Set<PickleValue>();
  const visit = (item: PickleValue) => {
    // A pickle may hold itself.
    if (seen.has(item)) return;
    seen.add(item);
    if (item instanceof TensorRecord) sizes.set(item.storage.key, item.storage.count * elementBytes[item.storage.type]);
    else if (item instanceof Map) for (const inner of item.values()) visit(inner);
  };
  visit(value);
  const offsets = new Map<string, number>();
  for (const key of keys.map(String)) {
    offsets.set(key, at + 8);
    const size = sizes.get(key);
    // A storage that no tensor of interest uses: its element size is not known, so what follows can't be found.
    if (size === undefined) break;
    at += 8 + size;
  }
  return collect(value, file, ({ key }) => {
    const offset = offsets.get(key);
    if (offset === undefined) throw new UserError(`${file.name} lacks the data of storage ${key}`);
    return offset;
  });
}

/** Wrappers that training scripts put around weights, what is wanted first: an average is better than the last step. */
const wrappers = [
  "teacher",
  "target_encoder",
  "model_ema",
  "state_dict_ema",
  "model",
  "state_dict",
  "module",
  "net",
  "backbone",
  "encoder",
  "student",
];

function isStateDict(value: PickleValue): value is Map<string, PickleValue> {
  return value instanceof Map && [...value.values()].some((item) => item instanceof TensorRecord);
}

/** The dictionary of tensors, inside as many wrappers as there are. */
function findStateDict(value: PickleValue, depth = 0): Map<string, PickleValue> | undefined {
  if (isStateDict(value)) return value;
  if (!(value instanceof Map) || depth > 4) return undefined;
  const others = [...value.keys()].filter((key) => !wrappers.includes(String(key)));
  for (const key of [...wrappers, ...others]) {
    const found = findStateDict(value.get(key), depth + 1);
    if (found) return found;
  }
  return undefined;
}

function collect(value: PickleValue, file: FileHandle, locate: (storage: Storage) => number): StoredTensors {
  const found = findStateDict(value);
  if (!found) throw new UserError(`${file.name} holds no tensors by name`);
  const tensors = new Map<string, StoredTensor>();
  let bytes = 0;
  for (const [name, record] of found) {
    if (!(record instanceof TensorRecord)) continue;
    const tensor = storedTensor(file, String(name), record, locate(record.storage));
    bytes += storedSize(tensor);
    tensors.set(String(name), tensor);
  }
  // Tied weights share a storage; a file that says it of all its weights would ask for memory without end.
  if (bytes > mostSharing * file.size)
    throw new UserError(`${file.name}: its tensors would take ${bytes} bytes, the file has ${file.size}`);
  return tensors;
}

function storedTensor(file: FileHandle, name: string, record: TensorRecord, storageOffset: number): StoredTensor {
  const { storage, offset, dims, strides } = record;
  const { type } = storage;
  const size = elementBytes[type];
  const count = elementCount(dims);
  const last = count === 0 ? 0 : dims.reduce((sum, d, i) => sum + (d - 1) * strides[i], offset);
  // Every element of a tensor is an element of its storage, once: none is asked for beyond it or endlessly repeated.
  if (count > storage.count || last >= Math.max(1, storage.count) || !Number.isSafeInteger(count)) {
    throw new UserError(
      `${file.name}: ${name} [${dims.join(", ")}] does not fit its storage of ${storage.count} elements`,
    );
  }
  const from = storageOffset + offset * size;
  if (count > 0 && storageOffset + (last + 1) * size > file.size)
    throw new UserError(`${file.name} ends before the data of ${name} (is it cut off?)`);
  let step = 1;
  const contiguous = [...dims.keys()].reverse().every((axis) => {
    const fits = dims[axis] === 1 || strides[axis] === step;
    step *= dims[axis];
    return fits;
  });
  return {
    type,
    dims,
    async readInto(target) {
      if (count === 0) return;
      if (contiguous) return file.readInto(from, target);
      const source = await readBytes(file, from, (last - offset + 1) * size);
      const index = dims.map(() => 0);
      for (let i = 0; i < count; i++) {
        const at = index.reduce((sum, v, axis) => sum + v * strides[axis], 0) * size;
        target.set(source.subarray(at, at + size), i * size);
        for (let axis = dims.length - 1; axis >= 0 && ++index[axis] === dims[axis]; axis--) index[axis] = 0;
      }
    },
  };
}
