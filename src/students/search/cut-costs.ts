// What each cut of a teacher costs: for each block the squared error behind it where it keeps so many heads or MLP channels and the
// maps behind them are refitted, from the sums that the closed form makes anyway, with the teacher's own tokens.
//
// An error behind an early block is not one behind the last: what matters is how it changes what the model gives. So each curve is
// scaled by a measurement: half of a part is removed and refitted, and some images go through the blocks behind it. Curves of
// all blocks and parts then have one unit, and `shapeForBudget` (`shape-for-budget.ts`) adds them up.
import { valueWidthOf } from "../../models/config.ts";
import type { Model } from "../../models/model.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { required } from "../../utils/required.ts";
import { RidgeSolver } from "../../engine/linalg/ridge.ts";
import { analyticDefaults } from "../closed-form/closed-form.ts";
import { directionCosts } from "../closed-form/head-matrices.ts";
import { headQueries, withNarrowQueries } from "../closed-form/narrow-queries.ts";
import { headValues } from "../closed-form/narrow-values.ts";
import {
  canNarrowQueries,
  channelCosts,
  channelsOf,
  headCosts,
  narrowedSums,
  withChannels,
} from "../closed-form/narrowing.ts";
import { behindScale, moved, spread, withoutColumns } from "../closed-form/refit-maps.ts";
import type { Stream } from "../closed-form/refit-passes.ts";
import { embedAll, heldBy, Passes, rowsOf, storageOf, sumUp, tokensOf } from "../closed-form/refit-passes.ts";
import { Sample, stridesOf } from "../closed-form/refit-sample.ts";
import { solveRidged } from "../closed-form/refit-tools.ts";
import type { EffectMeasure, ModelOutputs } from "./cut-effects.ts";
import { blockOutputs, changeOf } from "./cut-effects.ts";

/** What a block's cuts cost. */
export interface BlockCosts {
  /** Squared error a token behind the block, by the heads that it keeps (index 0: none, to all). */
  readonly heads: Float64Array;
  /** The same by the channels of its MLP. */
  readonly mlpWidth: Float64Array;
  /**
   * What is lost of the heads' squared products of queries and keys, by the channels of each head's queries (index 0: none, to all), and
   * what the model's output changes by for that; left out where queries can't be narrowed.
   */
  readonly queries?: { readonly lost: Float64Array; readonly effects: Readonly<Record<EffectMeasure, number>> };
  /** Squared error a token behind the block, by the channels of each head's values (index 0: none, to all); it counts as that of heads. */
  readonly values?: Float64Array;
  /**
   * What the model's output changes by for such an error, in each measure (`effectMeasures`): a cost is the squared error times
   * this.
   */
  readonly effects: Readonly<Record<"heads" | "mlpWidth", Readonly<Record<EffectMeasure, number>>>>;
}

/** Effects are measured on the first batch, and more up to so many images: 32 give students no nearer, and take twice as long. */
const measuredImages = 8;

/**
 * What cuts of each of the teacher's blocks cost, from normalised images, batch by batch `[B, 3, H, W]`. Takes about the time of
 * one start in closed form, whatever the number of sizes that are made with it.
 */
