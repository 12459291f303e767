// The vision transformer as a graph (arXiv 2010.11929), for every variant that VitConfig describes.
import { add, at, concat, constant, mul, pad, reduceMean, reshape, slice, tanh } from "../engine/graph/build.ts";
import { ShapeError } from "../engine/graph/shapes.ts";
import type { Value } from "../engine/graph/graph.ts";
import type { AttentionParts, LinearWeights, Rotation } from "../engine/nn/layers.ts";
import { activations, attention, depthwise, layerNorm, linear, patchEmbedding } from "../engine/nn/layers.ts";
import { rowsInPlace } from "../utils/offloaded.ts";
import type { DataType, Tensor } from "../utils/tensor.ts";
import type { HeadInput, VitConfig } from "./config.ts";
import { blockShape, headWidthOf, patchCount, prefixCount, qkvRows, rotaryOf } from "./config.ts";
import { rotaryTables } from "./positions.ts";
import type { Tokens } from "./token-merging.ts";
import { checkMerging, mergedMean, mergeTokens, sizeBias, unmerged, unmergedAttention } from "./token-merging.ts";

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
    const cached = made.get(name);
    if (cached) return cached;
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
  return constant(rowsInPlace(value.source.tensor, from, to), `${value.source.name}.${suffix}`);
}

/** `blocks.0.attn.qkv.weight`: the stored weight that holds a module's map, alone or with others. */
export function moduleWeightName(block: number, module: TargetModule): string {
  const name =
    module === "q" || module === "k" || module === "v" ? "attn.qkv" : module === "proj" ? "attn.proj" : `mlp.${module}`;
  return `blocks.${block}.${name}.weight`;
}

/** The linear map that a target module names, with q, k and v cut out of the joint map. */
export function moduleWeights(
  config: VitConfig,
  weight: WeightLookup,
  block: number,
  module: TargetModule,
): LinearWeights {
  const prefix = `blocks.${block}`;
  if (module === "q" || module === "k" || module === "v") {
    const [from, to] = qkvRows(config, block, module);
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
    throw new ShapeError(`images must be ${imageSize}x${imageSize}, got ${pixels.shape[3]}x${pixels.shape[2]}`);
  }
  const projection = {
    weight: weight("patch_embed.proj.weight"),
    bias: config.patchBias ? weight("patch_embed.proj.bias") : undefined,
  };
  const side = Math.floor(imageSize / patchSize) * patchSize;
  const patches = patchEmbedding(slice(slice(pixels, 2, 0, side), 3, 0, side), projection, patchSize);
  const tokens = addTokens(config, weight, patches);
  return config.preNorm ? layerNorm(tokens, normWeights(weight, "norm_pre"), config.normEpsilon) : tokens;
}

/**
 * Patches with their positions, behind the learned tokens. These enter as rows of the table that is added, over zeros
 * in front of the patches: this needs no expansion to a batch size that is known only when the graph runs.
 */
function addTokens(config: VitConfig, weight: WeightLookup, patches: Value): Value {
  const count = prefixCount(config);
  const rowsBefore = config.prefix.map((group) => weight(group.weight));
  let front = rowsBefore.length > 1 ? concat(rowsBefore, 1) : rowsBefore[0];
  if (config.positions.kind === "rotary")
    return front ? add(pad(patches, 1, count, 0), pad(front, 1, 0, patchCount(config))) : patches;
  const covered = config.positions.prefix;
  const table = weight("pos_embed");
  const patchRows = covered > 0 ? slice(table, 1, covered, table.shape[1] as number) : table;
  if (!front) return add(patches, patchRows);
  if (covered > 0) {
    const tokenPositions = slice(table, 1, 0, covered);
    front = add(front, covered < count ? pad(tokenPositions, 1, 0, count - covered) : tokenPositions);
  }
  return add(pad(patches, 1, count, 0), concat([front, patchRows], 1));
}

function normWeights(weight: WeightLookup, name: string): Required<LinearWeights> {
  return { weight: weight(`${name}.weight`), bias: weight(`${name}.bias`) };
}

