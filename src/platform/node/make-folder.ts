// Folders, made with those that they lie in.
import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode } from "./system-errors.ts";

/**
 * Makes a folder and those above it; gives the topmost that was made, if any. Node's own recursive way never returns on
 * file systems that refuse folders with ENOENT, such as /proc.
 */
export async function makeFolder(path: string): Promise<string | undefined> {
  const missing: string[] = [];
  let at = path;
  while (!(await stat(at).catch(() => undefined))) {
    missing.unshift(at);
    const above = dirname(at);
    if (above === at) break;
    at = above;
  }
  let first: string | undefined;
  for (const folder of missing) {
    try {
      await mkdir(folder);
      first ??= folder;
    } catch (error) {
      // Another process may have made it meanwhile.
      if (systemCode(error) !== "EEXIST") throw error;
    }
  }
  // A file in the folder's place is reported as Node does it.
  if (missing.length === 0 && !(await stat(path)).isDirectory()) await mkdir(path);
  return first;
}
