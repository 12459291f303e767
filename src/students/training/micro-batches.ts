// What a run's steps are shown, micro-batch by micro-batch: images' views, or in their place what is kept of them.
import type { TrainingLoaderOptions } from "../../data/loader.ts";
import { TrainingLoader, TrainingOrder } from "../../data/loader.ts";
import type { Item } from "../../data/sampling.ts";
import type { TrainingImages } from "./distillation.ts";
import type { CachedFeatures } from "./cached-features.ts";

/** Gives one micro-batch after the other, from the one at `position` on; `labels` are the teacher's for the data set's classes. */
export function microBatchesOf(
  options: TrainingLoaderOptions<Item>,
  position: number,
  kept: CachedFeatures | undefined,
  labels: readonly number[] | undefined,
): () => Promise<TrainingImages> {
  if (kept?.standForPixels) {
    const order = new TrainingOrder(options);
    let at = position;
    return async () => {
      const { items, cropEpoch } = order.at(at++);
      return { targets: await kept.targets(items, cropEpoch) };
    };
  }
  const loader = new TrainingLoader(options, position);
  return async () => {
    const { pixels, items, cropEpoch } = await loader.next();
    return {
      pixels,
      labels: labels && items.map(({ label }) => labels[label as number]),
      targets: await kept?.targets(items, cropEpoch),
    };
  };
}
