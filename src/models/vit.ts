// The vision transformer as a graph (arXiv 2010.11929), for every variant that VitConfig describes.
import { add, at, concat, constant, mul, pad, reduceMean, reshape, slice, tanh } from "../graph/build.ts";
import { ShapeError } from "../graph/shapes.ts";
import type { Value } from "../graph/types.ts";
import type { LinearWeights } from "../nn/layers.ts";
import { activations, attention, layerNorm, linear, patchEmbedding } from "../nn/layers.ts";
import type { Tensor } from "../utils/tensor.ts";
import { rows } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import { prefixTokens } from "./config.ts";

/** The linear maps of a block that adapters may sit on. */
export const targetModules = ["q", "k", "v", "proj", "fc1", "fc2"] as const;
export type TargetModule = (typeof targetModules)[number];

/** How a block's linear map is computed; the default is the plain map. Adapters come in here. */
export type LinearMap = (x: Value, weights: LinearWeights, block: number, module: TargetModule) => Value;

/** A weight by its timm name: a constant where it is frozen, an input where it trains. */
export type WeightLookup = (name: string) => Value;

/** Frozen weights, as constants that carry their names. */
export function frozenWeights(weights: ReadonlyMap<string, Tensor>): WeightLookup {
  const made = new Map<string, Value>();
  return (name) => {
    const known = made.get(name);
    if (known) return known;
    const tensor = weights.get(name);
    if (!tensor) throw new Error(`the model has no weight ${name}`);
    const value = constant(tensor, name);
    made.set(name, value);
    return value;
  };
}

/** Rows `from` to `to` of a weight; constants are cut without a copy. */
function weightRows(value: Value, from: number, to: number, suffix: string): Value {
  if (value.source.kind !== "constant") return slice(value, 0, from, to);
  return constant(rows(value.source.tensor, from, to), `${value.source.name}.${suffix}`);
}

/** The shapes and rows of q, k and v in the joint qkv map. */
const qkvParts = { q: 0, k: 1, v: 2 } as const;

/** The linear map that a target module names, with q, k and v cut out of the joint map. */
export function moduleWeights(
  config: VitConfig,
  weight: WeightLookup,
  block: number,
  module: TargetModule,
): LinearWeights {
  const prefix = `blocks.${block}`;
  if (module === "q" || module === "k" || module === "v") {
    const [from, to] = [qkvParts[module] * config.width, (qkvParts[module] + 1) * config.width];
    return {
      weight: weightRows(weight(`${prefix}.attn.qkv.weight`), from, to, module),
      bias: config.qkvBias ? weightRows(weight(`${prefix}.attn.qkv.bias`), from, to, module) : undefined,
    };
  }
  const name = module === "proj" ? `${prefix}.attn.proj` : `${prefix}.mlp.${module}`;
  return { weight: weight(`${name}.weight`), bias: weight(`${name}.bias`) };
}

/** Tokens that enter the first block: `[B, C, H, W] -> [B, N, D]`. */
export function embed(config: VitConfig, weight: WeightLookup, pixels: Value): Value {
  const { patchSize, imageSize } = config;
  if (pixels.shape[2] !== imageSize || pixels.shape[3] !== imageSize) {
    throw new ShapeError(`pictures must be ${imageSize}x${imageSize}, got ${pixels.shape[3]}x${pixels.shape[2]}`);
  }
  const projection = { weight: weight("patch_embed.proj.weight"), bias: weight("patch_embed.proj.bias") };
  const side = Math.floor(imageSize / patchSize) * patchSize;
  const patches = patchEmbedding(slice(slice(pixels, 2, 0, side), 3, 0, side), projection, patchSize);
  // The class token enters as a row of the table that is added, over zeros in front of the patches: this needs no
  // expansion to a batch size that is known only when the graph runs.
  const positions = weight("pos_embed");
  const classRow = add(weight("cls_token"), slice(positions, 1, 0, prefixTokens));
  const table = concat([classRow, slice(positions, 1, prefixTokens, positions.shape[1] as number)], 1);
  return add(pad(patches, 1, prefixTokens, 0), table);
}

/** One pre-norm block: `[B, N, D] -> [B, N, D]`. */
export function vitBlock(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  x: Value,
  map: LinearMap = linear,
): Value {
  const name = `blocks.${index}`;
  const norm = (part: string) => ({ weight: weight(`${name}.${part}.weight`), bias: weight(`${name}.${part}.bias`) });
  const apply = (input: Value, module: TargetModule) =>
    map(input, moduleWeights(config, weight, index, module), index, module);
  const scaled = (value: Value, part: string) =>
    config.layerScale ? mul(value, weight(`${name}.${part}.gamma`)) : value;

  const n1 = layerNorm(x, norm("norm1"), config.normEpsilon);
  const mixed = attention(apply(n1, "q"), apply(n1, "k"), apply(n1, "v"), config.heads);
  const x1 = add(x, scaled(apply(mixed, "proj"), "ls1"));
  const n2 = layerNorm(x1, norm("norm2"), config.normEpsilon);
  const hidden = activations[config.activation](apply(n2, "fc1"));
  return add(x1, scaled(apply(hidden, "fc2"), "ls2"));
}

/** The final norm where the model has one. */
export function finalNorm(config: VitConfig, weight: WeightLookup, x: Value): Value {
  if (!config.finalNorm) return x;
  return layerNorm(x, { weight: weight("norm.weight"), bias: weight("norm.bias") }, config.normEpsilon);
}

export interface VitOutputs {
  /** `[B, N, D]` each: the tokens that enter block 0, then what each block gives (before the final norm). */
  readonly hiddenStates: readonly Value[];
  /** `[B, N, D]`, after the final norm. */
  readonly lastHiddenState: Value;
  /** `[B, D]`, after the final norm. */
  readonly classToken: Value;
  /** `[B, D]`: the dense layer with tanh over the class token, where the model has it. */
  readonly pooled?: Value;
  /** `[B, K]`, where the model has a head. */
  readonly logits?: Value;
}

/** The whole forward pass over normalised pixels `[B, C, H, W]`. */
export function vitForward(config: VitConfig, weight: WeightLookup, pixels: Value, map?: LinearMap): VitOutputs {
  const hiddenStates = [embed(config, weight, pixels)];
  for (let i = 0; i < config.depth; i++) hiddenStates.push(vitBlock(config, weight, i, hiddenStates[i], map));
  const lastHiddenState = finalNorm(config, weight, hiddenStates[config.depth]);
  const classToken = at(lastHiddenState, 1, 0);
  const dense = (name: string): LinearWeights => ({ weight: weight(`${name}.weight`), bias: weight(`${name}.bias`) });
  return {
    hiddenStates,
    lastHiddenState,
    classToken,
    pooled: config.pooler ? tanh(linear(classToken, dense("pooler.dense"))) : undefined,
    logits: config.head && linear(headInput(config, lastHiddenState, classToken), dense("head")),
  };
}

function headInput(config: VitConfig, tokens: Value, classToken: Value): Value {
  const kind = config.head?.input;
  if (kind === "class") return classToken;
  const count = tokens.shape[1] as number;
  const mean = reduceMean(slice(tokens, 1, prefixTokens, count), [1]);
  return kind === "mean" ? mean : reshape(concat([classToken, mean], 1), [tokens.shape[0], 2 * config.width]);
}
