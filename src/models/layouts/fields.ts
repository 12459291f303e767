// Reading and writing the fields that layouts share, each checked, so that a lying file can't ask for endless memory.
import { nearestName, UserError } from "../../utils/errors.ts";
import { quote } from "../../utils/quote.ts";
import type { Activation, PrefixTokens, VitConfig } from "../config.ts";
import { plainVit } from "../config.ts";
import type { Evidence, Json } from "./layout.ts";

const activationNames: Readonly<Record<string, Activation>> = {
  gelu: "gelu",
  gelu_python: "gelu",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_tanh: "gelu_tanh",
  quick_gelu: "quick_gelu",
  relu: "relu",
  silu: "silu",
  swish: "silu",
};

/** The MLP's width as a multiple of the model's, such that cutting their product to a whole number gives it back. */
export function mlpRatio(mlpWidth: number, width: number): number {
  const ratio = mlpWidth / width;
  return Math.floor(width * ratio) === mlpWidth ? ratio : (mlpWidth + 0.5) / width;
}

/** transformers' name of an activation. */
export function activationName(activation: Activation): string {
  return activation === "gelu_tanh" ? "gelu_pytorch_tanh" : activation;
}

export function readActivation(value: unknown, file: string): Activation {
  const name = typeof value === "string" ? value : "";
  if (Object.hasOwn(activationNames, name)) return activationNames[name];
  const near = nearestName(name, Object.keys(activationNames));
  throw new UserError(
    `${file} names the activation ${quote(value)}, which is not known here${near ? ` (did you mean ${near}?)` : ""}`,
    { code: "NOT_A_VIT" },
  );
}

/** A whole number from 1 to a million. */
export function count(config: Json, key: string, file: string, fallback?: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 1_000_000) return value;
  throw new UserError(`${key} in ${file} must be a whole number above 0, got ${quote(value)}`, { code: "NOT_A_VIT" });
}

export function positive(config: Json, key: string, file: string, fallback: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
  throw new UserError(`${key} in ${file} must be a number above 0, got ${quote(value)}`, { code: "NOT_A_VIT" });
}

/** A side in pixels; files may say it as a pair of equal numbers. */
export function side(config: Json, key: string, file: string, fallback: number): number {
  const value = config[key];
  if (!Array.isArray(value)) return count(config, key, file, fallback);
  if (value.length === 2 && value[0] === value[1]) return count({ [key]: value[0] }, key, file);
  throw new UserError(`${key} in ${file} is ${quote(value)}; only squares can be read`, { code: "NOT_A_VIT" });
}

/** An object in a JSON file; nothing where it is left out. */
export function section(config: Json, key: string, file: string): Json {
  const value = config[key] ?? {};
  if (typeof value === "object" && !Array.isArray(value)) return value as Json;
  throw new UserError(`${key} in ${file} must be an object, got ${quote(value)}`, { code: "NOT_A_VIT" });
}

/** Class names by index, where the configuration has them. */
export function readLabels(config: Json, classes: number): readonly string[] | undefined {
  const labels = config.id2label as Readonly<Record<string, unknown>> | undefined;
  if (!labels || typeof labels !== "object") return undefined;
  return Array.from({ length: classes }, (_, i) => {
    const label = labels[String(i)] ?? `LABEL_${i}`;
    return typeof label === "string" ? label : quote(label);
  });
}

export function writeLabels(config: VitConfig): Json {
  if (!config.head) return {};
  const labels = config.head.labels ?? Array.from({ length: config.head.classes }, (_, i) => `LABEL_${i}`);
  return {
    id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  };
}

/** The tokens in front of the patches that a file has weights for, in the order in which models put them. */
export function prefixOf({ shape }: Evidence): PrefixTokens[] {
  return (["cls_token", "dist_token", "reg_token"] as const).flatMap((weight) => {
    const dims = shape(weight);
    const tokens = dims?.length === 3 ? dims[1] : 1;
    // A model without registers may still have their table, with no rows.
    return dims && tokens > 0 ? [{ weight, count: tokens }] : [];
  });
}

