// How each library names its weights and settings, as tables. A new layout is a new entry here.
import { nearestName, UserError } from "../utils/errors.ts";
import type { Preprocessing } from "../utils/picture.ts";
import type { Activation, VitConfig } from "./config.ts";
import { defaultPreprocessing, readTimmPreprocessing } from "./preprocessing.ts";

export type Json = Readonly<Record<string, unknown>>;

/** Our name (timm's) to theirs; an array holds the maps whose rows, one after the other, make our joint one. */
export type NameTable = readonly (readonly [ours: string, theirs: string | readonly string[]])[];

export interface Layout {
  readonly name: string;
  /** Whether a config.json is of this layout. */
  matches(config: Json): boolean;
  /** Prefixes that the backbone's weights may carry, the usual one first. */
  readonly prefixes: readonly string[];
  /** Weights outside of the blocks. */
  readonly outer: NameTable;
  /** Where block `i` stands. */
  readonly blockPrefix: (index: number) => string;
  readonly block: NameTable;
  /** Names without the backbone's prefix: the head's. */
  readonly unprefixed: NameTable;
  /** Weights that this layout has and a forward pass does not read: kept as they are, never missed. */
  readonly carried: readonly string[];
  /** Reads config.json. `has` tells whether a weight (our name) is in the file. */
  readConfig(config: Json, file: string, has: (name: string) => boolean): VitConfig;
  /** Preprocessing where no preprocessor file says it; `guessed` asks for a warning. */
  defaultPreprocessing(config: Json, imageSize: number, file: string): { value: Preprocessing; guessed: boolean };
  /** Why a model of this configuration can't be written in this layout; undefined where it can. */
  cannotWrite(config: VitConfig): string | undefined;
  /** config.json for a model; `original` is the teacher's where it had this layout. */
  writeConfig(config: VitConfig, original: Json | undefined): Json;
}

const activationNames: Readonly<Record<string, Activation>> = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_tanh: "gelu_tanh",
  quick_gelu: "quick_gelu",
  relu: "relu",
};

function activationName(activation: Activation): string {
  return activation === "gelu_tanh" ? "gelu_pytorch_tanh" : activation;
}

function readActivation(value: unknown, file: string): Activation {
  const activation = activationNames[String(value)];
  if (activation) return activation;
  const near = nearestName(String(value), Object.keys(activationNames));
  throw new UserError(
    `${file} names the activation ${JSON.stringify(value)}, which is not known here${near ? ` (did you mean ${near}?)` : ""}`,
  );
}

/** A whole number within sane bounds, so that a lying file can't ask for endless memory. */
function count(config: Json, key: string, file: string, fallback?: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 1_000_000) return value;
  throw new UserError(`${key} in ${file} must be a whole number above 0, got ${JSON.stringify(value)}`);
}

function positive(config: Json, key: string, file: string, fallback: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
  throw new UserError(`${key} in ${file} must be a number above 0, got ${JSON.stringify(value)}`);
}

function readLabels(config: Json, classes: number): readonly string[] | undefined {
  const labels = config.id2label as Readonly<Record<string, unknown>> | undefined;
  if (!labels) return undefined;
  return Array.from({ length: classes }, (_, i) => String(labels[String(i)] ?? `LABEL_${i}`));
}

function writeLabels(config: VitConfig): Json {
  if (!config.head) return {};
  const labels = config.head.labels ?? Array.from({ length: config.head.classes }, (_, i) => `LABEL_${i}`);
  return {
    id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  };
}

const huggingFaceEmbeddings: NameTable = [
  ["cls_token", "embeddings.cls_token"],
  ["pos_embed", "embeddings.position_embeddings"],
  ["patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"],
  ["patch_embed.proj.bias", "embeddings.patch_embeddings.projection.bias"],
  ["norm.weight", "layernorm.weight"],
  ["norm.bias", "layernorm.bias"],
  ["pooler.dense.weight", "pooler.dense.weight"],
  ["pooler.dense.bias", "pooler.dense.bias"],
];

const both = (ours: string, theirs: string): NameTable => [
  [`${ours}.weight`, `${theirs}.weight`],
  [`${ours}.bias`, `${theirs}.bias`],
];

const separateQkv = (prefix: string): NameTable =>
  (["weight", "bias"] as const).map((part) => [
    `attn.qkv.${part}`,
    [`${prefix}.query.${part}`, `${prefix}.key.${part}`, `${prefix}.value.${part}`],
  ]);

const huggingFaceAttention: NameTable = [
  ...separateQkv("attention.attention"),
  ...both("attn.proj", "attention.output.dense"),
];

