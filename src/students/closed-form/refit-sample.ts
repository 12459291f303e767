// Which tokens of all images a start in closed form sums up: every so many, spread over all places in the images.
import type { DeviceTensor } from "../../runtime/device.ts";
import type { Passes, Stream, TokenName } from "./refit-passes.ts";
import { heldBy, rowsOf, tokensOf } from "./refit-passes.ts";

/** How many tokens solutions are fitted on, where every `stride`-th of each batch is taken. */
export function fittedTokens(streams: readonly Stream[], stride: number): number {
  const fitted = streams.filter((stream) => !stream.aside && !isPrior(stream));
  return fitted.reduce((sum, stream) => sum + Math.floor(rowsOf(stream) / stride), 0);
}

/** Each batch gives so many tokens at least, however many batches there are. */
const leastOfBatch = 8;

/** The step from one token to the next so that about `wanted` are met, spread over all places in the images. */
export function strideOf(streams: readonly Stream[], wanted: number): number {
  const perImage = streams.length > 0 ? tokensOf(streams[0], "student").dims[1] : 1;
  const rows = streams.map(rowsOf);
  const all = rows.reduce((sum, count) => sum + count, 0);
  const most = Math.floor(Math.min(...rows) / leastOfBatch);
  let stride = Math.max(1, Math.min(most, Math.floor(all / wanted)));
  while (!coprime(stride, perImage)) stride--;
  return stride;
}

function coprime(a: number, b: number): boolean {
  return b === 0 ? a === 1 : coprime(b, a % b);
}

/** Rows of a sample that are looked at together, about: many, since adding up the sums of few costs more than making them. */
const rowsTogether = 4096;

/** Steps from one token to the next, for images and for prior ones. */
interface Strides {
  readonly training: number;
  readonly prior: number;
}

const isPrior = ({ priorWeight }: Stream) => priorWeight !== undefined;
const strideFor = (stream: Stream, strides: Strides) => (isPrior(stream) ? strides.prior : strides.training);

/** Strides so that about `wanted` tokens of each kind are met. */
export function stridesOf(streams: readonly Stream[], wanted: number): Strides {
  const prior = streams.filter(isPrior);
  const trainingStreams = streams.filter((stream) => !isPrior(stream));
  return { training: strideOf(trainingStreams, wanted), prior: prior.length > 0 ? strideOf(prior, wanted) : 1 };
}

/** Batches whose samples are looked at together: those fitted on, set aside, and of prior images. */
function groupsOf(streams: readonly Stream[], strides: Strides): Stream[][] {
  const groups: Stream[][] = [];
  const kinds = [
    streams.filter((stream) => !stream.aside && !isPrior(stream)),
    streams.filter(({ aside }) => aside),
    streams.filter(isPrior),
  ];
  for (const kind of kinds) {
    let rows = Infinity;
    for (const stream of kind) {
      if (rows >= rowsTogether) {
        groups.push([]);
        rows = 0;
      }
      groups[groups.length - 1].push(stream);
      rows += Math.floor(rowsOf(stream) / strideFor(stream, strides));
    }
  }
  return groups;
}

/** Rows of some of the tokens that a block's maps are fitted on; the batches themselves where all tokens are wanted. */
export class Sample {
  /** What passes that sum up are to look at. */
  readonly streams: readonly Stream[];
  /** How many tokens solutions are fitted on. */
  readonly tokens: number;
  private readonly passes: Passes;
  private readonly strides: Strides;
  /** The batches that each of `streams` takes rows of; undefined where it is these batches. */
  private readonly groups: Stream[][] | undefined;
  /** The place of each batch's group, by the batch's tokens. */
  private readonly groupOf: ReadonlyMap<Stream["tokens"], number>;
  /** Rows of batches whose group is not complete yet, by group and name. */
  private readonly waiting = new Map<string, DeviceTensor[]>();

  constructor(passes: Passes, streams: readonly Stream[], strides: Strides) {
    this.passes = passes;
    this.strides = strides;
    this.tokens = fittedTokens(streams, strides.training);
    this.groups = strides.training === 1 && strides.prior === 1 ? undefined : groupsOf(streams, strides);
    this.streams =
      this.groups?.map(([{ aside, priorWeight }]): Stream => ({
        tokens: new Map(),
        aside,
        priorWeight,
        inMemory: true,
      })) ?? streams;
    this.groupOf = new Map(this.groups?.flatMap((group, i) => group.map(({ tokens }) => [tokens, i])));
  }

  /** Whether rows are taken at all. */
  get isApart(): boolean {
    return this.groups !== undefined;
  }

  /** Takes the rows of tokens as they are now, in place of those taken before. */
  async take(names: readonly TokenName[]): Promise<void> {
    for (const stream of this.groups?.flat() ?? []) for (const name of names) await this.takeOf(stream, name);
  }

  /** Takes rows of one batch, in place of those taken before when all batches of its group gave theirs. */
  readonly takeOf = async (stream: Stream, name: TokenName): Promise<void> => {
    const place = this.groupOf.get(stream.tokens);
    if (!this.groups || place === undefined) return;
    const group = this.groups[place];
    const key = `${place} ${name}`;
    const rows = this.waiting.get(key) ?? [];
    rows.push(await this.passes.sample(stream, name, strideFor(group[0], this.strides)));
    this.waiting.set(key, rows);
    if (rows.length < group.length) return;
    this.waiting.delete(key);
    await this.passes.replace(this.streams[place], name, await this.passes.joined(rows));
  };

  /** Every so many of the rows of the student's tokens. Who takes them releases them. */
  async thinned(stride: number): Promise<Stream[]> {
    const thinned: Stream[] = [];
    for (const stream of this.streams)
      thinned.push({
        ...stream,
        tokens: new Map([["student", await this.passes.sample(stream, "student", stride)]]),
      });
    return thinned;
  }

  async release(): Promise<void> {
    const { device } = this.passes;
    if (this.groups) await device.release([...heldBy(this.streams), ...[...this.waiting.values()].flat()]);
  }
}
