// The weights of a vision transformer: one row for each, with its name, its shape and what it is. What starts, copies, trains
// or stores weights asks this table; nothing else reads a meaning out of a name.
import type { VitConfig } from "./config.ts";
import { attentionWidth, blockShape, patchCount, queriesWidth } from "./config.ts";

/**
 * What a weight is to the tokens: `map` and `bias` of a linear map or convolution, `norm` and `norm-bias`, `scale`
 * (LayerScale), `token` (learned, before the patches), `position` (the table of positions), `mixing` (MiniViT's
 * transformations of what blocks share).
 */
export type WeightRole = "map" | "bias" | "norm" | "norm-bias" | "scale" | "token" | "position" | "mixing";

/** Where a weight is: before the blocks, in one, after them, or behind the features (`pooling`, `projection`, `head`). */
export type WeightPart = "embedding" | "block" | "norm" | "pooling" | "projection" | "head";

export interface WeightRow {
  /** timm's name. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: WeightRole;
  readonly part: WeightPart;
  /** The block that it belongs to, counted from 0. */
  readonly block?: number;
  /** Its name in that block. */
  readonly inBlock?: string;
}

/** The name of a block's weight. */
export const blockWeight = (block: number, inBlock: string): string => `blocks.${block}.${inBlock}`;

/** The block that a name belongs to and its name there, of weights and of what trains beside them; undefined outside of blocks. */
export function splitBlockName(name: string): { readonly block: number; readonly inBlock: string } | undefined {
  const [, block, inBlock] = /^blocks\.(\d+)\.(.*)$/.exec(name) ?? [];
  return block === undefined ? undefined : { block: Number(block), inBlock };
}

/** Collects rows in order. */
class Rows {
  readonly rows: WeightRow[] = [];
  private readonly place: Pick<WeightRow, "part" | "block">;

  constructor(place: Pick<WeightRow, "part" | "block">, rows: WeightRow[]) {
    this.place = place;
    this.rows = rows;
  }

  add(name: string, shape: readonly number[], role: WeightRole): void {
    const { block } = this.place;
    const inside = block === undefined ? { name } : { name: blockWeight(block, name), inBlock: name };
    this.rows.push({ ...inside, shape, role, ...this.place });
  }

  linear(name: string, outputs: number, inputs: number, bias = true): void {
    this.add(`${name}.weight`, [outputs, inputs], "map");
    if (bias) this.add(`${name}.bias`, [outputs], "bias");
  }

  norm(name: string, width: number): void {
    this.add(`${name}.weight`, [width], "norm");
    this.add(`${name}.bias`, [width], "norm-bias");
  }
}

function embeddingRows(config: VitConfig, into: Rows): void {
  const { width, patchSize, channels } = config;
  for (const { weight, count } of config.prefix) into.add(weight, [1, count, width], "token");
  if (config.positions.kind === "learned")
    into.add("pos_embed", [1, config.positions.prefix + patchCount(config), width], "position");
  into.add("patch_embed.proj.weight", [width, channels, patchSize, patchSize], "map");
  if (config.patchBias) into.add("patch_embed.proj.bias", [width], "bias");
  if (config.preNorm) into.norm("norm_pre", width);
}

function blockRows(config: VitConfig, into: Rows, index: number): void {
  const { width } = config;
  const { heads, mlpWidth } = blockShape(config, index);
  const shares = config.sharing !== undefined && index % config.sharing.factor !== 0;
  if (heads > 0) into.norm("norm1", width);
  if (mlpWidth > 0) into.norm("norm2", width);
  if (config.sharing) {
    into.add("attn.mix_scores", [heads, heads], "mixing");
    into.add("attn.mix_weights", [heads, heads], "mixing");
    into.add("mlp.conv", [width, 9], "mixing");
    if (shares) return;
  }
  if (heads > 0) {
    const mixed = attentionWidth(config, index);
    into.linear("attn.qkv", 2 * queriesWidth(config, index) + mixed, width, config.qkvBias);
    into.linear("attn.proj", width, mixed);
  }
  if (mlpWidth > 0) {
    into.linear("mlp.fc1", config.mlp === "gated" ? 2 * mlpWidth : mlpWidth, width);
    into.linear("mlp.fc2", width, mlpWidth);
  }
  if (!config.layerScale) return;
  if (heads > 0) into.add("ls1.gamma", [width], "scale");
  if (mlpWidth > 0) into.add("ls2.gamma", [width], "scale");
}

