// Low-rank adapters on the student's linear maps: LoRA (arXiv 2106.09685) on any of the six maps (the paper's "enhanced
// LoRA" has all, section 3.2), and DoRA (arXiv 2402.09353), which keeps each row's length apart from its direction.
import {
  add,
  concat,
  div,
  floor,
  greater,
  input,
  matmul,
  mul,
  reduceSum,
  reshape,
  slice,
  sqrt,
  stopGradient,
  sub,
  where,
} from "../../engine/graph/build.ts";
import type { Value } from "../../engine/graph/graph.ts";
import type { VitConfig } from "../../models/config.ts";
import { attentionWidth, blockShape, qkvRows, queriesWidth } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { LinearMap, TargetModule, WeightLookup } from "../../models/vit.ts";
import { frozenWeights, moduleWeights, moduleWeightName } from "../../models/vit.ts";
import { linear, lowRank } from "../../engine/nn/layers.ts";
import { OptionError, UserError } from "../../utils/errors.ts";

import { drawStream, randomStream } from "../../utils/random.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { float32, zeros } from "../../utils/tensor.ts";
import type { Draws, Shapes, Trainables } from "./trainables.ts";
import { noDraws } from "./trainables.ts";
import { required } from "../../utils/required.ts";

/** A rank for all maps, or one for each. */
export type Rank = number | Readonly<Partial<Record<TargetModule, number>>>;

export interface AdapterPlan {
  readonly rank: Rank;
  readonly targetModules: readonly TargetModule[];
  /** y = Wx + b + s BAx with s = alpha / rank, or alpha / sqrt(rank) where stabilized; s = 1 without alpha. */
  readonly alpha?: number;
  readonly rankStabilized?: boolean;
  /** Share of an adapter's inputs that is set to zero in training. */
  readonly dropout?: number;
  /** DoRA: W' = m (W + s BA) / ||W + s BA||, the norm of each row taken as a constant in the gradient. */
  readonly magnitude?: boolean;
  /** Adapters beside the frozen map in training too, where that is not float32 like them. */
  readonly isSeparate?: boolean;
}

/** `blocks.0.q.lora_A` */
export function adapterName(block: number, module: TargetModule, part: "A" | "B"): string {
  return `blocks.${block}.${module}.lora_${part}`;
}

/** DoRA's lengths: one vector a map, with q, k and v in one. */
function magnitudeName(block: number, module: TargetModule): string {
  return `blocks.${block}.${isOfQkv(module) ? "qkv" : module}.magnitude`;
}

const isOfQkv = (module: TargetModule): module is "q" | "k" | "v" => module === "q" || module === "k" || module === "v";

/** Inputs and outputs of a module's linear map. */
export function moduleSize(
  config: VitConfig,
  module: TargetModule,
  block: number,
): { inputs: number; outputs: number } {
  const { width, mlp } = config;
  const { mlpWidth } = blockShape(config, block);
  switch (module) {
    case "q":
    case "k":
      return { inputs: width, outputs: queriesWidth(config, block) };
    case "v":
      return { inputs: width, outputs: attentionWidth(config, block) };
    case "proj":
      return { inputs: attentionWidth(config, block), outputs: width };
    case "fc1":
      return { inputs: width, outputs: mlp === "gated" ? 2 * mlpWidth : mlpWidth };
    case "fc2":
      return { inputs: mlpWidth, outputs: width };
  }
}

/** The maps of a plan that a block has: it may lack its attention or its MLP. */
function modulesOf(config: VitConfig, { targetModules }: AdapterPlan, block: number): readonly TargetModule[] {
  return targetModules.filter((module) => {
    const { inputs, outputs } = moduleSize(config, module, block);
    return inputs > 0 && outputs > 0;
  });
}

export function rankOf({ rank }: AdapterPlan, module: TargetModule): number {
  const moduleRank = typeof rank === "number" ? rank : rank[module];
  if (moduleRank === undefined)
    throw new OptionError([
      (name) => `${name("rank")} names no value for ${module}, which is among ${name("targetModules")}.`,
    ]);
  return moduleRank;
}

/** What an adapter's product is multiplied by. */
export function adapterScale(plan: AdapterPlan, module: TargetModule): number {
  if (plan.alpha === undefined) return 1;
  const rank = rankOf(plan, module);
  return plan.alpha / (plan.rankStabilized ? Math.sqrt(rank) : rank);
}

/** Name and shape of every parameter: A is `[rank, in]`, B is `[out, rank]`, a magnitude `[out]`. */
export function adapterShapes(config: VitConfig, plan: AdapterPlan): Shapes {
  const shapes = new Map<string, readonly number[]>();
  for (let block = 0; block < config.depth; block++) {
    for (const module of modulesOf(config, plan, block)) {
      const { inputs, outputs } = moduleSize(config, module, block);
      const rank = rankOf(plan, module);
      shapes.set(adapterName(block, module, "A"), [rank, inputs]);
      shapes.set(adapterName(block, module, "B"), [outputs, rank]);
      if (plan.magnitude) {
        shapes.set(magnitudeName(block, module), [isOfQkv(module) ? qkvRows(config, block, "v")[1] : outputs]);
      }
    }
  }
  return shapes;
}

