// The passes of a start in closed form over all images: tokens that stay on the device, and sums over them.
import { compile, Sessions } from "../../engine/compile.ts";
import { graph, input } from "../../engine/graph/build.ts";
import type { Graph } from "../../engine/graph/graph.ts";
import type { Model } from "../../models/model.ts";
import type { BlockShape, VitConfig } from "../../models/config.ts";
import { blockConfig, blockShape } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { embed, frozenWeights } from "../../models/vit.ts";
import type { Int8Options } from "../../engine/passes/int8/int8-products.ts";
import { storedInHalf } from "../../engine/passes/stored-half.ts";
import type { Device, DeviceTensor, Session } from "../../runtime/device.ts";
import { RunError } from "../../utils/errors.ts";
import { firstNotFinite } from "../../utils/finite.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";
import type { BlockValues } from "./refit-graphs.ts";
import {
  attendedGraph,
  attendedPass,
  attentionHalfGraph,
  attentionPass,
  blockConstants,
  blockFeeds,
  blockGraph,
  channelsPass,
  differencePass,
  enteringPass,
  fc2DifferencePass,
  fc2Pass,
  fromHiddenGraph,
  hiddenGraph,
  joinGraph,
  mixedPass,
  mlpHalfGraph,
  norm1Pass,
  norm2Pass,
  projPass,
  sampleGraph,
} from "./refit-graphs.ts";
import { partFeed, sumsFrom } from "./refit-sums.ts";
import type { Sums } from "../../engine/linalg/ridge.ts";
import { addSums, scaledSums } from "../../engine/linalg/ridge.ts";

/** Every so many batches, one is for saying whether a change helps. */
const validationEvery = 5;

/**
 * Tokens `[B, N, D]` of one batch, or rows `[R, D]` of several, on the device: those that enter the student's block; the
 * teacher's that enter its block, and then those that it should give; the teacher's between attention and MLP; what enters the
 * student's attention's output map, and its fc2; and, where they are needed again, those that enter the first block.
 */
export interface Stream {
  readonly tokens: Map<"student" | "teacher" | "middle" | "mixed" | "hidden" | "first", DeviceTensor>;
  /** Whether solutions are evaluated on it, rather than fitted. */
  readonly aside: boolean;
  /** Of prior images: what all of these count for beside all that is fitted, together. They are never evaluated on. */
  readonly priorWeight?: number;
  /** Whether its tokens stay in memory: sums read rows of a sample again and again. */
  readonly inMemory?: boolean;
}
export type TokenName = Parameters<Stream["tokens"]["get"]>[0];

export const tokensOf = ({ tokens }: Stream, name: TokenName): DeviceTensor => {
  const stored = tokens.get(name);
  if (!stored) throw new Error(`no ${name} tokens were left`);
  return stored;
};

/** Tokens by the inputs that read them; a block without attention reads no `mixed`. */
function tokensNamed(stream: Stream, named: Readonly<Record<string, TokenName>>, config: VitConfig): SumTensors {
  const read = Object.entries(named).filter(([, name]) => name !== "mixed" || blockShape(config, 0).heads > 0);
  return Object.fromEntries(read.map(([input, name]) => [input, tokensOf(stream, name)]));
}

interface SummingPass {
  readonly build: (config: VitConfig, dims: readonly number[], begins: boolean) => Graph;
  readonly reads: Readonly<Record<string, TokenName>>;
}

const fromMixed = { x: "student", mixed: "mixed" } as const;
const fromHidden = { x: "student", hidden: "hidden" } as const;
/** The passes that look at tokens to sum them up, by name. Behind the attention, `student` are the tokens there. */
const summingPasses = {
  mixed: { build: mixedPass, reads: { mixed: "mixed" } },
  entering: { build: enteringPass, reads: { x: "student" } },
  norm1: { build: norm1Pass, reads: { x: "student", target: "teacher" } },
  proj: { build: projPass, reads: { ...fromMixed, target: "teacher" } },
  attended: { build: attendedPass, reads: { ...fromMixed, target: "middle" } },
  difference: { build: differencePass, reads: { ...fromMixed, target: "teacher" } },
  norm2: { build: norm2Pass, reads: { x: "student", target: "middle" } },
  channels: { build: channelsPass, reads: { x: "student" } },
  fc2: { build: fc2Pass, reads: { ...fromHidden, target: "teacher" } },
  fc2Difference: { build: fc2DifferencePass, reads: { ...fromHidden, target: "teacher" } },
} as const satisfies Record<string, SummingPass>;
type SummingPassName = keyof typeof summingPasses;

