// The passes of a start in closed form over all pictures: tokens that stay on the device, and sums over them.
import { compile, Sessions } from "../compile.ts";
import { graph, input } from "../graph/build.ts";
import type { Graph } from "../graph/types.ts";
import type { Model } from "../model.ts";
import type { VitConfig } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { embed, frozenWeights } from "../models/vit.ts";
import type { Int8Options } from "../passes/int8-products.ts";
import type { Device, DeviceTensor, RunRequest, RunResult } from "../runtime/types.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { elementCount } from "../utils/tensor.ts";
import type { BlockValues } from "./refit-graphs.ts";
import {
  attentionHalfGraph,
  attentionPass,
  blockConstants,
  blockFeeds,
  blockGraph,
  differencePass,
  fc2Pass,
  mixedPass,
  mlpHalfGraph,
  norm1Pass,
  norm2Pass,
  outputPass,
  projPass,
  sampleGraph,
} from "./refit-graphs.ts";
import type { Sums } from "./ridge.ts";
import { addSums } from "./ridge.ts";

/** Every so many batches, one is for saying whether a change helps. */
const validationEvery = 5;

/**
 * Tokens `[B, N, D]` of one batch, or rows `[R, D]` of several, on the device: those that enter the student's block; the
 * teacher's that enter its block, and then those that it should give; the teacher's between attention and MLP; what enters the
 * student's attention's output map; and, where they are needed again, those that enter the first block.
 */
export interface Stream {
  readonly tokens: Map<"student" | "teacher" | "middle" | "mixed" | "first", DeviceTensor>;
  /** Whether solutions are judged on it, rather than fitted. */
  readonly aside: boolean;
}
export type TokenName = Parameters<Stream["tokens"]["get"]>[0];

export const tokensOf = ({ tokens }: Stream, name: TokenName): DeviceTensor => {
  const found = tokens.get(name);
  if (!found) throw new Error(`no ${name} tokens were left`);
  return found;
};

const tokensNamed = <Name extends string>(stream: Stream, named: Readonly<Record<Name, TokenName>>) =>
  Object.fromEntries(
    Object.entries<TokenName>(named).map(([input, name]) => [input, tokensOf(stream, name)]),
  ) as Record<Name, DeviceTensor>;

interface SummingPass {
  readonly build: (config: VitConfig, dims: readonly number[]) => Graph;
  readonly reads: Readonly<Record<string, TokenName>>;
}

const output = { x: "student", mixed: "mixed", target: "teacher" } as const;
/** The passes that look at tokens to sum them up, by name. */
const summingPasses = {
  mixed: { build: mixedPass, reads: { mixed: "mixed" } },
  norm1: { build: norm1Pass, reads: { x: "student", target: "teacher" } },
  proj: { build: projPass, reads: output },
  norm2: { build: norm2Pass, reads: { x: "student", mixed: "mixed", target: "middle" } },
  fc2: { build: fc2Pass, reads: output },
  difference: { build: differencePass, reads: output },
} as const satisfies Record<string, SummingPass>;
type SummingPassName = keyof typeof summingPasses;

interface MovingPass {
  readonly build: (config: VitConfig, dims: readonly number[], block?: BlockValues) => Graph;
  readonly reads: { readonly x: TokenName } & Readonly<Record<string, TokenName>>;
  readonly writes: TokenName;
}

/** The passes that make new tokens of all, what they read, and what they replace. */
const movingPasses = {
  teacher: { build: blockGraph, reads: { x: "teacher" }, writes: "teacher" },
  teacherAttention: { build: attentionHalfGraph, reads: { x: "teacher" }, writes: "middle" },
  teacherMlp: { build: mlpHalfGraph, reads: { x: "middle" }, writes: "teacher" },
  attention: { build: attentionPass, reads: { x: "student" }, writes: "mixed" },
  output: { build: outputPass, reads: { x: "student", mixed: "mixed" }, writes: "student" },
} as const satisfies Record<string, MovingPass>;
export type BlockFeeds = Readonly<Record<string, DeviceTensor>>;

/** The passes over one batch, a session for each and each batch size; a block's weights are fed from the device. */
export class Passes {
  readonly device: Device;
  private readonly config: VitConfig;
  private readonly sessions: Sessions;
  private readonly summing: Sessions;
  private readonly blanks = new Map<string, DeviceTensor>();
  private uploaded = new Map<FloatTensor, DeviceTensor>();

  constructor(device: Device, config: VitConfig) {
    this.device = device;
    this.config = config;
    this.sessions = new Sessions(device);
    this.summing = new Sessions(device);
  }

  /** Runs a pass over the tokens that it sums up and what else it is fed; `keep` stays on the device. To be followed by `rest`. */
  async run(
    pass: SummingPassName,
    stream: Stream,
    feeds: BlockFeeds,
    { fetch, keep }: Pick<RunRequest, "fetch" | "keep">,
  ): Promise<RunResult> {
    const { build, reads }: SummingPass = summingPasses[pass];
    const tokens = tokensNamed(stream, reads);
    const { dims } = tokensOf(stream, "student");
    const session = await this.summing.get(`${pass} ${dims.join()}`, () => build(this.config, dims));
    return session.run({ feeds: { ...feeds, ...tokens }, fetch, keep });
  }

