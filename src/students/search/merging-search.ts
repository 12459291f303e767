// How many tokens each block merges away (ToMe), chosen on the user's images. Four families of schedules are tried for several
// shares of the model's operations: the same number in each block; numbers that fall from block to block; numbers that fall, in every
// second block alone, since each merging has a cost of its own; and greedy, where the next tokens go to the block that loses least
// fidelity for the operations that it saves. What a block loses is measured by
// merging in that block alone; it is taken to grow with the square of the number, so that no block is merged bare. All models
// that are compared on fidelity are outputs of one graph, which holds the weights once; only what is on the frontier is timed.
import { compile } from "../../engine/compile.ts";
import { graph, input } from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import { measureLatencies } from "../../evaluation/latency.ts";
import { mean, rowCosines, sameAnswers } from "../../evaluation/metrics.ts";
import type { VitConfig } from "../../models/config.ts";
import {
  attentionWidth,
  blockShape,
  patchCount,
  prefixCount,
  queriesWidth,
  queryWidthOf,
  tokenCount,
} from "../../models/config.ts";
import { Model } from "../../models/model.ts";
import { mergeableTokens, mergingOf } from "../../models/token-merging.ts";
import { frozenWeights, vitForward } from "../../models/vit.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";

/** What the chosen schedule has to reach. */
export type MergingTarget =
  /** The most faithful one within this share of the unmerged model's time. */
  | { readonly time: number }
  /** The quickest one whose predictions equal the unmerged model's this often; for models with a head. */
  | { readonly agreement: number }
  /** The quickest one whose pooled features have this mean cosine similarity to the unmerged model's. */
  | { readonly cosine: number };

export interface MergingPoint {
  /** Tokens that each block merges away. */
  readonly merging: readonly number[];
  readonly family: "none" | "constant" | "decreasing" | "alternate" | "greedy";
  /** On images that no choice was made on: mean cosine similarity of pooled features to the unmerged model's. */
  readonly cosine: number;
  /** Share of equal predictions with the unmerged model, where it has a head. */
  readonly agreement?: number;
  /** Multiplications of the blocks, over those without merging. */
  readonly operations: number;
  /** Median milliseconds of one image. */
  readonly milliseconds: number;
}

export interface MergingChoice {
  /** Quickest first; each is more faithful than all before it. The last merges nothing. */
  readonly frontier: readonly MergingPoint[];
  /** The one that reaches the target; undefined where none does. */
  readonly chosen?: MergingPoint;
  readonly images: number;
}

export interface MergingSearchOptions {
  readonly target: MergingTarget;
  /** Shares of the operations that schedules are made for. */
  readonly shares?: readonly number[];
  /** Milliseconds, for timing. */
  readonly now: () => number;
}

const defaultShares: readonly number[] = [0.85, 0.7, 0.6, 0.5, 0.42, 0.35];

/** Multiplications of all blocks for one image, those of merging among them. */
export function blockOperations(config: VitConfig): number {
  const { width, mlp, merging, depth } = config;
  let [tokens, sum] = [tokenCount(config), 0];
  for (let i = 0; i < depth; i++) {
    const { mlpWidth } = blockShape(config, i);
    const channels = attentionWidth(config, i) + queriesWidth(config, i);
    const count = merging?.[i] ?? 0;
    const behind = tokens - count;
    sum += tokens * 2 * width * channels + tokens ** 2 * channels;
    sum += behind * width * mlpWidth * (mlp === "gated" ? 3 : 2);
    if (count > 0) sum += (tokens / 2) ** 2 * queryWidthOf(config, i) + behind * tokens * width;
    tokens = behind;
  }
  return sum;
}

const shareOf = (config: VitConfig, merging: readonly number[]): number =>
  blockOperations({ ...config, merging }) / blockOperations({ ...config, merging: undefined });

/** Of the schedules that `made` gives for 0 to 1, the one with this share of the operations, about. */
function atShare(config: VitConfig, share: number, made: (strength: number) => number[]): number[] {
  let [low, high] = [0, 1];
  for (let i = 0; i < 20; i++) {
    const middle = (low + high) / 2;
    if (shareOf(config, made(middle)) > share) low = middle;
    else high = middle;
  }
  return made(high);
}

const constantSchedule = (config: VitConfig, share: number): number[] =>
  atShare(config, share, (strength) =>
    mergingOf(config, Array<number>(config.depth).fill(Math.round((strength * patchCount(config)) / 2))),
  );

