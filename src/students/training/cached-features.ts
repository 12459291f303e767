// What is made of a fixed set of views at each step, seen once before training and kept in half precision, in memory or on disk.
import type { PictureSource } from "../../data/loader.ts";
import { stackViews } from "../../data/loader.ts";
import type { Item } from "../../data/sampling.ts";
import type { Augmentation } from "../../data/transforms.ts";
import type { Distillation, Targets } from "./distillation.ts";
import { slot } from "./step-graphs.ts";
import type { Directory, FileHandle } from "../../files/storage.ts";
import { readBytes } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import { floatToHalf, halfToFloat } from "../../utils/half.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { elementCount, rows, tensorBytes, viewBytes } from "../../utils/tensor.ts";
import { keptViewsEntry } from "../../workspace/run-folder.ts";

/** Targets that take more than this go to disk. */
const mostBytes = 4 * 2 ** 30;
/** Pictures at once. */
const batch = 16;
export const keptPlaces = ["auto", "memory", "disk"] as const;

export interface KeptViewsOptions {
  readonly source: PictureSource;
  readonly items: readonly Item[];
  readonly preprocessing: Preprocessing;
  readonly augmentation: Augmentation;
  readonly seed: number;
  /** Views of each picture. */
  readonly views: number;
  /** `auto`: in memory up to 4 GiB, else on disk. */
  readonly place: (typeof keptPlaces)[number];
  /** Where the file lies, on disk. */
  readonly directory: Directory;
}

/** One view's targets side by side, as halves. */
type Kept = Uint16Array;

/** A target's place in a view's halves: `[N, D]` from `at` on. */
interface Part {
  readonly name: string;
  readonly dims: readonly number[];
  readonly at: number;
}

/** Where views' targets lie, in the order in which they were seen. */
interface Store {
  readonly where: "in memory" | "on disk";
  add(kept: readonly Kept[]): Promise<void>;
  /** One of those that were added; none is added afterwards. */
  get(index: number): Promise<Kept>;
  dispose(): Promise<void>;
}

export class KeptViews {
  /** "6 MiB in memory" */
  readonly size: string;
  /** Whether steps can do without the views' pixels. */
  readonly standForPixels: boolean;
  private readonly places = new Map<string, number>();
  private readonly parts: readonly Part[];
  private readonly store: Store;

  private constructor(size: string, parts: readonly Part[], store: Store) {
    this.size = size;
    this.standForPixels = parts.some(({ name }) => name === slot.embedded);
    this.parts = parts;
    this.store = store;
  }

  /**
   * Shows all views to the teacher, in the order of the pictures, so that a run that goes on keeps the same. Throws a
   * UserError where the method can't do with kept targets, or they would take more memory than they may, and an error that
   * names the file where the disk is full.
   */
  static async see(
    distillation: Distillation,
    options: KeptViewsOptions,
    progress: (done: number) => void,
  ): Promise<KeptViews> {
    const { source, items, preprocessing, views: count, augmentation, seed } = options;
    const side = preprocessing.cropSize;
    let found: KeptViews | undefined;
    try {
      for (let epoch = 0; epoch < count; epoch++) {
        for (let from = 0; from < items.length; from += batch) {
          const shown = items.slice(from, from + batch);
          const seen = await Promise.all(
            shown.map((item) => source.augmentedView(item, { augmentation, seed, preprocessing, epoch })),
          );
          const images = shown.map(({ name }) => name);
          const targets = await distillation.targets(stackViews(seen, [3, side, side]), images);
          const parts = partsOf(targets);
          const kept = shown.map((_, i) => one(targets, parts, i));
          if (!found) {
            const bytes = kept[0].byteLength * items.length * count;
            const store = await storeFor(bytes, options);
            found = new KeptViews(`${(bytes / 2 ** 20).toFixed(0)} MiB ${store.where}`, parts, store);
          }
          for (const item of shown) found.places.set(keyOf(item, epoch), found.places.size);
          await found.store.add(kept);
          progress(epoch * items.length + from + shown.length);
        }
      }
    } catch (error) {
      await found?.dispose();
      throw error;
    }
    if (!found) throw new Error("there are no views to keep");
    return found;
  }

  /** The targets of a micro-batch of views, `[B, N, D]` each. */
  async targets(items: readonly Item[], view: number): Promise<Targets> {
    const kept: Kept[] = [];
    for (const item of items) {
      const place = this.places.get(keyOf(item, view));
      if (place === undefined) throw new Error(`no targets are kept of ${item.name}`);
      kept.push(await this.store.get(place));
    }
    return Object.fromEntries(
      this.parts.map(({ name, dims, at }) => {
        const own = kept.map((halves) => halfToFloat(halves.subarray(at, at + elementCount(dims))));
        return [name, stackViews(own, dims)];
      }),
    );
  }

  /** Frees the memory, or removes the file. */
  dispose(): Promise<void> {
    return this.store.dispose();
  }
}

const keyOf = ({ name }: Item, view: number) => `${view} ${name}`;

function partsOf(targets: Targets): Part[] {
  let at = 0;
  return Object.entries(targets).map(([name, { dims }]) => {
    const part = { name, dims: dims.slice(1), at };
    at += elementCount(part.dims);
    return part;
  });
}

/** Picture `i` of targets `[B, N, D]`. */
function one(targets: Targets, parts: readonly Part[], i: number): Kept {
  const last = parts[parts.length - 1];
  const kept = new Uint16Array(last.at + elementCount(last.dims));
  for (const { name, at } of parts) kept.set(floatToHalf(rows(targets[name], i, i + 1).data), at);
  return kept;
}

async function storeFor(bytes: number, { place, directory, views, items }: KeptViewsOptions): Promise<Store> {
  if (place === "disk" || (place === "auto" && bytes > mostBytes)) return OnDisk.create(directory);
  if (bytes > mostBytes)
    throw new UserError(
      `The cached teacher features of ${items.length} images in ${views} crops take ${(bytes / 2 ** 30).toFixed(1)} GiB of memory: ` +
        "Cache fewer (--cached-crops), or cache them on disk (--crop-cache disk).",
      { code: "INVALID_OPTION" },
    );
  const all: Kept[] = [];
  return {
    where: "in memory",
    async add(kept) {
      all.push(...kept);
    },
    async get(index) {
      return all[index];
    },
    async dispose() {
      all.length = 0;
    },
  };
}

/** A file of views of one size, one after the other. */
class OnDisk implements Store {
  readonly where = "on disk";
  private readonly directory: Directory;
  private length = 0;
  private file: FileHandle | undefined;

  private constructor(directory: Directory) {
    this.directory = directory;
  }

  static async create(directory: Directory): Promise<OnDisk> {
    await directory.remove(keptViewsEntry);
    return new OnDisk(directory);
  }

  async add(kept: readonly Kept[]): Promise<void> {
    this.length = kept[0].byteLength;
    const bytes = new Uint8Array(this.length * kept.length);
    kept.forEach((halves, i) => {
      bytes.set(tensorBytes({ type: "float16", dims: [halves.length], data: halves }), i * this.length);
    });
    await this.directory.append(keptViewsEntry, bytes);
  }

  async get(index: number): Promise<Kept> {
    this.file ??= await this.directory.open(keptViewsEntry);
    if (!this.file)
      throw new UserError(`${this.directory.describe(keptViewsEntry)} is gone`, { code: "INVALID_OPTION" });
    return viewBytes("float16", await readBytes(this.file, index * this.length, this.length));
  }

  async dispose(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
    await this.directory.remove(keptViewsEntry);
  }
}