interface MovingPass {
  readonly build: (config: VitConfig, dims: readonly number[], block?: BlockValues) => Graph;
  readonly reads: { readonly x: TokenName } & Readonly<Record<string, TokenName>>;
  readonly writes: TokenName;
}

/** The passes that make new tokens of old ones, what they read, and what they replace. */
const movingPasses = {
  teacher: { build: blockGraph, reads: { x: "teacher" }, writes: "teacher" },
  teacherAttention: { build: attentionHalfGraph, reads: { x: "teacher" }, writes: "middle" },
  teacherMlp: { build: mlpHalfGraph, reads: { x: "middle" }, writes: "teacher" },
  attention: { build: attentionPass, reads: { x: "student" }, writes: "mixed" },
  attended: { build: attendedGraph, reads: fromMixed, writes: "student" },
  hidden: { build: hiddenGraph, reads: { x: "student" }, writes: "hidden" },
  output: { build: fromHiddenGraph, reads: fromHidden, writes: "student" },
  mlp: { build: mlpHalfGraph, reads: { x: "student" }, writes: "student" },
} as const satisfies Record<string, MovingPass>;
export type MovingPassName = keyof typeof movingPasses;
/** What a pass that moves tokens replaces. */
export const writtenBy = (pass: MovingPassName): TokenName => movingPasses[pass].writes;

/** What tokens are moved by, and what becomes of them. */
export interface Move {
  readonly model: ModelDefinition;
  readonly block: number;
  readonly int8?: Int8Options;
  /** Sees each batch when tokens of it were replaced. */
  readonly seen?: (stream: Stream, name: TokenName) => Promise<void>;
}

/** A block's weights on the device, and its configuration as one of a model whose blocks are all like it. */
export interface BlockTensors {
  readonly config: VitConfig;
  readonly feeds: Readonly<Record<string, DeviceTensor>>;
}

/** What sessions for such blocks are told apart by. */
const shapeKey = ({ heads, mlpWidth, queryWidth, valueWidth }: BlockShape): string =>
  [heads, mlpWidth, queryWidth, valueWidth].join(" ");

/** Parts of sums on the device, by name. */
type SumTensors = Readonly<Record<string, DeviceTensor>>;

/** What tokens are stored as. Half precision takes half the memory; passes compute in float32 either way. */
export type TokenType = "float32" | "float16";

/** How the tokens of all images are stored. */
export interface TokenStorage {
  readonly type: TokenType;
  /** What they may take of memory, in bytes. The others lie in a file, where the device can do that. */
  readonly most: number;
}

/** Those of 450 images of a ViT-S/14, 224 pixels wide. */
const mostInMemory = 512 * 2 ** 20;
export const storageOf = (type: TokenType, most = mostInMemory): TokenStorage => ({ type, most });

/** A graph with tokens stored so, where it reads or gives them. */
const withTokensOf = (type: TokenType, graph: Graph, names: readonly string[]): Graph =>
  type === "float16" ? storedInHalf(graph, new Set(names)) : graph;

/**
 * The passes over one batch, a session for each, each batch size and each shape of a block; a block's weights are fed from the
 * device.
 */
export class Passes {
  readonly device: Device;
  private readonly storage: TokenStorage;
  private readonly sampling: Sessions;
  private readonly shaped = new Map<string, Sessions>();
  private uploaded = new Map<FloatTensor, DeviceTensor>();

  constructor(device: Device, storage: TokenStorage) {
    this.device = device;
    this.storage = storage;
    this.sampling = new Sessions(device);
  }

  private sessionsFor(config: VitConfig): Sessions {
    const key = shapeKey(blockShape(config, 0));
    const opened = this.shaped.get(key);
    if (opened) return opened;
    // Each computes a few times for a block: what it computes in would lie unused for most of the time.
    const made = new Sessions(this.device, { keepMemory: false });
    this.shaped.set(key, made);
    return made;
  }

