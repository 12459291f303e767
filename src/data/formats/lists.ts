// Lists of pictures: a table (CSV, TSV) with a column of paths, or lines of text with a path and, where there is one, a
// class behind it.
import { parse } from "csv-parse/sync";
import { UserError } from "../../utils/errors.ts";
import type { Classified, DataSet } from "../dataset.ts";
import { listedDataSet, partOf } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import type { DataTree } from "./tree.ts";
import { has, isPictureName, numberedLines, pathOf, textOf } from "./tree.ts";

export const isList = (name: string): boolean => /\.(csv|tsv|txt)$/i.test(name);

export interface ListOptions {
  /** The column of paths. */
  readonly pictureColumn?: string;
  /** The column of classes; several columns of 0 and 1 are labels that may all apply. */
  readonly labelColumns?: readonly string[];
}

/** A row of a table, by column, and the line that it begins on. */
export interface Row {
  readonly line: number;
  readonly cells: Readonly<Record<string, string>>;
}

/** Reads a table with a header. Throws a UserError that names file and line where a row does not fit. */
export function readTable(text: string, named: string, separator = ","): Row[] {
  try {
    const rows = parse(text, {
      bom: true,
      columns: (header: string[]) => header.map((name) => name.trim()),
      delimiter: separator,
      info: true,
      skip_empty_lines: true,
      trim: true,
    }) as unknown as { record: Record<string, string>; info: { lines: number } }[];
    return rows.map(({ record, info }) => ({ line: info.lines, cells: record }));
  } catch (error) {
    throw new UserError(`${named} is no table that can be read: ${(error as Error).message}`);
  }
}

const pathColumns = [
  "path",
  "file",
  "filename",
  "file_name",
  "filepath",
  "file_path",
  "image",
  "image index",
  "image_path",
  "img",
  "picture",
];
const classColumns = ["label", "labels", "class", "category", "target", "species", "finding labels"];
const partColumns = ["split", "partition", "set", "fold", "subset"];

/** A column by its name, or the first of the usual names; case does not matter. */
function columnOf(names: readonly string[], wanted: string | undefined, usual: readonly string[], named: string) {
  if (wanted === undefined) return names.find((name) => usual.includes(name.toLowerCase()));
  const found = names.find((name) => name.toLowerCase() === wanted.toLowerCase());
  if (found === undefined) throw new UserError(`${named} has no column ${wanted}; its columns are ${names.join(", ")}`);
  return found;
}

/** Labels that may all apply, as a table gives them. */
interface Several {
  readonly classes: readonly string[];
  of(row: Row): readonly number[];
}

function severalOf(rows: readonly Row[], columns: readonly string[], named: string): Several | undefined {
  if (columns.length > 1) {
    return {
      classes: columns,
      of: ({ line, cells }) =>
        columns.flatMap((name, i) => {
          const value = cells[name];
          if (!["0", "1", "0.0", "1.0", "-1", "-1.0", ""].includes(value))
            throw new UserError(`line ${line} of ${named} has ${value} in ${name}; 0 or 1 is needed`);
          return Number(value) === 1 ? [i] : [];
        }),
    };
  }
  const [column] = columns;
  if (column === undefined || !rows.some(({ cells }) => cells[column].includes("|"))) return undefined;
  const words = (row: Row) =>
    row.cells[column]
      .split("|")
      .map((word) => word.trim())
      .filter(Boolean);
  const classes = [...new Set(rows.flatMap(words))].sort();
  return { classes, of: (row) => words(row).map((word) => classes.indexOf(word)) };
}

/** Opens a table or a list of lines; paths count from the folder that it lies in. */
export async function openList(tree: DataTree, file: string, options: ListOptions): Promise<DataSet> {
  const text = await textOf(tree, file);
  const found = /\.txt$/i.test(file) ? lines(text) : undefined;
  return found ? openLines(tree, file, found) : openTable(tree, file, text, options);
}

function lines(text: string): { line: number; path: string; class: string | undefined }[] {
  return numberedLines(text).map(({ line, text: content }) => {
    const [, path, word] = /^(.*?\.\w+)(?:[\s,]+(\S.*))?$/.exec(content) ?? ["", content, undefined];
    return { line, path, class: word };
  });
}

