// PyTorch's .pth and .bin files: a zip with a pickle and one stored entry a storage, or the pickles in a row that
// PyTorch wrote before 1.6. Nothing in them is run.
import type { PickleValue } from "../files/pickle.ts";
import { unpickle } from "../files/pickle.ts";
import type { FileHandle, StoredTensor, StoredTensors, UnreadableTensor } from "../files/storage.ts";
import { readBytes, storedSize } from "../files/storage.ts";
import type { ZipEntry } from "../files/zip.ts";
import { listZip } from "../files/zip.ts";
import { UserError } from "../utils/errors.ts";
import { listSome, shorten } from "../utils/quote.ts";
import type { DataType } from "../utils/tensor.ts";
import { elementBytes, elementCount } from "../utils/tensor.ts";
import { tensorsIn } from "./tensors-in.ts";
import type { Storage, TensorRecord } from "./torch-values.ts";
import { torchHandlers } from "./torch-values.ts";

/** Pickles of tensors' descriptions; the numbers lie elsewhere. */
const largestPickle = 256 * 2 ** 20;
/** How often a file's bytes may be used, on average. */
const mostSharing = 4;
const legacyMagic = 0x1950a86a20f9469cfc6cn;
const legacyVersion = 1001;

/** The tensors of a PyTorch file by their paths in it. Throws a UserError on a file that is no such, or damaged. */
export async function openTorchFile(file: FileHandle): Promise<StoredTensors> {
  const first = await readBytes(file, 0, Math.min(2, file.size));
  return first[0] === 0x50 ? openZip(file) : openLegacy(file);
}

async function openZip(file: FileHandle): Promise<StoredTensors> {
  const entries = await listZip(file);
  const main = mainEntry(entries, file.name);
  // PyTorch leaves its own entries as they are; what is compressed could unpack to anything.
  const stored = (entry: ZipEntry) => {
    if (entry.deflated)
      throw new UserError(`${file.name}: ${shorten(entry.name)} is compressed, which PyTorch never does`, {
        code: "NOT_A_MODEL",
      });
    return entry;
  };
  if (main.size > largestPickle)
    throw new UserError(`${file.name}: its data.pkl takes ${main.size} bytes`, { code: "NOT_A_MODEL" });
  const { offset, size } = stored(main);
  const folder = main.name.slice(0, -"data.pkl".length);
  await checkByteOrder(file, entries.get(`${folder}byteorder`));
  const handlers = torchHandlers(file.name);
  const { value } = unpickle(await readBytes(file, offset, size), handlers, file.name);
  return collect(value, file, ({ key, element, count }) => {
    const entry = entries.get(`${folder}data/${key}`);
    if (!entry) return `lacks the data of storage ${shorten(key)}`;
    const bytes = count * (element.bytes ?? 1);
    if (entry.size < bytes)
      return `lies in storage ${shorten(key)} of ${entry.size} bytes where ${bytes} were expected`;
    return stored(entry).offset;
  });
}

/** The entry with the pickle that describes the tensors. */
function mainEntry(entries: ReadonlyMap<string, ZipEntry>, name: string): ZipEntry {
  const names = [...entries.keys()];
  const within = (pattern: RegExp) => names.some((entry) => pattern.test(entry));
  // A TorchScript archive has a data.pkl too, with the model's code beside it.
  if (within(/^([^/]+\/)?(constants\.pkl$|code\/)/))
    throw new UserError(
      `${name} is a TorchScript model: its weights come with code, which can't be read here. In Python, load it with torch.jit.load and save its state_dict() with torch.save`,
      { code: "NOT_A_MODEL" },
    );
  if (within(/^([^/]+\/)?(archive_format$|models\/.*\.json$|serialized_exported_program\.json$)/))
    throw new UserError(
      `${name} is a program of torch.export, which can't be read here. In Python, load it with torch.export.load and save its state_dict with torch.save`,
      { code: "NOT_A_MODEL" },
    );
  const main = names.find((entry) => /^([^/]+\/)?data\.pkl$/.test(entry));
  const entry = main === undefined ? undefined : entries.get(main);
  if (!entry)
    throw new UserError(`${name} is a zip archive without data.pkl, so no PyTorch checkpoint`, { code: "NOT_A_MODEL" });
  return entry;
}

async function checkByteOrder(file: FileHandle, entry: ZipEntry | undefined): Promise<void> {
  if (!entry || entry.deflated || entry.size > 16) return;
  if (new TextDecoder().decode(await readBytes(file, entry.offset, entry.size)) === "big") throw bigEndian(file.name);
}

function bigEndian(name: string): UserError {
  return new UserError(`${name} was written on a big-endian machine, which can't be read here`, {
    code: "NOT_A_MODEL",
  });
}