  /** Closes the sessions for blocks of other shapes than these. */
  async keepShapes(shapes: readonly BlockShape[]): Promise<void> {
    const kept = new Set(shapes.map(shapeKey));
    for (const [key, sessions] of [...this.shaped]) {
      if (kept.has(key)) continue;
      this.shaped.delete(key);
      await sessions.dispose();
    }
  }

  /**
   * Runs a pass over tokens that it sums up: the parts of sums so far, `before` among them where there are any, which stay on the
   * device, and the difference that it finds.
   */
  async sum(
    pass: SummingPassName,
    stream: Stream,
    { config, feeds }: BlockTensors,
    before?: SumTensors,
  ): Promise<{ parts: SumTensors; difference: number }> {
    const { build, reads }: SummingPass = summingPasses[pass];
    const tokens = tokensNamed(stream, reads, config);
    const { dims } = tokensOf(stream, "student");
    const begins = before === undefined;
    const key = [pass, begins ? "first" : "next", ...dims].join(" ");
    const session = await this.sessionsFor(config).get(key, () =>
      withTokensOf(this.storage.type, build(config, dims, begins), Object.keys(reads)),
    );
    const added = Object.entries(before ?? {}).map(([name, part]) => [partFeed(name), part]);
    const isPart = (name: string) => name !== "difference";
    const { tensors, kept } = await session.run({
      feeds: { ...feeds, ...tokens, ...(Object.fromEntries(added) as SumTensors) },
      fetch: session.outputNames.filter((name) => !isPart(name)),
      keep: session.outputNames.filter(isPart),
    });
    return { parts: kept, difference: Number(tensors.difference?.data[0] ?? 0) };
  }

  /**
   * Runs passes with a block's weights over the tokens of all batches, in 8 bits where that is asked for: all passes over one batch
   * before the next. What one pass makes for the next alone is dropped behind it.
   */
  async move(
    given: MovingPassName | readonly MovingPassName[],
    streams: readonly Stream[],
    moved: Move,
  ): Promise<void> {
    const { model, block, int8, seen } = moved;
    const names = typeof given === "string" ? [given] : given;
    // Weights in 8 bits are constants, so that each block has sessions of its own.
    const constants = int8 && blockConstants(model.weights, block);
    const fed: BlockTensors = constants
      ? { config: blockConfig(model.config, block), feeds: {} }
      : await this.blockOf(model, block);
    const sessions = constants ? new Sessions(this.device, { int8 }) : this.sessionsFor(fed.config);
    const last = writtenBy(names[names.length - 1]);
    try {
      for (const stream of streams) {
        for (const name of names) {
          await this.moveOne(name, stream, fed, sessions, constants);
          await seen?.(stream, writtenBy(name));
        }
        for (const name of names.map(writtenBy)) if (name !== last) await this.replace(stream, name, undefined);
      }
    } finally {
      if (constants) await sessions.dispose();
    }
  }

  /** Runs a pass over the tokens of one batch. */
  private async moveOne(
    pass: MovingPassName,
    stream: Stream,
    { config, feeds }: BlockTensors,
    sessions: Sessions,
    constants: BlockValues | undefined,
  ): Promise<void> {
    const { build, reads, writes }: MovingPass = movingPasses[pass];
    const { dims } = tokensOf(stream, reads.x);
    // Where all dimensions are known, memory of tokens is used again.
    const session = await sessions.get(`${pass} ${dims.join()}`, () => {
      const graph = build(config, dims, constants);
      return withTokensOf(this.storage.type, graph, [...Object.keys(reads), ...graph.outputs.keys()]);
    });
    const [made] = session.outputNames;
    const tokens = tokensNamed(stream, reads, config);
    const { kept } = await session.run({ feeds: { ...feeds, ...tokens }, keep: [made] });
    await this.replace(stream, writes, kept[made]);
  }

