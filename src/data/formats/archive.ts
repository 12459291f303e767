// A zip archive of pictures, read without being unpacked: what lies in it is taken as a folder would be.
import { listZip } from "../../files/zip.ts";
import { UserError } from "../../utils/errors.ts";
import type { DataSet, PictureFolder } from "../dataset.ts";
import { partOf, pictureFolder, splitDataSet } from "../dataset.ts";
import type { Place } from "../places.ts";
import type { DataTree } from "./tree.ts";
import { isPictureName, pathOf } from "./tree.ts";

export const isArchive = (name: string): boolean => /\.zip$/i.test(name);

/** Opens an archive: flat, one folder a class, or either in train/ and val/; folders around all of it don't count. */
export async function openArchive(tree: DataTree, file: string): Promise<DataSet> {
  const handle = await tree.open(file);
  if (!handle) throw new UserError(`there is no ${pathOf(tree, file)}`);
  const entries = await listZip(handle).finally(() => handle.close());
  const places = new Map<string, Place>();
  for (const { name, offset, length, size, deflated } of entries.values()) {
    const hidden = name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");
    if (hidden || !isPictureName(name)) continue;
    places.set(name, { kind: "range", file, offset, length, ...(deflated ? { size } : {}) });
  }
  if (places.size === 0) throw new UserError(`there are no pictures in ${handle.name}`);
  let names = [...places.keys()].sort();
  let around = "";
  for (;;) {
    const [top] = names[0].split("/");
    if (!names.every((name) => name.startsWith(`${top}/`))) break;
    around += `${top}/`;
    names = names.map((name) => name.slice(top.length + 1));
  }
  const placed = (folder: PictureFolder, above: string): PictureFolder => ({
    ...folder,
    items: folder.items.map((item) => ({ ...item, place: places.get(above + item.name) })),
  });
  const tops = new Set(names.map((name) => name.split("/")[0]));
  const [train, test] = (["train", "test"] as const).map((part) => [...tops].find((top) => partOf(top) === part));
  const below = (top: string): [string, PictureFolder] => {
    const own = names.filter((name) => name.startsWith(`${top}/`)).map((name) => name.slice(top.length + 1));
    return [top, placed(pictureFolder(tree.path, own, []), `${around}${top}/`)];
  };
  if (train !== undefined && test !== undefined) return splitDataSet(tree.path, below(train), below(test));
  return { path: tree.path, train: placed(pictureFolder(tree.path, names, []), around) };
}
