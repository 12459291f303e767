// How long one image takes, on the machine at hand.
import type { Model } from "../models/model.ts";
import { drawStream } from "../utils/random.ts";
import { zeros } from "../utils/tensor.ts";

/** How often each model runs, and how long in all, at least. */
export interface LeastRounds {
  readonly runs: number;
  readonly milliseconds: number;
}

const defaultRounds: LeastRounds = { runs: 7, milliseconds: 700 };

/** Milliseconds for one image. */
export interface Latency {
  readonly median: number;
  /** The first and the third quartile over the turns: the middle half of the times lies between them. */
  readonly quartiles: readonly [number, number];
}

/** Median milliseconds that each model takes for a batch of one image; the models take turns. */
export async function measureLatency(models: readonly Model[], now: () => number): Promise<number[]> {
  return (await measureLatencies(models, now)).map(({ median }) => median);
}

/** Milliseconds that each model takes for a batch of one image, with their spread; the models take turns. */
export async function measureLatencies(models: readonly Model[], now: () => number): Promise<Latency[]> {
  const random = drawStream(0, "latency");
  const runs = models.map((model) => {
    const { channels, imageSize } = model.config;
    const tensor = zeros([1, channels, imageSize, imageSize]);
    for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = 2 * random.uniform() - 1;
    return () => model.outputs(tensor, ["pooled"]);
  });
  return timeInRounds(runs, now);
}

/** Milliseconds that each of these takes, with their spread; they take turns. */
export async function timeInRounds(
  runs: readonly (() => Promise<unknown>)[],
  now: () => number,
  least: LeastRounds = defaultRounds,
): Promise<Latency[]> {
  const times: number[][] = runs.map(() => []);
  for (const run of runs) await run();
  const begin = now();
  for (let round = 0; round < least.runs || now() - begin < least.milliseconds * runs.length; round++) {
    // Whoever runs behind a large model finds the caches full of it: each turn begins with another model.
    for (let pass = 0; pass < runs.length; pass++) {
      const i = (round + pass) % runs.length;
      const start = now();
      await runs[i]();
      times[i].push(now() - start);
    }
  }
  return times.map(latencyOf);
}

/** Median and quartiles of times. */
export function latencyOf(times: readonly number[]): Latency {
  const sorted = [...times].sort((a, b) => a - b);
  const last = sorted.length - 1;
  return {
    median: sorted[sorted.length >> 1],
    quartiles: [sorted[Math.floor(last / 4)], sorted[Math.ceil((3 * last) / 4)]],
  };
}
