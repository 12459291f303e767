// Pictures on disk: which a folder holds, and a source that decodes them in workers.
import { readdir, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import type { AugmentedView, PictureFacts, PictureSource, Skipped } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { UserError } from "../utils/errors.ts";
import type { Preprocessing } from "../utils/picture.ts";
import { WorkerCalls } from "./worker-calls.ts";

const pictureEndings = new Set([".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".gif", ".bmp"]);
/** Left behind by systems and tools; not worth a word. */
const litter = new Set(["thumbs.db", "desktop.ini"]);

export interface PictureFolder {
  readonly path: string;
  /** Class names in alphabetical order, where each class has a folder. */
  readonly classes?: readonly string[];
  readonly items: readonly Item[];
  /** Files that are no pictures by their names. */
  readonly skipped: readonly Skipped[];
}

async function listFolder(path: string) {
  try {
    return (await readdir(path, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT") throw new UserError(`there is no folder ${path}`);
    if (code === "ENOTDIR") throw new UserError(`${path} is a file; a folder of pictures is needed`);
    throw new UserError(`the folder ${path} can't be read (${code})`);
  }
}

/** All pictures below a folder, by paths relative to `root` with `/`. Hidden files and folders are passed over. */
async function walk(root: string, relative: string, items: string[], skipped: Skipped[]): Promise<void> {
  for (const entry of await listFolder(join(root, relative))) {
    if (entry.name.startsWith(".") || litter.has(entry.name.toLowerCase())) continue;
    const name = relative ? `${relative}/${entry.name}` : entry.name;
    const target = entry.isSymbolicLink() ? await stat(join(root, name)).catch(() => undefined) : entry;
    if (!target) skipped.push({ name, reason: "a link that leads nowhere" });
    else if (target.isDirectory()) {
      // A link to a folder may lead back up; only real folders are entered.
      if (entry.isDirectory()) await walk(root, name, items, skipped);
    } else if (pictureEndings.has(extname(entry.name).toLowerCase())) items.push(name);
    else skipped.push({ name, reason: "no picture by its name" });
  }
}

/**
 * The pictures of a folder. Where all of them lie in subfolders, and there are at least two of these, each subfolder is
 * a class; else the folder is flat. Throws a UserError where there are none.
 */
export async function listPictures(path: string): Promise<PictureFolder> {
  const names: string[] = [];
  const skipped: Skipped[] = [];
  await walk(path, "", names, skipped);
  if (names.length === 0) {
    const others = skipped.length > 0 ? ` (it holds ${skipped.length} other files, such as ${skipped[0].name})` : "";
    throw new UserError(`there are no pictures in ${path}${others}; known are ${[...pictureEndings].join(" ")}`);
  }
  const top = [...new Set(names.map((name) => (name.includes("/") ? name.slice(0, name.indexOf("/")) : "")))];
  if (top.length < 2 || top.includes("")) return { path, items: names.map((name) => ({ name })), skipped };
  const labels = new Map(top.map((name, i) => [name, i]));
  const items = names.map((name) => ({ name, label: labels.get(name.slice(0, name.indexOf("/"))) }));
  return { path, classes: top, items, skipped };
}

/** Names of the parts that a data set may be split into on disk. */
const splits = { train: ["train", "training"], test: ["val", "valid", "validation", "test"] } as const;

export interface DataSet {
  readonly path: string;
  readonly train: PictureFolder;
  /** The part to judge on, where the data set brings one. */
  readonly test?: PictureFolder;
}

/** A folder of pictures, or one with `train` and `val` (or `test`) in it. */
export async function openDataSet(path: string): Promise<DataSet> {
  const entries = new Set((await listFolder(path)).filter((e) => e.isDirectory()).map((e) => e.name));
  const train = splits.train.find((name) => entries.has(name));
  const test = splits.test.find((name) => entries.has(name));
  if (!train || !test) return { path, train: await listPictures(path) };
  const [trainFolder, testFolder] = [await listPictures(join(path, train)), await listPictures(join(path, test))];
  return { path, train: prefixed(trainFolder, path, train), test: prefixed(testFolder, path, test, trainFolder.classes) };
}

/** Names counted from the data set's own folder; labels are those of the training part. */
function prefixed(folder: PictureFolder, path: string, part: string, classes = folder.classes): PictureFolder {
  const label = (item: Item) => {
    if (item.label === undefined || !folder.classes || !classes) return undefined;
    const name = folder.classes[item.label];
    const index = classes.indexOf(name);
    if (index < 0) throw new UserError(`the class ${name} of ${folder.path} is not among the training classes`);
    return index;
  };
  return {
    path,
    classes,
    items: folder.items.map((item) => ({ name: `${part}/${item.name}`, label: label(item) })),
    skipped: folder.skipped.map((s) => ({ ...s, name: `${part}/${s.name}` })),
  };
}

/** A source over a folder. Each picture belongs to one worker, so that what it keeps decoded is found again. */
export function createPictureSource(folder: string, workers = 2): PictureSource {
  const pool = Array.from({ length: workers }, () => new WorkerCalls("./picture-worker.js", undefined));
  const pathOf = (item: Item) => join(folder, item.name.replaceAll("/", sep));
  const assigned = new Map<string, WorkerCalls>();
  const workerOf = ({ name }: Item) => {
    const known = assigned.get(name) ?? pool[assigned.size % pool.length];
    assigned.set(name, known);
    return known;
  };
  return {
    evaluationView: (item, preprocessing: Preprocessing) =>
      workerOf(item).call<Float32Array>("evaluationView", pathOf(item), preprocessing),
    augmentedView: (item, view: AugmentedView) =>
      workerOf(item).call<Float32Array>("augmentedView", pathOf(item), item.name, view),
    facts: (item) => workerOf(item).call<PictureFacts>("facts", pathOf(item)),
    async dispose() {
      await Promise.all(pool.map((worker) => worker.end()));
    },
  };
}
