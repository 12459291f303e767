// How sure a figure from so many images is: percentile bootstrap intervals, paired where two models saw the same ones.
import { finite, requireFinite } from "../utils/finite.ts";
import { drawStream } from "../utils/random.ts";

/** From low to high. */
export type Interval = readonly [number, number];

/** As many resamples as so many draws allow, within these bounds. */
const draws = 4_000_000;
const [fewest, most] = [500, 2000];
const level = 0.95;

/**
 * The 95 % percentile bootstrap interval of the mean of `values` (Efron and Tibshirani 1993, section 13.3). For the
 * difference of two models on the same images, give each image's difference. The same values give the same interval.
 * Undefined for fewer than two values. Throws a RunError where a value is not finite.
 */
export function bootstrapInterval(values: readonly number[]): Interval | undefined {
  const n = values.length;
  requireFinite(values, "Values of a confidence interval");
  if (n < 2) return undefined;
  const resamples = Math.round(Math.max(fewest, Math.min(most, draws / n)));
  const random = drawStream(0, "bootstrap", n);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[Math.floor(random.uniform() * n)];
    means[r] = sum / n;
  }
  return percentiles(means);
}

/** The 97.5 % quantile of the normal distribution. */
const normalQuantile = 1.959964;

/**
 * The 95 % interval of a share, from outcomes of 0 and 1: the bootstrap's, and Wilson's score interval (1927) where all outcomes
 * are alike, since resamples of these are alike too: four right answers of four don't make a certainty.
 */
export function shareInterval(outcomes: readonly number[]): Interval | undefined {
  const n = outcomes.length;
  if (n === 0 || outcomes.some((outcome) => outcome !== outcomes[0])) return bootstrapInterval(outcomes);
  const square = normalQuantile ** 2;
  const reach = square / (n + square);
  return outcomes[0] === 1 ? [1 - reach, 1] : [0, reach];
}

/**
 * The interval of a figure that is no mean: `figure` is asked for so many resamples, given how often each of `count`
 * images is drawn. Undefined where there are no two of them to be had.
 */
export function resampled(
  count: number,
  resamples: number,
  figure: (weights: Uint16Array) => number | undefined,
): Interval | undefined {
  if (count < 2 || resamples < 2) return undefined;
  const random = drawStream(0, "bootstrap", count);
  const statistics: number[] = [];
  for (let r = 0; r < resamples; r++) {
    const weights = new Uint16Array(count);
    for (let i = 0; i < count; i++) weights[Math.floor(random.uniform() * count)]++;
    const value = figure(weights);
    if (value !== undefined) statistics.push(finite(value, "A resampled figure"));
  }
  return statistics.length < 2 ? undefined : percentiles(Float64Array.from(statistics));
}

function percentiles(values: Float64Array): Interval {
  values.sort();
  const tail = (1 - level) / 2;
  const last = values.length - 1;
  return [values[Math.floor(tail * last)], values[Math.ceil((1 - tail) * last)]];
}
