// Judging the models of a run and measuring their size and speed: the rows of its result table.
import type { DataSet } from "../data/dataset.ts";
import type { PictureSource } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { splitHeldOut } from "../data/sampling.ts";
import type { JudgeOptions } from "../evaluation/judge.ts";
import { judge } from "../evaluation/judge.ts";
import { measureLatency } from "../evaluation/latency.ts";
import type { Model } from "../model.ts";
import type { ResultRow } from "../report/results.ts";
import { randomStream } from "../utils/random.ts";
import type { Environment, Listener, SkippedPictures } from "./environment.ts";

export interface Candidate {
  readonly name: string;
  readonly model: Model;
  /** Bytes of its weights on disk. */
  readonly bytes?: number;
}

/** The pictures that a run trains and judges with. */
export interface Parts {
  readonly train: readonly Item[];
  readonly bank: readonly Item[];
  readonly queries: readonly Item[];
}

/** Splits a data set; where it brings no part to judge on, a share of each class is held out. */
export function splitParts(data: DataSet, heldOut: number, seed: number): Parts {
  if (data.test) return { train: data.train.items, bank: data.train.items, queries: data.test.items };
  const { rest, heldOut: queries } = splitHeldOut(data.train.items, heldOut, Number.POSITIVE_INFINITY, seed);
  return { train: rest, bank: rest, queries };
}

/** At most so many items, drawn evenly from the whole list, in its order. */
export function limitItems(items: readonly Item[], most: number, seed: number): readonly Item[] {
  if (items.length <= most) return items;
  const chosen = new Set(randomStream(seed, "limit", most).shuffle(items).slice(0, most));
  return items.filter((item) => chosen.has(item));
}

export interface JudgingOptions extends Pick<JudgeOptions, "batch" | "neighbours" | "probe"> {
  readonly candidates: readonly Candidate[];
  readonly reference?: Model;
  readonly source: PictureSource;
  readonly parts: Pick<Parts, "bank" | "queries">;
  readonly classes?: readonly string[];
}

/** Accuracy, fidelity, parameters, size and latency of each candidate. */
export async function judgeCandidates(
  environment: Environment,
  options: JudgingOptions,
  skipped: SkippedPictures,
  listener: Listener,
): Promise<ResultRow[]> {
  const { candidates, reference, source, parts, classes, ...settings } = options;
  let begun = false;
  const judgements = await judge({
    ...settings,
    models: Object.fromEntries(candidates.map(({ name, model }) => [name, model])),
    reference,
    kept: environment.referenceOutputs,
    source,
    bank: parts.bank,
    queries: parts.queries,
    classes,
    skip: skipped.add,
    progress(done, total) {
      if (!begun) listener.stage?.("judging", total);
      begun = true;
      listener.progress?.(done);
    },
  });
  listener.stage?.("measuring latency");
  const times = await measureLatency(
    candidates.map(({ model }) => model),
    environment.now,
  );
  return candidates.map(({ name, model, bytes }, i) => ({
    name,
    ...judgements[name],
    parameters: model.parameters,
    bytes,
    millisecondsAPicture: times[i],
  }));
}
