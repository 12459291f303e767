// Logistic regression to convergence: a second opinion beside the linear probe, which has a rate to choose.
import { gradients } from "../engine/autograd/gradients.ts";
import { compile } from "../engine/compile.ts";
import { add, graph, input, mul, reduceSum } from "../engine/graph/build.ts";
import type { Graph } from "../engine/graph/graph.ts";
import { linear } from "../engine/nn/layers.ts";
import { binaryCrossEntropy, crossEntropy } from "../engine/nn/losses.ts";
import { minimise } from "../engine/linalg/lbfgs.ts";
import type { Device } from "../runtime/device.ts";
import { requireFinite } from "../utils/finite.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { float32, zeros } from "../utils/tensor.ts";
import type { ProbeWeights } from "./probe.ts";
import type { Targets } from "./targets.ts";
import { targetRows } from "./targets.ts";

export interface LogisticOptions {
  /** scikit-learn's C: how much the images weigh against the size of the weights. */
  readonly c: number;
  readonly tolerance: number;
  readonly iterations: number;
}

/** scikit-learn's, over standardised features. */
export const logisticDefaults: LogisticOptions = { c: 1, tolerance: 1e-4, iterations: 1000 };

export interface LogisticFit {
  readonly weights: ProbeWeights;
  /** The mean loss with its share of the penalty. */
  readonly loss: number;
  readonly iterations: number;
  readonly converged: boolean;
}

/** Mean and variance of each column of `[n, D]`. */
function columnStatistics({ dims: [count, width], data }: FloatTensor): { mean: FloatTensor; variance: FloatTensor } {
  const [sum, squares] = [new Float64Array(width), new Float64Array(width)];
  for (let i = 0; i < count; i++) for (let j = 0; j < width; j++) sum[j] += data[i * width + j];
  for (let i = 0; i < count; i++)
    for (let j = 0; j < width; j++) squares[j] += (data[i * width + j] - sum[j] / count) ** 2;
  const [mean, variance] = [zeros([width]), zeros([width])];
  for (let j = 0; j < width; j++) {
    mean.data[j] = sum[j] / count;
    // A column that never changes is of no use; it stays at zero.
    variance.data[j] = squares[j] > 0 ? squares[j] / count : 1;
  }
  return { mean, variance };
}

/**
 * Minimises mean loss + |W|^2 / (2 C n) over standardised features `[n, D]` by L-BFGS from zero: cross-entropy for
 * classes, for labels the sum of each label's binary cross-entropy. What it gives predicts as a probe's weights do. Throws
 * a RunError where features are not finite.
 */
export async function fitLogistic(
  device: Device,
  features: FloatTensor,
  targets: Targets,
  options: LogisticOptions = logisticDefaults,
): Promise<LogisticFit> {
  requireFinite(features.data, "Features of the logistic regression");
  const [, width] = features.dims;
  const { mean, variance } = columnStatistics(features);
  const session = await compile(lossGraph(features.dims, targets, options.c), device);
  const inputs = [
    await device.upload(standardised(features, mean, variance)),
    await device.upload(targetRows(targets)),
  ];
  const size = targets.count * width;
  const split = (point: Float64Array) => splitPoint(point, [targets.count, width]);
  try {
    const objective = async (point: Float64Array) => {
      const { tensors } = await session.run({
        feeds: { features: inputs[0], targets: inputs[1], ...split(point) },
        fetch: ["loss", "dWeight", "dBias"],
      });
      const gradient = new Float64Array(point.length);
      gradient.set(tensors.dWeight.data as Float32Array);
      gradient.set(tensors.dBias.data as Float32Array, size);
      return { value: Number(tensors.loss.data[0]), gradient };
    };
    const start = new Float64Array(size + targets.count);
    const { tolerance, iterations: most } = options;
    const minimum = await minimise(objective, start, { tolerance, iterations: most, memory: 10 });
    requireFinite(minimum.point, "The logistic regression's weights");
    const weights = { ...split(minimum.point), runningMean: mean, runningVariance: variance };
    const { value: loss, iterations, converged } = minimum;
    return { weights, loss, iterations, converged };
  } finally {
    await device.release(inputs);
    await session.dispose();
  }
}

/** Weights `[K, D]` and bias `[K]` from one vector. */
function splitPoint(point: Float64Array, dims: readonly [number, number]): Pick<ProbeWeights, "weight" | "bias"> {
  const size = dims[0] * dims[1];
  return {
    weight: float32(Float32Array.from(point.subarray(0, size)), dims),
    bias: float32(Float32Array.from(point.subarray(size)), [dims[0]]),
  };
}

/** Columns of `[n, D]` with mean 0 and variance 1. */
function standardised(features: FloatTensor, mean: FloatTensor, variance: FloatTensor): FloatTensor {
  const [count, width] = features.dims;
  const standard = zeros(features.dims);
  for (let i = 0; i < count; i++)
    for (let j = 0; j < width; j++)
      standard.data[i * width + j] = (features.data[i * width + j] - mean.data[j]) / Math.sqrt(variance.data[j]);
  return standard;
}

/** The penalised loss over `[n, D]` features, with its gradients by weight and bias. */
function lossGraph([count, width]: readonly number[], targets: Targets, c: number): Graph {
  const { count: classes } = targets;
  const x = input("features", "float32", [count, width]);
  const wanted = input("targets", "float32", [count, classes]);
  const weight = input("weight", "float32", [classes, width]);
  const bias = input("bias", "float32", [classes]);
  const logits = linear(x, { weight, bias });
  const fit =
    targets.kind === "class" ? crossEntropy(logits, wanted) : mul(binaryCrossEntropy(logits, wanted), classes);
  const loss = add(fit, mul(reduceSum(mul(weight, weight)), 1 / (2 * c * count)));
  const [dWeight, dBias] = gradients(loss, [weight, bias]);
  return graph([x, wanted, weight, bias], { loss, dWeight, dBias });
}
