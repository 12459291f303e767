// ChestX-ray14 (arXiv 1705.02315) as the NIH publishes it: one table of findings, lists of the official split.
import { z } from "zod";
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { ListedSet, PictureFolder } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { Item } from "../sampling.ts";
import { unusedFile } from "../unused.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import { missingImage } from "./lists.ts";
import { readTable } from "./table.ts";
import type { DataTree } from "./tree.ts";
import { has, isPictureName, numberedLines, pathOf, textOf } from "./tree.ts";

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
 * Opens the set by its table. With `includeNoFinding`, that a picture shows nothing is a class of its own. Throws a UserError on
 * a finding or a row that is not known.
 */
async function openChestXray(tree: DataTree, file: string, includeNoFinding: boolean): Promise<ListedSet> {
  const named = pathOf(tree, file);
  const classes: string[] = includeNoFinding ? [...findings, nothing] : [...findings];
  const paths = new Map<string, string>();
  const walked = await tree.walk("", isPictureName);
  for (const name of walked.names) paths.set(name.slice(name.lastIndexOf("/") + 1), name);
  const own = new Set<string>([file, ...Object.values(splits)]);
  const skipped: Skipped[] = walked.skipped.filter(({ name }) => !own.has(name));
  const items = new Map<string, Item>();
  const table = readTable(await textOf(tree, file), named);
  const columns = [table.index("Image Index"), table.index("Finding Labels")];
  for (const { line, values } of table.rows) {
    const [picture, found] = columns.map((column) => values[column]);
    if (!picture || !found)
      throw new UserError(`Line ${line} of ${named} has no Image Index or no Finding Labels`, { code: "INVALID_DATA" });
    const labels = found.split("|").flatMap((word) => {
      const index = classes.indexOf(word.trim());
      if (index < 0 && word.trim() !== nothing)
        throw new UserError(
          `Line ${line} of ${named} has the finding ${shorten(word.trim())}, which is none of the 14`,
          { code: "INVALID_DATA" },
        );
      return index < 0 ? [] : [index];
    });
    const path = paths.get(picture);
    if (path === undefined) skipped.push(missingImage(`${file}, line ${line}`, picture));
    else items.set(picture, { name: path, labels });
  }
  if (items.size === 0)
    throw new UserError(`None of the images listed in ${named} are in ${tree.path}`, { code: "INVALID_DATA" });
  const listedNames = new Set<string>();
  const never = (used: ReadonlySet<string>) =>
    walked.names.filter((name) => !used.has(name)).map((name) => unusedFile(name, "named in no list"));
  const part = async (list: string, said: readonly Skipped[]): Promise<PictureFolder> => {
    const missing: Skipped[] = [];
    const listed = numberedLines(await textOf(tree, list)).flatMap(({ line, text }) => {
      const item = items.get(text);
      if (item) listedNames.add(item.name);
      else missing.push(missingImage(`${list}, line ${line}`, text));
      return item ? [item] : [];
    });
    if (listed.length === 0)
      throw new UserError(`None of the images listed in ${pathOf(tree, list)} are there`, { code: "INVALID_DATA" });
    return { path: tree.path, classes, items: listed, skipped: [...said, ...missing] };
  };
  const whole = { path: tree.path, name: "chestxray14" as const, multiLabel: true };
  const listed = await Promise.all(Object.values(splits).map((list) => has(tree, list)));
  if (!listed.every(Boolean))
    return {
      ...whole,
      train: {
        path: tree.path,
        classes,
        items: [...items.values()],
        skipped: [...skipped, ...never(new Set([...items.values()].map(({ name }) => name)))],
      },
    };
  const [train, test] = [await part(splits.train, skipped), await part(splits.test, [])];
  return { ...whole, train: { ...train, skipped: [...train.skipped, ...never(listedNames)] }, test };
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
