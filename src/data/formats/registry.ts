// All of the data formats, from the files of this folder. Made by `npm run generate`; don't edit it.
import { format as archiveFormat } from "./archive.ts";
import { format as chestxrayFormat } from "./chestxray.ts";
import { format as cifarFormat } from "./cifar.ts";
import { format as foldersFormat } from "./folders.ts";
import { format as inaturalistFormat } from "./inaturalist.ts";
import { format as listsFormat } from "./lists.ts";
import { format as parquetFormat } from "./parquet.ts";
import { format as proceduralFormat } from "./procedural.ts";
import { format as scanSlicesFormat } from "./scan-slices.ts";
import { format as shardsFormat } from "./shards.ts";

export const dataFormats = [
  archiveFormat,
  chestxrayFormat,
  cifarFormat,
  foldersFormat,
  inaturalistFormat,
  listsFormat,
  parquetFormat,
  proceduralFormat,
  scanSlicesFormat,
  shardsFormat,
] as const;

/** The options of all, by name. */
export const dataFormatOptions = {
  ...archiveFormat.options,
  ...chestxrayFormat.options,
  ...cifarFormat.options,
  ...foldersFormat.options,
  ...inaturalistFormat.options,
  ...listsFormat.options,
  ...parquetFormat.options,
  ...proceduralFormat.options,
  ...scanSlicesFormat.options,
  ...shardsFormat.options,
};
