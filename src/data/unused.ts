// Files of a data set that are not used, counted by reason, so that none is lost without a word.
import type { Skipped } from "./loader.ts";

/** Files that are not used for one reason. */
export interface UnusedFiles {
  readonly reason: string;
  readonly count: number;
  /** The first few of them. */
  readonly names: readonly string[];
}

const namesShown = 3;

/** A file that was never meant to be used, such as a text beside images; `strict` accepts it. */
export const unusedFile = (name: string, reason: string): Skipped => ({ name, reason, expected: true });

export const notAnImage = (name: string): Skipped => unusedFile(name, "not an image");

/** Left behind by systems and tools. */
const systemFiles = new Set(["thumbs.db", "desktop.ini"]);

/** Why a file is passed over for its path alone; undefined where it is not. */
export function hiddenReason(path: string): string | undefined {
  const parts = path.split("/");
  const base = parts[parts.length - 1];
  if (parts.includes("__MACOSX") || base.startsWith("._")) return "macOS resource fork";
  return parts.some((part) => part.startsWith(".")) || systemFiles.has(base.toLowerCase()) ? "hidden" : undefined;
}

/** Counts by reason, in the order in which reasons first occur. */
export function countUnused(files: Iterable<Skipped>): UnusedFiles[] {
  const counts = new Map<string, { count: number; names: string[] }>();
  for (const { name, reason, group = reason } of files) {
    const counted = counts.get(group) ?? { count: 0, names: [] };
    counts.set(group, counted);
    counted.count++;
    if (counted.names.length < namesShown) counted.names.push(name);
  }
  return [...counts].map(([reason, { count, names }]) => ({ reason, count, names }));
}
