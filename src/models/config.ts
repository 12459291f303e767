// What makes one vision transformer differ from another, as data.

export const activationKinds = ["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] as const;
export type Activation = (typeof activationKinds)[number];

/**
 * What the classification head reads: `pooled` is what `pooling` gives; `class+mean` the class token and the mean of
 * the patches; `patches` their mean alone, where `pooling` is another one; `class+distillation` two heads, on the class and on
 * the distillation token, whose logits are averaged.
 */
export type HeadInput = "pooled" | "class+mean" | "patches" | "class+distillation";

/** Learned tokens in front of the patches, by the weight that holds them. */
export interface PrefixTokens {
  readonly weight: "cls_token" | "dist_token" | "reg_token";
  readonly count: number;
}

/**
 * Rotations of queries and keys by the patches' coordinates. What is left out is as DINOv3 has it (arXiv 2508.10104):
 * centred coordinates, rows first, pairs of channels half a head apart.
 */
export interface RotaryPositions {
  readonly theta: number;
  /** `centred`: from -1 to 1 along each axis, times 2 pi; `index`: the patch's row and column. */
  readonly grid?: "centred" | "index";
  /** Added to rows and columns. */
  readonly offset?: number;
  /** Patches per side of the grid that rows and columns are rescaled to. */
  readonly referenceSide?: number;
  /** Which coordinate turns a head's first pairs of channels. */
  readonly first?: "row" | "column";
  /** Which channels are turned together: those half a head apart, or neighbours. */
  readonly pairs?: "halves" | "neighbours";
}

/** Where a patch stands in its image. */
export type Positions =
  /**
   * A learned table, added to the patches and to the first `prefix` of the tokens before them; Perception Encoders and
   * EVA-02 rotate queries and keys as well.
   */
  | { readonly kind: "learned"; readonly prefix: number; readonly rotary?: RotaryPositions }
  | ({ readonly kind: "rotary" } & RotaryPositions);

/** How queries and keys are rotated; undefined where they are not. */
export function rotaryOf({ positions }: Pick<VitConfig, "positions">): RotaryPositions | undefined {
  return positions.kind === "rotary" ? positions : positions.rotary;
}

/**
 * How a library resamples a position table: `bicubic` with a = -0.75 (PyTorch's own, in most models of transformers),
 * `bicubic-antialiased` with a = -0.5 (timm, DINOv2 with registers), `bicubic-offset` with the scale of a grid that is 0.1
 * patches larger (the authors' DINOv2 without registers).
 */
export const resamplings = ["bicubic", "bicubic-antialiased", "bicubic-offset"] as const;
export type Resampling = (typeof resamplings)[number];

/** What one block keeps; 0 where it has no attention or no MLP. */
export interface BlockShape {
  readonly heads: number;
  /** Channels that the MLP's last map reads. */
  readonly mlpWidth: number;
  /** Channels of each head's queries and keys, where they are fewer than its teacher's. */
  readonly queryWidth?: number;
  /** Channels of each head's values, likewise. */
  readonly valueWidth?: number;
}

export interface VitConfig {
  /** Pixels per side of the square images that the position embedding was made for. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  /** Channels of each head, where they are not the width's equal shares: a student that has fewer heads. */
  readonly headWidth?: number;
  /** Channels that the MLP's last map reads. */
  readonly mlpWidth: number;
  /** One for each block, where blocks differ; `heads` and `mlpWidth` are then the most that a block has or had. */
  readonly blocks?: readonly BlockShape[];
  /** `plain`: fc2(f(fc1 x)); `gated`: fc1 gives two halves a and b, and fc2 reads f(a) * b (SwiGLU). */
  readonly mlp: "plain" | "gated";
  readonly activation: Activation;
  readonly normEpsilon: number;
  readonly qkvBias: boolean;
  readonly patchBias: boolean;
  readonly prefix: readonly PrefixTokens[];
  readonly positions: Positions;
  /** How the model's library resamples the position table for images of another size. */
  readonly resampling: Resampling;
  /**
   * Groups of `factor` blocks share one set of maps; each block has norms of its own, maps across heads and a 3x3
   * convolution before its MLP (MiniViT, arXiv 2204.07154).
   */
  readonly sharing?: { readonly factor: number };
  /**
   * Tokens that are merged away behind the attention of each block, one number a block (ToMe, arXiv 2210.09461); none where
   * undefined. See `token-merging.ts`.
   */
  readonly merging?: readonly number[];
  /** A norm before the first block, as CLIP has it. */
  readonly preNorm: boolean;
  /** A learned factor per channel on what each half block adds (`ls1.gamma`, `ls2.gamma`). */
  readonly layerScale: boolean;
  /** What the final norm acts on: all tokens, or only what pooling gives (CLIP's class token, timm's mean). */
  readonly finalNorm: "tokens" | "pooled" | "none";
  /** The one vector that stands for an image: the class token, the mean of the patches, or attention over all. */
  readonly pooling: "class" | "mean" | "attention";
  /** The tokens that are pooled, where they are not the patches for the mean and all tokens for attention. */
  readonly pooledTokens?: "patches" | "all";
  /** Heads, MLP width and activation of the attention that pools, where they are not the blocks'. */
  readonly attentionPool?: { readonly heads: number; readonly mlpWidth: number; readonly activation: Activation };
  /** A dense layer with tanh over the class token, as Hugging Face's ViTModel has one. */
  readonly pooler: boolean;
  /** Width of a linear map without bias over the pooled vector (CLIP's space shared with texts). */
  readonly projection?: number;
  readonly head?: { readonly classes: number; readonly input: HeadInput; readonly labels?: readonly string[] };
}

/** The parts in which most vision transformers agree. */
export const plainVit = {
  mlp: "plain",
  activation: "gelu",
  qkvBias: true,
  patchBias: true,
  prefix: [{ weight: "cls_token", count: 1 }],
  positions: { kind: "learned", prefix: 1 },
  resampling: "bicubic",
  preNorm: false,
  layerScale: false,
  finalNorm: "tokens",
  pooling: "class",
  pooler: false,
} as const satisfies Partial<VitConfig>;

/** Channels of each head. */
export function headWidthOf({ width, heads, headWidth }: Pick<VitConfig, "width" | "heads" | "headWidth">): number {
  return headWidth ?? width / heads;
}

/** Heads and channels of block `index`. */
export function blockShape(
  { blocks, heads, mlpWidth }: Pick<VitConfig, "blocks" | "heads" | "mlpWidth">,
  index: number,
): BlockShape {
  return blocks?.[index] ?? { heads, mlpWidth };
}

/** Whether blocks have the same heads and channels. */
export const sameShape = (a: BlockShape, b: BlockShape): boolean =>
  a.heads === b.heads && a.mlpWidth === b.mlpWidth && a.queryWidth === b.queryWidth && a.valueWidth === b.valueWidth;

/** Heads and channels of all blocks. */
export function blockShapes(config: Pick<VitConfig, "blocks" | "heads" | "mlpWidth" | "depth">): BlockShape[] {
  return Array.from({ length: config.depth }, (_, i) => blockShape(config, i));
}

type AttentionConfig = Pick<VitConfig, "width" | "heads" | "headWidth" | "blocks" | "mlpWidth">;

/** Channels of a block's values of a token, all heads side by side: what its attention's output map reads. */
export function attentionWidth(config: AttentionConfig, block: number): number {
  return blockShape(config, block).heads * valueWidthOf(config, block);
}

/** Channels of the values of each of a block's heads. */
export function valueWidthOf(config: AttentionConfig, block: number): number {
  return blockShape(config, block).valueWidth ?? headWidthOf(config);
}

/** Channels of a block's queries of a token, and of its keys, all heads side by side. */
export function queriesWidth(config: AttentionConfig, block: number): number {
  return blockShape(config, block).heads * queryWidthOf(config, block);
}

/** Channels of the queries, and of the keys, of each of a block's heads. */
export function queryWidthOf(config: AttentionConfig, block: number): number {
  return blockShape(config, block).queryWidth ?? headWidthOf(config);
}

/** Rows of q, k or v in a block's joint map `attn.qkv`, the first and behind the last. */
export function qkvRows(config: AttentionConfig, block: number, module: "q" | "k" | "v"): readonly [number, number] {
  const queries = queriesWidth(config, block);
  if (module === "q") return [0, queries];
  return module === "k" ? [queries, 2 * queries] : [2 * queries, 2 * queries + attentionWidth(config, block)];
}

/** The configuration with these blocks: one width for all where they are alike, and neither lack a part nor have narrow heads. */
export function withBlockShapes(config: VitConfig, shapes: readonly BlockShape[]): VitConfig {
  const { blocks: _, ...rest } = config;
  const [first] = shapes;
  const alike = shapes.every((shape) => sameShape(shape, first));
  if (!alike || first.heads === 0 || first.mlpWidth === 0 || (first.queryWidth ?? first.valueWidth) !== undefined)
    return { ...config, depth: shapes.length, blocks: shapes };
  const { heads, mlpWidth } = first;
  return { ...withHeadCount(rest, heads, heads * headWidthOf(config)), depth: shapes.length, mlpWidth };
}

/** The configuration of block `index` alone, as one of a model whose blocks are all like it. */
export function blockConfig(config: VitConfig, index: number): VitConfig {
  return { ...config, depth: 1, blocks: config.blocks && [blockShape(config, index)] };
}

/** The configuration with so many heads over `mixed` channels side by side. */
export function withHeadCount<C extends Pick<VitConfig, "width">>(config: C, heads: number, mixed: number) {
  return { ...config, heads, headWidth: mixed === config.width ? undefined : mixed / heads };
}

/** Tokens before the patches. */
export function prefixCount({ prefix }: Pick<VitConfig, "prefix">): number {
  return prefix.reduce((sum, { count }) => sum + count, 0);
}

/** Patches of a square image of the size that the configuration names. */
export function patchCount({ imageSize, patchSize }: Pick<VitConfig, "imageSize" | "patchSize">): number {
  return Math.floor(imageSize / patchSize) ** 2;
}

/** All tokens of an image, `N` in `[B, N, D]`. */
export function tokenCount(config: VitConfig): number {
  return prefixCount(config) + patchCount(config);
}
