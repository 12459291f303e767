// Tar shards as WebDataset writes them: images with their labels beside them under one key, read where they lie.
import type { FileHandle } from "../../files/storage.ts";
import { decodeNames } from "../../files/names.ts";
import { readBytes } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import { hiddenReason, unusedFile } from "../unused.ts";
import { isMetadataName } from "./found-files.ts";
import { isImageName } from "./tree.ts";

const block = 512;
/** Labels and descriptions beyond this are not meant. */
const largestText = 2 ** 20;

export interface TarEntry {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

const text = (bytes: Uint8Array) =>
  new TextDecoder().decode(bytes.subarray(0, (bytes.indexOf(0) + 1 || bytes.length + 1) - 1));

const empty = new Uint8Array(0);
const untilZero = (bytes: Uint8Array) => bytes.slice(0, (bytes.indexOf(0) + 1 || bytes.length + 1) - 1);
const joined = (folder: Uint8Array, name: Uint8Array) => Uint8Array.from([...folder, 47, ...name]);

/** A header's number: octal digits, or big-endian bytes where the first bit is set. */
function numberOf(bytes: Uint8Array): number {
  if (bytes[0] & 0x80) return bytes.subarray(1).reduce((sum, b) => sum * 256 + b, bytes[0] & 0x7f);
  const digits = text(bytes).trim();
  return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

/** The values in a header of the extended kind (pax): lines of "length key=value". */
function extended(bytes: Uint8Array): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(32, at);
    const length = Number(text(bytes.subarray(at, Math.max(at, space))));
    if (space < 0 || !(length > 0)) break;
    const equals = bytes.indexOf(61, space);
    if (equals < 0 || equals >= at + length) break;
    records.set(text(bytes.subarray(space + 1, equals)), bytes.slice(equals + 1, at + length - 1));
    at += length;
  }
  return records;
}

interface TarRecord {
  readonly name: Uint8Array;
  readonly offset: number;
  readonly size: number;
  readonly kind: string;
  /** The path that a link leads to. */
  readonly link: Uint8Array;
}

const unreadKinds: Readonly<Record<string, string>> = {
  "1": "a link out of the archive",
  "2": "a link out of the archive",
  S: "a sparse file",
};

/** Decodes names, and follows links inside of the archive. */
function resolved(records: readonly TarRecord[]): { entries: TarEntry[]; unread: UnreadEntry[] } {
  const texts = decodeNames(records.flatMap(({ name, link }) => [name, link]).map((bytes) => ({ bytes, utf8: false })));
  const names = records.map((_, i) => texts[2 * i].replace(/^(?:\.\/)+/, ""));
  const isFile = (kind: string) => kind === "0" || kind === "\0" || kind === "7";
  // Of files of one name the last one counts, as it does for tar.
  const byName = new Map<string, TarRecord>();
  const linkOf = new Map<string, string>();
  records.forEach((record, i) => {
    if (isFile(record.kind)) byName.set(names[i], record);
    else if (record.kind === "1") linkOf.set(names[i], withoutDots(texts[2 * i + 1]));
    else if (record.kind === "2")
      linkOf.set(names[i], withoutDots(`${names[i].slice(0, names[i].lastIndexOf("/") + 1)}${texts[2 * i + 1]}`));
  });
  const entries: TarEntry[] = [];
  const unread: UnreadEntry[] = [];
  records.forEach((record, i) => {
    const name = names[i];
    let target = isFile(record.kind) ? record : undefined;
    let path = name;
    for (let steps = 0; !target && steps < 8; steps++) {
      const next = linkOf.get(path);
      if (next === undefined) break;
      target = byName.get(next);
      path = next;
    }
    if (target) entries.push({ name, offset: target.offset, size: target.size });
    else unread.push({ name, kind: unreadKinds[record.kind] ?? "not a regular file" });
  });
  return { entries, unread };
}

