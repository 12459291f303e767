// Vision towers of transformers' CLIP and SigLIP, alone or inside a model with texts.
import type { VitConfig } from "../config.ts";
import { settle, transformersDefault } from "../preprocessing.ts";
import { activationName, count, positive, readActivation, readSizes, writeLabels } from "./fields.ts";
import { unfit } from "./transformers-layouts.ts";
import type { Evidence, Json, Layout, LayoutGroup, NameTable } from "./layout.ts";
import { both, joint, one } from "./layout.ts";

const block: NameTable = [
  ...both("norm1", "layer_norm1"),
  ...joint("attn.qkv", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
  ...both("attn.proj", "self_attn.out_proj"),
  ...both("norm2", "layer_norm2"),
  ...both("mlp.fc1", "mlp.fc1"),
  ...both("mlp.fc2", "mlp.fc2"),
];

/** The tower's own configuration. A classifier's labels stand beside it. */
function towers(config: Json): Json {
  if (typeof config.vision_config !== "object" || config.vision_config === null) return config;
  const labels = config.id2label === undefined ? {} : { id2label: config.id2label };
  return { ...(config.vision_config as Json), ...labels };
}

const withoutLabels = ({ id2label: _, label2id: __, ...rest }: Json): Json => rest;

function readTower(config: Json, file: string, evidence: Evidence): VitConfig {
  const sizes = readSizes(config, file, evidence);
  return {
    ...sizes,
    mlpWidth: count(config, "intermediate_size", file, sizes.mlpWidth),
    qkvBias: true,
    layerScale: false,
  };
}

/** transformers' classifiers on these towers read the mean of the patches, before CLIP's final norm and behind SigLIP's. */
const headOnPatches = ({ head }: VitConfig): VitConfig["head"] => head && { ...head, input: "patches" };

/** config.json of a tower alone, or of a classifier on it, whose class takes the configuration of the model with texts. */
const wrap = (config: VitConfig, type: "clip" | "siglip", architecture: string, tower: Json): Json =>
  config.head
    ? {
        architectures: [`${architecture}ForImageClassification`],
        model_type: type,
        vision_config: { model_type: `${type}_vision_model`, ...tower },
        ...writeLabels(config),
      }
    : { ...tower, model_type: `${type}_vision_model` };

function writeTower(config: VitConfig): Json {
  return {
    attention_dropout: 0,
    hidden_act: activationName(config.activation),
    hidden_size: config.width,
    image_size: config.imageSize,
    intermediate_size: config.mlpWidth,
    layer_norm_eps: config.normEpsilon,
    num_attention_heads: config.heads,
    num_channels: config.channels,
    num_hidden_layers: config.depth,
    patch_size: config.patchSize,
  };
}

const shared = {
  library: "transformers",
  settings: towers,
  blockPrefix: (i: number) => `encoder.layers.${i}.`,
  block,
  carried: [],
  // Texts, and the scale that joins both sides.
  ignored: /^(text_model\.|text_projection\.|logit_scale$|logit_bias$)|position_ids$/,
  anySize: false,
} as const;

/** Models of a tower like CLIP's: with their texts, and the tower alone. */
const clipTypes = [
  ...["clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model"],
  ...["altclip", "altclip_vision_model", "chinese_clip", "chinese_clip_vision_model"],
];

/** CLIP (arXiv 2103.00020), MetaCLIP 2, AltCLIP and Chinese CLIP: a norm in front, the final norm on the class token alone. */
export const clip: Layout = {
  ...shared,
  name: "Hugging Face CLIP",
  matches: ({ model_type: type }) => typeof type === "string" && clipTypes.includes(type),
  recognises: (has) => has("norm_pre.weight"),
  outer: [
    one("cls_token", "embeddings.class_embedding", 2),
    one("pos_embed", "embeddings.position_embedding.weight", 1),
    one("patch_embed.proj.weight", "embeddings.patch_embedding.weight"),
    // The published weights' own spelling.
    ...both("norm_pre", "pre_layrnorm"),
    ...both("norm", "post_layernorm"),
  ],
  unprefixed: [one("projection.weight", "visual_projection.weight"), ...both("head", "classifier")],
  readConfig(config, file, evidence) {
    const base = readTower(config, file, evidence);
    return {
      ...base,
      activation: readActivation(config.hidden_act ?? "quick_gelu", file),
      normEpsilon: positive(config, "layer_norm_eps", file, 1e-5),
      patchBias: false,
      prefix: [{ weight: "cls_token", count: 1 }],
      positions: { kind: "learned", prefix: 1 },
      preNorm: true,
      finalNorm: "pooled",
      pooling: "class",
      projection: evidence.shape("projection.weight")?.[0],
      head: headOnPatches(base),
    };
  },
  defaultPreprocessing: (_, imageSize) => ({ value: transformersDefault(imageSize, "clip"), guessed: true }),
  holds(config) {
    const reason = unfit(config, { prefix: ["cls_token"], reads: ["patches"] });
    if (reason) return { reason };
    if (!config.preNorm || config.patchBias || config.finalNorm !== "pooled" || config.mlp === "gated") {
      return { reason: "it has a norm before the blocks, and the final one on the class token" };
    }
    if (config.head && config.projection) return { reason: "its classifiers have no projection" };
    return { ...config, layerScale: false, qkvBias: true, positions: { kind: "learned", prefix: 1 } };
  },
  writeConfig: (config, original) =>
    wrap(config, "clip", "CLIP", {
      ...(original && withoutLabels(towers(original))),
      architectures: [config.projection ? "CLIPVisionModelWithProjection" : "CLIPVisionModel"],
      ...writeTower(config),
      ...(config.projection ? { projection_dim: config.projection } : {}),
    }),
  writePrefix: () => "vision_model.",
};

/** SigLIP (arXiv 2303.15343): no class token, pooling by attention. */
export const siglip: Layout = {
  ...shared,
  name: "Hugging Face SigLIP",
  matches: (config) => config.model_type === "siglip" || config.model_type === "siglip_vision_model",
  recognises: (has) => !has("norm_pre.weight"),
  outer: [
    one("pos_embed", "embeddings.position_embedding.weight", 1),
    ...both("patch_embed.proj", "embeddings.patch_embedding"),
    ...both("norm", "post_layernorm"),
    one("attn_pool.latent", "head.probe"),
    one("attn_pool.qkv.weight", "head.attention.in_proj_weight"),
    one("attn_pool.qkv.bias", "head.attention.in_proj_bias"),
    ...both("attn_pool.proj", "head.attention.out_proj"),
    ...both("attn_pool.norm", "head.layernorm"),
    ...both("attn_pool.mlp.fc1", "head.mlp.fc1"),
    ...both("attn_pool.mlp.fc2", "head.mlp.fc2"),
  ],
  unprefixed: both("head", "classifier"),
  readConfig(config, file, evidence) {
    const base = readTower(config, file, evidence);
    return {
      ...base,
      activation: readActivation(config.hidden_act ?? "gelu_pytorch_tanh", file),
      normEpsilon: positive(config, "layer_norm_eps", file, 1e-6),
      patchBias: true,
      prefix: [],
      positions: { kind: "learned", prefix: 0 },
      finalNorm: "tokens",
      pooling: evidence.shape("attn_pool.latent") ? "attention" : "mean",
      head: headOnPatches(base),
    };
  },
  defaultPreprocessing: (_, imageSize) => ({
    value: settle({ ...transformersDefault(imageSize, "half"), resize: { height: imageSize, width: imageSize } }),
    guessed: true,
  }),
  holds(config) {
    const reason = unfit(config, { prefix: [], reads: ["patches"] });
    if (reason) return { reason };
    if (config.preNorm || config.finalNorm !== "tokens" || config.mlp === "gated")
      return { reason: "it has other norms" };
    return { ...config, layerScale: false, qkvBias: true, patchBias: true };
  },
  writeConfig: (config, original) =>
    wrap(config, "siglip", "Siglip", {
      ...(original && withoutLabels(towers(original))),
      architectures: ["SiglipVisionModel"],
      ...writeTower(config),
      vision_use_head: config.pooling === "attention",
    }),
  writePrefix: () => "vision_model.",
};

export const group: LayoutGroup = {
  order: 20,
  modelTypes: [...clipTypes, "siglip", "siglip_vision_model"],
  layouts: [clip, siglip],
};
