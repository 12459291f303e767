// What is made of a fixed set of views at each step, seen once before training and kept in half precision, in memory or on disk.
import type { ImageSource } from "../../data/loader.ts";
import { stackCrops } from "../../data/loader.ts";
import type { Item } from "../../data/sampling.ts";
import type { Augmentation } from "../../data/transforms.ts";
import { slot } from "./step-graphs.ts";
import type { Targets } from "./target-maker.ts";
import type { Directory, FileHandle } from "../../files/storage.ts";
import { readBytes } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import { floatToHalf, halfToFloat } from "../../utils/half.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { batchesOf } from "../../utils/arrays.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { elementBytes, elementCount, rows, tensorBytes, viewBytes } from "../../utils/tensor.ts";
import { cachedFeaturesEntry } from "../../workspace/run-folder.ts";

/** Targets that take more than this go to disk. */
const mostBytes = 4 * 2 ** 30;
/** Images at once. */
const batch = 16;
export const keptPlaces = ["auto", "memory", "disk"] as const;

/** How crops of images are made. */
export interface CropOptions {
  readonly source: ImageSource;
  readonly preprocessing: Preprocessing;
  readonly augmentation: Augmentation;
  readonly seed: number;
}

export interface CachedFeaturesOptions extends CropOptions {
  readonly items: readonly Item[];
  /** Crops of each image. */
  readonly crops: number;
  /** `auto`: in memory up to 4 GiB, else on disk. */
  readonly place: (typeof keptPlaces)[number];
  /** Where the file lies, on disk. */
  readonly directory: Directory;
}

/** Crops that the teacher is shown together. */
export interface CropBatch<T extends Item = Item> {
  /** Which crop of each image, from 0. */
  readonly crop: number;
  readonly items: readonly T[];
}

/** All crops: the first of each image, then the second. Numbers may depend on what is shown together, so the cuts are always these. */
export function cropBatches<T extends Item>(items: readonly T[], crops: number): CropBatch<T>[] {
  const batches = batchesOf(items, batch);
  return Array.from({ length: crops }, (_, crop) => batches.map((shown) => ({ crop, items: shown }))).flat();
}

/** What makes targets of normalised images `[B, 3, H, W]`, whose names it says where one is not finite. */
interface MakesTargets {
  targets(pixels: FloatTensor, images: readonly string[]): Promise<Targets>;
}

/** Targets of crops as halves, and how these are laid out. */
export interface SeenCrops {
  readonly parts: readonly TargetPart[];
  readonly kept: readonly Kept[];
}

/** Shows crops to the teacher. */
export async function seeCrops(
  maker: MakesTargets,
  { source, preprocessing, augmentation, seed }: CropOptions,
  { crop: epoch, items }: CropBatch,
): Promise<SeenCrops> {
  const side = preprocessing.cropSize;
  const seen = await Promise.all(
    items.map((item) => source.augmentedCrop(item, { augmentation, seed, preprocessing, epoch })),
  );
  const images = items.map(({ name }) => name);
  const targets = await maker.targets(stackCrops(seen, [3, side, side]), images);
  const parts = partsOf(targets);
  return { parts, kept: items.map((_, i) => one(targets, parts, i)) };
}

/** Halves of crops of one size as bytes, one after the other. */
export function cropBytes(kept: readonly Kept[]): Uint8Array<ArrayBuffer> {
  const [{ byteLength: length }] = kept;
  const bytes = new Uint8Array(length * kept.length);
  kept.forEach((halves, i) => {
    bytes.set(tensorBytes({ type: "float16", dims: [halves.length], data: halves }), i * length);
  });
  return bytes;
}

/** One view's targets side by side, as halves. */
type Kept = Uint16Array;

/** A target's place in a view's halves: `[N, D]` from `at` on. */
export interface TargetPart {
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

export class CachedFeatures {
  /** "6 MiB in memory" */
  readonly size: string;
  /** Whether steps can do without the views' pixels. */
  readonly standForPixels: boolean;
  private readonly places: ReadonlyMap<string, number>;
  private readonly parts: readonly TargetPart[];
  private readonly store: Store;

  private constructor(size: string, items: readonly Item[], parts: readonly TargetPart[], store: Store) {
    this.size = size;
    this.places = new Map(items.map(({ name }, i) => [name, i]));
    this.standForPixels = parts.some(({ name }) => name === slot.embedded);
    this.parts = parts;
    this.store = store;
  }