  /** Gives back what the sessions of sums hold: their memory is large, and soon made again. */
  async rest(): Promise<void> {
    await this.summing.dispose();
  }

  /** Runs a pass with a block's weights over the tokens of all batches, in 8 bits where that is asked for. */
  async move(
    pass: keyof typeof movingPasses,
    streams: readonly Stream[],
    model: ModelDefinition,
    index: number,
    int8: Int8Options | undefined,
  ): Promise<void> {
    const { build, reads, writes }: MovingPass = movingPasses[pass];
    // Weights in 8 bits are constants, so that each block has sessions of its own.
    const constants = int8 && blockConstants(model.weights, index);
    const feeds = constants ? {} : await this.blockOf(model, index);
    const sessions = constants ? new Sessions(this.device, { int8 }) : this.sessions;
    try {
      for (const stream of streams) {
        const { dims } = tokensOf(stream, reads.x);
        // Where all dimensions are known, memory of tokens is used again.
        const key = `${pass} ${dims.join()}`;
        const session = await sessions.get(key, () => build(this.config, dims, constants));
        const [made] = session.outputNames;
        const { kept } = await session.run({ feeds: { ...feeds, ...tokensNamed(stream, reads) }, keep: [made] });
        await this.replace(stream, writes, kept[made]);
      }
    } finally {
      if (sessions !== this.sessions) await sessions.dispose();
    }
  }

  /** Every `stride`-th of the tokens of several batches as rows. */
  async sample(batches: readonly Stream[], name: TokenName, stride: number): Promise<DeviceTensor> {
    const held = batches.map((stream) => tokensOf(stream, name));
    const dims = held.map((tensor) => tensor.dims);
    const session = await this.sessions.get(`sample ${stride} ${dims.join(" ")}`, () => sampleGraph(dims, stride));
    const feeds = Object.fromEntries(held.map((tensor, i) => [`tokens.${i}`, tensor]));
    return (await session.run({ feeds, keep: ["rows"] })).kept.rows;
  }

  /** Puts new tokens in the place of others, or none. */
  async replace({ tokens }: Stream, name: TokenName, next: DeviceTensor | undefined): Promise<void> {
    const old = tokens.get(name);
    if (next) tokens.set(name, next);
    else tokens.delete(name);
    // Teacher and student begin with the same tokens.
    if (old && ![...tokens.values()].includes(old)) await this.device.release([old]);
  }

  /** Lets go of tokens that are not needed any more. */
  async drop(streams: readonly Stream[], name: TokenName): Promise<void> {
    for (const stream of streams) await this.replace(stream, name, undefined);
  }

  /** A block's weights on the device. Those that the block before asked for too stay where they are; others are released. */
  async blockOf(model: ModelDefinition, index: number): Promise<BlockFeeds> {
    const before = this.uploaded;
    this.uploaded = new Map();
    const feeds: Record<string, DeviceTensor> = {};
    for (const [name, tensor] of Object.entries(blockFeeds(model.config, model.weights, index))) {
      const held = before.get(tensor) ?? (await this.device.upload(tensor));
      this.uploaded.set(tensor, held);
      feeds[name] = held;
    }
    const kept = new Set(this.uploaded.values());
    await this.device.release([...before.values()].filter((held) => !kept.has(held)));
    return feeds;
  }

  /** Zeros on the device, for sums to begin with. */
  async blank(dims: readonly number[]): Promise<DeviceTensor> {
    const key = dims.join();
    const known = this.blanks.get(key);
    if (known) return known;
    const held = await this.device.upload({ type: "float64", dims, data: new Float64Array(elementCount(dims)) });
    this.blanks.set(key, held);
    return held;
  }

  async dispose(): Promise<void> {
    await this.rest();
    await this.sessions.dispose();
    await this.device.release([...this.blanks.values(), ...this.uploaded.values()]);
    this.blanks.clear();
    this.uploaded.clear();
  }
}

/** All that is held, each once. */
export const heldBy = (streams: readonly Stream[]): DeviceTensor[] => [
  ...new Set(streams.flatMap(({ tokens }) => [...tokens.values()])),
];

/** The tokens that enter block 0, the same for teacher and student; kept for `startAgain` where that is to come. */
export async function embedAll(
  teacher: Model,
  batches: AsyncIterable<FloatTensor> | Iterable<FloatTensor>,
  again: boolean,
): Promise<Stream[]> {
  const { config, weights, device } = teacher;
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const session = await compile(graph([pixels], { tokens: embed(config, frozenWeights(weights), pixels) }), device);
  const streams: Stream[] = [];
  try {
    for await (const batch of batches) {
      const { kept } = await session.run({ feeds: { pixels: batch }, keep: ["tokens"] });
      const aside = streams.length % validationEvery === validationEvery - 1;
      const names: readonly TokenName[] = again ? ["student", "teacher", "first"] : ["student", "teacher"];
      streams.push({ tokens: new Map(names.map((name) => [name, kept.tokens])), aside });
    }
  } finally {
    await session.dispose();
  }
  return streams;
}

