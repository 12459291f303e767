// Images through models: what evaluation looks at, each image decoded once and nothing computed that is known.
import type { AugmentedCrop, ImageSource, Skipped } from "../data/loader.ts";
import { evaluationBatch, evaluationBatches, stackCrops } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model, OutputName } from "../models/model.ts";
import { firstNotFinite } from "../utils/finite.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, rows } from "../utils/tensor.ts";
import type { FeatureStore } from "./feature-store.ts";
import { contentHashes, FeatureCache } from "./feature-store.ts";
import { absoluteDifferences, comparableTokens, rowCosines, sameAnswers } from "./metrics.ts";
import { required } from "../utils/required.ts";

export interface CollectOptions {
  readonly models: Readonly<Record<string, Model>>;
  /** The model that fidelity is measured against; it must see images as the others do. */
  readonly reference?: Model;
  /** Where the reference's outputs are kept for the next time, if there is one. */
  readonly kept?: ReferenceOutputs;
  readonly source: ImageSource;
  /** How images are seen, where that is not as the models' own preprocessing says. */
  readonly preprocessing?: Preprocessing;
  readonly batch?: number;
  readonly skip?: (skipped: Skipped) => void;
}

/** What one model gave for the images that could be read. */
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

/** What references gave for images that are asked for again: a comparison judges many students beside one teacher. */
export class ReferenceOutputs {
  private readonly outputs = new WeakMap<Model, Map<string, Record<string, FloatTensor>>>();
  private numbers = 0;

  /** What `run` gives, kept under `key` as long as there is room. */
  async of(
    model: Model,
    key: string,
    run: () => Promise<Record<string, FloatTensor>>,
  ): Promise<Record<string, FloatTensor>> {
    const ofModel = this.outputs.get(model) ?? new Map<string, Record<string, FloatTensor>>();
    this.outputs.set(model, ofModel);
    const cached = ofModel.get(key);
    if (cached) return cached;
    const outputs = await run();
    const size = Object.values(outputs).reduce((sum, { data }) => sum + data.length, 0);
    if (this.numbers + size <= keptNumbers) {
      ofModel.set(key, outputs);
      this.numbers += size;
    }
    return outputs;
  }
}

/** 1 GiB of float32. */
const keptNumbers = 2 ** 28;

/** The name that a model is evaluated under; the reference may have none of its own. */
const nameOf = (models: CollectOptions["models"], model: Model): string =>
  Object.entries(models).find(([, named]) => named === model)?.[0] ?? "teacher";

const nothingCollected = (): Collected => ({
  items: [],
  tokens: [],
  logits: [],
  differences: [],
  cosines: [],
  agreements: [],
});

/** Runs all models over the images, each image decoded once. Throws a UserError where an output is not finite. */
export async function collect(
  options: CollectOptions,
  items: readonly Item[],
  asQueries: boolean,
  tick: (count: number) => void,
): Promise<Map<string, Collected>> {
  const { models, source, batch = evaluationBatch, skip = () => undefined } = options;
  const reference = asQueries ? options.reference : undefined;
  const collected = new Map(Object.keys(models).map((name) => [name, nothingCollected()]));
  const { preprocessing = Object.values(models)[0].preprocessing } = options;
  for await (const { items: read, pixels } of evaluationBatches(source, items, batch, preprocessing, skip)) {
    const runs = new Map<Model, Record<string, FloatTensor>>();
    const images = read.map(({ name }) => name);
    for (const model of new Set([...(reference ? [reference] : []), ...Object.values(models)])) {
      const names: OutputName[] = ["pooled"];
      if (asQueries && model.config.head) names.push("logits");
      if (reference) names.push("blockOutput");
      runs.set(model, await outputsOf(options, model, names, pixels, images));
      tick(read.length);
    }
    for (const [name, model] of Object.entries(models)) {
      const outputs = required(runs, model);
      const into = required(collected, name);
      into.items.push(...read);
      into.tokens.push(outputs.pooled);
      if (outputs.logits) into.logits.push(outputs.logits);
      if (reference) addFidelity(into, { model, outputs }, { model: reference, outputs: required(runs, reference) });
    }
  }
  return collected;
}

