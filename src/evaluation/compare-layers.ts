// Similarity of two models' layers over images.
import type { SkippedImages } from "../context/run-context.ts";
import type { ImageSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model } from "../models/model.ts";
import type { LayerSimilarity } from "./layer-similarity.ts";
import { layerSimilarity } from "./layer-similarity.ts";

/** Images at once: tokens of all blocks are large. */
const batch = 4;

/** Similarity of two models' blocks over images. */
export function compareLayers(
  student: Model,
  teacher: Model,
  source: ImageSource,
  items: readonly Item[],
  skip: SkippedImages["add"],
): Promise<LayerSimilarity> {
  async function* batches() {
    for await (const { items: read, pixels } of evaluationBatches(source, items, batch, teacher.preprocessing, skip))
      yield { pixels, images: read.map(({ name }) => name) };
  }
  return layerSimilarity(student, teacher, batches(), items.length);
}
