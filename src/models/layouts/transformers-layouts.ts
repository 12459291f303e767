// Layouts of transformers whose blocks are named `encoder.layer.N`: ViT and its kin, DINOv2 and its kin.
import type { Preprocessing } from "../../utils/image.ts";
import type { HeadInput, PrefixTokens, VitConfig } from "../config.ts";
import { prefixCount } from "../config.ts";
import { squareDefault, transformersDefault } from "../preprocessing.ts";
import {
  activationName,
  count,
  equalHeads,
  positive,
  mlpRatio,
  readActivation,
  readSizes,
  writeLabels,
} from "./fields.ts";
import type { Evidence, Json, Layout, LayoutGroup, NameTable } from "./layout.ts";
import { both, joint, one } from "./layout.ts";

const embeddings: NameTable = [
  one("cls_token", "embeddings.cls_token"),
  one("dist_token", "embeddings.distillation_token"),
  one("reg_token", "embeddings.register_tokens"),
  one("pos_embed", "embeddings.position_embeddings"),
  ...both("patch_embed.proj", "embeddings.patch_embeddings.projection"),
  ...both("norm", "layernorm"),
  ...both("pooler.dense", "pooler.dense"),
];

const attention: NameTable = [
  ...joint(
    "attn.qkv",
    ["query", "key", "value"].map((name) => `attention.attention.${name}`),
  ),
  ...both("attn.proj", "attention.output.dense"),
];

const vitBlockNames: NameTable = [
  ...both("norm1", "layernorm_before"),
  ...attention,
  ...both("norm2", "layernorm_after"),
  ...both("mlp.fc1", "intermediate.dense"),
  ...both("mlp.fc2", "output.dense"),
];

const dinoBlockNames = (fc1: string, fc2: string): NameTable => [
  ...both("norm1", "norm1"),
  ...attention,
  one("ls1.gamma", "layer_scale1.lambda1"),
  ...both("norm2", "norm2"),
  ...both("mlp.fc1", `mlp.${fc1}`),
  ...both("mlp.fc2", `mlp.${fc2}`),
  one("ls2.gamma", "layer_scale2.lambda1"),
];

/** Attention as transformers 5 names it in memory, where files that `save_pretrained` wrote keep the older names. */
const attentionAliases = (block: string): readonly (readonly [RegExp, string])[] =>
  (
    [
      ["q_proj", "attention.query"],
      ["k_proj", "attention.key"],
      ["v_proj", "attention.value"],
      ["o_proj", "output.dense"],
    ] as const
  ).map(([name, older]) => [
    new RegExp(`^${block}\\.(\\d+)\\.attention\\.${name}\\.`),
    `encoder.layer.$1.attention.${older}.`,
  ]);

/** Fields that these layouts share; what config.json leaves out is read off the weights. */
function readShared(config: Json, file: string, evidence: Evidence): VitConfig {
  const sizes = readSizes(config, file, evidence);
  return {
    ...sizes,
    activation: readActivation(config.hidden_act ?? "gelu", file),
    qkvBias: config.qkv_bias === undefined ? sizes.qkvBias : config.qkv_bias !== false,
    patchBias: true,
    finalNorm: "tokens",
  };
}

/** Registers as the configuration counts them, else as the weights do; there may be none. */
function registerTokens(config: Json, file: string, { prefix }: VitConfig): PrefixTokens[] {
  const stored = prefix.find(({ weight }) => weight === "reg_token")?.count ?? 0;
  const value = config.num_register_tokens ?? stored;
  return value === 0 ? [] : [{ weight: "reg_token", count: count(config, "num_register_tokens", file, stored) }];
}

/** The fields of config.json that these layouts share. */
export function writeShared(config: VitConfig): Json {
  return {
    attention_probs_dropout_prob: 0,
    hidden_act: activationName(config.activation),
    hidden_dropout_prob: 0,
    hidden_size: config.width,
    image_size: config.imageSize,
    initializer_range: 0.02,
    layer_norm_eps: config.normEpsilon,
    num_attention_heads: config.heads,
    ...(config.headWidth ? { head_dim: config.headWidth } : {}),
    num_channels: config.channels,
    num_hidden_layers: config.depth,
    patch_size: config.patchSize,
    qkv_bias: config.qkvBias,
    ...writeLabels(config),
  };
}