/** How queries and keys are rotated, where the configuration asks for it. */
function rotation(config: VitConfig, type: DataType): Rotation | undefined {
  const rotary = rotaryOf(config);
  if (!rotary) return undefined;
  const { cos, sin } = rotaryTables(config, rotary, type);
  return {
    cos: constant(cos, "rotary.cos"),
    sin: constant(sin, "rotary.sin"),
    skip: prefixCount(config),
    pairs: rotary.pairs ?? "halves",
  };
}

/** Tokens behind a block's first or second norm. */
export function blockNorm(
  { normEpsilon }: VitConfig,
  weight: WeightLookup,
  index: number,
  norm: "norm1" | "norm2",
  x: Value,
): Value {
  return layerNorm(x, normWeights(weight, `blocks.${index}.${norm}`), normEpsilon);
}

/** A block's maps and LayerScale. Blocks that share weights have norms of their own alone. */
function blockParts(config: VitConfig, weight: WeightLookup, index: number, map: LinearMap) {
  const owner = config.sharing ? index - (index % config.sharing.factor) : index;
  return {
    apply: (input: Value, module: TargetModule) =>
      map(input, moduleWeights(config, weight, owner, module), owner, module),
    scaled: (value: Value, part: string) =>
      config.layerScale ? mul(value, weight(`blocks.${owner}.${part}.gamma`)) : value,
  };
}

/** Queries, keys and values `[B, N, D]` of a block for the tokens `x` that enter it. */
export function blockQueries(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  x: Value,
  map: LinearMap = linear,
): [Value, Value, Value] {
  const { apply } = blockParts(config, weight, index, map);
  const n1 = blockNorm(config, weight, index, "norm1", x);
  return [apply(n1, "q"), apply(n1, "k"), apply(n1, "v")];
}

/** Told a block's attention `[B, H, N, N]`. */
export type WatchAttention = (weights: Value, block: number) => void;

/** The first half of a pre-norm block, attention and what it is added to: `[B, N, D] -> [B, N, D]`. It merges no tokens. */
export function attentionHalf(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  x: Value,
  map: LinearMap = linear,
  watch?: WatchAttention,
  parts: Pick<AttentionParts, "rotation" | "bias" | "watchKeys"> = {},
): Value {
  const { heads } = blockShape(config, index);
  if (heads === 0) return x;
  const { apply, scaled } = blockParts(config, weight, index, map);
  const [q, k, v] = blockQueries(config, weight, index, x, map);
  const mixed = attention(q, k, v, heads, {
    mixing: config.sharing && {
      scores: weight(`blocks.${index}.attn.mix_scores`),
      weights: weight(`blocks.${index}.attn.mix_weights`),
    },
    rotation: rotation(config, x.type),
    ...parts,
    watch: watch && ((weights) => watch(weights, index)),
  });
  return add(x, scaled(apply(mixed, "proj"), "ls1"));
}

/** The first half of a block for tokens that may have been merged, and the merging behind it. */
export function mergingHalf(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  tokens: Tokens,
  map: LinearMap = linear,
  watch?: WatchAttention,
): { readonly attended: Tokens; readonly merged: Tokens } {
  const { x, merged } = tokens;
  const count = config.merging?.[index] ?? 0;
  const turned = merged?.rotation ?? rotation(config, x.type);
  let keys: Value | undefined;
  const attended = attentionHalf(
    config,
    weight,
    index,
    x,
    map,
    watch && ((weights) => watch(unmergedAttention(weights, merged), index)),
    {
      rotation: turned,
      bias: merged && sizeBias(merged.size),
      watchKeys: count > 0 ? (mean) => (keys = mean) : undefined,
    },
  );
  const behind = { x: attended, merged };
  return { attended: behind, merged: keys ? mergeTokens(config, behind, keys, count, turned) : behind };
}

/** One block that merges tokens as the configuration says. */
function mergingBlock(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  tokens: Tokens,
  map: LinearMap = linear,
  watch?: WatchAttention,
): Tokens {
  const { merged } = mergingHalf(config, weight, index, tokens, map, watch);
  return { ...merged, x: mlpHalf(config, weight, index, merged.x, map) };
}

