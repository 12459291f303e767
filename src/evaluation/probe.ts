// The linear probe: batch norm without affine parameters and a linear layer over frozen features, trained with LARS
// (MAE's protocol, which the WeCoLoRA paper's section 4.2 follows).
import { gradients } from "../engine/autograd/gradients.ts";
import { compile } from "../engine/compile.ts";
import { add, constant, div, graph, input, mul, reduceMean, sqrt, sub } from "../engine/graph/build.ts";
import type { Value } from "../engine/graph/graph.ts";
import { linear } from "../engine/nn/layers.ts";
import { binaryCrossEntropy, crossEntropy } from "../engine/nn/losses.ts";
import { larsUpdate } from "../engine/optim/lars.ts";
import type { Schedule } from "../engine/optim/schedule.ts";
import { learningRateAt } from "../engine/optim/schedule.ts";
import type { Device, DeviceTensor, Session } from "../runtime/device.ts";
import { UserError } from "../utils/errors.ts";
import { firstNotFinite, requireFinite } from "../utils/finite.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { float32, zeros } from "../utils/tensor.ts";
import { aurocs, topAccuracy } from "./metrics.ts";
import type { Targets } from "./targets.ts";
import { takeTargets, targetRows } from "./targets.ts";

export interface ProbeOptions {
  readonly epochs: number;
  readonly warmupEpochs: number;
  readonly batch: number;
  /**
   * lr = rate * batch / 256; the paper's 0.1 where left out, or more where there are few steps. Of several, trained side by
   * side, the one is taken that does best on a tenth of the images, and trained again on all.
   */
  readonly baseLearningRate?: number | readonly number[];
  /** Also evaluate the probe after each epoch, for the best epoch's figure. */
  readonly bestEpoch?: boolean;
  readonly seed: number;
}

/** The paper's settings. */
export const probeDefaults: ProbeOptions = { epochs: 90, warmupEpochs: 10, batch: 512, seed: 0 };
const paperLearningRate = 0.1;

/**
 * LARS moves weights by a share of their own size, lr * 0.001 a step, so that few steps at the paper's rate leave a
 * probe as it began. The sum of rates over a training is kept at least here (ImageNet at the paper's settings: 45,000;
 * CIFAR-100: 1,800; with 90 to 600 images, accuracy is flat from 300 to 2,000).
 */
const leastRateSum = 400;

const epsilon = 1e-6;
const runningMomentum = 0.1;
const lars = { momentum: 0.9, trust: 0.001, weightDecay: 0 };

export interface ProbeWeights {
  /** `[K, D]` */
  readonly weight: FloatTensor;
  /** `[K]` */
  readonly bias: FloatTensor;
  /** `[D]` each: the batch norm's running statistics. */
  readonly runningMean: FloatTensor;
  readonly runningVariance: FloatTensor;
}

/** Weights from a normal distribution of deviation 0.01, bias zero. */
function freshProbe(width: number, classes: number, seed: number): ProbeWeights {
  const random = drawStream(seed, "probe");
  const weight = zeros([classes, width]);
  for (let i = 0; i < weight.data.length; i++) weight.data[i] = 0.01 * random.normal();
  const variance = zeros([width]);
  variance.data.fill(1);
  return { weight, bias: zeros([classes]), runningMean: zeros([width]), runningVariance: variance };
}

/** What each of the probes trained side by side has of its own. */
const ownNames = ["weight", "bias", "weightMomentum", "biasMomentum"] as const;
/** The batch norm's running statistics, which are the same for all. */
const sharedNames = ["runningMean", "runningVariance"] as const;
const stateOf = (probes: number): string[] => [
  ...Array.from({ length: probes }, (_, i) => ownNames.map((name) => `${name}.${i}`)).flat(),
  ...sharedNames,
];

