// The linear probe: batch norm without affine parameters and a linear layer over frozen features, trained with LARS
// (MAE's protocol, which the WeCoLoRA paper's section 4.2 follows).
import { gradients } from "../autograd/gradients.ts";
import { compile } from "../compile.ts";
import { add, constant, div, graph, input, mul, reduceMean, sqrt, sub } from "../graph/build.ts";
import type { Value } from "../graph/types.ts";
import { linear } from "../nn/layers.ts";
import { crossEntropy } from "../nn/losses.ts";
import { larsUpdate } from "../optim/lars.ts";
import { learningRateAt } from "../optim/schedule.ts";
import type { Device, DeviceTensor } from "../runtime/types.ts";
import { UserError } from "../utils/errors.ts";
import { randomStream } from "../utils/random.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { float32, zeros } from "../utils/tensor.ts";

export interface ProbeOptions {
  readonly epochs: number;
  readonly warmupEpochs: number;
  readonly batch: number;
  /** lr = baseLearningRate * batch / 256; the paper's 0.1 where left out, or more where there are few steps. */
  readonly baseLearningRate?: number;
  readonly seed: number;
}

/** The paper's settings. */
export const probeDefaults: ProbeOptions = { epochs: 90, warmupEpochs: 10, batch: 512, seed: 0 };
const paperLearningRate = 0.1;

/**
 * LARS moves weights by a share of their own size, lr * 0.001 a step, so that few steps at the paper's rate leave a
 * probe as it began. The sum of rates over a training is kept at least here (ImageNet at the paper's settings: 45,000;
 * CIFAR-100: 1,800; with 90 to 600 pictures, accuracy is flat from 300 to 2,000).
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
  const random = randomStream(seed, "probe");
  const weight = zeros([classes, width]);
  for (let i = 0; i < weight.data.length; i++) weight.data[i] = 0.01 * random.normal();
  const variance = zeros([width]);
  variance.data.fill(1);
  return { weight, bias: zeros([classes]), runningMean: zeros([width]), runningVariance: variance };
}

const stateNames = ["weight", "bias", "weightMomentum", "biasMomentum", "runningMean", "runningVariance"] as const;

/** One training step over `[batch, D]` features and `[batch, K]` one-hot targets. */
function stepGraph(batch: number, width: number, classes: number) {
  const features = input("features", "float32", [batch, width]);
  const targets = input("targets", "float32", [batch, classes]);
  const learningRate = input("learningRate", "float32", []);
  const shapes = [[classes, width], [classes], [classes, width], [classes], [width], [width]];
  const state = Object.fromEntries(stateNames.map((name, i) => [name, input(name, "float32", shapes[i])])) as Record<
    (typeof stateNames)[number],
    Value
  >;
  const mean = reduceMean(features, [0]);
  const centred = sub(features, mean);
  const variance = reduceMean(mul(centred, centred), [0]);
  const normalised = div(centred, sqrt(add(variance, epsilon)));
  const loss = crossEntropy(linear(normalised, { weight: state.weight, bias: state.bias }), targets);
  const [dWeight, dBias] = gradients(loss, [state.weight, state.bias]);
  const weight = larsUpdate({ parameter: state.weight, momentum: state.weightMomentum }, dWeight, learningRate, lars);
  const bias = larsUpdate({ parameter: state.bias, momentum: state.biasMomentum }, dBias, learningRate, lars);
  const run = (old: Value, now: Value) => add(mul(old, 1 - runningMomentum), mul(now, runningMomentum));
  // Running variances are unbiased, as PyTorch keeps them.
  const unbiased = mul(variance, batch / Math.max(1, batch - 1));
  return graph([features, targets, learningRate, ...Object.values(state)], {
    loss,
    "next.weight": weight.parameter,
    "next.bias": bias.parameter,
    "next.weightMomentum": weight.momentum,
    "next.biasMomentum": bias.momentum,
    "next.runningMean": run(state.runningMean, mean),
    "next.runningVariance": run(state.runningVariance, unbiased),
  });
}

function oneHot(labels: readonly number[], classes: number): FloatTensor {
  const out = zeros([labels.length, classes]);
  labels.forEach((label, i) => {
    out.data[i * classes + label] = 1;
  });
  return out;
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
}

/**
 * Trains a probe on features `[n, D]`. The last batch of an epoch is dropped where it is not full, as in the paper's
 * protocol. `initial` and `order` are for comparing with other implementations.
 */
export async function trainProbe(
  device: Device,
  features: FloatTensor,
  labels: readonly number[],
  classes: number,
  options: ProbeOptions = probeDefaults,
  fixed: {
    readonly initial?: Pick<ProbeWeights, "weight" | "bias">;
    readonly order?: (epoch: number) => number[];
  } = {},
): Promise<ProbeTraining> {
  const [count, width] = features.dims;
  if (count < 2) throw new UserError(`a linear probe needs at least 2 labelled pictures, got ${count}`);
  const batch = Math.min(options.batch, count);
  const iterationsPerEpoch = Math.floor(count / batch);
  const steps = iterationsPerEpoch * options.epochs;
  const peak =
    options.baseLearningRate === undefined
      ? Math.max((paperLearningRate * batch) / 256, leastRateSum / steps)
      : (options.baseLearningRate * batch) / 256;
  const schedule = {
    kind: "cosine" as const,
    baseLearningRate: peak,
    warmupEpochs: options.warmupEpochs,
    epochs: options.epochs,
    iterationsPerEpoch,
  };
  const session = await compile(stepGraph(batch, width, classes), device);
  const start = { ...freshProbe(width, classes, options.seed), ...fixed.initial };
  let state: Record<string, DeviceTensor> = {};
  for (const name of stateNames) {
    const from =
      name === "weightMomentum" ? zeros([classes, width]) : name === "biasMomentum" ? zeros([classes]) : start[name];
    state[name] = await device.upload(from);
  }
  const all = Array.from({ length: count }, (_, i) => i);
  const order = fixed.order ?? ((epoch: number) => randomStream(options.seed, "probe order", epoch).shuffle(all));
  const lossByStep: number[] = [];
  try {
    for (let epoch = 0; epoch < options.epochs; epoch++) {
      const indices = order(epoch);
      for (let i = 0; i < iterationsPerEpoch; i++) {
        const rows = indices.slice(i * batch, (i + 1) * batch);
        const feeds: Record<string, Tensor | DeviceTensor> = {
          ...state,
          features: pickRows(features, rows),
          targets: oneHot(
            rows.map((row) => labels[row]),
            classes,
          ),
          learningRate: float32([learningRateAt(schedule, lossByStep.length)], []),
        };
        const { tensors, kept } = await session.run({
          feeds,
          fetch: ["loss"],
          keep: stateNames.map((n) => `next.${n}`),
        });
        await device.release(Object.values(state));
        state = Object.fromEntries(stateNames.map((name) => [name, kept[`next.${name}`]]));
        lossByStep.push(Number(tensors.loss.data[0]));
      }
    }
    const download = async (name: (typeof stateNames)[number]) => (await device.download(state[name])) as FloatTensor;
    const weights = {
      weight: await download("weight"),
      bias: await download("bias"),
      runningMean: await download("runningMean"),
      runningVariance: await download("runningVariance"),
    };
    return { weights, lossByStep };
  } finally {
    await device.release(Object.values(state));
    await session.dispose();
  }
}

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
