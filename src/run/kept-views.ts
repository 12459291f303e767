// What the teacher makes of a fixed set of views, seen once before training and kept in half precision.
import type { PictureSource } from "../data/loader.ts";
import { stackViews } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Augmentation } from "../data/transforms.ts";
import type { Distillation, Targets } from "../distill/distillation.ts";
import { UserError } from "../utils/errors.ts";
import { floatToHalf, halfToFloat } from "../utils/half.ts";
import type { Preprocessing } from "../utils/picture.ts";
import { rows } from "../utils/tensor.ts";

/** Kept targets take no more memory than this. */
const mostBytes = 4 * 2 ** 30;
/** Pictures at once. */
const batch = 16;

export interface KeptViewsOptions {
  readonly source: PictureSource;
  readonly items: readonly Item[];
  readonly preprocessing: Preprocessing;
  readonly augmentation: Augmentation;
  readonly seed: number;
  /** Views of each picture. */
  readonly views: number;
}

/** One view's targets by name, `[N, D]` as halves. */
type Kept = Readonly<Record<string, { readonly dims: readonly number[]; readonly data: Uint16Array }>>;

export class KeptViews {
  private readonly kept = new Map<string, Kept>();

  private constructor() {}

  /**
   * Shows all views to the teacher, in the order of the pictures, so that a run that goes on keeps the same. Throws a
   * UserError where the method can't do with kept targets, or they would take too much memory.
   */
  static async see(
    distillation: Distillation,
    options: KeptViewsOptions,
    progress: (done: number) => void,
  ): Promise<KeptViews> {
    const { source, items, preprocessing, views: count, ...view } = options;
    const found = new KeptViews();
    const side = preprocessing.cropSize;
    for (let epoch = 0; epoch < count; epoch++) {
      for (let from = 0; from < items.length; from += batch) {
        const shown = items.slice(from, from + batch);
        const seen = await Promise.all(
          shown.map((item) => source.augmentedView(item, { ...view, preprocessing, epoch })),
        );
        const targets = await distillation.targets(stackViews(seen, [3, side, side]));
        shown.forEach((item, i) => found.kept.set(keyOf(item, epoch), one(targets, i)));
        if (epoch === 0 && from === 0)
          checkSize((found.bytes / shown.length) * items.length * count, items.length, count);
        progress(epoch * items.length + from + shown.length);
      }
    }
    return found;
  }

  get bytes(): number {
    let sum = 0;
    for (const kept of this.kept.values()) for (const { data } of Object.values(kept)) sum += data.byteLength;
    return sum;
  }

  /** The targets of a micro-batch of views, `[B, N, D]` each. */
  targets(items: readonly Item[], view: number): Targets {
    const kept = items.map((item) => {
      const found = this.kept.get(keyOf(item, view));
      if (!found) throw new Error(`no targets are kept of ${item.name}`);
      return found;
    });
    const names = Object.keys(kept[0]);
    return Object.fromEntries(
      names.map((name) => [
        name,
        stackViews(
          kept.map((targets) => halfToFloat(targets[name].data)),
          kept[0][name].dims,
        ),
      ]),
    );
  }
}

const keyOf = ({ name }: Item, view: number) => `${view} ${name}`;

/** All views take the same, so the first batch tells. */
function checkSize(bytes: number, pictures: number, views: number): void {
  if (bytes <= mostBytes) return;
  throw new UserError(
    `${views} kept views of ${pictures} pictures take ${(bytes / 2 ** 30).toFixed(1)} GiB: keep fewer (--kept-views), or none`,
  );
}

/** Picture `i` of targets `[B, N, D]`. */
function one(targets: Targets, i: number): Kept {
  const own = Object.entries(targets).map(([name, tensor]) => {
    const { dims, data } = rows(tensor, i, i + 1);
    return [name, { dims: dims.slice(1), data: floatToHalf(data) }] as const;
  });
  return Object.fromEntries(own);
}
