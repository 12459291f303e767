// Outlier channels balanced between activations and weights, for 8-bit products behind a layer norm: SmoothQuant (arXiv
// 2211.10438), where the norm's own scale and bias say how large a channel gets, so that no images are needed.
import { constant, layerNormalization } from "../../graph/build.ts";
import type { Node, Value } from "../../graph/graph.ts";
import type { Attributes } from "../../graph/operators.ts";
import type { FloatTensor } from "../../../utils/tensor.ts";

/** How much of a channel's size goes over to the weights: 0.5 to 0.75 did best on the demo's teacher (dev/performance-notes.md). */
const migration = 0.75;
/** Deviations from the mean that a normalised channel reaches, about. */
const reach = 3;
/** Channels and weights that are never anything count as if they were so large: nothing is divided by zero. */
const least = 1e-6;

/** A layer norm with constant scale and bias. */
export interface FrozenNorm {
  readonly x: Value;
  readonly scale: FloatTensor;
  readonly bias: FloatTensor;
  readonly epsilon: number;
}

/** The layer norm that a value comes from, where its scale and bias are constants. */
export function frozenNorm({ source }: Value): FrozenNorm | undefined {
  if (source.kind !== "node" || source.node.op !== "LayerNormalization") return undefined;
  const { inputs, attributes }: Node = source.node;
  const [x, scale, bias] = inputs;
  if (scale.source.kind !== "constant" || bias.source.kind !== "constant") return undefined;
  const { epsilon } = attributes as Attributes<"LayerNormalization">;
  return { x, scale: scale.source.tensor as FloatTensor, bias: bias.source.tensor as FloatTensor, epsilon };
}

/** A frozen matrix that multiplies a norm: `[N, K]` where it does so transposed, else `[K, N]`. */
export interface FrozenMatrix {
  readonly stored: FloatTensor;
  readonly transposed: boolean;
}

/**
 * What each of the `K` channels of a norm is divided by, and the share in it of all matrices that it goes into multiplied:
 * size^0.75 over the largest weight^0.25, with a geometric mean of 1.
 */
export function channelBalance({ scale, bias }: FrozenNorm, matrices: readonly FrozenMatrix[]): Float32Array {
  const [channels] = scale.dims;
  const largest = new Float32Array(channels);
  for (const matrix of matrices) {
    const { data } = matrix.stored;
    eachChannel(matrix, (at, channel) => {
      largest[channel] = Math.max(largest[channel], Math.abs(data[at]));
    });
  }
  const [scales, biases] = [scale.data, bias.data];
  const balance = largest.map((weight, k) => {
    const size = Math.max(least, reach * Math.abs(scales[k]) + Math.abs(biases[k]));
    return size ** migration / Math.max(least, weight) ** (1 - migration);
  });
  const mean = Math.exp(balance.reduce((sum, v) => sum + Math.log(v), 0) / channels);
  return balance.map((v) => v / mean);
}

/** The norm with each channel divided by its balance. */
export function balancedNorm({ x, scale, bias, epsilon }: FrozenNorm, balance: Float32Array): Value {
  const divided = ({ dims, data }: FloatTensor) =>
    constant({ type: "float32", dims, data: Float32Array.from(data, (v, k) => v / balance[k]) });
  return layerNormalization(x, divided(scale), divided(bias), epsilon);
}

/** The weights with each channel multiplied by its balance. */
export function balancedWeights(matrix: FrozenMatrix, balance: Float32Array): FloatTensor {
  const { dims, data } = matrix.stored;
  const balanced = Float32Array.from(data);
  eachChannel(matrix, (at, channel) => (balanced[at] *= balance[channel]));
  return { type: "float32", dims, data: balanced };
}

function eachChannel({ stored, transposed }: FrozenMatrix, visit: (at: number, channel: number) => void): void {
  const [rows, columns] = stored.dims;
  for (let r = 0, at = 0; r < rows; r++) for (let c = 0; c < columns; c++, at++) visit(at, transposed ? c : r);
}
