// What makes one vision transformer differ from another, as data.

export type Activation = "gelu" | "gelu_tanh" | "quick_gelu" | "relu";

/** What the classification head reads, all after the final norm. */
export type HeadInput = "class" | "class+mean" | "mean";

export interface VitConfig {
  /** Pixels per side of the square pictures that the position embedding was made for. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly mlpWidth: number;
  readonly activation: Activation;
  readonly normEpsilon: number;
  readonly qkvBias: boolean;
  /** A learned factor per channel on what each half block adds (`ls1.gamma`, `ls2.gamma`). */
  readonly layerScale: boolean;
  readonly finalNorm: boolean;
  /** A dense layer with tanh over the class token, as Hugging Face's ViTModel has one. */
  readonly pooler: boolean;
  readonly head?: { readonly classes: number; readonly input: HeadInput; readonly labels?: readonly string[] };
}

/** Tokens before the patches: the class token. */
export const prefixTokens = 1;

/** Patches of a square picture of the size that the configuration names. */
export function patchCount({ imageSize, patchSize }: VitConfig): number {
  return Math.floor(imageSize / patchSize) ** 2;
}

/** All tokens of a picture, `N` in `[B, N, D]`. */
export function tokenCount(config: VitConfig): number {
  return prefixTokens + patchCount(config);
}

/** Name and shape of every weight that a model of this configuration has (timm's names). */
export function expectedWeights(config: VitConfig): Map<string, readonly number[]> {
  const { width, mlpWidth, patchSize, channels } = config;
  const weights = new Map<string, readonly number[]>([
    ["cls_token", [1, 1, width]],
    ["pos_embed", [1, tokenCount(config), width]],
    ["patch_embed.proj.weight", [width, channels, patchSize, patchSize]],
    ["patch_embed.proj.bias", [width]],
  ]);
  const linear = (name: string, outputs: number, inputs: number, bias = true) => {
    weights.set(`${name}.weight`, [outputs, inputs]);
    if (bias) weights.set(`${name}.bias`, [outputs]);
  };
  const norm = (name: string) => {
    weights.set(`${name}.weight`, [width]);
    weights.set(`${name}.bias`, [width]);
  };
  for (let i = 0; i < config.depth; i++) {
    const block = `blocks.${i}`;
    norm(`${block}.norm1`);
    linear(`${block}.attn.qkv`, 3 * width, width, config.qkvBias);
    linear(`${block}.attn.proj`, width, width);
    if (config.layerScale) weights.set(`${block}.ls1.gamma`, [width]);
    norm(`${block}.norm2`);
    linear(`${block}.mlp.fc1`, mlpWidth, width);
    linear(`${block}.mlp.fc2`, width, mlpWidth);
    if (config.layerScale) weights.set(`${block}.ls2.gamma`, [width]);
  }
  if (config.finalNorm) norm("norm");
  if (config.pooler) linear("pooler.dense", width, width);
  if (config.head) linear("head", config.head.classes, config.head.input === "class+mean" ? 2 * width : width);
  return weights;
}