const decreasingSchedule = (config: VitConfig, share: number): number[] =>
  atShare(config, share, (strength) =>
    mergingOf(
      config,
      Array.from({ length: config.depth }, (_, i) =>
        Math.round(strength * patchCount(config) * 0.5 * (1 - (i + 0.5) / config.depth)),
      ),
    ),
  );

function alternateSchedule(config: VitConfig, share: number): number[] {
  const blocks = Array.from({ length: config.depth }, (_, i) => i);
  // Blocks without attention merge nothing.
  const merging = new Set(blocks.filter((i) => blockShape(config, i).heads > 0).filter((_, n) => n % 2 === 0));
  return atShare(config, share, (strength) => {
    const falling = (i: number) => Math.round(strength * patchCount(config) * 0.5 * (1 - i / (1.5 * config.depth)));
    return mergingOf(
      config,
      blocks.map((i) => (merging.has(i) ? falling(i) : 0)),
    );
  });
}

/** Families of schedules that need no images, and are on the frontier of the demo's teacher (dev/tokens.md). */
export const scheduleFamilies = ["decreasing", "alternate"] as const;

const schedules = { decreasing: decreasingSchedule, alternate: alternateSchedule };

/** Tokens that each block merges away so that this share of the blocks' operations is left, about. */
export const scheduleForShare = (
  config: VitConfig,
  share: number,
  family: (typeof scheduleFamilies)[number],
): readonly number[] => schedules[family](config, share);

/** Operations that are saved by one more token merged away in a block. */
function savingOf(config: VitConfig, merging: readonly number[], block: number): number {
  const more = merging.map((count, i) => (i === block ? count + 1 : count));
  return blockOperations({ ...config, merging }) - blockOperations({ ...config, merging: more });
}

/**
 * Tokens go, a few at a time, to the block whose fidelity suffers least for what is saved. `losses[i]` is what merging `probe`
 * tokens in block i alone costs.
 */
export function greedySchedule(config: VitConfig, losses: readonly number[], share: number): number[] {
  const merging = Array<number>(config.depth).fill(0);
  const wished = Array<number>(config.depth).fill(0);
  while (shareOf(config, merging) > share) {
    let best: { block: number; price: number } | undefined;
    for (let block = 0; block < config.depth; block++) {
      wished[block] = merging[block] + 1;
      const allowed = mergingOf(config, wished).every((count, i) => count === wished[i]);
      wished[block] = merging[block];
      const saving = allowed ? savingOf(config, merging, block) : 0;
      if (saving <= 0) continue;
      const price = (losses[block] * (2 * merging[block] + 1)) / saving;
      if (!best || price < best.price) best = { block, price };
    }
    if (!best) break;
    merging[best.block]++;
    wished[best.block]++;
  }
  return merging;
}

interface Compared {
  readonly cosine: number;
  readonly agreement?: number;
}

/** Fidelity of each schedule to the unmerged model, all in one session. */
export async function compareMergings(
  model: Model,
  mergings: readonly (readonly number[])[],
  images: readonly FloatTensor[],
): Promise<Compared[]> {
  const { config, weights, device } = model;
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const weight = frozenWeights(weights);
  const outputs: Record<string, Value> = {};
  for (const [i, merging] of [undefined, ...mergings].entries()) {
    const { pooled, logits } = vitForward({ ...config, merging }, weight, pixels);
    outputs[`pooled.${i}`] = pooled;
    if (logits) outputs[`logits.${i}`] = logits;
  }
  const session = await compile(graph([pixels], outputs), device, { keepMemory: false });
  const cosines = mergings.map((): number[] => []);
  const answers = mergings.map((): boolean[] => []);
  try {
    for (const batch of images) {
      const { tensors } = await session.run({ feeds: { pixels: batch }, fetch: session.outputNames });
      const of = (name: string) => tensors[name] as FloatTensor;
      mergings.forEach((_, i) => {
        cosines[i].push(...rowCosines(of(`pooled.${i + 1}`), of("pooled.0")));
        if (config.head) answers[i].push(...sameAnswers(of(`logits.${i + 1}`), of("logits.0")));
      });
    }
  } finally {
    await session.dispose();
  }
  return mergings.map((_, i) => ({
    cosine: mean(cosines[i]),
    ...(config.head ? { agreement: mean(answers[i].map(Number)) } : {}),
  }));
}

/** What merging some tokens in one block alone costs, for each block: one less the cosine. */
async function blockLosses(model: Model, images: readonly FloatTensor[]): Promise<number[]> {
  const { config } = model;
  const probe = Math.max(1, Math.floor(mergeableTokens(tokenCount(config), prefixCount(config)) / 4));
  const alone = Array.from({ length: config.depth }, (_, block) =>
    Array.from({ length: config.depth }, (_, i) => (i === block ? probe : 0)),
  );
  return (await compareMergings(model, alone, images)).map(({ cosine }) => Math.max(0, 1 - cosine));
}

