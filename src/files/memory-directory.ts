// A directory in memory: for browsers, tests, and models that never touch a disk.
import { UserError } from "../utils/errors.ts";
import type { Directory, FileHandle } from "./storage.ts";

const joined = (chunks: readonly Uint8Array[]): Uint8Array => {
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
};

/** `a//b/./c` as `a/b/c`; entries can't leave their directory. */
function normal(entry: string): string {
  const parts = entry.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new UserError(`${entry} leads out of its directory.`);
  return parts.join("/");
}

function handleOf(name: string, bytes: Uint8Array): FileHandle {
  return {
    name,
    size: bytes.byteLength,
    readInto: async (offset, target) => {
      const part = bytes.subarray(offset, offset + target.byteLength);
      if (part.byteLength < target.byteLength)
        throw new UserError(`${name} is shorter than it was.`, { code: "FILE_NOT_READABLE" });
      target.set(part);
    },
    close: async () => undefined,
  };
}

/**
 * A directory of files in memory.
 * @param files by their paths in it, with `/`; what is written is added, and what is removed is deleted
 * @param name what messages call it
 */
export function memoryDirectory(files: Map<string, Uint8Array> = new Map(), name = "memory"): Directory {
  const at = (prefix: string): Directory => {
    const pathOf = (entry: string) => normal(`${prefix}/${entry}`);
    const inside = (entry: string) => {
      const path = pathOf(entry);
      return path === "" ? "" : `${path}/`;
    };
    return {
      describe: (entry) => [name, pathOf(entry)].filter(Boolean).join("/"),
      async open(entry) {
        const bytes = files.get(pathOf(entry));
        return bytes && handleOf(`${name}/${pathOf(entry)}`, bytes);
      },
      async write(entry, chunks) {
        // All chunks are made before the entry changes.
        files.set(pathOf(entry), joined([...chunks].map((chunk) => chunk.slice())));
      },
      async append(entry, content) {
        const added = typeof content === "string" ? new TextEncoder().encode(content) : content;
        files.set(pathOf(entry), joined([files.get(pathOf(entry)) ?? new Uint8Array(), added]));
      },
      async remove(entry) {
        const [path, folder] = [pathOf(entry), inside(entry)];
        for (const file of [...files.keys()]) if (file === path || file.startsWith(folder)) files.delete(file);
      },
      // Folders are there as long as they hold files.
      removeEmpty: async () => undefined,
      below: (entry) => at(pathOf(entry)),
      async list(entry = "") {
        const folder = inside(entry);
        const below = [...files.keys()].filter((file) => file.startsWith(folder));
        return [...new Set(below.map((file) => file.slice(folder.length).split("/")[0]))].sort();
      },
    };
  };
  return at("");
}
