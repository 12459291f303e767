// DMAE (arXiv 2208.12256): teacher and student see a quarter of the patches; the student rebuilds the others through a
// small decoder, while its features at three quarters of its depth are brought near the teacher's at three quarters.
import {
  abs,
  add,
  cast,
  concat,
  constant,
  div,
  input,
  matmul,
  mul,
  reduceMean,
  reduceSum,
  reshape,
  slice,
  sqrt,
  sub,
  transpose,
  transposeLast,
} from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import type { VitConfig } from "../../models/config.ts";
import { patchCount, plainVit, prefixCount } from "../../models/config.ts";
import type { WeightRole } from "../../models/weight-table.ts";
import { weightTable } from "../../models/weight-table.ts";
import type { WeightLookup } from "../../models/vit.ts";
import { embed, finalNorm, vitBlocks } from "../../models/vit.ts";
import { linear } from "../../engine/nn/layers.ts";
import { meanAbsoluteDifference, weightedSum } from "../../engine/nn/losses.ts";
import { UserError } from "../../utils/errors.ts";
import { randomStream } from "../../utils/random.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { zeros } from "../../utils/tensor.ts";
import { randomWeight } from "../starts.ts";
import type { Objective } from "./objective.ts";
import { z } from "zod";
import { defineMethod } from "./method.ts";
import { backbone } from "./parts.ts";
import { required } from "../../utils/required.ts";

/** Weight of the features' part (the paper's alpha). */
const featureWeight = 1;
/** The decoder: blocks, and the most channels that it has. */
const decoderDepth = 1;
const decoderWidth = 192;
const headWidth = 32;

/** The block after which features are compared: three quarters of the depth (the paper's table 2). */
const comparedBlock = (depth: number) => Math.max(1, Math.round((3 * depth) / 4));

function decoderConfig({ width, patchSize, imageSize }: VitConfig): VitConfig {
  const narrow = Math.min(decoderWidth, Math.max(headWidth, Math.floor(width / 2 / headWidth) * headWidth));
  return {
    ...plainVit,
    imageSize,
    patchSize,
    channels: 3,
    width: narrow,
    depth: decoderDepth,
    heads: narrow / headWidth,
    mlpWidth: 4 * narrow,
    normEpsilon: 1e-6,
  };
}

const prefix = "decoder.";

/** `maskRatio` of the patches is hidden from both models; `config` is the student's. */
export function dmaeObjective(config: VitConfig, maskRatio: number, seed: number): Objective {
  if (config.positions.kind !== "learned")
    throw new UserError("dmae needs a model with a position table", { code: "INVALID_OPTION" });
  const patches = patchCount(config);
  const front = prefixCount(config);
  const seen = Math.max(1, Math.round(patches * (1 - maskRatio)));
  const decoder = decoderConfig(config);
  const pixelsPerPatch = 3 * config.patchSize ** 2;
  const extra: [string, readonly number[], WeightRole][] = [
    ["embed.weight", [decoder.width, config.width], "map"],
    ["embed.bias", [decoder.width], "bias"],
    ["mask_token", [1, 1, decoder.width], "token"],
    ["predict.weight", [pixelsPerPatch, decoder.width], "map"],
    ["predict.bias", [pixelsPerPatch], "bias"],
    ["project.weight", [config.width, config.width], "map"],
    ["project.bias", [config.width], "bias"],
  ];
  const rows = [
    ...extra.map(([name, shape, role]) => ({ name, shape, role })),
    ...weightTable(decoder).filter(({ part }) => part === "block" || part === "norm"),
  ].map(({ name, shape, role }) => ({ name: prefix + name, shape, role }));
  const shapes = new Map(rows.map(({ name, shape }) => [name, shape]));
  return {
    shapes,
    fresh: () => new Map(rows.map((row) => [row.name, randomWeight(row, seed)])),
    inputs: (batch) => new Map([["visible", input("visible", "float32", [batch, seen, patches])]]),
    feeds: ({ batch, step, part }) => ({ visible: drawVisible(batch, patches, seen, seed, step, part) }),
    loss({ pixels, teacher, student, parameters, inputs }) {
      const visible = required(inputs, "visible");
      const large = teacher.definition.config;
      const choose = (tokens: Value) => selectTokens(tokens, visible, front);
      const target = vitBlocks(
        large,
        teacher.weight,
        choose(embed(large, teacher.weight, pixels)),
        undefined,
        comparedBlock(large.depth),
      ).at(-1) as Value;
      const states = vitBlocks(config, student.weight, choose(student.embedded), student.map);
      const parameter: WeightLookup = (name) => required(parameters, prefix + name);
      const dense = (name: string) => ({ weight: parameter(`${name}.weight`), bias: parameter(`${name}.bias`) });
      const compared = linear(states[comparedBlock(config.depth)], dense("project"));
      const code = linear(finalNorm(config, student.weight, states[config.depth]), dense("embed"));
      const rebuilt = rebuild(decoder, parameter, code, visible, front);
      const hiddenShare = sub(1, reduceSum(visible, [1])); // [B, patches]: 1 where a patch was hidden
      const error = patchError(linear(rebuilt, dense("predict")), patchPixels(pixels, config.patchSize), hiddenShare);
      return weightedSum([
        [error, 1],
        [meanAbsoluteDifference(compared, target), featureWeight],
      ]);
    },
  };
}

