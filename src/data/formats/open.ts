// A data set as downloaded: what it is, is seen from its files.
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { DataSet, ListedSet, PictureFolder } from "../dataset.ts";
import { unusedOf } from "../dataset.ts";
import { longestScan, readNifti } from "../nifti.ts";
import type { DataSetName } from "../protocols.ts";
import { protocols, resiscClasses } from "../protocols.ts";
import type { Item } from "../sampling.ts";
import { splitHeldOut } from "../sampling.ts";
import {
  blockParts,
  groupScans,
  heldOutCases,
  isVolumeName,
  shownSlices,
  sliceDefaults,
  sliceStack,
} from "../scans.ts";
import { countUnused, notAnImage, unusedFile } from "../unused.ts";
import { isArchive, openArchives } from "./archive.ts";
import { openChestXray } from "./chestxray.ts";
import { openCifar } from "./cifar.ts";
import { foundDataSet, isMetadataName } from "./found.ts";
import { areSynsets, labelValidation } from "./imagenet.ts";
import { openINaturalist } from "./inaturalist.ts";
import type { ListOptions } from "./lists.ts";
import { isList, openList, usualTable } from "./lists.ts";
import { isTable, openTables } from "./parquet.ts";
import { isShard, openShards } from "./shards.ts";
import type { DataTree } from "./tree.ts";
import { bytesOf, isPictureName, pathOf, textOf } from "./tree.ts";

export interface OpenOptions extends ListOptions {
  /** Which published set it is, where it does not show. */
  readonly dataSet?: DataSetName;
  /** ChestX-ray14: that a picture shows nothing is a class of its own. */
  readonly includeNoFinding?: boolean;
  /** Of a split that the set comes without. */
  readonly seed?: number;
}

/**
 * Opens a data set: CIFAR's batches, ChestX-ray14, iNaturalist, ImageNet with its devkit, parquet, tar shards, a zip
 * archive, a table or list of pictures, scans in slices, or folders. Throws a UserError that names what is wrong where.
 */
export async function openDataSetIn(tree: DataTree, options: OpenOptions = {}): Promise<DataSet> {
  const found = await recognise(tree, options);
  const name = options.dataSet ?? found.name;
  const set = name === undefined ? found : withProtocol({ ...found, name }, options.seed ?? 0);
  return { ...set, unused: countUnused(unusedOf(set)) };
}

async function recognise(tree: DataTree, options: OpenOptions): Promise<ListedSet> {
  const { file } = tree;
  if (file !== undefined) {
    if (isArchive(file)) return openArchives(tree, [file], options);
    if (isTable(file)) return openTables(tree, [file], options);
    if (isShard(file)) return openShards(tree, [file], options);
    if (isList(file)) return openList(tree, file, options);
    throw new UserError(
      `${tree.path}/${file} is a file; a folder of images is needed, or a .zip, .tar, .parquet, .csv, .tsv, .jsonl or .txt.`,
      { code: "INVALID_DATA" },
    );
  }
  const published =
    (await openCifar(tree)) ??
    (await openChestXray(tree, options.includeNoFinding ?? false)) ??
    (await openINaturalist(tree));
  if (published) return published;
  const entries = await tree.list();
  const table = await usualTable(tree);
  if (table !== undefined) return openList(tree, table, options);
  const files = entries.filter((e) => !e.isFolder).map(({ name }) => name);
  const folders = entries.filter((e) => e.isFolder).map(({ name }) => name);
  if (!files.some(isPictureName)) {
    const tables = await below(tree, files, folders, isTable);
    if (tables.length > 0 && (options.labelColumns?.length ?? 0) < 2)
      return withOthers(tree, tables, await openTables(tree, tables, options));
    const shards = await below(tree, files, folders, isShard);
    if (shards.length > 0) return withOthers(tree, shards, await openShards(tree, shards, options));
    const volumes = await below(tree, files, folders, isVolumeName);
    if (volumes.length > 0) return openScans(tree, volumes, options.seed ?? 0);
    const archives = files.filter(isArchive);
    if (archives.length > 0 && folders.length === 0)
      return withOthers(tree, archives, await openArchives(tree, archives, options));
  }
  return openFolders(tree, options);
}

/** A set read from some files of a folder, with all others of the folder reported. */
async function withOthers(tree: DataTree, used: readonly string[], set: ListedSet): Promise<ListedSet> {
  const read = new Set(used);
  const { names, skipped } = await tree.walk("", () => true);
  const others = names
    .filter((name) => !read.has(name))
    .map((name) => (isPictureName(name) ? unusedFile(name, "beside the files that are read") : notAnImage(name)));
  return { ...set, train: { ...set.train, skipped: [...set.train.skipped, ...others, ...skipped] } };
}

