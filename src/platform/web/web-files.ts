// Files as browsers have them (File, Blob, lists of them, zip archives, directory handles) as directories.
import { inflateBounded } from "../../files/inflate.ts";
import { memoryDirectory } from "../../files/memory-directory.ts";
import type { Directory, FileHandle } from "../../files/storage.ts";
import { readBytes } from "../../files/storage.ts";
import type { ZipEntry } from "../../files/zip.ts";
import { listZip } from "../../files/zip.ts";
import { outputError, RunError, UserError } from "../../utils/errors.ts";

/** A file in a browser's memory or on its disk. */
export function blobHandle(name: string, blob: Blob): FileHandle {
  return {
    name,
    size: blob.size,
    async readInto(offset, target) {
      const part = blob.slice(offset, offset + target.byteLength);
      if (part.size < target.byteLength) throw new UserError(`${name} is shorter than it was.`);
      try {
        target.set(new Uint8Array(await part.arrayBuffer()));
      } catch (error) {
        throw readError(name, error);
      }
    },
    close: async () => undefined,
  };
}

/** What a browser says where a file that was chosen has changed, is gone, or may not be read. */
function readError(name: string, error: unknown): Error {
  const reason = error instanceof Error ? error.name : String(error);
  const why =
    reason === "NotFoundError"
      ? "it is not there any more"
      : reason === "NotReadableError" || reason === "NotAllowedError"
        ? "it has changed since it was chosen, or may not be read"
        : String(error);
  return new UserError(`${name} can't be read: ${why}. Choose it again.`, { code: "FILE_NOT_READABLE", cause: error });
}

/** `a//b/./c` as its parts; entries can't leave their directory. */
export function partsOf(entry: string): string[] {
  const parts = entry.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new UserError(`${entry} leads out of its directory.`);
  return parts;
}

const readOnly = (name: string) => (): Promise<never> =>
  Promise.reject(outputError(`${name} can only be read. Give another place for the output.`));

/** A directory that is only read, over files by their paths; `open` makes a handle of a path that is there. */
function readOnlyDirectory(
  name: string,
  paths: readonly string[],
  open: (path: string, named: string) => Promise<FileHandle>,
): Directory {
  const files = new Set(paths);
  const at = (prefix: readonly string[]): Directory => {
    const pathOf = (entry: string) => [...prefix, ...partsOf(entry)].join("/");
    const refuse = readOnly(name);
    const describe = (entry: string) => [name, pathOf(entry)].filter(Boolean).join("/");
    return {
      describe,
      open: async (entry) => (files.has(pathOf(entry)) ? open(pathOf(entry), describe(entry)) : undefined),
      write: refuse,
      append: refuse,
      remove: refuse,
      removeEmpty: refuse,
      below: (entry) => at([...prefix, ...partsOf(entry)]),
      async list(entry = "") {
        const path = pathOf(entry);
        const folder = path === "" ? "" : `${path}/`;
        const below = paths.filter((file) => file.startsWith(folder));
        return [...new Set(below.map((file) => file.slice(folder.length).split("/")[0]))].sort();
      },
    };
  };
  return at([]);
}

/** Files by their paths, with `/`, that are only read. */
export function blobDirectory(files: ReadonlyMap<string, Blob>, name: string): Directory {
  return readOnlyDirectory(name, [...files.keys()], async (path, named) =>
    blobHandle(named, files.get(path) ?? new Blob()),
  );
}

/** An entry of an archive: stored ones are read where they lie, deflated ones are unpacked at the first read. */
function entryHandle(archive: FileHandle, { offset, length, size, deflated }: ZipEntry, named: string): FileHandle {
  let unpacked: Promise<Uint8Array> | undefined;
  const unpack = async () => {
    const packed = await readBytes(archive, offset, length);
    try {
      return inflateBounded("deflate", packed, { size, isExact: true });
    } catch (error) {
      throw new UserError(`${named} can't be unpacked (${(error as Error).message})`, { code: "FILE_NOT_READABLE" });
    }
  };
  return {
    name: named,
    size,
    async readInto(from, target) {
      if (from + target.byteLength > size) throw new UserError(`${named} is shorter than it was.`);
      if (!deflated) return archive.readInto(offset + from, target);
      unpacked ??= unpack();
      target.set((await unpacked).subarray(from, from + target.byteLength));
    },
    close: async () => {
      unpacked = undefined;
    },
  };
}

