// What a timm config.json says of a vision transformer: the architecture's own arguments, and over them `model_args`.
import { UserError } from "../../utils/errors.ts";
import type { Activation, RotaryPositions, VitConfig } from "../config.ts";
import { prefixCount } from "../config.ts";
import { count, fromShapes, positive, readActivation, section, side } from "./fields.ts";
import type { TimmArguments } from "./timm-architectures.ts";
import { formerTimmNames, timmArchitectures, timmVersion } from "./timm-architectures.ts";
import type { Evidence, Json } from "./layout.ts";

/** timm's classes whose function is computed here. */
const knownTypes = ["VisionTransformer", "VisionTransformerDistilled", "Eva"] as const;
type KnownType = (typeof knownTypes)[number];

/** What the other classes compute. */
const otherTypes: Readonly<Record<string, string>> = {
  Beit: "its attention adds biases by relative position",
  NaFlexVit: "its patches have positions of images of any shape",
  VisionTransformerRelPos: "its attention adds biases by relative position",
  VisionTransformerSAM: "its attention looks at windows and relative positions",
};

interface Architecture {
  readonly name: string;
  readonly type: KnownType;
  /** The architecture's arguments with `model_args` over them; undefined where no config.json names one. */
  readonly args: TimmArguments | undefined;
}

/** The entry of timm's table that a config.json names: tags behind a dot and former names are taken off. */
function entryOf(architecture: string): readonly [type: string, arguments: TimmArguments] | undefined {
  const name = architecture.split(".")[0];
  for (const candidate of [name, Object.hasOwn(formerTimmNames, name) ? formerTimmNames[name] : name])
    if (Object.hasOwn(timmArchitectures, candidate)) return timmArchitectures[candidate];
  return undefined;
}

/** Whether timm has an architecture of this name. */
export const isTimmArchitecture = (name: unknown): name is string =>
  typeof name === "string" && entryOf(name) !== undefined;

/** Whether a config.json names an architecture of timm's Eva class. */
export const isEva = (config: Json): boolean =>
  typeof config.architecture === "string" && entryOf(config.architecture)?.[0] === "Eva";

/**
 * The architecture of a config.json. A name that timm doesn't have is read as a plain vision transformer where
 * `model_args` says its number of heads: people register models of their own.
 */
function readArchitecture(config: Json, file: string): Architecture {
  const name = String(config.architecture ?? "");
  if (!name) return { name, type: "VisionTransformer", args: undefined };
  const given = section(config, "model_args", file);
  const entry = entryOf(name);
  if (!entry) {
    if (/vit|deit|dino/i.test(name) && typeof given.num_heads === "number") {
      const reason = refusedBecause(given);
      if (reason) throw refusal(file, name, reason);
      return { name, type: /distilled/.test(name) ? "VisionTransformerDistilled" : "VisionTransformer", args: given };
    }
    throw new UserError(
      `${file} names the architecture ${name}, which is not a vision transformer of timm ${timmVersion} that can be read here. A model of your own needs model_args with num_heads there.`,
      { code: "NOT_A_VIT" },
    );
  }
  const [type, architectureArgs] = entry;
  const knownType = knownTypes.find((candidate) => candidate === type);
  if (!knownType) throw refusal(file, name, otherTypes[type] ?? `its class is ${type}`);
  const args = {
    ...architectureArgs,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null)),
  };
  const reason = refusedBecause(args);
  if (reason) throw refusal(file, name, reason);
  return { name, type: knownType, args };
}

function refusal(file: string, name: string, reason: string): UserError {
  return new UserError(`${file} names the architecture ${name} of timm, which can't be read here: ${reason}.`, {
    code: "NOT_A_VIT",
  });
}

/** Arguments that change what a model computes and that only these values can be read of, with what others mean. */
const readable: Readonly<Record<string, readonly [values: readonly unknown[], otherwise: string]>> = {
  attn_layer: [["attn", "Attention"], "its attention is of another kind (differential attention)"],
  attn_only_layer_scale: [[false], "it scales attention and not the MLP"],
  block_fn: [["Block"], "its blocks are not pre-norm with attention and MLP in sequence"],
  dynamic_img_pad: [[false], "it pads images to whole patches"],
  embed_layer: [["PatchEmbed"], "a convolutional network stands in front of its blocks"],
  embed_norm_layer: [[], "it norms patches before their positions are added"],
  mlp_layer: [["Mlp", "GluMlp"], "its MLP is of another kind"],
  norm_layer: [["LayerNorm", "layernorm"], "its norms are not layer norms (RMSNorm)"],
  num_kv_heads: [[], "several heads share their keys and values"],
  pos_embed: [["learn"], "it has no positions"],
  proj_bias: [[true], "its maps have no biases"],
  qk_norm: [[false], "it norms queries and keys"],
  rope_type: [["cat", "dinov3"], "its rotary positions are learned in each block, or of more than two axes"],
  scale_attn_inner: [[false], "it norms inside the attention"],
  scale_attn_norm: [[false], "it norms inside the attention"],
  scale_mlp: [[false], "it norms inside the MLP"],
  scale_mlp_norm: [[false], "it norms inside the MLP"],
  use_post_norm: [[false], "it norms what its blocks add (post-norm)"],
};