async function openLines(tree: DataTree, file: string, listed: ReturnType<typeof lines>): Promise<DataSet> {
  const entries: Classified[] = [];
  const skipped: Skipped[] = [];
  const known = await existing(tree);
  for (const { line, path, class: word } of listed) {
    const name = normal(path);
    if (!known.has(name)) skipped.push(missing(file, line, path));
    else {
      const number = word !== undefined && /^\d+$/.test(word) ? Number(word) : word;
      entries.push({ item: { name }, class: number });
    }
  }
  if (entries.length === 0) throw noneThere(tree, file, skipped);
  return listedDataSet(tree.path, { train: entries, test: [], skipped });
}

/** Paths with `/`, without a dot in front. */
const normal = (path: string) => path.replaceAll("\\", "/").replace(/^\.\//, "");
const missing = (file: string, line: number, path: string): Skipped => ({
  name: `${file}, line ${line}`,
  reason: `names ${path}, which is not there`,
});

function noneThere(tree: DataTree, file: string, skipped: readonly Skipped[]): UserError {
  const [first] = skipped;
  return new UserError(
    first
      ? `none of the pictures that ${pathOf(tree, file)} names is there (${first.name} ${first.reason}); paths count from ${tree.path}`
      : `${pathOf(tree, file)} names no pictures`,
  );
}

/** All pictures below the folder. */
async function existing(tree: DataTree): Promise<Set<string>> {
  return new Set((await tree.walk("", isPictureName)).names);
}

async function openTable(tree: DataTree, file: string, text: string, options: ListOptions): Promise<DataSet> {
  const named = pathOf(tree, file);
  const rows = readTable(text, named, /\.tsv$/i.test(file) ? "\t" : ",");
  if (rows.length === 0) throw new UserError(`${named} has no rows`);
  const names = Object.keys(rows[0].cells);
  const path = columnOf(names, options.pictureColumn, pathColumns, named);
  if (path === undefined)
    throw new UserError(
      `${named} has no column that is known to hold paths; its columns are ${names.join(", ")}: name one with pictureColumn (--picture-column)`,
    );
  const wanted = options.labelColumns?.map((name) => columnOf(names, name, [], named) as string);
  const usual = columnOf(names, undefined, classColumns, named);
  const columns = wanted ?? (usual === undefined ? [] : [usual]);
  const several = severalOf(rows, columns, named);
  const part = columnOf(names, undefined, partColumns, named);
  const known = await existing(tree);
  const parts = { train: [] as Classified[], test: [] as Classified[] };
  const skipped: Skipped[] = [];
  for (const row of rows) {
    const name = normal(row.cells[path]);
    if (!known.has(name)) {
      skipped.push(missing(file, row.line, row.cells[path]));
      continue;
    }
    const own = part === undefined ? "train" : partOf(row.cells[part]);
    if (!own)
      throw new UserError(
        `line ${row.line} of ${named} has ${row.cells[part as string]} in ${part}; train, val or test is needed`,
      );
    const label = columns[0] === undefined || several ? undefined : row.cells[columns[0]];
    if (label === "") throw new UserError(`line ${row.line} of ${named} has nothing in ${columns[0]}`);
    const item: Item = several ? { name, labels: several.of(row) } : { name };
    parts[own].push({ item, class: label });
  }
  if (parts.train.length + parts.test.length === 0) throw noneThere(tree, file, skipped);
  const data = listedDataSet(tree.path, { ...parts, skipped });
  if (!several) return data;
  const withClasses = { classes: several.classes };
  return {
    ...data,
    multiLabel: true,
    train: { ...data.train, ...withClasses },
    ...(data.test ? { test: { ...data.test, ...withClasses } } : {}),
  };
}

/** A table of the usual name in a folder of pictures; undefined where there is none. */
export async function usualTable(tree: DataTree): Promise<string | undefined> {
  for (const name of ["metadata.csv", "labels.csv"]) if (await has(tree, name)) return name;
  return undefined;
}
