// Small helpers for lists.

/** At most `count` of a list, evenly spread over it, in its order. */
export function spread<T>(list: readonly T[], count: number): T[] {
  if (list.length <= count) return [...list];
  return Array.from({ length: count }, (_, i) => list[Math.floor(((i + 0.5) * list.length) / count)]);
}

/** A list in pieces of so many; the last may be shorter. */
export const batchesOf = <T>(list: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));

/** What an action gives for each item, in order; so many are under way at once. */
export async function mapInBatches<T, U>(
  items: readonly T[],
  action: (item: T) => Promise<U>,
  atOnce = 64,
): Promise<U[]> {
  const results: U[] = [];
  for (const batch of batchesOf(items, atOnce)) results.push(...(await Promise.all(batch.map(action))));
  return results;
}