/** A path without `.` and `..`. */
function withoutDots(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

/** What is in an archive, but can't be read where it lies. */
export interface UnreadEntry {
  readonly name: string;
  readonly kind: string;
}

/**
 * The files of an archive, in order; links are the files that they lead to. Throws a UserError where it is no tar archive, or
 * ends before it should.
 */
export async function listTar(file: FileHandle): Promise<{ entries: TarEntry[]; unread: UnreadEntry[] }> {
  const fail = (message: string): never => {
    throw new UserError(`${file.name} is not a tar archive that can be read: ${message}`, { code: "INVALID_DATA" });
  };
  const records: TarRecord[] = [];
  let longName: Uint8Array | undefined;
  let longLink: Uint8Array | undefined;
  let longSize: number | undefined;
  for (let at = 0; at + block <= file.size;) {
    const header = await readBytes(file, at, block);
    if (header.every((b) => b === 0)) break;
    const wanted = numberOf(header.subarray(148, 156));
    // The checksum counts its own place as spaces.
    const sum = header.reduce((total, b, i) => total + (i >= 148 && i < 156 ? 32 : b), 0);
    if (sum !== wanted) fail(at === 0 ? "its first header is none (is it packed?)" : `the header at ${at} is damaged`);
    const size = longSize ?? numberOf(header.subarray(124, 136));
    const kind = String.fromCharCode(header[156]);
    const prefix = text(header.subarray(257, 262)) === "ustar" ? untilZero(header.subarray(345, 500)) : empty;
    const ownName = untilZero(header.subarray(0, 100));
    const name = longName ?? (prefix.length > 0 ? joined(prefix, ownName) : ownName);
    const shown = () => shorten(text(name));
    const offset = at + block;
    // Links and folders have no content, whatever size they state.
    const length = /[1-6]/.test(kind) ? 0 : size;
    if (!(size >= 0) || offset + length > file.size) fail(`it ends inside of ${shown()}`);
    if (kind === "L" || kind === "K" || kind === "x") {
      if (size > largestText) fail(`the name at ${at} is ${size} bytes long`);
      const bytes = await readBytes(file, offset, size);
      if (kind === "L") longName = untilZero(bytes);
      else if (kind === "K") longLink = untilZero(bytes);
      else {
        const pax = extended(bytes);
        longName = pax.get("path") ?? longName;
        longLink = pax.get("linkpath") ?? longLink;
        const stated = pax.get("size");
        longSize = stated === undefined ? undefined : Number(text(stated));
      }
    } else {
      if (kind !== "g" && kind !== "5")
        records.push({ name, offset, size, kind, link: longLink ?? untilZero(header.subarray(157, 257)) });
      [longName, longLink, longSize] = [undefined, undefined, undefined];
    }
    at = offset + Math.ceil(length / block) * block;
    if (at < file.size && at + block > file.size) fail(`it ends inside of what follows ${shown()}`);
  }
  return resolved(records);
}

/** An image of a shard, and its class as a number or a name where one stands beside it. */
export interface Sample {
  readonly item: Item;
  /** The image's path inside of the shard. */
  readonly path: string;
  readonly class?: number | string;
}

const described = ["label", "class", "cls", "target"] as const;

const baseOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);
/** A path up to the first dot of its file's name: WebDataset's key. */
function firstDotKey(path: string): string {
  const dot = path.indexOf(".", path.length - baseOf(path).length);
  return dot < 0 ? path : path.slice(0, dot);
}
const lastDotKey = (path: string) => path.slice(0, path.lastIndexOf("."));

/** The images of a shard. `file` is its path from the data set's folder. */
export async function shardSamples(
  handle: FileHandle,
  file: string,
): Promise<{ samples: Sample[]; skipped: Skipped[]; metadata: TarEntry[] }> {
  const skipped: Skipped[] = [];
  const pass = (entry: TarEntry, reason: string) => skipped.push(unusedFile(`${file}/${entry.name}`, reason));
  const images = new Map<string, TarEntry[]>();
  const others = new Map<string, TarEntry>();
  const { entries, unread } = await listTar(handle);
  for (const { name, kind } of unread)
    skipped.push({ name: `${file}/${name}`, reason: kind, ...(isImageName(name) ? {} : { expected: true }) });
  for (const entry of entries) {
    const hidden = hiddenReason(entry.name);
    if (hidden !== undefined) pass(entry, hidden);
    else if (isImageName(entry.name)) {
      const key = firstDotKey(entry.name);
      const group = images.get(key) ?? [];
      images.set(key, group);
      group.push(entry);
    } else {
      const earlier = others.get(entry.name);
      // What stands further behind in an archive takes the place of what came before.
      if (earlier) pass(earlier, "duplicate key");
      others.set(entry.name, entry);
    }
  }
  const chosen = [...images.values()].flatMap((group) => imagesOfKey(group, pass));
  const short = async (entry: TarEntry) => {
    if (entry.size > largestText)
      throw new UserError(`${shorten(entry.name)} in ${handle.name} is too long for a label`, { code: "INVALID_DATA" });
    return new TextDecoder().decode(await readBytes(handle, entry.offset, entry.size)).trim();
  };
  const read = new Set<TarEntry>();
  const companion = (path: string, ending: string) => {
    const value = [lastDotKey(path), firstDotKey(path)].map((key) => others.get(`${key}.${ending}`)).find(Boolean);
    if (value) read.add(value);
    return value;
  };
  const samples: Sample[] = [];
  for (const { name, offset, size } of chosen) {
    const item: Item = { name: `${file}/${name}`, place: { kind: "range", file, offset, length: size } };
    const [number, json] = [companion(name, "cls"), companion(name, "json")];
    let value: unknown;
    if (number) value = await short(number);
    else if (json) {
      const content = fieldsOf(await short(json));
      value = described.map((k) => content[k]).find((v) => typeof v === "string" || typeof v === "number");
    }
    const label = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
    samples.push({ item, path: name, class: label as number | string | undefined });
  }
  const metadata = [...others.values()].filter(({ name }) => isMetadataName(name));
  for (const entry of others.values()) if (!read.has(entry) && !metadata.includes(entry)) pass(entry, "not an image");
  return { samples, skipped, metadata };
}

/**
 * The images of one key that are samples. `0.png` is taken beside `0.depth.png`; where no name is that plain, as in
 * `photo_jpg.rf.0a0b.jpg`, dots are no part of WebDataset's naming and each image is a sample.
 */
function imagesOfKey(group: readonly TarEntry[], pass: (entry: TarEntry, reason: string) => void): TarEntry[] {
  const byName = new Map<string, TarEntry>();
  for (const entry of group) {
    const earlier = byName.get(entry.name);
    if (earlier) pass(earlier, "duplicate key");
    byName.set(entry.name, entry);
  }
  const entries = [...byName.values()];
  const plain = entries.find(({ name }) => firstDotKey(name) === lastDotKey(name));
  if (!plain) return entries;
  for (const entry of entries) if (entry !== plain) pass(entry, "another image of the same key");
  return [plain];
}

/** The fields of a JSON object; none of what is something else. */
function fieldsOf(content: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(content);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
