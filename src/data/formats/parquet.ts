// Parquet shards as the hub keeps pictures: a column of records with the encoded bytes, and a column of labels.
import type { FileMetaData, SchemaElement } from "hyparquet";
import { parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { UserError } from "../../utils/errors.ts";
import type { Classified, DataSet } from "../dataset.ts";
import { listedDataSet, partOf } from "../dataset.ts";
import { boundedCompressors } from "../parquet-pages.ts";
import { parquetBuffer } from "../places.ts";
import type { DataTree } from "./tree.ts";
import { pathOf } from "./tree.ts";

export const isTable = (name: string): boolean => /\.parquet$/i.test(name);

/** Columns that hold labels, the first found; `label` may name another. */
const labelColumns = ["label", "labels", "fine_label", "class", "target", "species"];

interface Columns {
  readonly picture: string;
  readonly label: string | undefined;
  readonly names: readonly string[] | undefined;
}

/** The top columns of a schema with the names of their parts. */
function topColumns(schema: readonly SchemaElement[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  let at = 1;
  const skip = (): string[] => {
    const { name, num_children: children = 0 } = schema[at++];
    const inner: string[] = [];
    for (let i = 0; i < children; i++) inner.push(...skip());
    return [name, ...inner];
  };
  while (at < schema.length) {
    const [name, ...inner] = skip();
    found.set(name, inner);
  }
  return found;
}

/** Class names as the hub writes them into the file's metadata. */
function hubNames({ key_value_metadata: pairs }: FileMetaData, column: string): readonly string[] | undefined {
  const written = pairs?.find(({ key }) => key === "huggingface")?.value;
  if (written === undefined) return undefined;
  try {
    const info = JSON.parse(written) as {
      info?: { features?: Record<string, { names?: unknown; feature?: { names?: unknown } }> };
    };
    const feature = info.info?.features?.[column];
    const names = feature?.names ?? feature?.feature?.names;
    return Array.isArray(names) && names.every((name) => typeof name === "string") ? names : undefined;
  } catch {
    return undefined;
  }
}

function columnsOf(metadata: FileMetaData, named: string, wanted: string | undefined): Columns {
  const top = topColumns(metadata.schema);
  const records = [...top].filter(([, inner]) => inner.includes("bytes")).map(([name]) => name);
  const bare = ["image", "img", "picture", "jpg", "png", "bytes"].find((name) => top.get(name)?.length === 0);
  const picture = records[0] ?? bare;
  if (picture === undefined)
    throw new UserError(`${named} has no column of pictures; its columns are ${[...top.keys()].join(", ")}`);
  if (wanted !== undefined && !top.has(wanted))
    throw new UserError(`${named} has no column ${wanted}; its columns are ${[...top.keys()].join(", ")}`);
  const label = wanted ?? labelColumns.find((name) => top.has(name));
  return { picture, label, names: label === undefined ? undefined : hubNames(metadata, label) };
}

/** Opens shards; those whose paths say so (train, validation, test) are parts. `label` names the column of labels. */
export async function openTables(tree: DataTree, files: readonly string[], label?: string): Promise<DataSet> {
  const parts = { train: [] as Classified[], test: [] as Classified[] };
  let names: readonly string[] | undefined;
  for (const file of files) {
    const named = pathOf(tree, file);
    const handle = await tree.open(file);
    if (!handle) throw new UserError(`there is no ${named}`);
    try {
      const buffer = parquetBuffer(handle);
      const metadata = await parquetMetadataAsync(buffer);
      const columns = columnsOf(metadata, named, label);
      names ??= columns.names;
      const labels = columns.label === undefined ? [] : await labelsOf(buffer, metadata, columns.label);
      const into = parts[partOf(file) ?? "train"];
      for (let row = 0; row < Number(metadata.num_rows); row++) {
        const place = { kind: "row" as const, file, column: columns.picture, row };
        // The hub marks pictures without a label by -1, in test parts.
        const own = labels[row] === -1 ? undefined : labels[row];
        into.push({ item: { name: `${file}#${row}`, place }, class: own });
      }
    } catch (error) {
      if (error instanceof UserError) throw error;
      throw new UserError(`${named} can't be read as parquet (${(error as Error).message})`);
    } finally {
      await handle.close();
    }
  }
  if (parts.train.length + parts.test.length === 0) throw new UserError(`there are no rows in ${tree.path}`);
  // A test part whose labels are kept secret is no part to judge on.
  if (parts.train.length > 0 && parts.train[0].class !== undefined)
    parts.test = parts.test.filter((entry) => entry.class !== undefined);
  return listedDataSet(tree.path, { ...parts, skipped: [] }, names);
}

async function labelsOf(file: ReturnType<typeof parquetBuffer>, metadata: FileMetaData, column: string) {
  const rows = await parquetReadObjects({ file, metadata, columns: [column], compressors: boundedCompressors() });
  return rows.map((row) => {
    const value: unknown = row[column];
    if (typeof value === "bigint") return Number(value);
    return typeof value === "number" || typeof value === "string" ? value : undefined;
  });
}