export async function rankCuts(
  teacher: Model,
  batches: AsyncIterable<FloatTensor> | Iterable<FloatTensor>,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<BlockCosts[]> {
  const { device, config } = teacher;
  const storage = storageOf("float32");
  const streams = await embedAll(teacher, batches, { storage });
  const together = streams.map(({ tokens }): Stream => ({ tokens, aside: false }));
  const passes = new Passes(device, storage);
  // The teacher's own tokens are followed under one name.
  await passes.drop(together, "teacher");
  const solver = new RidgeSolver(device);
  const sample = new Sample(passes, together, stridesOf(together, analyticDefaults.tokensPerUnknown * config.mlpWidth));
  const costs: BlockCosts[] = [];
  let outputs: ModelOutputs | undefined;
  try {
    outputs = await blockOutputs(passes, teacher, firstOf(together));
    for (let block = 0; block < config.depth; block++) {
      const tools = { passes, solver, sample, teacher, outputs };
      await sample.take(["student"]);
      await passes.move("attention", together, { model: teacher, block, seen: sample.takeOf });
      const heads = await costOfHeads(tools, block);
      const queries = canNarrowQueries(config) ? await costOfQueries(tools, block) : undefined;
      await passes.move("attended", together, { model: teacher, block, seen: sample.takeOf });
      await passes.drop(together, "mixed");
      const channels = await costOfChannels(tools, block);
      await passes.move("mlp", together, { model: teacher, block });
      const { curve, values } = heads;
      costs.push({
        ...{ heads: curve, values, mlpWidth: channels.curve },
        effects: { heads: heads.effects, mlpWidth: channels.effects },
        ...(queries ? { queries: { lost: queries.curve, effects: queries.effects } } : {}),
      });
      progress(block + 1, config.depth);
    }
    return costs;
  } finally {
    await outputs?.release();
    await sample.release();
    await passes.dispose();
    await device.release(heldBy(streams));
    await device.trim();
    await solver.dispose();
  }
}

/** The first batches, of `measuredImages` at most. */
function firstOf(streams: readonly Stream[]): readonly Stream[] {
  let count = 0;
  return streams.filter((stream, i) => {
    count += tokensOf(stream, "student").dims[0];
    return i === 0 || count <= measuredImages;
  });
}

interface CutTools {
  readonly passes: Passes;
  readonly solver: RidgeSolver;
  readonly sample: Sample;
  readonly teacher: Model;
  /** What the teacher gives for the batches that effects are measured on. */
  readonly outputs: ModelOutputs;
}

/** Errors of a part by what is kept of it, and what they count in the model's output: measured with one cut. */
interface PartCosts {
  readonly curve: Float64Array;
  readonly effects: Readonly<Record<EffectMeasure, number>>;
}

const sampledRows = ({ streams }: Sample): number => streams.reduce((sum, stream) => sum + rowsOf(stream), 0);

const rising = (list: readonly number[]): number[] => [...list].sort((a, b) => a - b);

async function costOfHeads(
  { passes, solver, sample, teacher, outputs }: CutTools,
  block: number,
): Promise<PartCosts & { values: Float64Array }> {
  const [ridge] = analyticDefaults.ridges;
  const rows = sampledRows(sample);
  const blockTensors = await passes.blockOf(teacher, block);
  const sums = (await sumUp(passes, sample.streams, "mixed", { ...blockTensors, feeds: {} }, teacher.config.width)).all;
  const name = `blocks.${block}.attn.proj`;
  const map = required(teacher.weights, `${name}.weight`);
  const headWidth = valueWidthOf(teacher.config, block);
  const seen = behindScale(teacher, block, "ls1", map);
  const { costs, order } = await headCosts(solver, sums, seen, headWidth, ridge);
  const curve = costs.map((cost) => cost / rows);
  const half = order.length >> 1;
  const kept = channelsOf(rising(order.slice(0, half)), headWidth);
  const lost = withoutColumns(teacher, `${name}.weight`, kept);
  const change = await solveRidged(solver, await narrowedSums(solver, sums, map, kept), ridge);
  const student = moved(lost, name, spread(change, kept, map.dims[1]), 1);
  const values = directionCosts(await headValues(sums, seen, headWidth)).map((cost) => cost / rows);
  const effects = await changeOf(passes, student, { block, attended: false }, outputs, curve[half]);
  return { curve, values, effects };
}

/** Effects are measured with a quarter of the channels: half of them hardly change what the model gives. */
async function costOfQueries(
  { passes, solver, sample, teacher, outputs }: CutTools,
  block: number,
): Promise<PartCosts> {
  const { all } = await sumUp(passes, sample.streams, "entering", await passes.blockOf(teacher, block), 0);
  const heads = await headQueries(solver, all, teacher, block);
  const curve = directionCosts(heads);
  const width = Math.max(1, (curve.length - 1) >> 2);
  const student = withNarrowQueries(teacher, block, heads, width);
  return { curve, effects: await changeOf(passes, student, { block, attended: false }, outputs, curve[width]) };
}

async function costOfChannels(
  { passes, solver, sample, teacher, outputs }: CutTools,
  block: number,
): Promise<PartCosts> {
  const [ridge] = analyticDefaults.ridges;
  const rows = sampledRows(sample);
  const blockTensors = await passes.blockOf(teacher, block);
  const sums = (await sumUp(passes, sample.streams, "channels", blockTensors, teacher.config.width)).all;
  const name = `blocks.${block}.mlp.fc2`;
  const map = required(teacher.weights, `${name}.weight`);
  const seen = behindScale(teacher, block, "ls2", map);
  const { costs, order } = await channelCosts(solver, sums, seen, ridge);
  const curve = costs.map((cost) => cost / rows);
  const half = order.length >> 1;
  const kept = rising(order.slice(0, half));
  const change = await solveRidged(solver, await narrowedSums(solver, sums, map, kept), ridge);
  const student = moved(withChannels(teacher, block, kept), name, change, 1);
  return { curve, effects: await changeOf(passes, student, { block, attended: true }, outputs, curve[half]) };
}
