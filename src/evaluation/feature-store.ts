// Features that were computed before: one vector an image, kept by the content of model and image for probe, neighbours and
// regression. Neither names nor times decide what is found: two folders with like names never share, a folder that moved does.
import { defaultDeviceName } from "../runtime/devices.ts";
import type { ImageSource } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model } from "../models/model.ts";
import type { Preprocessing } from "../utils/image.ts";
import { sha256 } from "../utils/digest.ts";
import { tensorBytes } from "../utils/tensor.ts";

/** Vectors by the hash of the image that each is of. */
export type VectorsByHash = ReadonlyMap<string, Float32Array>;

/** Hashes of files that were read before, by what tells that a file is still the same. */
export interface HashMemory {
  get(stamp: string): string | undefined;
  set(stamp: string, hash: string): void;
  /** Keeps what was added. */
  save(): Promise<void>;
}

/** Where features are kept; platforms hand one in. What can't be read is as if it were not there. */
export interface FeatureStore {
  /** Why nothing can be kept; undefined where it can. Asked before any work. */
  problem(): Promise<string | undefined>;
  /** What is known of the images wanted. */
  load(key: string, wanted: ReadonlySet<string>): Promise<VectorsByHash>;
  /** Adds vectors. Where that fails, it says so and goes on. */
  save(key: string, vectors: VectorsByHash): Promise<void>;
  /** The memory of a source's hashes. */
  hashes(source: string): Promise<HashMemory>;
}

const keys = new WeakMap<Model, Promise<string>>();

/** What a model computes from an image, as a key: its weights, its configuration and how it sees images. */
export function modelKey(model: Model): Promise<string> {
  const key = keys.get(model) ?? hashModel(model);
  keys.set(model, key);
  return key;
}

async function hashModel({ weights, config, preprocessing, int8 }: Model): Promise<string> {
  const parts = [JSON.stringify(config), JSON.stringify(preprocessing), ...(int8 ? [JSON.stringify(int8)] : [])];
  for (const [name, tensor] of weights) parts.push(name, await sha256(tensorBytes(tensor)));
  return sha256(parts.join("\n"));
}

/** Counts up where the same model and image give other features than before. */
const computation = 1;

/** The features of one model over some images, read once and written once. */
export class FeatureCache {
  private readonly store: FeatureStore;
  private readonly key: string;
  private readonly hashOf: ReadonlyMap<Item, string>;
  private readonly stored: VectorsByHash;
  private readonly added = new Map<string, Float32Array>();

  private constructor(store: FeatureStore, key: string, hashOf: ReadonlyMap<Item, string>, stored: VectorsByHash) {
    this.store = store;
    this.key = key;
    this.hashOf = hashOf;
    this.stored = stored;
  }

  /**
   * `batch`: images at once, which 8-bit scales depend on; `preprocessing`: how the model sees these images, where that is not
   * its own.
   */
  static async open(
    store: FeatureStore,
    model: Model,
    hashOf: ReadonlyMap<Item, string>,
    batch: number,
    preprocessing?: Preprocessing,
  ): Promise<FeatureCache> {
    const { device, int8 } = model;
    const settings = [
      computation,
      device.name ?? defaultDeviceName,
      ...(int8 ? [batch] : []),
      ...(preprocessing ? [preprocessing] : []),
    ];
    const key = await sha256(JSON.stringify([await modelKey(model), ...settings]));
    return new FeatureCache(store, key, hashOf, await store.load(key, new Set(hashOf.values())));
  }

  /** The image's vector, where it is known. */
  get(item: Item): Float32Array | undefined {
    const hash = this.hashOf.get(item);
    return hash === undefined ? undefined : (this.added.get(hash) ?? this.stored.get(hash));
  }

  put(item: Item, vector: Float32Array): void {
    const hash = this.hashOf.get(item);
    if (hash !== undefined) this.added.set(hash, vector);
  }

  async save(): Promise<void> {
    if (this.added.size > 0) await this.store.save(this.key, this.added);
    this.added.clear();
  }
}

/** Images that are hashed side by side. */
const askedAtOnce = 64;

/** The content hash of each image that can be read; files that were hashed before and did not change are not read again. */
export async function contentHashes(
  store: FeatureStore,
  source: ImageSource,
  items: readonly Item[],
): Promise<Map<Item, string>> {
  const memory = await store.hashes(source.id);
  const hashes = new Map<Item, string>();
  const hash = async (item: Item): Promise<void> => {
    const stamp = await source.stamp(item);
    const hash = stamp === undefined ? undefined : memory.get(stamp);
    // What can't be read is reported where it is used.
    const print = hash ?? (await source.fingerprint(item).catch(() => undefined));
    if (print === undefined) return;
    hashes.set(item, print);
    // A file that changed meanwhile is hashed again the next time.
    if (hash === undefined && stamp !== undefined && stamp === (await source.stamp(item))) memory.set(stamp, print);
  };
  for (let from = 0; from < items.length; from += askedAtOnce)
    await Promise.all(items.slice(from, from + askedAtOnce).map(hash));
  await memory.save();
  return hashes;
}