function poolingRows(config: VitConfig, into: Rows): void {
  const { width, mlpWidth } = config;
  if (config.pooling === "attention") {
    into.add("attn_pool.latent", [1, 1, width], "token");
    into.linear("attn_pool.qkv", 3 * width, width);
    into.linear("attn_pool.proj", width, width);
    into.norm("attn_pool.norm", width);
    const hidden = config.attentionPool?.mlpWidth ?? mlpWidth;
    into.linear("attn_pool.mlp.fc1", hidden, width);
    into.linear("attn_pool.mlp.fc2", width, hidden);
  }
  if (config.pooler) into.linear("pooler.dense", width, width);
}

/** Every weight that a model of this configuration has. */
export function weightTable(config: VitConfig): WeightRow[] {
  const { width } = config;
  const rows: WeightRow[] = [];
  const at = (part: WeightPart, block?: number) => new Rows(block === undefined ? { part } : { part, block }, rows);
  embeddingRows(config, at("embedding"));
  for (let i = 0; i < config.depth; i++) blockRows(config, at("block", i), i);
  if (config.finalNorm !== "none") at("norm").norm("norm", width);
  poolingRows(config, at("pooling"));
  if (config.projection) at("projection").linear("projection", config.projection, width, false);
  if (config.head) {
    const { classes, input } = config.head;
    at("head").linear("head", classes, input === "class+mean" ? 2 * width : width);
    if (input === "class+distillation") at("head").linear("head_dist", classes, width);
  }
  return rows;
}

/** Name and shape of every weight that a model of this configuration has. */
export function expectedWeights(config: VitConfig): Map<string, readonly number[]> {
  return new Map(weightTable(config).map(({ name, shape }) => [name, shape]));
}

/** A configuration with every part that there is, and one block. */
const everything: VitConfig = {
  imageSize: 2,
  patchSize: 1,
  channels: 3,
  width: 1,
  depth: 1,
  heads: 1,
  mlpWidth: 1,
  mlp: "plain",
  activation: "gelu",
  normEpsilon: 1,
  qkvBias: true,
  patchBias: true,
  prefix: (["cls_token", "dist_token", "reg_token"] as const).map((weight) => ({ weight, count: 1 })),
  positions: { kind: "learned", prefix: 0 },
  resampling: "bicubic",
  sharing: { factor: 1 },
  preNorm: true,
  layerScale: true,
  finalNorm: "tokens",
  pooling: "attention",
  pooler: true,
  projection: 1,
  head: { classes: 1, input: "class+distillation" },
};

/** All weights that there can be: outside of blocks, and of block 0. */
export const allWeights: readonly WeightRow[] = weightTable(everything);
const byName = new Map(allWeights.map((row) => [row.inBlock ?? row.name, row]));

/** What a weight is, by its name; undefined where vision transformers have no such weight. */
export function weightKind(name: string): Pick<WeightRow, "role" | "part"> | undefined {
  const inside = splitBlockName(name);
  const row = byName.get(inside?.inBlock ?? name);
  return row && (row.block !== undefined) === (inside !== undefined) ? row : undefined;
}

/** Whether a weight is behind the features: of a head, a pooler, a projection. They are copied and don't train with the backbone. */
export function isBehindFeatures(name: string): boolean {
  const part = weightKind(name)?.part;
  return part === "pooling" || part === "projection" || part === "head";
}
