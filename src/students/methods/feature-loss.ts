// The student's features near the teacher's (the paper's section 3.3), by one loss or several that add up.
import { mul, slice, stopGradient } from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import { finalNorm, vitBlock, vitBlocks } from "../../models/vit.ts";
import {
  channelDivergence,
  cosineDistance,
  meanAbsoluteDifference,
  meanSquaredDifference,
  smoothAbsoluteDifference,
  weightedSum,
} from "../../engine/nn/losses.ts";
import type { FeatureLoss } from "../base-options.ts";
import { stoodFor } from "../kept-blocks.ts";
import type { Objective, ObjectiveContext } from "./objective.ts";
import { withoutExtras } from "./objective.ts";

function distance(loss: FeatureLoss, student: Value, teacher: Value): Value {
  switch (loss.kind) {
    case "l1":
      return meanAbsoluteDifference(student, teacher);
    case "mse":
      return meanSquaredDifference(student, teacher);
    case "smooth-l1":
      return smoothAbsoluteDifference(student, teacher, loss.beta);
    case "cosine":
      return cosineDistance(student, teacher);
    case "l1+kl":
      return weightedSum([
        [meanAbsoluteDifference(student, teacher), 0.5],
        [channelDivergence(student, teacher), 0.5],
      ]);
  }
}

/** `[B, 1, D]` or all tokens. */
const tokensOf = (loss: FeatureLoss, x: Value) => (loss.tokens === "class" ? slice(x, 1, 0, 1) : x);

/** The teacher's states that losses compare with. */
function targetsOf(losses: readonly FeatureLoss[], kept: readonly number[], depth: number): number[] {
  const all = losses.some(({ blocks }) => blocks === "all") ? stoodFor(kept, depth).map((block) => block + 1) : [];
  return [...new Set([...all, depth])].sort((a, b) => a - b);
}

/** What each block `[B, N, D]` gives; no gradient goes from one to the block before. */
function statesApart({ student }: ObjectiveContext): Value[] {
  const { config } = student.definition;
  const states = [student.embedded];
  for (let i = 0; i < config.depth; i++)
    states.push(vitBlock(config, student.weight, i, stopGradient(states[i]), student.map));
  return states;
}

/** The weighted sum of feature losses; `kept` are those of the teacher's `depth` blocks that the student's stand for. */
export function featureObjective(losses: readonly FeatureLoss[], kept: readonly number[], depth: number): Objective {
  return {
    ...withoutExtras,
    targets: targetsOf(losses, kept, depth),
    loss(context: ObjectiveContext) {
      const { teacher, student, checkpoint } = context;
      const [large, small] = [teacher.definition.config, student.definition.config];
      const through = vitBlocks(small, student.weight, student.embedded, student.map);
      const apart = losses.some(({ gradients }) => gradients === "block") ? statesApart(context) : undefined;
      if (!apart) checkpoint(through);
      const parts = losses.map((loss): readonly [Value, number] => {
        const reached = loss.gradients === "block" && apart ? apart : through;
        const pairs = () =>
          stoodFor(kept, depth).map((block, j) => [reached[j + 1], teacher.state(block + 1)] as const);
        const compared = loss.blocks === "all" ? pairs() : [[reached[small.depth], teacher.state(depth)] as const];
        const distances = compared.map(([s, t]) => {
          const after = loss.norm === "after";
          const a = after ? finalNorm(small, student.weight, s) : s;
          const b = after ? finalNorm(large, teacher.weight, t) : t;
          return distance(loss, tokensOf(loss, a), tokensOf(loss, b));
        });
        const sum = weightedSum(distances.map((d) => [d, 1]));
        return [distances.length === 1 ? sum : mul(sum, 1 / distances.length), loss.weight];
      });
      return weightedSum(parts);
    },
  };
}
