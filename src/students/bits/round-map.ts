// One map rounded for the tokens that enter it. Sums over them say both what its rounding costs (G'G) and what its output lacks
// already, since maps before it were rounded (G'R). The change of its weights that would be best, D = (G'G + ridge)^-1 G'R, is
// added before it is rounded, and the same matrix then says how errors are made up for: a change e of the weights costs
// |e - D|^2 in it, so that rounding W + D is the whole problem. Sums over images set aside say whether that did any good there.
import type { RidgeSolver, Sums } from "../../engine/linalg/ridge.ts";
import { ridgeOf } from "../../engine/linalg/ridge.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { gain } from "../closed-form/refit-entering.ts";
import type { BlockFormat, BlockWeights } from "./block-weights.ts";
import { dequantize, roundPlain } from "./block-weights.ts";
import { reordered, roundCompensated, roundingOrder } from "./compensated.ts";

/** A map's weights `[N, K]` and its bias `[N]`, where it has one. */
export interface LinearMap {
  readonly weight: FloatTensor;
  readonly bias?: FloatTensor;
}

/** Sums over the tokens that enter a map; their last column is ones where the map has a bias. */
export interface MapSums {
  /** Of the tokens that solutions are fitted on, and of all. */
  readonly fitting: Sums;
  readonly all: Sums;
  /** Of the tokens set aside; undefined where there are none. */
  readonly aside: Sums | undefined;
}

/** How a map was rounded. */
export type Rounding =
  | { readonly kind: "plain" }
  /** `ridge`: its strength (see `ridgeOf`); `toward`: whether the map was first moved toward what its output should be. */
  | { readonly kind: "compensated"; readonly ridge: number; readonly toward: boolean };

/** A rounded map, and how it was rounded. */
export interface RoundedMap {
  readonly weights: BlockWeights;
  readonly bias?: FloatTensor;
  readonly rounding: Rounding;
}

/** A map as unknowns: `[K, N]`, and the bias as the last row. */
function unknowns({ weight, bias }: LinearMap): Float64Array {
  const [outputs, inputs] = weight.dims;
  const out = new Float64Array((inputs + (bias ? 1 : 0)) * outputs);
  for (let n = 0, at = 0; n < outputs; n++)
    for (let k = 0; k < inputs; k++, at++) out[k * outputs + n] = weight.data[at];
  if (bias) out.set(bias.data, inputs * outputs);
  return out;
}

const floats = (dims: readonly number[], data: Float64Array): FloatTensor => ({
  type: "float32",
  dims,
  data: Float32Array.from(data),
});

/** What a rounded map's squared error is over rows, less that of the map before: lower is better. */
async function lossOf(
  solver: RidgeSolver,
  sums: Sums,
  map: LinearMap,
  { weights, bias }: Pick<RoundedMap, "weights" | "bias">,
): Promise<number> {
  const before = unknowns(map);
  const after = unknowns({ weight: dequantize(weights), ...(map.bias ? { bias: bias ?? map.bias } : {}) });
  return -(await gain(
    solver,
    sums,
    after.map((v, i) => v - before[i]),
  ));
}

/** Rounds a map with what sums over tokens say. */
async function compensated(
  solver: RidgeSolver,
  sums: Sums,
  map: LinearMap,
  rounding: Extract<Rounding, { kind: "compensated" }>,
  format: BlockFormat,
): Promise<RoundedMap> {
  const { n, gram } = sums;
  const [outputs, inputs] = map.weight.dims;
  const ridge = ridgeOf(sums, rounding.ridge);
  const target = unknowns(map);
  if (rounding.toward) {
    const change = await solver.solve(sums, ridge);
    change.forEach((d, i) => (target[i] += d));
  }
  const diagonal = Float64Array.from({ length: n }, (_, i) => gram[i * n + i]);
  const order = roundingOrder(diagonal, inputs, format.blockSize, map.bias !== undefined);
  const inOrder = Float64Array.from(order, (i) => ridge[i]);
  const factor = await solver.factor({ n, gram: reordered(gram, order) }, inOrder);
  const task = { target, outputs, inputs, factor, order };
  const { weights, bias } = await roundCompensated(task, format, (a, b) => solver.multiply(a, b));
  return { weights, rounding, ...(bias ? { bias: floats([outputs], bias) } : {}) };
}

/**
 * Rounds a map in each of several ways, and takes the one that errs least on tokens set aside, fitted on all tokens then. Where
 * none are set aside it takes the last; a single way needs none.
 */
export async function roundMap(
  solver: RidgeSolver,
  map: LinearMap,
  { fitting, all, aside }: MapSums,
  ways: readonly Rounding[],
  format: BlockFormat,
): Promise<RoundedMap> {
  const made = (rounding: Rounding, sums: Sums): Promise<RoundedMap> | RoundedMap =>
    rounding.kind === "plain"
      ? { weights: roundPlain(map.weight, format), rounding }
      : compensated(solver, sums, map, rounding, format);
  if (aside === undefined || ways.length === 1) return made(ways[ways.length - 1], all);
  let best: { map: RoundedMap; loss: number } | undefined;
  for (const rounding of ways) {
    const rounded = await made(rounding, fitting);
    const loss = await lossOf(solver, aside, map, rounded);
    if (!best || loss < best.loss) best = { map: rounded, loss };
  }
  if (!best) throw new Error("no way to round a map");
  return best.map.rounding.kind === "plain" ? best.map : made(best.map.rounding, all);
}