/** A zip archive that is only read. Throws a UserError where it is none. A folder that holds all else is left out of the paths. */
export async function zipDirectory(archive: FileHandle, name: string): Promise<Directory> {
  const entries = [...(await listZip(archive)).values()].filter((entry) => !entry.name.endsWith("/"));
  const [first] = entries;
  const outer = first?.name.includes("/") ? first.name.slice(0, first.name.indexOf("/") + 1) : "";
  const cut = entries.every((entry) => entry.name.startsWith(outer)) ? outer.length : 0;
  const byPath = new Map(entries.map((entry) => [entry.name.slice(cut), entry]));
  return readOnlyDirectory(name, [...byPath.keys()], async (path, named) => {
    const entry = byPath.get(path);
    if (!entry) throw new UserError(`There is no ${named}.`, { code: "FILE_NOT_FOUND" });
    return entryHandle(archive, entry, named);
  });
}

/** Names of what a browser throws where a name is not there, or is of the other kind. */
const absent = new Set(["NotFoundError", "TypeMismatchError"]);
const isAbsent = (error: unknown) => error instanceof Error && absent.has(error.name);

function writeError(named: string, error: unknown): Error {
  if (error instanceof UserError || error instanceof RunError) return error;
  const name = error instanceof Error ? error.name : "";
  const why =
    name === "QuotaExceededError"
      ? "the browser has no more room for this page"
      : name === "NotAllowedError"
        ? "the page may not write there"
        : String(error);
  return new RunError(`${named} can't be written: ${why}.`, { code: "OUTPUT_NOT_WRITABLE", cause: error });
}

/** What is used of a directory handle; the type of TypeScript's library lacks `values` in some versions. */
type Folder = FileSystemDirectoryHandle & { keys(): AsyncIterable<string> };

/** A folder that the user has chosen, or one of the origin's private file system. */
export function handleDirectory(root: FileSystemDirectoryHandle, name: string): Directory {
  const at = (prefix: readonly string[]): Directory => {
    const inside = (entry: string) => [...prefix, ...partsOf(entry)];
    const describe = (entry: string) => [name, ...inside(entry)].join("/");
    /** The folder at a path; undefined where there is none. */
    const folder = async (parts: readonly string[], create = false): Promise<Folder | undefined> => {
      let at = root;
      try {
        for (const part of parts) at = await at.getDirectoryHandle(part, { create });
      } catch (error) {
        if (!create && isAbsent(error)) return undefined;
        throw create ? writeError([name, ...parts].join("/"), error) : error;
      }
      return at as Folder;
    };
    const written = async (
      entry: string,
      keepExistingData: boolean,
      write: (to: FileSystemWritableFileStream, size: number) => Promise<void>,
    ) => {
      const parts = inside(entry);
      try {
        const parent = await folder(parts.slice(0, -1), true);
        const file = await parent?.getFileHandle(parts[parts.length - 1], { create: true });
        // The browser writes beside the file, and puts it in place when it is closed.
        const stream = await file?.createWritable({ keepExistingData });
        if (!file || !stream) throw new RunError(`${describe(entry)} can't be written.`);
        try {
          await write(stream, keepExistingData ? (await file.getFile()).size : 0);
        } catch (error) {
          await stream.abort().catch(() => undefined);
          throw error;
        }
        await stream.close();
      } catch (error) {
        throw writeError(describe(entry), error);
      }
    };
    return {
      describe,
      async open(entry) {
        const parts = inside(entry);
        if (parts.length === 0) return undefined;
        const parent = await folder(parts.slice(0, -1));
        try {
          const handle = await parent?.getFileHandle(parts[parts.length - 1]);
          return handle && blobHandle(describe(entry), await handle.getFile());
        } catch (error) {
          if (isAbsent(error)) return undefined;
          throw readError(describe(entry), error);
        }
      },
      write: (entry, chunks) =>
        written(entry, false, async (stream) => {
          for (const chunk of chunks) await stream.write(plain(chunk));
        }),
      append: (entry, content) =>
        written(entry, true, async (stream, size) => {
          await stream.write({
            type: "write",
            position: size,
            data: typeof content === "string" ? content : plain(content),
          });
        }),
      async remove(entry) {
        const parts = inside(entry);
        const parent = await folder(parts.slice(0, -1));
        await parent?.removeEntry(parts[parts.length - 1], { recursive: true }).catch((error: unknown) => {
          if (!isAbsent(error)) throw writeError(describe(entry), error);
        });
      },
      async removeEmpty(entry) {
        const parts = inside(entry);
        const parent = await folder(parts.slice(0, -1));
        // A folder that holds something, or is none, stays.
        await parent?.removeEntry(parts[parts.length - 1]).catch(() => undefined);
      },
      below: (entry) => at(inside(entry)),
      async list(entry = "") {
        const files = await folder(inside(entry));
        const names: string[] = [];
        if (files) for await (const key of files.keys()) names.push(key);
        return names.sort();
      },
    };
  };
  return at([]);
}

