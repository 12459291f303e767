// Measuring an export beside the model that it was made from: features, neighbours and time on real images.
import type { ImageSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Interval } from "../evaluation/confidence.ts";
import { bootstrapInterval, shareInterval } from "../evaluation/confidence.ts";
import { absoluteDifferences, mean, predictions, rowCosines, topAccuracy } from "../evaluation/metrics.ts";
import { knnVotes } from "../evaluation/knn.ts";
import type { Model } from "../models/model.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, rows, zeros } from "../utils/tensor.ts";
import type { RunContext } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import type { Embedder, ExportFormat } from "./export-format.ts";
import { limitItems, splitParts } from "../evaluation/evaluate-candidates.ts";

/** Shares of images that weighted k-NN gets right, with their 95 % intervals. */
export interface KnnShares {
  readonly exported: number;
  readonly original: number;
  readonly intervals: { readonly exported?: Interval; readonly original?: Interval };
}

export interface Embedded {
  readonly bank?: FloatTensor;
  readonly queries: FloatTensor;
}

/** The images that exports are compared on, decoded once. */
export class ExportImages {
  private readonly source: ImageSource;
  private readonly model: Model;
  private readonly queries: Batch[];
  private readonly bank: Batch[];
  private readonly labels: { readonly queries: number[]; readonly bank: number[] };
  private readonly classes: number;

  private constructor(source: ImageSource, model: Model, queries: Read, bank: Read, classes: number) {
    this.source = source;
    this.model = model;
    this.queries = queries.batches;
    this.bank = bank.batches;
    this.labels = { queries: queries.labels, bank: bank.labels };
    this.classes = classes;
  }

  static async open(
    { environment }: RunContext,
    model: Model,
    path: string,
    most: number,
    seed: number,
  ): Promise<ExportImages> {
    const data = await environment.openDataSet(path);
    const source = environment.createImageSource(data.path);
    const parts = splitParts(data, 0.25, seed);
    const asked = parts.queries.length > 0 ? parts.queries : parts.train;
    const queries = await read(source, model, limitItems(asked, most, seed));
    const classes = data.multiLabel ? 0 : (data.train.classes?.length ?? 0);
    const bank = await read(source, model, classes > 0 ? limitItems(parts.bank, 3 * most, seed) : []);
    if (queries.batches.length === 0)
      throw new UserError(`None of the images in ${path} can be read`, { code: "NO_IMAGES" });
    return new ExportImages(source, model, queries, bank, classes);
  }

  async embed({ pooled }: Embedder): Promise<Embedded> {
    const all = async (batches: readonly Batch[]) => {
      const vectors: FloatTensor[] = [];
      for (const { pixels, images } of batches) vectors.push(await pooled(pixels, images));
      return concatRows(vectors);
    };
    const queries = await all(this.queries);
    return this.bank.length > 0 ? { queries, bank: await all(this.bank) } : { queries };
  }

  /** Neighbours' accuracy with the export's vectors and with our own; nothing where there are no labels. */
  async knn(exported: Embedded, original: Embedded): Promise<{ knn?: KnnShares }> {
    const answers = async (bank: FloatTensor, queries: FloatTensor) => {
      const targets = { kind: "class", count: this.classes, labels: this.labels.bank } as const;
      const votes = await knnVotes(this.model.device, bank, targets, queries);
      const right = predictions(votes).map((answer, i) => Number(answer === this.labels.queries[i]));
      return { share: topAccuracy(votes, this.labels.queries, 1), interval: shareInterval(right) };
    };
    if (!exported.bank || !original.bank) return {};
    const theirs = await answers(exported.bank, exported.queries);
    const ours = await answers(original.bank, original.queries);
    return {
      knn: {
        exported: theirs.share,
        original: ours.share,
        intervals: { exported: theirs.interval, original: ours.interval },
      },
    };
  }

  /** One of them, to be timed on: `[1, 3, H, W]`. */
  firstImage(): FloatTensor {
    return rows(this.queries[0].pixels, 0, 1);
  }

  dispose(): Promise<void> {
    return this.source.dispose();
  }
}

/** Normalised images `[B, 3, H, W]` and their names. */
interface Batch {
  readonly pixels: FloatTensor;
  readonly images: readonly string[];
}

interface Read {
  readonly batches: Batch[];
  readonly labels: number[];
}

async function read(source: ImageSource, { preprocessing }: Model, items: readonly Item[]): Promise<Read> {
  const result: Read = { batches: [], labels: [] };
  for await (const batch of evaluationBatches(source, items, 16, preprocessing, () => undefined)) {
    result.batches.push({ pixels: batch.pixels, images: batch.items.map(({ name }) => name) });
    result.labels.push(...batch.items.map(({ label }) => label ?? 0));
  }
  return result;
}

/** How far an export's vectors are from our own, with 95 % intervals over the images. */
export function differenceOf(exported: FloatTensor, original: FloatTensor) {
  const scale = mean(absoluteDifferences(original, zeros(original.dims)));
  const cosines = rowCosines(exported, original);
  const differences = absoluteDifferences(exported, original);
  return {
    relativeDifference: mean(differences) / scale,
    cosine: mean(cosines),
    intervals: {
      relativeDifference: bootstrapInterval(differences.map((value) => value / scale)),
      cosine: bootstrapInterval(cosines),
    },
  };
}

/** Bytes of the files in an export that hold weights. */
export async function weightBytes(directory: Directory, { files }: Pick<ExportFormat, "files">): Promise<number> {
  let bytes = 0;
  for (const name of files) {
    const file = await directory.open(name);
    bytes += file?.size ?? 0;
    await file?.close();
  }
  return bytes;
}
