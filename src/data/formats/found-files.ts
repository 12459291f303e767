// Images found in folders or archives, whatever holds them: split folders, class folders, and metadata files beside them.
import { UserError } from "../../utils/errors.ts";
import { shorten, listSome } from "../../utils/quote.ts";
import type { Classified, ListedSet, ImageFolder } from "../dataset.ts";
import { classFolders, listedDataSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import type { Split } from "../splits.ts";
import { findSplitFolders } from "../splits.ts";
import { notAnImage, unusedFile } from "../unused.ts";
import type { ListOptions } from "./table-options.ts";
import { columnOf, labelColumnsOf, missingImage, severalOf, tableOf, withSeveral } from "./lists.ts";
import { plainPath } from "./tree.ts";

/** An image, and the path that its split and its class are read from. */
export interface FoundFile {
  readonly item: Item;
  readonly path: string;
}

/** A file that describes images, as Hugging Face's imagefolder reads it. */
export interface MetadataFile {
  readonly path: string;
  read(): Promise<string>;
}

export const isMetadataName = (name: string): boolean => /(?:^|\/)metadata\.(?:csv|jsonl)$/.test(name);

export interface FoundFiles {
  readonly files: readonly FoundFile[];
  readonly metadata?: readonly MetadataFile[];
  readonly skipped: readonly Skipped[];
}

interface Section {
  readonly split: Split;
  /** The folder: empty, or with `/` at its end. */
  readonly folder: string;
  readonly files: FoundFile[];
}

/**
 * A data set of images that lie in split folders or not, each flat or with one folder a class. Metadata files that name
 * images (`file_name`) give classes instead, where there are any.
 */
export async function foundDataSet(
  path: string,
  { files, metadata = [], skipped }: FoundFiles,
  options: ListOptions = {},
): Promise<ListedSet> {
  const unused = [...skipped];
  const sections = sectionsOf(files, unused);
  const described = await readMetadata(metadata, options, unused);
  if (described) return describedSet(path, sections, described, unused);
  return folderSet(
    path,
    sections.map((section) => withoutLoose(section, unused)),
    unused,
  );
}

/** Files by the split folders that they lie in; all in one where there are none. */
function sectionsOf(files: readonly FoundFile[], unused: Skipped[]): Section[] {
  const folders = findSplitFolders(files.map((file) => file.path));
  if (!folders) return [{ split: "train", folder: "", files: [...files] }];
  const sections = (["train", "val", "test"] as const).flatMap((split): Section[] => {
    const name = folders[split];
    return name === undefined ? [] : [{ split, folder: `${folders.above}${name}/`, files: [] }];
  });
  for (const file of files) {
    const section = sections.find(({ folder }) => file.path.startsWith(folder));
    if (section) section.files.push(file);
    else unused.push(unusedFile(file.item.name, "outside of the split folders"));
  }
  return sections;
}

const nameOf = ({ folder }: Section) => folder.slice(0, -1);

/** A section without the few files that lie beside its class folders. */
function withoutLoose(section: Section, unused: Skipped[]): Section {
  const folders = classFolders(relativePaths(section));
  if (!folders?.labels.includes(-1)) return section;
  section.files.forEach(({ item }, i) => {
    if (folders.labels[i] < 0) unused.push(unusedFile(item.name, "beside the class folders"));
  });
  return { ...section, files: section.files.filter((_, i) => folders.labels[i] >= 0) };
}

/** Classes by folders. */
function folderSet(path: string, sections: readonly Section[], unused: Skipped[]): ListedSet {
  const [train, evaluated, other] = sections;
  const trainFolders = classFolders(relativePaths(train));
  const index = new Map(trainFolders?.classes.map((name, i) => [name, i]));
  const labelled = (section: Section, isStrict: boolean): { items: Item[]; hasClasses: boolean } => {
    const folders = section === train ? trainFolders : classFolders(relativePaths(section));
    const labels = folders?.labels.map((label) => index.get(folders.classes[label]));
    const strange = labels && trainFolders ? labels.indexOf(undefined) : -1;
    if (isStrict && folders && strange >= 0)
      throw new UserError(
        `The class ${shorten(folders.classes[folders.labels[strange]])} of ${path}/${nameOf(section)} has no training images`,
        { code: "INVALID_DATA" },
      );
    return {
      items: section.files.map(({ item }, i) => (labels?.[i] === undefined ? item : { ...item, label: labels[i] })),
      hasClasses: labels !== undefined && trainFolders !== undefined,
    };
  };
  const part = (section: Section, own_: readonly Skipped[]): ImageFolder => {
    const { items, hasClasses } = labelled(section, true);
    return { path, ...(hasClasses && trainFolders ? { classes: trainFolders.classes } : {}), items, skipped: own_ };
  };
  if (!evaluated) return { path, train: part(train, unused) };
  const set = { path, train: part(train, unused), test: part(evaluated, []) };
  if (!other) return set;
  const { items } = labelled(other, false);
  return { ...set, otherSplits: [{ split: nameOf(other), instead: nameOf(evaluated), items }] };
}

const relativePaths = ({ folder, files }: Section) => files.map((file) => file.path.slice(folder.length));

/** What metadata files say of images, by their paths. */
interface Described {
  readonly rows: Map<string, { readonly class?: string; readonly labels?: readonly number[]; readonly where: string }>;
  readonly classes?: readonly string[];
}

async function readMetadata(
  metadata: readonly MetadataFile[],
  options: ListOptions,
  unused: Skipped[],
): Promise<Described | undefined> {
  const tables = [];
  for (const { path, read } of metadata) {
    const table = tableOf(path, path, await read());
    const names = columnOf(table, undefined, ["file_name"]);
    // Some other file of this name.
    if (names === undefined) unused.push(notAnImage(path));
    else tables.push({ table, names, folder: path.slice(0, path.lastIndexOf("/") + 1) });
  }
  if (tables.length === 0) return undefined;
  const rows: Described["rows"] = new Map();
  const classes = new Set<string>();
  let several = false;
  const read = tables.map(({ table, names, folder }) => {
    const columns = labelColumnsOf(table, options);
    const pathColumns = severalOf(table, columns);
    several ||= pathColumns !== undefined;
    for (const name of pathColumns?.classes ?? []) classes.add(name);
    return { table, names, folder, column: columns[0] as string | undefined, found: pathColumns };
  });
  const all = [...classes].sort();
  for (const { table, names, folder, column, found: pathColumns } of read) {
    const label = column === undefined ? -1 : table.index(column);
    if (several && !pathColumns && column !== undefined && table.rows.length > 0)
      throw new UserError(
        `${table.name} has one label for each image, ${listSome(tables.map((t) => t.table.name))} several`,
        { code: "INVALID_DATA" },
      );
    for (const row of table.rows) {
      const where = `${table.name}, line ${row.line}`;
      const key = plainPath(folder + row.values[names]).normalize("NFC");
      if (rows.has(key)) unused.push(unusedFile(where, "names an image again"));
      else if (pathColumns)
        rows.set(key, { labels: pathColumns.of(row).map((i) => all.indexOf(pathColumns.classes[i])), where });
      else rows.set(key, { class: row.values[label] || undefined, where });
    }
  }
  return { rows, ...(several ? { classes: all } : {}) };
}

/** Classes by metadata files. */
function describedSet(
  path: string,
  sections: readonly Section[],
  { rows, classes }: Described,
  unused: Skipped[],
): ListedSet {
  const used = new Set<string>();
  const entries = sections.map((section) =>
    section.files.flatMap(({ item, path: itemPath }): Classified[] => {
      const key = itemPath.normalize("NFC");
      const row = rows.get(key);
      if (!row) unused.push(unusedFile(item.name, "named in no list"));
      else used.add(key);
      return row ? [{ item: row.labels ? { ...item, labels: row.labels } : item, class: row.class }] : [];
    }),
  );
  for (const [key, { where }] of rows) if (!used.has(key)) unused.push(missingImage(where, key));
  const empty = sections.find((_, i) => entries[i].length === 0);
  if (empty)
    throw new UserError(`The metadata files name no image of ${path}${empty.folder && `/${nameOf(empty)}`}`, {
      code: "INVALID_DATA",
    });
  const [train, evaluated, other] = entries;
  // Labels of a test split may be kept secret.
  const bare = (list: Classified[] | undefined) => list?.every((entry) => entry.class === undefined) ?? false;
  const hidden = !bare(train) && evaluated !== undefined && bare(evaluated);
  const names = { val: nameOf(sections[1] ?? sections[0]), test: nameOf(sections[2] ?? sections[0]) };
  const set = listedDataSet(path, {
    train,
    val: hidden ? [] : (evaluated ?? []),
    skipped: unused,
  });
  const otherSplits = other ? [{ split: names.test, instead: names.val, items: other.map(({ item }) => item) }] : [];
  return withSeveral(
    {
      ...set,
      ...(hidden ? { test: { path, items: evaluated.map(({ item }) => item), skipped: [] } } : {}),
      ...(other ? { otherSplits } : {}),
    },
    classes,
  );
}