/** Before PyTorch 1.6: magic number, version, system, the object, the storages' keys; then each storage's numbers. */
async function openLegacy(file: FileHandle): Promise<StoredTensors> {
  // The pickles stand in front; their length is not known beforehand.
  const bytes = await readBytes(file, 0, Math.min(file.size, largestPickle));
  const handlers = torchHandlers(file.name);
  let at = 0;
  const next = () => {
    const { value, end } = unpickle(bytes, handlers, file.name, at);
    at = end;
    return value;
  };
  if (next() !== legacyMagic)
    throw new UserError(`${file.name} is a pickle, but not one that torch.save wrote`, { code: "NOT_A_MODEL" });
  if (next() !== legacyVersion)
    throw new UserError(`${file.name} was written by a version of torch.save that is not known here`, {
      code: "NOT_A_MODEL",
    });
  const system = next();
  if (system instanceof Map && system.get("little_endian") === false) throw bigEndian(file.name);
  const value = next();
  const offsets = storageOffsets(next(), handlers.storages, at, file.name);
  return collect(value, file, ({ key }) => offsets.get(key) ?? `lacks the data of storage ${shorten(key)}`);
}

/** Where each storage's numbers begin: one after the other, each behind its count. */
function storageOffsets(
  keys: PickleValue,
  storages: ReadonlyMap<string, Storage>,
  at: number,
  name: string,
): Map<string, number> {
  if (!Array.isArray(keys)) throw new UserError(`${name} has no list of storages`, { code: "NOT_A_MODEL" });
  const offsets = new Map<string, number>();
  let end = at;
  for (const key of keys as PickleValue[]) {
    const storage = typeof key === "string" ? storages.get(key) : undefined;
    // Behind a storage of unknown size nothing can be found.
    if (storage?.element.bytes === undefined) break;
    offsets.set(storage.key, end + 8);
    end += 8 + storage.count * storage.element.bytes;
  }
  return offsets;
}

/** Where a storage's bytes begin in the file, or what is wrong with tensors in it. */
type Locate = (storage: Storage) => number | string;

function collect(value: PickleValue, file: FileHandle, locate: Locate): StoredTensors {
  const { tensors: records, opaque } = tensorsIn(value);
  if (records.size === 0) {
    const asked = opaque.length > 0 ? `; it asks for ${listSome(opaque, 3)}, which is never run here` : "";
    throw new UserError(`${file.name} holds no tensors by name${asked}`, { code: "NOT_A_MODEL" });
  }
  const tensors = new Map<string, StoredTensor | UnreadableTensor>();
  let bytes = 0;
  for (const [name, record] of records) {
    const tensor = storedTensor(file, record, locate);
    if (tensor.type !== undefined) bytes += storedSize(tensor);
    tensors.set(name, tensor);
  }
  // Tied weights share a storage; a file that says it of all its weights would ask for memory without end.
  if (bytes > mostSharing * file.size)
    throw new UserError(`${file.name}: its tensors would take ${bytes} bytes, the file has ${file.size}`, {
      code: "NOT_A_MODEL",
    });
  return tensors;
}

function storedTensor(file: FileHandle, record: TensorRecord, locate: Locate): StoredTensor | UnreadableTensor {
  const { element, storage, offset, dims } = record;
  const unreadable = (problem: string): UnreadableTensor => ({ type: undefined, dims, problem });
  if (element.type === undefined || storage === undefined) return unreadable(`holds ${element.name}`);
  const size = elementBytes[element.type];
  const count = elementCount(dims);
  const capacity = Math.floor((storage.count * (storage.element.bytes ?? 0)) / size);
  const last = lastElement(record);
  // Every element of a tensor is an element of its storage, once: none is asked for beyond it or endlessly repeated.
  if (count > capacity || last >= Math.max(1, capacity) || !Number.isSafeInteger(count))
    return unreadable(`[${shorten(dims.join(", "))}] does not fit its storage of ${capacity} elements`);
  if (count === 0) return { type: element.type, dims, readInto: async () => undefined };
  const begin = locate(storage);
  if (typeof begin === "string") return unreadable(begin);
  if (begin + (last + 1) * size > file.size) return unreadable("ends before its data does (is the file cut off?)");
  return viewedTensor(file, element.type, record, begin + offset * size);
}

/** The last element of its storage that a tensor uses. */
function lastElement({ dims, strides, offset }: TensorRecord): number {
  return elementCount(dims) === 0 ? 0 : dims.reduce((sum, d, i) => sum + (d - 1) * strides[i], offset);
}

/** A tensor whose first element lies at `from`; others lie at its strides. */
function viewedTensor(file: FileHandle, type: DataType, record: TensorRecord, from: number): StoredTensor {
  const { dims, strides, offset } = record;
  const size = elementBytes[type];
  if (isContiguous(record)) return { type, dims, readInto: (target) => file.readInto(from, target) };
  return {
    type,
    dims,
    async readInto(target) {
      const source = await readBytes(file, from, (lastElement(record) - offset + 1) * size);
      const index = dims.map(() => 0);
      const count = elementCount(dims);
      for (let i = 0; i < count; i++) {
        const at = index.reduce((sum, v, axis) => sum + v * strides[axis], 0) * size;
        target.set(source.subarray(at, at + size), i * size);
        for (let axis = dims.length - 1; axis >= 0 && ++index[axis] === dims[axis]; axis--) index[axis] = 0;
      }
    },
  };
}

/** Whether elements lie in order, one behind the other. */
function isContiguous({ dims, strides }: TensorRecord): boolean {
  let step = 1;
  return [...dims.keys()].reverse().every((axis) => {
    const fits = dims[axis] === 1 || strides[axis] === step;
    step *= dims[axis];
    return fits;
  });
}