/** What a layout has a place for. */
interface Parts {
  readonly prefix: readonly PrefixTokens["weight"][];
  readonly rotary?: boolean;
  /** Its library reads `head_dim` (transformers from 5 on does for ViT, DeiT, I-JEPA and DINOv2). */
  readonly fewerHeads?: boolean;
  /** What its classifier reads, and what can be written as that. */
  readonly reads: readonly [HeadInput, ...HeadInput[]];
}

const headInputs: Readonly<Record<HeadInput, string>> = {
  pooled: "the vector that it pools",
  "class+mean": "the class token and the mean of the patches",
  patches: "the mean of the patches",
  "class+distillation": "the class and the distillation token",
};

/** What a layout can't do without, said once for all of them. */
export function unfit(config: VitConfig, parts: Parts): string | undefined {
  if (config.sharing) return "its blocks share no weights";
  if (config.headWidth && !parts.fewerHeads) return equalHeads;
  const names = config.prefix.map(({ weight }) => weight).join(" and ") || "none";
  const wanted = parts.prefix.join(" and ") || "none";
  if (names !== wanted) return `it has ${wanted} before the patches, the model ${names}`;
  if ((config.positions.kind === "rotary") !== (parts.rotary ?? false)) return "its positions are of another kind";
  if (config.positions.kind === "learned" && config.positions.rotary) return "it has no rotary positions";
  if (config.pooledTokens) return "it pools other tokens";
  if (config.attentionPool) return "its attention that pools is as the blocks'";
  if (config.head && !parts.reads.includes(config.head.input))
    return `its classifier reads ${headInputs[parts.reads[0]]}`;
  return undefined;
}

/** A layout without CLIP's particulars: no norm in front, the final norm over all tokens. */
function defaultParts(config: VitConfig): string | undefined {
  if (config.preNorm) return "it has no norm before the blocks";
  if (config.finalNorm !== "tokens") return "its final norm acts on all tokens";
  if (config.pooling === "attention") return "it pools without attention";
  if (config.projection) return "it has no projection";
  return undefined;
}

/** DINOv3's rotation is the one that VitConfig has by default. */
function otherRotation({ positions }: VitConfig): string | undefined {
  if (positions.kind !== "rotary") return undefined;
  const { grid = "centred", offset = 0, first = "row", pairs = "halves" } = positions;
  const same = grid === "centred" && offset === 0 && first === "row" && pairs === "halves";
  return same ? undefined : "its rotary positions are of another kind";
}

/** A classifier on the pooled vector becomes one that gives the mean no weight. */
const classAndMean = ["class+mean", "pooled"] as const;

// Transforms of the published models, for folders that lack the file.
const guessed = (value: Preprocessing) => ({ value, guessed: true });
const square = (normalisation: "half" | "imagenet") => (imageSize: number) =>
  guessed(squareDefault(imageSize, normalisation));
const shortestEdge = (imageSize: number) => guessed(transformersDefault(imageSize, "imagenet"));
const croppedSquare = (imageSize: number) => {
  const side = Math.floor((imageSize * 256) / 224);
  return guessed(squareDefault(imageSize, "imagenet", { side, interpolation: "bicubic" }));
};

const shared = {
  library: "transformers",
  settings: (config: Json) => config,
  outer: embeddings,
  blockPrefix: (i: number) => `encoder.layer.${i}.`,
  carried: ["embeddings.mask_token"],
} as const;

interface VitKind {
  readonly name: string;
  readonly modelType: string;
  readonly classes: { readonly model: string; readonly classifier: string };
  readonly prefix: readonly PrefixTokens["weight"][];
  readonly recognises: Layout["recognises"];
  readonly preprocessing: (imageSize: number) => { value: Preprocessing; guessed: boolean };
}

