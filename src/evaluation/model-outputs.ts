// Pictures through models: what judging looks at, each picture decoded once and nothing computed that is known.
import type { AugmentedView, PictureSource, Skipped } from "../data/loader.ts";
import { evaluationBatch, evaluationBatches, stackViews } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model, OutputName } from "../models/model.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, rows } from "../utils/tensor.ts";
import type { FeatureStore } from "./feature-store.ts";
import { contentHashes, FeatureCache } from "./feature-store.ts";
import { absoluteDifferences, comparableTokens, rowCosines, sameAnswers } from "./metrics.ts";
import { required } from "../utils/required.ts";

export interface CollectOptions {
  readonly models: Readonly<Record<string, Model>>;
  /** The model that fidelity is measured against; it must see pictures as the others do. */
  readonly reference?: Model;
  /** Where the reference's outputs are kept for the next time, if there is one. */
  readonly kept?: ReferenceOutputs;
  readonly source: PictureSource;
  /** How images are seen, where that is not as the models' own preprocessing says. */
  readonly preprocessing?: Preprocessing;
  readonly batch?: number;
  readonly skip?: (skipped: Skipped) => void;
}

/** What one model gave for the pictures that could be read. */
export interface Collected {
  readonly items: Item[];
  /** Pooled vectors. */
  readonly tokens: FloatTensor[];
  readonly logits: FloatTensor[];
  readonly differences: number[];
  readonly cosines: number[];
  /** Whether the model's head answers as the reference's does, where both have one of the same classes. */
  readonly agreements: boolean[];
}

/** What references gave for pictures that are asked for again: a comparison judges many students beside one teacher. */
export class ReferenceOutputs {
  private readonly known = new WeakMap<Model, Map<string, Record<string, FloatTensor>>>();
  private numbers = 0;

  /** What `run` gives, kept under `key` as long as there is room. */
  async of(
    model: Model,
    key: string,
    run: () => Promise<Record<string, FloatTensor>>,
  ): Promise<Record<string, FloatTensor>> {
    const own = this.known.get(model) ?? new Map<string, Record<string, FloatTensor>>();
    this.known.set(model, own);
    const found = own.get(key);
    if (found) return found;
    const outputs = await run();
    const size = Object.values(outputs).reduce((sum, { data }) => sum + data.length, 0);
    if (this.numbers + size <= keptNumbers) {
      own.set(key, outputs);
      this.numbers += size;
    }
    return outputs;
  }
}

/** 1 GiB of float32. */
const keptNumbers = 2 ** 28;

/** Runs all models over the pictures, each picture decoded once. */
export async function collect(
  options: CollectOptions,
  items: readonly Item[],
  asQueries: boolean,
  tick: (count: number) => void,
): Promise<Map<string, Collected>> {
  const { models, source, kept, batch = evaluationBatch, skip = () => undefined } = options;
  const reference = asQueries ? options.reference : undefined;
  const collected = new Map(
    Object.keys(models).map((name): [string, Collected] => [
      name,
      { items: [], tokens: [], logits: [], differences: [], cosines: [], agreements: [] },
    ]),
  );
  const { preprocessing = Object.values(models)[0].preprocessing } = options;
  for await (const { items: read, pixels } of evaluationBatches(source, items, batch, preprocessing, skip)) {
    const runs = new Map<Model, Record<string, FloatTensor>>();
    for (const model of new Set([...(reference ? [reference] : []), ...Object.values(models)])) {
      const names: OutputName[] = ["pooled"];
      if (asQueries && model.config.head) names.push("logits");
      if (reference) names.push("blockOutput");
      const run = () => model.outputs(pixels, names);
      const key = `${names.join()}:${source.id}:${read.map(({ name }) => name).join()}`;
      runs.set(model, model === reference && kept ? await kept.of(model, key, run) : await run());
      tick(read.length);
    }
    const wanted = reference && runs.get(reference);
    for (const [name, model] of Object.entries(models)) {
      const outputs = required(runs, model);
      const into = required(collected, name);
      into.items.push(...read);
      into.tokens.push(outputs.pooled);
      if (outputs.logits) into.logits.push(outputs.logits);
      if (wanted && reference) {
        const [own, theirs] = comparableTokens(
          { tokens: outputs.blockOutput, config: model.config },
          { tokens: wanted.blockOutput, config: reference.config },
        );
        into.differences.push(...absoluteDifferences(own, theirs));
        into.cosines.push(...rowCosines(outputs.pooled, wanted.pooled));
        if (outputs.logits && outputs.logits.dims[1] === wanted.logits?.dims[1])
          into.agreements.push(...sameAnswers(outputs.logits, wanted.logits));
      }
    }
  }
  return collected;
}

