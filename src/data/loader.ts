// Batches of pixel values. The next ones are made while the model runs; memory holds two micro-batches at most.

import { UserError } from "../utils/errors.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { Item } from "./sampling.ts";
import { epochOrder } from "./sampling.ts";
import type { Augmentation } from "./transforms.ts";

/** Images read at once where models are only run forward. */
export const evaluationBatch = 32;

/** What is known of an image's file. */
export interface ImageFacts {
  readonly bytes: number;
  /** Of the file, hexadecimal. */
  readonly sha256: string;
  readonly width: number;
  readonly height: number;
}

/** Where images are read and made into pixel values; platforms hand one in. Unreadable images give a UserError. */
export interface ImageSource<T extends Item = Item> {
  /** Which images these are: names are unique within it. */
  readonly id: string;
  /** `[3, S, S]` after the evaluation transform. */
  evaluationCrop(item: T, preprocessing: Preprocessing): Promise<Float32Array>;
  /** `[3, S, S]`, a random view that `seed`, the image's name and `epoch` decide. */
  augmentedCrop(item: T, crop: AugmentedCrop): Promise<Float32Array>;
  facts(item: T): Promise<ImageFacts>;
  /** Changes where the image's file does; undefined where that can't be told. */
  stamp(item: T): Promise<string | undefined>;
  /** Equal for images of the same bytes. */
  fingerprint(item: T): Promise<string>;
  dispose(): Promise<void>;
}

export interface AugmentedCrop {
  readonly preprocessing: Preprocessing;
  readonly augmentation: Augmentation;
  readonly seed: number;
  readonly epoch: number;
}

/** A file that is not used, and why. */
export interface Skipped {
  readonly name: string;
  readonly reason: string;
  /** What it is counted under, where `reason` speaks of this file alone. */
  readonly group?: string;
  /** Set where nothing is wrong with it, such as a text beside images: `strict` accepts it. */
  readonly expected?: true;
}

/** Crops of one shape `dims` as one tensor `[n, ...dims]`. */
export function stackCrops(crops: readonly Float32Array[], dims: readonly number[]): FloatTensor {
  const size = dims.reduce((a, b) => a * b, 1);
  const data = new Float32Array(crops.length * size);
  crops.forEach((crop, i) => {
    data.set(crop, i * size);
  });
  return { type: "float32", dims: [crops.length, ...dims], data };
}

/** Square images' pixel values as one tensor. */
const stack = (crops: readonly Float32Array[], side: number) => stackCrops(crops, [3, side, side]);

export interface TrainingLoaderOptions<T extends Item> extends Omit<AugmentedCrop, "epoch"> {
  readonly source: ImageSource<T>;
  readonly items: readonly T[];
  /** Images of a micro-batch. */
  readonly batch: number;
  readonly microBatchesPerEpoch: number;
  /** Later epochs show the views of so many first ones again; each epoch its own where left out. */
  readonly crops?: number;
}

/** Which views a micro-batch shows. */
export interface ShownCrops<T extends Item> {
  readonly items: readonly T[];
  /** The epoch whose views these are: an earlier one where `views` repeat. */
  readonly cropEpoch: number;
}

/** Random views `[B, 3, S, S]` and the images that they are of. */
export interface TrainingBatch<T extends Item> extends ShownCrops<T> {
  readonly pixels: FloatTensor;
}

/** Images in random order, epoch after epoch, each at most once an epoch. */
export class TrainingOrder<T extends Item> {
  private readonly options: Omit<TrainingLoaderOptions<T>, "source">;
  private shuffled: { epoch: number; indices: number[] } | undefined;

  constructor(options: Omit<TrainingLoaderOptions<T>, "source">) {
    this.options = options;
  }

  /** The micro-batch at a position, from 0 on. */
  at(position: number): ShownCrops<T> {
    const { items, batch, microBatchesPerEpoch, seed, crops } = this.options;
    const epoch = Math.floor(position / microBatchesPerEpoch);
    if (this.shuffled?.epoch !== epoch) this.shuffled = { epoch, indices: epochOrder(items.length, epoch, seed) };
    const from = (position % microBatchesPerEpoch) * batch;
    const chosen = this.shuffled.indices.slice(from, from + batch).map((i) => items[i]);
    return { items: chosen, cropEpoch: epoch % (crops ?? Number.POSITIVE_INFINITY) };
  }
}

/** Micro-batches of random views, in the order that `TrainingOrder` gives. */
export class TrainingLoader<T extends Item> {
  private readonly options: TrainingLoaderOptions<T>;
  private readonly order: TrainingOrder<T>;
  private position: number;
  private ahead: Promise<TrainingBatch<T>> | undefined;

  /** `position`: micro-batches that were consumed before, where a run goes on. */
  constructor(options: TrainingLoaderOptions<T>, position = 0) {
    this.options = options;
    this.order = new TrainingOrder(options);
    this.position = position;
  }

  /** The next micro-batch; the one after it is begun. */
  next(): Promise<TrainingBatch<T>> {
    const current = this.ahead ?? this.load(this.position);
    this.position++;
    this.ahead = this.load(this.position);
    // A failure is reported when this batch is asked for, not as an unhandled rejection before.
    this.ahead.catch(() => undefined);
    return current;
  }

  private async load(position: number): Promise<TrainingBatch<T>> {
    const { source, preprocessing, augmentation, seed } = this.options;
    const { items, cropEpoch } = this.order.at(position);
    const settings = { preprocessing, augmentation, seed, epoch: cropEpoch };
    const crops = await Promise.all(items.map((item) => source.augmentedCrop(item, settings)));
    return { pixels: stack(crops, preprocessing.cropSize), items, cropEpoch };
  }
}

export interface EvaluationBatch<T extends Item> {
  readonly items: readonly T[];
  readonly pixels: FloatTensor;
}

/** Images in order through the evaluation transform. What can't be read is reported to `skip` and left out. */
export async function* evaluationBatches<T extends Item>(
  source: ImageSource<T>,
  items: readonly T[],
  batch: number,
  preprocessing: Preprocessing,
  skip: (skipped: Skipped) => void,
): AsyncGenerator<EvaluationBatch<T>> {
  const load = async (from: number): Promise<EvaluationBatch<T> | undefined> => {
    const wanted = items.slice(from, from + batch);
    const crops = await Promise.all(
      wanted.map((item) =>
        source.evaluationCrop(item, preprocessing).catch((error: unknown) => {
          if (!(error instanceof UserError)) throw error;
          skip({ name: item.name, reason: error.message });
          return undefined;
        }),
      ),
    );
    const read = wanted.filter((_, i) => crops[i]);
    if (read.length === 0) return undefined;
    return {
      items: read,
      pixels: stack(
        crops.filter((v) => v !== undefined),
        preprocessing.cropSize,
      ),
    };
  };
  let ahead = load(0);
  for (let from = 0; from < items.length; from += batch) {
    const current = await ahead;
    ahead = load(from + batch);
    ahead.catch(() => undefined);
    if (current) yield current;
  }
}
