// Where models look in images, drawn over them.
import type { ImageSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { denormalise } from "../data/transforms.ts";
import type { SkippedImages } from "../context/run-context.ts";
import type { Model } from "../models/model.ts";
import { attentionOverlay } from "../report/overlay.ts";
import { UserError } from "../utils/errors.ts";
import type { RgbImage } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { rows } from "../utils/tensor.ts";
import type { RolloutOptions } from "./attention-rollout.ts";
import { attentionViewer } from "./attention-rollout.ts";

/** Images at once: attention maps of all blocks are large. */
const batch = 4;

/** An image, and overlays of where models look in it. */
export interface Overlays {
  readonly item: Item;
  readonly image: RgbImage;
  readonly overlays: ReadonlyMap<string, RgbImage>;
}

/** Where models look in images, one image after the other. The models must see images in the same way. */
export async function* attentionOverlays(
  models: ReadonlyMap<string, Model>,
  source: ImageSource,
  items: readonly Item[],
  options: RolloutOptions | undefined,
  skip: SkippedImages["add"],
): AsyncGenerator<Overlays> {
  const { preprocessing } = [...models.values()][0];
  if ([...models.values()].some((model) => JSON.stringify(model.preprocessing) !== JSON.stringify(preprocessing)))
    throw new UserError(
      "The models preprocess images differently (preprocessor_config.json), so their attention maps can't be compared",
    );
  const viewers = new Map(
    await Promise.all([...models].map(async ([name, model]) => [name, await attentionViewer(model, options)] as const)),
  );
  try {
    for await (const { items: read, pixels } of evaluationBatches(source, items, batch, preprocessing, skip)) {
      const maps = new Map<string, FloatTensor>();
      const images = read.map(({ name }) => name);
      for (const [name, viewer] of viewers) maps.set(name, await viewer.maps(pixels, { model: name, images }));
      const size = pixels.data.length / read.length;
      for (const [i, item] of read.entries()) {
        const image = denormalise(pixels.data.subarray(i * size, (i + 1) * size), preprocessing);
        const overlays = [...maps].map(
          ([name, map]) => [name, attentionOverlay(image, rows(map, i, i + 1).data)] as const,
        );
        yield { item, image, overlays: new Map(overlays) };
      }
    }
  } finally {
    for (const viewer of viewers.values()) await viewer.dispose();
  }
}