type Candidate = Pick<MergingPoint, "merging" | "family">;

function candidatesOf(config: VitConfig, losses: readonly number[], shares: readonly number[]): Candidate[] {
  const made = new Map<string, Candidate>();
  for (const share of shares)
    for (const [family, merging] of [
      ["constant", constantSchedule(config, share)],
      ["decreasing", decreasingSchedule(config, share)],
      ["alternate", alternateSchedule(config, share)],
      ["greedy", greedySchedule(config, losses, share)],
    ] as const)
      if (!made.has(merging.join())) made.set(merging.join(), { family, merging });
  return [...made.values()];
}

const fidelityOf = (target: MergingTarget, { cosine, agreement = cosine }: Compared): number =>
  "agreement" in target ? agreement : cosine;

/** Those that no other beats in fidelity with as few of `costs`, cheapest first. */
function frontierOf<P extends Compared>(points: readonly P[], target: MergingTarget, cost: (point: P) => number): P[] {
  const byCost = [...points].sort((a, b) => cost(a) - cost(b) || fidelityOf(target, b) - fidelityOf(target, a));
  const kept: P[] = [];
  for (const point of byCost) {
    const last = kept.at(-1);
    if (!last || fidelityOf(target, point) > fidelityOf(target, last)) kept.push(point);
  }
  return kept;
}

function checkTarget(model: Model, target: MergingTarget): void {
  const [[name, value]] = Object.entries(target) as [string, number][];
  if (!(value > 0 && value <= 1))
    throw new UserError(`The target ${name} must be above 0 and at most 1, got ${value}.`);
  if (name === "agreement" && !model.config.head)
    throw new UserError("The target agreement needs a model with a classifier head; use the target cosine.");
}

/**
 * Measures schedules of token merging on batches of normalised images `[B, 3, H, W]`, two at least: the first half says what each
 * block can lose, the others how faithful each candidate is.
 *
 * @throws UserError on a target out of range, an agreement without a head, and too few batches.
 */
export async function chooseMerging(
  model: Model,
  images: readonly FloatTensor[],
  { target, shares = defaultShares, now }: MergingSearchOptions,
): Promise<MergingChoice> {
  checkTarget(model, target);
  if (images.length < 2) throw new UserError("Choosing how many tokens to merge needs two batches of images at least.");
  const { config } = model;
  const half = Math.floor(images.length / 2);
  const losses = await blockLosses(model, images.slice(0, half));
  const evaluated = images.slice(half);
  const candidates = candidatesOf(config, losses, shares);
  const compared = await compareMergings(
    model,
    candidates.map(({ merging }) => merging),
    evaluated,
  );
  const none = { family: "none" as const, merging: Array<number>(config.depth).fill(0), cosine: 1, operations: 1 };
  const points = [
    ...candidates.map((candidate, i) => ({
      ...candidate,
      ...compared[i],
      operations: shareOf(config, candidate.merging),
    })),
    config.head ? { ...none, agreement: 1 } : none,
  ];
  const timed = await timePoints(
    model,
    frontierOf(points, target, ({ operations }) => operations),
    now,
  );
  const frontier = frontierOf(timed, target, ({ milliseconds }) => milliseconds);
  const evaluatedImages = evaluated.reduce((sum, { dims }) => sum + dims[0], 0);
  return { frontier, chosen: chosenOf(frontier, timed.at(-1)?.milliseconds ?? 0, target), images: evaluatedImages };
}

async function timePoints<P extends Candidate>(
  model: Model,
  points: readonly P[],
  now: () => number,
): Promise<(P & { milliseconds: number })[]> {
  const { config, weights, preprocessing, origin, device } = model;
  const models = points.map(
    ({ merging }) => new Model({ config: { ...config, merging }, weights, preprocessing, origin }, device),
  );
  try {
    const latencies = await measureLatencies(models, now);
    return points.map((point, i) => ({ ...point, milliseconds: latencies[i].median }));
  } finally {
    for (const model of models) await model.dispose();
  }
}

function chosenOf(frontier: readonly MergingPoint[], whole: number, target: MergingTarget): MergingPoint | undefined {
  if ("time" in target) return frontier.filter(({ milliseconds }) => milliseconds <= target.time * whole).at(-1);
  const least = "agreement" in target ? target.agreement : target.cosine;
  return frontier.find((point) => fidelityOf(target, point) >= least);
}
