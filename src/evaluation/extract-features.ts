// One feature row an image: what search, clustering and probes elsewhere start from.
import type { ImageSource, Skipped } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model } from "../models/model.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows } from "../utils/tensor.ts";
import { evaluationBatch } from "../data/loader.ts";

export interface Features {
  /** `[n, D]`: class tokens after the final norm. */
  readonly features: FloatTensor;
  /** The images, one a row, in order; what could not be read is missing. */
  readonly items: readonly Item[];
}

interface ExtractOptions {
  readonly batch?: number;
  readonly progress?: (done: number, total: number) => void;
  readonly skip?: (skipped: Skipped) => void;
}

/** Runs a model over images. Throws a UserError where none can be read, or a feature is not finite. */
export async function extractFeatures(
  model: Model,
  source: ImageSource,
  items: readonly Item[],
  options: ExtractOptions = {},
): Promise<Features> {
  const { rows, items: read } = await featureRows(model, source, items, options);
  if (read.length === 0) throw noneReadable();
  return { features: concatRows(rows), items: read };
}

export const noneReadable = (): UserError => new UserError("None of the images can be read", { code: "NO_IMAGES" });

/** The same in batches `[B, D]`; none where no image can be read. */
export async function featureRows(
  model: Model,
  source: ImageSource,
  items: readonly Item[],
  { batch = evaluationBatch, progress, skip = () => undefined }: ExtractOptions,
): Promise<{ readonly rows: readonly FloatTensor[]; readonly items: readonly Item[] }> {
  const rows: FloatTensor[] = [];
  const read: Item[] = [];
  for await (const { items: batchItems, pixels } of evaluationBatches(
    source,
    items,
    batch,
    model.preprocessing,
    skip,
  )) {
    const images = batchItems.map(({ name }) => name);
    rows.push((await model.outputs(pixels, ["pooled"], { images })).pooled);
    read.push(...batchItems);
    progress?.(read.length, items.length);
  }
  return { rows, items: read };
}
