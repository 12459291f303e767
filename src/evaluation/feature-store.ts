// Features that were computed before: one vector a picture, kept by model and data for probe, neighbours and regression.
import type { PictureSource } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model } from "../models/model.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { tensorBytes } from "../utils/tensor.ts";

/** Vectors `[n, D]` by picture: a name and a stamp that changes with its file. */
export interface KnownFeatures {
  readonly names: readonly string[];
  readonly stamps: readonly string[];
  readonly features: FloatTensor;
}

/** Where features are kept; platforms hand one in. What can't be read is as if it were not there. */
export interface FeatureStore {
  load(key: string): Promise<KnownFeatures | undefined>;
  save(key: string, known: KnownFeatures): Promise<void>;
}

const hex = (bytes: ArrayBuffer) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");
const digest = async (bytes: Uint8Array) => hex(await crypto.subtle.digest("SHA-256", Uint8Array.from(bytes)));

/** What a model computes from a picture, as a key: its weights, its configuration and how it sees pictures. */
export async function modelKey(
  { weights, config, int8, ...model }: Model,
  preprocessing = model.preprocessing,
): Promise<string> {
  const parts = [JSON.stringify(config), JSON.stringify(preprocessing), ...(int8 ? [JSON.stringify(int8)] : [])];
  for (const [name, tensor] of weights) parts.push(name, await digest(tensorBytes(tensor)));
  return digest(new TextEncoder().encode(parts.join("\n")));
}

/** The features of one model over one source's pictures, read once and written once. */
export class FeatureCache {
  private readonly store: FeatureStore;
  private readonly source: PictureSource;
  private readonly key: string;
  private readonly vectors = new Map<string, { readonly stamp: string; readonly vector: Float32Array }>();
  private changed = false;

  private constructor(store: FeatureStore, source: PictureSource, key: string) {
    this.store = store;
    this.source = source;
    this.key = key;
  }

  /** `preprocessing`: how the model sees these images, where that is not its own. */
  static async open(
    store: FeatureStore,
    model: Model,
    source: PictureSource,
    preprocessing?: Preprocessing,
  ): Promise<FeatureCache> {
    const key = await digest(new TextEncoder().encode(`${await modelKey(model, preprocessing)}\n${source.id}`));
    const cache = new FeatureCache(store, source, key);
    const known = await store.load(key);
    if (known) {
      const width = known.features.dims[1];
      known.names.forEach((name, i) => {
        const vector = known.features.data.subarray(i * width, (i + 1) * width);
        cache.vectors.set(name, { stamp: known.stamps[i], vector });
      });
    }
    return cache;
  }

  /** The picture's vector; undefined where it is not known, or the file has changed since. */
  async get(item: Item): Promise<Float32Array | undefined> {
    const known = this.vectors.get(item.name);
    return known && known.stamp === (await this.source.stamp(item)) ? known.vector : undefined;
  }

  async put(item: Item, vector: Float32Array): Promise<void> {
    this.vectors.set(item.name, { stamp: await this.source.stamp(item), vector });
    this.changed = true;
  }

  async save(): Promise<void> {
    if (!this.changed) return;
    const all = [...this.vectors];
    const width = all[0][1].vector.length;
    const data = new Float32Array(all.length * width);
    all.forEach(([, { vector }], i) => {
      data.set(vector, i * width);
    });
    await this.store.save(this.key, {
      names: all.map(([name]) => name),
      stamps: all.map(([, { stamp }]) => stamp),
      features: { type: "float32", dims: [all.length, width], data },
    });
    this.changed = false;
  }
}
