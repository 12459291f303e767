// Evidence on what a student could be: some images that students are fitted on, and others on which they are held against the
// teacher.
import { analyticDefaultsFor, analyticStart } from "../closed-form/closed-form.ts";
import { absoluteDifferences, mean, rowCosines } from "../../evaluation/metrics.ts";
import type { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { StudentShape } from "./shape.ts";

/** One of so many images is evaluated on. */
const imagesPerEvaluated = 6;
/** So many batches are fitted on and evaluated on at least, so that some of the former can be set aside as in a run. */
export const evidenceParts = imagesPerEvaluated;

const compared = ["blockOutput", "pooled"] as const;
export interface Evaluated {
  readonly pixels: FloatTensor;
  /** What the teacher makes of them. */
  readonly target: Record<(typeof compared)[number], FloatTensor>;
}

/** How near a model is to the teacher: the mean absolute difference of last block outputs, and the pooled vectors' cosine. */
export async function nearness(model: Model, batches: readonly Evaluated[]) {
  const differences: number[] = [];
  const cosines: number[] = [];
  for (const { pixels, target } of batches) {
    const outputs = await model.outputs(pixels, compared);
    differences.push(...absoluteDifferences(outputs.blockOutput, target.blockOutput));
    cosines.push(...rowCosines(outputs.pooled, target.pooled));
  }
  return { meanAbsoluteDifference: mean(differences), cosine: mean(cosines) };
}

export interface Evidence {
  readonly fitted: readonly FloatTensor[];
  readonly evaluated: readonly Evaluated[];
}

const imageCount = (batches: readonly FloatTensor[]) => batches.reduce((sum, { dims }) => sum + dims[0], 0);

/** The last batches, with one of `imagesPerEvaluated` images at least, are for evaluation; what is before them for fitting. */
export async function gatherEvidence(teacher: Model, crops: AsyncIterable<FloatTensor>): Promise<Evidence> {
  const batches: FloatTensor[] = [];
  for await (const pixels of crops) batches.push(pixels);
  const least = imageCount(batches) / imagesPerEvaluated;
  let from = batches.length - 1;
  while (from > 1 && imageCount(batches.slice(from)) < least) from--;
  const evaluated: Evaluated[] = [];
  for (const pixels of batches.slice(from)) evaluated.push({ pixels, target: await teacher.outputs(pixels, compared) });
  return { fitted: batches.slice(0, from), evaluated };
}

/** A student of this shape, refitted on what there is to fit on. */
export async function fittedStudent(
  teacher: Model,
  { kept, ...widths }: StudentShape,
  { fitted }: Evidence,
): Promise<ModelDefinition> {
  const { student } = await analyticStart(teacher, kept, fitted, { ...analyticDefaultsFor(widths), ...widths });
  return student;
}