/** The second half of a pre-norm block, the MLP and what it is added to: `[B, N, D] -> [B, N, D]`. */
export function mlpHalf(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  x: Value,
  map: LinearMap = linear,
): Value {
  const { mlpWidth } = blockShape(config, index);
  if (mlpWidth === 0) return x;
  const { apply, scaled } = blockParts(config, weight, index, map);
  const normed = blockNorm(config, weight, index, "norm2", x);
  const n2 = config.sharing
    ? depthwise(normed, weight(`blocks.${index}.mlp.conv`), prefixCount(config), Math.sqrt(patchCount(config)))
    : normed;
  const entered = apply(n2, "fc1");
  const activate = activations[config.activation];
  const hidden =
    config.mlp === "gated"
      ? mul(activate(slice(entered, -1, 0, mlpWidth)), slice(entered, -1, mlpWidth, 2 * mlpWidth))
      : activate(entered);
  return add(x, scaled(apply(hidden, "fc2"), "ls2"));
}

/** One pre-norm block: `[B, N, D] -> [B, N, D]`. It merges no tokens; `vitBlocks` does, where the configuration says so. */
export function vitBlock(
  config: VitConfig,
  weight: WeightLookup,
  index: number,
  x: Value,
  map: LinearMap = linear,
  watch?: WatchAttention,
): Value {
  return mlpHalf(config, weight, index, attentionHalf(config, weight, index, x, map, watch), map);
}

/** The final norm, where it acts on all tokens. */
export function finalNorm(config: VitConfig, weight: WeightLookup, x: Value): Value {
  return config.finalNorm === "tokens" ? layerNorm(x, normWeights(weight, "norm"), config.normEpsilon) : x;
}

/** Where tokens are merged, outputs by token are unmerged: each of the N tokens has its merged token's numbers. */
export interface VitOutputs {
  /** `[B, N, D]` each: the tokens that enter block 0, then what each block gives (before the final norm). */
  readonly hiddenStates: readonly Value[];
  /** `[B, N, D]`, after the final norm where that acts on all tokens. */
  readonly lastHiddenState: Value;
  /** `[B, D]`: the vector that stands for an image, after the final norm. */
  readonly pooled: Value;
  /** `[B, D]`: what Hugging Face calls `pooler_output`, where the model has more of it than the class token. */
  readonly poolerOutput?: Value;
  /** `[B, P]`: the pooled vector in the space shared with texts, where the model has the map. */
  readonly imageEmbeds?: Value;
  /** `[B, K]`, where the model has a head. */
  readonly logits?: Value;
}

/** Whether a model has a `pooler_output` that is more than its class token. */
export function hasPoolerOutput({ pooler, pooling, finalNorm }: VitConfig): boolean {
  return pooler || pooling === "attention" || finalNorm === "pooled";
}

/** The whole forward pass over normalised pixels `[B, C, H, W]`. */
export function vitForward(config: VitConfig, weight: WeightLookup, pixels: Value, map?: LinearMap): VitOutputs {
  const states = blockTokens(config, weight, embed(config, weight, pixels), map);
  return { hiddenStates: states.map(unmerged), ...outputsOf(config, weight, states[config.depth]) };
}

/** The tokens `[B, N, D]` that enter block 0 and what each block gives, `count` blocks or all of them, unmerged. */
export function vitBlocks(
  config: VitConfig,
  weight: WeightLookup,
  tokens: Value,
  map?: LinearMap,
  count: number = config.depth,
  watch?: WatchAttention,
): Value[] {
  return blockTokens(config, weight, tokens, map, count, watch).map(unmerged);
}

/** The same as they are, merged. Throws a UserError where the blocks can't merge as many as the configuration says. */
function blockTokens(
  config: VitConfig,
  weight: WeightLookup,
  tokens: Value,
  map?: LinearMap,
  count: number = config.depth,
  watch?: WatchAttention,
): Tokens[] {
  checkMerging(config);
  const states: Tokens[] = [{ x: tokens }];
  for (let i = 0; i < count; i++) states.push(mergingBlock(config, weight, i, states[i], map, watch));
  return states;
}

/** What follows the last block `[B, N, D]`: norm, pooling, head. */
export function vitOutputs(config: VitConfig, weight: WeightLookup, x: Value): Omit<VitOutputs, "hiddenStates"> {
  return outputsOf(config, weight, { x });
}