/** Streams and blobs take no shared memory. */
export const plain = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);

/** Whether something is a directory handle of the File System API. */
export const isDirectoryHandle = (value: unknown): value is FileSystemDirectoryHandle =>
  typeof value === "object" && value !== null && "kind" in value && value.kind === "directory";

/** Where one of a list of files stands in the folder that was chosen or dropped: its path without the folder's own name. */
function pathIn(file: File, outer: number): string {
  const path = file.webkitRelativePath || file.name;
  return path.slice(outer);
}

/** The name of a folder that all files of a list come from; undefined where they were chosen one by one. */
export function folderName(files: readonly File[]): string | undefined {
  const tops = new Set(files.map((file) => (file.webkitRelativePath || "").split("/")[0]));
  const [top] = tops;
  return tops.size === 1 && top !== "" ? top : undefined;
}

/** Files as a directory. Two of one path are refused. */
export function fileListDirectory(files: readonly File[], name: string): Directory {
  const top = folderName(files);
  const outer = top === undefined ? 0 : top.length + 1;
  const byPath = new Map<string, Blob>();
  for (const file of files) {
    const path = pathIn(file, outer);
    if (byPath.has(path))
      throw new UserError(`Two of the files are called ${path}. Choose the folder that they lie in.`, {
        code: "INVALID_INPUT",
      });
    byPath.set(path, file);
  }
  return blobDirectory(byPath, name);
}

/** A directory that is called by another name, by which all messages and paths go. */
export function renamed(directory: Directory, name: string): Directory {
  const describe = (entry: string) => [name, ...partsOf(entry)].join("/");
  return {
    describe,
    async open(entry) {
      const handle = await directory.open(entry);
      return handle && { ...handle, name: describe(entry) };
    },
    write: (entry, chunks) => directory.write(entry, chunks),
    append: (entry, content) => directory.append(entry, content),
    remove: (entry) => directory.remove(entry),
    removeEmpty: (entry) => directory.removeEmpty(entry),
    below: (entry) => renamed(directory.below(entry), describe(entry)),
    list: (entry) => directory.list(entry),
  };
}

/** Directories by the first part of paths. What is in none of them lies in memory. */
export class Mounts {
  private readonly mounted = new Map<string, Directory>();
  private readonly scratch: Directory;

  constructor(scratch: Directory = memoryDirectory(new Map(), "")) {
    this.scratch = scratch;
  }

  /** Gives a directory a path: `wanted`, or that with a number behind it where it is taken. */
  add(wanted: string, directory: Directory): string {
    const plainName = wanted.replaceAll(/[/\\]/g, "_") || "files";
    let name = plainName;
    for (let count = 2; this.mounted.has(name); count++) name = `${plainName} (${count})`;
    this.mounted.set(name, renamed(directory, name));
    return name;
  }

  remove(name: string): void {
    this.mounted.delete(name);
  }

  /** A folder at a path. */
  directory(path: string): Directory {
    const [root = "", ...rest] = partsOf(path);
    const mounted = this.mounted.get(root);
    if (!mounted) return root === "" ? this.scratch : this.scratch.below([root, ...rest].join("/"));
    return rest.length === 0 ? mounted : mounted.below(rest.join("/"));
  }

  /** The folder that a path lies in, and its name there. */
  split(path: string): { readonly directory: Directory; readonly name: string } {
    const parts = partsOf(path);
    return { directory: this.directory(parts.slice(0, -1).join("/")), name: parts.at(-1) ?? "" };
  }

  /** What stands at a path. */
  async kindOf(path: string): Promise<"file" | "folder" | undefined> {
    const parts = partsOf(path);
    if (parts.length > 1) {
      const { directory, name } = this.split(path);
      const file = await directory.open(name);
      await file?.close();
      if (file) return "file";
    }
    return (await this.directory(path).list()).length > 0 ? "folder" : undefined;
  }
}

/** Files by their paths in a folder, with `/`, as they are gathered from what was dropped on a page. */
export interface FileTree {
  /** The folder's name, for messages. */
  readonly name?: string;
  readonly files: ReadonlyMap<string, Blob>;
}

export const isFile = (value: unknown): value is File => typeof File === "function" && value instanceof File;

/** A list of files; undefined where it is something else. */
export function filesOf(value: unknown): readonly File[] | undefined {
  if (typeof FileList === "function" && value instanceof FileList) return Array.from(value);
  return Array.isArray(value) && value.length > 0 && value.every(isFile) ? value : undefined;
}
