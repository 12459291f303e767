// Blocks in order, each narrowed with what enters its maps: the moments of all tokens of all images, first at the attention's
// output map, then at fc2. Tokens go on through the narrowed blocks, or through the whole ones.
import { Sessions } from "../../engine/compile.ts";
import { graph, input, matmul, mul, reduceSum, reshape, transposeLast } from "../../engine/graph/build.ts";
import type { Graph, Value } from "../../engine/graph/graph.ts";
import { RidgeSolver } from "../../engine/linalg/ridge.ts";
import { linear, splitHeads } from "../../engine/nn/layers.ts";
import type { VitConfig } from "../../models/config.ts";
import { frozenWeights } from "../../models/vit.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { LinearMap } from "../../models/vit.ts";
import { attentionHalf, embed, mlpHalf } from "../../models/vit.ts";
import { blockWeight, splitBlockName, weightTable } from "../../models/weight-table.ts";
import type { Device } from "../../runtime/device.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { required } from "../../utils/required.ts";
import type { Widths } from "../closed-form/narrowing.ts";
import { narrowedConfig } from "../closed-form/narrowing.ts";
import type { Moments } from "./moments.ts";
import { addMoments, emptyMoments } from "./moments.ts";

/** Moments of each head's queries and keys in each image, where a rule asks for them. */
export interface LogitMoments {
  /** `[images * heads, headWidth, headWidth]`: sums over tokens of q q' and of k k' */
  readonly queries: readonly Float32Array[];
  readonly keys: readonly Float32Array[];
  /** `[images * heads, headWidth]`: sums over tokens of q and of k */
  readonly querySums: readonly Float32Array[];
  readonly keySums: readonly Float32Array[];
}

/** What narrows one block after the other. Each function gives the student with that half of the block narrowed. */
export interface BlockRule {
  /** Whether tokens go on through the narrowed blocks, errors made so far included, or through the whole ones. */
  readonly tokens: "narrowed" | "whole";
  /** Whether `attention` wants moments of queries and keys. */
  readonly logits?: boolean;
  /** Whether sums of squares are enough: products of different inputs are left at zero. */
  readonly squares?: boolean;
  attention(place: BlockPlace, heads: number, logits: LogitMoments | undefined): Promise<ModelDefinition>;
  mlp(place: BlockPlace, channels: number): Promise<ModelDefinition>;
}

export interface BlockPlace {
  readonly student: ModelDefinition;
  /** The configuration of this block before the rule's change. */
  readonly config: VitConfig;
  readonly block: number;
  /** Of what enters the map behind the units: the attention's output map, or fc2. */
  readonly moments: Moments;
  readonly solver: RidgeSolver;
}

export interface Walk {
  /** The teacher's kept blocks. */
  readonly student: ModelDefinition;
  readonly device: Device;
  readonly widths: Widths;
  /** A configuration of blocks whose attention, and MLP, is as the rule leaves it. */
  readonly narrowed?: (config: VitConfig, widths: Widths) => VitConfig;
  /** Normalised images `[B, 3, H, W]`. */
  readonly images: AsyncIterable<FloatTensor>;
  readonly progress: (done: number, total: number) => void;
}

type Half = "attention" | "mlp";
type Wanted = Pick<BlockRule, "logits" | "squares">;

/** A block's half with moments of what enters its last map. Weights are inputs, so that one session serves all blocks. */
function momentsGraph(config: VitConfig, dims: readonly number[], half: Half, wanted: Wanted): Graph {
  const { inputs, weight } = weightInputs(config);
  const x = input("x", "float32", dims);
  const seen = new Map<string, Value>();
  const map: LinearMap = (value, weights, _, module) => {
    const out = linear(value, weights);
    if (module === "q" || module === "k") seen.set(module, out);
    if (module === "proj" || module === "fc2") seen.set("entered", value);
    return out;
  };
  (half === "attention" ? attentionHalf : mlpHalf)(config, weight, 0, x, map);
  const entered = required(seen, "entered");
  const [batch, tokens, width] = entered.shape as readonly number[];
  const rows = reshape(entered, [batch * tokens, width]);
  const gram = wanted.squares ? reduceSum(mul(rows, rows), [0]) : matmul(transposeLast(rows), rows);
  const outputs: Record<string, Value> = { gram, sum: reduceSum(rows, [0]) };
  if (wanted.logits)
    for (const module of ["q", "k"]) {
      const heads = splitHeads(required(seen, module), config.heads);
      outputs[`${module}.gram`] = matmul(transposeLast(heads), heads);
      outputs[`${module}.sum`] = reduceSum(heads, [2]);
    }
  return graph([x, ...inputs], outputs);
}

/** A block's half: `x -> y`. */
function halfGraph(config: VitConfig, dims: readonly number[], half: Half): Graph {
  const { inputs, weight } = weightInputs(config);
  const x = input("x", "float32", dims);
  return graph([x, ...inputs], { y: (half === "attention" ? attentionHalf : mlpHalf)(config, weight, 0, x) });
}

function blockShapes(config: VitConfig): [string, readonly number[]][] {
  return weightTable({ ...config, depth: 1 }).flatMap(({ inBlock, shape }) =>
    inBlock === undefined ? [] : [[inBlock, shape]],
  );
}

