// A data set: images with or without classes, and the part to evaluate on where it brings one.
import { UserError } from "../utils/errors.ts";
import { shorten } from "../utils/quote.ts";
import type { Skipped } from "./loader.ts";
import type { DataSetName } from "./protocols.ts";
import type { Item } from "./sampling.ts";
import type { UnusedFiles } from "./unused.ts";
import { unusedFile } from "./unused.ts";

export interface ImageFolder {
  /** The folder that the items' names are counted from. */
  readonly path: string;
  /** Class names, where images have classes: alphabetical, or in the data set's own order. */
  readonly classes?: readonly string[];
  readonly items: readonly Item[];
  /** Files that are not used, as seen while the images were listed. */
  readonly skipped: readonly Skipped[];
}

/** Images of a split that is neither trained nor evaluated on. */
export interface OtherSplit {
  /** Its name: a folder's, or `test`. */
  readonly split: string;
  /** The split that is evaluated on instead. */
  readonly instead: string;
  readonly items: readonly Item[];
}

/** A data set as its format gives it. */
export interface ListedSet {
  readonly path: string;
  /** Which published data set it is, where that is known. */
  readonly name?: DataSetName;
  /** Whether an image may belong to several classes, or to none (`labels` of its items). */
  readonly multiLabel?: boolean;
  readonly train: ImageFolder;
  /** The part to evaluate on, where the data set brings one. Labels are indices into the training part's classes. */
  readonly test?: ImageFolder;
  /** A third split, where the data set has one. */
  readonly otherSplits?: readonly OtherSplit[];
}

export interface DataSet extends ListedSet {
  /** Files that are not used, counted by reason: those in `skipped` of both parts, and other splits. */
  readonly unused: readonly UnusedFiles[];
}

/** Every file of a data set that is not used. */
export function unusedOf({ train, test, otherSplits = [] }: ListedSet): Skipped[] {
  const others = otherSplits.flatMap(({ split, instead, items }) =>
    items.map(({ name }) => unusedFile(name, `in the split ${split}, which is not used (${instead} is)`)),
  );
  return [...train.skipped, ...(test?.skipped ?? []), ...others];
}

/** Above this share of all files, those beside class folders show that the folders are no classes. */
const looseShare = 0.1;

/**
 * Class names of files by the folders that they lie in, and each file's label: where there are two subfolders or more, and all
 * files lie in these but for a few, which have the label -1. A folder around all of them does not count. Names are compared in
 * Unicode's composed form.
 */
export function classFolders(paths: readonly string[]): { classes: string[]; labels: number[] } | undefined {
  let around = 0;
  for (;;) {
    const end = paths[0]?.indexOf("/", around) ?? -1;
    const front = paths[0]?.slice(0, end + 1);
    if (end < 0 || !paths.every((path) => path.startsWith(front))) break;
    around = end + 1;
  }
  const names = paths.map((path) => path.slice(around, Math.max(around, path.indexOf("/", around))).normalize("NFC"));
  const classes = [...new Set(names)].filter(Boolean).sort();
  const loose = names.filter((name) => name === "").length;
  if (classes.length < 2 || loose > looseShare * names.length) return undefined;
  const index = new Map(classes.map((name, i) => [name, i]));
  return { classes, labels: names.map((name) => index.get(name) ?? -1) };
}

/** An image with its class as a list, a table or a shard gives it: a name, or a number from 0. */
export interface Classified {
  readonly item: Item;
  readonly class?: string | number;
}

/** Splits of a data set as lists give them. */
export interface ListedParts {
  readonly train: readonly Classified[];
  readonly val?: readonly Classified[];
  readonly test?: readonly Classified[];
  readonly skipped: readonly Skipped[];
  /** What splits are called in messages, where that is not `val` and `test`. */
  readonly names?: { readonly val: string; readonly test: string };
}

/**
 * A data set of listed images. Class names are `known`, or those that occur, alphabetical. The validation split is
 * evaluated on, or the test split where there is none; without a training split everything is one. Throws a UserError where
 * some images have a class and others none, or a number names no class.
 */
export function listedDataSet(path: string, parts: ListedParts, givenClasses?: readonly string[]): ListedSet {
  const { skipped, names = { val: "val", test: "test" } } = parts;
  const [train, val, test] = [parts.train, parts.val ?? [], parts.test ?? []].map((entries) => entries.map(composed));
  const all = [...train, ...val, ...test];
  const first = all.find((entry) => entry.class !== undefined);
  const bare = all.find((entry) => entry.class === undefined);
  if (first && bare)
    throw new UserError(`${shorten(first.item.name)} of ${path} has a class, but ${shorten(bare.item.name)} has none`, {
      code: "INVALID_DATA",
    });
  const classes = first && (givenClasses?.map((name) => name.normalize("NFC")) ?? classNames(all));
  const index = new Map(classes?.map((name, i) => [name, i]));
  const labelled = (entry: Classified): Item => {
    if (!classes) return entry.item;
    const label = typeof entry.class === "number" ? entry.class : index.get(entry.class ?? "");
    if (label === undefined || !(Number.isInteger(label) && label >= 0 && label < classes.length))
      throw new UserError(
        `${shorten(entry.item.name)} of ${path} has the class ${shorten(String(entry.class))}, which is none of ${classes.length}`,
        { code: "INVALID_DATA" },
      );
    return { ...entry.item, label };
  };
  const part = (entries: readonly Classified[], unused: readonly Skipped[]): ImageFolder => ({
    path,
    classes,
    items: entries.map(labelled),
    skipped: unused,
  });
  if (train.length === 0) return { path, train: part([...val, ...test], skipped) };
  const evaluated = val.length > 0 ? val : test;
  const isThird = val.length > 0 && test.length > 0;
  return {
    path,
    train: part(train, skipped),
    ...(evaluated.length > 0 ? { test: part(evaluated, []) } : {}),
    ...(isThird ? { otherSplits: [{ split: names.test, instead: names.val, items: test.map(labelled) }] } : {}),
  };
}

/** With a class's name in Unicode's composed form: systems write accents in two ways. */
const composed = (entry: Classified): Classified =>
  typeof entry.class === "string" ? { ...entry, class: entry.class.normalize("NFC") } : entry;

function classNames(entries: readonly Classified[]): string[] {
  const values = new Set<string | number>();
  for (const { class: value } of entries) if (value !== undefined) values.add(value);
  const numbers = [...values].filter((value) => typeof value === "number");
  if (numbers.length === 0) return [...values].map(String).sort();
  const highest = numbers.reduce((a, b) => Math.max(a, b), 0);
  if (numbers.length < values.size || highest > 100_000 || numbers.some((n) => !Number.isInteger(n) || n < 0))
    throw new UserError(
      `Classes mix numbers and names, or numbers below 0 (such as ${shorten(String([...values][0]))})`,
      { code: "INVALID_DATA" },
    );
  return Array.from({ length: highest + 1 }, (_, i) => `class ${i}`);
}

/** All images of a data set, of every split, in classes where all have them. */
export function allImages({ train, test, otherSplits = [] }: ListedSet): ImageFolder {
  if (!test) return train;
  const items = [...train.items, ...test.items, ...otherSplits.flatMap((other) => other.items)];
  const skipped = [...train.skipped, ...test.skipped];
  const isLabelled = items.every(({ label, labels }) => label !== undefined || labels !== undefined);
  if (train.classes && isLabelled) return { ...train, items, skipped };
  return { path: train.path, items: items.map(({ name, place }) => ({ name, place })), skipped };
}
