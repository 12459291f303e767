// DeiT (arXiv 2012.12877): a distillation token learns the teacher's answer while the class token learns the labels.
import { at, equal, filled, input, reduceMax, where } from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import type { VitConfig } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { vitBlocks, vitForward, vitOutputs } from "../../models/vit.ts";
import { linear } from "../../engine/nn/layers.ts";
import { crossEntropy, softenedDivergence, weightedSum } from "../../engine/nn/losses.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { zeros } from "../../utils/tensor.ts";
import { randomWeight } from "../starts.ts";
import type { Objective } from "./objective.ts";
import { withoutExtras } from "./objective.ts";
import { z } from "zod";
import type { WeightRole } from "../../models/weight-table.ts";
import { isBehindFeatures, weightKind } from "../../models/weight-table.ts";
import { weightTrainables } from "../training/weights-trainables.ts";
import { defineMethod } from "./method.ts";
import { required } from "../../utils/required.ts";

/** Soft distillation's temperature and weight (the paper's table 4: tau 3, lambda 0.1). */
const temperature = 3;
const lambda = 0.1;

/** The student with a distillation token and a head on either token, both new. */
export function deitStudent(student: ModelDefinition, seed: number): ModelDefinition {
  const { config } = student;
  if (!config.head)
    throw new UserError("deit learns the teacher's answers: it needs a teacher with a classification head", {
      code: "INVALID_OPTION",
    });
  if (config.prefix[0]?.weight !== "cls_token")
    throw new UserError("deit needs a teacher with a class token", { code: "INVALID_OPTION" });
  if (config.prefix.some(({ weight }) => weight === "reg_token")) {
    throw new UserError("deit's distillation token has no place beside registers", { code: "INVALID_OPTION" });
  }
  const { width } = config;
  const next: VitConfig = {
    ...config,
    prefix: [
      { weight: "cls_token", count: 1 },
      { weight: "dist_token", count: 1 },
    ],
    positions:
      config.positions.kind === "learned"
        ? { kind: "learned", prefix: Math.min(1, config.positions.prefix) }
        : config.positions,
    pooler: false,
    head: { ...config.head, input: "class+distillation" },
  };
  const weights = new Map(student.weights);
  const fresh = (name: string, shape: readonly number[], role: WeightRole) =>
    weights.set(name, randomWeight({ name, shape, role }, seed));
  if (!weights.has("dist_token")) fresh("dist_token", [1, 1, width], "token");
  for (const head of ["head", "head_dist"]) {
    fresh(`${head}.weight`, [config.head.classes, width], "map");
    weights.set(`${head}.bias`, zeros([config.head.classes]));
  }
  for (const part of ["weight", "bias"]) weights.delete(`pooler.dense.${part}`);
  return { ...student, config: next, weights };
}

/**
 * Hard (equation 3): half of CE(class head, label) + half of CE(distillation head, the teacher's answer).
 * Soft (equation 2): (1 - lambda) CE(class head, label) + lambda tau^2 KL(teacher || distillation head) at tau.
 */
export function deitObjective(hard: boolean, classes: number): Objective {
  return {
    ...withoutExtras,
    inputs: (batch) => new Map([["labels", input("labels", "float32", [batch, classes])]]),
    feeds: ({ batch, labels }) => ({ labels: oneHot(labels, batch, classes) }),
    loss({ pixels, teacher, student, inputs }) {
      const { logits: answer } = vitForward(teacher.definition.config, teacher.weight, pixels);
      const { config } = student.definition;
      const states = vitBlocks(config, student.weight, student.embedded, student.map);
      const tokens = vitOutputs(config, student.weight, states[config.depth]).lastHiddenState;
      const head = (token: number, name: string) =>
        linear(at(tokens, 1, token), {
          weight: student.weight(`${name}.weight`),
          bias: student.weight(`${name}.bias`),
        });
      const [onLabels, onTeacher] = [head(0, "head"), head(1, "head_dist")];
      const truth = crossEntropy(onLabels, required(inputs, "labels"));
      const teacherLogits = answer as Value;
      return hard
        ? weightedSum([
            [truth, 0.5],
            [crossEntropy(onTeacher, hardAnswer(teacherLogits)), 0.5],
          ])
        : weightedSum([
            [truth, 1 - lambda],
            [softenedDivergence(onTeacher, teacherLogits, temperature), lambda],
          ]);
    },
  };
}

/** 1 where a logit is its row's highest, 0 elsewhere: `[B, K]`. */
function hardAnswer(logits: Value): Value {
  return where(equal(logits, reduceMax(logits, [-1], true)), filled(logits, 1), filled(logits, 0));
}

function oneHot(labels: readonly number[] | undefined, batch: number, classes: number): FloatTensor {
  if (!labels || labels.length !== batch)
    throw new UserError("deit needs a label for each image: class folders, named as the teacher's classes", {
      code: "INVALID_OPTION",
    });
  const out = zeros([batch, classes]);
  labels.forEach((label, i) => {
    if (!(label >= 0 && label < classes))
      throw new UserError(`The label ${label} is none of the teacher's ${classes} classes`, { code: "INVALID_OPTION" });
    out.data[i * classes + label] = 1;
  });
  return out;
}

export const method = defineMethod({
  name: "deit",
  summary: "random weights and a distillation token; learns labels and the teacher's answers (arXiv 2012.12877)",
  options: {
    softLabels: z.boolean().default(false).describe("deit: learn the teacher's probabilities, not its answer"),
  },
  start: "random",
  trains: true,
  needsLabels: true,
  student: (started, { options }) => deitStudent(started, options.seed),
  trainables: (student) =>
    weightTrainables(student, (name) => !isBehindFeatures(name) || weightKind(name)?.part === "head"),
  objective: (student, { options }) => deitObjective(!options.softLabels, student.config.head?.classes ?? 0),
});
