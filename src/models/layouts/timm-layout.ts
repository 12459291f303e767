// timm's layout, and that of the authors' own files that follow it (DeiT, DINO, MAE, DINOv2).
import { UserError } from "../../utils/errors.ts";
import type { VitConfig } from "../config.ts";
import { prefixCount } from "../config.ts";
import { defaultPreprocessing, readTimmPreprocessing, writeTimmPreprocessing } from "../preprocessing.ts";
import { count, equalHeads, fromShapes, mlpRatio, positive, readActivation, section, side } from "./fields.ts";
import type { Evidence, Json, Layout, NameTable } from "./layout.ts";
import { both, one } from "./layout.ts";

const same = (...names: string[]): NameTable => names.map((name) => one(name, name));
const maps = (...names: string[]): NameTable => names.flatMap((name) => both(name, name));

/** Heads of the published models whose width is not 64 times their number. */
function usualHeads(architecture: string, width: number): number {
  const known: readonly (readonly [RegExp, number])[] = [
    [/giant_patch14_(reg4_)?dinov2/, 24],
    [/huge|giant|gigantic|so400m|so150m/, 16],
  ];
  return known.find(([pattern]) => pattern.test(architecture))?.[1] ?? Math.max(1, Math.round(width / 64));
}

const poolings: Readonly<Record<string, VitConfig["pooling"]>> = {
  token: "class",
  avg: "mean",
  map: "attention",
  "": "class",
};

function readPooling(value: unknown, file: string): VitConfig["pooling"] {
  const pooling = poolings[String(value)];
  if (pooling) return pooling;
  throw new UserError(`${file} names the pooling ${JSON.stringify(value)}; known are token, avg and map`);
}

function readConfig(config: Json, file: string, evidence: Evidence): VitConfig {
  const architecture = String(config.architecture ?? "");
  if (architecture && !/vit|deit|dino/i.test(architecture)) {
    throw new UserError(`${file} names the architecture ${architecture}, which is no vision transformer known here`);
  }
  const args = section(config, "model_args", file);
  const pretrained = section(config, "pretrained_cfg", file);
  const input = pretrained.input_size as readonly number[] | undefined;
  const patchSize = side(args, "patch_size", file, fromShapes(evidence).patchSize);
  const said = args.img_size ?? (architecture ? input?.at(-1) : undefined);
  const imageSize = said === undefined ? undefined : side({ img_size: said }, "img_size", file, 224);
  const shapes = fromShapes(evidence, { imageSize, patchSize });
  const width = count(args, "embed_dim", file, shapes.width);
  const pooled = evidence.shape("fc_norm.weight") !== undefined;
  const classes = args.num_classes ?? config.num_classes ?? shapes.head?.classes ?? 0;
  const pooling = args.global_pool ?? config.global_pool;
  const clipLike = shapes.preNorm && /clip/.test(architecture);
  return {
    ...shapes,
    channels: count(args, "in_chans", file, shapes.channels),
    width,
    depth: count(args, "depth", file, shapes.depth),
    heads: evidence.numHeads ?? count(args, "num_heads", file, usualHeads(architecture, width)),
    mlpWidth:
      args.mlp_ratio === undefined || shapes.mlp === "gated"
        ? shapes.mlpWidth
        : Math.floor(width * positive(args, "mlp_ratio", file, 4)),
    activation:
      shapes.mlp === "gated"
        ? "silu"
        : readActivation(args.act_layer ?? (/quickgelu/.test(architecture) ? "quick_gelu" : "gelu"), file),
    // timm's config.json has no place for it; `norm_eps` is ours.
    normEpsilon: positive(config, "norm_eps", file, clipLike ? 1e-5 : 1e-6),
    qkvBias: args.qkv_bias === undefined ? shapes.qkvBias : args.qkv_bias !== false,
    finalNorm: pooled ? "pooled" : shapes.finalNorm,
    pooling: pooling === undefined ? (pooled ? "mean" : shapes.pooling) : readPooling(pooling, file),
    head:
      shapes.head && typeof classes === "number" && classes > 0
        ? { ...shapes.head, classes, labels: labelNames(pretrained, config) }
        : undefined,
  };
}

