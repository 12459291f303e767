// MiniViT (arXiv 2204.07154): groups of blocks share one set of maps; each block has small transformations of its own.
import { matmul, mul, softmax, transposeLast } from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import type { VitConfig } from "../../models/config.ts";
import { splitBlockName, weightKind } from "../../models/weight-table.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { LinearMap, WeightLookup } from "../../models/vit.ts";
import { blockQueries, vitForward } from "../../models/vit.ts";
import { splitHeads } from "../../engine/nn/layers.ts";
import { crossEntropy, relationCrossEntropy, weightedSum } from "../../engine/nn/losses.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { zeros } from "../../utils/tensor.ts";
import type { Objective } from "./objective.ts";
import { withoutExtras } from "./objective.ts";
import { OptionError } from "../../utils/errors.ts";

import { defaultReductionFactor } from "../base-options.ts";
import { defineMethod } from "./method.ts";
import { backbone } from "./parts.ts";

/** Weights of the losses on attention and hidden states (the paper's section 3.3: beta 1, gamma 0.1). */
const attentionWeight = 1;
const hiddenWeight = 0.1;

/**
 * The teacher with the maps of every group of `factor` blocks replaced by those of its first; norms stay, and the
 * transformations begin as identities. As deep as the teacher, with 1/factor of its maps.
 */
export function sharedStudent(teacher: ModelDefinition, factor: number): ModelDefinition {
  const config: VitConfig = { ...teacher.config, sharing: { factor } };
  const weights = new Map<string, FloatTensor>();
  for (const [name, tensor] of teacher.weights) {
    const block = splitBlockName(name)?.block ?? 0;
    const role = weightKind(name)?.role;
    if (block % factor === 0 || role === "norm" || role === "norm-bias") weights.set(name, tensor);
  }
  for (let i = 0; i < config.depth; i++) {
    weights.set(`blocks.${i}.attn.mix_scores`, identity(config.heads));
    weights.set(`blocks.${i}.attn.mix_weights`, identity(config.heads));
    const conv = zeros([config.width, 9]);
    for (let d = 0; d < config.width; d++) conv.data[9 * d + 4] = 1;
    weights.set(`blocks.${i}.mlp.conv`, conv);
  }
  return { ...teacher, config, weights };
}

function identity(size: number): FloatTensor {
  const tensor = zeros([size, size]);
  for (let i = 0; i < size; i++) tensor.data[i * size + i] = 1;
  return tensor;
}

/** Inner products of tokens `[B, N, N]` or, per head, `[B, H, N, N]`, over the root of their width (equations 11, 13). */
function relations(a: Value, b: Value): Value {
  return mul(matmul(a, transposeLast(b)), (a.shape.at(-1) as number) ** -0.5);
}

interface Side {
  readonly config: VitConfig;
  readonly weight: WeightLookup;
  readonly map?: LinearMap;
  readonly states: readonly Value[];
}

/** Queries, keys and values of the last block, by head. */
function lastQueries({ config, weight, map, states }: Side): Value[] {
  const last = config.depth - 1;
  return blockQueries(config, weight, last, states[last], map).map((x) => splitHeads(x, config.heads));
}

/**
 * L = CE(student's logits, teacher's probabilities), where there is a head
 *   + beta / 9 sum over pairs of q, k, v of CE(relations of the student's, of the teacher's) (equation 12)
 *   + gamma CE(relations of hidden states) (equation 14), both of the last block.
 */
export function minivitObjective(): Objective {
  return {
    ...withoutExtras,
    loss({ pixels, teacher, student }) {
      const large = vitForward(teacher.definition.config, teacher.weight, pixels);
      const { config } = student.definition;
      const small = vitForward(config, student.weight, pixels, student.map);
      const t = lastQueries({ config: teacher.definition.config, weight: teacher.weight, states: large.hiddenStates });
      const s = lastQueries({ ...student, config, states: small.hiddenStates });
      const pairs = [0, 1, 2].flatMap((i) => [0, 1, 2].map((j) => [i, j] as const));
      const attention = pairs.map(([i, j]): readonly [Value, number] => [
        relationCrossEntropy(relations(s[i], s[j]), relations(t[i], t[j])),
        attentionWeight / pairs.length,
      ]);
      const [hs, ht] = [small.hiddenStates[config.depth], large.hiddenStates[teacher.definition.config.depth]];
      const hidden = relationCrossEntropy(relations(hs, hs), relations(ht, ht));
      const prediction: [Value, number][] =
        small.logits && large.logits ? [[crossEntropy(small.logits, softmax(large.logits)), 1]] : [];
      return weightedSum([...prediction, ...attention, [hidden, hiddenWeight]]);
    },
  };
}

export const method = defineMethod({
  name: "minivit",
  summary: "maps shared by groups of blocks, small transformations per block (arXiv 2204.07154)",
  options: {},
  start: "weight-copy",
  trains: true,
  student(_, { teacher, options }) {
    if (options.start !== undefined && options.start !== "weight-copy")
      throw new OptionError([
        (name) => `The method minivit takes no ${name("start")}: it starts from the teacher's own blocks.`,
      ]);
    if (options.keptBlocks)
      throw new OptionError([
        (name) => `The method minivit takes no ${name("keptBlocks")}: it shares weights by ${name("reductionFactor")}.`,
      ]);
    if (teacher.config.blocks)
      throw new OptionError([
        (name) =>
          `The method minivit shares maps between blocks, and those of ${name("teacher")} differ in heads or MLP channels.`,
      ]);
    return sharedStudent(teacher, options.reductionFactor ?? defaultReductionFactor);
  },
  trainables: backbone,
  objective: () => minivitObjective(),
});
