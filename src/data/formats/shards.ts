// Tar archives: WebDataset's shards with classes beside their images, or folders of images that were packed.
import { readBytes } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import { listSome } from "../../utils/quote.ts";
import type { ListedSet } from "../dataset.ts";
import { listedDataSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Split } from "../splits.ts";
import { splitOf } from "../splits.ts";
import { notAnImage } from "../unused.ts";
import { withOthers } from "./contents.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import type { FoundFile, MetadataFile } from "./found-files.ts";
import { foundDataSet } from "./found-files.ts";
import type { ListOptions } from "./table-options.ts";
import { tableOptions } from "./table-options.ts";
import type { Sample, TarEntry } from "./tar.ts";
import { shardSamples } from "./tar.ts";
import type { DataTree } from "./tree.ts";
import { decodeText, pathOf } from "./tree.ts";

const isShard = (name: string): boolean => /\.tar$/i.test(name);

interface Shard {
  readonly file: string;
  readonly samples: readonly Sample[];
  readonly metadata: readonly TarEntry[];
}

/** Opens shards; those whose names say so (train, val, test) are splits, or the folders in them are. */
async function openShards(tree: DataTree, files: readonly string[], options: ListOptions): Promise<ListedSet> {
  const shards: Shard[] = [];
  const skipped: Skipped[] = [];
  for (const file of files) {
    const handle = await tree.open(file);
    if (!handle) throw new UserError(`There is no ${pathOf(tree, file)}`, { code: "FILE_NOT_FOUND" });
    try {
      const { samples, metadata, skipped: unused } = await shardSamples(handle, file);
      shards.push({ file, samples, metadata });
      skipped.push(...unused);
    } finally {
      await handle.close();
    }
  }
  if (shards.every(({ samples }) => samples.length === 0))
    throw new UserError(`There are no images in ${listSome(files.map((f) => pathOf(tree, f)))}`, {
      code: "NO_IMAGES",
    });
  if (shards.every(({ samples }) => samples.every((sample) => sample.class === undefined)))
    return foundDataSet(tree.path, packedFolders(tree, shards, skipped), options);
  const parts: Record<Split, Sample[]> = { train: [], val: [], test: [] };
  for (const { file, samples, metadata } of shards) {
    for (const sample of samples) parts[splitOf(file) ?? "train"].push(sample);
    for (const { name } of metadata) skipped.push(notAnImage(`${file}/${name}`));
  }
  return listedDataSet(tree.path, { ...parts, skipped });
}

/** Shards without classes as a folder would be; those that are named as splits stand for split folders. */
function packedFolders(tree: DataTree, shards: readonly Shard[], skipped: readonly Skipped[]) {
  const splits = new Set(shards.map(({ file }) => splitOf(file) ?? "train"));
  const folderOf = (file: string) => (splits.size > 1 ? `${splitOf(file) ?? "train"}/` : "");
  const files: FoundFile[] = [];
  const metadata: MetadataFile[] = [];
  for (const { file, samples, metadata: entries } of shards) {
    for (const { item, path } of samples) files.push({ item, path: folderOf(file) + path });
    for (const { name, offset, size } of entries)
      metadata.push({
        path: folderOf(file) + name,
        async read() {
          const handle = await tree.open(file);
          if (!handle) throw new UserError(`There is no ${pathOf(tree, file)}`, { code: "FILE_NOT_FOUND" });
          return readBytes(handle, offset, size)
            .then(decodeText)
            .finally(() => handle.close());
        },
      });
  }
  return { files: files, metadata, skipped };
}

export const format = defineFormat({
  name: "shards",
  summary: "tar archives: WebDataset's shards, or folders of images that were packed",
  extensions: [".tar"],
  order: askedAs.container + 10,
  options: tableOptions,
  async recognise(_, { hasImages, below }) {
    const shards = hasImages ? [] : await below(isShard);
    return shards.length > 0 ? shards : undefined;
  },
  open: async (tree, shards, options) => withOthers(tree, shards, await openShards(tree, shards, options)),
});