/** Fields that ViT and DINOv2 share. */
function readHuggingFace(
  config: Json,
  file: string,
): Pick<VitConfig, "imageSize" | "patchSize" | "channels" | "width" | "depth" | "heads" | "activation" | "qkvBias"> {
  return {
    imageSize: count(config, "image_size", file, 224),
    patchSize: count(config, "patch_size", file, 16),
    channels: count(config, "num_channels", file, 3),
    width: count(config, "hidden_size", file, 768),
    depth: count(config, "num_hidden_layers", file, 12),
    heads: count(config, "num_attention_heads", file, 12),
    activation: readActivation(config.hidden_act ?? "gelu", file),
    qkvBias: config.qkv_bias !== false,
  };
}

function writeHuggingFace(config: VitConfig): Json {
  return {
    attention_probs_dropout_prob: 0,
    hidden_act: activationName(config.activation),
    hidden_dropout_prob: 0,
    hidden_size: config.width,
    image_size: config.imageSize,
    initializer_range: 0.02,
    layer_norm_eps: config.normEpsilon,
    num_attention_heads: config.heads,
    num_channels: config.channels,
    num_hidden_layers: config.depth,
    patch_size: config.patchSize,
    qkv_bias: config.qkvBias,
    ...writeLabels(config),
  };
}

const vit: Layout = {
  name: "Hugging Face ViT",
  matches: (config) => config.model_type === "vit",
  prefixes: ["", "vit."],
  outer: huggingFaceEmbeddings,
  blockPrefix: (i) => `encoder.layer.${i}.`,
  block: [
    ...both("norm1", "layernorm_before"),
    ...huggingFaceAttention,
    ...both("norm2", "layernorm_after"),
    ...both("mlp.fc1", "intermediate.dense"),
    ...both("mlp.fc2", "output.dense"),
  ],
  unprefixed: both("head", "classifier"),
  carried: ["embeddings.mask_token"],
  readConfig(config, file, has) {
    const common = readHuggingFace(config, file);
    const classes = has("head.weight") ? labelCount(config) : undefined;
    return {
      ...common,
      mlpWidth: count(config, "intermediate_size", file, 4 * common.width),
      normEpsilon: positive(config, "layer_norm_eps", file, 1e-12),
      layerScale: false,
      finalNorm: true,
      pooler: has("pooler.dense.weight"),
      head: classes === undefined ? undefined : { classes, input: "class", labels: readLabels(config, classes) },
    };
  },
  defaultPreprocessing: (_, imageSize) => ({ value: defaultPreprocessing(imageSize, "half"), guessed: true }),
  cannotWrite(config) {
    if (config.layerScale) return "ViT has no LayerScale";
    if (config.head && config.head.input !== "class") return "ViT's classifier reads the class token only";
    if (!config.finalNorm) return "ViT always has a final norm";
    return undefined;
  },
  writeConfig: (config, original) => ({
    ...original,
    architectures: [config.head ? "ViTForImageClassification" : "ViTModel"],
    model_type: "vit",
    ...writeHuggingFace(config),
    encoder_stride: config.patchSize,
    intermediate_size: config.mlpWidth,
    ...(config.pooler ? { pooler_act: "tanh", pooler_output_size: config.width } : {}),
  }),
};

/** The number of labels as transformers counts them. */
function labelCount(config: Json): number {
  const labels = config.id2label as object | undefined;
  if (labels) return Object.keys(labels).length;
  return typeof config.num_labels === "number" ? config.num_labels : 2;
}

const dinov2: Layout = {
  name: "Hugging Face DINOv2",
  matches: (config) => config.model_type === "dinov2",
  prefixes: ["", "dinov2."],
  outer: huggingFaceEmbeddings.filter(([ours]) => !ours.startsWith("pooler")),
  blockPrefix: (i) => `encoder.layer.${i}.`,
  block: [
    ...both("norm1", "norm1"),
    ...huggingFaceAttention,
    ["ls1.gamma", "layer_scale1.lambda1"],
    ...both("norm2", "norm2"),
    ...both("mlp.fc1", "mlp.fc1"),
    ...both("mlp.fc2", "mlp.fc2"),
    ["ls2.gamma", "layer_scale2.lambda1"],
  ],
  unprefixed: both("head", "classifier"),
  carried: ["embeddings.mask_token"],
  readConfig(config, file, has) {
    if (config.use_swiglu_ffn === true) {
      throw new UserError(`${file}: DINOv2 with a SwiGLU MLP (the giant model) can't be read yet`);
    }
    const common = readHuggingFace(config, file);
    const classes = has("head.weight") ? labelCount(config) : undefined;
    return {
      ...common,
      mlpWidth: Math.floor(common.width * positive(config, "mlp_ratio", file, 4)),
      normEpsilon: positive(config, "layer_norm_eps", file, 1e-6),
      layerScale: true,
      finalNorm: true,
      pooler: false,
      head: classes === undefined ? undefined : { classes, input: "class+mean", labels: readLabels(config, classes) },
    };
  },
  defaultPreprocessing: (_, imageSize) => ({ value: defaultPreprocessing(imageSize, "imagenet"), guessed: true }),
  cannotWrite(config) {
    if (!config.layerScale) return "DINOv2 has LayerScale";
    if (config.pooler) return "DINOv2 has no pooler";
    if (config.head && config.head.input !== "class+mean") return "DINOv2's classifier reads class token and mean";
    if (!config.finalNorm) return "DINOv2 always has a final norm";
    return undefined;
  },
  writeConfig(config, original) {
    const stages = ["stem", ...Array.from({ length: config.depth }, (_, i) => `stage${i + 1}`)];
    return {
      apply_layernorm: true,
      drop_path_rate: 0,
      layerscale_value: 1,
      reshape_hidden_states: true,
      use_mask_token: true,
      use_swiglu_ffn: false,
      ...original,
      architectures: [config.head ? "Dinov2ForImageClassification" : "Dinov2Model"],
      model_type: "dinov2",
      ...writeHuggingFace(config),
      mlp_ratio: config.mlpWidth / config.width,
      out_features: [stages[config.depth]],
      out_indices: [config.depth],
      stage_names: stages,
    };
  },
};