/** ViT, DeiT and I-JEPA: the same blocks behind other tokens. */
function vitLayout({ name, modelType, classes, prefix, recognises, preprocessing }: VitKind): Layout {
  return {
    ...shared,
    name,
    matches: (config) => config.model_type === modelType,
    recognises,
    block: vitBlockNames,
    unprefixed: [
      ...both("head", "classifier"),
      ...both("head", "cls_classifier"),
      ...both("head_dist", "distillation_classifier"),
    ],
    ignored: /^decoder\./,
    // transformers 5's names in memory, as model.state_dict() has them.
    aliases: [
      ...attentionAliases("layers"),
      [/^layers\.(\d+)\.mlp\.fc1\./, "encoder.layer.$1.intermediate.dense."],
      [/^layers\.(\d+)\.mlp\.fc2\./, "encoder.layer.$1.output.dense."],
      [/^layers\.(\d+)\.layernorm_/, "encoder.layer.$1.layernorm_"],
    ],
    anySize: false,
    readConfig(config, file, evidence) {
      const base = readShared(config, file, evidence);
      return {
        ...base,
        mlpWidth: count(config, "intermediate_size", file, base.mlpWidth),
        normEpsilon: positive(config, "layer_norm_eps", file, 1e-12),
        layerScale: false,
        prefix: prefix.map((weight) => ({ weight, count: 1 })),
        positions: { kind: "learned", prefix: prefix.length },
        pooling: prefix.length > 0 ? "class" : "mean",
      };
    },
    defaultPreprocessing: (_, imageSize) => preprocessing(imageSize),
    holds(config) {
      const reads = ["pooled", "class+distillation"] as const;
      const reason = unfit(config, { prefix, fewerHeads: true, reads }) ?? defaultParts(config);
      if (reason) return { reason };
      if (config.mlp === "gated") return { reason: "its MLP is plain" };
      if (config.pooling !== (prefix.length > 0 ? "class" : "mean")) return { reason: "it pools otherwise" };
      return {
        ...config,
        layerScale: false,
        qkvBias: config.qkvBias,
        patchBias: true,
        positions: { kind: "learned", prefix: prefix.length },
      };
    },
    writeConfig: (config, original) => ({
      ...original,
      architectures: [
        config.head?.input === "class+distillation"
          ? `${classes.classifier}WithTeacher`
          : config.head
            ? classes.classifier
            : classes.model,
      ],
      model_type: modelType,
      ...writeShared(config),
      encoder_stride: config.patchSize,
      intermediate_size: config.mlpWidth,
      ...(config.pooler ? { pooler_act: "tanh", pooler_output_size: config.width } : {}),
    }),
    writePrefix: (config) => (config.head ? `${modelType}.` : ""),
  };
}

export const vit = vitLayout({
  name: "Hugging Face ViT",
  modelType: "vit",
  classes: { model: "ViTModel", classifier: "ViTForImageClassification" },
  prefix: ["cls_token"],
  recognises: (has) => has("cls_token") && !has("dist_token"),
  preprocessing: square("half"),
});

export const deit = vitLayout({
  name: "Hugging Face DeiT",
  modelType: "deit",
  classes: { model: "DeiTModel", classifier: "DeiTForImageClassification" },
  prefix: ["cls_token", "dist_token"],
  recognises: (has) => has("dist_token"),
  preprocessing: croppedSquare,
});

export const ijepa = vitLayout({
  name: "Hugging Face I-JEPA",
  modelType: "ijepa",
  classes: { model: "IJepaModel", classifier: "IJepaForImageClassification" },
  prefix: [],
  recognises: (has) => !has("cls_token"),
  preprocessing: square("imagenet"),
});

/** Masks three quarters of the patches whenever transformers runs it, so students are written as plain ViTs. */
export const vitMae: Layout = {
  ...vit,
  name: "Hugging Face ViT-MAE",
  matches: (config) => config.model_type === "vit_mae",
  recognises: () => false,
  defaultPreprocessing: (_, imageSize) => square("imagenet")(imageSize),
  holds: () => ({ reason: "transformers masks patches whenever it runs a ViT-MAE" }),
};

/** MSN (arXiv 2204.07141): a ViT whose classifier's class keeps it under `vit`. */
const msnBase = vitLayout({
  name: "Hugging Face ViT-MSN",
  modelType: "vit_msn",
  classes: { model: "ViTMSNModel", classifier: "ViTMSNForImageClassification" },
  prefix: ["cls_token"],
  recognises: () => false,
  preprocessing: square("imagenet"),
});
export const vitMsn: Layout = { ...msnBase, writePrefix: vit.writePrefix };

interface DinoKind {
  readonly name: string;
  readonly modelType: "dinov2" | "dinov2_with_registers";
  readonly classes: string;
  readonly gated: boolean;
}

/** transformers 5 keeps the gated MLP's two halves apart in memory. */
const gatedDinoBlock: NameTable = [
  ...dinoBlockNames("weights_in", "weights_out"),
  ...joint("mlp.fc1", ["mlp.gate_proj", "mlp.up_proj"]),
  ...both("mlp.fc2", "mlp.down_proj"),
];