/** One training step of several probes over `[batch, D]` features and `[batch, K]` targets. */
function stepGraph(batch: number, width: number, targets: Pick<Targets, "kind" | "count">, probes: number) {
  const { count } = targets;
  const features = input("features", "float32", [batch, width]);
  const wanted = input("targets", "float32", [batch, count]);
  const mean = reduceMean(features, [0]);
  const centred = sub(features, mean);
  const variance = reduceMean(mul(centred, centred), [0]);
  const normalised = div(centred, sqrt(add(variance, epsilon)));
  const inputs: Value[] = [features, wanted];
  const outputs: Record<string, Value> = {};
  const lossOf = targets.kind === "class" ? crossEntropy : binaryCrossEntropy;
  for (let i = 0; i < probes; i++) {
    const learningRate = input(`learningRate.${i}`, "float32", []);
    const [weight, bias, weightMomentum, biasMomentum] = ownNames.map((name) =>
      input(`${name}.${i}`, "float32", name.startsWith("weight") ? [count, width] : [count]),
    );
    inputs.push(learningRate, weight, bias, weightMomentum, biasMomentum);
    const loss = lossOf(linear(normalised, { weight, bias }), wanted);
    const [dWeight, dBias] = gradients(loss, [weight, bias]);
    const nextWeight = larsUpdate({ parameter: weight, momentum: weightMomentum }, dWeight, learningRate, lars);
    const nextBias = larsUpdate({ parameter: bias, momentum: biasMomentum }, dBias, learningRate, lars);
    outputs[`loss.${i}`] = loss;
    outputs[`next.weight.${i}`] = nextWeight.parameter;
    outputs[`next.bias.${i}`] = nextBias.parameter;
    outputs[`next.weightMomentum.${i}`] = nextWeight.momentum;
    outputs[`next.biasMomentum.${i}`] = nextBias.momentum;
  }
  const [runningMean, runningVariance] = sharedNames.map((name) => input(name, "float32", [width]));
  inputs.push(runningMean, runningVariance);
  const run = (old: Value, now: Value) => add(mul(old, 1 - runningMomentum), mul(now, runningMomentum));
  outputs["next.runningMean"] = run(runningMean, mean);
  // Running variances are unbiased, as PyTorch keeps them.
  outputs["next.runningVariance"] = run(runningVariance, mul(variance, batch / Math.max(1, batch - 1)));
  return graph(inputs, outputs);
}

function pickRows(tensor: FloatTensor, indices: readonly number[]): FloatTensor {
  const width = tensor.dims[1];
  const out = zeros([indices.length, width]);
  indices.forEach((index, i) => {
    out.data.set(tensor.data.subarray(index * width, (index + 1) * width), i * width);
  });
  return out;
}

export interface ProbeTraining {
  readonly weights: ProbeWeights;
  readonly lossByStep: readonly number[];
  /** The rate that was taken, where there were several to choose from. */
  readonly baseLearningRate?: number;
}

/** Features `[n, D]`, the same in every epoch or, where images are augmented, each epoch's own. */
export type ProbeFeatures = FloatTensor | ((epoch: number) => Promise<FloatTensor>);

const featuresOf = async (features: ProbeFeatures, epoch: number): Promise<FloatTensor> =>
  typeof features === "function" ? features(epoch) : features;

/** Called with the probe after each epoch, counted from 0. */
type AfterEpoch = (epoch: number, weights: ProbeWeights) => Promise<void>;

interface Fixed {
  readonly initial?: Pick<ProbeWeights, "weight" | "bias">;
  readonly order?: (epoch: number) => number[];
  readonly afterEpoch?: AfterEpoch;
}

/** The rate at its highest, which a schedule begins to fall from. */
function peakRate(rate: number | undefined, batch: number, steps: number): number {
  if (rate !== undefined) return (rate * batch) / 256;
  return Math.max((paperLearningRate * batch) / 256, leastRateSum / steps);
}

/**
 * Trains a probe on features `[n, D]`. The last batch of an epoch is dropped where it is not full, as in the paper's
 * protocol. `fixed` is for comparing with other implementations, and for watching epochs. Several rates are compared on the
 * first epoch's features. Throws a UserError on fewer than 2 images.
 */
