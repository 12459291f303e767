// Zip archives of images, read without being unpacked: what lies in them is taken as a folder would be.
import { inflateSync } from "fflate";
import { readBytes } from "../../files/storage.ts";
import type { ZipEntry } from "../../files/zip.ts";
import { listZip } from "../../files/zip.ts";
import { UserError } from "../../utils/errors.ts";
import { listSome } from "../../utils/quote.ts";
import type { ListedSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Place } from "../places.ts";
import { hiddenReason, notAnImage, unusedFile } from "../unused.ts";
import { withOthers } from "./contents.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import type { FoundFile, MetadataFile } from "./found-files.ts";
import { foundDataSet, isMetadataName } from "./found-files.ts";
import type { ListOptions } from "./table-options.ts";
import { tableOptions } from "./table-options.ts";
import type { DataTree } from "./tree.ts";
import { decodeText, isImageName, pathOf } from "./tree.ts";

const isArchive = (name: string): boolean => /\.zip$/i.test(name);

const largestText = 2 ** 29;

/** Opens archives; each of several is taken as a folder of its name, so that `train.zip` and `val.zip` are splits. */
async function openArchives(tree: DataTree, files: readonly string[], options: ListOptions): Promise<ListedSet> {
  const archives: FoundFile[] = [];
  const metadata: MetadataFile[] = [];
  const skipped: Skipped[] = [];
  for (const file of files) {
    const handle = await tree.open(file);
    if (!handle) throw new UserError(`There is no ${pathOf(tree, file)}`, { code: "FILE_NOT_FOUND" });
    const entries = await listZip(handle).finally(() => handle.close());
    const above = files.length > 1 ? `${file.replace(/\.zip$/i, "")}/` : "";
    for (const entry of entries.values()) {
      const { name, offset, length, size, deflated } = entry;
      if (name.endsWith("/")) continue;
      const path = above + name;
      const hidden = hiddenReason(name);
      if (hidden !== undefined) skipped.push(unusedFile(path, hidden));
      else if (isMetadataName(name)) metadata.push({ path, read: () => readText(tree, file, entry) });
      else if (!isImageName(name)) skipped.push(notAnImage(path));
      else {
        const place: Place = { kind: "range", file, offset, length, ...(deflated ? { size } : {}) };
        archives.push({ item: { name: path, place }, path });
      }
    }
  }
  if (archives.length === 0)
    throw new UserError(`There are no images in ${listSome(files.map((f) => pathOf(tree, f)))}`, {
      code: "NO_IMAGES",
    });
  archives.sort((a, b) => (a.path < b.path ? -1 : 1));
  return foundDataSet(tree.path, { files: archives, metadata, skipped }, options);
}

async function readText(tree: DataTree, file: string, { name, offset, length, size, deflated }: ZipEntry) {
  const handle = await tree.open(file);
  if (!handle) throw new UserError(`There is no ${pathOf(tree, file)}`, { code: "FILE_NOT_FOUND" });
  try {
    if (size > largestText)
      throw new UserError(`${name} in ${handle.name} is ${size} bytes long, more than is read`, {
        code: "INVALID_DATA",
      });
    const bytes = await readBytes(handle, offset, length);
    return decodeText(deflated ? inflateSync(bytes, { out: new Uint8Array(size) }) : bytes);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${name} in ${handle.name} can't be unpacked (${(error as Error).message})`, {
      code: "INVALID_DATA",
    });
  } finally {
    await handle.close();
  }
}

export const format = defineFormat({
  name: "archive",
  summary: "zip archives of folders of images",
  extensions: [".zip"],
  order: askedAs.container + 30,
  options: tableOptions,
  async recognise(_, { hasImages, files, folders }) {
    const archives = hasImages || folders.length > 0 ? [] : files.filter(isArchive);
    return archives.length > 0 ? archives : undefined;
  },
  open: async (tree, archives, options) => withOthers(tree, archives, await openArchives(tree, archives, options)),
});
