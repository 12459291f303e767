// Pictures on disk: data sets in folders and files, and a source that decodes them in workers.
import { realpathSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import type { DataSet, PictureFolder } from "../../data/dataset.ts";
import type { OpenOptions } from "../../data/formats/open.ts";
import { folderOf, openDataSetIn } from "../../data/formats/open.ts";
import type { DataTree } from "../../data/formats/tree.ts";
import type { AugmentedView, PictureFacts, PictureSource, Skipped } from "../../data/loader.ts";
import { placeKey } from "../../data/places.ts";
import type { Item } from "../../data/sampling.ts";
import { UserError } from "../../utils/errors.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { openFile } from "./node-files.ts";
import { WorkerCalls } from "./worker-calls.ts";

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

const isHidden = (name: string) => name.startsWith(".") || litter.has(name.toLowerCase());

/** All wanted files below a folder, by paths relative to `root` with `/`. Hidden files and folders are passed over. */
async function walk(
  root: string,
  relative: string,
  wanted: (name: string) => boolean,
  items: string[],
  skipped: Skipped[],
): Promise<void> {
  for (const entry of await listFolder(join(root, relative))) {
    if (isHidden(entry.name)) continue;
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

/** Paths below a folder, with `/`, of the files whose names are wanted. Throws a UserError where there is no folder. */
export async function listFiles(path: string, wanted: (name: string) => boolean): Promise<string[]> {
  const names: string[] = [];
  await walk(path, "", wanted, names, []);
  return names;
}

async function entriesOf(path: string): Promise<{ readonly name: string; readonly isFolder: boolean }[]> {
  const entries = (await listFolder(path)).filter(({ name }) => !isHidden(name));
  return Promise.all(
    entries.map(async (entry) => {
      const target = entry.isSymbolicLink() ? await stat(join(path, entry.name)).catch(() => entry) : entry;
      return { name: entry.name, isFolder: target.isDirectory() };
    }),
  );
}

/** A folder as formats see it, or a file in one. Throws a UserError where there is neither. */
async function treeAt(path: string): Promise<DataTree> {
  const stats = await stat(path).catch(() => undefined);
  if (!stats) throw new UserError(`there is no file or folder ${path}`);
  const folder = stats.isDirectory() ? path : dirname(path);
  const listed = new Map<string, ReturnType<typeof entriesOf>>();
  return {
    path: folder,
    ...(stats.isDirectory() ? {} : { file: basename(path) }),
    list(inner = "") {
      // Every format looks whether its files are there; a folder may hold a million.
      const known = listed.get(inner) ?? entriesOf(join(folder, inner));
      listed.set(inner, known);
      return known;
    },
    async walk(inner, wanted) {
      const names: string[] = [];
      const skipped: Skipped[] = [];
      await walk(folder, inner, wanted, names, skipped);
      return { names, skipped };
    },
    open: (entry) => openFile(join(folder, entry)),
  };
}

/**
 * A data set as downloaded: folders of pictures, with `train` and `val` (or `test`) in it or not, archives, shards, tables,
 * scans, and the published sets in their own formats.
 */
export async function openDataSet(path: string, options: OpenOptions = {}): Promise<DataSet> {
  return openDataSetIn(await treeAt(path), options);
}

/** All pictures of a folder or a data set, in classes where it has them. Throws a UserError where there are none. */
export async function listPictures(path: string, options: OpenOptions = {}): Promise<PictureFolder> {
  const tree = await treeAt(path);
  const data = await openDataSetIn(tree, options);
  const places = data.train.items[0]?.place ?? data.train.items[0]?.labels;
  // Folders are taken as they lie: a folder with train/ and val/ has classes of other names than the set has.
  if (tree.file === undefined && !places && data.name === undefined && data.test) return folderOf(tree);
  if (!data.test) return data.train;
  const { train, test } = data;
  return { ...train, items: [...train.items, ...test.items], skipped: [...train.skipped, ...test.skipped] };
}

/** Where a folder really lies; as it is named where that can't be told. */
function realPathOf(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return resolve(folder);
  }
}

/** A change so short ago (milliseconds) may be followed by another one that clocks of file systems don't tell apart. */
const settled = 2000;

/**
 * Device, number, size and times of a file, which change with its content; undefined where there is none, or it changed just
 * now.
 */
async function stampOf(path: string): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  if (!stats || Date.now() - Number(stats.ctimeMs) < settled) return undefined;
  return [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(":");
}

/** A source over a folder. Each picture belongs to one worker, so that what it keeps decoded is found again. */
export function createPictureSource(folder: string, workers = 2): PictureSource {
  const pool = Array.from({ length: workers }, () => new WorkerCalls("image-worker", folder));
  const pathOf = (item: Item) => (item.place ? item.place : join(folder, item.name.replaceAll("/", sep)));
  const assigned = new Map<string, WorkerCalls>();
  const stamps = new Map<string, string>();
  const workerOf = ({ name, place }: Item) => {
    // What lies together is read by one worker; the others by turns.
    const key = (place && placeKey(place)) || name;
    const known = assigned.get(key) ?? pool[assigned.size % pool.length];
    assigned.set(key, known);
    return known;
  };
  return {
    id: realPathOf(folder),
    evaluationView: (item, preprocessing: Preprocessing) =>
      workerOf(item).call<Float32Array>("evaluationView", pathOf(item), preprocessing),
    augmentedView: (item, view: AugmentedView) =>
      workerOf(item).call<Float32Array>("augmentedView", pathOf(item), item.name, view),
    facts: (item) => workerOf(item).call<PictureFacts>("facts", pathOf(item)),
    async stamp({ name, place }) {
      const files = place ? (place.kind === "slice" ? place.scans : [place.file]) : [name.replaceAll("/", sep)];
      const parts: string[] = [];
      for (const file of files) {
        // A container is asked about for each of its images.
        const known = place && stamps.get(file);
        const stamp = known ?? (await stampOf(join(folder, file)));
        if (stamp === undefined) return undefined;
        if (place) stamps.set(file, stamp);
        parts.push(stamp);
      }
      return place ? `${parts.join(" ")} ${JSON.stringify(place)}` : parts[0];
    },
    fingerprint: (item) => workerOf(item).call<string>("fingerprint", pathOf(item)),
    async dispose() {
      await Promise.all(pool.map((worker) => worker.end()));
    },
  };
}
