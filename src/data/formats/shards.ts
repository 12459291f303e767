// WebDataset: a folder of tar shards, or one of them.
import { UserError } from "../../utils/errors.ts";
import type { DataSet } from "../dataset.ts";
import { listedDataSet, partOf } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Sample } from "./tar.ts";
import { shardSamples } from "./tar.ts";
import type { DataTree } from "./tree.ts";
import { pathOf } from "./tree.ts";

export const isShard = (name: string): boolean => /\.tar$/i.test(name);

/** Opens shards; those whose names say so (train, val, test) are parts. */
export async function openShards(tree: DataTree, files: readonly string[]): Promise<DataSet> {
  const parts = { train: [] as Sample[], test: [] as Sample[] };
  const skipped: Skipped[] = [];
  for (const file of files) {
    const handle = await tree.open(file);
    if (!handle) throw new UserError(`there is no ${pathOf(tree, file)}`);
    try {
      const found = await shardSamples(handle, file);
      for (const sample of found.samples) parts[partOf(file) ?? "train"].push(sample);
      skipped.push(...found.skipped);
    } finally {
      await handle.close();
    }
  }
  if (parts.train.length + parts.test.length === 0)
    throw new UserError(`there are no pictures in ${files.map((f) => pathOf(tree, f)).join(", ")}`);
  return listedDataSet(tree.path, { ...parts, skipped });
}
