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
  /** All wanted files below a folder, by their paths from the tree's folder; others and hidden ones are reported. */
  walk(folder: string, wanted: (name: string) => boolean): Promise<{ names: string[]; skipped: Skipped[] }>;
  open(entry: string): Promise<FileHandle | undefined>;
  /** What a folder in a list may mean that is absolute, or has `..` in it: paths from the tree's folder. */
  candidates(folder: string): string[];
  /** Whether there is a file, also outside of the folder. */
  isFile(entry: string): Promise<boolean>;
}

/** As a part of a regular expression. */
export const imageEndings = "jpe?g|png|webp|avif|tiff?|gif|bmp";
const imageName = new RegExp(`\\.(${imageEndings})$`, "i");
export const isImageName = (name: string): boolean => imageName.test(name);

/** The same for people. */
export const shownImageEndings = ".jpg .jpeg .png .webp .avif .tif .tiff .gif .bmp";

/** A path as lists write it: with `/`, without a dot in front. */
export const plainPath = (path: string): string => path.replaceAll("\\", "/").replace(/^(?:\.\/)+/, "");

/** The path of an entry as people see it. */
export const pathOf = (tree: DataTree, entry: string): string => `${tree.path}/${entry}`;

/** Lists and annotations beyond this are not meant. */
const textLimit = 2 ** 29;

/** A whole file of text. Throws a UserError where it is missing or huge. */
export async function textOf(tree: DataTree, entry: string): Promise<string> {
  return decodeText(await bytesOf(tree, entry, textLimit));
}

/** UTF-8, or UTF-16 where its mark says so: spreadsheets save tables of text in it. */
export function decodeText(bytes: Uint8Array): string {
  const mark = (bytes[0] << 8) | bytes[1];
  return new TextDecoder(mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8").decode(bytes);
}

/** A whole file. Throws a UserError where it is missing, or longer than `most` bytes. */
export async function bytesOf(tree: DataTree, entry: string, most = 2 ** 29): Promise<Uint8Array> {
  const file = await tree.open(entry);
  if (!file) throw new UserError(`There is no ${pathOf(tree, entry)}`, { code: "FILE_NOT_FOUND" });
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

/** Data that is no file: nothing lies there, its name says what it is. */
export const bareTree = (path: string): DataTree => ({
  path,
  list: async () => [],
  walk: async () => ({ names: [], skipped: [] }),
  open: async () => undefined,
  candidates: () => [],
  isFile: async () => false,
});
