// A start in closed form: block by block, the student's maps are refitted so that each block gives what the last of the
// teacher's blocks that it stands for gives, for the tokens that really enter it (errors made so far included). Related:
// ReplaceMe (arXiv 2505.02819), which fits one map for a run of dropped blocks, and PRACTISE.
import { compile } from "../compile.ts";
import { graph, input } from "../graph/build.ts";
import type { Graph } from "../graph/types.ts";
import type { Model } from "../model.ts";
import type { VitConfig } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { embed, frozenWeights } from "../models/vit.ts";
import type { Device, DeviceTensor, RunRequest, RunResult, Session } from "../runtime/types.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { keptChannels, narrowedSums, narrowWidth, withChannels } from "./narrowing.ts";
import { attentionPass, blockFeeds, blockGraph, mlpPass, outputPass } from "./refit-graphs.ts";
import type { Sums } from "./ridge.ts";
import { addSums, emptySums, meanDiagonal, RidgeSolver } from "./ridge.ts";
import { copyBlocks, stoodFor } from "./weight-copy.ts";

export interface AnalyticOptions {
  /** Refit the attention's output map too, before the MLP's. */
  readonly attention: boolean;
  /** Ridges to try in this order, in units of the mean of the normal equations' diagonal, until one helps. */
  readonly ridges: readonly number[];
  /** The share of its solution that the attention's map moves by. */
  readonly attentionStep: number;
  /** Channels that each block's MLP keeps: a count, or a share below 1; all where left out. */
  readonly mlpWidth?: number;
}

