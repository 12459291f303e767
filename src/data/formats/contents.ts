// What lies at the top of a data set, and what a format leaves unused there.
import type { ListedSet } from "../dataset.ts";
import { notAnImage, unusedFile } from "../unused.ts";
import type { Contents } from "./data-format.ts";
import type { DataTree } from "./tree.ts";
import { isImageName } from "./tree.ts";

/** What formats are asked about. */
export async function contentsOf(tree: DataTree): Promise<Contents> {
  const { file } = tree;
  if (file !== undefined)
    return { files: [file], folders: [], hasImages: false, below: async (wanted) => (wanted(file) ? [file] : []) };
  const entries = await tree.list();
  const files = entries.filter((e) => !e.isFolder).map(({ name }) => name);
  const folders = entries.filter((e) => e.isFolder).map(({ name }) => name);
  return {
    files,
    folders,
    hasImages: files.some(isImageName),
    below: (wanted) => below(tree, files, folders, wanted),
  };
}

/** Wanted files in the folder or anywhere below those of its folders that hold nothing else at their top. */
async function below(
  tree: DataTree,
  files: readonly string[],
  folders: readonly string[],
  wanted: (name: string) => boolean,
) {
  const direct = files.filter(wanted);
  if (direct.length > 0) return direct;
  const paths: string[] = [];
  for (const folder of folders) {
    const inner = await tree.list(folder);
    if (inner.some((e) => !e.isFolder && isImageName(e.name))) return [];
    const direct = inner.filter((e) => !e.isFolder && wanted(e.name)).map((e) => `${folder}/${e.name}`);
    paths.push(...direct);
    // One level more: cases of scans, configurations of the hub.
    if (direct.length === 0)
      for (const { name, isFolder } of inner) {
        if (!isFolder) continue;
        const inside = await tree.list(`${folder}/${name}`);
        paths.push(...inside.filter((e) => !e.isFolder && wanted(e.name)).map((e) => `${folder}/${name}/${e.name}`));
      }
    // A set of class folders has many; one that holds nothing of the kind ends the search.
    if (paths.length === 0) return [];
  }
  return paths;
}

/** A set read from some files of a folder, with all others of the folder reported. Of a file that was named, its neighbours are nobody's business. */
export async function withOthers(tree: DataTree, used: readonly string[], set: ListedSet): Promise<ListedSet> {
  if (tree.file !== undefined) return set;
  const read = new Set(used);
  const { names, skipped } = await tree.walk("", () => true);
  const others = names
    .filter((name) => !read.has(name))
    .map((name) => (isImageName(name) ? unusedFile(name, "beside the files that are read") : notAnImage(name)));
  return { ...set, train: { ...set.train, skipped: [...set.train.skipped, ...others, ...skipped] } };
}
