// A data set: pictures with or without classes, and the part to judge on where it brings one.
import { UserError } from "../utils/errors.ts";
import type { Skipped } from "./loader.ts";
import type { Item } from "./sampling.ts";

export interface PictureFolder {
  /** The folder that the items' names are counted from. */
  readonly path: string;
  /** Class names in alphabetical order, where each class has a folder. */
  readonly classes?: readonly string[];
  readonly items: readonly Item[];
  /** Files that are no pictures by their names. */
  readonly skipped: readonly Skipped[];
}

export interface DataSet {
  readonly path: string;
  readonly train: PictureFolder;
  /** The part to judge on, where the data set brings one. Labels are indices into the training part's classes. */
  readonly test?: PictureFolder;
}

/** A flat folder, or one folder a class: where all pictures lie in subfolders, and there are two of these or more. */
export function pictureFolder(path: string, names: readonly string[], skipped: readonly Skipped[]): PictureFolder {
  const classOf = (name: string) => name.slice(0, Math.max(0, name.indexOf("/")));
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
    items: folder.items.map(({ name, label }) => ({ name: `${part}/${name}`, label: relabel(folder, label, classes) })),
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
