// Measuring an export beside the model that it was made from: features, neighbours and time on real pictures.
import type { PictureSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { absoluteDifferences, mean, rowCosines, topAccuracy } from "../evaluation/metrics.ts";
import { neighbourVotes } from "../evaluation/knn.ts";
import type { Model } from "../models/model.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, zeros } from "../utils/tensor.ts";
import type { Environment } from "../context/environment.ts";
import type { Embedder } from "./export-format.ts";
import { limitItems, splitParts } from "../evaluation/evaluate-candidates.ts";

export interface Embedded {
  readonly bank?: FloatTensor;
  readonly queries: FloatTensor;
}

/** The pictures that exports are compared on, decoded once. */
export class Pictures {
  private readonly source: PictureSource;
  private readonly model: Model;
  private readonly queries: FloatTensor[];
  private readonly bank: FloatTensor[];
  private readonly labels: { readonly queries: number[]; readonly bank: number[] };
  private readonly classes: number;

  private constructor(source: PictureSource, model: Model, queries: Read, bank: Read, classes: number) {
    this.source = source;
    this.model = model;
    this.queries = queries.pixels;
    this.bank = bank.pixels;
    this.labels = { queries: queries.labels, bank: bank.labels };
    this.classes = classes;
  }

  static async open(
    environment: Environment,
    model: Model,
    path: string,
    most: number,
    seed: number,
  ): Promise<Pictures> {
    const data = await environment.openDataSet(path);
    const source = environment.createPictureSource(data.path);
    const parts = splitParts(data, 0.25, seed);
    const asked = parts.queries.length > 0 ? parts.queries : parts.train;
    const queries = await read(source, model, limitItems(asked, most, seed));
    const classes = data.multiLabel ? 0 : (data.train.classes?.length ?? 0);
    const bank = await read(source, model, classes > 0 ? limitItems(parts.bank, 3 * most, seed) : []);
    if (queries.pixels.length === 0)
      throw new UserError(`none of the pictures in ${path} can be read`, { code: "NO_IMAGES" });
    return new Pictures(source, model, queries, bank, classes);
  }

  async embed({ pooled }: Embedder): Promise<Embedded> {
    const all = async (batches: readonly FloatTensor[]) => {
      const found: FloatTensor[] = [];
      for (const batch of batches) found.push(await pooled(batch));
      return concatRows(found);
    };
    const queries = await all(this.queries);
    return this.bank.length > 0 ? { queries, bank: await all(this.bank) } : { queries };
  }

  /** Neighbours' accuracy with the export's vectors and with our own; nothing where there are no labels. */
  async neighbours(
    exported: Embedded,
    own: Embedded,
  ): Promise<{ neighbours?: { readonly exported: number; readonly own: number } }> {
    const accuracy = async ({ bank, queries }: Embedded) =>
      topAccuracy(
        await neighbourVotes(
          this.model.device,
          bank as FloatTensor,
          { kind: "class", count: this.classes, labels: this.labels.bank },
          queries,
        ),
        this.labels.queries,
        1,
      );
    if (!exported.bank || !own.bank) return {};
    return { neighbours: { exported: await accuracy(exported), own: await accuracy(own) } };
  }

  dispose(): Promise<void> {
    return this.source.dispose();
  }
}

interface Read {
  readonly pixels: FloatTensor[];
  readonly labels: number[];
}

async function read(source: PictureSource, { preprocessing }: Model, items: readonly Item[]): Promise<Read> {
  const found: Read = { pixels: [], labels: [] };
  for await (const batch of evaluationBatches(source, items, 16, preprocessing, () => undefined)) {
    found.pixels.push(batch.pixels);
    found.labels.push(...batch.items.map(({ label }) => label ?? 0));
  }
  return found;
}

export function differenceOf(exported: FloatTensor, own: FloatTensor): { difference: number; cosine: number } {
  const scale = mean(absoluteDifferences(own, zeros(own.dims)));
  const cosines = rowCosines(exported, own);
  return {
    difference: mean(absoluteDifferences(exported, own)) / scale,
    cosine: mean(cosines),
  };
}

/** Median milliseconds for one picture. */
export async function latency({ now }: Environment, embedder: Embedder, { config }: Model): Promise<number> {
  const one = zeros([1, config.channels, config.imageSize, config.imageSize]);
  await embedder.pooled(one);
  const times: number[] = [];
  for (let i = 0; i < 9; i++) {
    const begin = now();
    await embedder.pooled(one);
    times.push(now() - begin);
  }
  return times.sort((a, b) => a - b)[4];
}