/** DINOv2, with and without registers, with a plain or a gated MLP. */
function dinoLayout({ name, modelType, classes, gated }: DinoKind): Layout {
  const registers = modelType === "dinov2_with_registers";
  const prefix: PrefixTokens["weight"][] = registers ? ["cls_token", "reg_token"] : ["cls_token"];
  return {
    ...shared,
    name,
    matches: (config) => config.model_type === modelType && (config.use_swiglu_ffn === true) === gated,
    recognises: (has) => has("blocks.0.ls1.gamma") && has("reg_token") === registers,
    block: gated ? gatedDinoBlock : dinoBlockNames("fc1", "fc2"),
    unprefixed: both("head", "classifier"),
    aliases: attentionAliases("encoder\\.layer"),
    anySize: true,
    readConfig(config, file, evidence) {
      const base = readShared(config, file, evidence);
      const entered = Math.floor(base.width * positive(config, "mlp_ratio", file, 4));
      return {
        ...base,
        // The gated MLP has two thirds of the plain one's width, rounded up to a multiple of 8.
        mlpWidth: gated ? Math.floor((Math.floor((entered * 2) / 3) + 7) / 8) * 8 : entered,
        mlp: gated ? "gated" : "plain",
        activation: gated ? "silu" : base.activation,
        normEpsilon: positive(config, "layer_norm_eps", file, 1e-6),
        resampling: registers ? "bicubic-antialiased" : "bicubic",
        layerScale: true,
        prefix: [{ weight: "cls_token", count: 1 }, ...(registers ? registerTokens(config, file, base) : [])],
        positions: { kind: "learned", prefix: 1 },
        pooler: false,
        head: base.head && { ...base.head, input: "class+mean" },
      };
    },
    defaultPreprocessing: (_, imageSize) => shortestEdge(imageSize),
    holds(config) {
      const reason = unfit(config, { prefix, fewerHeads: true, reads: classAndMean }) ?? defaultParts(config);
      if (reason) return { reason };
      if ((config.mlp === "gated") !== gated) return { reason: `its MLP is ${gated ? "gated" : "plain"}` };
      if (config.pooling !== "class") return { reason: "it reads the class token" };
      // transformers 5 refuses other ratios.
      if (!gated && config.mlpWidth % config.width !== 0)
        return { reason: "its MLPs are a whole number of times as wide as the model" };
      return {
        ...config,
        layerScale: true,
        patchBias: true,
        pooler: false,
        positions: { kind: "learned", prefix: 1 },
        head: config.head && { ...config.head, input: "class+mean" },
      };
    },
    writeConfig(config, original) {
      const stages = ["stem", ...Array.from({ length: config.depth }, (_, i) => `stage${i + 1}`)];
      return {
        apply_layernorm: true,
        drop_path_rate: 0,
        layerscale_value: 1,
        reshape_hidden_states: true,
        ...(registers ? { num_register_tokens: prefixCount(config) - 1 } : { use_mask_token: true }),
        use_swiglu_ffn: gated,
        ...original,
        architectures: [`${classes}${config.head ? "ForImageClassification" : "Model"}`],
        model_type: modelType,
        ...writeShared(config),
        mlp_ratio: gated
          ? (original?.mlp_ratio ?? (config.mlpWidth * 3) / 2 / config.width)
          : mlpRatio(config.mlpWidth, config.width),
        out_features: [stages[config.depth]],
        out_indices: [config.depth],
        stage_names: stages,
      };
    },
    writePrefix: (config) => (config.head ? `${modelType}.` : ""),
  };
}

const withRegisters = { modelType: "dinov2_with_registers", classes: "Dinov2WithRegisters" } as const;
const withoutRegisters = { modelType: "dinov2", classes: "Dinov2" } as const;

export const dinov2 = dinoLayout({ ...withoutRegisters, name: "Hugging Face DINOv2", gated: false });
export const dinov2Gated = dinoLayout({ ...withoutRegisters, name: "Hugging Face DINOv2 (SwiGLU)", gated: true });
export const dinov2Registers = dinoLayout({
  ...withRegisters,
  name: "Hugging Face DINOv2 with registers",
  gated: false,
});
export const dinov2RegistersGated = dinoLayout({
  ...withRegisters,
  name: "Hugging Face DINOv2 with registers (SwiGLU)",
  gated: true,
});

