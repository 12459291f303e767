// AdamW (arXiv 1711.05101, algorithm 2) as graph updates, in PyTorch's order of operations.
import { add, div, mul, sqrt, sub } from "../graph/build.ts";
import type { Value } from "../graph/graph.ts";

export interface AdamWOptions {
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
}

/** Scalars that change with the step; inputs of the graph. */
export interface AdamWScalars {
  /** lr of this step. */
  readonly learningRate: Value;
  /** 1 - beta1^t, t counted from 1. */
  readonly correction1: Value;
  /** sqrt(1 - beta2^t). */
  readonly correction2: Value;
}

export interface AdamWState {
  readonly parameter: Value;
  readonly momentum: Value;
  readonly variance: Value;
}

/** Names of the inputs and outputs of a graph that hold a parameter's state, and the next of either. */
export const adamwSlots = {
  momentum: (name: string) => `momentum.${name}`,
  variance: (name: string) => `variance.${name}`,
  next: (name: string) => `next.${name}`,
} as const;

/** One update. Weight decay acts on matrices only: biases, norms and other vectors have none. */
export function adamwUpdate(
  state: AdamWState,
  gradient: Value,
  scalars: AdamWScalars,
  options: AdamWOptions,
): AdamWState {
  const [beta1, beta2] = options.betas;
  const decays = options.weightDecay !== 0 && state.parameter.shape.length >= 2;
  const parameter = decays
    ? mul(state.parameter, sub(1, mul(scalars.learningRate, options.weightDecay)))
    : state.parameter;
  const momentum = add(mul(state.momentum, beta1), mul(gradient, 1 - beta1));
  const variance = add(mul(state.variance, beta2), mul(mul(gradient, gradient), 1 - beta2));
  const denominator = add(div(sqrt(variance), scalars.correction2), options.eps);
  const step = mul(div(momentum, denominator), div(scalars.learningRate, scalars.correction1));
  return { parameter: sub(parameter, step), momentum, variance };
}

/** The scalars of step `t` (from 1) as numbers. */
export function adamwScalars(
  t: number,
  learningRate: number,
  [beta1, beta2]: readonly [number, number],
): Record<keyof AdamWScalars, number> {
  return { learningRate, correction1: 1 - beta1 ** t, correction2: Math.sqrt(1 - beta2 ** t) };
}
