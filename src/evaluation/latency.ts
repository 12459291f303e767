// How long one picture takes, on the machine at hand.
import type { Model } from "../models/model.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";

/** Each model runs at least this often and this long in all. */
const leastRuns = 7;
const leastMilliseconds = 700;

/** Median milliseconds that each model takes for a batch of one picture; the models take turns. */
export async function measureLatency(models: readonly Model[], now: () => number): Promise<number[]> {
  const random = drawStream(0, "latency");
  const pictures = models.map(({ config }): FloatTensor => {
    const tensor = zeros([1, config.channels, config.imageSize, config.imageSize]);
    for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = 2 * random.uniform() - 1;
    return tensor;
  });
  const times: number[][] = models.map(() => []);
  for (const [i, model] of models.entries()) await model.outputs(pictures[i], ["pooled"]);
  const begin = now();
  for (let run = 0; run < leastRuns || now() - begin < leastMilliseconds * models.length; run++) {
    for (const [i, model] of models.entries()) {
      const start = now();
      await model.outputs(pictures[i], ["pooled"]);
      times[i].push(now() - start);
    }
  }
  return times.map((list) => list.sort((a, b) => a - b)[list.length >> 1]);
}
