// A data set as formats see it, over any directory.
import type { DataTree } from "../../data/formats/tree.ts";
import { bareTree } from "../../data/formats/tree.ts";
import type { Skipped } from "../../data/loader.ts";
import { proceduralCount } from "../../data/procedural/name.ts";
import { hiddenReason, notAnImage, unusedFile } from "../../data/unused.ts";
import type { Directory } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import type { Mounts } from "./web-files.ts";
import { partsOf } from "./web-files.ts";

interface Entry {
  readonly name: string;
  readonly isFolder: boolean;
}

const joined = (folder: string, name: string) => (folder === "" ? name : `${folder}/${name}`);

/** Whether a name is a folder's. Names with an ending are tried as files first, since most are. */
async function isFolder(directory: Directory, path: string): Promise<boolean> {
  const file = await directory.open(path);
  await file?.close();
  return !file;
}

/** What lies in a folder, hidden ones too. */
async function entriesIn(directory: Directory, folder: string): Promise<Entry[]> {
  const names = await directory.list(folder);
  return Promise.all(names.map(async (name) => ({ name, isFolder: await isFolder(directory, joined(folder, name)) })));
}

/** A folder as formats see it, or a file in one. Throws a UserError where there is neither. */
export async function webTree(mounts: Mounts, path: string): Promise<DataTree> {
  if (proceduralCount(path) !== undefined) return bareTree(path);
  const kind = await mounts.kindOf(path);
  if (kind === undefined) throw new UserError(`There is no file or folder ${path}.`, { code: "FILE_NOT_FOUND" });
  if (kind === "file" && /\.(safetensors|onnx|pth|pt|ckpt)$/i.test(path))
    throw new UserError(`${path} is a model, not images. Give a folder or an archive of images.`, {
      code: "NO_IMAGES",
    });
  const parts = partsOf(path);
  const folder = (kind === "folder" ? parts : parts.slice(0, -1)).join("/");
  const directory = mounts.directory(folder);
  const listed = new Map<string, Promise<Entry[]>>();
  const list = (inner: string) => {
    // Every format looks whether its files are there.
    const entries = listed.get(inner) ?? entriesIn(directory, inner);
    listed.set(inner, entries);
    return entries;
  };
  const walk = async (
    inner: string,
    wanted: (name: string) => boolean,
    names: string[],
    skipped: Skipped[],
  ): Promise<void> => {
    for (const { name, isFolder } of await list(inner)) {
      const entry = joined(inner, name);
      const hidden = hiddenReason(name);
      if (hidden !== undefined) skipped.push(unusedFile(entry, isFolder ? `${hidden} (a folder)` : hidden));
      else if (isFolder) await walk(entry, wanted, names, skipped);
      else if (wanted(name)) names.push(entry);
      else skipped.push(notAnImage(entry));
    }
  };
  return {
    path: folder,
    ...(kind === "folder" ? {} : { file: parts[parts.length - 1] }),
    list: async (inner = "") => (await list(inner)).filter(({ name }) => hiddenReason(name) === undefined),
    async walk(inner, wanted) {
      const names: string[] = [];
      const skipped: Skipped[] = [];
      await walk(inner, wanted, names, skipped);
      return { names, skipped };
    },
    open: (entry) => directory.open(entry),
    // Lists that were written on another machine name folders that are none here.
    candidates: (entry) => [partsWithin(entry)],
    async isFile(entry) {
      if (partsWithin(entry).startsWith("..")) return false;
      return !(await isFolder(directory, entry));
    },
  };
}

/** A path in a list, without a dot or a slash in front. */
const partsWithin = (entry: string): string => entry.replaceAll("\\", "/").replace(/^(?:\.?\/)+/, "");
