// From a vision transformer's patch tokens to a class for each pixel: TransUNet's cascaded upsampler (arXiv 2102.04306,
// section 3.2) without the skip connections from a CNN.
import { add, conv, input, mul, relu, reshape, resize, slice, transpose } from "../engine/graph/build.ts";
import type { Value } from "../engine/graph/graph.ts";
import type { VitConfig } from "../models/config.ts";
import { prefixCount } from "../models/config.ts";
import type { WeightLookup } from "../models/vit.ts";
import { vitForward } from "../models/vit.ts";
import { batchNorm, channelStatistics } from "../engine/nn/layers.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";

/** Channels after each doubling. */
export const decoderChannels = [256, 128, 64, 16] as const;
const epsilon = 1e-5;
/** Share of the newest batch in the running statistics, as in PyTorch. */
const runningMomentum = 0.1;

/** What the decoder reads. */
export type EncoderKind =
  | { readonly kind: "vit"; readonly config: VitConfig }
  /** The bare pixels of each patch: what the decoder can do by itself. */
  | { readonly kind: "pixels"; readonly imageSize: number; readonly patchSize: number };

const geometry = (encoder: EncoderKind) => (encoder.kind === "vit" ? encoder.config : encoder);

/** Patches along a side. */
export function gridOf(encoder: EncoderKind): number {
  const { imageSize, patchSize } = geometry(encoder);
  return Math.floor(imageSize / patchSize);
}

/** Pixels along a side of what the decoder gives: the grid, doubled four times. */
export function outputSide(encoder: EncoderKind): number {
  return gridOf(encoder) * 2 ** decoderChannels.length;
}

/** Channels of a patch. */
function tokenWidth(encoder: EncoderKind): number {
  return encoder.kind === "vit" ? encoder.config.width : 3 * encoder.patchSize ** 2;
}

/** Patch features as a map `[B, D, g, g]`: tokens after the final norm without those in front, or bare pixels. */
export function patchMap(encoder: EncoderKind, weight: WeightLookup, pixels: Value): Value {
  const grid = gridOf(encoder);
  const [batch] = pixels.shape;
  const width = tokenWidth(encoder);
  if (encoder.kind === "pixels") {
    const { patchSize } = encoder;
    const cut = slice(slice(pixels, 2, 0, grid * patchSize), 3, 0, grid * patchSize);
    // [B, 3, g, p, g, p] -> [B, 3, p, p, g, g]
    const parts = transpose(reshape(cut, [batch, 3, grid, patchSize, grid, patchSize]), [0, 1, 3, 5, 2, 4]);
    return reshape(parts, [batch, width, grid, grid]);
  }
  const { config } = encoder;
  const tokens = vitForward(config, weight, pixels).lastHiddenState;
  const patches = slice(tokens, 1, prefixCount(config), tokens.shape[1] as number);
  return reshape(transpose(patches, [0, 2, 1]), [batch, width, grid, grid]);
}

/** Shapes of what trains, by name. */
export function decoderShapes(encoder: EncoderKind, classes: number): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  let from = tokenWidth(encoder);
  decoderChannels.forEach((to, i) => {
    shapes.set(`decoder.${i}.conv.weight`, [to, from, 3, 3]);
    shapes.set(`decoder.${i}.norm.weight`, [to]);
    shapes.set(`decoder.${i}.norm.bias`, [to]);
    from = to;
  });
  shapes.set("decoder.head.weight", [classes, from, 3, 3]);
  shapes.set("decoder.head.bias", [classes]);
  return shapes;
}

/** Shapes of the batch norms' running statistics, by name. */
export function statisticShapes(): Map<string, readonly number[]> {
  return new Map(
    decoderChannels.flatMap((channels, i): [string, readonly number[]][] => [
      [`decoder.${i}.norm.running_mean`, [channels]],
      [`decoder.${i}.norm.running_var`, [channels]],
    ]),
  );
}

/** Fresh weights as PyTorch begins: convolutions uniform within 1 / sqrt(inputs), norms one and zero. */
export function freshDecoder(encoder: EncoderKind, classes: number, seed: number): Map<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, dims] of [...decoderShapes(encoder, classes), ...statisticShapes()]) {
    const tensor = zeros(dims);
    if (name.endsWith("norm.weight") || name.endsWith("running_var")) tensor.data.fill(1);
    if (dims.length === 4) {
      const random = drawStream(seed, name);
      const bound = 1 / Math.sqrt(dims[1] * dims[2] * dims[3]);
      for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = bound * (2 * random.uniform() - 1);
    }
    tensors.set(name, tensor);
  }
  return tensors;
}

export interface Decoded {
  /** `[B, K, S, S]`, S the output side. */
  readonly logits: Value;
  /** The running statistics after this batch; none where they were used instead of the batch's. */
  readonly statistics: Map<string, Value>;
}

/**
 * The decoder over a map `[B, D, g, g]`: four times doubled (bilinear, corners on corners), convolved 3 x 3, normed,
 * ReLU; then a 3 x 3 head. Training norms by the batch's statistics, else by the running ones.
 */
export function decode(weight: WeightLookup, map: Value, training: boolean): Decoded {
  let x = map;
  const statistics = new Map<string, Value>();
  decoderChannels.forEach((_, i) => {
    const name = `decoder.${i}`;
    const [height, width] = [x.shape[2] as number, x.shape[3] as number];
    const widened = resize(x, 2 * height, 2 * width, "align_corners");
    const convolved = conv(widened, weight(`${name}.conv.weight`), 1);
    const [mean, variance] = [weight(`${name}.norm.running_mean`), weight(`${name}.norm.running_var`)];
    const channels = [1, mean.shape[0], 1, 1];
    const kept = { mean: reshape(mean, channels), variance: reshape(variance, channels) };
    const used = training ? channelStatistics(convolved) : kept;
    if (training) {
      const [batch, , h, w] = convolved.shape as number[];
      const count = batch * h * w;
      const run = (old: Value, now: Value) =>
        add(mul(old, 1 - runningMomentum), mul(reshape(now, old.shape), runningMomentum));
      statistics.set(`${name}.norm.running_mean`, run(mean, used.mean));
      // Running variances are unbiased, as PyTorch keeps them.
      const unbiased = mul(used.variance, count / Math.max(1, count - 1));
      statistics.set(`${name}.norm.running_var`, run(variance, unbiased));
    }
    const affine = { weight: weight(`${name}.norm.weight`), bias: weight(`${name}.norm.bias`) };
    x = relu(batchNorm(convolved, used, affine, epsilon));
  });
  const bias = weight("decoder.head.bias");
  const logits = add(conv(x, weight("decoder.head.weight"), 1), reshape(bias, [1, bias.shape[0], 1, 1]));
  return { logits, statistics };
}

/** Inputs of a graph, by name, made when they are asked for. */
export function inputLookup(shapes: ReadonlyMap<string, readonly number[]>): {
  readonly inputs: Map<string, Value>;
  readonly weight: WeightLookup;
} {
  const inputs = new Map([...shapes].map(([name, dims]) => [name, input(name, "float32", dims)]));
  return {
    inputs,
    weight(name) {
      const value = inputs.get(name);
      if (!value) throw new Error(`the graph has no input ${name}`);
      return value;
    },
  };
}
