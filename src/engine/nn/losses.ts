// Losses between student and teacher features, and for classes. Each gives a scalar.
import {
  abs,
  add,
  div,
  exp,
  greater,
  log,
  logSoftmax,
  mul,
  neg,
  reduceMean,
  reduceSum,
  relu,
  softmax,
  sqrt,
  sub,
  where,
} from "../graph/build.ts";
import type { Value } from "../graph/graph.ts";

/** Mean absolute difference over all tokens and channels (the WeCoLoRA paper's equation 2). */
export function meanAbsoluteDifference(student: Value, teacher: Value): Value {
  return reduceMean(abs(sub(student, teacher)));
}

/** Mean squared difference over all tokens and channels. */
export function meanSquaredDifference(student: Value, teacher: Value): Value {
  const difference = sub(student, teacher);
  return reduceMean(mul(difference, difference));
}

/** Huber's loss over beta: d^2 / (2 beta) below beta, |d| - beta / 2 above (PyTorch's smooth_l1_loss). */
export function smoothAbsoluteDifference(student: Value, teacher: Value, beta: number): Value {
  const difference = sub(student, teacher);
  const size = abs(difference);
  const near = mul(mul(difference, difference), 0.5 / beta);
  return reduceMean(where(greater(beta, size), near, sub(size, beta / 2)));
}

/** 1 - cosine of each pair of tokens, averaged. */
export function cosineDistance(student: Value, teacher: Value): Value {
  const dot = (a: Value, b: Value) => reduceSum(mul(a, b), [-1]);
  const lengths = sqrt(mul(dot(student, student), dot(teacher, teacher)));
  return sub(1, reduceMean(div(dot(student, teacher), lengths)));
}

/** KL(p || q) of rows given as logarithms of q and as p with its logarithm, summed over the last axis, averaged. */
function divergence(p: Value, logP: Value, logQ: Value): Value {
  return reduceMean(reduceSum(mul(p, sub(logP, logQ)), [-1]));
}

/** KL(softmax(teacher) || softmax(student)) over channels, averaged over tokens. */
export function channelDivergence(student: Value, teacher: Value): Value {
  const logTeacher = logSoftmax(teacher);
  return divergence(exp(logTeacher), logTeacher, logSoftmax(student));
}

/** tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) of logits `[B, K]` (arXiv 1503.02531). */
export function softenedDivergence(student: Value, teacher: Value, temperature: number): Value {
  return mul(channelDivergence(mul(student, 1 / temperature), mul(teacher, 1 / temperature)), temperature ** 2);
}

/** Cross-entropy of `logits [B, K]` with `targets [B, K]` (rows that sum to 1), averaged over the rows. */
export function crossEntropy(logits: Value, targets: Value): Value {
  return reduceMean(neg(reduceSum(mul(logSoftmax(logits), targets), [-1])));
}

/** Binary cross-entropy of `logits` with `targets` of the same shape (0 or 1), averaged over all of them. */
export function binaryCrossEntropy(logits: Value, targets: Value): Value {
  // max(x, 0) - x t + log(1 + exp(-|x|)), which does not overflow.
  const tail = log(add(exp(neg(abs(logits))), 1));
  return reduceMean(add(sub(relu(logits), mul(logits, targets)), tail));
}

/** Cross-entropy of two sets of relations `[..., N, N]`, rows softened alike, averaged over all rows (MiniViT). */
export function relationCrossEntropy(student: Value, teacher: Value): Value {
  return crossEntropy(student, softmax(teacher));
}

/** Cross-entropy of `logits [B, K, H, W]` with one-hot `targets` of the same shape, averaged over the pixels. */
export function pixelCrossEntropy(logits: Value, targets: Value): Value {
  return reduceMean(neg(reduceSum(mul(logSoftmax(logits, 1), targets), [1])));
}

/**
 * 1 - Dice of the classes' probabilities with one-hot `targets [B, K, H, W]`, over all pixels of the batch, averaged
 * over the classes: 1 - (2 sum(p t) + s) / (sum(p^2) + sum(t^2) + s), as TransUNet (arXiv 2102.04306) computes it.
 */
export function diceLoss(logits: Value, targets: Value, smooth = 1e-5): Value {
  const p = softmax(logits, 1);
  const perClass = (x: Value) => reduceSum(x, [0, 2, 3]);
  const both = add(mul(perClass(mul(p, targets)), 2), smooth);
  const each = add(add(perClass(mul(p, p)), perClass(mul(targets, targets))), smooth);
  return sub(1, reduceMean(div(both, each)));
}

/** Sum of losses, each times its weight. */
export function weightedSum(losses: readonly (readonly [loss: Value, weight: number])[]): Value {
  return losses.map(([loss, weight]) => (weight === 1 ? loss : mul(loss, weight))).reduce((a, b) => add(a, b));
}
