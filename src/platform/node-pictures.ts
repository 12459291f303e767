// Pictures on disk: which a folder holds, and a source that decodes them in workers.
import { readdir, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import type { DataSet, PictureFolder } from "../data/dataset.ts";
import { pictureFolder, splitDataSet } from "../data/dataset.ts";
import type { AugmentedView, PictureFacts, PictureSource, Skipped } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { UserError } from "../utils/errors.ts";
import type { Preprocessing } from "../utils/picture.ts";
import { WorkerCalls } from "./worker-calls.ts";

const pictureEndings = new Set([".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".gif", ".bmp"]);
/** Left behind by systems and tools; not worth a word. */
const litter = new Set(["thumbs.db", "desktop.ini"]);

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

/** All wanted files below a folder, by paths relative to `root` with `/`. Hidden files and folders are passed over. */
async function walk(
  root: string,
  relative: string,
  wanted: (name: string) => boolean,
  items: string[],
  skipped: Skipped[],
): Promise<void> {
  for (const entry of await listFolder(join(root, relative))) {
    if (entry.name.startsWith(".") || litter.has(entry.name.toLowerCase())) continue;
    const name = relative ? `${relative}/${entry.name}` : entry.name;
    const target = entry.isSymbolicLink() ? await stat(join(root, name)).catch(() => undefined) : entry;
    if (!target) skipped.push({ name, reason: "a link that leads nowhere" });
    else if (target.isDirectory()) {
      // A link to a folder may lead back up; only real folders are entered.
      if (entry.isDirectory()) await walk(root, name, wanted, items, skipped);
    } else if (wanted(entry.name)) items.push(name);
    else skipped.push({ name, reason: "no picture by its name" });
  }
}

const isPictureName = (name: string) => pictureEndings.has(extname(name).toLowerCase());

/** Paths below a folder, with `/`, of the files whose names are wanted. Throws a UserError where there is no folder. */
export async function listFiles(path: string, wanted: (name: string) => boolean): Promise<string[]> {
  const names: string[] = [];
  await walk(path, "", wanted, names, []);
  return names;
}

/** The pictures of a folder, in classes where it has class folders. Throws a UserError where there are none. */
export async function listPictures(path: string): Promise<PictureFolder> {
  const names: string[] = [];
  const skipped: Skipped[] = [];
  await walk(path, "", isPictureName, names, skipped);
  if (names.length > 0) return pictureFolder(path, names, skipped);
  const others = skipped.length > 0 ? ` (it holds ${skipped.length} other files, such as ${skipped[0].name})` : "";
  throw new UserError(`there are no pictures in ${path}${others}; known are ${[...pictureEndings].join(" ")}`);
}

/** Names of the parts that a data set may be split into on disk. */
const parts = { train: ["train", "training"], test: ["val", "valid", "validation", "test"] } as const;

/** A folder of pictures, or one with `train` and `val` (or `test`) in it. */
export async function openDataSet(path: string): Promise<DataSet> {
  const entries = new Set((await listFolder(path)).filter((e) => e.isDirectory()).map((e) => e.name));
  const train = parts.train.find((name) => entries.has(name));
  const test = parts.test.find((name) => entries.has(name));
  if (!train || !test) return { path, train: await listPictures(path) };
  return splitDataSet(
    path,
    [train, await listPictures(join(path, train))],
    [test, await listPictures(join(path, test))],
  );
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
    id: folder,
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
