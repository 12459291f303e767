// Similarity of two models' layers over images.
import type { SkippedPictures } from "../context/run-context.ts";
import type { PictureSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model } from "../models/model.ts";
import type { LayerSimilarity } from "./layer-similarity.ts";
import { layerSimilarity } from "./layer-similarity.ts";

/** Images at once: tokens of all blocks are large. */
const batch = 4;

/** Similarity of two models' blocks over pictures. */
export function compareLayers(
  student: Model,
  teacher: Model,
  source: PictureSource,
  items: readonly Item[],
  skip: SkippedPictures["add"],
): Promise<LayerSimilarity> {
  async function* batches() {
    for await (const { items: read, pixels } of evaluationBatches(source, items, batch, teacher.preprocessing, skip))
      yield { pixels, images: read.map(({ name }) => name) };
  }
  return layerSimilarity(student, teacher, batches(), items.length);
}
