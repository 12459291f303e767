// timm's layout, and that of the authors' own files that follow it (DeiT, DINO, MAE, DINOv2).
import type { Preprocessing } from "../../utils/image.ts";
import type { VitConfig } from "../config.ts";
import { prefixCount, rotaryOf } from "../config.ts";
import { defaultPreprocessing, readTimmPreprocessing, writeTimmPreprocessing } from "../preprocessing.ts";
import { equalHeads, mlpRatio, section } from "./fields.ts";
import { isEva, isTimmArchitecture, readTimmConfig } from "./timm-config.ts";
import type { Json, Layout, LayoutGroup, NameEntry, NameTable } from "./layout.ts";
import { both, joint, one } from "./layout.ts";

const same = (...names: string[]): NameTable => names.map((name) => one(name, name));
const maps = (...names: string[]): NameTable => names.flatMap((name) => both(name, name));

const outer: NameTable = [
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
];

/** What both of timm's layouts share. */
const shared = {
  library: "timm",
  settings: nested,
  outer,
  blockPrefix: (i: number) => `blocks.${i}.`,
  unprefixed: [],
  carried: [],
  readConfig: readTimmConfig,
  anySize: false,
  defaultPreprocessing(config: Json, imageSize: number, file: string, warn?: (message: string) => void) {
    if (config.pretrained_cfg === undefined || config.pretrained_cfg === null)
      return { value: defaultPreprocessing(imageSize, "imagenet"), guessed: true };
    const cfg = section(config, "pretrained_cfg", file);
    return { value: readTimmPreprocessing(cfg, imageSize, file, { settled: config.wecolora, warn }), guessed: false };
  },
  writePrefix: () => "",
} as const;

/** Why none of timm's classes can hold a model. */
function unfit(config: VitConfig): string | undefined {
  if (config.sharing) return "its blocks share no weights";
  if (config.headWidth) return equalHeads;
  if (config.mlp === "gated" && config.activation !== "silu") return "its gated MLP has SiLU";
  if (config.projection) return "it has no projection without a bias";
  if (config.preNorm && config.patchBias) return "its patch embedding has no bias where a norm follows";
  return undefined;
}

/** What the classes' final norm acts on: the tokens, or their mean. */
function heldNorm({ pooling, finalNorm }: VitConfig): VitConfig["finalNorm"] {
  if (finalNorm === "none") return "none";
  return pooling === "mean" && finalNorm === "pooled" ? "pooled" : "tokens";
}

/** Rows of the table for tokens before the patches: one for each of them, or none (`no_embed_class`). */
const coveredBy = (config: VitConfig) =>
  config.positions.kind === "learned" && config.positions.prefix === prefixCount(config) ? prefixCount(config) : 0;

/** Arguments that both classes name alike. */
function sharedArguments(config: VitConfig, covered: number, original: Json): Json {
  return {
    img_size: config.imageSize,
    patch_size: config.patchSize,
    embed_dim: config.width,
    depth: config.depth,
    num_heads: config.heads,
    qkv_bias: config.qkvBias,
    num_classes: config.head?.classes ?? 0,
    global_pool: poolName(config),
    class_token: config.prefix.some(({ weight }) => weight === "cls_token"),
    ...(prefixCount(config) > 0 ? { no_embed_class: covered === 0 } : {}),
    ...(config.layerScale ? { init_values: original.init_values ?? 1e-5 } : {}),
  };
}

function writeTop(config: VitConfig, { wecolora: _, ...original }: Json, architecture: string): Json {
  return {
    ...original,
    // A name that only its owner's code registers is no name for timm.
    architecture: isTimmArchitecture(original.architecture) ? original.architecture : architecture,
    num_classes: config.head?.classes ?? 0,
    num_features: config.width,
    global_pool: poolName(config),
    norm_eps: config.normEpsilon,
  };
}

