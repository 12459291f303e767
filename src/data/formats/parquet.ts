// Parquet shards as the hub keeps images: a column of records with the encoded bytes, and a column of labels.
import type { FileMetaData, SchemaElement } from "hyparquet";
import { UserError } from "../../utils/errors.ts";
import { shorten, listSome } from "../../utils/quote.ts";
import type { ListedSet } from "../dataset.ts";
import { listedDataSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import { parquetBuffer } from "../places.ts";
import type { Item } from "../sampling.ts";
import type { Split } from "../splits.ts";
import { splitOf } from "../splits.ts";
import { unusedFile } from "../unused.ts";
import { withOthers } from "./contents.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import { withSeveral } from "./lists.ts";
import type { ListOptions } from "./table-options.ts";
import { tableOptions } from "./table-options.ts";
import type { DataTree } from "./tree.ts";
import { pathOf } from "./tree.ts";

const isTable = (name: string): boolean => /\.parquet$/i.test(name);

/** Columns that hold labels, the first found. */
const labelColumns = ["label", "labels", "fine_label", "class", "target", "species"];

/** Columns that hold images, the first found. */
const imageColumns = ["image", "img", "picture", "jpg", "jpeg", "png", "webp", "bytes"];

interface Columns {
  readonly image: string;
  readonly label: string | undefined;
  readonly names: readonly string[] | undefined;
}

interface TopColumn {
  readonly element: SchemaElement;
  /** The names of its fields and of theirs. */
  readonly inner: readonly string[];
}

/** The top columns of a schema. Throws a UserError where it is cut off or nested without end. */
function topColumns(schema: readonly SchemaElement[], named: string): Map<string, TopColumn> {
  const columns = new Map<string, TopColumn>();
  let at = 1;
  const skip = (depth: number): string[] => {
    if (at >= schema.length || depth > 100)
      throw new UserError(`${named} has a schema that is cut off`, { code: "INVALID_DATA" });
    const { name, num_children: children = 0 } = schema[at++];
    const inner: string[] = [];
    for (let i = 0; i < children; i++) for (const below of skip(depth + 1)) inner.push(below);
    return [name, ...inner];
  };
  while (at < schema.length) {
    const element = schema[at];
    const [name, ...inner] = skip(0);
    columns.set(name, { element, inner });
  }
  return columns;
}

/** Whether a column may hold encoded images: a record with `bytes`, or bare bytes that are no text. */
function mayHoldImages({ element, inner }: TopColumn): boolean {
  if (inner.length > 0) return inner.includes("bytes");
  const isText = element.converted_type === "UTF8" || element.logical_type?.type === "STRING";
  return element.type === "BYTE_ARRAY" && !isText;
}

/** Class names as the hub writes them into the file's metadata. */
function hubNames({ key_value_metadata: pairs }: FileMetaData, column: string): readonly string[] | undefined {
  const written = pairs?.find(({ key }) => key === "huggingface")?.value;
  if (written === undefined) return undefined;
  try {
    const info = JSON.parse(written) as {
      info?: { features?: Record<string, { names?: unknown; feature?: { names?: unknown } } | undefined> };
    };
    const feature = info.info?.features?.[column];
    const names = feature?.names ?? feature?.feature?.names;
    return Array.isArray(names) && names.every((name) => typeof name === "string") ? names : undefined;
  } catch {
    return undefined;
  }
}

function columnsOf(
  metadata: FileMetaData,
  named: string,
  image: string | undefined,
  label: string | undefined,
): Columns {
  const top = topColumns(metadata.schema, named);
  const has = (wanted: string) => {
    if (!top.has(wanted))
      throw new UserError(`${named} has no column ${shorten(wanted)}; its columns are ${listSome([...top.keys()])}`, {
        code: "INVALID_DATA",
      });
    return wanted;
  };
  const holding = [...top].filter(([, column]) => mayHoldImages(column)).map(([name]) => name);
  const records = holding.filter((name) => (top.get(name)?.inner.length ?? 0) > 0);
  const common = imageColumns.find((name) => holding.includes(name));
  const imageName = image === undefined ? (common ?? records[0]) : has(image);
  if (image !== undefined && !holding.includes(image))
    throw new UserError(`The column ${shorten(image)} of ${named} holds no encoded images`, { code: "INVALID_DATA" });
  if (imageName === undefined)
    throw new UserError(
      `${named} has no column of encoded images; its columns are ${listSome([...top.keys()])}. Name one with imageColumn (--image-column).`,
      { code: "INVALID_DATA" },
    );
  const labels = label === undefined ? labelColumns.find((name) => top.has(name) && name !== imageName) : has(label);
  return { image: imageName, label: labels, names: labels === undefined ? undefined : hubNames(metadata, labels) };
}

/** A label of a row: a class, or several. */
type RowLabel = string | number | readonly (string | number)[] | undefined;

/** Opens shards; those whose paths say so (train, validation, test) are splits. */
async function openTables(
  tree: DataTree,
  files: readonly string[],
  { imageColumn, labelColumns: [label] = [] }: ListOptions,
): Promise<ListedSet> {
  const parts: Record<Split, { item: Item; label: RowLabel }[]> = { train: [], val: [], test: [] };
  let names: readonly string[] | undefined;
  for (const file of files) {
    const named = pathOf(tree, file);
    const handle = await tree.open(file);
    if (!handle) throw new UserError(`There is no ${named}`, { code: "FILE_NOT_FOUND" });
    try {
      const buffer = parquetBuffer(handle);
      const { parquetMetadataAsync } = await import("../parquet-library.ts");
      const metadata = await parquetMetadataAsync(buffer);
      const columns = columnsOf(metadata, named, imageColumn, label);
      const labels =
        columns.label === undefined ? [] : await labelsOf(buffer, metadata, columns.label, label !== undefined);
      const classNames = labels.some((value) => typeof value === "boolean") ? ["false", "true"] : columns.names;
      if (names && classNames && names.join("\0") !== classNames.join("\0"))
        throw new UserError(`${named} has other class names than the shards before it`, { code: "INVALID_DATA" });
      names ??= classNames;
      const into = parts[splitOf(file) ?? "train"];
      for (let row = 0; row < Number(metadata.num_rows); row++) {
        const place = { kind: "row" as const, file, column: columns.image, row };
        const value = labels[row];
        into.push({
          item: { name: `${file}#${row}`, place },
          // The hub marks images without a label by -1, in test splits.
          label: value === -1 ? undefined : typeof value === "boolean" ? Number(value) : value,
        });
      }
    } catch (error) {
      if (error instanceof UserError) throw error;
      throw new UserError(`${named} can't be read as parquet (${shorten((error as Error).message)})`, {
        code: "INVALID_DATA",
      });
    } finally {
      await handle.close();
    }
  }
  if (parts.train.length + parts.val.length + parts.test.length === 0)
    throw new UserError(`There are no rows in ${tree.path}`, { code: "NO_IMAGES" });
  const skipped: Skipped[] = [];
  // A split whose labels are kept secret is none to evaluate on.
  if (parts.train[0]?.label !== undefined)
    for (const split of ["val", "test"] as const) {
      for (const { item, label: value } of parts[split])
        if (value === undefined) skipped.push(unusedFile(item.name, `without a label, in the split ${split}`));
      parts[split] = parts[split].filter(({ label: value }) => value !== undefined);
    }
  return labelledSet(tree, parts, names, skipped);
}

function labelledSet(
  tree: DataTree,
  parts: Readonly<Record<Split, readonly { item: Item; label: RowLabel }[]>>,
  names: readonly string[] | undefined,
  skipped: readonly Skipped[],
): ListedSet {
  const all = Object.values(parts).flat();
  const lists = all.flatMap(({ label }) => (isLabelList(label) ? [label] : []));
  if (lists.length === 0) {
    const entries = (split: Split) =>
      parts[split].map(({ item, label }) => ({ item, class: isLabelList(label) ? undefined : label }));
    return listedDataSet(
      tree.path,
      { train: entries("train"), val: entries("val"), test: entries("test"), skipped },
      names,
    );
  }
  // Several labels each: numbers are indices into the class names, words are classes of their own.
  const values = [...new Set(lists.flat())];
  const highest = values.reduce<number>(
    (most, value) => (typeof value === "number" ? Math.max(most, value) : most),
    -1,
  );
  if (highest > 100_000)
    throw new UserError(`${tree.path} has the label ${highest}, too high for the number of a class`, {
      code: "INVALID_DATA",
    });
  const classes =
    names ?? (highest >= 0 ? Array.from({ length: highest + 1 }, (_, i) => `class ${i}`) : values.map(String).sort());
  const index = new Map(classes.map((name, i) => [name, i]));
  const indexOf = (value: string | number, { name }: Item): number => {
    const at = typeof value === "number" ? value : index.get(value);
    if (at === undefined || !Number.isInteger(at) || at < 0 || at >= classes.length)
      throw new UserError(`${name} of ${tree.path} has the label ${shorten(String(value))}, which is not a class`, {
        code: "INVALID_DATA",
      });
    return at;
  };
  const entries = (split: Split) =>
    parts[split].map(({ item, label }) => {
      if (label !== undefined && !isLabelList(label))
        throw new UserError(`${item.name} of ${tree.path} has one label, others a list of them`, {
          code: "INVALID_DATA",
        });
      return { item: { ...item, labels: (label ?? []).map((value) => indexOf(value, item)) } };
    });
  const set = { train: entries("train"), val: entries("val"), test: entries("test"), skipped };
  return withSeveral(listedDataSet(tree.path, set), classes);
}

const isLabelList = (label: RowLabel): label is readonly (string | number)[] => Array.isArray(label);

async function labelsOf(
  file: ReturnType<typeof parquetBuffer>,
  metadata: FileMetaData,
  column: string,
  isAsked: boolean,
): Promise<(RowLabel | boolean)[]> {
  const { boundedCompressors, parquetReadObjects } = await import("../parquet-library.ts");
  const rows = await parquetReadObjects({ file, metadata, columns: [column], compressors: boundedCompressors() });
  const plain = (value: unknown): string | number | undefined => {
    if (typeof value === "bigint") return Number(value);
    return typeof value === "number" || typeof value === "string" ? value : undefined;
  };
  return rows.map((row) => {
    const value: unknown = row[column];
    if (typeof value === "boolean") return value;
    const list = Array.isArray(value) ? (value as unknown[]).map(plain).filter((v) => v !== undefined) : undefined;
    const label = list ?? plain(value);
    if (label === undefined && isAsked && value !== null && value !== undefined)
      throw new UserError(`The column ${shorten(column)} holds neither numbers nor words`, { code: "INVALID_DATA" });
    return label;
  });
}

export const format = defineFormat({
  name: "parquet",
  summary: "parquet files with a column of encoded images, as the hub has them",
  extensions: [".parquet"],
  order: askedAs.container,
  options: tableOptions,
  async recognise({ file }, { hasImages, below }, { labelColumns = [] }) {
    const tables = hasImages ? [] : await below(isTable);
    // Several columns of labels are a table's of another kind.
    return tables.length > 0 && (file !== undefined || labelColumns.length < 2) ? tables : undefined;
  },
  open: async (tree, tables, options) => withOthers(tree, tables, await openTables(tree, tables, options)),
});
