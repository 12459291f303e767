// How much a cut in one block changes what the whole model gives, on a few images.
import { compile } from "../../engine/compile.ts";
import { graph, input } from "../../engine/graph/build.ts";
import { tokenCount } from "../../models/config.ts";
import type { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { frozenWeights, vitOutputs } from "../../models/vit.ts";
import type { Session } from "../../runtime/device.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { rows } from "../../utils/tensor.ts";
import type { Passes, Stream, TokenName } from "../closed-form/refit-passes.ts";
import { tokensOf } from "../closed-form/refit-passes.ts";

/**
 * How an error behind a block counts: `none`: as it is; `tokens`: relative to the tokens there; `pooled`: by the squared change of the
 * pooled vector at unit length, measured; `last`: by the relative squared change of the last block's tokens, measured.
 */
export const effectMeasures = ["none", "tokens", "pooled", "last"] as const;
export type EffectMeasure = (typeof effectMeasures)[number];

/** What the whole teacher gives for some batches, and a session that gives it of last tokens. */
export interface ModelOutputs {
  readonly streams: readonly Stream[];
  readonly whole: readonly Given[];
  readonly last: Session;
  release(): Promise<void>;
}

interface Given {
  /** `[B, N, D]`, behind the last block. */
  readonly tokens: FloatTensor;
  /** `[B, D]` */
  readonly pooled: FloatTensor;
}

const namesOf = ["student"] as const satisfies readonly TokenName[];

/** Copies of the batches' places, so that what is moved through blocks replaces no tokens of theirs. */
const placesOf = (streams: readonly Stream[]): Stream[] =>
  streams.map((stream) => ({
    tokens: new Map(namesOf.map((name) => [name, tokensOf(stream, name)])),
    aside: false,
  }));

/** Where tokens stand: before a block, or between its attention and its MLP. */
export interface Place {
  readonly block: number;
  readonly attended: boolean;
}

/** Moves batches on from a place, and gives what the model gives. The tokens that were given stay. */
async function through(
  passes: Passes,
  model: ModelDefinition,
  streams: readonly Stream[],
  from: Place,
  last: Session,
): Promise<Given[]> {
  const moving = placesOf(streams).map((place, i): Stream => {
    // Held under both names, so that the batch's own tokens outlive the first block.
    place.tokens.set("first", tokensOf(streams[i], "student"));
    return place;
  });
  for (let { block } = from; block < model.config.depth; block++) {
    if (block > from.block || !from.attended) {
      await passes.move("attention", moving, { model, block });
      await passes.move("attended", moving, { model, block });
      await passes.drop(moving, "mixed");
    }
    await passes.move("mlp", moving, { model, block });
  }
  const given: Given[] = [];
  for (const place of moving) {
    const tokens = tokensOf(place, "student");
    const { tensors } = await last.run({ feeds: { tokens }, fetch: ["pooled"] });
    given.push({
      tokens: (await passes.device.download(tokens)) as FloatTensor,
      pooled: tensors.pooled as FloatTensor,
    });
    if (tokens !== place.tokens.get("first")) await passes.device.release([tokens]);
  }
  return given;
}

/** What the whole teacher gives for batches of tokens that enter block 0. */
export async function blockOutputs(passes: Passes, teacher: Model, streams: readonly Stream[]): Promise<ModelOutputs> {
  const { config, weights, device } = teacher;
  const tokens = input("tokens", "float32", ["batch", tokenCount(config), config.width]);
  const { pooled } = vitOutputs(config, frozenWeights(weights), tokens);
  const last = await compile(graph([tokens], { pooled }), device);
  return {
    streams,
    whole: await through(passes, teacher, streams, { block: 0, attended: false }, last),
    last,
    release: () => last.dispose(),
  };
}

/**
 * What a squared error of 1 a token behind a block counts, in each measure, from a student that is cut there alone and makes an
 * error of `error`. The batches stand at a place in the block, before what is cut.
 */
export async function changeOf(
  passes: Passes,
  student: ModelDefinition,
  from: Place,
  { streams, whole, last }: ModelOutputs,
  error: number,
): Promise<Record<EffectMeasure, number>> {
  const cut = await through(passes, student, streams, from, last);
  let [pooled, tokens, images] = [0, 0, 0];
  cut.forEach((given, i) => {
    pooled += unitChange(given.pooled, whole[i].pooled);
    tokens += relativeChange(given.tokens, whole[i].tokens) * given.pooled.dims[0];
    images += given.pooled.dims[0];
  });
  const entering = await variance(passes, streams);
  const of = (change: number) => (error > 0 ? change / images / error : 0);
  return { none: 1, tokens: entering > 0 ? 1 / entering : 0, pooled: of(pooled), last: of(tokens) };
}

/** Sum over rows of the squared distance of both at unit length. */
function unitChange(a: FloatTensor, b: FloatTensor): number {
  let sum = 0;
  for (let row = 0; row < a.dims[0]; row++) {
    const [x, y] = [rows(a, row, row + 1).data, rows(b, row, row + 1).data];
    let [xx, yy, xy] = [0, 0, 0];
    x.forEach((v, i) => {
      xx += v * v;
      yy += y[i] * y[i];
      xy += v * y[i];
    });
    sum += 2 - (2 * xy) / Math.sqrt(xx * yy);
  }
  return sum;
}

/** Squared difference over squared size. */
function relativeChange(a: FloatTensor, b: FloatTensor): number {
  let [difference, size] = [0, 0];
  a.data.forEach((v, i) => {
    difference += (v - b.data[i]) ** 2;
    size += b.data[i] ** 2;
  });
  return difference / size;
}

/** The tokens' squared size about their mean, a token. */
async function variance(passes: Passes, streams: readonly Stream[]): Promise<number> {
  let [sum, count] = [0, 0];
  for (const stream of streams) {
    const { data, dims } = (await passes.device.download(tokensOf(stream, "student"))) as FloatTensor;
    const width = dims[2];
    const mean = new Float64Array(width);
    data.forEach((v, i) => (mean[i % width] += v));
    const each = data.length / width;
    data.forEach((v, i) => (sum += (v - mean[i % width] / each) ** 2));
    count += each;
  }
  return sum / count;
}