function outputsOf(config: VitConfig, weight: WeightLookup, { x, merged }: Tokens): Omit<VitOutputs, "hiddenStates"> {
  const tokens = { x: finalNorm(config, weight, x), merged };
  const raw = pool(config, weight, tokens);
  const pooled = config.finalNorm === "pooled" ? layerNorm(raw, normWeights(weight, "norm"), config.normEpsilon) : raw;
  const dense = (name: string): LinearWeights => ({ weight: weight(`${name}.weight`), bias: weight(`${name}.bias`) });
  const poolerOutput = config.pooler ? tanh(linear(at(tokens.x, 1, 0), dense("pooler.dense"))) : pooled;
  return {
    lastHiddenState: unmerged(tokens),
    pooled,
    poolerOutput: hasPoolerOutput(config) ? poolerOutput : undefined,
    imageEmbeds: config.projection ? linear(pooled, { weight: weight("projection.weight") }) : undefined,
    logits: config.head && headLogits(config, config.head.input, dense, tokens, pooled),
  };
}

/** The tokens from `first` on: `[B, N, D] -> [B, N - first, D]`. */
function tokensFrom(first: number, tokens: Value): Value {
  return first > 0 ? slice(tokens, 1, first, tokens.shape[1] as number) : tokens;
}

/** Mean of the tokens from `first` on: `[B, N, D] -> [B, D]`. */
function meanFrom(config: VitConfig, first: number, tokens: Tokens): Value {
  return mergedMean(config, tokens, first) ?? reduceMean(tokensFrom(first, tokens.x), [1]);
}

/** One vector an image: `[B, N, D] -> [B, D]`. */
function pool(config: VitConfig, weight: WeightLookup, tokens: Tokens): Value {
  switch (config.pooling) {
    case "class":
      return at(tokens.x, 1, 0);
    case "mean":
      return meanFrom(config, config.pooledTokens === "all" ? 0 : prefixCount(config), tokens);
    case "attention":
      return attentionPool(config, weight, config.pooledTokens === "patches" ? prefixCount(config) : 0, tokens);
  }
}

/** One learned query over all tokens, then an MLP beside a residual (SigLIP, arXiv 2303.15343; timm's `map`). */
function attentionPool(config: VitConfig, weight: WeightLookup, first: number, { x: all, merged }: Tokens): Value {
  const { width } = config;
  const tokens = tokensFrom(first, all);
  const bias = merged && sizeBias(slice(merged.size, 2, first, all.shape[1] as number));
  // Heads that the blocks lost are still here.
  const heads = config.attentionPool?.heads ?? width / headWidthOf(config);
  const part = (index: number): LinearWeights => ({
    weight: weightRows(weight("attn_pool.qkv.weight"), index * width, (index + 1) * width, String(index)),
    bias: weightRows(weight("attn_pool.qkv.bias"), index * width, (index + 1) * width, String(index)),
  });
  const dense = (name: string) => normWeights(weight, `attn_pool.${name}`);
  const query = linear(weight("attn_pool.latent"), part(0));
  const mixed = attention(query, linear(tokens, part(1)), linear(tokens, part(2)), heads, { bias });
  const x = at(linear(mixed, dense("proj")), 1, 0);
  const normed = layerNorm(x, dense("norm"), config.normEpsilon);
  const activation = config.attentionPool?.activation ?? config.activation;
  const hidden = activations[activation](linear(normed, dense("mlp.fc1")));
  return add(x, linear(hidden, dense("mlp.fc2")));
}

function headLogits(
  config: VitConfig,
  kind: HeadInput,
  dense: (name: string) => LinearWeights,
  tokens: Tokens,
  pooled: Value,
): Value {
  const { x } = tokens;
  switch (kind) {
    case "pooled":
      return linear(pooled, dense("head"));
    case "class+mean": {
      const both = concat([at(x, 1, 0), meanFrom(config, prefixCount(config), tokens)], 1);
      return linear(reshape(both, [x.shape[0], 2 * config.width]), dense("head"));
    }
    case "patches":
      return linear(reshape(meanFrom(config, prefixCount(config), tokens), [x.shape[0], config.width]), dense("head"));
    case "class+distillation": {
      const [a, b] = [linear(at(x, 1, 0), dense("head")), linear(at(x, 1, 1), dense("head_dist"))];
      return mul(add(a, b), 0.5);
    }
  }
}
