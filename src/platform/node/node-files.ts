// Files on disk, behind the Directory interface.
import { randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { constants } from "node:fs";
import type { FileHandle as NodeHandle } from "node:fs/promises";
import { appendFile, lstat, open, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Directory, FileHandle } from "../../files/storage.ts";
import { readAtMost } from "../../files/storage.ts";
import { outputError, UserError } from "../../utils/errors.ts";
import { isAlive, machineId } from "./process-identity.ts";
import { readError, systemCode, writeError } from "./system-errors.ts";
import { makeFolder } from "./make-folder.ts";
import { debug, isDebugged } from "../../utils/debug.ts";

/** Node reads and writes at most 2 GiB - 1 at once. */
const largestRead = 2 ** 30;

/** What is no regular file, by name: a pipe would wait for ever, a device may have no end. */
function kindOf(stats: Stats): string | undefined {
  if (stats.isFile()) return undefined;
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a named pipe";
  if (stats.isSocket()) return "a socket";
  return "a device";
}

/** Throws a UserError where a path leads to something else than a regular file. */
function checkRegular(path: string, stats: Stats): void {
  const kind = kindOf(stats);
  if (kind !== undefined)
    throw new UserError(`${path} is ${kind}, not a ${kind === "a folder" ? "" : "regular "}file.`, {
      code: "FILE_NOT_READABLE",
    });
}

const shownFiles = new Set<string>();

/** Shows that a file is read, once for each. The path is made only where it is shown. */
export function debugFile(pathOf: () => string): void {
  if (!isDebugged("files")) return;
  const path = pathOf();
  if (shownFiles.has(path)) return;
  shownFiles.add(path);
  debug("files", () => `read ${path}`);
}

/** Opens a file for reading; undefined where there is none. Throws a UserError on all that is no regular file. */
export async function openFile(path: string): Promise<FileHandle | undefined> {
  let handle: NodeHandle;
  try {
    // Opening alone may wait (a pipe) or act (a device).
    checkRegular(path, await stat(path));
    // What took the file's place since then doesn't make it wait. Windows has no such flag.
    handle = await open(path, constants.O_RDONLY | ((constants.O_NONBLOCK as number | undefined) ?? 0));
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (["ENOENT", "ENOTDIR"].includes(systemCode(error))) return undefined;
    throw readError(path, error);
  }
  debugFile(() => path);
  const stats = await handle.stat();
  try {
    checkRegular(path, stats);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return {
    name: path,
    size: stats.size,
    async readInto(offset, target) {
      const length = target.byteLength;
      for (let at = 0; at < length;) {
        const { bytesRead } = await handle.read(target, at, Math.min(length - at, largestRead), offset + at);
        if (bytesRead === 0)
          throw new UserError(`${path} ends at ${offset + at}, before the ${length} bytes expected.`, {
            code: "FILE_NOT_READABLE",
          });
        at += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}

/**
 * A whole regular file of at most `most` bytes, however it grows meanwhile; undefined where there is none. Throws a UserError
 * where it is longer.
 */
export async function readWhole(path: string, most: number): Promise<Uint8Array | undefined> {
  const file = await openFile(path);
  if (!file) return undefined;
  try {
    return await readAtMost(file, most);
  } finally {
    await file.close();
  }
}

/** Writes all of a chunk: from `position` on, or behind what was written last. */
export async function writeChunk(handle: NodeHandle, chunk: Uint8Array, position?: number): Promise<void> {
  for (let at = 0; at < chunk.byteLength;) {
    const length = Math.min(chunk.byteLength - at, largestRead);
    at += (await handle.write(chunk, at, length, position === undefined ? null : position + at)).bytesWritten;
  }
}

/** Names a temporary file by machine and process, so that those of dead processes can be told. */
export const temporaryTag = (): string => `${machineId()}-${process.pid}-${randomBytes(4).toString("hex")}`;

/** Removes what processes of this machine that are gone had begun to write beside files of a folder. */
export async function removeAbandoned(folder: string, ofWhich: (file: string) => boolean): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [, file, machine, pid] = /^(.+)\.([0-9a-f]{12})-(\d+)-[0-9a-f]{8}\.partial$/.exec(name) ?? [];
    if (file === undefined || machine !== machineId() || isAlive(Number(pid)) || !ofWhich(file)) continue;
    await rm(join(folder, name), { force: true });
  }
}

/** Writes a file whole or not at all: beside it first, then renamed. Throws what writeError makes of a failure. */
export async function writeFileSafely(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${temporaryTag()}.partial`;
  try {
    await makeFolder(dirname(path));
    const handle = await open(temporary, "wx");
    try {
      for (const chunk of chunks) await writeChunk(handle, chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(path, error);
  }
}

async function appendTo(path: string, content: string | Uint8Array): Promise<void> {
  try {
    await makeFolder(dirname(path));
    await appendFile(path, content);
  } catch (error) {
    throw writeError(path, error);
  }
}

/** Throws a UserError where a folder between `root` and a file is a link: what is written there would land elsewhere. */
async function checkFolders(root: string, path: string): Promise<void> {
  for (
    let folder = dirname(resolve(path));
    folder.length > root.length && folder.startsWith(root);
    folder = dirname(folder)
  ) {
    const stats = await lstat(folder).catch(() => undefined);
    if (stats?.isSymbolicLink())
      throw outputError(`${folder} is a link, so nothing is written or removed behind it. Remove the link first.`);
  }
}

/** The same for a file that is written in its place, not by another one that takes it. */
async function checkNoLink(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats?.isSymbolicLink())
    throw outputError(`${path} is a link, so nothing is written through it. Remove the link first.`);
}

/** A folder on disk; `root` is the one that it is a part of. Links to folders in it are read, but not written through. */
export function nodeDirectory(path: string, root: string = path): Directory {
  const top = resolve(root);
  return {
    describe: (entry) => join(path, entry),
    below: (entry) => nodeDirectory(join(path, entry), root),
    open: (entry) => openFile(join(path, entry)),
    async write(entry, chunks) {
      await checkFolders(top, join(path, entry));
      return writeFileSafely(join(path, entry), chunks);
    },
    async remove(entry) {
      await checkFolders(top, join(path, entry));
      try {
        await rm(join(path, entry), { force: true });
      } catch (error) {
        // A folder is none of the files that were written here.
        if (systemCode(error) === "ERR_FS_EISDIR") return;
        throw writeError(join(path, entry), error);
      }
    },
    async removeEmpty(entry) {
      // A folder that holds something, or is none, stays.
      await rmdir(join(path, entry)).catch(() => undefined);
    },
    async append(entry, content) {
      await checkFolders(top, join(path, entry));
      await checkNoLink(join(path, entry));
      return appendTo(join(path, entry), content);
    },
    list: async (entry = "") => {
      try {
        return (await readdir(join(path, entry))).sort();
      } catch (error) {
        if (systemCode(error) === "ENOENT") return [];
        throw readError(join(path, entry), error);
      }
    },
  };
}
