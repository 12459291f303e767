// What formats see of a data set on disk, and the checks that they share.
import type { FileHandle } from "../../files/storage.ts";
import { readAtMost } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import type { Skipped } from "../loader.ts";

/** A folder, or a file with the folder that it lies in; entries are paths from there with `/`. */
export interface DataTree {
  /** The folder. */
  readonly path: string;
  /** The file that was named, where it was none but a folder. */
  readonly file?: string;
  /** Names in a folder, sorted; hidden ones are left out. */
  list(folder?: string): Promise<{ readonly name: string; readonly isFolder: boolean }[]>;
  /** All wanted files below a folder, by their paths from the tree's folder; others are told. */
  walk(folder: string, wanted: (name: string) => boolean): Promise<{ names: string[]; skipped: Skipped[] }>;
  open(entry: string): Promise<FileHandle | undefined>;
}

const pictureName = /\.(jpe?g|png|webp|avif|tiff?|gif|bmp)$/i;
export const isPictureName = (name: string): boolean => pictureName.test(name);

/** The path of an entry as people see it. */
export const pathOf = (tree: DataTree, entry: string): string => `${tree.path}/${entry}`;

/** Lists and annotations beyond this are not meant. */
const textLimit = 2 ** 29;

/** A whole file of text. Throws a UserError where it is missing or huge. */
export async function textOf(tree: DataTree, entry: string): Promise<string> {
  return new TextDecoder().decode(await bytesOf(tree, entry, textLimit));
}

/** A whole file. Throws a UserError where it is missing, or longer than `most` bytes. */
export async function bytesOf(tree: DataTree, entry: string, most = 2 ** 29): Promise<Uint8Array> {
  const file = await tree.open(entry);
  if (!file) throw new UserError(`there is no ${pathOf(tree, entry)}`);
  try {
    return await readAtMost(file, most);
  } finally {
    await file.close();
  }
}

/** Whether a file is there. */
export async function has(tree: DataTree, entry: string): Promise<boolean> {
  const cut = entry.lastIndexOf("/");
  const [folder, name] = [entry.slice(0, Math.max(0, cut)), entry.slice(cut + 1)];
  const entries = await tree.list(folder || undefined).catch((error: unknown) => {
    if (error instanceof UserError) return [];
    throw error;
  });
  return entries.some((e) => e.name === name);
}

/** The lines of a text that are not empty, with their numbers from 1. */
export function numberedLines(text: string): { readonly line: number; readonly text: string }[] {
  return text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .map((content, i) => ({ line: i + 1, text: content.trim() }))
    .filter(({ text: content }) => content !== "");
}