  /**
   * Shows all views to the teacher, in the order of the images, so that a run that goes on keeps the same. Throws a
   * UserError where the method can't do with kept targets, or they would take more memory than they may, and an error that
   * names the file where the disk is full.
   */
  static async see(
    distillation: MakesTargets,
    options: CachedFeaturesOptions,
    progress: (done: number) => void,
  ): Promise<CachedFeatures> {
    const { items, crops: count } = options;
    let cached: CachedFeatures | undefined;
    let done = 0;
    try {
      for (const shown of cropBatches(items, count)) {
        const { parts, kept } = await seeCrops(distillation, options, shown);
        if (!cached) {
          const bytes = kept[0].byteLength * items.length * count;
          const store = await storeFor(bytes, options);
          cached = new CachedFeatures(`${mebibytes(bytes)} ${store.where}`, items, parts, store);
        }
        await cached.store.add(kept);
        done += kept.length;
        progress(done);
      }
    } catch (error) {
      await cached?.dispose();
      throw error;
    }
    if (!cached) throw new Error("there are no views to keep");
    return cached;
  }

  /** Crops of these images in this order that were seen before, in a file that `cropBytes` filled in the order of `cropBatches`. */
  static stored(
    directory: Directory,
    entry: string,
    items: readonly Item[],
    parts: readonly TargetPart[],
  ): CachedFeatures {
    const last = parts[parts.length - 1];
    const length = (last.at + elementCount(last.dims)) * elementBytes.float16;
    return new CachedFeatures("", items, parts, new Stored(directory, entry, length));
  }

  /** The targets of a micro-batch of views, `[B, N, D]` each. */
  async targets(items: readonly Item[], cropEpoch: number): Promise<Targets> {
    const kept: Kept[] = [];
    for (const item of items) {
      const place = this.places.get(item.name);
      if (place === undefined) throw new Error(`no targets are kept of ${item.name}`);
      kept.push(await this.store.get(cropEpoch * this.places.size + place));
    }
    return Object.fromEntries(
      this.parts.map(({ name, dims, at }) => {
        const features = kept.map((halves) => halfToFloat(halves.subarray(at, at + elementCount(dims))));
        return [name, stackCrops(features, dims)];
      }),
    );
  }

  /** Frees the memory, or removes the file. */
  dispose(): Promise<void> {
    return this.store.dispose();
  }
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

function partsOf(targets: Targets): TargetPart[] {
  let at = 0;
  return Object.entries(targets).map(([name, { dims }]) => {
    const part = { name, dims: dims.slice(1), at };
    at += elementCount(part.dims);
    return part;
  });
}

/** Image `i` of targets `[B, N, D]`. */
function one(targets: Targets, parts: readonly TargetPart[], i: number): Kept {
  const last = parts[parts.length - 1];
  const kept = new Uint16Array(last.at + elementCount(last.dims));
  for (const { name, at } of parts) kept.set(floatToHalf(rows(targets[name], i, i + 1).data), at);
  return kept;
}

async function storeFor(bytes: number, { place, directory, crops, items }: CachedFeaturesOptions): Promise<Store> {
  if (place === "disk" || (place === "auto" && bytes > mostBytes)) return OnDisk.create(directory);
  if (bytes > mostBytes)
    throw new UserError(
      `The cached teacher features of ${items.length} images in ${crops} crops take ${(bytes / 2 ** 30).toFixed(1)} GiB of memory: ` +
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
class Stored implements Store {
  readonly where = "on disk";
  protected readonly directory: Directory;
  protected readonly entry: string;
  protected length: number;
  private file: FileHandle | undefined;

  constructor(directory: Directory, entry: string, length: number) {
    this.directory = directory;
    this.entry = entry;
    this.length = length;
  }

  add(_kept: readonly Kept[]): Promise<void> {
    throw new Error(`${this.directory.describe(this.entry)} is complete`);
  }

  async get(index: number): Promise<Kept> {
    this.file ??= await this.directory.open(this.entry);
    if (!this.file) throw new UserError(`${this.directory.describe(this.entry)} is gone`, { code: "INVALID_OPTION" });
    return viewBytes("float16", await readBytes(this.file, index * this.length, this.length));
  }

  async dispose(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
  }
}

/** The same for the time of a run, in its folder. */
class OnDisk extends Stored {
  static async create(directory: Directory): Promise<OnDisk> {
    await directory.remove(cachedFeaturesEntry);
    return new OnDisk(directory, cachedFeaturesEntry, 0);
  }

  override async add(kept: readonly Kept[]): Promise<void> {
    this.length = kept[0].byteLength;
    await this.directory.append(this.entry, cropBytes(kept));
  }

  override async dispose(): Promise<void> {
    await super.dispose();
    await this.directory.remove(this.entry);
  }
}