/** A model's outputs on a batch; the reference's are taken from the last time where they are kept. */
async function outputsOf(
  { models, reference, kept, source }: CollectOptions,
  model: Model,
  names: readonly OutputName[],
  pixels: FloatTensor,
  images: readonly string[],
): Promise<Record<string, FloatTensor>> {
  const run = () => model.outputs(pixels, names, { model: nameOf(models, model), images });
  const key = `${names.join()}:${source.id}:${images.join()}`;
  return model === reference && kept ? kept.of(model, key, run) : run();
}

interface Outputs {
  readonly model: Model;
  readonly outputs: Readonly<Record<string, FloatTensor>>;
}

/** Adds how near a model's outputs on a batch are to the reference's. */
function addFidelity(into: Collected, outputs: Outputs, reference: Outputs): void {
  const [tokens, wanted] = comparableTokens(
    { tokens: outputs.outputs.blockOutput, config: outputs.model.config },
    { tokens: reference.outputs.blockOutput, config: reference.model.config },
  );
  into.differences.push(...absoluteDifferences(tokens, wanted));
  into.cosines.push(...rowCosines(outputs.outputs.pooled, reference.outputs.pooled));
  const [logits, wantedLogits] = [outputs.outputs.logits, reference.outputs.logits];
  if (logits && logits.dims[1] === wantedLogits?.dims[1]) into.agreements.push(...sameAnswers(logits, wantedLogits));
}

/** Pooled vectors `[n, D]` of one epoch's random views of images that can all be read. */
export async function collectAugmented(
  model: Model,
  { source, preprocessing = model.preprocessing, batch = evaluationBatch }: CollectOptions,
  items: readonly Item[],
  crop: Omit<AugmentedCrop, "preprocessing">,
  tick: (count: number) => void,
): Promise<FloatTensor> {
  const side = preprocessing.cropSize;
  const load = (from: number) =>
    Promise.all(items.slice(from, from + batch).map((item) => source.augmentedCrop(item, { ...crop, preprocessing })));
  const vectors: FloatTensor[] = [];
  let ahead = load(0);
  for (let from = 0; from < items.length; from += batch) {
    const crops = await ahead;
    ahead = load(from + batch);
    // A failure is thrown when these views are waited for.
    ahead.catch(() => undefined);
    vectors.push((await model.outputs(stackCrops(crops, [3, side, side]), ["pooled"])).pooled);
    tick(crops.length);
  }
  return concatRows(vectors);
}

/** Pooled vectors alone: those that are known are not computed again, and images that all models know not decoded. */
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
  const vectors = new Map<Model, Map<string, Float32Array>>([...caches.keys()].map((model) => [model, new Map()]));
  const missing = items.filter((item) => {
    const isComplete = takeCached(caches, vectors, item);
    if (isComplete) tick(caches.size);
    return !isComplete;
  });
  for await (const { items: read, pixels } of evaluationBatches(source, missing, batch, preprocessing, skip)) {
    for (const [model, cache] of caches) {
      const images = read.map(({ name }) => name);
      const { pooled } = await model.outputs(pixels, ["pooled"], { model: nameOf(models, model), images });
      for (const [i, item] of read.entries()) {
        const vector = rows(pooled, i, i + 1).data.slice();
        vectors.get(model)?.set(item.name, vector);
        cache.put(item, vector);
      }
      tick(read.length);
    }
  }
  for (const cache of caches.values()) await cache.save();
  return new Map(
    Object.entries(models).map(([name, model]) => [name, vectorsAlone(items, required(vectors, model))] as const),
  );
}

/** Takes an item's vectors from the caches; says whether each model has one. */
function takeCached(
  caches: ReadonlyMap<Model, FeatureCache>,
  vectors: ReadonlyMap<Model, Map<string, Float32Array>>,
  item: Item,
): boolean {
  let isComplete = true;
  for (const [model, cache] of caches) {
    const vector = cache.get(item);
    // Versions before this one kept NaN too: what is not finite is computed again, and refused there.
    if (vector && firstNotFinite(vector) < 0) vectors.get(model)?.set(item.name, vector);
    else isComplete = false;
  }
  return isComplete;
}

/** Pooled vectors of the items that have one. */
function vectorsAlone(items: readonly Item[], vectors: ReadonlyMap<string, Float32Array>): Collected {
  const read = items.filter((item) => vectors.has(item.name));
  const tokens = read.map(({ name }): FloatTensor => {
    const data = required(vectors, name);
    return { type: "float32", dims: [1, data.length], data };
  });
  return { ...nothingCollected(), items: read, tokens };
}
