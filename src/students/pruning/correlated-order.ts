// An order in which units go, where it counts how much the effects of two units go together.
import type { FloatTensor } from "../../utils/tensor.ts";
import { picked } from "./moments.ts";

/** Sums over images of the products of all pairs of units' gradients, `[units, units]`, from gradients `[images, units]`. */
export function pairSums({ dims: [images, units], data }: FloatTensor): Float64Array {
  const sums = new Float64Array(units * units);
  for (let image = 0; image < images; image++) {
    const row = data.subarray(image * units, (image + 1) * units);
    for (let i = 0; i < units; i++) {
      const value = row[i];
      for (let j = 0; j < units; j++) sums[i * units + j] += value * row[j];
    }
  }
  return sums;
}

/**
 * The units that stay, rising, where units go one after the other. A set S costs sum_i F_ii + c sum_{i != j} F_ij over its units,
 * with F the sums of products of gradients (`pairSums`) and c from 0 (each by itself) to 1 (the squared gradient of all together);
 * the one that adds least goes next.
 */
export function keptByPairs(pairs: Float64Array, units: number, count: number, c: number): number[] {
  const cost = Float64Array.from({ length: units }, (_, i) => pairs[i * units + i]);
  const staying = Array.from({ length: units }, (_, i) => i);
  while (staying.length > count) {
    let least = 0;
    for (let k = 1; k < staying.length; k++) if (cost[staying[k]] < cost[staying[least]]) least = k;
    const [gone] = staying.splice(least, 1);
    for (const i of staying) cost[i] += 2 * c * pairs[i * units + gone];
  }
  return staying;
}

/** What a set of units costs (see `keptByPairs`). */
export function pairCost(pairs: Float64Array, units: number, set: readonly number[], c: number): number {
  const inside = picked(pairs, units, set, set);
  let sum = 0;
  inside.forEach((value, i) => (sum += i % (set.length + 1) === 0 ? value : c * value));
  return sum;
}