/** Pooled vectors `[n, D]` of one epoch's random views of images that can all be read. */
export async function collectAugmented(
  model: Model,
  { source, preprocessing = model.preprocessing, batch = evaluationBatch }: CollectOptions,
  items: readonly Item[],
  view: Omit<AugmentedView, "preprocessing">,
  tick: (count: number) => void,
): Promise<FloatTensor> {
  const side = preprocessing.cropSize;
  const load = (from: number) =>
    Promise.all(items.slice(from, from + batch).map((item) => source.augmentedView(item, { ...view, preprocessing })));
  const vectors: FloatTensor[] = [];
  let ahead = load(0);
  for (let from = 0; from < items.length; from += batch) {
    const views = await ahead;
    ahead = load(from + batch);
    // A failure is thrown when these views are waited for.
    ahead.catch(() => undefined);
    vectors.push((await model.outputs(stackViews(views, [3, side, side]), ["pooled"])).pooled);
    tick(views.length);
  }
  return concatRows(vectors);
}

/** Pooled vectors alone: those that are known are not computed again, and pictures that all models know not decoded. */
export async function collectVectors(
  options: CollectOptions,
  store: FeatureStore,
  items: readonly Item[],
  tick: (count: number) => void,
): Promise<Map<string, Collected>> {
  const { models, source, batch = evaluationBatch, skip = () => undefined } = options;
  const { preprocessing = Object.values(models)[0].preprocessing } = options;
  const caches = new Map<Model, FeatureCache>();
  const hashOf = await contentHashes(store, source, items);
  for (const model of new Set(Object.values(models)))
    caches.set(model, await FeatureCache.open(store, model, hashOf, batch, options.preprocessing));
  const found = new Map<Model, Map<string, Float32Array>>([...caches.keys()].map((model) => [model, new Map()]));
  const missing: Item[] = [];
  for (const item of items) {
    let complete = true;
    for (const [model, cache] of caches) {
      const vector = cache.get(item);
      if (vector) found.get(model)?.set(item.name, vector);
      else complete = false;
    }
    if (complete) tick(caches.size);
    else missing.push(item);
  }
  for await (const { items: read, pixels } of evaluationBatches(source, missing, batch, preprocessing, skip)) {
    for (const [model, cache] of caches) {
      const { pooled } = await model.outputs(pixels, ["pooled"]);
      for (const [i, item] of read.entries()) {
        const vector = rows(pooled, i, i + 1).data.slice();
        found.get(model)?.set(item.name, vector);
        cache.put(item, vector);
      }
      tick(read.length);
    }
  }
  for (const cache of caches.values()) await cache.save();
  return new Map(
    Object.entries(models).map(([name, model]): [string, Collected] => {
      const vectors = required(found, model);
      const own = items.filter((item) => vectors.has(item.name));
      const tokens = own.map(({ name: picture }): FloatTensor => {
        const data = required(vectors, picture);
        return { type: "float32", dims: [1, data.length], data };
      });
      return [name, { items: own, tokens, logits: [], differences: [], cosines: [], agreements: [] }];
    }),
  );
}