/** Puts the tokens that enter block 0 back, for another sweep. */
export async function startAgain(passes: Passes, streams: readonly Stream[]): Promise<void> {
  for (const stream of streams)
    for (const name of ["student", "teacher"] as const) await passes.replace(stream, name, tokensOf(stream, "first"));
}

/** Tokens of all pictures of a batch. */
export function tokenCountOf(stream: Stream): number {
  const [batch, perPicture] = tokensOf(stream, "student").dims;
  return batch * perPicture;
}

/** What a pass over all batches found: sums to fit, sums of all, and the difference on pictures set aside. */
export interface Summed {
  readonly fitting: Sums;
  readonly all: Sums;
  readonly difference: number;
}

/**
 * Adds up one pass over all batches, on the device: G'G `[n, n]` and G'R `[n, m]`. Without batches set aside, differences are of
 * all.
 */
export async function sumUp(
  passes: Passes,
  streams: readonly Stream[],
  pass: Exclude<SummingPassName, "mixed" | "difference">,
  feeds: BlockFeeds,
  n: number,
  m: number,
): Promise<Summed> {
  const anyAside = streams.some(({ aside }) => aside);
  let difference = 0;
  const [fitting, aside] = await addUp(passes, streams, { gram: [n, n], cross: [n, m] }, async (stream, before) => {
    const { tensors, kept } = await passes.run(
      pass,
      stream,
      { ...before, ...feeds },
      { fetch: ["difference"], keep: ["next.gram", "next.cross"] },
    );
    if (stream.aside === anyAside) difference += Number(tensors.difference.data[0]);
    return { gram: kept["next.gram"], cross: kept["next.cross"] };
  });
  return { ...both({ n, m, ...fitting }, aside && { n, m, ...aside }), difference };
}

/** Adds up what enters the attention's output map, G'G `[n, n]`, with zeros for G'R `[n, m]`: nothing is missing. */
export async function sumUpMixed(
  passes: Passes,
  streams: readonly Stream[],
  n: number,
  m: number,
): Promise<Omit<Summed, "difference">> {
  const [fitting, aside] = await addUp(passes, streams, { gram: [n, n] }, async (stream, before) => {
    const { kept } = await passes.run("mixed", stream, before, { keep: ["next.gram"] });
    return { gram: kept["next.gram"] };
  });
  const sums = ({ gram }: { gram: Float64Array }): Sums => ({ n, m, gram, cross: new Float64Array(n * m) });
  return both(sums(fitting), aside && sums(aside));
}

/** Sums to fit and sums of all, from those of the two parts. */
function both(fitting: Sums, aside: Sums | undefined): Omit<Summed, "difference"> {
  if (!aside) return { fitting, all: fitting };
  addSums(aside, fitting);
  return { fitting, all: aside };
}

/** Adds sums up on the device, from zeros, for what is to be fitted and for what is set aside (where anything is). */
async function addUp<Name extends string>(
  passes: Passes,
  streams: readonly Stream[],
  dims: Readonly<Record<Name, readonly number[]>>,
  add: (stream: Stream, before: Readonly<Record<Name, DeviceTensor>>) => Promise<Record<Name, DeviceTensor>>,
): Promise<[Record<Name, Float64Array>, Record<Name, Float64Array>?]> {
  type Held = Readonly<Record<Name, DeviceTensor>>;
  const { device } = passes;
  const blanks: [string, DeviceTensor][] = [];
  for (const [name, own] of Object.entries<readonly number[]>(dims)) blanks.push([name, await passes.blank(own)]);
  const blank = Object.fromEntries(blanks) as Held;
  const held = new Map([[false, blank]]);
  if (streams.some(({ aside }) => aside)) held.set(true, blank);
  const release = async (sums: Held) => {
    if (sums !== blank) await device.release(Object.values(sums));
  };
  try {
    for (const stream of streams) {
      const before = held.get(stream.aside) as Held;
      held.set(stream.aside, await add(stream, before));
      await release(before);
    }
    await passes.rest();
    const download = async (sums: Held) => {
      const found: [string, Float64Array][] = [];
      for (const [name, tensor] of Object.entries<DeviceTensor>(sums))
        found.push([name, (await device.download(tensor)).data as Float64Array]);
      return Object.fromEntries(found) as Record<Name, Float64Array>;
    };
    const aside = held.get(true);
    return [await download(held.get(false) as Held), aside && (await download(aside))];
  } finally {
    for (const sums of held.values()) await release(sums);
  }
}
