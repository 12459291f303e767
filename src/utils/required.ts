// Entries of maps that are there by construction.

/**
 * The value under a key of a map that must have it.
 * @throws an Error that names the key: where it is missing, this program is wrong, not its input
 */
export function required<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new Error(`the map has no entry ${String(key)}`);
  return value;
}