export async function trainProbe(
  device: Device,
  features: ProbeFeatures,
  targets: Targets,
  options: ProbeOptions = probeDefaults,
  fixed: Fixed = {},
): Promise<ProbeTraining> {
  const { baseLearningRate: rates } = options;
  if (!Array.isArray(rates))
    return (await trainTogether(device, features, targets, options, [rates as number], fixed))[0];
  const chosen =
    rates.length > 1
      ? await bestRate(device, await featuresOf(features, 0), targets, options, rates)
      : (rates[0] as number);
  const [training] = await trainTogether(device, features, targets, options, [chosen], fixed);
  return { ...training, baseLearningRate: chosen };
}

/** Share of the images that rates are compared on. */
const comparedShare = 0.1;

async function bestRate(
  device: Device,
  features: FloatTensor,
  targets: Targets,
  options: ProbeOptions,
  rates: readonly number[],
): Promise<number> {
  const count = features.dims[0];
  const order = drawStream(options.seed, "probe rates").shuffle(Array.from({ length: count }, (_, i) => i));
  const aside = Math.max(1, Math.round(comparedShare * count));
  const [evaluated, used] = [order.slice(0, aside), order.slice(aside)];
  const trained = await trainTogether(device, pickRows(features, used), takeTargets(targets, used), options, rates);
  const wanted = takeTargets(targets, evaluated);
  let best = { rate: rates[0], score: Number.NEGATIVE_INFINITY };
  for (const [i, { weights }] of trained.entries()) {
    const logits = await probeLogits(device, weights, pickRows(features, evaluated));
    // A rate at which the probe leaves float32's range is not the best.
    if (firstNotFinite(logits.data) >= 0) continue;
    const score = wanted.kind === "class" ? topAccuracy(logits, wanted.labels, 1) : (aurocs(logits, wanted).mean ?? 0);
    if (score > best.score) best = { rate: rates[i], score };
  }
  return best.rate;
}

/** Probes of several rates that train side by side on a device. `dispose` frees them. */
class SideBySide {
  readonly lossByStep: readonly number[][];
  private state: Readonly<Record<string, DeviceTensor>> = {};

  private readonly device: Device;
  private readonly session: Session;
  private readonly schedules: readonly Schedule[];

  private constructor(device: Device, session: Session, schedules: readonly Schedule[]) {
    this.device = device;
    this.session = session;
    this.schedules = schedules;
    this.lossByStep = schedules.map(() => []);
  }

  /** Opens the training step for batches of `[batch, D]` features, and uploads what it starts from. */
  static async open(
    device: Device,
    start: ProbeWeights,
    batch: number,
    targets: Targets,
    schedules: readonly Schedule[],
  ): Promise<SideBySide> {
    const [classes, width] = start.weight.dims;
    const session = await compile(stepGraph(batch, width, targets, schedules.length), device);
    const probes = new SideBySide(device, session, schedules);
    const blank = { weightMomentum: zeros([classes, width]), biasMomentum: zeros([classes]) };
    const state: Record<string, DeviceTensor> = {};
    for (const name of stateOf(schedules.length)) {
      const [part] = name.split(".");
      state[name] = await device.upload({ ...start, ...blank }[part as keyof ProbeWeights]);
    }
    probes.state = state;
    return probes;
  }

  /** One training step on `[batch, D]` features and `[batch, K]` targets; steps are counted from 0. */
  async step(features: FloatTensor, targets: FloatTensor, step: number): Promise<void> {
    const names = Object.keys(this.state);
    const feeds: Record<string, Tensor | DeviceTensor> = { ...this.state, features, targets };
    this.schedules.forEach((schedule, r) => {
      feeds[`learningRate.${r}`] = float32([learningRateAt(schedule, step)], []);
    });
    const { tensors, kept } = await this.session.run({
      feeds,
      fetch: this.schedules.map((_, r) => `loss.${r}`),
      keep: names.map((name) => `next.${name}`),
    });
    await this.device.release(Object.values(this.state));
    this.state = Object.fromEntries(names.map((name) => [name, kept[`next.${name}`]]));
    this.lossByStep.forEach((list, r) => list.push(Number(tensors[`loss.${r}`].data[0])));
  }

