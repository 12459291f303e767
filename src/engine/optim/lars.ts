// LARS (arXiv 1708.03888), as the linear probes of MAE and its followers use it.
import { add, div, greater, mul, reduceSum, sqrt, sub, where } from "../graph/build.ts";
import type { Value } from "../graph/graph.ts";

export interface LarsOptions {
  readonly momentum: number;
  /** The trust coefficient. */
  readonly trust: number;
  readonly weightDecay: number;
}

export interface LarsState {
  readonly parameter: Value;
  readonly momentum: Value;
}

const norm = (x: Value): Value => sqrt(reduceSum(mul(x, x)));

/** One update; vectors get neither weight decay nor trust scaling. */
export function larsUpdate(state: LarsState, gradient: Value, learningRate: Value, options: LarsOptions): LarsState {
  const { parameter } = state;
  let step = gradient;
  if (parameter.shape.length >= 2) {
    if (options.weightDecay !== 0) step = add(step, mul(parameter, options.weightDecay));
    const [weightNorm, stepNorm] = [norm(parameter), norm(step)];
    const ratio = div(mul(weightNorm, options.trust), where(greater(stepNorm, 0), stepNorm, 1));
    const scale = where(greater(stepNorm, 0), where(greater(weightNorm, 0), ratio, 1), 1);
    step = mul(step, scale);
  }
  const momentum = add(mul(state.momentum, options.momentum), step);
  return { parameter: sub(parameter, mul(momentum, learningRate)), momentum };
}
