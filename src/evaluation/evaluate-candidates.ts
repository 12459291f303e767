// Judging the models of a run and measuring their size and speed: the rows of its result table.
import type { DataSet } from "../data/dataset.ts";
import type { ImageSource, Skipped } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { splitHeldOut } from "../data/sampling.ts";
import { bootstrapInterval } from "./confidence.ts";
import type { ImageEvaluation, ModelEvaluation, ModelsOptions } from "./evaluate-models.ts";
import { evaluateModels } from "./evaluate-models.ts";
import type { Latency } from "./latency.ts";
import { measureLatencies } from "./latency.ts";
import { badOption } from "../utils/parse-options.ts";
import { mean } from "./metrics.ts";
import type { Model } from "../models/model.ts";
import type { Comparison } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { tooFewText } from "../report/results.ts";
import { drawStream } from "../utils/random.ts";
import type { RunContext, SkippedImages } from "../context/run-context.ts";
import type { PredictionLine } from "../workspace/run-folder.ts";

export interface Candidate {
  readonly name: string;
  readonly model: Model;
  /** Bytes of its weights on disk. */
  readonly bytes?: number;
}

/** The images that a run trains and judges with. */
export interface Parts {
  readonly train: readonly Item[];
  readonly bank: readonly Item[];
  readonly queries: readonly Item[];
}

/** Throws an OptionError where a share would hold out all images of the largest class, so that none are left to learn from. */
export function checkHeldOut(data: DataSet, heldOut: number): void {
  if (data.test) return;
  const sizes = new Map<number | undefined, number>();
  for (const { label } of data.train.items) sizes.set(label, (sizes.get(label) ?? 0) + 1);
  const largest = Math.max(0, ...sizes.values());
  if (largest > 1 && Math.round(heldOut * largest) >= largest)
    throw badOption(
      "heldOut",
      `so small that images are left to learn from (the largest ${sizes.size > 1 ? "class has" : "folder has"} ${largest}): at most ${((largest - 1) / largest).toPrecision(2)}`,
      heldOut,
    );
}

/** Splits a data set; where it brings no part to evaluate on, a share of each class is held out. */
export function splitParts(data: DataSet, heldOut: number, seed: number): Parts {
  if (data.test) return { train: data.train.items, bank: data.train.items, queries: data.test.items };
  checkHeldOut(data, heldOut);
  const { rest, heldOut: queries } = splitHeldOut(data.train.items, heldOut, Number.POSITIVE_INFINITY, seed);
  return { train: rest, bank: rest, queries };
}

/** At most so many items, drawn evenly from the whole list, in its order. */
export function limitItems(items: readonly Item[], most: number, seed: number): readonly Item[] {
  if (items.length <= most) return items;
  const chosen = new Set(drawStream(seed, "limit", most).shuffle(items).slice(0, most));
  return items.filter((item) => chosen.has(item));
}

export interface CandidatesOptions extends Pick<
  ModelsOptions,
  "batch" | "knn" | "probe" | "probeCrops" | "logistic" | "store"
> {
  readonly candidates: readonly Candidate[];
  readonly reference?: Model;
  readonly source: ImageSource;
  readonly parts: Pick<Parts, "bank" | "queries">;
  readonly classes?: readonly string[];
}

/** The rows of a result table, and what became of each image under each model. */
export interface Evaluated {
  readonly rows: ResultRow[];
  readonly images: Readonly<Record<string, readonly ImageEvaluation[]>>;
}

/** Accuracy, fidelity, parameters, size and latency of each candidate. */
export async function evaluateCandidates(
  context: RunContext,
  options: CandidatesOptions,
  skipped: SkippedImages,
): Promise<Evaluated> {
  return rowsOf(context, options, await evaluateModels(evaluationOptionsOf(context, options, skipped.add)));
}

/** What `judge` takes, with progress shown to the run's listener. */
export function evaluationOptionsOf(
  { environment, listener }: RunContext,
  { candidates, reference, source, parts, classes, ...settings }: CandidatesOptions,
  skip: (file: Skipped) => void,
): ModelsOptions {
  let begun = false;
  return {
    ...settings,
    models: Object.fromEntries(candidates.map(({ name, model }) => [name, model])),
    reference,
    kept: environment.referenceOutputs,
    source,
    bank: parts.bank,
    queries: parts.queries,
    classes,
    skip,
    progress(done, total) {
      if (!begun) listener.stage?.("evaluating", total);
      begun = true;
      listener.progress?.(done);
    },
  };
}

/** The rows of a result table: what each model was evaluated to be, with its size and latency. */
export async function rowsOf(
  { environment, listener }: RunContext,
  { candidates }: Pick<CandidatesOptions, "candidates">,
  evaluations: Readonly<Record<string, ModelEvaluation>>,
): Promise<Evaluated> {
  listener.stage?.("measuring latency");
  const times = await measureLatencies(
    candidates.map(({ model }) => model),
    environment.now,
  );
  const rows = candidates.map((candidate, i) => rowOf(candidate, evaluations[candidate.name], times[i]));
  const few = tooFewText(rows);
  if (few !== undefined) listener.warn?.(few);
  return {
    rows,
    images: Object.fromEntries(Object.entries(evaluations).map(([name, { images }]) => [name, images])),
  };
}

function rowOf(
  { name, model, bytes }: Candidate,
  { images, ...figures }: ModelEvaluation,
  { median, quartiles }: Latency,
): ResultRow {
  return {
    name,
    images: images.length,
    ...figures,
    parameters: model.parameters,
    bytes,
    millisecondsPerImage: median,
    millisecondsQuartiles: quartiles,
  };
}

/** One line an image, with classes by name. */
export function predictionLines({ images }: Evaluated, classes: readonly string[] | undefined): PredictionLine[] {
  const models = Object.keys(images);
  const named = (label: number | undefined) => (label === undefined ? undefined : classes?.[label]);
  return images[models[0]].map(({ name, label }, i) => ({
    name,
    class: named(label),
    models: Object.fromEntries(
      models.map((model) => {
        const { predicted, nearest, meanAbsoluteDifference: difference, cosine } = images[model][i];
        const { knn, probe, head } = predicted;
        return [model, { knn: named(knn), probe: named(probe), head: named(head), nearest, difference, cosine }];
      }),
    ),
  }));
}

/** How much better the last model does than each other on the same images, with intervals over these. */
export function compareCandidates({ images }: Evaluated): Comparison[] {
  const names = Object.keys(images);
  const model = names.at(-1) as string;
  return names.slice(0, -1).flatMap((than) =>
    (["knn", "probe", "head"] as const).flatMap((metric): Comparison[] => {
      const right = ({ predicted, label }: ImageEvaluation) =>
        predicted[metric] === undefined ? undefined : Number(predicted[metric] === label);
      const [correct, other] = [images[model].map(right), images[than].map(right)];
      if (correct.length === 0 || [...correct, ...other].some((value) => value === undefined)) return [];
      const differences = correct.map((value, i) => Number(value) - Number(other[i]));
      return [{ metric, model, than, difference: mean(differences), interval: bootstrapInterval(differences) }];
    }),
  );
}
