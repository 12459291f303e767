// A data set: pictures with or without classes, and the part to judge on where it brings one.
import { UserError } from "../utils/errors.ts";
import type { Skipped } from "./loader.ts";
import type { DataSetName } from "./protocols.ts";
import type { Item } from "./sampling.ts";

export interface PictureFolder {
  /** The folder that the items' names are counted from. */
  readonly path: string;
  /** Class names, where pictures have classes: alphabetical, or in the data set's own order. */
  readonly classes?: readonly string[];
  readonly items: readonly Item[];
  /** What was passed over while the pictures were listed. */
  readonly skipped: readonly Skipped[];
}

export interface DataSet {
  readonly path: string;
  /** Which published data set it is, where that is known. */
  readonly name?: DataSetName;
  /** Whether a picture may belong to several classes, or to none (`labels` of its items). */
  readonly multiLabel?: boolean;
  readonly train: PictureFolder;
  /** The part to judge on, where the data set brings one. Labels are indices into the training part's classes. */
  readonly test?: PictureFolder;
}

/**
 * A flat folder, or one folder a class: where all pictures lie in subfolders, and there are two of these or more. A folder
 * around all of them does not count.
 */
export function pictureFolder(path: string, names: readonly string[], skipped: readonly Skipped[]): PictureFolder {
  let around = 0;
  for (;;) {
    const end = names[0]?.indexOf("/", around) ?? -1;
    if (end < 0 || !names.every((name) => name.startsWith(names[0].slice(0, end + 1)))) break;
    around = end + 1;
  }
  const classOf = (name: string) => name.slice(around, Math.max(around, name.indexOf("/", around)));
  const classes = [...new Set(names.map(classOf))].sort();
  if (classes.length < 2 || classes.includes("")) return { path, items: names.map((name) => ({ name })), skipped };
  const labels = new Map(classes.map((name, i) => [name, i]));
  return { path, classes, items: names.map((name) => ({ name, label: labels.get(classOf(name)) })), skipped };
}

/** A training and a test part below one folder, with names counted from there and one list of classes. */
export function splitDataSet(path: string, train: [string, PictureFolder], test: [string, PictureFolder]): DataSet {
  const classes = train[1].classes;
  const below = ([part, folder]: [string, PictureFolder]): PictureFolder => ({
    path,
    classes: folder.classes && classes,
    items: folder.items.map((item) => ({
      ...item,
      name: `${part}/${item.name}`,
      label: relabel(folder, item.label, classes),
    })),
    skipped: folder.skipped.map((s) => ({ ...s, name: `${part}/${s.name}` })),
  });
  return { path, train: below(train), test: below(test) };
}

function relabel(folder: PictureFolder, label: number | undefined, classes: readonly string[] | undefined) {
  if (label === undefined || !folder.classes || !classes) return undefined;
  const index = classes.indexOf(folder.classes[label]);
  if (index < 0) throw new UserError(`the class ${folder.classes[label]} of ${folder.path} has no training pictures`);
  return index;
}

/** A picture with its class as a list, a table or a shard gives it: a name, or a number from 0. */
export interface Classified {
  readonly item: Item;
  readonly class?: string | number;
}

/** Parts of a data set as lists give them. */
export interface ListedParts {
  readonly train: readonly Classified[];
  readonly test: readonly Classified[];
  readonly skipped: readonly Skipped[];
}

/**
 * A data set of listed pictures. Class names are `known`, or those that occur, alphabetical. Without a training part
 * everything is one. Throws a UserError where some pictures have a class and others none, or a number names no class.
 */
export function listedDataSet(path: string, { train, test, skipped }: ListedParts, known?: readonly string[]): DataSet {
  const all = [...train, ...test];
  const first = all.find((entry) => entry.class !== undefined);
  const bare = all.find((entry) => entry.class === undefined);
  if (first && bare) throw new UserError(`${first.item.name} of ${path} has a class, but ${bare.item.name} has none`);
  const classes = first && (known ?? classNames(all));
  const index = new Map(classes?.map((name, i) => [name, i]));
  const labelled = (entry: Classified): Item => {
    if (!classes) return entry.item;
    const label = typeof entry.class === "number" ? entry.class : index.get(entry.class as string);
    if (label === undefined || !(label >= 0 && label < classes.length))
      throw new UserError(
        `${entry.item.name} of ${path} has the class ${entry.class}, which is none of ${classes.length}`,
      );
    return { ...entry.item, label };
  };
  const part = (entries: readonly Classified[], said: readonly Skipped[]): PictureFolder => ({
    path,
    classes,
    items: entries.map(labelled),
    skipped: said,
  });
  if (train.length === 0) return { path, train: part(test, skipped) };
  return { path, train: part(train, skipped), ...(test.length > 0 ? { test: part(test, []) } : {}) };
}

function classNames(entries: readonly Classified[]): string[] {
  const found = new Set(entries.map((entry) => entry.class as string | number));
  const numbers = [...found].filter((value) => typeof value === "number");
  if (numbers.length === 0) return [...(found as Set<string>)].sort();
  const highest = numbers.reduce((a, b) => Math.max(a, b), 0);
  if (numbers.length < found.size || highest > 100_000 || numbers.some((n) => !Number.isInteger(n) || n < 0))
    throw new UserError(`classes are numbers and names at once, or no numbers from 0 on (such as ${[...found][0]})`);
  return Array.from({ length: highest + 1 }, (_, i) => `class ${i}`);
}

/** The part that a name of a file or a column speaks of; undefined where it speaks of none. */
export function partOf(name: string): "train" | "test" | undefined {
  const [, word] =
    /(?:^|[^a-z])(train|training|val|valid|validation|dev|test|testing)(?:[^a-z]|$)/.exec(name.toLowerCase()) ?? [];
  return word === undefined ? undefined : word.startsWith("train") ? "train" : "test";
}
