// Figures from scores and features.
import type { VitConfig } from "../models/config.ts";
import { prefixCount } from "../models/config.ts";
import { finite, requireFinite } from "../utils/finite.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";
import type { Interval } from "./confidence.ts";
import { resampled } from "./confidence.ts";
import type { Targets } from "./targets.ts";
import { targetRows } from "./targets.ts";

/** What a row without one highest score predicts: a tie, or a score that is not finite, is no class. */
export const noClass = -1;

/**
 * Share of rows `[n, K]` whose label is surely among the k highest scores: wherever equal scores were put. So no order of the
 * classes makes a tie right, and a label whose score is not finite is wrong.
 */
export function topAccuracy(scores: FloatTensor, labels: readonly number[], k: number): number {
  const [count, classes] = scores.dims;
  let hits = 0;
  for (let i = 0; i < count; i++) {
    const score = scores.data[i * classes + labels[i]];
    if (!Number.isFinite(score)) continue;
    let before = 0;
    // What can't be compared stands before the label too.
    for (let c = 0; c < classes; c++) if (c !== labels[i] && !(scores.data[i * classes + c] < score)) before++;
    if (before < k) hits++;
  }
  return hits / count;
}

/** The label of each row's highest score `[n, K]`; `noClass` where several share it, or it is not finite. */
export function predictions({ dims: [count, classes], data }: FloatTensor): number[] {
  return Array.from({ length: count }, (_, i) => {
    const row = data.subarray(i * classes, (i + 1) * classes);
    let best = 0;
    for (let c = 1; c < classes; c++) if (row[c] > row[best]) best = c;
    const alone = Number.isFinite(row[best]) && row.every((score, c) => c === best || score < row[best]);
    return alone ? best : noClass;
  });
}

/** Whether each row's highest score is at the same place in both `[n, K]`; a row without one agrees with nothing. */
export function sameAnswers(a: FloatTensor, b: FloatTensor): boolean[] {
  const theirs = predictions(b);
  return predictions(a).map((answer, i) => answer !== noClass && answer === theirs[i]);
}

export interface Aurocs {
  /** The area under each label's ROC curve; undefined where all images or none have the label. */
  readonly each: readonly (number | undefined)[];
  /** Over the labels that have both outcomes. */
  readonly mean: number | undefined;
  /** The 95 % interval of the mean. */
  readonly interval?: Interval;
}

/**
 * Areas under the ROC curves of scores `[n, K]`: the share of pairs of an image with the label and one without that are
 * in the right order, ties counted half. `resamples` draws of the images (with replacement) give the interval. Throws a
 * RunError where a score is not finite: it has no place in an order.
 */
export function aurocs(scores: FloatTensor, targets: Targets, resamples = 0): Aurocs {
  const {
    dims: [count, labels],
    data,
  } = scores;
  requireFinite(data, "Scores");
  const wanted = targetRows(targets).data;
  const columns = Array.from({ length: labels }, (_, k) => {
    const order = Array.from({ length: count }, (_, i) => i);
    return order.sort((a, b) => data[a * labels + k] - data[b * labels + k]);
  });
  const area = (k: number, weights: ArrayLike<number>): number | undefined => {
    let [below, positives, sum] = [0, 0, 0];
    for (let from = 0; from < count;) {
      let [to, positiveCount, others] = [from, 0, 0];
      const score = data[columns[k][from] * labels + k];
      for (; to < count && data[columns[k][to] * labels + k] === score; to++) {
        const image = columns[k][to];
        if (wanted[image * labels + k] === 1) positiveCount += weights[image];
        else others += weights[image];
      }
      sum += positiveCount * (below + others / 2);
      below += others;
      positives += positiveCount;
      from = to;
    }
    return positives > 0 && below > 0 ? sum / (positives * below) : undefined;
  };
  const all = (weights: ArrayLike<number>) => columns.map((_, k) => area(k, weights));
  const meanOf = (values: readonly (number | undefined)[]) => {
    const defined = values.filter((value) => value !== undefined);
    return defined.length > 0 ? mean(defined) : undefined;
  };
  const each = all(new Uint8Array(count).fill(1));
  const drawn = resampled(count, resamples, (weights) => meanOf(all(weights)));
  return { each, mean: meanOf(each), ...(drawn ? { interval: drawn } : {}) };
}

/** Cosine of each pair of rows `[n, D]`; 0 where a row is all zeros. Throws a RunError where a cosine is not finite. */
export function rowCosines(a: FloatTensor, b: FloatTensor): number[] {
  const [count, width] = a.dims;
  const cosines = Array.from({ length: count }, (_, i) => {
    let [dot, aa, bb] = [0, 0, 0];
    for (let j = i * width; j < (i + 1) * width; j++) {
      dot += a.data[j] * b.data[j];
      aa += a.data[j] ** 2;
      bb += b.data[j] ** 2;
    }
    return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
  });
  requireFinite(cosines, "Cosines of features");
  return cosines;
}

/** Mean absolute difference of each image's tokens `[B, N, D]`. Throws a RunError where one is not finite. */
export function absoluteDifferences(a: FloatTensor, b: FloatTensor): number[] {
  const size = a.data.length / a.dims[0];
  const differences = Array.from({ length: a.dims[0] }, (_, i) => {
    let sum = 0;
    for (let j = i * size; j < (i + 1) * size; j++) sum += Math.abs(a.data[j] - b.data[j]);
    return sum / size;
  });
  requireFinite(differences, "Differences of features");
  return differences;
}

/** The mean. Throws a RunError where there is none: of no values, or of such that are not finite. */
export const mean = (values: readonly number[]): number =>
  finite(values.reduce((a, b) => a + b, 0) / values.length, `The mean of ${values.length} values`);

interface Tokens {
  /** `[B, N, D]` */
  readonly tokens: FloatTensor;
  readonly config: VitConfig;
}

/** The class token, where there is one, and the patches: what two models of other tokens in front have in common. */
function sharedTokens({ tokens, config }: Tokens, withClass: boolean): FloatTensor {
  const [batch, count, width] = tokens.dims;
  const front = prefixCount(config);
  const kept = count - front + (withClass ? 1 : 0);
  const out = zeros([batch, kept, width]);
  for (let b = 0; b < batch; b++) {
    const from = b * count * width;
    const to = b * kept * width;
    if (withClass) out.data.set(tokens.data.subarray(from, from + width), to);
    out.data.set(tokens.data.subarray(from + front * width, from + count * width), to + (withClass ? width : 0));
  }
  return out;
}

/** Tokens of two models that can be compared one by one: all where both have the same, else those that both have. */
export function comparableTokens(a: Tokens, b: Tokens): [FloatTensor, FloatTensor] {
  const names = ({ config }: Tokens) => JSON.stringify(config.prefix);
  if (names(a) === names(b)) return [a.tokens, b.tokens];
  const withClass = [a, b].every(({ config }) => config.prefix[0]?.weight === "cls_token");
  return [sharedTokens(a, withClass), sharedTokens(b, withClass)];
}