/** timm's hub files may name the labels. */
function labelNames(pretrained: Json, config: Json): readonly string[] | undefined {
  const names = config.label_names ?? pretrained.label_names;
  return Array.isArray(names) ? names.map(String) : undefined;
}

export const timm: Layout = {
  name: "timm",
  library: "timm",
  matches: (config) => typeof config.architecture === "string",
  recognises: () => true,
  settings: nested,
  outer: [
    ...same("cls_token", "dist_token", "reg_token", "pos_embed"),
    ...maps("patch_embed.proj", "norm_pre", "norm"),
    ...both("fc_norm", "fc_norm"),
    ...both("norm", "fc_norm"),
    one("attn_pool.latent", "attn_pool.latent"),
    ...["weight", "bias"].map((part) => ({
      ours: `attn_pool.qkv.${part}`,
      parts: [{ name: `attn_pool.q.${part}` }, { name: `attn_pool.kv.${part}`, shares: 2 }],
    })),
    ...maps("attn_pool.proj", "attn_pool.norm", "attn_pool.mlp.fc1", "attn_pool.mlp.fc2", "head", "head_dist"),
  ],
  blockPrefix: (i) => `blocks.${i}.`,
  block: [...maps("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"), ...same("ls1.gamma", "ls2.gamma")],
  unprefixed: [],
  carried: [],
  // MAE's decoder; the masked patches' token; DINO's projection head.
  ignored: /^(decoder|mask_token$|head\.(mlp|last_layer)\b|head_drop)|relative_position_index$/,
  aliases: [
    [/^register_tokens$/, "reg_token"],
    [/^blocks\.\d+\.(\d+)\./, "blocks.$1."],
    [/\.mlp\.w12\./, ".mlp.fc1."],
    [/\.mlp\.w3\./, ".mlp.fc2."],
  ],
  readConfig,
  resampling: "bicubic-antialiased",
  anySize: false,
  defaultPreprocessing(config, imageSize, file, warn) {
    if (config.pretrained_cfg === undefined || config.pretrained_cfg === null) {
      return { value: defaultPreprocessing(imageSize, "imagenet"), guessed: true };
    }
    const cfg = section(config, "pretrained_cfg", file);
    const value = readTimmPreprocessing(cfg, imageSize, file, { settled: config.wecolora, warn });
    return { value, guessed: false };
  },
  holds(config) {
    if (config.sharing) return { reason: "its blocks share no weights" };
    if (config.headWidth) return { reason: equalHeads };
    if (config.positions.kind === "rotary") return { reason: "its ViT has no rotary positions" };
    if (config.mlp === "gated") return { reason: "its config.json has no word for a gated MLP" };
    if (config.projection) return { reason: "it has no projection without a bias" };
    if (config.preNorm && config.patchBias) return { reason: "its patch embedding has no bias where a norm follows" };
    const distilled = config.prefix.some(({ weight }) => weight === "dist_token");
    if (distilled && config.head && config.head.input !== "class+distillation") {
      return { reason: "its models with a distillation token have two heads" };
    }
    // Either the table covers all tokens or just the patches (`no_embed_class`).
    const covered = config.positions.prefix === prefixCount(config) ? prefixCount(config) : 0;
    const mean = config.pooling === "mean" && config.finalNorm === "pooled";
    return {
      ...config,
      patchBias: !config.preNorm,
      positions: { kind: "learned", prefix: covered },
      finalNorm: mean ? "pooled" : "tokens",
      pooler: false,
      // Its heads read one vector: a head on class token and mean stays behind.
      head: config.head?.input === "class+mean" ? undefined : config.head,
    };
  },
  writeConfig(config, written, preprocessing) {
    const { wecolora: _, ...original } = nested(written ?? {});
    const { json: transform, settled } = writeTimmPreprocessing(preprocessing);
    const args = { ...((original.model_args ?? {}) as Json) };
    const registers = config.prefix.find(({ weight }) => weight === "reg_token")?.count;
    const covered = config.positions.kind === "learned" ? config.positions.prefix : 0;
    return {
      ...original,
      architecture: original.architecture ?? architectureOf(config),
      num_classes: config.head?.classes ?? 0,
      num_features: config.width,
      global_pool: poolName(config),
      norm_eps: config.normEpsilon,
      model_args: {
        ...args,
        img_size: config.imageSize,
        patch_size: config.patchSize,
        embed_dim: config.width,
        depth: config.depth,
        num_heads: config.heads,
        mlp_ratio: mlpRatio(config.mlpWidth, config.width),
        qkv_bias: config.qkvBias,
        num_classes: config.head?.classes ?? 0,
        global_pool: poolName(config),
        class_token: config.prefix.some(({ weight }) => weight === "cls_token"),
        ...(registers ? { reg_tokens: registers } : {}),
        ...(prefixCount(config) > 0 && covered === 0 ? { no_embed_class: true } : {}),
        ...(config.layerScale ? { init_values: args.init_values ?? 1e-5 } : {}),
        ...(config.preNorm ? { pre_norm: true } : {}),
        // The mean of normed tokens, where timm would norm the mean.
        ...(config.pooling === "mean" && config.finalNorm === "tokens" ? { fc_norm: false } : {}),
        ...(config.activation === "gelu" ? {} : { act_layer: config.activation }),
      },
      pretrained_cfg: { ...pretrainedBefore(original, transform), ...pretrainedOf(config), ...transform },
      ...settled,
    };
  },
  writePrefix: () => "",
};

