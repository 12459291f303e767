// A start in closed form: block by block, the student's maps are refitted so that each block gives what the last of the
// teacher's blocks that it stands for gives, for the tokens that really enter it (errors made so far included). Related:
// ReplaceMe (arXiv 2505.02819), which fits one map for a run of dropped blocks, and PRACTISE.
import type { Model } from "../model.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { keptChannels, narrowedSums, narrowWidth, withChannels } from "./narrowing.ts";
import type { Stream, Summed } from "./refit-passes.ts";
import { advanceTeacher, embedAll, Passes, sumUp, tokensOf } from "./refit-passes.ts";
import type { Sums } from "./ridge.ts";
import { meanDiagonal, RidgeSolver } from "./ridge.ts";
import { copyBlocks, stoodFor } from "./weight-copy.ts";

export interface AnalyticOptions {
  /** Refit the attention's output map too, before the MLP's. */
  readonly attention: boolean;
  /** Ridges to try in this order, in units of the mean of the normal equations' diagonal, until one helps. */
  readonly ridges: readonly number[];
  /** The share of its solution that the attention's map moves by. */
  readonly attentionStep: number;
  /**
   * Tokens that a map is fitted on for each number that enters it, about: every so many tokens are taken, so that sums cost
   * the same whatever the number of pictures. Infinity takes all.
   */
  readonly tokensPerUnknown: number;
  /** Channels that each block's MLP keeps: a count, or a share below 1; all where left out. */
  readonly mlpWidth?: number;
}

export const analyticDefaults: AnalyticOptions = {
  attention: true,
  ridges: [0.1, 1],
  attentionStep: 0.5,
  tokensPerUnknown: 5,
};

/** What was found for one map. */
export interface Refit {
  readonly block: number;
  readonly map: RefitMap;
  /** The ridge that was taken; undefined where no change did better on pictures that it was not fitted on. */
  readonly ridge?: number;
  /** What is left of the block's mean absolute difference to its target, on these pictures. */
  readonly share: number;
}

export interface AnalyticStart {
  readonly student: ModelDefinition;
  readonly refits: readonly Refit[];
}

type RefitMap = "proj" | "fc2";
const weightOf = { proj: "attn.proj", fc2: "mlp.fc2" } as const;

/**
 * Refits a student of the teacher's `kept` blocks on normalised pictures, batch by batch `[B, 3, H, W]`. Memory holds the
 * tokens of all pictures three times, and one map's normal equations twice. Throws a RunError where sums are not finite.
 */
