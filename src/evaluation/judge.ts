// Judging models side by side on the same pictures: neighbours, probe, own head, and fidelity to a reference model.

import type { PictureSource, Skipped } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { Model, OutputName } from "../model.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows } from "../utils/tensor.ts";
import type { Interval } from "./confidence.ts";
import { bootstrapInterval } from "./confidence.ts";
import { absoluteDifferences, comparableTokens, mean, predictions, rowCosines, topAccuracy } from "./metrics.ts";
import type { NeighbourOptions } from "./neighbours.ts";
import { nearestNeighbours, neighbourDefaults, votesOf } from "./neighbours.ts";
import type { ProbeOptions } from "./probe.ts";
import { probeDefaults, probeLogits, trainProbe } from "./probe.ts";

/** Shares from 0 to 1. */
export interface Accuracy {
  readonly top1: number;
  readonly top5: number;
  /** The 95 % interval of top-1 over the pictures judged on. */
  readonly interval?: Interval;
}

/** How near a model's features are to the reference's on the same pictures. */
export interface Fidelity {
  /** Of the last blocks' outputs over all tokens, before the final norm. */
  readonly meanAbsoluteDifference: number;
  /** Mean cosine of the class tokens after the final norm. */
  readonly cosine: number;
}

export interface Judgement {
  readonly neighbours?: Accuracy;
  readonly probe?: Accuracy;
  /** The model's own classification head, where its labels are the data set's classes. */
  readonly head?: Accuracy;
  readonly fidelity?: Fidelity;
  /** What became of each picture that was judged on, in order. */
  readonly pictures: readonly JudgedPicture[];
}

/** What one model makes of one picture; classes are the data set's, counted from 0. */
export interface JudgedPicture {
  readonly name: string;
  readonly label?: number;
  readonly predicted: { readonly neighbours?: number; readonly probe?: number; readonly head?: number };
  /** Names of the most similar pictures of the bank, the nearest first. */
  readonly nearest?: readonly string[];
  /** Mean absolute difference of the last block's output to the reference's, and cosine of the pooled vectors. */
  readonly difference?: number;
  readonly cosine?: number;
}

export interface JudgeOptions {
  readonly models: Readonly<Record<string, Model>>;
  /** The model that fidelity is measured against; it must see pictures as the others do. */
  readonly reference?: Model;
  /** Where the reference's outputs are kept for the next time, if there is one. */
  readonly kept?: ReferenceOutputs;
  readonly source: PictureSource;
  /** Labelled pictures that neighbours and probe learn from. */
  readonly bank: readonly Item[];
  readonly queries: readonly Item[];
  readonly classes?: readonly string[];
  readonly batch?: number;
  readonly neighbours?: NeighbourOptions;
  readonly probe?: ProbeOptions;
  /** Pictures through one model, out of all. */
  readonly progress?: (done: number, total: number) => void;
  readonly skip?: (skipped: Skipped) => void;
}

/** Pictures that run through a model at once. */
export const evaluationBatch = 32;

interface Collected {
  readonly items: Item[];
  readonly tokens: FloatTensor[];
  readonly logits: FloatTensor[];
  readonly differences: number[];
  readonly cosines: number[];
}

/** What references gave for pictures that are asked for again: a comparison judges many students beside one teacher. */
export class ReferenceOutputs {
  private readonly known = new WeakMap<Model, Map<string, Record<string, FloatTensor>>>();
  private numbers = 0;

  /** What `run` gives, kept under `key` as long as there is room. */
  async of(
    model: Model,
    key: string,
    run: () => Promise<Record<string, FloatTensor>>,
  ): Promise<Record<string, FloatTensor>> {
    const own = this.known.get(model) ?? new Map<string, Record<string, FloatTensor>>();
    this.known.set(model, own);
    const found = own.get(key);
    if (found) return found;
    const outputs = await run();
    const size = Object.values(outputs).reduce((sum, { data }) => sum + data.length, 0);
    if (this.numbers + size <= keptNumbers) {
      own.set(key, outputs);
      this.numbers += size;
    }
    return outputs;
  }
}

/** 1 GiB of float32. */
const keptNumbers = 2 ** 28;

/** Runs all models over the pictures, each picture decoded once. */
async function collect(
  options: JudgeOptions,
  items: readonly Item[],
  asQueries: boolean,
  tick: (count: number) => void,
): Promise<Map<string, Collected>> {
  const { models, source, kept, batch = evaluationBatch, skip = () => undefined } = options;
  const reference = asQueries ? options.reference : undefined;
  const collected = new Map(
    Object.keys(models).map((name): [string, Collected] => [
      name,
      { items: [], tokens: [], logits: [], differences: [], cosines: [] },
    ]),
  );
  const { preprocessing } = Object.values(models)[0];
  for await (const { items: read, pixels } of evaluationBatches(source, items, batch, preprocessing, skip)) {
    const runs = new Map<Model, Record<string, FloatTensor>>();
    for (const model of new Set([...(reference ? [reference] : []), ...Object.values(models)])) {
      const names: OutputName[] = ["pooled"];
      if (asQueries && model.config.head) names.push("logits");
      if (reference) names.push("blockOutput");
      const run = () => model.outputs(pixels, names);
      const key = `${names.join()}:${source.id}:${read.map(({ name }) => name).join()}`;
      runs.set(model, model === reference && kept ? await kept.of(model, key, run) : await run());
      tick(read.length);
    }
    const wanted = reference && runs.get(reference);
    for (const [name, model] of Object.entries(models)) {
      const outputs = runs.get(model) as Record<string, FloatTensor>;
      const into = collected.get(name) as Collected;
      into.items.push(...read);
      into.tokens.push(outputs.pooled);
      if (outputs.logits) into.logits.push(outputs.logits);
      if (wanted && reference) {
        const [own, theirs] = comparableTokens(
          { tokens: outputs.blockOutput, config: model.config },
          { tokens: wanted.blockOutput, config: reference.config },
        );
        into.differences.push(...absoluteDifferences(own, theirs));
        into.cosines.push(...rowCosines(outputs.pooled, wanted.pooled));
      }
    }
  }
  return collected;
}