/**
 * A from a Kaiming-uniform distribution with a = sqrt 5, which is +-1/sqrt(in); B zero, so that nothing changes yet;
 * magnitudes the lengths of the frozen rows.
 */
export function freshAdapters(student: ModelDefinition, plan: AdapterPlan, seed: number): Map<string, FloatTensor> {
  const adapters = new Map<string, FloatTensor>();
  for (const [name, dims] of adapterShapes(student.config, plan)) {
    const tensor = zeros(dims);
    if (name.endsWith("lora_A")) {
      const random = drawStream(seed, "adapter", name);
      const bound = 1 / Math.sqrt(dims[1]);
      for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = (2 * random.uniform() - 1) * bound;
    } else if (name.endsWith("magnitude")) {
      tensor.data.set(rowLengths(required(student.weights, weightOfMagnitude(name))));
    }
    adapters.set(name, tensor);
  }
  return adapters;
}

/** `blocks.0.qkv.magnitude` is that of `blocks.0.attn.qkv.weight`. */
function weightOfMagnitude(name: string): string {
  return name
    .replace(/\.(qkv|proj)\.magnitude$/, ".attn.$1.weight")
    .replace(/\.(fc[12])\.magnitude$/, ".mlp.$1.weight");
}

function rowLengths({ dims, data }: FloatTensor): number[] {
  const [count, width] = dims;
  return Array.from({ length: count }, (_, i) =>
    Math.sqrt(data.subarray(i * width, (i + 1) * width).reduce((sum, v) => sum + v * v, 0)),
  );
}

/** Adapters as inputs of a graph. */
export function adapterInputs(config: VitConfig, plan: AdapterPlan): Map<string, Value> {
  return new Map([...adapterShapes(config, plan)].map(([name, dims]) => [name, input(name, "float32", dims)]));
}

type Parameters = ReadonlyMap<string, Value>;

interface Adapter {
  readonly A: Value;
  readonly B: Value;
}

function adapterOf(parameters: Parameters, block: number, module: TargetModule): Adapter | undefined {
  const A = parameters.get(adapterName(block, module, "A"));
  const B = parameters.get(adapterName(block, module, "B"));
  return A && B && { A, B };
}

const scaled = (value: Value, scale: number) => (scale === 1 ? value : mul(value, scale));

/** W + s BA; for DoRA m (W + s BA) / ||W + s BA||. `[out, in]` */
function foldedWeight(
  plan: AdapterPlan,
  parameters: Parameters,
  block: number,
  module: TargetModule,
  weight: Value,
): Value {
  const adapter = adapterOf(parameters, block, module);
  if (!adapter) return weight;
  const moved = add(weight, scaled(matmul(adapter.B, adapter.A), adapterScale(plan, module)));
  if (!plan.magnitude) return moved;
  const lengths = stopGradient(sqrt(reduceSum(mul(moved, moved), [1], true)));
  return mul(div(moved, lengths), reshape(magnitudeRows(parameters, block, module, weight), [weight.shape[0], 1]));
}

/** The rows' lengths of one map; those of q, k and v stand in one vector. */
function magnitudeRows(parameters: Parameters, block: number, module: TargetModule, weight: Value): Value {
  const all = required(parameters, magnitudeName(block, module));
  if (!isOfQkv(module)) return all;
  const [total, rows] = [all.shape[0] as number, weight.shape[0] as number];
  // Queries and keys have as many rows, values may have more.
  const from = { q: 0, k: rows, v: total - rows }[module];
  return slice(all, 0, from, from + rows);
}

/** Nothing to add, but for the gradient, which is that of `x`. Passes drop the zeros (`foldConstants`). */
const gradientOnly = (x: Value) => sub(x, stopGradient(x));

/**
 * Linear maps with their adapters. The adapter is folded into the weight, so that tokens and their gradients go through one
 * product; the adapter's own gradients are those of thin products beside it, which no whole weight's gradient is needed for.
 */
export function adaptedLinear(parameters: Parameters, plan: AdapterPlan, draws: Draws = noDraws): LinearMap {
  return (x, weights, block, module) => {
    const adapter = adapterOf(parameters, block, module);
    if (!adapter) return linear(x, weights);
    if (plan.magnitude) {
      return linear(x, { ...weights, weight: foldedWeight(plan, parameters, block, module, weights.weight) });
    }
    const scale = adapterScale(plan, module);
    if (plan.isSeparate || plan.dropout) {
      const entered = dropped(x, plan.dropout ?? 0, draws.inputs, `${block}.${module}`);
      return add(linear(x, weights), scaled(lowRank(entered, adapter), scale));
    }
    const folded = stopGradient(foldedWeight(plan, parameters, block, module, weights.weight));
    return add(
      linear(x, { ...weights, weight: folded }),
      gradientOnly(scaled(lowRank(stopGradient(x), adapter), scale)),
    );
  };
}