export async function analyticStart(
  teacher: Model,
  kept: readonly number[],
  batches: AsyncIterable<FloatTensor> | Iterable<FloatTensor>,
  options: AnalyticOptions = analyticDefaults,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<AnalyticStart> {
  let student = copyBlocks(teacher, kept);
  const streams = await embedAll(teacher, batches);
  const width = options.mlpWidth === undefined ? undefined : narrowWidth(teacher, options.mlpWidth);
  const narrow = width === undefined || width === teacher.config.mlpWidth ? undefined : width;
  const { device, config } = teacher;
  const passes = new Passes(device, config);
  const behind = narrow === undefined ? passes : new Passes(device, { ...config, mlpWidth: narrow });
  const solver = new RidgeSolver(device);
  const refits: Refit[] = [];
  const strideFor = (unknowns: number) => strideOf(streams, options.tokensPerUnknown * unknowns);
  try {
    let from = 0;
    for (const [block, end] of stoodFor(kept, config.depth).entries()) {
      for (let i = from; i <= end; i++) await advanceTeacher(passes, teacher, streams, i);
      const found = await refitBlock({ passes, behind, solver, narrow, strideFor }, student, streams, block, options);
      student = found.student;
      refits.push(...found.refits);
      from = end + 1;
      progress(block + 1, kept.length);
    }
  } finally {
    if (behind !== passes) await behind.dispose([]);
    await passes.dispose(streams);
    await solver.dispose();
  }
  if (narrow !== undefined) student = { ...student, config: { ...student.config, mlpWidth: narrow } };
  return { student, refits };
}

/** Each batch gives so many tokens at least, however many batches there are. */
const leastOfBatch = 8;

/** The step from one token to the next so that about `wanted` are met, spread over all places in the pictures. */
function strideOf(streams: readonly Stream[], wanted: number): number {
  const shapes = streams.map((stream) => tokensOf(stream, "student").dims);
  const [, perPicture] = shapes[0] ?? [0, 1];
  const rows = shapes.map(([batch]) => batch * perPicture);
  const all = rows.reduce((sum, count) => sum + count, 0);
  const most = Math.floor(Math.min(...rows) / leastOfBatch);
  let stride = Math.max(1, Math.min(most, Math.floor(all / wanted)));
  while (!coprime(stride, perPicture)) stride--;
  return stride;
}

function coprime(a: number, b: number): boolean {
  return b === 0 ? a === 1 : coprime(b, a % b);
}

interface Tools {
  readonly passes: Passes;
  /** Passes over a block whose MLP is done with: narrower, where that is asked for. */
  readonly behind: Passes;
  readonly solver: RidgeSolver;
  readonly narrow: number | undefined;
  /** Every so many tokens are taken for a map of so many unknowns. */
  strideFor(unknowns: number): number;
}

/** Refits one block's maps, and moves the student's tokens behind it. */
async function refitBlock(
  { passes, behind, solver, narrow, strideFor }: Tools,
  student: ModelDefinition,
  streams: readonly Stream[],
  block: number,
  options: AnalyticOptions,
): Promise<{ student: ModelDefinition; refits: Refit[] }> {
  const { width, mlpWidth } = student.config;
  const refits: Refit[] = [];
  const judged = streams.some(({ aside }) => aside);
  // Too few pictures to set some aside: only a firm ridge is to be trusted.
  const ridges = judged ? options.ridges : options.ridges.filter((ridge) => ridge >= 1);
  const stride = strideFor(mlpWidth + 1);
  const fetch = ["difference"];
  const sumsKept = ["next.gram", "next.cross"];
  const tokens = { x: "student", mixed: "mixed", target: "teacher" } as const;

  const solve = (sums: Sums, ridge: number) => solver.solve(sums, ridge * meanDiagonal(sums));

  const plainFeeds = await passes.blockOf(student, block);
  const first = await sumUp(passes, streams, width + 1, width, async (stream, sums) => {
    const named = { x: "student", target: "teacher" } as const;
    const request = { stride, fetch, keep: ["mixed", ...sumsKept] };
    const found = await passes.run("attention", stream, named, { ...sums, ...plainFeeds }, request);
    await passes.replace(stream, "mixed", found.kept.mixed);
    return found;
  });
  const mlp = async (model: ModelDefinition) => {
    const feeds = await passes.blockOf(model, block);
    return sumUp(passes, streams, mlpWidth + 1, width, (stream, sums) =>
      passes.run("mlp", stream, tokens, { ...sums, ...feeds }, { stride, fetch, keep: sumsKept }),
    );
  };
  const plain = student;
  let second: Summed | undefined;
  if (options.attention && isUsable(first)) {
    const [ridge] = ridges;
    const solution = await solve(first.fitting, ridge);
    const moving = moved(student, `blocks.${block}.${weightOf.proj}`, solution, options.attentionStep);
    second = await mlp(moving);
    const better = second.difference < first.difference;
    refits.push({
      block,
      map: "proj",
      ...(better ? { ridge, share: second.difference / first.difference } : { share: 1 }),
    });
    if (better) student = moving;
    else second = undefined;
  }
  second ??= await mlp(plain);

  const differenceOf = async (model: ModelDefinition) => {
    const feeds = await behind.blockOf(model, block);
    let difference = 0;
    for (const stream of streams.filter(({ aside }) => aside === judged)) {
      const found = await behind.run("difference", stream, tokens, feeds, { stride, fetch });
      difference += Number(found.tensors.difference.data[0]);
    }
    return difference;
  };
  const name = `blocks.${block}.${weightOf.fc2}`;
  let refit: Refit = { block, map: "fc2", share: 1 };
  if (narrow !== undefined) {
    const fc2 = student.weights.get(`${name}.weight`) as FloatTensor;
    const kept = await keptChannels(solver, second.fitting, fc2, narrow, ridges[0]);
    const fitting = await narrowedSums(solver, second.fitting, fc2, kept);
    const all = second.all === second.fitting ? fitting : await narrowedSums(solver, second.all, fc2, kept);
    const cut = withChannels(student, block, kept);
    let best: { ridge: number; difference: number } | undefined;
    for (const ridge of ridges) {
      const trial = moved(cut, name, await solve(fitting, ridge), 1);
      const difference = await differenceOf(trial);
      if (!best || difference < best.difference) best = { ridge, difference };
    }
    const { ridge, difference } = best as { ridge: number; difference: number };
    student = moved(cut, name, await solve(all, ridge), 1);
    refit = { block, map: "fc2", ridge, share: difference / second.difference };
  }
  for (const ridge of isUsable(second) && narrow === undefined ? ridges : []) {
    const trial = moved(student, name, await solve(second.fitting, ridge), 1);
    const difference = await differenceOf(trial);
    if (!(difference < second.difference)) continue;
    const { fitting, all } = second;
    student = all === fitting ? trial : moved(student, name, await solve(all, ridge), 1);
    refit = { block, map: "fc2", ridge, share: difference / second.difference };
    break;
  }
  const feeds = await behind.blockOf(student, block);
  for (const stream of streams) {
    const named = { x: "student", mixed: "mixed" } as const;
    const { kept } = await behind.run("output", stream, named, feeds, { keep: ["y"] });
    await passes.replace(stream, "student", kept.y);
  }
  return { student, refits: [...refits, refit] };
}

function isUsable({ all, difference }: Summed): boolean {
  const scale = meanDiagonal(all);
  return scale > 0 && Number.isFinite(scale) && Number.isFinite(difference);
}

/** The student with `solution` `[in + 1, out]` added to a map: its last row to the bias. */
function moved(student: ModelDefinition, name: string, solution: Float64Array, step: number): ModelDefinition {
  const weights = new Map(student.weights);
  const old = weights.get(`${name}.weight`) as FloatTensor;
  const [outputs, width] = old.dims;
  const weight = { ...old, data: old.data.slice() };
  const oldBias = weights.get(`${name}.bias`) as FloatTensor;
  const bias = { ...oldBias, data: oldBias.data.slice() };
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < width; i++) weight.data[o * width + i] += step * solution[i * outputs + o];
    bias.data[o] += step * solution[width * outputs + o];
  }
  weights.set(`${name}.weight`, weight);
  weights.set(`${name}.bias`, bias);
  return { ...student, weights };
}