/** How many of `total` tokens before the patches a table of `rows` covers: what is left must be a square. */
function coveredRows(rows: number, total: number, patches: number | undefined): number {
  if (patches !== undefined && rows >= patches && rows - patches <= total) return rows - patches;
  const square = (n: number) => n > 0 && Number.isInteger(Math.sqrt(n));
  return [total, 1, 0].find((covered) => covered <= total && square(rows - covered)) ?? Math.min(1, total);
}

const largestSide = 65_536;

/** Why a library can't hold a student that lost heads. */
export const equalHeads = "its heads are equal shares of its width (--shape channels keeps all heads)";

/** All that shapes tell; what they can't tell has the default value. */
export function fromShapes(evidence: Evidence, given: { imageSize?: number; patchSize?: number } = {}): VitConfig {
  const { shape, depth, numHeads } = evidence;
  const [width = 0, channels = 3, kernel = 16] = shape("patch_embed.proj.weight") ?? [];
  const patchSize = given.patchSize ?? kernel;
  const prefix = prefixOf(evidence);
  const total = prefix.reduce((sum, p) => sum + p.count, 0);
  const table = shape("pos_embed");
  const rows = table?.at(-2) ?? 0;
  const patches = given.imageSize === undefined ? undefined : Math.floor(given.imageSize / patchSize) ** 2;
  const covered = coveredRows(rows, total, patches);
  const imageSize =
    given.imageSize ?? (table ? Math.min(largestSide, Math.round(Math.sqrt(rows - covered)) * patchSize) : 224);
  const mlpWidth = shape("blocks.0.mlp.fc2.weight")?.[1] ?? 4 * width;
  const entered = shape("blocks.0.mlp.fc1.weight")?.[0];
  const gated = entered === 2 * mlpWidth;
  const head = shape("head.weight");
  return {
    ...plainVit,
    imageSize,
    patchSize,
    channels,
    width,
    depth,
    heads: numHeads ?? Math.max(1, Math.round(width / 64)),
    mlpWidth,
    mlp: gated ? "gated" : "plain",
    activation: gated ? "silu" : "gelu",
    normEpsilon: 1e-6,
    qkvBias: shape("blocks.0.attn.qkv.bias") !== undefined,
    patchBias: shape("patch_embed.proj.bias") !== undefined,
    prefix,
    positions: { kind: "learned", prefix: covered },
    preNorm: shape("norm_pre.weight") !== undefined,
    layerScale: shape("blocks.0.ls1.gamma") !== undefined,
    finalNorm: shape("norm.weight") ? "tokens" : "none",
    pooling: shape("attn_pool.latent") ? "attention" : shape("cls_token") ? "class" : "mean",
    pooler: shape("pooler.dense.weight") !== undefined,
    head: head && {
      classes: head[0],
      input: head[1] === 2 * width ? "class+mean" : shape("head_dist.weight") ? "class+distillation" : "pooled",
    },
  };
}

/** Sizes as transformers' config.json says them, and by the weights' shapes where it leaves them out. */
export function readSizes(config: Json, file: string, evidence: Evidence): VitConfig {
  const patchSize = side(config, "patch_size", file, fromShapes(evidence).patchSize);
  const imageSize = config.image_size === undefined ? undefined : side(config, "image_size", file, 224);
  const shapes = fromShapes(evidence, { imageSize, patchSize });
  return {
    ...shapes,
    channels: count(config, "num_channels", file, shapes.channels),
    width: count(config, "hidden_size", file, shapes.width),
    depth: count(config, "num_hidden_layers", file, shapes.depth),
    heads: count(config, "num_attention_heads", file, shapes.heads),
    ...(config.head_dim === undefined ? {} : { headWidth: count(config, "head_dim", file, 64) }),
    head: shapes.head && { ...shapes.head, labels: readLabels(config, shapes.head.classes) },
  };
}