const rowNumbers = (key: string) => `dropout.rows.${key}`;
const columnNumbers = (key: string) => `dropout.columns.${key}`;

/**
 * Inputs `[B, N, D]` with a share set to zero and the rest scaled up. Each number's fate is read off a mixture of one
 * random number of its row and one of its column, so that few have to be drawn and handed over.
 */
function dropped(x: Value, share: number, inputs: ReadonlyMap<string, Value>, key: string): Value {
  const rows = inputs.get(rowNumbers(key));
  const columns = inputs.get(columnNumbers(key));
  if (!rows || !columns) return x;
  const mixed = add(mul(mul(rows, columns), 4093), add(mul(rows, 127), mul(columns, 131)));
  return where(greater(sub(mixed, floor(mixed)), share), mul(x, 1 / (1 - share)), 0);
}

function dropoutDraws(config: VitConfig, plan: AdapterPlan, tokens: number, batch: number, seed: number): Draws {
  if (!plan.dropout) return noDraws;
  const shapes = new Map<string, readonly number[]>();
  for (let block = 0; block < config.depth; block++) {
    for (const module of modulesOf(config, plan, block)) {
      shapes.set(rowNumbers(`${block}.${module}`), [batch, tokens, 1]);
      shapes.set(columnNumbers(`${block}.${module}`), [1, 1, moduleSize(config, module, block).inputs]);
    }
  }
  return {
    inputs: new Map([...shapes].map(([name, dims]) => [name, input(name, "float32", dims)])),
    feeds(step, part) {
      const random = randomStream(seed, "adapter dropout", step, part);
      return Object.fromEntries(
        [...shapes].map(([name, dims]): [string, Tensor] => {
          const count = dims.reduce((a, b) => a * b, 1);
          return [
            name,
            float32(
              Float32Array.from({ length: count }, () => random.uniform()),
              dims,
            ),
          ];
        }),
      );
    },
  };
}

/** Adapters as a parameterization of the student; all else is frozen. `tokens` is the length of its sequences. */
export function adapterTrainables(
  student: ModelDefinition,
  plan: AdapterPlan,
  tokens: number,
  seed: number,
): Trainables {
  const { config } = student;
  const weight = frozenWeights(student.weights);
  const shapes = adapterShapes(config, plan);
  return {
    shapes,
    // DoRA's go into whole weights.
    lowRank: plan.magnitude ? [] : [...shapes.keys()],
    fresh: () => freshAdapters(student, plan, seed),
    draws: (batch) => dropoutDraws(config, plan, tokens, batch, seed),
    apply: (parameters, draws) => ({ weight, map: adaptedLinear(parameters, plan, draws) }),
    fold: (parameters) => foldAdapters(config, plan, weight, parameters),
  };
}

/** The adapted maps' weights with the adapters in them, by timm's names. */
export function foldAdapters(
  config: VitConfig,
  plan: AdapterPlan,
  weight: WeightLookup,
  parameters: Parameters,
): Map<string, Value> {
  const folded = new Map<string, Value>();
  for (let block = 0; block < config.depth; block++) {
    const fold = (module: TargetModule) =>
      foldedWeight(plan, parameters, block, module, moduleWeights(config, weight, block, module).weight);
    for (const module of modulesOf(config, plan, block)) {
      const name = moduleWeightName(block, module);
      if (!folded.has(name)) {
        folded.set(name, isOfQkv(module) ? concat([fold("q"), fold("k"), fold("v")], 0) : fold(module));
      }
    }
  }
  return folded;
}

/** Checks parameters that the caller gives. Throws a UserError on a missing, unknown or misshapen one. */
export function checkParameters(given: ReadonlyMap<string, FloatTensor>, shapes: Shapes): void {
  for (const [name, dims] of shapes) {
    const tensor = given.get(name);
    if (!tensor)
      throw new UserError(`The initial adapters lack ${name} [${dims.join(", ")}]`, { code: "INVALID_OPTION" });
    if (tensor.dims.join() !== dims.join()) {
      throw new UserError(
        `The initial adapter ${name} is [${tensor.dims.join(", ")}], but [${dims.join(", ")}] is needed`,
        { code: "INVALID_OPTION" },
      );
    }
  }
  for (const name of given.keys()) {
    if (!shapes.has(name))
      throw new UserError(`The initial adapter ${name} fits no kept block and target module`, {
        code: "INVALID_OPTION",
      });
  }
}