function weightInputs(config: VitConfig) {
  const inputs = new Map(blockShapes(config).map(([name, dims]) => [name, input(name, "float32", dims)]));
  return {
    inputs: [...inputs.values()],
    weight: (name: string) => required(inputs, splitBlockName(name)?.inBlock ?? name),
  };
}

/** The tokens of all images, batch by batch, and the sessions that move them. */
class Tokens {
  private readonly sessions: Sessions;
  private batches: FloatTensor[] = [];

  constructor(device: Device) {
    this.sessions = new Sessions(device, { keepMemory: false });
  }

  async embed({ config, weights }: ModelDefinition, images: AsyncIterable<FloatTensor>): Promise<void> {
    for await (const pixels of images) {
      const session = await this.sessions.get(`embed ${pixels.dims.join()}`, () => {
        const value = input("pixels", "float32", pixels.dims);
        return graph([value], { y: embed(config, frozenWeights(weights), value) });
      });
      const { tensors } = await session.run({ feeds: { pixels }, fetch: ["y"] });
      this.batches.push(tensors.y as FloatTensor);
    }
  }

  private async run(batch: FloatTensor, key: string, place: Place, build: () => Graph) {
    const { config, student, block } = place;
    const feeds = Object.fromEntries(
      blockShapes(config).map(([name]) => [name, required(student.weights, blockWeight(block, name))]),
    );
    const shape = [config.heads, config.headWidth, config.mlpWidth, ...batch.dims].join();
    const session = await this.sessions.get(`${key} ${shape}`, build);
    const { tensors } = await session.run({ feeds: { x: batch, ...feeds }, fetch: session.outputNames });
    return tensors as Record<string, FloatTensor>;
  }

  async moments(place: Place, half: Half, wanted: Wanted) {
    let moments: Moments | undefined;
    const sums = { queries: [], keys: [], querySums: [], keySums: [] } as Record<keyof LogitMoments, Float32Array[]>;
    for (const batch of this.batches) {
      const build = () => momentsGraph(place.config, batch.dims, half, wanted);
      const parts = await this.run(batch, `moments ${half}`, place, build);
      const { gram, sum } = parts;
      moments = addMoments(moments ?? emptyMoments(sum.dims[0]), gram.data, sum.data, batch.dims[0] * batch.dims[1]);
      if (!wanted.logits) continue;
      sums.queries.push(parts["q.gram"].data);
      sums.keys.push(parts["k.gram"].data);
      sums.querySums.push(parts["q.sum"].data);
      sums.keySums.push(parts["k.sum"].data);
    }
    return { moments: moments ?? emptyMoments(0), logits: wanted.logits ? sums : undefined };
  }

  async move(place: Place, half: Half): Promise<void> {
    const moved: FloatTensor[] = [];
    for (const batch of this.batches) {
      const build = () => halfGraph(place.config, batch.dims, half);
      moved.push((await this.run(batch, half, place, build)).y);
    }
    this.batches = moved;
  }

  dispose(): Promise<void> {
    return this.sessions.dispose();
  }
}

type Place = Pick<BlockPlace, "student" | "config" | "block">;

/**
 * Narrows all blocks in order by a rule. Memory holds the tokens of all images `[B, N, D]` once, and with `logits` the moments of
 * one block's queries and keys in each image.
 */
export async function walkBlocks(walk: Walk, rule: BlockRule): Promise<ModelDefinition> {
  const { device, widths, progress, narrowed = narrowedConfig } = walk;
  const { config: whole } = walk.student;
  const { mlpWidth, keptHeads } = widths;
  // Blocks that share weights can't be narrowed at all.
  if (mlpWidth === undefined && keptHeads === undefined) return walk.student;
  const [headsOnly, mlpOnly] = [{ keptHeads }, { mlpWidth }];
  const behindAttention = narrowed(whole, headsOnly);
  let { student } = walk;
  const solver = new RidgeSolver(device);
  const tokens = new Tokens(device);
  const half = async (block: number, kind: Half, width: number | undefined) => {
    const ofMlp = kind === "mlp";
    const before = { student, config: ofMlp ? behindAttention : whole, block };
    const given = rule.tokens === "narrowed" ? before : { student: walk.student, config: whole, block };
    if (width !== undefined) {
      const { moments, logits } = await tokens.moments(given, kind, {
        logits: !ofMlp && rule.logits,
        squares: rule.squares,
      });
      const place = { ...before, moments, solver };
      student = await (ofMlp ? rule.mlp(place, width) : rule.attention(place, width, logits));
    }
    const after = { student, config: narrowed(before.config, ofMlp ? mlpOnly : headsOnly), block };
    await tokens.move(rule.tokens === "narrowed" ? after : given, kind);
  };
  try {
    await tokens.embed(student, walk.images);
    for (let block = 0; block < whole.depth; block++) {
      await half(block, "attention", keptHeads);
      await half(block, "mlp", mlpWidth);
      progress(block + 1, whole.depth);
    }
  } finally {
    await tokens.dispose();
    await solver.dispose();
  }
  return { ...student, config: narrowed(whole, widths) };
}
