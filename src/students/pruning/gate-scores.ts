// What each unit of each block does to a loss, image by image.
import { Sessions } from "../../engine/compile.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { frozenWeights } from "../../models/vit.ts";
import type { Device } from "../../runtime/device.ts";
import { drawStream } from "../../utils/random.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { concatRows } from "../../utils/tensor.ts";
import { badWeight, modelName } from "../../models/finite-outputs.ts";
import { UserError } from "../../utils/errors.ts";
import { randomCrops } from "./crops.ts";
import type { GradientLoss } from "./gates.ts";
import { gateFeeds, gateGradientGraph, gradientName } from "./gates.ts";

/** Gradients at the gates of one block: `[images, heads]` and `[images, mlpWidth]`. */
export interface BlockGradients {
  readonly heads: FloatTensor;
  readonly channels: FloatTensor;
}

/** Images that gradients are taken of at once: activations of all blocks are held for each. */
const together = 8;

export interface GateScoring {
  readonly student: ModelDefinition;
  readonly device: Device;
  /** Normalised images `[B, 3, H, W]`. */
  readonly images: AsyncIterable<FloatTensor>;
  readonly loss: GradientLoss;
  readonly seed: number;
  readonly progress?: (images: number) => void;
}

/** The gradients at all gates, block by block. Throws a UserError where they are not finite. */
export async function gateGradients(scoring: GateScoring): Promise<BlockGradients[]> {
  const { student, device, images, loss, seed, progress } = scoring;
  const { config, weights } = student;
  const sessions = new Sessions(device);
  const random = drawStream(seed, "crops");
  const parts = Array.from({ length: config.depth }, () => ({ heads: [], channels: [] }) as Parts);
  let done = 0;
  try {
    for await (const batch of inParts(images)) {
      const build = () => gateGradientGraph(config, frozenWeights(weights), batch.dims, loss);
      const session = await sessions.get(batch.dims.join(), build);
      const feeds = { pixels: batch, crops: randomCrops(batch, random), ...gateFeeds(config, batch.dims[0]) };
      const { tensors } = await session.run({ feeds, fetch: session.outputNames });
      parts.forEach(({ heads, channels }, block) => {
        heads.push(finite(tensors[gradientName(`heads.${block}`)] as FloatTensor, student));
        channels.push(finite(tensors[gradientName(`channels.${block}`)] as FloatTensor, student));
      });
      done += batch.dims[0];
      progress?.(done);
    }
  } finally {
    await sessions.dispose();
  }
  return parts.map(({ heads, channels }) => ({ heads: concatRows(heads), channels: concatRows(channels) }));
}

interface Parts {
  readonly heads: FloatTensor[];
  readonly channels: FloatTensor[];
}

async function* inParts(images: AsyncIterable<FloatTensor>): AsyncGenerator<FloatTensor> {
  for await (const batch of images) {
    const [count, ...rest] = batch.dims;
    const size = rest.reduce((a, b) => a * b, 1);
    for (let from = 0; from < count; from += together) {
      const to = Math.min(count, from + together);
      yield { type: "float32", dims: [to - from, ...rest], data: batch.data.slice(from * size, to * size) };
    }
  }
}

function finite(gradient: FloatTensor, { weights, origin }: ModelDefinition): FloatTensor {
  if (gradient.data.every(Number.isFinite)) return gradient;
  const bad = badWeight(weights);
  const why = bad ? `Its weight ${bad.name} holds ${bad.value}. Use another copy of the model.` : "";
  throw new UserError(`The teacher ${modelName(origin)} gives NaN or infinity as gradients. ${why}`.trim());
}

/**
 * The mean over images of each unit's squared gradient `[units]`: (the sum over its weights of gradient times weight)^2, the
 * first-order Taylor criterion of a group (arXiv 1906.10771, equation 8), from gradients `[images, units]`.
 */
export function meanSquares({ dims: [images, units], data }: FloatTensor): Float64Array {
  const sums = new Float64Array(units);
  for (let i = 0; i < images; i++) for (let u = 0; u < units; u++) sums[u] += data[i * units + u] ** 2 / images;
  return sums;
}
