// Our own layout: timm's names, and the whole configuration in config.json. It holds every model, also those for which
// no other library has a class.
import { z } from "zod";
import { parseOptions } from "../../utils/parse-options.ts";
import { activationKinds, resamplings } from "../config.ts";
import { defaultPreprocessing } from "../preprocessing.ts";
import { allWeights } from "../weight-table.ts";
import type { Layout, LayoutGroup, NameTable } from "./layout.ts";
import { one } from "./layout.ts";

const count = z.number().int().min(1).max(1_000_000);

const countOrNone = z.number().int().min(0).max(1_000_000);

const rotary = {
  theta: z.number().positive(),
  grid: z.enum(["centred", "index"]).optional(),
  offset: z.number().optional(),
  referenceSide: count.optional(),
  first: z.enum(["row", "column"]).optional(),
  pairs: z.enum(["halves", "neighbours"]).optional(),
};

/** VitConfig as a file holds it. */
const configSchema = z
  .strictObject({
    imageSize: count,
    patchSize: count,
    channels: count,
    width: count,
    depth: count.max(10_000),
    heads: count,
    headWidth: count.optional(),
    mlpWidth: count,
    blocks: z
      .array(
        z.strictObject({
          heads: countOrNone,
          mlpWidth: countOrNone,
          queryWidth: count.optional(),
          valueWidth: count.optional(),
        }),
      )
      .optional(),
    mlp: z.enum(["plain", "gated"]),
    activation: z.enum(activationKinds),
    normEpsilon: z.number().positive(),
    qkvBias: z.boolean(),
    patchBias: z.boolean(),
    prefix: z.array(z.strictObject({ weight: z.enum(["cls_token", "dist_token", "reg_token"]), count })),
    positions: z.discriminatedUnion("kind", [
      z.strictObject({
        kind: z.literal("learned"),
        prefix: z.number().int().min(0),
        rotary: z.strictObject(rotary).optional(),
      }),
      z.strictObject({ kind: z.literal("rotary"), ...rotary }),
    ]),
    // Files of former releases have no place for it.
    resampling: z.enum(resamplings).default("bicubic"),
    sharing: z.strictObject({ factor: count }).optional(),
    merging: z.array(z.number().int().min(0)).optional(),
    preNorm: z.boolean(),
    layerScale: z.boolean(),
    finalNorm: z.enum(["tokens", "pooled", "none"]),
    pooling: z.enum(["class", "mean", "attention"]),
    pooledTokens: z.enum(["patches", "all"]).optional(),
    attentionPool: z.strictObject({ heads: count, mlpWidth: count, activation: z.enum(activationKinds) }).optional(),
    pooler: z.boolean(),
    projection: count.optional(),
    head: z
      .strictObject({
        classes: count,
        input: z.enum(["pooled", "class+mean", "patches", "class+distillation"]),
        labels: z.array(z.string()).optional(),
      })
      .optional(),
  })
  .refine(({ blocks, depth, sharing }) => !blocks || (blocks.length === depth && !sharing), {
    path: ["blocks"],
    message: "must name the heads and MLP channels of each block, and needs blocks that share no weights",
  });

const modelType = "wecolora_vit";

const same = (list: readonly string[]): NameTable => list.map((name) => one(name, name));

export const native: Layout = {
  name: "wecolora",
  library: "wecolora",
  matches: (config) => config.model_type === modelType,
  recognises: () => false,
  settings: (config) => config,
  outer: same(allWeights.flatMap(({ name, block }) => (block === undefined ? [name] : []))),
  blockPrefix: (i) => `blocks.${i}.`,
  block: same(allWeights.flatMap(({ inBlock }) => (inBlock === undefined ? [] : [inBlock]))),
  unprefixed: [],
  carried: [],
  readConfig: (config, file) => parseOptions(configSchema, config.vit, file),
  anySize: false,
  defaultPreprocessing: (_, imageSize) => ({ value: defaultPreprocessing(imageSize, "imagenet"), guessed: true }),
  holds: (config) => config,
  writeConfig: (config) => ({ model_type: modelType, vit: config }),
  writePrefix: () => "",
};

export const group: LayoutGroup = { order: 30, modelTypes: [], layouts: [native] };