const poolName = ({ pooling }: VitConfig) => ({ class: "token", mean: "avg", attention: "map" })[pooling];

/** timm's model of this kind; `model_args` say the rest. */
function architectureOf({ prefix }: VitConfig): string {
  return prefix.some(({ weight }) => weight === "dist_token")
    ? "deit_base_distilled_patch16_224"
    : "vit_base_patch16_224";
}

/** What stays of the teacher's pretrained_cfg; its test sizes belong to its own input size. */
function pretrainedBefore(original: Json, transform: Json): Json {
  const { test_input_size, test_crop_pct, ...rest } = (original.pretrained_cfg ?? {}) as Json;
  const sameInput = JSON.stringify(rest.input_size) === JSON.stringify(transform.input_size);
  return sameInput ? { ...rest, test_input_size, test_crop_pct } : rest;
}

function pretrainedOf(config: VitConfig): Json {
  return {
    num_classes: config.head?.classes ?? 0,
    first_conv: "patch_embed.proj",
    classifier: "head",
    ...(config.head?.labels ? { label_names: config.head.labels } : {}),
  };
}

/** Fields of the flat files of timm 0.5 and 0.6 that say what pretrained_cfg says today. */
const flatFields = ["input_size", "mean", "std", "crop_pct", "interpolation"];

/** A config.json of timm 0.5 or 0.6, where all stands at the top, in today's form; others as they are. */
function nested(config: Json): Json {
  const isFlat = config.architecture !== undefined && flatFields.some((field) => config[field] !== undefined);
  if (!isFlat || (config.pretrained_cfg !== undefined && config.pretrained_cfg !== null)) return config;
  const {
    architecture,
    num_features,
    num_classes,
    labels,
    model_args,
    global_pool,
    pretrained_cfg: _,
    ...rest
  } = config;
  return {
    architecture,
    ...(num_features === undefined ? {} : { num_features }),
    ...(num_classes === undefined ? {} : { num_classes }),
    ...(global_pool === undefined ? {} : { global_pool }),
    ...(model_args === undefined ? {} : { model_args }),
    pretrained_cfg: { ...rest, ...(labels === undefined ? {} : { label_names: labels }) },
  };
}
