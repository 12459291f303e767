// A student by CORP: students/methods/corp.ts says what is the paper's.
import type { VitConfig } from "../../models/config.ts";
import { attentionWidth, headWidthOf, rotaryOf, withHeadCount } from "../../models/config.ts";
import type { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { blockWeight } from "../../models/weight-table.ts";
import { OptionError } from "../../utils/errors.ts";
import { required } from "../../utils/required.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { chosenRows } from "../../utils/tensor.ts";
import type { Widths } from "../closed-form/narrowing.ts";
import { narrowedConfig, withChannels } from "../closed-form/narrowing.ts";
import { copyBlocks } from "../kept-blocks.ts";
import type { BlockPlace, BlockRule, LogitMoments } from "./block-walk.ts";
import { walkBlocks } from "./block-walk.ts";
import type { HeadMoments, LogitFit } from "./logits.ts";
import { fitLogits, headMoments, logitEnergies } from "./logits.ts";
import { affineMap } from "./moments.ts";
import { blockMap, keepLargest } from "./units.ts";
import { consumers, keptByWanda, wandaInputs } from "./wanda-scores.ts";

/** All ridges, as shares of the mean of the diagonal. */
const ridgeShare = 1e-3;

/** Channels that each head keeps where all heads stay, with no more weights than so many whole heads. */
export function innerWidth({ width, heads, headWidth }: VitConfig, keptHeads: number): number {
  return Math.max(1, Math.floor((keptHeads * headWidthOf({ width, heads, headWidth })) / heads));
}

/** A configuration whose heads all stay, each with fewer channels. */
function innerConfig(config: VitConfig, { mlpWidth, keptHeads }: Widths): VitConfig {
  const narrowed = narrowedConfig(config, { mlpWidth });
  if (keptHeads === undefined) return narrowed;
  return withHeadCount(narrowed, config.heads, config.heads * innerWidth(config, keptHeads));
}

/** What a student by CORP is made of. */
export interface CorpContext {
  readonly teacher: Model;
  readonly kept: readonly number[];
  readonly widths: Widths;
  images(): AsyncIterable<FloatTensor>;
  readonly progress: (done: number, total: number) => void;
  readonly signal: AbortSignal;
}

/** The student. Throws an OptionError where heads can't be narrowed inside. */
export async function corpStudent(context: CorpContext): Promise<ModelDefinition> {
  const { teacher, kept, widths, images, progress, signal } = context;
  if (widths.keptHeads !== undefined && rotaryOf(teacher.config))
    throw new OptionError([
      (name) =>
        `The method corp can't narrow heads with rotary positions; give ${name("shape")} channels, so that all heads stay whole.`,
    ]);
  const student = copyBlocks(teacher, kept);
  const walk = { student, device: teacher.device, widths, narrowed: innerConfig, images: images(), progress };
  return walkBlocks(walk, { tokens: "whole", logits: true, attention: narrowInside(signal), mlp: narrowMlp });
}

/** Fewer channels in a block's MLP: the others are affine in those kept. */
async function narrowMlp(place: BlockPlace, count: number): Promise<ModelDefinition> {
  const { student, block } = place;
  const kept = keptByWanda(place, "channels", count);
  const refitted = await affine(place, "channels", kept);
  const narrowed = withChannels(student, block, kept);
  return { ...narrowed, weights: new Map([...narrowed.weights, ...refitted]) };
}

/** The map behind the units and its bias, for the inputs that stay. */
async function affine(
  { student, block, moments, solver }: BlockPlace,
  kind: keyof typeof consumers,
  inputs: readonly number[],
) {
  const [name, biasName] = [`${consumers[kind]}.weight`, `${consumers[kind]}.bias`];
  const { map, bias } = await affineMap(solver, moments, blockMap(student, block, name), inputs, ridgeShare);
  const before = blockMap(student, block, biasName);
  const shifted: FloatTensor = { ...before, data: before.data.map((value, i) => value + bias[i]) };
  return [
    [blockWeight(block, name), map],
    [blockWeight(block, biasName), shifted],
  ] as const;
}

/** All heads, each with fewer channels of queries, keys and values. */
const narrowInside: (signal: AbortSignal) => BlockRule["attention"] = (signal) => async (place, keptHeads, logits) => {
  if (!logits) throw new Error("moments of queries and keys were not taken");
  const { student, config, block } = place;
  const inner = innerWidth(config, keptHeads);
  const headWidth = headWidthOf(config);
  const fits: LogitFit[] = [];
  for (let head = 0; head < config.heads; head++) {
    const images = momentsOf(logits, head, config, place);
    const kept = keepLargest(logitEnergies(images, headWidth), inner);
    fits.push(await fitLogits(images, headWidth, kept, { share: ridgeShare, biased: config.qkvBias, signal }));
  }
  const scores = wandaInputs(place, "heads");
  const values = fits.flatMap((_, head) => {
    const from = head * headWidth;
    return keepLargest(scores.subarray(from, from + headWidth), inner).map((channel) => from + channel);
  });
  const refitted = await affine(place, "heads", values);
  const weights = new Map([...student.weights, ...refitted]);
  for (const name of ["attn.qkv.weight", ...(config.qkvBias ? ["attn.qkv.bias"] : [])])
    weights.set(blockWeight(block, name), narrowQkv(student, config, block, name, fits, values));
  return { ...student, weights };
};

/** One head's moments in each image. */
function momentsOf(logits: LogitMoments, head: number, config: VitConfig, { moments }: BlockPlace): HeadMoments[] {
  const d = headWidthOf(config);
  const images = logits.querySums.reduce((sum, { length }) => sum + length / (config.heads * d), 0);
  const tokens = moments.count / images;
  return logits.queries.flatMap((batch, b) =>
    Array.from({ length: batch.length / (config.heads * d * d) }, (_, image) => {
      const at = image * config.heads + head;
      const gram = ({ [b]: all }: readonly Float32Array[]) => all.subarray(at * d * d, (at + 1) * d * d);
      const sum = logits.querySums[b].subarray(at * d, (at + 1) * d);
      return headMoments(gram(logits.queries), sum, gram(logits.keys), tokens);
    }),
  );
}

/** The joint map of queries, keys and values, or its bias, for the narrowed heads. */
function narrowQkv(
  { weights }: ModelDefinition,
  config: VitConfig,
  block: number,
  name: string,
  fits: readonly LogitFit[],
  values: readonly number[],
): FloatTensor {
  const joint = required(weights, blockWeight(block, name));
  const [mixed, d] = [attentionWidth(config, block), headWidthOf(config)];
  const channels = fits.flatMap(({ kept }, head) => kept.map((channel) => head * d + channel));
  const rows = [...channels, ...channels.map((c) => mixed + c), ...values.map((c) => 2 * mixed + c)];
  const narrowed = chosenRows(joint, rows);
  const inner = fits[0].kept.length;
  // Scores are divided by the root of the heads' width, which is less than it was.
  const scale = Math.sqrt(inner / d);
  const columns = joint.data.length / joint.dims[0];
  const data = narrowed.data.slice();
  fits.forEach(({ fold }, head) => {
    const from = head * inner;
    for (let j = 0; j < inner; j++)
      for (let c = 0; c < columns; c++) {
        let sum = name.endsWith("bias") ? fold[inner * inner + j] : 0;
        for (let i = 0; i < inner; i++) sum += fold[i * inner + j] * narrowed.data[(from + i) * columns + c];
        data[(from + j) * columns + c] = scale * sum;
      }
  });
  return { ...narrowed, data };
}
