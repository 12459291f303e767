// MATLAB files of version 5, as far as the ImageNet devkit needs them: arrays of records of numbers and texts.
import { UserError } from "../utils/errors.ts";
import { inflateBounded } from "./inflate.ts";

/** Numbers, a text, or records; other kinds are undefined. */
export type MatValue = readonly number[] | string | readonly Readonly<Record<string, MatValue>>[] | undefined;

const compressed = 15;
const matrix = 14;
const structClass = 2;
const charClass = 4;
const numericClasses = new Set([6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
/** Unpacked variables beyond this are not meant. */
const largest = 2 ** 26;

interface Element {
  readonly type: number;
  readonly bytes: Uint8Array;
  readonly next: number;
}

function elementAt(bytes: Uint8Array, at: number): Element {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (at + 8 > bytes.byteLength) throw new RangeError("it is cut off");
  const head = view.getUint32(at, true);
  // Up to four bytes stand in the tag itself.
  if (head >>> 16 !== 0)
    return { type: head & 0xffff, bytes: bytes.subarray(at + 4, at + 4 + (head >>> 16)), next: at + 8 };
  const size = view.getUint32(at + 4, true);
  if (at + 8 + size > bytes.byteLength) throw new RangeError("it is cut off");
  const end = at + 8 + size;
  return { type: head, bytes: bytes.subarray(at + 8, end), next: head === compressed ? end : Math.ceil(end / 8) * 8 };
}

type Read = (view: DataView, at: number) => number;
const readers: Readonly<Record<number, readonly [bytes: number, read: Read]>> = {
  1: [1, (v, i) => v.getInt8(i)],
  2: [1, (v, i) => v.getUint8(i)],
  3: [2, (v, i) => v.getInt16(i, true)],
  4: [2, (v, i) => v.getUint16(i, true)],
  5: [4, (v, i) => v.getInt32(i, true)],
  6: [4, (v, i) => v.getUint32(i, true)],
  7: [4, (v, i) => v.getFloat32(i, true)],
  9: [8, (v, i) => v.getFloat64(i, true)],
  16: [1, (v, i) => v.getUint8(i)],
  17: [2, (v, i) => v.getUint16(i, true)],
};

function numbersOf({ type, bytes }: Element): number[] {
  const [size, read] = readers[type] ?? [0, undefined];
  if (!read) return [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: Math.floor(bytes.byteLength / size) }, (_, i) => read(view, i * size));
}

const textOf = (codes: readonly number[]) =>
  codes
    .map((c) => String.fromCharCode(c))
    .join("")
    .replace(/\0+$/, "");

function matrixOf(bytes: Uint8Array): { name: string; value: MatValue } {
  if (bytes.byteLength === 0) return { name: "", value: [] };
  const flags = elementAt(bytes, 0);
  const dims = elementAt(bytes, flags.next);
  const name = elementAt(bytes, dims.next);
  const kind = (numbersOf(flags)[0] ?? 0) & 0xff;
  const named = textOf(numbersOf({ ...name, type: 1 }));
  if (kind === charClass) return { name: named, value: textOf(numbersOf(elementAt(bytes, name.next))) };
  if (numericClasses.has(kind)) return { name: named, value: numbersOf(elementAt(bytes, name.next)) };
  if (kind !== structClass) return { name: named, value: undefined };
  const length = elementAt(bytes, name.next);
  const fieldSize = numbersOf(length)[0] ?? 0;
  const fields = elementAt(bytes, length.next);
  if (!(fieldSize > 0)) throw new RangeError("it has records without fields");
  const names = Array.from(
    { length: Math.floor(fields.bytes.byteLength / fieldSize) },
    (_, i) => textOf([...fields.bytes.subarray(i * fieldSize, (i + 1) * fieldSize)]).split("\0")[0],
  );
  const count = numbersOf(dims).reduce((a, b) => a * b, 1);
  const records: Record<string, MatValue>[] = [];
  let at = fields.next;
  for (let i = 0; i < count; i++) {
    const record: Record<string, MatValue> = {};
    for (const field of names) {
      const element = elementAt(bytes, at);
      record[field] = element.type === matrix ? matrixOf(element.bytes).value : undefined;
      at = element.next;
    }
    records.push(record);
  }
  return { name: named, value: records };
}

/** A file's variables by name. Throws a UserError that names the file where it is none of version 5, or damaged. */
export function readMat(bytes: Uint8Array, file: string): Map<string, MatValue> {
  const fail = (message: string): never => {
    throw new UserError(`${file} is not a MATLAB file that can be read: ${message}`, { code: "FILE_NOT_READABLE" });
  };
  if (!new TextDecoder().decode(bytes.subarray(0, 10)).startsWith("MATLAB 5.0")) fail("it is not of version 5");
  const values = new Map<string, MatValue>();
  try {
    for (let at = 128; at + 8 <= bytes.byteLength;) {
      let element = elementAt(bytes, at);
      at = element.next;
      if (element.type === compressed) {
        const unpacked = inflateBounded("zlib", element.bytes, { size: largest, isExact: false });
        element = elementAt(unpacked, 0);
      }
      if (element.type !== matrix) continue;
      const { name, value } = matrixOf(element.bytes);
      values.set(name, value);
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    fail((error as Error).message);
  }
  return values;
}
