// Labels of ImageNet's validation images, which lie in one folder: from the devkit's list, or from Kaggle's table.
import { readMat } from "../../files/mat.ts";
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { ImageFolder } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import { readTable } from "./table-reader.ts";
import type { DataTree } from "./tree.ts";
import { bytesOf, has, numberedLines, pathOf, textOf } from "./tree.ts";

const devkits = ["ILSVRC2012_devkit_t12/data/", "ILSVRC2012_devkit_t3/data/", "devkit/data/", "data/", ""];
const truth = "ILSVRC2012_validation_ground_truth.txt";
const kaggle = "LOC_val_solution.csv";

/** Whether class folders are named as WordNet's synsets. */
export const areSynsets = (classes: readonly string[] | undefined): boolean =>
  classes?.every((name) => /^n\d{8}$/.test(name)) ?? false;

/**
 * Gives a flat folder of validation images their classes, where a list of them lies in one of the trees; undefined where
 * none does. `classes` are the training part's synsets.
 */
export async function labelValidation(
  trees: readonly DataTree[],
  folder: ImageFolder,
  classes: readonly string[],
): Promise<ImageFolder | undefined> {
  for (const tree of trees) {
    const labels = (await kaggleLabels(tree)) ?? (await devkitLabels(tree));
    if (!labels) continue;
    const skipped: Skipped[] = [];
    const index = new Map(classes.map((name, i) => [name, i]));
    const items = folder.items.flatMap((item) => {
      const base = item.name.slice(item.name.lastIndexOf("/") + 1).replace(/\.\w+$/, "");
      const synset = labels.of(base);
      const label = synset === undefined ? undefined : index.get(synset);
      if (label !== undefined) return [{ ...item, label }];
      const reason =
        synset === undefined
          ? `is not in ${labels.file}`
          : `is of the class ${shorten(synset)}, which has no training images`;
      skipped.push({ name: item.name, reason, group: "without a class that has training images" });
      return [];
    });
    if (items.length === 0)
      throw new UserError(`${labels.file} lists none of the images in ${folder.path}`, { code: "INVALID_DATA" });
    return { ...folder, classes, items, skipped: [...folder.skipped, ...skipped] };
  }
  return undefined;
}

interface Labels {
  readonly file: string;
  /** The synset of an image, by its name without ending. */
  of(image: string): string | undefined;
}

async function kaggleLabels(tree: DataTree): Promise<Labels | undefined> {
  if (!(await has(tree, kaggle))) return undefined;
  const file = pathOf(tree, kaggle);
  const labels = new Map<string, string>();
  const table = readTable(await textOf(tree, kaggle), file);
  const [image, prediction] = [table.index("ImageId"), table.index("PredictionString")];
  for (const { line, values } of table.rows) {
    const [synset] = values[prediction].split(" ");
    if (!values[image] || !synset)
      throw new UserError(`Line ${line} of ${file} has no ImageId or no PredictionString`, { code: "INVALID_DATA" });
    labels.set(values[image], synset);
  }
  return { file, of: (image) => labels.get(image) };
}

async function devkitLabels(tree: DataTree): Promise<Labels | undefined> {
  for (const folder of devkits) {
    if (!(await has(tree, folder + truth))) continue;
    const file = pathOf(tree, folder + truth);
    const synsets = await synsetsOf(tree, folder);
    const lines = numberedLines(await textOf(tree, folder + truth)).map(({ line, text }) => {
      const synset = synsets.get(Number(text));
      if (synset === undefined)
        throw new UserError(`Line ${line} of ${file} has ${shorten(text)}, which is not a class of the devkit`, {
          code: "INVALID_DATA",
        });
      return synset;
    });
    // ILSVRC2012_val_00000001 stands in the first line.
    return { file, of: (image) => lines[Number(/(\d+)$/.exec(image)?.[1] ?? 0) - 1] };
  }
  return undefined;
}

/** Synsets by the devkit's numbers. */
async function synsetsOf(tree: DataTree, folder: string): Promise<Map<number, string>> {
  const text = `${folder}map_clsloc.txt`;
  if (await has(tree, text)) {
    const lines = numberedLines(await textOf(tree, text)).map(({ text: line }) => line.split(/\s+/));
    return new Map(lines.map(([synset, number]) => [Number(number), synset]));
  }
  const file = `${folder}meta.mat`;
  const records = readMat(await bytesOf(tree, file, 2 ** 28), pathOf(tree, file)).get("synsets");
  if (!Array.isArray(records)) throw new UserError(`${pathOf(tree, file)} holds no synsets`, { code: "INVALID_DATA" });
  const synsets = new Map<number, string>();
  for (const record of records as Readonly<Record<string, unknown>>[]) {
    const number = record.ILSVRC2012_ID as readonly number[] | undefined;
    if (Array.isArray(number) && typeof record.WNID === "string") synsets.set(number[0] as number, record.WNID);
  }
  if (synsets.size === 0)
    throw new UserError(`The synsets in ${pathOf(tree, file)} have no numbers (ILSVRC2012_ID, WNID)`, {
      code: "INVALID_DATA",
    });
  return synsets;
}