function refusedBecause(args: TimmArguments): string | undefined {
  for (const [key, [values, otherwise]] of Object.entries(readable))
    if (args[key] !== undefined && args[key] !== null && !values.includes(args[key])) return otherwise;
  const size = args.img_size;
  if (Array.isArray(size) && size[0] !== size[1]) return "its images are not square";
  return undefined;
}

const poolings: Readonly<Record<string, VitConfig["pooling"]>> = {
  token: "class",
  avg: "mean",
  map: "attention",
  "": "class",
};

function readPooling(value: unknown, file: string): VitConfig["pooling"] {
  const name = String(value);
  if (Object.hasOwn(poolings, name)) return poolings[name];
  throw new UserError(`${file} names the pooling ${JSON.stringify(value)}; supported are token, avg and map.`, {
    code: "NOT_A_VIT",
  });
}

/** How Eva turns queries and keys. */
function readRotary(args: TimmArguments, file: string): RotaryPositions | undefined {
  if (args.use_rot_pos_emb !== true) return undefined;
  const reference = Array.isArray(args.ref_feat_shape) ? (args.ref_feat_shape as unknown[]) : [args.ref_feat_shape];
  if (reference.some((side) => side !== reference[0])) {
    throw new UserError(`ref_feat_shape in ${file} is ${JSON.stringify(reference)}; only squares can be read.`, {
      code: "NOT_A_VIT",
    });
  }
  const centred = args.rope_type === "dinov3";
  const offset = Number(args.rope_grid_offset ?? 0);
  return {
    theta: positive(args, "rope_temperature", file, 10_000),
    grid: centred ? "centred" : "index",
    ...(offset === 0 ? {} : { offset }),
    ...(centred || typeof reference[0] !== "number" ? {} : { referenceSide: reference[0] }),
    first: args.rope_grid_indexing === "xy" ? "column" : "row",
    pairs: args.rope_rotate_half === true ? "halves" : "neighbours",
  };
}

/** timm's hub files may name the labels. */
function labelNames(pretrained: Json, config: Json): readonly string[] | undefined {
  const names = config.label_names ?? pretrained.label_names;
  return Array.isArray(names) ? names.map(String) : undefined;
}

/**
 * Pixels per side that the position table was made for: the first size that a file names and that the table fits. A table
 * of another size says it by its rows.
 */
function readImageSize(
  config: Json,
  args: TimmArguments,
  pretrained: Json,
  file: string,
  evidence: Evidence,
  patchSize: number,
): number | undefined {
  const input = (pretrained.input_size ?? config.input_size) as readonly unknown[] | undefined;
  const sizes = [args.img_size, Array.isArray(input) ? input.at(-1) : undefined]
    .filter((size) => size !== undefined && size !== null)
    .map((size) => side({ img_size: size }, "img_size", file, 224));
  const rows = evidence.shape("pos_embed")?.at(-2);
  if (rows === undefined) return sizes[0];
  const fits = (size: number) => {
    const more = rows - Math.floor(size / patchSize) ** 2;
    return more >= 0 && more <= prefixCount(fromShapes(evidence));
  };
  const given = section(config, "model_args", file).img_size ?? undefined;
  return sizes.find(fits) ?? (given === undefined ? undefined : sizes[0]);
}

/**
 * How positions are resampled. Without a config.json: the authors' DINOv2 has a mask token, which timm takes off, and is
 * antialiased where it has registers; DINO's and iBOT's training checkpoints have their projection head beside the backbone.
 */
function resamplingOf(evidence: Evidence, named: boolean): VitConfig["resampling"] {
  if (named || evidence.shape("reg_token") !== undefined) return "bicubic-antialiased";
  const dinov2 = evidence.has("mask_token") && evidence.shape("blocks.0.ls1.gamma") !== undefined;
  const dino = ["weight", "weight_v"].some((part) => evidence.has(`head.last_layer.${part}`));
  return dinov2 || dino ? "bicubic-offset" : "bicubic-antialiased";
}

/** Refuses a file without a config.json whose weights fit a plain vision transformer and have Perception Encoders' parts. */
function refuseBare(file: string, evidence: Evidence): void {
  const has = (name: string) => evidence.shape(name) !== undefined;
  if (has("norm_pre.weight") && (has("attn_pool.latent") || !has("norm.weight"))) {
    throw new UserError(
      `${file} has the weights of a Perception Encoder, which don't hold its rotary positions. Put timm's config.json beside it.`,
      { code: "NOT_A_VIT" },
    );
  }
}

