// A data set as downloaded: what it is, is seen from its files.
import { UserError } from "../../utils/errors.ts";
import type { DataSet, PictureFolder } from "../dataset.ts";
import { pictureFolder, splitDataSet } from "../dataset.ts";
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
import { isArchive, openArchive } from "./archive.ts";
import { openChestXray } from "./chestxray.ts";
import { openCifar } from "./cifar.ts";
import { areSynsets, labelValidation } from "./imagenet.ts";
import { openINaturalist } from "./inaturalist.ts";
import type { ListOptions } from "./lists.ts";
import { isList, openList, usualTable } from "./lists.ts";
import { isTable, openTables } from "./parquet.ts";
import { isShard, openShards } from "./shards.ts";
import type { DataTree } from "./tree.ts";
import { bytesOf, isPictureName, pathOf } from "./tree.ts";

export interface OpenOptions extends ListOptions {
  /** Which published set it is, where it does not show. */
  readonly dataSet?: DataSetName;
  /** ChestX-ray14: that a picture shows nothing is a class of its own. */
  readonly includeNoFinding?: boolean;
  /** Of a split that the set comes without. */
  readonly seed?: number;
}

/** Names of the parts that a folder may be split into. */
const parts = { train: ["train", "training"], test: ["val", "valid", "validation", "test"] } as const;

/**
 * Opens a data set: CIFAR's batches, ChestX-ray14, iNaturalist, ImageNet with its devkit, parquet, tar shards, a zip
 * archive, a table or list of pictures, scans in slices, or folders. Throws a UserError that names what is wrong where.
 */
export async function openDataSetIn(tree: DataTree, options: OpenOptions = {}): Promise<DataSet> {
  const found = await recognise(tree, options);
  const name = options.dataSet ?? found.name;
  return name === undefined ? found : withProtocol({ ...found, name }, options.seed ?? 0);
}

async function recognise(tree: DataTree, options: OpenOptions): Promise<DataSet> {
  const { file } = tree;
  const [column, ...more] = options.labelColumns ?? [];
  if (file !== undefined) {
    if (isArchive(file)) return openArchive(tree, file);
    if (isTable(file)) return openTables(tree, [file], column);
    if (isShard(file)) return openShards(tree, [file]);
    if (isList(file)) return openList(tree, file, options);
    throw new UserError(
      `${tree.path}/${file} is a file; a folder of pictures is needed, or a .zip, .tar, .parquet, .csv, .tsv or .txt`,
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
    if (tables.length > 0 && more.length === 0) return openTables(tree, tables, column);
    const shards = await below(tree, files, folders, isShard);
    if (shards.length > 0) return openShards(tree, shards);
    const volumes = await below(tree, files, folders, isVolumeName);
    if (volumes.length > 0) return openScans(tree, volumes, options.seed ?? 0);
    const archives = files.filter(isArchive);
    if (archives.length === 1 && folders.length === 0) return openArchive(tree, archives[0]);
  }
  return openFolders(tree, new Set(folders));
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

/** Pictures of a folder, in classes where it has class folders. Throws a UserError where there are none. */
export async function folderOf(tree: DataTree, folder = ""): Promise<PictureFolder> {
  const { names, skipped } = await tree.walk(folder, isPictureName);
  const path = folder ? `${tree.path}/${folder}` : tree.path;
  const short = (name: string) => (folder ? name.slice(folder.length + 1) : name);
  const said = skipped.map((s) => ({ ...s, name: short(s.name) }));
  if (names.length > 0) return pictureFolder(path, names.map(short), said);
  const others = said.length > 0 ? ` (it holds ${said.length} other files, such as ${said[0].name})` : "";
  throw new UserError(
    `there are no pictures in ${path}${others}; known are .jpg .jpeg .png .webp .avif .tif .tiff .gif .bmp, and .zip .tar .parquet .csv .nii`,
  );
}

async function openFolders(tree: DataTree, folders: ReadonlySet<string>): Promise<DataSet> {
  // Kaggle's copy of ImageNet keeps its folders further in.
  const inner = "ILSVRC/Data/CLS-LOC";
  const around = folders.has("ILSVRC") ? new Set((await tree.list(inner)).map(({ name }) => name)) : folders;
  const prefix = folders.has("ILSVRC") ? `${inner}/` : "";
  const train = parts.train.find((name) => around.has(name));
  const test = parts.test.find((name) => around.has(name));
  if (!train || !test) {
    const whole = await folderOf(tree);
    return { path: tree.path, name: nameOf(whole.classes), train: whole };
  }
  const [own, flat] = [await folderOf(tree, prefix + train), await folderOf(tree, prefix + test)];
  const synsets = areSynsets(own.classes);
  const judged = synsets && !flat.classes && own.classes ? await labelValidation([tree], flat, own.classes) : undefined;
  return {
    ...splitDataSet(tree.path, [prefix + train, own], [prefix + test, judged ?? flat]),
    name: synsets ? "imagenet" : nameOf(own.classes),
  };
}

function nameOf(classes: readonly string[] | undefined): DataSetName | undefined {
  const resisc = classes?.length === resiscClasses.length && resiscClasses.every((name) => classes.includes(name));
  return resisc ? "resisc45" : undefined;
}

/** What the published protocol adds: a split by class, where the set comes without one. */
function withProtocol(data: DataSet & { readonly name: DataSetName }, seed: number): DataSet {
  const { trainShare } = protocols[data.name];
  if (trainShare === undefined || data.test) return data;
  const { rest, heldOut } = splitHeldOut(data.train.items, 1 - trainShare, Number.POSITIVE_INFINITY, seed);
  return { ...data, train: { ...data.train, items: rest }, test: { ...data.train, items: heldOut, skipped: [] } };
}

/** Scans as pictures: slices that show something, split as `wecolora segment` splits them. */
async function openScans(tree: DataTree, volumes: readonly string[], seed: number): Promise<DataSet> {
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
  return { path: tree.path, train: folder(items.train), test: folder(items.test) };
}