/** Wanted files in the folder or anywhere below those of its folders that hold nothing else at their top. */
async function below(
  tree: DataTree,
  files: readonly string[],
  folders: readonly string[],
  wanted: (name: string) => boolean,
) {
  const own = files.filter(wanted);
  if (own.length > 0) return own;
  const found: string[] = [];
  for (const folder of folders) {
    const inner = await tree.list(folder);
    if (inner.some((e) => !e.isFolder && isPictureName(e.name))) return [];
    const direct = inner.filter((e) => !e.isFolder && wanted(e.name)).map((e) => `${folder}/${e.name}`);
    found.push(...direct);
    // One level more: cases of scans, configurations of the hub.
    if (direct.length === 0)
      for (const { name, isFolder } of inner) {
        if (!isFolder) continue;
        const inside = await tree.list(`${folder}/${name}`);
        found.push(...inside.filter((e) => !e.isFolder && wanted(e.name)).map((e) => `${folder}/${name}/${e.name}`));
      }
    // A set of class folders has many; one that holds nothing of the kind ends the search.
    if (found.length === 0) return [];
  }
  return found;
}

const isWeightsName = (name: string) => /\.(safetensors|onnx|pth|pt|ckpt)$/i.test(name);

async function openFolders(tree: DataTree, options: OpenOptions): Promise<ListedSet> {
  const walked = await tree.walk("", (name) => isPictureName(name) || isMetadataName(name));
  const names = walked.names.filter(isPictureName);
  if (names.length === 0) {
    const [first] = walked.skipped;
    if (walked.skipped.some(({ name }) => isWeightsName(name)))
      throw new UserError(`${tree.path} is a model, not images. Give a folder or an archive of images.`, {
        code: "NO_IMAGES",
      });
    const others = first
      ? ` (it holds ${walked.skipped.length} other files, such as ${shorten(first.name)}: ${first.reason})`
      : "";
    throw new UserError(
      `There are no images in ${tree.path}${others}. Known are .jpg .jpeg .png .webp .avif .tif .tiff .gif .bmp, and .zip .tar .parquet .csv .nii.`,
      { code: "NO_IMAGES" },
    );
  }
  const metadata = walked.names.filter((name) => !isPictureName(name));
  const found = await foundDataSet(
    tree.path,
    {
      files: names.map((name) => ({ item: { name }, path: name })),
      metadata: metadata.map((path) => ({ path, read: () => textOf(tree, path) })),
      skipped: walked.skipped,
    },
    options,
  );
  const { classes } = found.train;
  if (!found.test || !classes || !areSynsets(classes)) return { ...found, name: nameOf(classes) };
  const labelled = found.test.classes ? undefined : await labelValidation([tree], found.test, classes);
  return { ...found, ...(labelled ? { test: labelled } : {}), name: "imagenet" };
}

function nameOf(classes: readonly string[] | undefined): DataSetName | undefined {
  const resisc = classes?.length === resiscClasses.length && resiscClasses.every((name) => classes.includes(name));
  return resisc ? "resisc45" : undefined;
}

/** What the published protocol adds: a split by class, where the set comes without one. */
function withProtocol(data: ListedSet & { readonly name: DataSetName }, seed: number): ListedSet {
  const { trainShare } = protocols[data.name];
  if (trainShare === undefined || data.test) return data;
  const { rest, heldOut } = splitHeldOut(data.train.items, 1 - trainShare, Number.POSITIVE_INFINITY, seed);
  return { ...data, train: { ...data.train, items: rest }, test: { ...data.train, items: heldOut, skipped: [] } };
}

/** Scans as pictures: slices that show something, split as `wecolora segment` splits them. */
async function openScans(tree: DataTree, volumes: readonly string[], seed: number): Promise<ListedSet> {
  const { axis, share, gap } = sliceDefaults;
  const cases = groupScans(volumes);
  const heldOut = cases.length > 1 ? heldOutCases(cases.length, { kind: "cases", share, seed }) : undefined;
  const items = { train: [] as Item[], test: [] as Item[] };
  for (const [i, { scans }] of cases.entries()) {
    // The first scan shows which slices are blank; the others are read when their slices are.
    const first = readNifti(await bytesOf(tree, scans[0], longestScan), pathOf(tree, scans[0]));
    const stack = sliceStack(scans[0], [first], undefined, axis);
    const shown = shownSlices(stack);
    const blocks = heldOut ? undefined : blockParts(shown.length, { kind: "blocks", share, gap });
    shown.forEach((slice, at) => {
      const part = blocks?.[at] ?? (heldOut?.has(i) ? "test" : "train");
      const place = { kind: "slice" as const, scans, axis, slice };
      if (part !== "none") items[part].push({ name: `${scans[0]}#${axis}-${slice}`, place });
    });
  }
  const folder = (own: readonly Item[]): PictureFolder => ({ path: tree.path, items: own, skipped: [] });
  const masks = cases.flatMap(({ mask }) => (mask === undefined ? [] : [mask]));
  const used = [...cases.flatMap(({ scans }) => scans), ...masks];
  const train = { ...folder(items.train), skipped: masks.map((mask) => unusedFile(mask, "a mask of a scan")) };
  return withOthers(tree, used, { path: tree.path, train, test: folder(items.test) });
}