/** Reads the settings of timm's classes; what they leave out is taken from its table and the weights' shapes. */
export function readTimmConfig(config: Json, file: string, evidence: Evidence): VitConfig {
  const { name, type, args: defaults } = readArchitecture(config, file);
  if (!defaults) refuseBare(file, evidence);
  const args = defaults ?? {};
  const eva = type === "Eva";
  const pretrained = section(config, "pretrained_cfg", file);
  const patchSize = side(args, "patch_size", file, fromShapes(evidence).patchSize);
  const imageSize = readImageSize(config, args, pretrained, file, evidence, patchSize);
  const shapes = fromShapes(evidence, { imageSize, patchSize });
  const width = count(args, "embed_dim", file, shapes.width);
  const pooled = evidence.shape("fc_norm.weight") !== undefined;
  const classes = args.num_classes ?? config.num_classes ?? pretrained.num_classes ?? shapes.head?.classes ?? 0;
  const poolName = args.global_pool ?? config.global_pool ?? pretrained.global_pool ?? (eva ? "avg" : undefined);
  const pooling = poolName === undefined ? (pooled ? "mean" : shapes.pooling) : readPooling(poolName, file);
  const heads = evidence.numHeads ?? count(args, "num_heads", file, defaults ? 12 : shapes.heads);
  const gated = shapes.mlp === "gated";
  const defaultActivation = gated ? "silu" : "gelu";
  // Eva takes no activation.
  const activation = eva ? defaultActivation : readActivation(args.act_layer ?? defaultActivation, file);
  const mlpWidth =
    args.mlp_ratio === undefined || gated ? shapes.mlpWidth : Math.floor(width * positive(args, "mlp_ratio", file, 4));
  // Of architectures that timm doesn't have, the name tells whether the norm in front is CLIP's.
  const epsilon = shapes.preNorm && /clip/.test(name) && !entryOf(name) ? 1e-5 : 1e-6;
  const rotary = readRotary(args, file);
  const table = evidence.shape("pos_embed") !== undefined;
  return {
    ...shapes,
    channels: count(args, "in_chans", file, shapes.channels),
    width,
    depth: count(args, "depth", file, shapes.depth),
    heads,
    mlpWidth,
    activation,
    // timm's config.json has no place for it; `norm_eps` there is ours.
    normEpsilon: positive(config, "norm_eps", file, positive(args, "norm_eps", file, epsilon)),
    qkvBias: eva || args.qkv_bias === undefined ? shapes.qkvBias : args.qkv_bias !== false,
    positions:
      rotary && !table ? { kind: "rotary", ...rotary } : { ...shapes.positions, ...(rotary ? { rotary } : {}) },
    resampling: resamplingOf(evidence, defaults !== undefined),
    finalNorm: pooled ? "pooled" : shapes.finalNorm,
    pooling,
    ...pooledTokens(args, eva, pooling, prefixCount(shapes)),
    ...(pooling === "attention" ? readAttentionPool({ heads, mlpWidth, activation }, args, file, evidence, eva) : {}),
    head:
      shapes.head && typeof classes === "number" && classes > 0
        ? { ...shapes.head, classes, labels: labelNames(pretrained, config) }
        : undefined,
  };
}

/** timm's attention reads the patches alone and Eva's all tokens; both take the mean of the patches. */
function pooledTokens(
  args: TimmArguments,
  eva: boolean,
  pooling: VitConfig["pooling"],
  prefix: number,
): Pick<VitConfig, "pooledTokens"> {
  if (prefix === 0 || pooling === "class") return {};
  const all = args.pool_include_prefix === true || (eva && pooling === "attention");
  return all === (pooling === "attention") ? {} : { pooledTokens: all ? "all" : "patches" };
}

/** The attention that pools, where it differs from the blocks'. */
function readAttentionPool(
  blocks: { readonly heads: number; readonly mlpWidth: number; readonly activation: Activation },
  args: TimmArguments,
  file: string,
  evidence: Evidence,
  eva: boolean,
): Pick<VitConfig, "attentionPool"> {
  const pool = {
    heads: count(args, "attn_pool_num_heads", file, blocks.heads),
    mlpWidth: evidence.shape("attn_pool.mlp.fc2.weight")?.[1] ?? blocks.mlpWidth,
    activation: eva ? ("gelu" as const) : blocks.activation,
  };
  const same =
    pool.heads === blocks.heads && pool.mlpWidth === blocks.mlpWidth && pool.activation === blocks.activation;
  return same ? {} : { attentionPool: pool };
}
