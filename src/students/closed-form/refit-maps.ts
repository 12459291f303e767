// A student's maps as a refit reads and changes them.
import type { ModelDefinition } from "../../models/definition.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { scaledRows } from "../../utils/tensor.ts";
import { required } from "../../utils/required.ts";

/** A map's rows as they count behind their LayerScale, where the block has one. */
export function behindScale(
  { config, weights }: ModelDefinition,
  block: number,
  scale: "ls1" | "ls2",
  map: FloatTensor,
): FloatTensor {
  if (!config.layerScale) return map;
  const gamma = required(weights, `blocks.${block}.${scale}.gamma`);
  return scaledRows(map, gamma.data);
}

/** The student with zeros in all columns of a map but the kept ones. */
export function withoutColumns(student: ModelDefinition, name: string, kept: readonly number[]): ModelDefinition {
  const old = required(student.weights, name);
  const [width, inside] = [old.dims[1], new Set(kept)];
  const data = old.data.map((v, i) => (inside.has(i % width) ? v : 0));
  return { ...student, weights: new Map(student.weights).set(name, { ...old, data }) };
}

/** A solution for some of a map's inputs (and the bias) among those of all, whose others don't change. */
export function spread(solution: Float64Array, kept: readonly number[], width: number): Float64Array {
  const outputs = solution.length / (kept.length + 1);
  const out = new Float64Array((width + 1) * outputs);
  [...kept, width].forEach((row, r) => out.set(solution.subarray(r * outputs, (r + 1) * outputs), row * outputs));
  return out;
}

/** The student with `solution` `[in + 1, out]` added to a map: its last row to the bias, where the map has one. */
export function moved(student: ModelDefinition, name: string, solution: Float64Array, step: number): ModelDefinition {
  const weights = new Map(student.weights);
  const old = required(weights, `${name}.weight`);
  const [outputs, width] = old.dims;
  const weight = { ...old, data: old.data.slice() };
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < width; i++) weight.data[o * width + i] += step * solution[i * outputs + o];
  weights.set(`${name}.weight`, weight);
  const bias = weights.get(`${name}.bias`);
  if (bias)
    weights.set(`${name}.bias`, {
      ...bias,
      data: bias.data.map((v, o) => v + step * solution[width * outputs + o]),
    });
  return { ...student, weights };
}
