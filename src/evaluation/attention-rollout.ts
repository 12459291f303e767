// Where a model looks: attention rollout (arXiv 2005.00928) as in the paper's figures, and the last block's attention.
import { badOption } from "../utils/parse-options.ts";
import { compile } from "../engine/compile.ts";
import { graph, input, reduceMax, reduceMean } from "../engine/graph/build.ts";
import type { Value } from "../engine/graph/graph.ts";
import type { Model } from "../models/model.ts";
import { patchCount, prefixCount } from "../models/config.ts";
import type { OutputSubject } from "../models/finite-outputs.ts";
import { checkOutputs } from "../models/finite-outputs.ts";
import { embed, frozenWeights, vitBlocks } from "../models/vit.ts";

import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";

export const rolloutMethods = ["rollout", "last-attention"] as const;
export const headFusions = ["max", "mean"] as const;

export interface RolloutOptions {
  /** `rollout` follows attention through all blocks; `last-attention` is what the last block's class token looks at. */
  readonly method: (typeof rolloutMethods)[number];
  /** How the heads of a block become one. */
  readonly fusion: (typeof headFusions)[number];
  /** The share of a block's smallest entries that rollout sets to zero. */
  readonly discard: number;
}

/** The paper's figures: the largest of the heads, nine tenths discarded. */
export const rolloutDefaults: RolloutOptions = { method: "rollout", fusion: "max", discard: 0.9 };

/**
 * Sets the smallest entries of one block's `[N, N]` to zero, `share` of them; of equal ones the first. Entry 0 (the class
 * token's look at itself) stays, though it counts.
 */
function discardSmallest(attention: Float64Array, share: number): void {
  const count = Math.floor(attention.length * share);
  if (count === 0) return;
  const limit = attention.slice().sort()[count - 1];
  let equal = count;
  for (const value of attention) if (value < limit) equal--;
  for (let i = 0; i < attention.length; i++) {
    const goes = attention[i] < limit || (attention[i] === limit && equal-- > 0);
    if (goes && i > 0) attention[i] = 0;
  }
}

/**
 * Attention rollout of one image from its blocks' fused heads `[N, N]`: smallest entries discarded, the identity added,
 * rows scaled to sum to 1, multiplied through the blocks. Gives the class token's row (the mean row, where
 * there is no class token) over the patches, divided by its maximum.
 */
export function rollout(
  blocks: readonly ArrayLike<number>[],
  { discard, prefix }: { readonly discard: number; readonly prefix: number },
): Float32Array {
  const tokens = Math.sqrt(blocks[0].length);
  let row = firstRow(tokens, prefix);
  for (const block of [...blocks].reverse()) {
    const attention = Float64Array.from(block);
    discardSmallest(attention, discard);
    const next = new Float64Array(tokens);
    for (let i = 0; i < tokens; i++) {
      let sum = 1;
      for (let j = 0; j < tokens; j++) sum += attention[i * tokens + j];
      const share = row[i] / sum;
      for (let j = 0; j < tokens; j++) next[j] += share * attention[i * tokens + j];
      next[i] += share;
    }
    row = next;
  }
  return overPatches(row, prefix);
}

/** What the class token looks at, or all tokens alike. */
function firstRow(tokens: number, prefix: number): Float64Array {
  const row = new Float64Array(tokens);
  if (prefix > 0) row[0] = 1;
  else row.fill(1 / tokens);
  return row;
}

function overPatches(row: ArrayLike<number>, prefix: number): Float32Array {
  const patches = Float32Array.from({ length: row.length - prefix }, (_, i) => row[prefix + i]);
  const largest = patches.reduce((a, b) => Math.max(a, b), 0);
  return largest > 0 ? patches.map((v) => v / largest) : patches;
}

/** The class token's row of one block `[N, N]` (the mean row, where there is no class token) over the patches. */
function lookOf(block: ArrayLike<number>, prefix: number): Float32Array {
  const tokens = Math.sqrt(block.length);
  const from = firstRow(tokens, prefix);
  const row = new Float64Array(tokens);
  for (let i = 0; i < tokens; i++)
    if (from[i] > 0) for (let j = 0; j < tokens; j++) row[j] += from[i] * block[i * tokens + j];
  return overPatches(row, prefix);
}

/** A model opened for its attention; `dispose` frees the session. */
export interface AttentionViewer {
  /**
   * Normalised images `[B, 3, H, W]` to maps `[B, P]`, each from 0 to 1, over the patches row by row. Throws a
   * UserError where attention is not finite.
   */
  maps(pixels: FloatTensor, subject?: OutputSubject): Promise<FloatTensor>;
  dispose(): Promise<void>;
}

/** Opens a model for its attention. Throws a UserError for a share to discard outside of 0 to 1. */
export async function attentionViewer(
  model: Model,
  options: RolloutOptions = rolloutDefaults,
): Promise<AttentionViewer> {
  const { method, fusion, discard } = options;
  if (!(discard >= 0 && discard < 1)) throw badOption("discard", "a number of at least 0 and below 1", discard);
  const { config } = model;
  const pixels = input("pixels", "float32", ["batch", config.channels, config.imageSize, config.imageSize]);
  const weight = frozenWeights(model.weights);
  const fused: Value[] = [];
  const fuse = { max: reduceMax, mean: reduceMean }[fusion];
  vitBlocks(config, weight, embed(config, weight, pixels), undefined, undefined, (weights) => {
    fused.push(fuse(weights, [1]));
  });
  const seen = method === "rollout" ? fused : fused.slice(-1);
  const outputs = new Map(seen.map((value, i) => [`attention.${i}`, value]));
  const session = await compile(graph([pixels], outputs), model.device);
  const [prefix, patches] = [prefixCount(config), patchCount(config)];
  return {
    async maps(images, subject) {
      const { tensors } = await session.run({ feeds: { pixels: images }, fetch: [...outputs.keys()] });
      const seenBy = { weights: model.weights, path: model.origin.path };
      checkOutputs(tensors as Record<string, FloatTensor>, seenBy, subject, images);
      const attention = [...outputs.keys()].map((name) => tensors[name] as FloatTensor);
      return mapsOf(attention, images.dims[0], patches, (blocks) =>
        method === "rollout" ? rollout(blocks, { discard, prefix }) : lookOf(blocks[0], prefix),
      );
    },
    dispose: () => session.dispose(),
  };
}

/** Maps `[B, P]` from each block's attention `[B, ...]`; `mapOf` makes one image's from that of its blocks. */
function mapsOf(
  attention: readonly FloatTensor[],
  count: number,
  patches: number,
  mapOf: (blocks: Float32Array[]) => ArrayLike<number>,
): FloatTensor {
  const out = zeros([count, patches]);
  for (let b = 0; b < count; b++) {
    const blocks = attention.map(({ data }) => {
      const size = data.length / count;
      return data.subarray(b * size, (b + 1) * size);
    });
    out.data.set(mapOf(blocks), b * patches);
  }
  return out;
}
