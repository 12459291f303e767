// Folders of images: flat, in class folders, in split folders, with metadata files or without. What any folder is at last.
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { ListedSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import type { DataSetName } from "../protocols.ts";
import { resiscClasses } from "../protocols.ts";
import { askedAs, defineFormat, NoImages } from "./data-format.ts";
import { foundDataSet, isMetadataName } from "./found-files.ts";
import { areSynsets, labelValidation } from "./imagenet.ts";
import type { ListOptions } from "./table-options.ts";
import { tableOptions } from "./table-options.ts";
import type { DataTree } from "./tree.ts";
import { isImageName, textOf } from "./tree.ts";

const isWeightsName = (name: string) => /\.(safetensors|onnx|pth|pt|ckpt)$/i.test(name);

interface Walked {
  /** Images. */
  readonly names: readonly string[];
  readonly metadata: readonly string[];
  readonly skipped: readonly Skipped[];
}

async function openFolders(
  tree: DataTree,
  { names, metadata, skipped }: Walked,
  options: ListOptions,
): Promise<ListedSet> {
  if (names.length === 0) {
    const [first] = skipped;
    if (skipped.some(({ name }) => isWeightsName(name)))
      throw new UserError(`${tree.path} is a model, not images. Give a folder or an archive of images.`, {
        code: "NO_IMAGES",
      });
    const others = first
      ? ` (it holds ${skipped.length} other files, such as ${shorten(first.name)}: ${first.reason})`
      : "";
    throw new NoImages(`There are no images in ${tree.path}${others}`, { code: "NO_IMAGES" });
  }
  const dataSet = await foundDataSet(
    tree.path,
    {
      files: names.map((name) => ({ item: { name }, path: name })),
      metadata: metadata.map((path) => ({ path, read: () => textOf(tree, path) })),
      skipped,
    },
    options,
  );
  const { classes } = dataSet.train;
  if (!dataSet.test || !classes || !areSynsets(classes)) return { ...dataSet, name: nameOf(classes) };
  const labelled = dataSet.test.classes ? undefined : await labelValidation([tree], dataSet.test, classes);
  return { ...dataSet, ...(labelled ? { test: labelled } : {}), name: "imagenet" };
}

function nameOf(classes: readonly string[] | undefined): DataSetName | undefined {
  const resisc = classes?.length === resiscClasses.length && resiscClasses.every((name) => classes.includes(name));
  return resisc ? "resisc45" : undefined;
}

export const format = defineFormat({
  name: "folders",
  summary: "folders of images: flat, one folder a class, either in train/ and val/",
  extensions: [],
  order: askedAs.folder,
  options: tableOptions,
  async recognise(tree): Promise<Walked> {
    const { names: files, skipped } = await tree.walk("", (name) => isImageName(name) || isMetadataName(name));
    const names = files.filter(isImageName);
    return { names, metadata: files.filter((name) => !isImageName(name)), skipped };
  },
  open: openFolders,
});