export const timm: Layout = {
  ...shared,
  name: "timm",
  matches: (config) => typeof config.architecture === "string" && !isEva(config),
  recognises: () => true,
  block: [...maps("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"), ...same("ls1.gamma", "ls2.gamma")],
  // MAE's decoder; the masked patches' token; DINO's projection head.
  ignored: /^(decoder|mask_token$|head\.(mlp|last_layer)\b|head_drop)|relative_position_index$/,
  aliases: [
    [/^register_tokens$/, "reg_token"],
    [/^blocks\.\d+\.(\d+)\./, "blocks.$1."],
    [/\.mlp\.w12\./, ".mlp.fc1."],
    [/\.mlp\.w3\./, ".mlp.fc2."],
  ],
  holds(config) {
    const reason = unfit(config);
    if (reason) return { reason };
    if (rotaryOf(config)) return { reason: "its ViT has no rotary positions" };
    if (config.attentionPool) return { reason: "its attention that pools has the blocks' heads and MLP width" };
    const distilled = config.prefix.some(({ weight }) => weight === "dist_token");
    if (distilled && config.head && config.head.input !== "class+distillation") {
      return { reason: "its models with a distillation token have two heads" };
    }
    if (distilled && config.mlp === "gated") return { reason: "its models with a distillation token have a plain MLP" };
    return {
      ...config,
      // The architecture with a gated MLP has it by default.
      layerScale: config.layerScale || config.mlp === "gated",
      patchBias: !config.preNorm,
      positions: { kind: "learned", prefix: coveredBy(config) },
      finalNorm: heldNorm(config),
      pooler: false,
      // Its heads read the vector that it pools: a head on others stays behind.
      head: config.head?.input === "class+mean" || config.head?.input === "patches" ? undefined : config.head,
    };
  },
  writeConfig(config, written, preprocessing) {
    const original = nested(written ?? {});
    const args = section(original, "model_args", "config.json");
    const registers = config.prefix.find(({ weight }) => weight === "reg_token")?.count;
    const covered = config.positions.kind === "learned" ? config.positions.prefix : 0;
    const pooledAll = config.pooledTokens === "all" || (config.pooling === "attention" && !config.pooledTokens);
    return {
      ...writeTop(config, original, architectureOf(config)),
      model_args: {
        ...args,
        ...sharedArguments(config, covered, args),
        mlp_ratio: mlpRatio(config.mlp === "gated" ? 2 * config.mlpWidth : config.mlpWidth, config.width),
        ...(registers ? { reg_tokens: registers } : {}),
        pre_norm: config.preNorm,
        ...(config.finalNorm === "none" ? { final_norm: false } : {}),
        // The mean of normed tokens, where timm would norm the mean.
        ...(config.pooling === "mean" && config.finalNorm === "tokens" ? { fc_norm: false } : {}),
        ...(pooledAll && prefixCount(config) > 0 ? { pool_include_prefix: true } : {}),
        act_layer: config.activation,
      },
      ...writePretrained(config, original, preprocessing),
    };
  },
};

/** Biases of q and v apart, without one of k, as EVA and DINOv3 have them. */
const biasesApart = (q: string, k: string, v: string): NameEntry => ({
  ours: "attn.qkv.bias",
  parts: [{ name: q }, { name: k, optional: true }, { name: v }],
});

/**
 * timm's Eva class: EVA, EVA-02, DINOv3, Perception Encoders and the ViTs with rotary positions. Models are written in
 * the first of the forms that it has for queries, keys, values and gated MLPs.
 */
