// What a model gives is checked where it comes in, so that no figure is ever made of NaN or infinity.
import { UserError } from "../utils/errors.ts";
import { firstNotFinite } from "../utils/finite.ts";
import type { FloatTensor } from "../utils/tensor.ts";

/** Whom a message about outputs names. */
export interface OutputSubject {
  /** The model as its user knows it: `teacher`, or a path. */
  readonly model?: string;
  /** The images' names, one a row. */
  readonly images?: readonly string[];
}

/** The first weight that holds NaN or infinity, and what it holds. */
export function badWeight(
  weights: ReadonlyMap<string, FloatTensor>,
): { readonly name: string; readonly value: number } | undefined {
  for (const [name, { data }] of weights) {
    const at = firstNotFinite(data);
    if (at >= 0) return { name, value: data[at] };
  }
  return undefined;
}

/** "its weight blocks.2.mlp.fc1.weight holds NaN": why outputs are not finite, as far as inputs and weights show it. */
function causeOf(weights: ReadonlyMap<string, FloatTensor>, pixels: FloatTensor | undefined): string {
  const bad = badWeight(weights);
  if (bad) return `Its weight ${bad.name} holds ${bad.value}. Use another copy of the model.`;
  if (pixels && firstNotFinite(pixels.data) >= 0)
    return "The image's normalized pixels are not finite. Check --mean and --std, and the image.";
  return "All its weights are finite, so numbers overflow inside of it.";
}

interface CheckedModel {
  readonly weights: ReadonlyMap<string, FloatTensor>;
  /** The path that the model was read from. */
  readonly path?: string;
}

/** How messages name a model. */
export function modelName({ path }: Pick<CheckedModel, "path">, given?: string): string {
  if (given === undefined) return path ?? "that was made of weights in memory";
  return path === undefined || path === given ? given : `${given} (${path})`;
}

/**
 * Checks outputs `[B, ...]` of a model. Throws a UserError that names the model, the output, the first image whose row
 * holds NaN or infinity, and the weight that holds it too, where there is one.
 */
export function checkOutputs(
  outputs: Readonly<Record<string, FloatTensor>>,
  model: CheckedModel,
  subject: OutputSubject = {},
  pixels?: FloatTensor,
): void {
  const bad = badOutput(outputs, subject.images);
  if (!bad) return;
  const { row, name, value, image } = bad;
  const shown = pixels && rowOf(pixels, row);
  throw new UserError(
    `The model ${modelName(model, subject.model)} gives ${value} in ${name} for the image ${image}. ${causeOf(model.weights, shown)}`,
    { code: "NOT_FINITE" },
  );
}

/** Where outputs `[B, ...]` hold NaN or infinity: the first image's. */
export function badOutput(outputs: Readonly<Record<string, FloatTensor>>, images?: readonly string[]) {
  let first: { readonly row: number; readonly name: string; readonly value: number } | undefined;
  for (const [name, { data, dims }] of Object.entries(outputs)) {
    const at = firstNotFinite(data);
    if (at < 0) continue;
    const row = Math.floor(at / (data.length / dims[0]));
    if (!first || row < first.row) first = { row, name, value: data[at] };
  }
  return first && { ...first, image: images?.[first.row] ?? `number ${first.row + 1} of the batch` };
}

/** Throws a UserError that names the model and the weight that holds NaN or infinity. */
export function requireFiniteWeights({
  weights,
  origin,
}: {
  weights: CheckedModel["weights"];
  origin: { path?: string };
}): void {
  const bad = badWeight(weights);
  if (bad)
    throw new UserError(
      `The model ${modelName(origin)} can't be used: its weight ${bad.name} holds ${bad.value}. Use another copy of it.`,
      { code: "NOT_FINITE" },
    );
}

/** Throws a UserError where a model that is to be written holds NaN, infinity, or more than float16 can hold. */
export function checkStorable(weights: ReadonlyMap<string, FloatTensor>, weightType: string): void {
  const bad = badWeight(weights);
  if (bad)
    throw new UserError(`The model can't be written: its weight ${bad.name} holds ${bad.value}.`, {
      code: "NOT_FINITE",
    });
  if (weightType !== "float16") return;
  for (const [name, { data }] of weights) {
    const large = data.find((value) => Math.abs(value) >= float16Overflow);
    if (large !== undefined)
      throw new UserError(
        `The model can't be written as float16: its weight ${name} holds ${large}, and float16 ends at 65504. Use --weight-type float32 or bfloat16.`,
        { code: "INVALID_OPTION" },
      );
  }
}

/** What rounds to infinity in float16. */
const float16Overflow = 65_520;

function rowOf({ type, dims, data }: FloatTensor, row: number): FloatTensor {
  const size = data.length / dims[0];
  return { type, dims: [1, ...dims.slice(1)], data: data.subarray(row * size, (row + 1) * size) };
}