const identity = (names: readonly string[]): NameTable => names.map((name) => [name, name]);

const timm: Layout = {
  name: "timm",
  matches: (config) => typeof config.architecture === "string",
  prefixes: [""],
  outer: identity([
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "norm.weight",
    "norm.bias",
  ]),
  blockPrefix: (i) => `blocks.${i}.`,
  block: identity(
    ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
      .flatMap((name) => [`${name}.weight`, `${name}.bias`])
      .concat("ls1.gamma", "ls2.gamma"),
  ),
  unprefixed: both("head", "head"),
  carried: [],
  readConfig(config, file, has) {
    const architecture = String(config.architecture);
    if (!/vit|deit|dino/i.test(architecture)) {
      throw new UserError(`${file} names the architecture ${architecture}, which is no vision transformer known here`);
    }
    const args = (config.model_args ?? {}) as Json;
    const input = (config.pretrained_cfg as Json | undefined)?.input_size as readonly number[] | undefined;
    const width = count(args, "embed_dim", file, 768);
    const classes = (args.num_classes ?? config.num_classes ?? 0) as number;
    const pooling = args.global_pool ?? config.global_pool ?? "token";
    return {
      imageSize: count(args, "img_size", file, input?.at(-1) ?? 224),
      patchSize: count(args, "patch_size", file, 16),
      channels: count(args, "in_chans", file, 3),
      width,
      depth: count(args, "depth", file, 12),
      heads: count(args, "num_heads", file, Math.max(1, Math.round(width / 64))),
      mlpWidth: Math.floor(width * positive(args, "mlp_ratio", file, 4)),
      activation: "gelu",
      normEpsilon: 1e-6,
      qkvBias: args.qkv_bias !== false,
      layerScale: has("blocks.0.ls1.gamma"),
      finalNorm: has("norm.weight"),
      pooler: false,
      head: has("head.weight") && classes > 0 ? { classes, input: pooling === "avg" ? "mean" : "class" } : undefined,
    };
  },
  defaultPreprocessing: (config, imageSize, file) => ({
    value: readTimmPreprocessing((config.pretrained_cfg ?? {}) as Json, imageSize, file),
    guessed: config.pretrained_cfg === undefined,
  }),
  cannotWrite: (config) => (config.pooler ? "timm's models have no pooler" : undefined),
  writeConfig: (config, original) => ({
    ...original,
    architecture: original?.architecture ?? "vit_base_patch16_224",
    num_classes: config.head?.classes ?? 0,
    num_features: config.width,
    model_args: {
      ...(original?.model_args as Json | undefined),
      img_size: config.imageSize,
      patch_size: config.patchSize,
      embed_dim: config.width,
      depth: config.depth,
      num_heads: config.heads,
      mlp_ratio: config.mlpWidth / config.width,
      qkv_bias: config.qkvBias,
      num_classes: config.head?.classes ?? 0,
    },
  }),
};

/** All layouts, in the order in which they are tried. */
export const layouts: readonly Layout[] = [dinov2, vit, timm];

/** Layouts that transformers loads, for writing a Hugging Face directory. */
export const huggingFaceLayouts: readonly Layout[] = [dinov2, vit];

/** The layout of a config.json. Throws a UserError that says what is supported. */
export function findLayout(config: Json, file: string): Layout {
  const layout = layouts.find((candidate) => candidate.matches(config));
  if (layout) return layout;
  const found = config.model_type ?? config.architecture;
  const known = layouts.map((l) => l.name).join(", ");
  throw new UserError(
    found === undefined
      ? `${file} names neither a model_type (Hugging Face) nor an architecture (timm), so this is no vision transformer that can be read here (known: ${known})`
      : `${file} is of a ${JSON.stringify(found)} model, which is no vision transformer that can be read here (known: ${known})`,
  );
}