  /** The weights of the probe with the r-th rate. */
  async weights(r: number): Promise<ProbeWeights> {
    const download = async (name: string) => (await this.device.download(this.state[name])) as FloatTensor;
    return {
      weight: await download(`weight.${r}`),
      bias: await download(`bias.${r}`),
      runningMean: await download("runningMean"),
      runningVariance: await download("runningVariance"),
    };
  }

  async dispose(): Promise<void> {
    await this.device.release(Object.values(this.state));
    await this.session.dispose();
  }
}

/** One pass over the images for several rates; `afterEpoch` sees the first's probe. */
async function trainTogether(
  device: Device,
  features: ProbeFeatures,
  targets: Targets,
  options: ProbeOptions,
  rates: readonly (number | undefined)[],
  fixed: Fixed = {},
): Promise<ProbeTraining[]> {
  let epochFeatures = await featuresOf(features, 0);
  const [count, width] = epochFeatures.dims;
  requireFinite(epochFeatures.data, "Features of the linear probe");
  if (count < 2)
    throw new UserError(`A linear probe needs at least 2 labelled images, got ${count}`, { code: "INVALID_DATA" });
  const batch = Math.min(options.batch, count);
  const start = { ...freshProbe(width, targets.count, options.seed), ...fixed.initial };
  const iterations = Math.floor(count / batch);
  const probes = await SideBySide.open(device, start, batch, targets, schedulesOf(options, rates, batch, iterations));
  const all = Array.from({ length: count }, (_, i) => i);
  const order = fixed.order ?? ((epoch: number) => drawStream(options.seed, "probe order", epoch).shuffle(all));
  try {
    for (let epoch = 0, step = 0; epoch < options.epochs; epoch++) {
      const indices = order(epoch);
      if (epoch > 0) epochFeatures = await featuresOf(features, epoch);
      for (let i = 0; i < iterations; i++, step++) {
        const rows = indices.slice(i * batch, (i + 1) * batch);
        await probes.step(pickRows(epochFeatures, rows), targetRows(takeTargets(targets, rows)), step);
      }
      if (fixed.afterEpoch) await fixed.afterEpoch(epoch, await probes.weights(0));
    }
    const trained: ProbeTraining[] = [];
    for (const [r, lossByStep] of probes.lossByStep.entries())
      trained.push({ weights: await probes.weights(r), lossByStep });
    return trained;
  } finally {
    await probes.dispose();
  }
}

const schedulesOf = (
  { warmupEpochs, epochs }: ProbeOptions,
  rates: readonly (number | undefined)[],
  batch: number,
  iterationsPerEpoch: number,
): Schedule[] =>
  rates.map((rate) => ({
    kind: "cosine",
    baseLearningRate: peakRate(rate, batch, iterationsPerEpoch * epochs),
    warmupEpochs,
    epochs,
    iterationsPerEpoch,
  }));

/** Logits `[n, K]` of a trained probe, with the running statistics. */
export async function probeLogits(device: Device, probe: ProbeWeights, features: FloatTensor): Promise<FloatTensor> {
  const x = input("features", "float32", ["n", features.dims[1]]);
  const centred = sub(x, constant(probe.runningMean));
  const normalised = div(centred, sqrt(add(constant(probe.runningVariance), epsilon)));
  const logits = linear(normalised, { weight: constant(probe.weight), bias: constant(probe.bias) });
  const session = await compile(graph([x], { logits }), device);
  const { tensors } = await session.run({ feeds: { features }, fetch: ["logits"] });
  await session.dispose();
  return tensors.logits as FloatTensor;
}
