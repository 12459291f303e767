// Gates: a factor on each head's and each channel's output, 1 where the unit is there and 0 where it is not. The gradient at 1 is
// the sum over a unit's weights of weight times gradient, so one backward pass scores all units of all blocks.
import { gradients } from "../../engine/autograd/gradients.ts";
import {
  add,
  div,
  graph,
  input,
  logSoftmax,
  mul,
  neg,
  reduceSum,
  reshape,
  softmax,
  sqrt,
  stopGradient,
  sub,
} from "../../engine/graph/build.ts";
import type { Graph, Value } from "../../engine/graph/graph.ts";
import { linear } from "../../engine/nn/layers.ts";
import type { VitConfig } from "../../models/config.ts";
import { headWidthOf } from "../../models/config.ts";
import type { LinearMap, WeightLookup } from "../../models/vit.ts";
import { vitForward } from "../../models/vit.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { zeros } from "../../utils/tensor.ts";

/** Losses that need no labels: see `gateGradientGraph`. */
export const gradientLosses = ["self-supervised", "features"] as const;
export type GradientLoss = (typeof gradientLosses)[number];

/** Temperatures of the two sides of the self-supervised loss, as in DINO (arXiv 2104.14294, section 3.1). */
const [targetTemperature, ownTemperature] = [0.04, 0.1];
/** Keeps the norm of a vector from being zero. */
const tiny = 1e-12;

/** Gates of all blocks: `heads.b` `[images, heads]` and `channels.b` `[images, mlpWidth]`; one row serves all images. */
function gateInputs({ depth, heads, mlpWidth }: VitConfig, images: number, type: Value["type"]): Map<string, Value> {
  return new Map(
    Array.from({ length: depth }, (_, block) => [
      [`heads.${block}`, input(`heads.${block}`, type, [images, heads])] as const,
      [`channels.${block}`, input(`channels.${block}`, type, [images, mlpWidth])] as const,
    ]).flat(),
  );
}

/** Maps with the gates in front of the attention's output map and of fc2. */
function gated(config: VitConfig, gates: ReadonlyMap<string, Value>): LinearMap {
  const headWidth = headWidthOf(config);
  return (x, weights, block, module) => {
    const gate = gates.get(module === "fc2" ? `channels.${block}` : `heads.${block}`);
    if (!gate || (module !== "fc2" && module !== "proj")) return linear(x, weights);
    const [images, units] = gate.shape as readonly number[];
    if (module === "fc2") return linear(mul(x, reshape(gate, [images, 1, units])), weights);
    const [batch, tokens, width] = x.shape as readonly number[];
    const byHead = reshape(x, [batch, tokens, units, headWidth]);
    const factors = reshape(gate, [images, 1, units, 1]);
    return linear(reshape(mul(byHead, factors), [batch, tokens, width]), weights);
  };
}

/** Vectors `[B, D]` of length 1. */
function unit(vectors: Value): Value {
  const [batch] = vectors.shape as readonly number[];
  const squares = reshape(reduceSum(mul(vectors, vectors), [1]), [batch, 1]);
  return div(vectors, sqrt(add(squares, tiny)));
}

/** The sum over images of the cross-entropy of a crop's embedding to that of the whole image, as SnapViT takes it from DINO. */
function crossViewLoss(whole: Value, crop: Value): Value {
  const target = stopGradient(softmax(div(unit(whole), targetTemperature)));
  return neg(reduceSum(mul(target, logSoftmax(div(unit(crop), ownTemperature)))));
}

/** Half the sum over images of the squared distance between a crop's features and the whole image's. */
function featureDistance(whole: Value, crop: Value): Value {
  const difference = sub(crop, stopGradient(whole));
  return mul(reduceSum(mul(difference, difference)), 0.5);
}

/** The output with the gradients at a gate. */
export const gradientName = (gate: string): string => `gradient.${gate}`;

/**
 * The gradients of a loss at each gate and image: `pixels` and `crops` `[B, C, H, W]`, gates `[B, units]` (ones), and outputs by
 * `gradientName`. The loss is between the image's vector without gates, which is held fixed, and the crop's with them.
 */
export function gateGradientGraph(
  config: VitConfig,
  weight: WeightLookup,
  dims: readonly number[],
  loss: GradientLoss,
  type: Value["type"] = "float32",
): Graph {
  const [pixels, crops] = [input("pixels", type, dims), input("crops", type, dims)];
  const gates = gateInputs(config, dims[0], type);
  const whole = vitForward(config, weight, pixels).pooled;
  const crop = vitForward(config, weight, crops, gated(config, gates)).pooled;
  const value = loss === "features" ? featureDistance(whole, crop) : crossViewLoss(whole, crop);
  const names = [...gates.keys()];
  const gradientOf = gradients(value, [...gates.values()]);
  return graph(
    [pixels, crops, ...gates.values()],
    new Map([["loss", value], ...names.map((name, i) => [gradientName(name), gradientOf[i]] as const)]),
  );
}

/** A model with gates `[1, units]` for all images: `pixels -> pooled`. */
export function gatedModelGraph(config: VitConfig, weight: WeightLookup, dims: readonly number[]): Graph {
  const pixels = input("pixels", "float32", dims);
  const gates = gateInputs(config, 1, "float32");
  return graph([pixels, ...gates.values()], {
    pooled: vitForward(config, weight, pixels, gated(config, gates)).pooled,
  });
}

/** Gates that are open but for those of units that are removed; `kept` by gate, all where it has none. */
export function gateFeeds(
  { depth, heads, mlpWidth }: VitConfig,
  images: number,
  kept: ReadonlyMap<string, readonly number[]> = new Map(),
): Record<string, FloatTensor> {
  const feeds: Record<string, FloatTensor> = {};
  for (let block = 0; block < depth; block++)
    for (const [name, units] of [
      [`heads.${block}`, heads],
      [`channels.${block}`, mlpWidth],
    ] as const) {
      const gate = zeros([images, units]);
      const open = kept.get(name);
      for (let i = 0; i < images; i++)
        if (open) for (const u of open) gate.data[i * units + u] = 1;
        else gate.data.fill(1, i * units, (i + 1) * units);
      feeds[name] = gate;
    }
  return feeds;
}