export const analyticDefaults: AnalyticOptions = {
  attention: true,
  ridges: [0.1, 1],
  attentionStep: 0.5,
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

/** Every so many batches, one is for saying whether a change helps. */
const validationEvery = 5;

/**
 * Tokens `[B, N, D]` of one batch, on the device: those that enter the student's block, the teacher's that it should give,
 * and what the block's passes leave for one another.
 */
interface Stream {
  readonly tokens: Map<"student" | "teacher" | "mixed" | "entering", DeviceTensor>;
  /** Whether solutions are judged on it, rather than fitted. */
  readonly aside: boolean;
}
type TokenName = Parameters<Stream["tokens"]["get"]>[0];

const tokensOf = ({ tokens }: Stream, name: TokenName): DeviceTensor => {
  const found = tokens.get(name);
  if (!found) throw new Error(`no ${name} tokens were left`);
  return found;
};

type Pass = "block" | "attention" | "mlp" | "output";
type BlockFeeds = Readonly<Record<string, DeviceTensor>>;

/** The passes over one batch, a session for each and each batch size; a block's weights are fed from the device. */
class Passes {
  readonly device: Device;
  private readonly config: VitConfig;
  private readonly sessions = new Map<string, Session>();

  constructor(device: Device, config: VitConfig) {
    this.device = device;
    this.config = config;
  }

  private build(pass: Pass, dims: readonly number[]): Graph {
    switch (pass) {
      case "block":
        return blockGraph(this.config, dims);
      case "attention":
        return attentionPass(this.config, dims);
      case "mlp":
        return mlpPass(this.config, dims);
      case "output":
        return outputPass(this.config, dims);
    }
  }

  /** Runs a pass over `x` and what else it is fed; `keep` stays on the device. */
  async run(
    pass: Pass,
    dims: readonly number[],
    feeds: BlockFeeds,
    { fetch, keep }: Pick<RunRequest, "fetch" | "keep">,
  ): Promise<RunResult> {
    const key = `${pass} ${dims.join()}`;
    const session = this.sessions.get(key) ?? (await compile(this.build(pass, dims), this.device));
    this.sessions.set(key, session);
    return session.run({ feeds, fetch, keep });
  }

  /** Puts new tokens in the place of others. */
  async replace({ tokens }: Stream, name: TokenName, next: DeviceTensor): Promise<void> {
    const old = tokens.get(name);
    tokens.set(name, next);
    // Teacher and student begin with the same tokens.
    if (old && ![...tokens.values()].includes(old)) await this.device.release([old]);
  }

  /** A block's weights on the device, as long as `action` takes. */
  async withBlock<T>(model: ModelDefinition, index: number, action: (feeds: BlockFeeds) => Promise<T>): Promise<T> {
    const feeds: Record<string, DeviceTensor> = {};
    try {
      for (const [name, tensor] of Object.entries(blockFeeds(model.config, model.weights, index)))
        feeds[name] = await this.device.upload(tensor);
      return await action(feeds);
    } finally {
      await this.device.release(Object.values(feeds));
    }
  }

  async dispose(streams: readonly Stream[]): Promise<void> {
    for (const session of this.sessions.values()) await session.dispose();
    this.sessions.clear();
    await this.device.release([...new Set(streams.flatMap(({ tokens }) => [...tokens.values()]))]);
    await this.device.trim();
  }
}

/**
 * Refits a student of the teacher's `kept` blocks on normalised pictures, batch by batch `[B, 3, H, W]`. Memory holds the
 * tokens of all pictures four times, and one map's normal equations twice. Throws a RunError where sums are not finite.
 */
export async function analyticStart(
  teacher: Model,
  kept: readonly number[],
  batches: AsyncIterable<FloatTensor>,
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
  try {
    let from = 0;
    for (const [block, end] of stoodFor(kept, config.depth).entries()) {
      for (let i = from; i <= end; i++) await advanceTeacher(passes, teacher, streams, i);
      const found = await refitBlock({ passes, behind, solver, narrow }, student, streams, block, options);
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

/** The tokens that enter block 0, the same for teacher and student. */
async function embedAll(teacher: Model, batches: AsyncIterable<FloatTensor>): Promise<Stream[]> {
  const { config, weights, device } = teacher;
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const session = await compile(graph([pixels], { tokens: embed(config, frozenWeights(weights), pixels) }), device);
  const streams: Stream[] = [];
  try {
    for await (const batch of batches) {
      const { kept } = await session.run({ feeds: { pixels: batch }, keep: ["tokens"] });
      const aside = streams.length % validationEvery === validationEvery - 1;
      const tokens = new Map([
        ["student", kept.tokens],
        ["teacher", kept.tokens],
      ] as const);
      streams.push({ tokens, aside });
    }
  } finally {
    await session.dispose();
  }
  return streams;
}

function advanceTeacher(passes: Passes, teacher: Model, streams: readonly Stream[], index: number): Promise<void> {
  return passes.withBlock(teacher, index, async (feeds) => {
    for (const stream of streams) {
      const x = tokensOf(stream, "teacher");
      const { kept } = await passes.run("block", x.dims, { x, ...feeds }, { keep: ["y"] });
      await passes.replace(stream, "teacher", kept.y);
    }
  });
}

/** What a pass over all batches found: sums to fit, sums of all, and the difference on pictures set aside. */
interface Summed {
  readonly fitting: Sums;
  readonly all: Sums;
  readonly difference: number;
}

/** Adds up one pass over all batches, on the device. Without batches set aside, differences are of all. */
async function sumUp(
  device: Device,
  streams: readonly Stream[],
  inputs: number,
  outputs: number,
  run: (stream: Stream, sums: BlockFeeds) => Promise<RunResult>,
): Promise<Summed> {
  const anyAside = streams.some(({ aside }) => aside);
  const blank = emptySums(inputs, outputs);
  const upload = async () => ({
    gram: await device.upload({ type: "float64", dims: [inputs, inputs], data: blank.gram }),
    cross: await device.upload({ type: "float64", dims: [inputs, outputs], data: blank.cross }),
  });
  const held = new Map([[false, await upload()]]);
  if (anyAside) held.set(true, await upload());
  let difference = 0;
  try {
    for (const stream of streams) {
      const before = held.get(stream.aside) as { gram: DeviceTensor; cross: DeviceTensor };
      const { tensors, kept } = await run(stream, before);
      held.set(stream.aside, { gram: kept["next.gram"], cross: kept["next.cross"] });
      await device.release(Object.values(before));
      if (stream.aside === anyAside) difference += Number(tensors.difference.data[0]);
    }
    const download = async (tensor: DeviceTensor) => (await device.download(tensor)).data as Float64Array;
    const sums = async (aside: boolean): Promise<Sums> => {
      const { gram, cross } = held.get(aside) as { gram: DeviceTensor; cross: DeviceTensor };
      return { n: inputs, m: outputs, gram: await download(gram), cross: await download(cross) };
    };
    const fitting = await sums(false);
    if (!anyAside) return { fitting, all: fitting, difference };
    const all = await sums(true);
    addSums(all, fitting);
    return { fitting, all, difference };
  } finally {
    await device.release([...held.values()].flatMap((pair) => Object.values(pair)));
  }
}

interface Tools {
  readonly passes: Passes;
  /** Passes over a block whose MLP is done with: narrower, where that is asked for. */
  readonly behind: Passes;
  readonly solver: RidgeSolver;
  readonly narrow: number | undefined;
}

/** Refits one block's maps, and moves the student's tokens behind it. */
async function refitBlock(
  { passes, behind, solver, narrow }: Tools,
  student: ModelDefinition,
  streams: readonly Stream[],
  block: number,
  options: AnalyticOptions,
): Promise<{ student: ModelDefinition; refits: Refit[] }> {
  const { width, mlpWidth } = student.config;
  const { device } = passes;
  const refits: Refit[] = [];
  const judged = streams.some(({ aside }) => aside);
  // Too few pictures to set some aside: only a firm ridge is to be trusted.
  const ridges = judged ? options.ridges : options.ridges.filter((ridge) => ridge >= 1);

  const solve = (sums: Sums, ridge: number) => solver.solve(sums, ridge * meanDiagonal(sums));

  const first = await passes.withBlock(student, block, (feeds) =>
    sumUp(device, streams, width + 1, width, async (stream, sums) => {
      const [x, target] = [tokensOf(stream, "student"), tokensOf(stream, "teacher")];
      const kept = ["mixed", "next.gram", "next.cross"];
      const found = await passes.run(
        "attention",
        x.dims,
        { x, target, ...sums, ...feeds },
        { fetch: ["difference"], keep: kept },
      );
      await passes.replace(stream, "mixed", found.kept.mixed);
      return found;
    }),
  );
  const mlp = (model: ModelDefinition) =>
    passes.withBlock(model, block, (feeds) =>
      sumUp(device, streams, mlpWidth + 1, width, async (stream, sums) => {
        const [x, target] = [tokensOf(stream, "student"), tokensOf(stream, "teacher")];
        const mixed = tokensOf(stream, "mixed");
        const kept = ["entering", "next.gram", "next.cross"];
        const all = { x, mixed, target, ...sums, ...feeds };
        const found = await passes.run("mlp", x.dims, all, { fetch: ["difference"], keep: kept });
        await passes.replace(stream, "entering", found.kept.entering);
        return found;
      }),
    );
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

  const differenceOf = (model: ModelDefinition) =>
    passes.withBlock(model, block, async (feeds) => {
      let difference = 0;
      for (const stream of streams.filter(({ aside }) => aside === judged)) {
        const [entering, target] = [tokensOf(stream, "entering"), tokensOf(stream, "teacher")];
        const all = { entering, target, ...feeds };
        const { tensors } = await behind.run("output", entering.dims, all, { fetch: ["difference"] });
        difference += Number(tensors.difference.data[0]);
      }
      return difference;
    });
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
  await passes.withBlock(student, block, async (feeds) => {
    for (const stream of streams) {
      const [entering, target] = [tokensOf(stream, "entering"), tokensOf(stream, "teacher")];
      const { kept } = await behind.run("output", entering.dims, { entering, target, ...feeds }, { keep: ["y"] });
      await passes.replace(stream, "student", kept.y);
    }
  });
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
