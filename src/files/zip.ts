// Zip archives, found through their central directory: entries stored or deflated, read where they lie.
import { UserError } from "../utils/errors.ts";
import { quote, shorten } from "../utils/quote.ts";
import { decodeNames } from "./names.ts";
import type { FileHandle } from "./storage.ts";
import { readBytes } from "./storage.ts";

export interface ZipEntry {
  readonly name: string;
  /** Where its data begins in the file. */
  readonly offset: number;
  /** Bytes that it takes in the file. */
  readonly length: number;
  /** Bytes unpacked. */
  readonly size: number;
  readonly deflated: boolean;
}

const endSignature = 0x06054b50;
const end64Signature = 0x06064b50;
const locator64Signature = 0x07064b50;
const centralSignature = 0x02014b50;
const localSignature = 0x04034b50;
/** The end record, and the longest comment that may follow it. */
const endRecord = 22;
const longestComment = 65_535;
/** Room for a million entries; more are not meant. */
const largestDirectory = 256 * 2 ** 20;

type Fail = (message: string) => never;

/** Lists an archive's entries. Throws a UserError on anything that is not a plain entry inside the file. */
export async function listZip(file: FileHandle): Promise<Map<string, ZipEntry>> {
  const fail = (message: string): never => {
    throw new UserError(`${file.name} is not a zip archive that can be read: ${message}`, {
      code: "FILE_NOT_READABLE",
    });
  };
  const { offset, size, count } = await findDirectory(file, fail);
  const bytes = await readBytes(file, offset, size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries = new Map<string, ZipEntry>();
  const names = readNames(bytes, view, count, fail);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const { name, nameLength, extraLength, next } = names[i];
    const shown = shorten(name);
    const fields = {
      compressed: view.getUint32(at + 20, true),
      plain: view.getUint32(at + 24, true),
      offset: view.getUint32(at + 42, true),
    };
    read64(view, at + 46 + nameLength, extraLength, fields);
    if (view.getUint16(at + 8, true) & 1) fail(`${shown} is encrypted`);
    const method = view.getUint16(at + 10, true);
    const deflated = method === 8;
    if (!deflated && method !== 0) fail(`${shown} is compressed with method ${method}; only deflate can be read`);
    if (!deflated && fields.compressed !== fields.plain)
      fail(`${shown} is not compressed, but has sizes of ${fields.compressed} and ${fields.plain} bytes`);
    if (name.split("/").includes("..") || name.startsWith("/")) fail(`it names the path ${quote(name)}`);
    if (entries.has(name)) fail(`${shown} is there twice`);
    const offset = await dataOffset(file, name, fields, fail);
    entries.set(name, { name, offset, length: fields.compressed, size: fields.plain, deflated });
    at = next;
  }
  checkOverlaps([...entries.values()], fail);
  return entries;
}

interface NamedRecord {
  readonly name: string;
  readonly nameLength: number;
  readonly extraLength: number;
  /** Where the next record begins. */
  readonly next: number;
}

/** The directory's names, with `/` between folders. How they are encoded is seen from all of them. */
function readNames(bytes: Uint8Array, view: DataView, count: number, fail: Fail): NamedRecord[] {
  const records: (Omit<NamedRecord, "name"> & { bytes: Uint8Array; utf8: boolean })[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== centralSignature) fail("its directory is cut off");
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((o) => view.getUint16(at + o, true));
    const next = at + 46 + nameLength + extraLength + commentLength;
    if (next > bytes.length) fail("its directory is cut off");
    const raw = bytes.subarray(at + 46, at + 46 + nameLength);
    const unicode = unicodePath(view, at + 46 + nameLength, extraLength, raw);
    const utf8 = unicode !== undefined || (view.getUint16(at + 8, true) & 0x800) !== 0;
    records.push({ bytes: unicode ?? raw, utf8, nameLength, extraLength, next });
    at = next;
  }
  const names = decodeNames(records);
  return records.map((record, i) => ({ ...record, name: names[i].replaceAll("\\", "/") }));
}