  /** Every `stride`-th of a batch's tokens as rows. */
  async sample(stream: Stream, name: TokenName, stride: number): Promise<DeviceTensor> {
    const stored = tokensOf(stream, name);
    const session = await this.sampling.get(`sample ${stride} ${stored.dims.join()}`, () =>
      sampleGraph(stored.dims, stride, this.storage.type),
    );
    return (await session.run({ feeds: { tokens: stored }, keep: ["rows"] })).kept.rows;
  }

  /** Rows of several batches as those of one, which takes their place. */
  async joined(parts: readonly DeviceTensor[]): Promise<DeviceTensor> {
    if (parts.length === 1) return parts[0];
    const dims = parts.map((part) => part.dims);
    const session = await this.sampling.get(`join ${dims.join(" ")}`, () => joinGraph(dims, this.storage.type));
    const feeds = Object.fromEntries(parts.map((part, i) => [`rows.${i}`, part]));
    const { kept } = await session.run({ feeds, keep: ["rows"] });
    await this.device.release(parts);
    return kept.rows;
  }

  /** Puts new tokens in the place of others, or none. */
  async replace(stream: Stream, name: TokenName, next: DeviceTensor | undefined): Promise<void> {
    const { tokens } = stream;
    const old = tokens.get(name);
    if (next) tokens.set(name, next);
    else tokens.delete(name);
    // Teacher and student begin with the same tokens.
    if (old && ![...tokens.values()].includes(old)) await this.device.release([old]);
    // Behind that, so that there is room for them.
    if (next && !stream.inMemory) await this.device.allowOffload?.(next, this.storage.most);
  }

  /** Lets go of tokens that are not needed any more. */
  async drop(streams: readonly Stream[], name: TokenName): Promise<void> {
    for (const stream of streams) await this.replace(stream, name, undefined);
  }

  /** A block's weights on the device. Those that the block before asked for too stay where they are; others are released. */
  async blockOf(model: ModelDefinition, index: number): Promise<BlockTensors> {
    const before = this.uploaded;
    this.uploaded = new Map();
    const feeds: Record<string, DeviceTensor> = {};
    for (const [name, tensor] of Object.entries(blockFeeds(model.config, model.weights, index))) {
      const uploaded = before.get(tensor) ?? (await this.device.upload(tensor));
      this.uploaded.set(tensor, uploaded);
      feeds[name] = uploaded;
    }
    const kept = new Set(this.uploaded.values());
    await this.device.release([...before.values()].filter((uploaded) => !kept.has(uploaded)));
    return { config: blockConfig(model.config, index), feeds };
  }

  async dispose(): Promise<void> {
    await this.keepShapes([]);
    await this.sampling.dispose();
    await this.device.release([...this.uploaded.values()]);
    this.uploaded.clear();
  }
}

/** All that is held, each once. */
export const heldBy = (streams: readonly Stream[]): DeviceTensor[] => [
  ...new Set(streams.flatMap(({ tokens }) => [...tokens.values()])),
];

interface Embedding {
  readonly storage: TokenStorage;
  /** Keeps the tokens for `startAgain`. */
  readonly again?: boolean;
  /** What all of these images count for, where they are prior ones. */
  readonly priorWeight?: number;
  /** Whose tokens are the student's, where they are not the teacher's. */
  readonly student?: ModelDefinition;
}

/** The tokens that enter block 0, the same for teacher and student where there is no other `student`. */
export async function embedAll(
  teacher: Model,
  batches: AsyncIterable<FloatTensor> | Iterable<FloatTensor>,
  { storage, again = false, priorWeight, student }: Embedding,
): Promise<Stream[]> {
  const { device } = teacher;
  const sessions: Session[] = [];
  const streams: Stream[] = [];
  try {
    for (const model of student ? [teacher, student] : [teacher])
      sessions.push(await compile(withTokensOf(storage.type, embeddingGraph(model), ["tokens"]), device));
    for await (const pixels of batches) {
      const made: DeviceTensor[] = [];
      for (const session of sessions) {
        const { tokens } = (await session.run({ feeds: { pixels }, keep: ["tokens"] })).kept;
        await device.allowOffload?.(tokens, storage.most);
        made.push(tokens);
      }
      const [first, own = first] = made;
      const aside = priorWeight === undefined && streams.length % validationEvery === validationEvery - 1;
      const tokens: Stream["tokens"] = new Map([
        ["student", own],
        ["teacher", first],
      ]);
      if (again) tokens.set("first", first);
      streams.push({ tokens, aside, ...(priorWeight === undefined ? {} : { priorWeight }) });
    }
  } catch (error) {
    await device.release(heldBy(streams));
    throw error;
  } finally {
    for (const session of sessions) await session.dispose();
  }
  return streams;
}