export const timmEva: Layout = {
  ...shared,
  name: "timm's Eva",
  matches: isEva,
  // Rotary positions are not in the weights: without a config.json such a file can't be told from a plain ViT's.
  recognises: () => false,
  block: [
    ...maps("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
    biasesApart("attn.q_bias", "attn.k_bias", "attn.v_bias"),
    biasesApart("attn.q_proj.bias", "attn.k_proj.bias", "attn.v_proj.bias"),
    { ours: "attn.qkv.weight", parts: ["q", "k", "v"].map((name) => ({ name: `attn.${name}_proj.weight` })) },
    ...joint("mlp.fc1", ["mlp.fc1_g", "mlp.fc1_x"]),
    one("ls1.gamma", "gamma_1"),
    one("ls2.gamma", "gamma_2"),
  ],
  ignored: /^(mask_token|lm_head\.\w+|head_drop|rope\.(periods|bands|pos_embed\w*))$/,
  holds(config) {
    const reason = unfit(config);
    if (reason) return { reason };
    if (!rotaryOf(config)) return { reason: "its ViT without rotary positions holds the model" };
    if (config.prefix.some(({ weight }) => weight === "dist_token")) return { reason: "it has no distillation token" };
    if (config.activation !== (config.mlp === "gated" ? "silu" : "gelu")) return { reason: "its MLPs have GELU" };
    if (config.pooledTokens) return { reason: "it pools other tokens" };
    if (config.pooling === "attention" && (config.attentionPool?.activation ?? config.activation) !== "gelu")
      return { reason: "its attention that pools has GELU" };
    return {
      ...config,
      qkvBias: true,
      patchBias: !config.preNorm,
      positions:
        config.positions.kind === "learned" ? { ...config.positions, prefix: coveredBy(config) } : config.positions,
      finalNorm: heldNorm(config),
      pooler: false,
      head: config.head?.input === "pooled" ? config.head : undefined,
    };
  },
  writeConfig(config, written, preprocessing) {
    const original = nested(written ?? {});
    const args = section(original, "model_args", "config.json");
    const { positions } = config;
    const rotary = rotaryOf(config);
    const registers = config.prefix.find(({ weight }) => weight === "reg_token")?.count;
    const pool = config.attentionPool ?? config;
    const norms = { tokens: [true, false], pooled: [false, true], none: [false, false] }[config.finalNorm];
    return {
      ...writeTop(
        config,
        original,
        config.normEpsilon === 1e-5 ? "vit_small_patch16_dinov3_qkvb" : "vit_small_patch16_rope_224",
      ),
      model_args: {
        ...args,
        ...sharedArguments(config, positions.kind === "learned" ? positions.prefix : 0, args),
        attn_type: "rope",
        qkv_fused: true,
        dynamic_img_size: false,
        mlp_ratio: mlpRatio(config.mlpWidth, config.width),
        swiglu_mlp: config.mlp === "gated",
        swiglu_align_to: 0,
        num_reg_tokens: registers ?? 0,
        use_abs_pos_emb: positions.kind === "learned",
        use_rot_pos_emb: rotary !== undefined,
        rope_type: rotary?.grid === "index" ? "cat" : "dinov3",
        rope_temperature: rotary?.theta ?? 100,
        rope_grid_offset: rotary?.offset ?? 0,
        rope_grid_indexing: rotary?.first === "column" ? "xy" : "ij",
        rope_rotate_half: rotary?.pairs !== "neighbours",
        // The grid itself, where coordinates are not rescaled.
        ref_feat_shape: Array<number>(2).fill(rotary?.referenceSide ?? Math.floor(config.imageSize / config.patchSize)),
        use_pre_transformer_norm: config.preNorm,
        use_post_transformer_norm: norms[0],
        use_fc_norm: norms[1],
        ...(config.pooling === "attention"
          ? { attn_pool_num_heads: pool.heads, attn_pool_mlp_ratio: mlpRatio(pool.mlpWidth, config.width) }
          : {}),
      },
      ...writePretrained(config, original, preprocessing),
    };
  },
};

const poolName = ({ pooling }: VitConfig) => ({ class: "token", mean: "avg", attention: "map" })[pooling];

/** timm's model of this kind; `model_args` say the rest. */
function architectureOf({ prefix, mlp, normEpsilon }: VitConfig): string {
  if (prefix.some(({ weight }) => weight === "dist_token")) return "deit_base_distilled_patch16_224";
  if (mlp === "gated") return "vit_giant_patch14_dinov2";
  // Its arguments are names and numbers: an epsilon comes with an architecture alone.
  return normEpsilon === 1e-5 ? "vit_base_patch16_clip_224" : "vit_base_patch16_224";
}

/** The transform, beside what stays of the teacher's pretrained_cfg. */
function writePretrained(config: VitConfig, original: Json, preprocessing: Preprocessing): Json {
  const { json: transform, settled } = writeTimmPreprocessing(preprocessing);
  return {
    pretrained_cfg: { ...pretrainedBefore(original, transform), ...pretrainedOf(config), ...transform },
    ...settled,
  };
}

/** What stays of the teacher's pretrained_cfg; its test sizes belong to its own input size. */
function pretrainedBefore(original: Json, transform: Json): Json {
  const { test_input_size, test_crop_pct, ...rest } = section(original, "pretrained_cfg", "config.json");
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

export const group: LayoutGroup = { order: 40, modelTypes: [], layouts: [timmEva, timm] };
