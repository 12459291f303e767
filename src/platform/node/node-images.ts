// Images on disk: data sets in folders and files, and a source that decodes them in workers.
import type { Stats } from "node:fs";
import { realpathSync } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import type { DataSet, ImageFolder } from "../../data/dataset.ts";
import type { OpenOptions } from "../../data/formats/open.ts";
import { allImages } from "../../data/dataset.ts";
import { openDataSetIn } from "../../data/formats/open.ts";
import type { DataTree } from "../../data/formats/tree.ts";
import { bareTree } from "../../data/formats/tree.ts";
import type { AugmentedCrop, ImageFacts, ImageSource, Skipped } from "../../data/loader.ts";
import { filesOf, placeKey } from "../../data/places.ts";
import { proceduralCount } from "../../data/procedural/name.ts";
import type { Item } from "../../data/sampling.ts";
import { hiddenReason, notAnImage, unusedFile } from "../../data/unused.ts";
import { UserError } from "../../utils/errors.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { debugFile, openFile } from "./node-files.ts";
import { readError, systemCode } from "./system-errors.ts";
import { WorkerCalls } from "./worker-calls.ts";
import { WorkerLane } from "./worker-lane.ts";

async function listFolder(path: string) {
  try {
    return (await readdir(path, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    throw readError(path, error);
  }
}

const isHidden = (name: string) => hiddenReason(name) !== undefined;

/** A folder may be linked from several others; one that leads to itself many times over is not entered for ever. */
const mostVisits = 16;

/** Walks a folder and the folders that links in it lead to, each file by its path from the top. */
class FolderWalk {
  readonly names: string[] = [];
  readonly skipped: Skipped[] = [];
  private readonly root: string;
  private readonly wanted: (name: string) => boolean;
  /** Real folders by device and inode: how often each was entered. */
  private readonly visits = new Map<string, number>();
  /** Links that were reported, each by the real folder that it lies in. */
  private readonly reported = new Set<string>();

  constructor(root: string, wanted: (name: string) => boolean) {
    this.root = root;
    this.wanted = wanted;
  }

  /** Throws a UserError where there is no folder, or one can't be read. */
  async run(relative: string): Promise<void> {
    const start = join(this.root, relative);
    const around: string[] = [];
    // A link to a folder around the top leads back to the top as well.
    for (let path = await realpath(start).catch(() => start); ; path = dirname(path)) {
      const identity = await this.identity(path);
      if (identity !== undefined) around.push(identity);
      if (dirname(path) === path) break;
    }
    await this.folder(relative, around.reverse());
  }

  private async identity(path: string): Promise<string | undefined> {
    const stats = await stat(path, { bigint: true }).catch(() => undefined);
    return stats && `${stats.dev}:${stats.ino}`;
  }

  private async folder(relative: string, around: readonly string[]): Promise<void> {
    const here = around[around.length - 1] ?? "";
    for (const entry of await listFolder(join(this.root, relative))) {
      const name = relative ? `${relative}/${entry.name}` : entry.name;
      const hidden = hiddenReason(entry.name);
      const pass = (reason: string) => this.skipped.push(unusedFile(name, reason));
      if (hidden !== undefined) pass(entry.isDirectory() ? `${hidden} (a folder)` : hidden);
      else if (entry.isDirectory()) await this.enter(name, around, here, false);
      else if (entry.isSymbolicLink()) {
        const target = await stat(join(this.root, name)).catch(() => undefined);
        if (!target) this.skipped.push({ name, reason: "broken link" });
        else if (target.isDirectory()) await this.enter(name, around, here, true);
        else this.file(name, target);
      } else this.file(name, entry);
    }
  }

  private file(name: string, entry: { isFile(): boolean }): void {
    if (!this.wanted(basename(name))) this.skipped.push(notAnImage(name));
    else if (entry.isFile()) this.names.push(name);
    else this.skipped.push({ name, reason: "not a regular file" });
  }

  private async enter(name: string, around: readonly string[], parent: string, isLink: boolean): Promise<void> {
    const identity = (await this.identity(join(this.root, name))) ?? name;
    const visits = this.visits.get(identity) ?? 0;
    if (around.includes(identity) || visits >= mostVisits) {
      const link = `${parent}/${basename(name)}`;
      if (!this.reported.has(link))
        this.skipped.push(
          unusedFile(name, isLink ? "a link back to a folder around it" : "a folder that was entered too often"),
        );
      this.reported.add(link);
      return;
    }
    this.visits.set(identity, visits + 1);
    await this.folder(name, [...around, identity]);
  }
}

/** Paths below a folder, with `/`, of the files whose names are wanted. Throws a UserError where there is no folder. */
export async function listFiles(path: string, wanted: (name: string) => boolean): Promise<string[]> {
  const walk = new FolderWalk(path, wanted);
  await walk.run("");
  return walk.names;
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

/** What stands at a path. Throws a UserError where there is nothing, or a file that holds a model. */
async function statOf(path: string): Promise<Stats> {
  const stats = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT")
      throw new UserError(`There is no file or folder ${path}.`, { code: "FILE_NOT_FOUND" });
    throw readError(path, error);
  });
  if (stats.isFile() && /\.(safetensors|onnx|pth|pt|ckpt)$/i.test(path))
    throw new UserError(`${path} is a model, not images. Give a folder or an archive of images.`, {
      code: "NO_IMAGES",
    });
  return stats;
}

/** A folder as formats see it, or a file in one. Throws a UserError where there is neither. */
async function treeAt(path: string): Promise<DataTree> {
  if (proceduralCount(path) !== undefined) return bareTree(path);
  const stats = await statOf(path);
  const folder = stats.isDirectory() ? path : dirname(path);
  const real = await realpath(folder);
  const namesIn = new Map<string, Promise<ReadonlySet<string>>>();
  const noNames = () => new Set<string>();
  const listed = new Map<string, ReturnType<typeof entriesOf>>();
  return {
    path: folder,
    ...(stats.isDirectory() ? {} : { file: basename(path) }),
    list(inner = "") {
      // Every format looks whether its files are there; a folder may hold a million.
      const entries = listed.get(inner) ?? entriesOf(join(folder, inner));
      listed.set(inner, entries);
      return entries;
    },
    async walk(inner, wanted) {
      const walk = new FolderWalk(folder, wanted);
      await walk.run(inner);
      return { names: walk.names, skipped: walk.skipped };
    },
    open: (entry) => openFile(join(folder, entry)),
    candidates: (entry) => [
      ...new Set([resolve(folder), real].map((from) => relative(from, resolve(from, entry)).replaceAll(sep, "/"))),
    ],
    async isFile(entry) {
      const path = join(folder, entry);
      // Lists name many files of few folders: a folder is read once.
      const names = namesIn.get(dirname(path)) ?? readdir(dirname(path)).then((all) => new Set(all), noNames);
      namesIn.set(dirname(path), names);
      const isThere = (await names).has(basename(path)) && (await stat(path).catch(() => undefined))?.isFile();
      return isThere ?? false;
    },
  };
}

/**
 * A data set as downloaded: folders of images, with `train` and `val` (or `test`) in it or not, archives, shards, tables,
 * scans, and the published sets in their own formats.
 */
export async function openDataSet(path: string, options: OpenOptions = {}): Promise<DataSet> {
  return openDataSetIn(await treeAt(path), options);
}

/**
 * All images of a folder or a data set, of every split, in classes where all have them. Throws a UserError where there are
 * none.
 */
export async function listImages(path: string, options: OpenOptions = {}): Promise<ImageFolder> {
  return allImages(await openDataSetIn(await treeAt(path), options));
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

/** The files that an item lies in, from the source's folder; none where it is painted. */
const filesOfItem = ({ name, place }: Item): readonly string[] =>
  place ? filesOf(place) : [name.replaceAll("/", sep)];

/** A source over a folder. Each image belongs to one worker, so that what it keeps decoded is found again. */
export function createImageSource(folder: string, workers = 2): ImageSource {
  const pool = Array.from({ length: workers }, () => new WorkerLane(() => new WorkerCalls("image-worker", folder)));
  const pathOf = (item: Item) => (item.place ? item.place : join(folder, item.name.replaceAll("/", sep)));
  const assigned = new Map<string, WorkerLane>();
  const stamps = new Map<string, string>();
  const workerOf = (item: Item) => {
    const { name, place } = item;
    debugFile(() => join(folder, filesOfItem(item)[0] ?? name));
    // What lies together is read by one worker; the others by turns.
    const key = (place && placeKey(place)) || name;
    const worker = assigned.get(key) ?? pool[assigned.size % pool.length];
    assigned.set(key, worker);
    return worker;
  };
  return {
    id: realPathOf(folder),
    evaluationCrop: (item, preprocessing: Preprocessing) =>
      workerOf(item).call<Float32Array>(item.name, "evaluationCrop", pathOf(item), preprocessing),
    augmentedCrop: (item, crop: AugmentedCrop) =>
      workerOf(item).call<Float32Array>(item.name, "augmentedCrop", pathOf(item), item.name, crop),
    facts: (item) => workerOf(item).call<ImageFacts>(item.name, "facts", pathOf(item)),
    async stamp(item) {
      const { place } = item;
      const parts: string[] = [];
      for (const file of filesOfItem(item)) {
        // A container is asked about for each of its images.
        const cached = place && stamps.get(file);
        const stamp = cached ?? (await stampOf(join(folder, file)));
        if (stamp === undefined) return undefined;
        if (place) stamps.set(file, stamp);
        parts.push(stamp);
      }
      return place ? `${parts.join(" ")} ${JSON.stringify(place)}` : parts[0];
    },
    fingerprint: (item) => workerOf(item).call<string>(item.name, "fingerprint", pathOf(item)),
    async dispose() {
      await Promise.all(pool.map((worker) => worker.end()));
    },
  };
}
