// Lists of images: a table (CSV, TSV, lines of JSON) with a column of paths, or lines of text with a path and, where there is
// one, a class behind it.
import { UserError } from "../../utils/errors.ts";
import { shorten, listSome } from "../../utils/quote.ts";
import type { Classified, ListedSet } from "../dataset.ts";
import { listedDataSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import type { Split } from "../splits.ts";
import { findSplitFolders, splitOf } from "../splits.ts";
import { unusedFile } from "../unused.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import type { ListOptions } from "./table-options.ts";
import { tableOptions } from "./table-options.ts";
import type { Row, Table } from "./table-reader.ts";
import { readJsonLines, readTable } from "./table-reader.ts";
import type { DataTree } from "./tree.ts";
import { has, isImageName, numberedLines, pathOf, imageEndings, plainPath, textOf } from "./tree.ts";

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

/** The table in a text, by the ending of its file's name. */
export function tableOf(file: string, named: string, text: string): Table {
  if (/\.jsonl$/i.test(file)) return readJsonLines(text, named);
  return readTable(text, named, /\.tsv$/i.test(file) ? "\t" : ",");
}

/** Where a column stands: the one asked for, or the first of common names; case does not matter. */
export function columnOf(table: Table, wanted: string | undefined, common: readonly string[]): number | undefined {
  const asked = wanted?.toLowerCase();
  const column = table.columns.find((name) =>
    asked === undefined ? common.includes(name.toLowerCase()) : name.toLowerCase() === asked,
  );
  if (wanted !== undefined && column === undefined) return table.index(wanted);
  return column === undefined ? undefined : table.index(column);
}

/** The columns of labels: those asked for, or one of a common name. */
export function labelColumnsOf(table: Table, { labelColumns }: ListOptions): string[] {
  if (labelColumns) return labelColumns.map((name) => table.columns[columnOf(table, name, []) ?? table.index(name)]);
  const common = columnOf(table, undefined, classColumns);
  return common === undefined ? [] : [table.columns[common]];
}

/** Labels that may all apply, as a table gives them. */
interface Several {
  readonly classes: readonly string[];
  of(row: Row): readonly number[];
}

const yesOrNo = new Set(["0", "1", "0.0", "1.0", "-1", "-1.0", ""]);

export function severalOf(table: Table, columns: readonly string[]): Several | undefined {
  const at = columns.map((name) => table.index(name));
  if (at.length > 1) {
    return {
      classes: columns,
      of: ({ line, values }) =>
        at.flatMap((column, i) => {
          const value = values[column];
          if (!yesOrNo.has(value))
            throw new UserError(
              `Line ${line} of ${table.name} has ${shorten(value)} in ${shorten(columns[i])}; 0 or 1 is needed`,
              { code: "INVALID_DATA" },
            );
          return Number(value) === 1 ? [i] : [];
        }),
    };
  }
  const [column] = at;
  if (column === undefined || !table.rows.some(({ values }) => values[column].includes("|"))) return undefined;
  const words = ({ values }: Row) =>
    values[column]
      .split("|")
      .map((word) => word.trim())
      .filter(Boolean);
  const classes = [...new Set(table.rows.flatMap(words))].sort();
  const index = new Map(classes.map((name, i) => [name, i]));
  return { classes, of: (row) => words(row).flatMap((word) => index.get(word) ?? []) };
}

/** A set whose images may have several labels each: its classes are those of the lists. */
export function withSeveral(set: ListedSet, classes: readonly string[] | undefined): ListedSet {
  if (!classes) return set;
  return {
    ...set,
    multiLabel: true,
    train: { ...set.train, classes },
    ...(set.test ? { test: { ...set.test, classes } } : {}),
  };
}

/** Opens a table or a list of lines; paths count from the folder that it lies in. */
async function openList(tree: DataTree, file: string, options: ListOptions): Promise<ListedSet> {
  const text = await textOf(tree, file);
  return /\.txt$/i.test(file) ? openLines(tree, file, text) : openTable(tree, file, text, options);
}

/** A path up to the ending of an image, or to any ending, and a class behind it. */
const lineForms = [
  new RegExp(`^(.*?\\.(?:${imageEndings}))(?:[\\s,]+(\\S.*))?$`, "i"),
  /^(.*?\.\w+)(?:[\s,]+(\S.*))?$/,
];

async function openLines(tree: DataTree, file: string, text: string): Promise<ListedSet> {
  const listed = new ListedImages(tree, file, await existing(tree, file));
  const entries: Classified[] = [];
  for (const { line, text: content } of numberedLines(text)) {
    const [, path, word] = lineForms.map((form) => form.exec(content)).find(Boolean) ?? ["", content, undefined];
    const name = await listed.find(line, path, word);
    if (name === undefined) continue;
    entries.push({ item: { name }, class: word !== undefined && /^\d+$/.test(word) ? Number(word) : word });
  }
  if (entries.length === 0) throw listed.noneThere();
  return listedDataSet(tree.path, { train: entries, skipped: listed.skipped() });
}

/** A line of a list that names an image which is not there. */
export const missingImage = (where: string, path: string, why = "which is not there"): Skipped => ({
  name: where,
  reason: `names ${shorten(path)}, ${why}`,
  group: "named in a list, but not there",
});

interface Existing {
  /** Images below the folder, by their names in Unicode's composed form. */
  readonly images: ReadonlyMap<string, string>;
  /** Other files. */
  readonly others: readonly Skipped[];
}

/** What lies below the folder beside the list. */
async function existing(tree: DataTree, list: string): Promise<Existing> {
  const { names, skipped } = await tree.walk("", isImageName);
  const images = new Map(names.map((name) => [name.normalize("NFC"), name]));
  // What the list does not name is none of its business: a link that leads nowhere is no fault here.
  const others = skipped.filter(({ name }) => name !== list).map((file): Skipped => ({ ...file, expected: true }));
  return { images, others };
}

/** Finds the images that a list names, and keeps account of those that are missing, named again, or never named. */
class ListedImages {
  private readonly tree: DataTree;
  private readonly file: string;
  private readonly existing: Existing;
  private readonly missing: Skipped[] = [];
  private readonly again: Skipped[] = [];
  private others: ReadonlySet<string> | undefined;
  /** Folders as lists write them, and what they may mean. */
  private readonly folders = new Map<string, readonly string[]>();
  /** Images that were named, each with its class. */
  private readonly named = new Map<string, string | undefined>();

  constructor(tree: DataTree, file: string, there: Existing) {
    this.tree = tree;
    this.file = file;
    this.existing = there;
  }

  /** The image's path from the folder; undefined where it is not there, or named already with the same class. */
  async find(line: number, path: string, label: string | undefined): Promise<string | undefined> {
    const name = await this.locate(path);
    const where = `${this.file}, line ${line}`;
    if (name === undefined) {
      this.missing.push(
        missingImage(where, path, this.isOther(path) ? "which is not an image by its name" : undefined),
      );
      return undefined;
    }
    if (this.named.has(name)) {
      const match = this.named.get(name);
      if (match !== label)
        throw new UserError(
          `Line ${line} of ${pathOf(this.tree, this.file)} names ${shorten(path)} again, with another class`,
          { code: "INVALID_DATA" },
        );
      this.again.push(unusedFile(where, "names an image again"));
      return undefined;
    }
    this.named.set(name, label);
    return name;
  }

  private async locate(path: string): Promise<string | undefined> {
    const file = this.existing.images.get(plainPath(path).normalize("NFC"));
    if (file !== undefined || !/^([A-Za-z]:)?[\\/]|(^|[\\/])\.\.?([\\/]|$)/.test(path)) return file;
    const plain = plainPath(path);
    const cut = plain.lastIndexOf("/") + 1;
    const [folder, base] = [plain.slice(0, cut), plain.slice(cut)];
    const folders = this.folders.get(folder) ?? this.tree.candidates(folder);
    this.folders.set(folder, folders);
    for (const inner of folders) {
      const entry = inner === "" ? base : `${inner}/${base}`;
      const inside = this.existing.images.get(entry.normalize("NFC"));
      if (inside !== undefined) return inside;
      if (isImageName(entry) && (await this.tree.isFile(entry))) return entry;
    }
    return undefined;
  }

  private isOther(path: string): boolean {
    this.others ??= new Set(this.existing.others.map((file) => file.name));
    return this.others.has(plainPath(path));
  }

  noneThere(): UserError {
    const list = pathOf(this.tree, this.file);
    const [first] = this.missing;
    return new UserError(
      first
        ? `None of the images listed in ${list} are there (${first.name} ${first.reason}); relative paths start at ${this.tree.path}`
        : `${list} names no images`,
      { code: "INVALID_DATA" },
    );
  }

  /** Everything that is not used. */
  skipped(): Skipped[] {
    const never = [...this.existing.images.values()].filter((name) => !this.named.has(name));
    return [
      ...this.missing,
      ...this.again,
      ...never.map((name) => unusedFile(name, "named in no list")),
      ...this.existing.others,
    ];
  }
}

async function openTable(tree: DataTree, file: string, text: string, options: ListOptions): Promise<ListedSet> {
  const named = pathOf(tree, file);
  const table = tableOf(file, named, text);
  if (table.rows.length === 0) throw new UserError(`${named} has no rows`, { code: "INVALID_DATA" });
  const path = columnOf(table, options.imageColumn, pathColumns);
  if (path === undefined)
    throw new UserError(
      `${named} has no column that is recognised as paths; its columns are ${listSome(table.columns)}. Name one with imageColumn (--image-column).`,
      { code: "INVALID_DATA" },
    );
  const columns = labelColumnsOf(table, options);
  const several = severalOf(table, columns);
  const label = columns.length === 1 && !several ? table.index(columns[0]) : undefined;
  const part = columnOf(table, undefined, partColumns);
  const split = part === undefined ? folderSplits(file, table, path) : undefined;
  const listed = new ListedImages(tree, file, await existing(tree, file));
  const parts: Record<Split, Classified[]> = { train: [], val: [], test: [] };
  const outside: Skipped[] = [];
  for (const row of table.rows) {
    const name = await listed.find(row.line, row.values[path], label === undefined ? undefined : row.values[label]);
    if (name === undefined) continue;
    const rowSplit = part === undefined ? (split ? split(row.values[path]) : "train") : splitOf(row.values[part]);
    if (!rowSplit && part !== undefined)
      throw new UserError(
        `Line ${row.line} of ${named} has ${shorten(row.values[part])} in ${shorten(table.columns[part])}; train, val or test is needed`,
        { code: "INVALID_DATA" },
      );
    if (!rowSplit) {
      outside.push(unusedFile(name, "outside of the split folders"));
      continue;
    }
    if (label !== undefined && row.values[label] === "")
      throw new UserError(`Line ${row.line} of ${named} has nothing in ${shorten(table.columns[label])}`, {
        code: "INVALID_DATA",
      });
    const item: Item = several ? { name, labels: several.of(row) } : { name };
    parts[rowSplit].push({ item, class: label === undefined ? undefined : row.values[label] });
  }
  if (parts.train.length + parts.val.length + parts.test.length === 0) throw listed.noneThere();
  const set = listedDataSet(tree.path, { ...parts, skipped: [...listed.skipped(), ...outside] });
  return withSeveral(set, several?.classes);
}

/** Splits by the folders that a metadata file names; lists of other names are taken as they are. */
function folderSplits(file: string, table: Table, path: number): ((path: string) => Split | undefined) | undefined {
  if (!/(?:^|\/)metadata\.\w+$/.test(file)) return undefined;
  const folders = findSplitFolders(table.rows.map(({ values }) => plainPath(values[path])));
  if (!folders) return undefined;
  return (name) =>
    (["train", "val", "test"] as const).find(
      (split) => folders[split] !== undefined && plainPath(name).startsWith(`${folders.above}${folders[split]}/`),
    );
}

/** A table of the default name in a folder of images; undefined where there is none. */
async function defaultTable(tree: DataTree): Promise<string | undefined> {
  for (const name of ["metadata.csv", "metadata.jsonl", "labels.csv"]) if (await has(tree, name)) return name;
  return undefined;
}

export const format = defineFormat({
  name: "lists",
  summary: "tables and lists of paths, and the classes beside them",
  extensions: [".csv", ".tsv", ".jsonl", ".txt"],
  order: askedAs.list,
  options: tableOptions,
  recognise: async (tree) => tree.file ?? (await defaultTable(tree)),
  open: openList,
});
