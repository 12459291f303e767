// Which units a SnapViT student keeps (students/methods/snapvit.ts says what is the paper's): gradients at the gates of all units, then
// an evolution strategy over how much correlations count in each block's heads and in its channels.
import { Sessions } from "../../engine/compile.ts";
import { mean, rowCosines } from "../../evaluation/metrics.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { frozenWeights } from "../../models/vit.ts";
import type { Device } from "../../runtime/device.ts";
import { drawStream } from "../../utils/random.ts";
import { required } from "../../utils/required.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { Widths } from "../closed-form/narrowing.ts";
import { keptByPairs, pairSums } from "./correlated-order.ts";
import { evolve } from "./evolution.ts";
import { gateGradients } from "./gate-scores.ts";
import type { GradientLoss } from "./gates.ts";
import { gatedModelGraph, gateFeeds } from "./gates.ts";
import { keepLargest } from "./units.ts";

/** A block's heads or its channels. */
export type BlockChoice = "heads" | "channels";
/** The units that stay, by `heads.b` and `channels.b`; all of those that have no entry. */
export type KeptUnits = ReadonlyMap<string, readonly number[]>;

/** Weights of correlations that orders are made for: a candidate takes the nearest. */
const levels = [0, 0.125, 0.25, 0.5, 0.75, 1];
/** Images that candidates are looked at on. */
const evaluatedImages = 32;

export interface UnitSearch {
  readonly student: ModelDefinition;
  readonly device: Device;
  readonly widths: Widths;
  images(): AsyncIterable<FloatTensor>;
  readonly options: { readonly gradientLoss: GradientLoss; readonly generations: number; readonly seed: number };
}

/** Kept units of each choice at each level. */
async function ordersOf({ student, device, widths, images, options }: UnitSearch) {
  const { gradientLoss: loss, seed } = options;
  const gradients = await gateGradients({ student, device, images: images(), loss, seed });
  const orders = new Map<string, (readonly number[])[]>();
  gradients.forEach(({ heads, channels }, block) => {
    for (const [name, gradient, count] of [
      [`heads.${block}`, heads, widths.keptHeads],
      [`channels.${block}`, channels, widths.mlpWidth],
    ] as const) {
      if (count === undefined) continue;
      const pairs = pairSums(gradient);
      orders.set(
        name,
        levels.map((level) => keptByPairs(pairs, gradient.dims[1], count, level)),
      );
    }
  });
  return orders;
}

/** The level that a parameter of the strategy stands for: 0 is in the middle. */
function levelAt(parameter: number): number {
  const share = 1 / (1 + Math.exp(-parameter));
  return keepLargest(
    levels.map((level) => -Math.abs(level - share)),
    1,
  )[0];
}

/** The units to keep, all blocks as many. The same images and seed give the same again. */
export async function chooseUnits(search: UnitSearch): Promise<KeptUnits> {
  const { student, device, images, options } = search;
  const orders = await ordersOf(search);
  const names = [...orders.keys()];
  if (names.length === 0) return new Map();
  const sessions = new Sessions(device, { packWeights: true });
  try {
    const pooled = async (pixels: FloatTensor, kept: KeptUnits) => {
      const build = () => gatedModelGraph(student.config, frozenWeights(student.weights), pixels.dims);
      const session = await sessions.get(pixels.dims.join(), build);
      const { tensors } = await session.run({
        feeds: { pixels, ...gateFeeds(student.config, 1, kept) },
        fetch: ["pooled"],
      });
      return tensors.pooled as FloatTensor;
    };
    const shown: { pixels: FloatTensor; whole: FloatTensor }[] = [];
    let count = 0;
    for await (const pixels of images()) {
      shown.push({ pixels, whole: await pooled(pixels, new Map()) });
      if ((count += pixels.dims[0]) >= evaluatedImages) break;
    }
    const unitsOf = (candidate: Float64Array): KeptUnits =>
      new Map(names.map((name, i) => [name, required(orders, name)[levelAt(candidate[i])]]));
    const worth = async (candidate: Float64Array) => {
      const kept = unitsOf(candidate);
      const cosines: number[] = [];
      for (const { pixels, whole } of shown) cosines.push(...rowCosines(await pooled(pixels, kept), whole));
      return mean(cosines);
    };
    const random = drawStream(options.seed, "evolution");
    const { best } = await evolve({ parameters: names.length, generations: options.generations, random, worth });
    return unitsOf(best);
  } finally {
    await sessions.dispose();
  }
}
