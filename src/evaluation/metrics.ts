// Figures from scores and features.
import type { FloatTensor } from "../utils/tensor.ts";

/** Share of rows `[n, K]` whose label is among the k highest scores; of equal scores the lower class comes first. */
export function topAccuracy(scores: FloatTensor, labels: readonly number[], k: number): number {
  const [count, classes] = scores.dims;
  let hits = 0;
  for (let i = 0; i < count; i++) {
    const own = scores.data[i * classes + labels[i]];
    let before = 0;
    for (let c = 0; c < classes; c++) {
      const score = scores.data[i * classes + c];
      if (score > own || (score === own && c < labels[i])) before++;
    }
    if (before < k) hits++;
  }
  return hits / count;
}

/** Cosine of each pair of rows `[n, D]`. */
export function rowCosines(a: FloatTensor, b: FloatTensor): number[] {
  const [count, width] = a.dims;
  return Array.from({ length: count }, (_, i) => {
    let [dot, aa, bb] = [0, 0, 0];
    for (let j = i * width; j < (i + 1) * width; j++) {
      dot += a.data[j] * b.data[j];
      aa += a.data[j] ** 2;
      bb += b.data[j] ** 2;
    }
    return aa > 0 && bb > 0 ? dot / Math.sqrt(aa * bb) : 0;
  });
}

/** Sum of absolute differences. */
export function sumAbsoluteDifference(a: FloatTensor, b: FloatTensor): number {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i] - b.data[i]);
  return sum;
}
