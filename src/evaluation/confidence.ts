// How sure a figure from so many pictures is: percentile bootstrap intervals, paired where two models saw the same ones.
import { randomStream } from "../utils/random.ts";

/** From low to high. */
export type Interval = readonly [number, number];

/** As many resamples as so many draws allow, within these bounds. */
const draws = 4_000_000;
const [fewest, most] = [500, 2000];
const level = 0.95;

/**
 * The 95 % percentile bootstrap interval of the mean of `values` (Efron and Tibshirani 1993, section 13.3). For the
 * difference of two models on the same pictures, give each picture's difference. The same values give the same interval.
 * Undefined for fewer than two values.
 */
export function bootstrapInterval(values: readonly number[]): Interval | undefined {
  const n = values.length;
  if (n < 2) return undefined;
  const resamples = Math.round(Math.max(fewest, Math.min(most, draws / n)));
  const random = randomStream(0, "bootstrap", n);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[Math.floor(random.uniform() * n)];
    means[r] = sum / n;
  }
  means.sort();
  const tail = (1 - level) / 2;
  return [means[Math.floor(tail * (resamples - 1))], means[Math.ceil((1 - tail) * (resamples - 1))]];
}
