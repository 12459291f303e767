// What a run works out from its settings and the number of images: batch, accumulation, steps and learning rate.
import type { FewShot } from "../../data/sampling.ts";
import { deviceOf } from "../../runtime/devices.ts";
import { OptionError } from "../../utils/errors.ts";
import type { StudentRunOptions } from "../run-options.ts";

/** The paper's effective batch. */
const paperBatch = 1024;
/** Steps that an epoch is to have where the images are few. */
const fewestSteps = 8;
/** A batch smaller than this makes gradients too noisy to be worth more steps. */
const smallestBatch = 8;
/** Images at once that no device gains by going beyond. */
const largestPart = 16;

export interface BatchPlan {
  readonly batch: number;
  readonly accumulation: number;
  readonly effectiveBatch: number;
  readonly iterationsPerEpoch: number;
  readonly epochs: number;
  readonly warmupEpochs: number;
  readonly steps: number;
  /** At the end of the warm-up. */
  readonly peakLearningRate: number;
  /** What was chosen and why, for people. */
  readonly notes: readonly string[];
}

/** In how large parts a step of `effective` images is taken: of those that leave out none, the nearest to the default one. */
function partOf(effective: number, { device, checkpointing }: StudentRunOptions): number {
  const { default: defaultSize, least } = deviceOf(device).parts[checkpointing ? "checkpointing" : "plain"];
  const distance = (part: number) => Math.abs(Math.log(part / defaultSize));
  const parts = Array.from({ length: largestPart - least + 1 }, (_, i) => least + i);
  const [nearest] = parts.filter((part) => effective % part === 0).sort((a, b) => distance(a) - distance(b));
  return nearest ?? Math.min(largestPart, effective);
}

/**
 * Batch sizes and rate for `images` training images; no steps where nothing trains. `fitting` says how many of
 * `most` images at once, of a step of `effective`, the memory holds, where the options leave that open.
 */
export function planBatches(
  images: number,
  options: StudentRunOptions,
  trains = true,
  fitting: (wanted: { most: number; effective: number }) => number = ({ most }) => most,
): BatchPlan {
  const notes: string[] = [];
  const wanted =
    options.effectiveBatch ?? Math.min(paperBatch, Math.max(smallestBatch, Math.floor(images / fewestSteps)));
  let effective = Math.min(wanted, images);
  if (effective < wanted) {
    notes.push(`there are fewer images (${images}) than one batch of ${wanted}; the batch is ${effective}`);
  }
  const partSize = Math.min(options.batch ?? partOf(effective, options), effective);
  const batch = options.batch === undefined && trains ? fitting({ most: partSize, effective }) : partSize;
  if (batch < partSize) notes.push(`the available memory holds ${batch} of ${partSize} images at once`);
  if (options.batch !== undefined && batch < options.batch) {
    notes.push(`the batch in memory is ${batch}, not ${options.batch}: a step has only so many images`);
  }
  const accumulation = Math.max(1, Math.floor(effective / batch));
  effective = batch * accumulation;
  const iterationsPerEpoch = Math.max(1, Math.floor(images / effective));
  // The rate follows the batch upward from 256 only: below, the rule would leave steps too small to arrive anywhere.
  const peakLearningRate = (options.baseLearningRate * Math.max(effective, 256)) / 256;
  const { epochs, warmupEpochs } = lengthOf(options, iterationsPerEpoch);
  const steps = trains ? (options.steps ?? Math.ceil(epochs * iterationsPerEpoch)) : 0;
  const parts = accumulation > 1 ? ` (${accumulation} x ${batch})` : "";
  if (trains)
    notes.push(
      `${images} images, ${effective} to a step${parts}, ${iterationsPerEpoch} steps an epoch, ${steps} steps, ` +
        `learning rate up to ${Number(peakLearningRate.toPrecision(3))}`,
    );
  const times = { iterationsPerEpoch, epochs, warmupEpochs, steps };
  return { batch, accumulation, effectiveBatch: effective, ...times, peakLearningRate, notes };
}

/** Epochs of a run and of its warm-up: those asked for, or what so many steps take, in the same proportion. */
function lengthOf(
  { steps, epochs, warmupEpochs }: StudentRunOptions,
  iterationsPerEpoch: number,
): Pick<BatchPlan, "epochs" | "warmupEpochs"> {
  if (steps === undefined) return { epochs, warmupEpochs };
  const asked = steps / iterationsPerEpoch;
  return { epochs: asked, warmupEpochs: (warmupEpochs / epochs) * asked };
}

/** Which share or count of images is drawn. Throws a UserError where both are given. */
export function fewShotOf({ fewShotRatio, fewShotRounding, fewShotCount }: StudentRunOptions): FewShot {
  if (fewShotRatio !== undefined && fewShotCount !== undefined) {
    throw new OptionError([(name) => `Give ${name("fewShotRatio")} or ${name("fewShotCount")}, not both.`]);
  }
  if (fewShotRatio !== undefined) {
    return { kind: "share", share: fewShotRatio, ...(fewShotRounding === "down" ? { rounding: "down" } : {}) };
  }
  return fewShotCount === undefined ? { kind: "all" } : { kind: "count", count: fewShotCount };
}