/** The name in UTF-8 that Info-ZIP keeps in an extra field beside one in another encoding, whose checksum it carries. */
function unicodePath(view: DataView, from: number, length: number, raw: Uint8Array): Uint8Array | undefined {
  for (let at = from; at + 4 <= from + length;) {
    const [id, size] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    const isWhole = at + 4 + size <= from + length;
    if (
      id === 0x7075 &&
      isWhole &&
      size > 5 &&
      view.getUint8(at + 4) === 1 &&
      view.getUint32(at + 5, true) === crc32(raw)
    )
      return new Uint8Array(view.buffer, view.byteOffset + at + 9, size - 5);
    at += 4 + size;
  }
  return undefined;
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

async function findDirectory(file: FileHandle, fail: Fail): Promise<{ offset: number; size: number; count: number }> {
  if (file.size < endRecord) fail("it is too short");
  const tailLength = Math.min(file.size, endRecord + longestComment);
  const tail = await readBytes(file, file.size - tailLength, tailLength);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  let end = tailLength - endRecord;
  while (end >= 0 && view.getUint32(end, true) !== endSignature) end--;
  if (end < 0) fail("it has no directory at its end (is it cut off?)");
  let directory = {
    count: view.getUint16(end + 10, true),
    size: view.getUint32(end + 12, true),
    offset: view.getUint32(end + 16, true),
  };
  const locator = end - 20;
  if (locator >= 0 && view.getUint32(locator, true) === locator64Signature) {
    const at = Number(view.getBigUint64(locator + 8, true));
    if (at + 56 > file.size) fail("its directory has an offset beyond the end of the file");
    const record = await readBytes(file, at, 56);
    const wide = new DataView(record.buffer, record.byteOffset, record.byteLength);
    if (wide.getUint32(0, true) !== end64Signature) fail("its 64-bit directory record is missing");
    directory = {
      count: Number(wide.getBigUint64(32, true)),
      size: Number(wide.getBigUint64(40, true)),
      offset: Number(wide.getBigUint64(48, true)),
    };
  }
  if (directory.size > largestDirectory || directory.offset + directory.size > file.size)
    fail("its directory has an offset beyond the end of the file");
  if (directory.count * 46 > directory.size) fail(`its directory claims ${directory.count} entries`);
  return directory;
}

/** Sizes and offsets of more than 32 bits stand in an extra field. */
function read64(
  view: DataView,
  from: number,
  length: number,
  fields: { compressed: number; plain: number; offset: number },
): void {
  for (let at = from; at + 4 <= from + length;) {
    const [id, size] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    if (id === 1) {
      let value = at + 4;
      for (const key of ["plain", "compressed", "offset"] as const) {
        if (fields[key] !== 0xffffffff || value + 8 > Math.min(at + 4 + size, from + length)) continue;
        fields[key] = Number(view.getBigUint64(value, true));
        value += 8;
      }
    }
    at += 4 + size;
  }
}

/** The data begins behind the local header, whose extra field has a length of its own. */
async function dataOffset(
  file: FileHandle,
  name: string,
  { compressed, offset }: { compressed: number; offset: number },
  fail: Fail,
): Promise<number> {
  if (offset + 30 > file.size) fail(`${shorten(name)} has an offset beyond the end of the file`);
  const header = await readBytes(file, offset, 30);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  if (view.getUint32(0, true) !== localSignature) fail(`${shorten(name)} is not where the directory says`);
  const begin = offset + 30 + view.getUint16(26, true) + view.getUint16(28, true);
  if (begin + compressed > file.size) fail(`${shorten(name)} has an offset beyond the end of the file`);
  return begin;
}

function checkOverlaps(entries: readonly ZipEntry[], fail: Fail): void {
  let end = 0;
  for (const { name, offset, length } of [...entries].sort((a, b) => a.offset - b.offset)) {
    if (offset < end) fail(`${shorten(name)} overlaps another entry`);
    end = offset + length;
  }
}
