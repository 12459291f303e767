// The safetensors format: 8 bytes with the header's length, a JSON header, then the data. Every number in the header
// is checked against the file before anything is allocated for it.
import { UserError } from "../utils/errors.ts";
import { quote, shorten } from "../utils/quote.ts";
import type { DataType, Tensor } from "../utils/tensor.ts";
import { elementBytes, tensorBytes } from "../utils/tensor.ts";
import type { FileHandle, StoredTensor, StoredTensors, UnreadableTensor } from "../files/storage.ts";
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

/** Bits of an element of the format's other types: they are passed over where they lie beside the weights. */
const otherTypes: Readonly<Record<string, number>> = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E5M2FNUZ: 8,
  F8_E4M3FNUZ: 8,
  I16: 16,
  U16: 16,
  U32: 32,
  U64: 64,
  C64: 64,
};

/** The reference implementation refuses longer headers too. */
const headerLimit = 100_000_000;

export interface Safetensors {
  readonly tensors: Map<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Entry {
  readonly name: string;
  /** Undefined for types that nothing here computes with. */
  readonly type: DataType | undefined;
  readonly fileType: string;
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
    throw new UserError(`${file.name} is not a valid safetensors file: ${message}`, { code: "NOT_A_MODEL" });
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

  const tensors = new Map<string, StoredTensor | UnreadableTensor>();
  for (const { name, type, fileType, dims, from } of entries) {
    const readInto = (target: Uint8Array) => file.readInto(8 + length + from, target);
    tensors.set(
      name,
      type === undefined ? { type, dims, problem: `holds ${shorten(fileType)}` } : { type, dims, readInto },
    );
  }
  return { tensors, metadata: isRecord(metadata) ? (metadata as Record<string, string>) : {} };
}

/** Reads a whole safetensors file. Throws a UserError that says what is wrong, also where a tensor can't be read. */
export async function readSafetensors(file: FileHandle): Promise<Safetensors> {
  const { tensors: stored, metadata } = await openSafetensors(file);
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of stored) {
    if (tensor.type === undefined)
      throw new UserError(`${file.name} can't be read whole: ${shorten(name)} ${tensor.problem}`, {
        code: "NOT_A_MODEL",
      });
    tensors.set(name, await readTensor(tensor));
  }
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
  const shown = shorten(name);
  if (!isRecord(entry)) return fail(`the entry for ${shown} is not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string") return fail(`${shown} has the type ${quote(dtype)}`);
  const isCount = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail(`${shown} has the shape ${quote(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(`${shown} has the offsets ${quote(offsets)}`);
  }
  const [from, to] = offsets;
  if (from > to || to > dataBytes) {
    return fail(`${shown} has the offsets ${from} to ${to}, but the data is ${dataBytes} bytes long (is it cut off?)`);
  }
  const type = Object.hasOwn(types, dtype) ? types[dtype] : undefined;
  // A type that came later than this reader: its size is taken from the offsets.
  const bits = type ? 8 * elementBytes[type] : Object.hasOwn(otherTypes, dtype) ? otherTypes[dtype] : undefined;
  const bytes = bits === undefined ? to - from : (shape.reduce((product, d) => product * d, 1) * bits) / 8;
  if (bytes !== to - from) {
    return fail(
      `${shown} takes ${bytes} bytes as ${dtype} [${shorten(shape.join(", "))}], but its offsets say ${to - from}`,
    );
  }
  return { name, type, fileType: dtype, dims: shape, from, to };
}

/** The format allows neither holes nor overlaps: each byte of the data belongs to one tensor. */
function checkCoverage(entries: readonly Entry[], dataBytes: number, fail: Fail): void {
  let end = 0;
  for (const { name, from, to } of [...entries].sort((a, b) => a.from - b.from || a.to - b.to)) {
    if (from !== end) fail(`the data of ${shorten(name)} starts at ${from}, where ${end} was expected`);
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