const dinov3Block = (gated: boolean): NameTable => [
  ...both("norm1", "norm1"),
  ...(["weight", "bias"] as const).map((part) => ({
    ours: `attn.qkv.${part}`,
    // Published models have no bias on k.
    parts: ["q", "k", "v"].map((name) => ({ name: `attention.${name}_proj.${part}`, optional: part === "bias" })),
  })),
  ...both("attn.proj", "attention.o_proj"),
  one("ls1.gamma", "layer_scale1.lambda1"),
  ...both("norm2", "norm2"),
  ...(gated ? joint("mlp.fc1", ["mlp.gate_proj", "mlp.up_proj"]) : both("mlp.fc1", "mlp.up_proj")),
  ...both("mlp.fc2", "mlp.down_proj"),
  one("ls2.gamma", "layer_scale2.lambda1"),
];

/** DINOv3 (arXiv 2508.10104): registers, and rotary positions instead of a table. */
function dinov3Layout(gated: boolean): Layout {
  return {
    ...shared,
    name: `Hugging Face DINOv3${gated ? " (gated MLP)" : ""}`,
    matches: (config) => config.model_type === "dinov3_vit" && (config.use_gated_mlp === true) === gated,
    recognises: () => true,
    outer: [
      one("cls_token", "embeddings.cls_token"),
      one("reg_token", "embeddings.register_tokens"),
      ...both("patch_embed.proj", "embeddings.patch_embeddings"),
      ...both("norm", "norm"),
    ],
    blockPrefix: (i) => `layer.${i}.`,
    aliases: [[/^model\.layer\./, "layer."]],
    block: dinov3Block(gated),
    unprefixed: both("head", "classifier"),
    anySize: true,
    readConfig(config, file, evidence) {
      const base = readShared({ image_size: 224, ...config }, file, evidence);
      return {
        ...base,
        mlpWidth: count(config, "intermediate_size", file, base.mlpWidth),
        mlp: gated ? "gated" : "plain",
        qkvBias: true,
        normEpsilon: positive(config, "layer_norm_eps", file, 1e-5),
        layerScale: true,
        prefix: [{ weight: "cls_token", count: 1 }, ...registerTokens(config, file, base)],
        positions: { kind: "rotary", theta: positive(config, "rope_theta", file, 100) },
        pooler: false,
        head: base.head && { ...base.head, input: "class+mean" },
      };
    },
    defaultPreprocessing: (_, imageSize) => square("imagenet")(imageSize),
    holds(config) {
      const reason = unfit(config, {
        prefix: config.prefix.length > 1 ? ["cls_token", "reg_token"] : ["cls_token"],
        rotary: true,
        reads: classAndMean,
      });
      const other = reason ?? defaultParts(config) ?? otherRotation(config);
      if (other) return { reason: other };
      if (config.pooling !== "class") return { reason: "it reads the class token" };
      if ((config.mlp === "gated") !== gated) return { reason: `its MLP is ${gated ? "gated" : "plain"}` };
      return { ...config, layerScale: true, qkvBias: true };
    },
    writeConfig(config, original) {
      const stages = ["stem", ...Array.from({ length: config.depth }, (_, i) => `stage${i + 1}`)];
      return {
        apply_layernorm: true,
        key_bias: false,
        ...original,
        architectures: [config.head ? "DINOv3ViTForImageClassification" : "DINOv3ViTModel"],
        model_type: "dinov3_vit",
        ...writeShared(config),
        intermediate_size: config.mlpWidth,
        num_register_tokens: prefixCount(config) - 1,
        use_gated_mlp: gated,
        rope_theta: config.positions.kind === "rotary" ? config.positions.theta : 100,
        out_features: [stages[config.depth]],
        out_indices: [config.depth],
        stage_names: stages,
      };
    },
    writePrefix: (config) => (config.head ? "model." : ""),
  };
}

export const dinov3 = dinov3Layout(false);
export const dinov3Gated = dinov3Layout(true);

export const group: LayoutGroup = {
  order: 10,
  modelTypes: ["vit", "deit", "vit_mae", "vit_msn", "ijepa", "dinov2", "dinov2_with_registers", "dinov3_vit"],
  layouts: [
    ...[dinov2, dinov2Gated, dinov2Registers, dinov2RegistersGated, dinov3Gated, dinov3],
    ...[vitMae, vitMsn, deit, vit, ijepa],
  ],
};
