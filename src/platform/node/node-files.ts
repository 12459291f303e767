// Files on disk, behind the Directory interface.
import { randomBytes } from "node:crypto";
import type { FileHandle as NodeHandle } from "node:fs/promises";
import { appendFile, mkdir, open, readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Directory, FileHandle } from "../../files/storage.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import { isAlive, machineId } from "./process-identity.ts";

/** Node reads and writes at most 2 GiB - 1 at once. */
const largestRead = 2 ** 30;

const readProblems: Readonly<Record<string, string>> = {
  EACCES: "may not be read (permissions)",
  EISDIR: "is a folder, not a file",
  ENAMETOOLONG: "has a name that is too long",
};

const writeProblems: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the disk is read-only",
  ENOTDIR: "a part of the path is a file, not a folder",
};

function errorCode(error: unknown): string {
  return (error as { code?: string }).code ?? "";
}

/** Opens a file for reading; undefined where there is none. */
export async function openFile(path: string): Promise<FileHandle | undefined> {
  let handle: NodeHandle;
  try {
    handle = await open(path, "r");
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new UserError(`${path} ${readProblems[code] ?? `can't be opened: ${(error as Error).message}`}`);
  }
  const stats = await handle.stat();
  if (stats.isDirectory()) {
    await handle.close();
    throw new UserError(`${path} is a folder, not a file`);
  }
  return {
    name: path,
    size: stats.size,
    async readInto(offset, target) {
      const length = target.byteLength;
      for (let at = 0; at < length;) {
        const { bytesRead } = await handle.read(target, at, Math.min(length - at, largestRead), offset + at);
        if (bytesRead === 0) throw new UserError(`${path} ends at ${offset + at}, before the ${length} bytes expected`);
        at += bytesRead;
      }
    },
    close: () => handle.close(),
  };
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

/** Writes a file whole or not at all: beside it first, then renamed. Throws a RunError on a full disk. */
export async function writeFileSafely(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const beside = `${path}.${temporaryTag()}.partial`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const handle = await open(beside, "wx");
    try {
      for (const chunk of chunks) await writeChunk(handle, chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw writeError(path, error);
  }
}

function writeError(path: string, error: unknown): RunError {
  const reason = writeProblems[errorCode(error)] ?? (error as Error).message;
  return new RunError(`${path} could not be written: ${reason}`, { cause: error });
}

async function appendTo(path: string, content: string | Uint8Array): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await appendFile(path, content);
  } catch (error) {
    throw writeError(path, error);
  }
}

/** A folder on disk. */
export function nodeDirectory(path: string): Directory {
  return {
    describe: (entry) => join(path, entry),
    below: (entry) => nodeDirectory(join(path, entry)),
    open: (entry) => openFile(join(path, entry)),
    write: (entry, chunks) => writeFileSafely(join(path, entry), chunks),
    async remove(entry) {
      try {
        await rm(join(path, entry), { recursive: true, force: true });
      } catch (error) {
        throw writeError(join(path, entry), error);
      }
    },
    async removeEmpty(entry) {
      // A folder that holds something, or is none, stays.
      await rmdir(join(path, entry)).catch(() => undefined);
    },
    append: (entry, content) => appendTo(join(path, entry), content),
    list: async (entry = "") => {
      try {
        return (await readdir(join(path, entry))).sort();
      } catch (error) {
        if (errorCode(error) === "ENOENT") return [];
        throw new UserError(`${path} can't be read: ${(error as Error).message}`);
      }
    },
  };
}