function embeddingGraph({ config, weights }: ModelDefinition): Graph {
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  return graph([pixels], { tokens: embed(config, frozenWeights(weights), pixels) });
}

/** Puts the tokens that enter block 0 back, for another sweep. */
export async function startAgain(passes: Passes, streams: readonly Stream[]): Promise<void> {
  for (const stream of streams)
    for (const name of ["student", "teacher"] as const) await passes.replace(stream, name, tokensOf(stream, "first"));
}

/** Tokens of all images of a batch, or rows of a sample. */
export function rowsOf(stream: Stream): number {
  return elementCount(tokensOf(stream, "student").dims.slice(0, -1));
}

/** What a pass over all batches found: sums to fit, sums of all, and the difference on images set aside. */
export interface Summed {
  readonly fitting: Sums;
  readonly all: Sums;
  readonly difference: number;
}

/** That sums over tokens hold NaN or infinity; whoever knows the block says which. */
export class SumsNotFinite extends RunError {
  constructor(pass: string) {
    super(`The closed form's sums over tokens (${pass}) are not finite.`);
  }
}

/**
 * Adds up one pass over all batches, for a map of `m` outputs. Without batches set aside, differences are of all.
 */
export async function sumUp(
  passes: Passes,
  streams: readonly Stream[],
  pass: Exclude<SummingPassName, "difference" | "fc2Difference">,
  block: BlockTensors,
  m: number,
): Promise<Summed> {
  const trainingStreams = streams.filter((stream) => stream.priorWeight === undefined);
  const prior = streams.filter((stream) => stream.priorWeight !== undefined);
  const aside = trainingStreams.filter((stream) => stream.aside);
  const fitted = trainingStreams.filter((stream) => !stream.aside);
  try {
    const { sums: fitting, difference: residual } = await addUp(passes, fitted, pass, block, m);
    const weight = prior[0]?.priorWeight ?? 0;
    if (weight > 0) {
      // min |G D - R|^2 + w |G' D - R'|^2: a ridge in the metric of the prior's tokens G', with their solution as its centre.
      const { sums } = await addUp(passes, prior, pass, block, m);
      const rows = (of: readonly Stream[]) => of.reduce((sum, stream) => sum + rowsOf(stream), 0);
      addSums(fitting, scaledSums(sums, (weight * rows(fitted)) / rows(prior)));
    }
    if (aside.length === 0) return { fitting, all: fitting, difference: residual };
    const { sums: all, difference } = await addUp(passes, aside, pass, block, m);
    addSums(all, fitting);
    return { fitting, all, difference };
  } finally {
    // Sums are large, and solving needs memory of other sizes.
    await passes.device.trim();
  }
}

/** Adds a pass up over some batches, on the device. */
async function addUp(
  passes: Passes,
  streams: readonly Stream[],
  pass: SummingPassName,
  block: BlockTensors,
  m: number,
): Promise<{ sums: Sums; difference: number }> {
  const { device } = passes;
  let partialSums: SumTensors | undefined;
  let [difference, rows] = [0, 0];
  try {
    for (const stream of streams) {
      const before = partialSums;
      const sum = await passes.sum(pass, stream, block, before);
      partialSums = sum.parts;
      difference += sum.difference;
      rows += rowsOf(stream);
      await device.release(Object.values(before ?? {}));
    }
    const parts: Record<string, Tensor> = {};
    for (const [name, part] of Object.entries(partialSums ?? {})) parts[name] = await device.download(part);
    const sums = sumsFrom(parts, rows, m);
    if ([sums.gram, sums.cross, [difference]].some((values) => firstNotFinite(values) >= 0))
      throw new SumsNotFinite(pass);
    return { sums, difference };
  } finally {
    await device.release(Object.values(partialSums ?? {}));
  }
}
