// Losses between student and teacher features, and for probes. Each gives a scalar.
import { abs, logSoftmax, mul, neg, reduceMean, reduceSum, sub } from "../graph/build.ts";
import type { Value } from "../graph/types.ts";

/** Mean absolute difference over all tokens and channels (the WeCoLoRA paper's equation 2). */
export function meanAbsoluteDifference(student: Value, teacher: Value): Value {
  return reduceMean(abs(sub(student, teacher)));
}

/** Cross-entropy of `logits [B, K]` with `targets [B, K]` (rows that sum to 1), averaged over the rows. */
export function crossEntropy(logits: Value, targets: Value): Value {
  return reduceMean(neg(reduceSum(mul(logSoftmax(logits), targets), [-1])));
}
