// Which tokens of all images a start in closed form sums up: every so many, spread over all places in the images.
import type { Int8Options } from "../../engine/passes/int8/int8-products.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { MovingPassName, Passes, Stream, TokenName } from "./refit-passes.ts";
import { heldBy, rowsOf, tokensOf, writtenBy } from "./refit-passes.ts";

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

/** A model's block that tokens are moved by. */
interface MovedBlock {
  readonly model: ModelDefinition;
  readonly block: number;
  readonly int8: Int8Options | undefined;
  readonly rowsAlone: boolean;
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

  constructor(passes: Passes, streams: readonly Stream[], strides: Strides) {
    this.passes = passes;
    this.strides = strides;
    this.tokens = fittedTokens(streams, strides.training);
    this.groups = strides.training === 1 && strides.prior === 1 ? undefined : groupsOf(streams, strides);
    this.streams =
      this.groups?.map(([{ aside, priorWeight }]): Stream => ({ tokens: new Map(), aside, priorWeight })) ?? streams;
  }

  /** Whether rows are taken at all. */
  get isApart(): boolean {
    return this.groups !== undefined;
  }

  /** Takes the rows of tokens as they are now, in place of those taken before. */
  async take(names: readonly TokenName[]): Promise<void> {
    for (const [i, group] of (this.groups ?? []).entries())
      for (const name of names)
        await this.passes.replace(
          this.streams[i],
          name,
          await this.passes.sample(group, name, strideFor(group[0], this.strides)),
        );
  }

  /**
   * Moves all tokens, and takes rows of the new ones; only the rows that were taken, where `rowsAlone` says that nothing reads
   * the others any more.
   */
  async move(
    pass: MovingPassName,
    streams: readonly Stream[],
    { model, block, int8, rowsAlone }: MovedBlock,
  ): Promise<void> {
    const alone = rowsAlone && this.isApart;
    await this.passes.move(pass, alone ? this.streams : streams, model, block, int8);
    if (!alone) await this.take([writtenBy(pass)]);
  }

  /** Every so many of the rows of the student's tokens. Who takes them releases them. */
  async thinned(stride: number): Promise<Stream[]> {
    const thinned: Stream[] = [];
    for (const stream of this.streams)
      thinned.push({
        ...stream,
        tokens: new Map([["student", await this.passes.sample([stream], "student", stride)]]),
      });
    return thinned;
  }

  async release(): Promise<void> {
    if (this.groups) await this.passes.device.release(heldBy(this.streams));
  }
}