/** One-hot rows of the patches that are seen: `[B, seen, patches]`. */
function drawVisible(
  batch: number,
  patches: number,
  seen: number,
  seed: number,
  step: number,
  part: number,
): FloatTensor {
  const out = zeros([batch, seen, patches]);
  const random = randomStream(seed, "mask", step, part);
  const all = Array.from({ length: patches }, (_, i) => i);
  for (let b = 0; b < batch; b++) {
    random
      .shuffle(all)
      .slice(0, seen)
      .forEach((patch, i) => {
        out.data[(b * seen + i) * patches + patch] = 1;
      });
  }
  return out;
}

/** The tokens in front and the visible patches: `[B, front + seen, D]`. */
function selectTokens(tokens: Value, visible: Value, front: number): Value {
  const count = tokens.shape[1] as number;
  const chosen = matmul(visible, slice(tokens, 1, front, count));
  return front > 0 ? concat([slice(tokens, 1, 0, front), chosen], 1) : chosen;
}

/** The decoder's patches `[B, patches, d]`: visible ones in their places, the mask token in the others, then blocks. */
function rebuild(decoder: VitConfig, weight: WeightLookup, code: Value, visible: Value, front: number): Value {
  const placed = matmul(transposeLast(visible), slice(code, 1, front, code.shape[1] as number));
  const [batch, patches] = [placed.shape[0], placed.shape[1] as number];
  const hidden = reshape(sub(1, reduceSum(visible, [1])), [batch, patches, 1]);
  const filled = add(
    add(placed, mul(hidden, weight("mask_token"))),
    cast(constant(sineTable(patches, decoder.width)), placed.type),
  );
  return finalNorm(decoder, weight, vitBlocks(decoder, weight, filled).at(-1) as Value);
}

/** Fixed positions of the decoder: sines and cosines of row and column, a quarter of the channels each (as in MAE). */
function sineTable(patches: number, width: number): FloatTensor {
  const side = Math.round(Math.sqrt(patches));
  const table = zeros([1, patches, width]);
  const quarter = width / 4;
  for (let p = 0; p < patches; p++) {
    for (let i = 0; i < quarter; i++) {
      const frequency = 1 / 10_000 ** (i / quarter);
      const [row, column] = [Math.floor(p / side) * frequency, (p % side) * frequency];
      [Math.sin(column), Math.cos(column), Math.sin(row), Math.cos(row)].forEach((v, k) => {
        table.data[p * width + k * quarter + i] = v;
      });
    }
  }
  return table;
}

/** `[B, 3, H, W] -> [B, patches, p * p * 3]` */
function patchPixels(pixels: Value, patch: number): Value {
  const [b, c, height, width] = pixels.shape as [Value["shape"][number], number, number, number];
  const [rows, columns] = [Math.floor(height / patch), Math.floor(width / patch)];
  const whole = slice(slice(pixels, 2, 0, rows * patch), 3, 0, columns * patch);
  const cut = transpose(reshape(whole, [b, c, rows, patch, columns, patch]), [0, 2, 4, 3, 5, 1]);
  return reshape(cut, [b, rows * columns, patch * patch * c]);
}

/** Mean squared error over the hidden patches, each patch's pixels normalised by their own mean and variance (MAE). */
function patchError(predicted: Value, target: Value, hidden: Value): Value {
  const centred = sub(target, reduceMean(target, [-1], true));
  const variance = reduceMean(mul(centred, centred), [-1], true);
  const difference = sub(predicted, div(centred, sqrt(add(variance, 1e-6))));
  return div(reduceSum(mul(reduceMean(mul(difference, difference), [-1]), hidden)), reduceSum(abs(hidden)));
}

export const method = defineMethod({
  name: "dmae",
  summary: "random weights; reconstructs masked patches, with features close to the teacher's (arXiv 2208.12256)",
  options: {
    maskRatio: z.number().min(0).lt(1).default(0.75).describe("dmae: share of the patches that are masked"),
  },
  start: "random",
  trains: true,
  trainables: backbone,
  objective: (student, { options }) => dmaeObjective(student.config, options.maskRatio, options.seed),
});
