// Tar shards as WebDataset writes them: pictures with their labels beside them under one key, read where they lie.
import type { FileHandle } from "../../files/storage.ts";
import { readBytes } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import { isPictureName } from "./tree.ts";

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

/** A header's number: octal digits, or big-endian bytes where the first bit is set. */
function numberOf(bytes: Uint8Array): number {
  if (bytes[0] & 0x80) return bytes.subarray(1).reduce((sum, b) => sum * 256 + b, bytes[0] & 0x7f);
  const digits = text(bytes).trim();
  return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

/** The value of a key in a header of the extended kind (pax): lines of "length key=value". */
function extended(bytes: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(32, at);
    const length = Number(new TextDecoder().decode(bytes.subarray(at, space)));
    if (space < 0 || !(length > 0)) break;
    const [key, ...value] = new TextDecoder().decode(bytes.subarray(space + 1, at + length - 1)).split("=");
    found.set(key, value.join("="));
    at += length;
  }
  return found;
}

/** The files of an archive, in order. Throws a UserError where it is no tar archive, or ends before it should. */
export async function listTar(file: FileHandle): Promise<TarEntry[]> {
  const fail = (message: string): never => {
    throw new UserError(`${file.name} is no tar archive that can be read: ${message}`);
  };
  const entries: TarEntry[] = [];
  let [longName, longSize] = [undefined as string | undefined, undefined as number | undefined];
  for (let at = 0; at + block <= file.size;) {
    const header = await readBytes(file, at, block);
    if (header.every((b) => b === 0)) return entries;
    const wanted = numberOf(header.subarray(148, 156));
    // The checksum counts its own place as spaces.
    const sum = header.reduce((total, b, i) => total + (i >= 148 && i < 156 ? 32 : b), 0);
    if (sum !== wanted) fail(at === 0 ? "its first header is none (is it packed?)" : `the header at ${at} is damaged`);
    const size = longSize ?? numberOf(header.subarray(124, 136));
    const kind = String.fromCharCode(header[156]);
    const prefix = text(header.subarray(257, 262)) === "ustar" ? text(header.subarray(345, 500)) : "";
    const own = text(header.subarray(0, 100));
    const name = longName ?? (prefix ? `${prefix}/${own}` : own);
    const offset = at + block;
    if (!(size >= 0) || offset + size > file.size) fail(`it ends inside of ${name}`);
    if (kind === "L" || kind === "x") {
      if (size > largestText) fail(`the name at ${at} is ${size} bytes long`);
      const bytes = await readBytes(file, offset, size);
      const pax = kind === "x" ? extended(bytes) : undefined;
      longName = kind === "L" ? text(bytes) : (pax?.get("path") ?? longName);
      longSize = pax?.has("size") ? Number(pax.get("size")) : undefined;
    } else {
      [longName, longSize] = [undefined, undefined];
      if (kind === "0" || kind === "\0") entries.push({ name: name.replace(/^\.\//, ""), offset, size });
    }
    at = offset + Math.ceil(size / block) * block;
    if (at < file.size && at + block > file.size) fail(`it ends inside of what follows ${name}`);
  }
  return entries;
}

/** A picture of a shard, and what stands beside it: a class as a number or a name. */
export interface Sample {
  readonly item: Item;
  readonly class?: number | string;
}

const described = ["label", "class", "cls", "target"] as const;

/** The pictures of a shard. `file` is its path from the data set's folder. */
export async function shardSamples(
  handle: FileHandle,
  file: string,
): Promise<{ samples: Sample[]; skipped: Skipped[] }> {
  const groups = new Map<string, { picture?: TarEntry; others: Map<string, TarEntry> }>();
  const skipped: Skipped[] = [];
  for (const entry of await listTar(handle)) {
    const base = entry.name.slice(entry.name.lastIndexOf("/") + 1);
    if (base.startsWith(".")) continue;
    const dot = base.indexOf(".");
    const key = entry.name.slice(0, entry.name.length - base.length + (dot < 0 ? base.length : dot));
    const group = groups.get(key) ?? { others: new Map<string, TarEntry>() };
    groups.set(key, group);
    if (isPictureName(base)) group.picture ??= entry;
    else group.others.set(dot < 0 ? "" : base.slice(dot + 1).toLowerCase(), entry);
  }
  const samples: Sample[] = [];
  const short = async (entry: TarEntry) => {
    if (entry.size > largestText) throw new UserError(`${entry.name} in ${handle.name} is too long for a label`);
    return new TextDecoder().decode(await readBytes(handle, entry.offset, entry.size)).trim();
  };
  for (const [key, { picture, others }] of groups) {
    if (!picture) {
      skipped.push({ name: `${file}: ${key}`, reason: "has no picture beside it" });
      continue;
    }
    const { name, offset, size } = picture;
    const item: Item = { name: `${file}/${name}`, place: { kind: "range", file, offset, length: size } };
    const [number, json] = [others.get("cls"), others.get("json")];
    let found: unknown;
    if (number) found = await short(number);
    else if (json) {
      const content = fieldsOf(await short(json));
      found = described.map((k) => content[k]).find((v) => typeof v === "string" || typeof v === "number");
    }
    const own = typeof found === "string" && /^\d+$/.test(found) ? Number(found) : found;
    samples.push({ item, class: own as number | string | undefined });
  }
  return { samples, skipped };
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