const accuracy = (scores: FloatTensor, labels: readonly number[]): Accuracy => ({
  top1: topAccuracy(scores, labels, 1),
  top5: topAccuracy(scores, labels, 5),
  interval: bootstrapInterval(predictions(scores).map((predicted, i) => Number(predicted === labels[i]))),
});

/** The columns of the head's logits that belong to the data set's classes; undefined where the names don't match. */
function headColumns(model: Model, classes: readonly string[]): number[] | undefined {
  const labels = model.config.head?.labels;
  const columns = labels && classes.map((name) => labels.indexOf(name));
  return columns?.every((c) => c >= 0) ? columns : undefined;
}

function pickColumns(logits: FloatTensor, columns: readonly number[]): FloatTensor {
  const [count, width] = logits.dims;
  const data = new Float32Array(count * columns.length);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < columns.length; c++) data[i * columns.length + c] = logits.data[i * width + columns[c]];
  return { type: "float32", dims: [count, columns.length], data };
}

/** Labels of items that all have one. */
function labelsOf(items: readonly Item[]): number[] | undefined {
  const labels = items.map(({ label }) => label);
  return labels.every((label) => label !== undefined) ? labels : undefined;
}

/**
 * Judges every model. Neighbours and probe need a labelled bank and labelled queries, fidelity a reference. Throws a
 * UserError where models see pictures through different transforms, or no picture can be read.
 */
export async function judge(options: JudgeOptions): Promise<Record<string, Judgement>> {
  const { models, reference, bank, queries, classes } = options;
  const seen = new Set(
    [...Object.values(models), ...(reference ? [reference] : [])].map((m) => JSON.stringify(m.preprocessing)),
  );
  if (seen.size > 1) {
    throw new UserError(
      "the models see pictures through different transforms (preprocessor_config.json), so they can't be compared",
    );
  }
  const withLabels = classes !== undefined && bank.length > 1 && labelsOf(bank) !== undefined;
  const runs = new Set([...Object.values(models), ...(reference ? [reference] : [])]).size;
  const total = queries.length * runs + (withLabels ? bank.length * Object.keys(models).length : 0);
  let done = 0;
  const tick = (count: number) => {
    done += count;
    options.progress?.(done, total);
  };

  const asked = await collect(options, queries, true, tick);
  const known = withLabels ? await collect(options, bank, false, tick) : undefined;
  const judgements: Record<string, Judgement> = {};
  for (const [name, model] of Object.entries(models)) {
    const found = asked.get(name) as Collected;
    if (found.items.length === 0) throw new UserError("none of the pictures to judge on can be read");
    const scores = classes ? await scoresOf(options, model, classes, found, known?.get(name)) : {};
    const labels = labelsOf(found.items);
    const shares = Object.entries(scores).flatMap(([kind, { values }]) =>
      labels ? [[kind, accuracy(values, labels)]] : [],
    );
    judgements[name] = {
      ...(reference
        ? { fidelity: { meanAbsoluteDifference: mean(found.differences), cosine: mean(found.cosines) } }
        : {}),
      ...(Object.fromEntries(shares) as Partial<Record<ScoreName, Accuracy>>),
      pictures: found.items.map(({ name: picture, label }, i) => ({
        name: picture,
        label,
        predicted: Object.fromEntries(Object.entries(scores).map(([kind, { predicted }]) => [kind, predicted[i]])),
        nearest: scores.neighbours?.nearest?.[i],
        difference: found.differences[i],
        cosine: found.cosines[i],
      })),
    };
  }
  return judgements;
}

type ScoreName = "neighbours" | "probe" | "head";

/** Scores `[n, classes]` of the pictures judged on, and the class that each is taken for. */
interface Scores {
  readonly values: FloatTensor;
  readonly predicted: readonly number[];
  /** Names of neighbours in the bank. */
  readonly nearest?: readonly (readonly string[])[];
}

/** Neighbours whose names are kept for a look at them. */
const shownNeighbours = 5;

async function scoresOf(
  options: JudgeOptions,
  model: Model,
  classes: readonly string[],
  queries: Collected,
  bank: Collected | undefined,
): Promise<Partial<Record<ScoreName, Scores>>> {
  if (!labelsOf(queries.items)) return {};
  const scored = (values: FloatTensor): Scores => ({ values, predicted: predictions(values) });
  const columns = headColumns(model, classes);
  const head =
    columns && queries.logits.length > 0 ? { head: scored(pickColumns(concatRows(queries.logits), columns)) } : {};
  const bankLabels = bank && labelsOf(bank.items);
  if (!bank || !bankLabels || bank.items.length < 2) return head;
  const { device } = model;
  const [bankTokens, queryTokens] = [concatRows(bank.tokens), concatRows(queries.tokens)];
  const { neighbours = neighbourDefaults, probe = probeDefaults } = options;
  const found = await nearestNeighbours(device, bankTokens, queryTokens, neighbours.k);
  const { weights } = await trainProbe(device, bankTokens, bankLabels, classes.length, probe);
  const nearest = found.map((list) => list.slice(0, shownNeighbours).map(({ index }) => bank.items[index].name));
  return {
    ...head,
    neighbours: { ...scored(votesOf(found, bankLabels, classes.length, neighbours.temperature)), nearest },
    probe: scored(await probeLogits(device, weights, queryTokens)),
  };
}
