// Which blocks to keep, from evidence: a kept block, its last map refitted, stands for itself and the blocks behind it. The
// search goes from the first block to the last with the tokens that such a student really has, and keeps, for each
// number of blocks and each place in the teacher, the student that is nearest there (dynamic programming).
import { Sessions } from "../../engine/compile.ts";
import type { Graph } from "../../engine/graph/graph.ts";
import { blockShape } from "../../models/config.ts";
import type { Model } from "../../models/model.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { blockFeeds, changedPass, searchPass } from "../closed-form/refit-graphs.ts";
import { sumsFrom } from "../closed-form/refit-sums.ts";
import { addSums, emptySums, RidgeSolver, ridgeOf } from "../../engine/linalg/ridge.ts";

/** Ridge of the refits. */
const ridge = 0.2;

export interface SearchOptions {
  /** The most blocks to keep; all smaller numbers are found on the way. */
  readonly most: number;
  /** The most blocks that one may stand for. */
  readonly longest: number;
}

/** The blocks to keep for one number of them. */
export interface BlockChoice {
  readonly kept: readonly number[];
  /**
   * What is left of the last block's output on images that nothing was fitted on: the mean squared difference of
   * tokens centred and scaled to deviation 1, from 0 to 2 (nothing in common).
   */
  readonly residual: number;
}

export interface BlockSearch {
  /** By number of blocks, rising. */
  readonly choices: readonly BlockChoice[];
  readonly images: number;
}

/** How much runs of blocks matter. */
export interface BlockRuns {
  /**
   * `left[k][e]`: what is left behind block e where block k alone, refitted, stands for blocks k to e, and nothing before
   * was dropped; infinite for e < k, and for runs that were too long to be looked at.
   */
  readonly residuals: readonly (readonly number[])[];
  readonly images: number;
}

/** A student that stands for the blocks before some place of the teacher: its tokens there, batch by batch. */
interface Reached {
  readonly kept: readonly number[];
  readonly tokens: readonly FloatTensor[];
  readonly residual: number;
}

/**
 * Searches with normalised images `[B, 3, H, W]`, two batches of one size at least: the last is for evaluation. Memory holds
 * all blocks' tokens of all images, and once more for each student on the way; 32 images are enough. Throws a
 * UserError where there are fewer than two batches, or where so few blocks can't stand for all.
 */
