// ChestX-ray14 (arXiv 1705.02315) as the NIH publishes it: one table of findings, lists of the official split.
import { z } from "zod";
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { ListedSet, ImageFolder } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import { unusedFile } from "../unused.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import { missingImage } from "./lists.ts";
import { readTable } from "./table-reader.ts";
import type { DataTree } from "./tree.ts";
import { has, isImageName, numberedLines, pathOf, textOf } from "./tree.ts";

const findings = [
  "Atelectasis",
  "Cardiomegaly",
  "Consolidation",
  "Edema",
  "Effusion",
  "Emphysema",
  "Fibrosis",
  "Hernia",
  "Infiltration",
  "Mass",
  "Nodule",
  "Pleural_Thickening",
  "Pneumonia",
  "Pneumothorax",
] as const;
const nothing = "No Finding";
const splits = { train: "train_val_list.txt", test: "test_list.txt" } as const;

/** The table of findings in a folder. */
async function tableOf(tree: DataTree): Promise<string | undefined> {
  const entries = await tree.list();
  return entries.map(({ name }) => name).find((name) => /^Data_Entry_2017.*\.csv$/.test(name));
}

/**
 * Opens the set by its table. With `includeNoFinding`, that an image shows nothing is a class of its own. Throws a UserError on
 * a finding or a row that is not known.
 */
async function openChestXray(tree: DataTree, file: string, includeNoFinding: boolean): Promise<ListedSet> {
  const named = pathOf(tree, file);
  const classes: string[] = includeNoFinding ? [...findings, nothing] : [...findings];
  const walked = await tree.walk("", isImageName);
  const lists = new Set<string>([file, ...Object.values(splits)]);
  const skipped: Skipped[] = walked.skipped.filter(({ name }) => !lists.has(name));
  const paths = new Map(walked.names.map((name) => [name.slice(name.lastIndexOf("/") + 1), name]));
  const items = new Map<string, Item>();
  const table = readTable(await textOf(tree, file), named);
  const columns = [table.index("Image Index"), table.index("Finding Labels")];
  for (const { line, values } of table.rows) {
    const [image, words] = columns.map((column) => values[column]);
    if (!image || !words)
      throw new UserError(`Line ${line} of ${named} has no Image Index or no Finding Labels`, { code: "INVALID_DATA" });
    const labels = labelsOf(words, classes, `Line ${line} of ${named}`);
    const path = paths.get(image);
    if (path === undefined) skipped.push(missingImage(`${file}, line ${line}`, image));
    else items.set(image, { name: path, labels });
  }
  if (items.size === 0)
    throw new UserError(`None of the images listed in ${named} are in ${tree.path}`, { code: "INVALID_DATA" });
  const never = (used: readonly Item[]) => {
    const names = new Set(used.map(({ name }) => name));
    return walked.names.filter((name) => !names.has(name)).map((name) => unusedFile(name, "named in no list"));
  };
  const whole = { path: tree.path, name: "chestxray14" as const, multiLabel: true };
  const folder = (used: readonly Item[], skipped: readonly Skipped[]): ImageFolder => ({
    path: tree.path,
    classes,
    items: [...used],
    skipped: [...skipped],
  });
  const listed = await Promise.all(Object.values(splits).map((list) => has(tree, list)));
  const all = [...items.values()];
  if (!listed.every(Boolean)) return { ...whole, train: folder(all, [...skipped, ...never(all)]) };
  const [train, test] = [await partOf(tree, splits.train, items), await partOf(tree, splits.test, items)];
  const unlisted = never([...train.items, ...test.items]);
  return {
    ...whole,
    train: folder(train.items, [...skipped, ...train.missing, ...unlisted]),
    test: folder(test.items, test.missing),
  };
}

/** Numbers of the classes that a cell names. Throws a UserError on a finding that is none of the 14. */
function labelsOf(words: string, classes: readonly string[], where: string): number[] {
  return words.split("|").flatMap((word) => {
    const index = classes.indexOf(word.trim());
    if (index < 0 && word.trim() !== nothing)
      throw new UserError(`${where} has the finding ${shorten(word.trim())}, which is none of the 14`, {
        code: "INVALID_DATA",
      });
    return index < 0 ? [] : [index];
  });
}

/** The items that a list names, and the images of it that are missing. Throws a UserError where none is there. */
async function partOf(tree: DataTree, list: string, items: ReadonlyMap<string, Item>) {
  const missing: Skipped[] = [];
  const listed = numberedLines(await textOf(tree, list)).flatMap(({ line, text }) => {
    const item = items.get(text);
    if (!item) missing.push(missingImage(`${list}, line ${line}`, text));
    return item ? [item] : [];
  });
  if (listed.length === 0)
    throw new UserError(`None of the images listed in ${pathOf(tree, list)} are there`, { code: "INVALID_DATA" });
  return { items: listed, missing };
}

export const format = defineFormat({
  name: "chestxray",
  summary: "ChestX-ray14 as the NIH publishes it",
  extensions: [],
  order: askedAs.published + 10,
  options: {
    includeNoFinding: z
      .boolean()
      .default(false)
      .describe("ChestX-ray14: an image without findings is a class of its own"),
  },
  recognise: tableOf,
  open: (tree, table, { includeNoFinding }) => openChestXray(tree, table, includeNoFinding),
});
