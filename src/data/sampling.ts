// Which images are used: few-shot sampling, held-out images, and the order of an epoch. All seeded.
import { drawStream } from "../utils/random.ts";
import type { Place } from "./places.ts";

/** An image of a data set: its path inside of it, and its class where the set has any. */
export interface Item {
  readonly name: string;
  /** Index into the data set's class names. */
  readonly label?: number;
  /** Indices of all that apply, where several may. */
  readonly labels?: readonly number[];
  /** Where its bytes lie, where it is no file of its own. */
  readonly place?: Place;
}

/** All images, a share of each class (or of a flat folder), or a count of each class (or of a flat folder). */
export type FewShot =
  | { readonly kind: "all" }
  | { readonly kind: "share"; readonly share: number; readonly rounding?: "nearest" | "down" }
  | { readonly kind: "count"; readonly count: number };

/** Images by class, or all in one group where there are no classes; in the order of the list. */
function groups<T extends Item>(items: readonly T[]): T[][] {
  const byLabel = new Map<number | undefined, T[]>();
  for (const item of items) {
    const group = byLabel.get(item.label);
    if (group) group.push(item);
    else byLabel.set(item.label, [item]);
  }
  return [...byLabel.values()];
}

function wantedOf(fewShot: FewShot, size: number): number {
  if (fewShot.kind === "all") return size;
  if (fewShot.kind === "count") return Math.min(fewShot.count, size);
  const round = fewShot.rounding === "down" ? Math.trunc : Math.round;
  return Math.min(size, Math.max(1, round(size * fewShot.share)));
}

/** Images that are looked at side by side. */
const askedAtOnce = 32;

/**
 * Draws images class by class, at least one each. `usable` says whether an image can be read; one that can't is
 * passed over for the next of its class. The result keeps the list's order.
 */
export async function sampleFewShot<T extends Item>(
  items: readonly T[],
  fewShot: FewShot,
  seed: number,
  usable: (item: T) => Promise<boolean> = async () => true,
): Promise<T[]> {
  const chosen = new Set<T>();
  for (const group of groups(items)) {
    const random = drawStream(seed, "few-shot", group[0].label ?? "flat");
    const wanted = wantedOf(fewShot, group.length);
    const order = random.shuffle(group);
    let taken = 0;
    for (let at = 0; at < order.length && taken < wanted;) {
      const asked = order.slice(at, at + Math.min(askedAtOnce, wanted - taken));
      at += asked.length;
      const answers = await Promise.all(asked.map(usable));
      for (const item of asked.filter((_, i) => answers[i])) chosen.add(item);
      taken += answers.filter(Boolean).length;
    }
  }
  return items.filter((item) => chosen.has(item));
}

/** Sets a share of each class (or of a flat folder) aside. A class keeps at least one image. */
export function splitHeldOut<T extends Item>(
  items: readonly T[],
  share: number,
  most: number,
  seed: number,
): { readonly rest: T[]; readonly heldOut: T[] } {
  const aside = new Set<T>();
  for (const group of groups(items)) {
    const random = drawStream(seed, "held out", group[0].label ?? "flat");
    const count = Math.min(group.length - 1, Math.round(share * group.length));
    for (const item of random.shuffle(group).slice(0, count)) aside.add(item);
  }
  const limited = new Set(
    aside.size > most
      ? drawStream(seed, "limit")
          .shuffle([...aside])
          .slice(0, most)
      : aside,
  );
  return { rest: items.filter((item) => !limited.has(item)), heldOut: items.filter((item) => limited.has(item)) };
}

/** The order of an epoch's images: a permutation of 0 to count - 1. */
export function epochOrder(count: number, epoch: number, seed: number): number[] {
  return drawStream(seed, "order", epoch).shuffle(Array.from({ length: count }, (_, i) => i));
}