export async function searchBlocks(
  teacher: Model,
  batches: AsyncIterable<FloatTensor>,
  { most, longest }: SearchOptions,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<BlockSearch> {
  const { depth } = teacher.config;
  const states = await statesOf(teacher, batches);
  const steps = new Steps(teacher, states, longest);
  const choices: BlockChoice[] = [];
  try {
    let layer = new Map<number, Reached>([[0, { kept: [], tokens: states.map(([first]) => first), residual: 0 }]]);
    for (let count = 1; count <= most; count++) {
      const next = new Map<number, Reached>();
      for (const [place, partial] of layer) {
        for (const reached of await steps.from(place, partial, next)) next.set(reached.place, reached.partial);
      }
      const whole = next.get(depth);
      if (whole) choices.push({ kept: whole.kept, residual: whole.residual });
      next.delete(depth);
      layer = next;
      progress(count, most);
    }
  } finally {
    await steps.dispose();
  }
  if (choices.length === 0)
    throw new UserError(`${most} blocks can't stand for ${depth}, each for ${longest} at the most`, {
      code: "INVALID_OPTION",
    });
  return { choices, images: countOf(states) };
}

/** Looks at each run of blocks by itself, with images as for a search. Throws a UserError as that does. */
export async function blockRuns(
  teacher: Model,
  batches: AsyncIterable<FloatTensor>,
  longest: number,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<BlockRuns> {
  const { depth } = teacher.config;
  const states = await statesOf(teacher, batches);
  const steps = new Steps(teacher, states, longest);
  const residuals: number[][] = [];
  try {
    for (let k = 0; k < depth; k++) {
      residuals.push(await steps.alone(k));
      progress(k + 1, depth);
    }
  } finally {
    await steps.dispose();
  }
  return { residuals, images: countOf(states) };
}

type States = readonly (readonly FloatTensor[])[];

/** The teacher's tokens before and behind each block, batch by batch. */
async function statesOf(teacher: Model, batches: AsyncIterable<FloatTensor>): Promise<States> {
  const states: FloatTensor[][] = [];
  for await (const pixels of batches)
    states.push((await teacher.forward(pixels, { hiddenStates: true })).hiddenStates as FloatTensor[]);
  if (states.length < 2)
    throw new UserError("Evidence on blocks takes two batches of images at least", { code: "INVALID_OPTION" });
  return states;
}

const countOf = (states: States) => states.reduce((sum, [{ dims }]) => sum + dims[0], 0);

interface Found {
  readonly place: number;
  readonly partial: Reached;
}

/** One step of the search: a block refitted for each of the places that it may reach. */
class Steps {
  private readonly teacher: Model;
  private readonly states: States;
  private readonly longest: number;
  private readonly solver: RidgeSolver;
  private readonly sessions: Sessions;

  constructor(teacher: Model, states: States, longest: number) {
    this.teacher = teacher;
    this.states = states;
    this.longest = longest;
    this.solver = new RidgeSolver(teacher.device);
    this.sessions = new Sessions(teacher.device);
  }

  private targetsOf(place: number): number {
    return Math.min(this.longest, this.teacher.config.depth - place);
  }

  private feedsOf(place: number, tokens: readonly FloatTensor[], batch: number): Record<string, FloatTensor> {
    const { config, weights } = this.teacher;
    const wanted = Array.from({ length: this.targetsOf(place) }, (_, t): [string, FloatTensor] => [
      `target.${t}`,
      this.states[batch][place + 1 + t],
    ]);
    return { x: tokens[batch], ...Object.fromEntries(wanted), ...blockFeeds(config, weights, place) };
  }

  private async run(
    name: string,
    build: (dims: readonly number[]) => Graph,
    feeds: Record<string, FloatTensor>,
    fetch?: readonly string[],
  ): Promise<Record<string, FloatTensor>> {
    const { dims } = feeds.x;
    const session = await this.sessions.get(`${name} ${dims.join()}`, () => build(dims));
    return (await session.run({ feeds, fetch: fetch ?? session.outputNames })).tensors as Record<string, FloatTensor>;
  }

  /** The change of the block's fc2 for each target: `[n, targets * D]`. */
  private async solve(place: number, tokens: readonly FloatTensor[]): Promise<FloatTensor> {
    const { config } = this.teacher;
    const targets = this.targetsOf(place);
    const [n, m] = [blockShape(config, place).mlpWidth + 1, targets * config.width];
    const sums = emptySums(n, m);
    for (let b = 0; b < tokens.length - 1; b++) {
      const build = (dims: readonly number[]) => searchPass(config, dims, targets);
      const feeds = this.feedsOf(place, tokens, b);
      const parts = await this.run(`sums ${targets}`, build, feeds);
      addSums(sums, sumsFrom(parts, tokens[b].dims[0] * tokens[b].dims[1], m));
    }
    const change = await this.solver.solve(sums, ridgeOf(sums, ridge));
    return { type: "float32", dims: [n, m], data: Float32Array.from(change) };
  }

  private async changed(
    place: number,
    tokens: readonly FloatTensor[],
    batch: number,
    change: FloatTensor,
    fetch: readonly string[],
  ): Promise<Record<string, FloatTensor>> {
    const targets = this.targetsOf(place);
    const build = (dims: readonly number[]) => changedPass(this.teacher.config, dims, targets);
    return this.run(`changed ${targets}`, build, { ...this.feedsOf(place, tokens, batch), change }, fetch);
  }

  private leftPerToken({ residual }: Record<string, FloatTensor>, tokens: FloatTensor): number[] {
    return Array.from(residual.data, (sum) => sum / (tokens.dims[0] * tokens.dims[1]));
  }

  /** The students that block `place` makes of one that ends before it, where they are nearer than those known. */
  async from(place: number, { kept, tokens }: Reached, layer: ReadonlyMap<number, Reached>): Promise<Found[]> {
    const change = await this.solve(place, tokens);
    const last = tokens.length - 1;
    const evaluated = await this.changed(place, tokens, last, change, ["residual"]);
    const residuals = this.leftPerToken(evaluated, tokens[last]);
    const better = residuals.flatMap((value, t) =>
      value < (layer.get(place + 1 + t)?.residual ?? Infinity) ? [t] : [],
    );
    if (better.length === 0) return [];
    const outputs: Record<string, FloatTensor>[] = [];
    for (let b = 0; b <= last; b++)
      outputs.push(
        await this.changed(
          place,
          tokens,
          b,
          change,
          better.map((t) => `y.${t}`),
        ),
      );
    return better.map((t) => ({
      place: place + 1 + t,
      partial: { kept: [...kept, place], tokens: outputs.map((y) => y[`y.${t}`]), residual: residuals[t] },
    }));
  }

  /** What block `k` leaves behind itself and the next ones, where its own input is the teacher's. */
  async alone(k: number): Promise<number[]> {
    const row = new Array<number>(this.teacher.config.depth).fill(Number.POSITIVE_INFINITY);
    const tokens = this.states.map((state) => state[k]);
    const last = tokens.length - 1;
    const evaluated = await this.changed(k, tokens, last, await this.solve(k, tokens), ["residual"]);
    this.leftPerToken(evaluated, tokens[last]).forEach((value, t) => (row[k + t] = value));
    // Its own output needs no refit.
    row[k] = 0;
    return row;
  }

  async dispose(): Promise<void> {
    await this.sessions.dispose();
    await this.solver.dispose();
  }
}
