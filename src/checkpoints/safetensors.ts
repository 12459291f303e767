// The safetensors format: 8 bytes with the header's length, a JSON header, then the data. Every number in the header
// is checked against the file before anything is allocated for it.
import { UserError } from "../utils/errors.ts";
import type { DataType, Tensor } from "../utils/tensor.ts";
import { elementBytes, tensorBytes } from "../utils/tensor.ts";
import type { FileHandle, StoredTensor, StoredTensors } from "../files/storage.ts";
import { readBytes, readTensor } from "../files/storage.ts";

const types: Readonly<Record<string, DataType>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  I8: "int8",
  U8: "uint8",
  BOOL: "bool",
};
const names = Object.fromEntries(Object.entries(types).map(([name, type]) => [type, name]));

/** The reference implementation refuses longer headers too. */
const headerLimit = 100_000_000;

export interface Safetensors {
  readonly tensors: Map<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Entry {
  readonly name: string;
  readonly type: DataType;
  readonly dims: number[];
  readonly from: number;
  readonly to: number;
}

/** A safetensors file's header: its tensors are read when they are asked for, while the file is open. */
export interface StoredSafetensors {
  readonly tensors: StoredTensors;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Reads and checks the header. Throws a UserError that says what is wrong. */
export async function openSafetensors(file: FileHandle): Promise<StoredSafetensors> {
  const fail = (message: string): never => {
    throw new UserError(`${file.name} is no valid safetensors file: ${message}`);
  };
  if (file.size < 8) fail(`it holds ${file.size} bytes, and its header's length alone takes 8`);
  const lengthBytes = await readBytes(file, 0, 8);
  const length = Number(new DataView(lengthBytes.buffer, lengthBytes.byteOffset, 8).getBigUint64(0, true));
  if (length > headerLimit) fail(`its header claims ${length} bytes`);
  if (8 + length > file.size) fail(`its header claims ${length} bytes, but the file has ${file.size} (is it cut off?)`);

  const header = parseHeader(await readBytes(file, 8, length), fail);
  const { __metadata__: metadata = {}, ...listed } = header;
  const dataBytes = file.size - 8 - length;
  const entries = Object.entries(listed).map(([name, entry]) => readEntry(name, entry, dataBytes, fail));
  checkCoverage(entries, dataBytes, fail);

  const tensors = new Map<string, StoredTensor>();
  for (const { name, type, dims, from } of entries) {
    tensors.set(name, { type, dims, readInto: (target) => file.readInto(8 + length + from, target) });
  }
  return { tensors, metadata: metadata as Record<string, string> };
}

/** Reads a whole safetensors file. Throws a UserError that says what is wrong. */
export async function readSafetensors(file: FileHandle): Promise<Safetensors> {
  const { tensors: stored, metadata } = await openSafetensors(file);
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of stored) tensors.set(name, await readTensor(tensor));
  return { tensors, metadata };
}

type Fail = (message: string) => never;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseHeader(bytes: Uint8Array, fail: Fail): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    fail("its header is not JSON");
  }
  return isRecord(header) ? header : fail("its header is not a JSON object");
}

function readEntry(name: string, entry: unknown, dataBytes: number, fail: Fail): Entry {
  if (!isRecord(entry)) return fail(`the entry for ${name} is not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  const type = types[String(dtype)];
  if (!type) return fail(`${name} has the type ${JSON.stringify(dtype)}, which is not known here`);
  const isCount = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail(`${name} has the shape ${JSON.stringify(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(`${name} has the offsets ${JSON.stringify(offsets)}`);
  }
  const [from, to] = offsets;
  if (from > to || to > dataBytes) {
    return fail(`${name} is said to lie at ${from} to ${to}, but the data is ${dataBytes} bytes long (is it cut off?)`);
  }
  const bytes = shape.reduce((product, d) => product * d, 1) * elementBytes[type];
  if (bytes !== to - from) {
    return fail(`${name} takes ${bytes} bytes as ${dtype} [${shape.join(", ")}], but its offsets say ${to - from}`);
  }
  return { name, type, dims: shape, from, to };
}

/** The format allows neither holes nor overlaps: each byte of the data belongs to one tensor. */
function checkCoverage(entries: readonly Entry[], dataBytes: number, fail: Fail): void {
  let end = 0;
  for (const { name, from, to } of [...entries].sort((a, b) => a.from - b.from || a.to - b.to)) {
    if (from !== end) fail(`the data of ${name} starts at ${from}, where ${end} was expected`);
    end = to;
  }
  if (end !== dataBytes) fail(`${dataBytes - end} bytes at the end belong to no tensor`);
}

/** The chunks of a safetensors file, in order; tensors' bytes are not copied. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  const chunks: Uint8Array[] = [];
  let offset = 0;
  // Wide types first keeps every tensor aligned, as the reference implementation does.
  const ordered = [...tensors].sort(([, a], [, b]) => elementBytes[b.type] - elementBytes[a.type]);
  for (const [name, tensor] of ordered) {
    const bytes = tensorBytes(tensor);
    header[name] = {
      dtype: names[tensor.type],
      shape: tensor.dims,
      data_offsets: [offset, offset + bytes.byteLength],
    };
    offset += bytes.byteLength;
    chunks.push(bytes);
  }
  const text = JSON.stringify(header);
  const json = new TextEncoder().encode(text + " ".repeat((8 - (new TextEncoder().encode(text).length % 8)) % 8));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return [length, json, ...chunks];
}
