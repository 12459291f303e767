// The two graphs of a training step: loss and gradients of one micro-batch, and the optimizer's update.
import { gradients } from "../autograd/gradients.ts";
import { add, graph, input, mul } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { frozenWeights, vitForward } from "../models/vit.ts";
import { meanAbsoluteDifference } from "../nn/losses.ts";
import type { AdamWScalars } from "../optim/adamw.ts";
import { adamwUpdate } from "../optim/adamw.ts";
import type { AdapterPlan } from "./adapters.ts";
import { adaptedLinear, adapterInputs } from "./adapters.ts";
import type { DistillationOptions } from "./options.ts";

/** Names of the graphs' inputs and outputs that belong to a parameter. */
export const slot = {
  gradient: (name: string) => `gradient.${name}`,
  sum: (name: string) => `sum.${name}`,
  momentum: (name: string) => `momentum.${name}`,
  variance: (name: string) => `variance.${name}`,
  next: (name: string) => `next.${name}`,
} as const;

export interface GradientGraphOptions {
  readonly teacher: ModelDefinition;
  readonly student: ModelDefinition;
  readonly plan: AdapterPlan;
  readonly loss: DistillationOptions["loss"];
  /** Pictures of a micro-batch. */
  readonly batch: number;
  readonly accumulation: number;
}

/** The loss between the last blocks' outputs, before the final norm. */
function distillationLoss(loss: DistillationOptions["loss"], student: Value, teacher: Value): Value {
  switch (loss.kind) {
    case "l1":
      return meanAbsoluteDifference(student, teacher);
  }
}

/**
 * From pixels `[batch, 3, H, W]` and adapters to the loss and the adapters' gradients. With accumulation, the gradients
 * divided by the number of micro-batches are added to sums that come in. Teacher and student stand in one graph, so
 * that the embedding and what else is equal in front is computed once and weights are held once.
 */
export function gradientGraph(options: GradientGraphOptions): Graph {
  const { teacher, student, plan, batch, accumulation } = options;
  const { imageSize, channels } = teacher.config;
  const pixels = input("pixels", "float32", [batch, channels, imageSize, imageSize]);
  const adapters = adapterInputs(student.config, plan);
  const target = vitForward(teacher.config, frozenWeights(teacher.weights), pixels).hiddenStates;
  const reached = vitForward(
    student.config,
    frozenWeights(student.weights),
    pixels,
    adaptedLinear(adapters),
  ).hiddenStates;
  const loss = distillationLoss(options.loss, reached[student.config.depth], target[teacher.config.depth]);

  const names = [...adapters.keys()];
  const found = gradients(loss, [...adapters.values()]);
  const outputs = new Map<string, Value>([["loss", loss]]);
  const sums: Value[] = [];
  names.forEach((name, i) => {
    if (accumulation === 1) {
      outputs.set(slot.gradient(name), found[i]);
      return;
    }
    const sum = input(slot.sum(name), "float32", found[i].shape);
    sums.push(sum);
    outputs.set(slot.gradient(name), add(sum, mul(found[i], 1 / accumulation)));
  });
  return graph([pixels, ...adapters.values(), ...sums], outputs);
}

/** One AdamW update of all parameters; inputs and outputs are named by `slot`. */
export function optimizerGraph(
  shapes: ReadonlyMap<string, readonly number[]>,
  options: DistillationOptions["optimizer"],
): Graph {
  const scalar = (name: string) => input(name, "float32", []);
  const scalars: AdamWScalars = {
    learningRate: scalar("learningRate"),
    correction1: scalar("correction1"),
    correction2: scalar("correction2"),
  };
  const inputs: Value[] = Object.values(scalars);
  const outputs = new Map<string, Value>();
  for (const [name, dims] of shapes) {
    const tensor = (as: string) => {
      const value = input(as, "float32", dims);
      inputs.push(value);
      return value;
    };
    const state = {
      parameter: tensor(name),
      momentum: tensor(slot.momentum(name)),
      variance: tensor(slot.variance(name)),
    };
    const next = adamwUpdate(state, tensor(slot.gradient(name)), scalars, options);
    outputs.set(slot.next(name), next.parameter);
    outputs.set(slot.next(slot.momentum(name)), next.momentum);
    outputs.set(slot.next(slot.variance(name)), next.variance);
  }
  return graph(inputs, outputs);
}
