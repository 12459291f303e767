// Evaluation of models side by side on the same images: k-NN, probe, classifier, and fidelity to a reference model.
import type { Item } from "../data/sampling.ts";
import { modelName } from "../models/finite-outputs.ts";
import type { Model } from "../models/model.ts";
import { UserError } from "../utils/errors.ts";
import { requireFinite } from "../utils/finite.ts";
import type { Augmentation } from "../data/transforms.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, rows } from "../utils/tensor.ts";
import type { Collected, CollectOptions } from "./model-outputs.ts";
import { collect, collectAugmented, collectVectors } from "./model-outputs.ts";
import type { Interval } from "./confidence.ts";
import { bootstrapInterval, shareInterval } from "./confidence.ts";
import type { FeatureStore } from "./feature-store.ts";
import type { LogisticOptions } from "./logistic.ts";
import { fitLogistic } from "./logistic.ts";
import type { Aurocs } from "./metrics.ts";
import { aurocs, mean, predictions, topAccuracy } from "./metrics.ts";
import type { KnnOptions } from "./knn.ts";
import { nearestNeighbours, knnDefaults, votesOf } from "./knn.ts";
import type { ProbeOptions, ProbeWeights } from "./probe.ts";
import { probeDefaults, probeLogits, trainProbe } from "./probe.ts";
import type { Targets } from "./targets.ts";
import type { Device } from "../runtime/device.ts";
import { required } from "../utils/required.ts";

/** Shares from 0 to 1. */
export interface Accuracy {
  readonly top1: number;
  readonly top5: number;
  /** The 95 % interval of top-1 over the images evaluated on, and that of top-5. */
  readonly interval?: Interval;
  readonly top5Interval?: Interval;
}

/** How near a model's features are to the reference's on the same images. */
export interface Fidelity {
  /** Of the last blocks' outputs over all tokens, before the final norm. */
  readonly meanAbsoluteDifference: number;
  /** Mean cosine of the class tokens after the final norm. */
  readonly cosine: number;
  /** The share of images on which its head answers as the reference's does, where both have one of the same classes. */
  readonly agreement?: number;
  /** 95 % intervals over the images; none for the reference itself, which is like itself for certain. */
  readonly intervals?: Partial<Readonly<Record<"meanAbsoluteDifference" | "cosine" | "agreement", Interval>>>;
}

/** What classes are read from: votes of neighbours, trained maps over features, the model's own classification head. */
export type ScoreName = "knn" | "probe" | "logistic" | "head";

export interface ModelEvaluation extends Partial<Readonly<Record<ScoreName, Accuracy>>> {
  /** Areas under ROC curves instead of accuracies, where several labels may apply to an image. */
  readonly auroc?: Partial<Readonly<Record<ScoreName, Aurocs>>>;
  /** The probe's rate, where it was chosen among several. */
  readonly probeLearningRate?: number;
  /** The probe after the epoch that is best on the very images it is evaluated on, as the paper's authors print it. */
  readonly probeBest?: BestEpoch;
  readonly fidelity?: Fidelity;
  /** What became of each image that was evaluated on, in order. */
  readonly images: readonly ImageEvaluation[];
}

/** The best epoch by the evaluation images themselves: an optimistic figure. */
export interface BestEpoch {
  /** Counted from 1. */
  readonly epoch: number;
  /** Top-1 accuracy, or the mean area under the ROC curves where several labels may apply. */
  readonly top1?: number;
  readonly auroc?: number;
}

/** What one model makes of one image; classes are the data set's, counted from 0, and `noClass` where scores tie. */
export interface ImageEvaluation {
  readonly name: string;
  readonly label?: number;
  readonly labels?: readonly number[];
  readonly predicted: Partial<Readonly<Record<ScoreName, number>>>;
  /** Names of the most similar images of the bank, the nearest first. */
  readonly nearest?: readonly string[];
  /** Mean absolute difference of the last block's output to the reference's, and cosine of the pooled vectors. */
  readonly meanAbsoluteDifference?: number;
  readonly cosine?: number;
}

export interface ModelsOptions extends CollectOptions {
  /** Labelled images that k-NN and probe learn from. */
  readonly bank: readonly Item[];
  readonly queries: readonly Item[];
  readonly classes?: readonly string[];
  readonly knn?: KnnOptions;
  readonly probe?: ProbeOptions;
  /** How the images that the probe trains on are seen, where that is not as the models' own preprocessing says. */
  readonly probeCrops?: { readonly trainStd?: Preprocessing["std"]; readonly augmentation?: Augmentation };
  /** Also fit a logistic regression. */
  readonly logistic?: LogisticOptions;
  /** Where features are kept from one time to the next. */
  readonly store?: FeatureStore;
  /** Images through one model, out of all. */
  readonly progress?: (done: number, total: number) => void;
}

const accuracy = (scores: FloatTensor, labels: readonly number[]): Accuracy => ({
  top1: topAccuracy(scores, labels, 1),
  top5: topAccuracy(scores, labels, 5),
  top5Interval: shareInterval(labels.map((label, i) => topAccuracy(rows(scores, i, i + 1), [label], 5))),
  interval: shareInterval(predictions(scores).map((predicted, i) => Number(predicted === labels[i]))),
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

/** What all of the items are to be taken for; undefined where some of them have no class or labels. */
function targetsOf(items: readonly Item[], classes: readonly string[] | undefined): Targets | undefined {
  if (!classes || items.length === 0) return undefined;
  const single = items.map(({ label }) => label);
  if (single.every((label) => label !== undefined)) return { kind: "class", count: classes.length, labels: single };
  const several = items.map(({ labels }) => labels);
  return several.every((labels) => labels !== undefined)
    ? { kind: "labels", count: classes.length, labels: several }
    : undefined;
}

/**
 * Judges every model. Neighbours and probe need a labelled bank and labelled queries, fidelity a reference. Throws a
 * UserError where models see images through different transforms, or no image can be read.
 */
export async function evaluateModels(options: ModelsOptions): Promise<Record<string, ModelEvaluation>> {
  const tick = evaluationTicker(options);
  const queries = await collectQueries(options, options.queries, tick);
  const bank = learnsFromBank(options) ? await collectBank(options, options.bank, tick) : undefined;
  return evaluateCollected(options, { queries, bank }, tick);
}

/** What models gave for images to evaluate on, and for those to learn from where there are some. */
export interface CollectedParts {
  readonly queries: ReadonlyMap<string, Collected>;
  readonly bank: ReadonlyMap<string, Collected> | undefined;
}

/** Whether there are labelled images to learn from. */
export const learnsFromBank = ({ bank, classes }: Pick<ModelsOptions, "bank" | "classes">): boolean =>
  bank.length > 1 && targetsOf(bank, classes) !== undefined;

/** Runs all models over images to evaluate on, or over some of these. Throws a UserError where their transforms differ. */
export function collectQueries(
  options: Omit<ModelsOptions, "bank" | "queries">,
  items: readonly Item[],
  tick: (count: number) => void,
): Promise<Map<string, Collected>> {
  const { models, reference, store } = options;
  checkSameTransforms(options);
  // Fidelity needs all tokens, and heads their logits; vectors alone can come from the store.
  const vectorsDo = store && !reference && !Object.values(models).some(({ config }) => config.head);
  return vectorsDo ? collectVectors(options, store, items, tick) : collect(options, items, true, tick);
}

/** Options with the images of the bank seen as the probe's are. */
function learningOptions<T extends Pick<ModelsOptions, "models" | "probeCrops" | "preprocessing">>(options: T): T {
  const { models, probeCrops } = options;
  const { preprocessing } = Object.values(models)[0];
  return probeCrops?.trainStd ? { ...options, preprocessing: { ...preprocessing, std: probeCrops.trainStd } } : options;
}

/** Runs all models over images to learn from, or over some of these. */
export function collectBank(
  options: Omit<ModelsOptions, "bank" | "queries">,
  items: readonly Item[],
  tick: (count: number) => void,
): Promise<Map<string, Collected>> {
  const { store } = options;
  const trained = learningOptions(options);
  return store ? collectVectors(trained, store, items, tick) : collect(trained, items, false, tick);
}

/** Judges models by what they gave. Throws a UserError where no image to evaluate on could be read. */
export async function evaluateCollected(
  options: ModelsOptions,
  { queries: asked, bank: bank }: CollectedParts,
  tick: (count: number) => void,
): Promise<Record<string, ModelEvaluation>> {
  const { models, reference, classes } = options;
  const trained = learningOptions(options);
  const evaluations: Record<string, ModelEvaluation> = {};
  for (const [name, model] of Object.entries(models)) {
    const outputs = required(asked, name);
    if (outputs.items.length === 0)
      throw new UserError("None of the evaluation images can be read", { code: "NO_IMAGES" });
    const targets = targetsOf(outputs.items, classes);
    const learning = { bank: bank?.get(name), tick };
    const scores = classes && targets ? await scoresOf(trained, name, model, classes, outputs, learning) : {};
    evaluations[name] = {
      ...(reference ? { fidelity: fidelityOf(outputs, model !== reference) } : {}),
      ...modelEvaluationOf(outputs, scores, targets),
    };
  }
  return evaluations;
}

function checkSameTransforms({ models, reference }: Pick<ModelsOptions, "models" | "reference">): void {
  const all = [...Object.values(models), ...(reference ? [reference] : [])];
  const transforms = new Set(all.map(({ preprocessing }) => JSON.stringify(preprocessing)));
  if (transforms.size > 1) {
    throw new UserError(
      "The models preprocess images differently (preprocessor_config.json), so they can't be compared",
    );
  }
}

/** Reports progress over all passes of all models. */
export function evaluationTicker(options: ModelsOptions): (count: number) => void {
  const { models, reference, bank, queries, probeCrops, probe = probeDefaults } = options;
  const withLabels = learnsFromBank(options);
  const runs = new Set([...Object.values(models), ...(reference ? [reference] : [])]).size;
  const passes = 1 + (probeCrops?.augmentation ? probe.epochs : 0);
  const learned = withLabels ? bank.length * Object.keys(models).length * passes : 0;
  const total = queries.length * runs + learned;
  let done = 0;
  return (count) => {
    done += count;
    options.progress?.(done, total);
  };
}

/** Figures of one model, and what it makes of each image. */
function modelEvaluationOf(
  { items, differences, cosines }: Collected,
  scores: ScoresByName,
  targets: Targets | undefined,
): ModelEvaluation {
  const { probe, knn } = scores;
  return {
    ...(targets ? figuresOf(scores, targets) : {}),
    ...(probe?.learningRate === undefined ? {} : { probeLearningRate: probe.learningRate }),
    ...(probe?.best === undefined ? {} : { probeBest: probe.best }),
    images: items.map(({ name, label, labels }, i) => ({
      name,
      label,
      labels,
      predicted: targets?.kind === "class" ? predictedOf(scores, i) : {},
      nearest: knn?.nearest?.[i],
      meanAbsoluteDifference: differences[i],
      cosine: cosines[i],
    })),
  };
}

function fidelityOf({ differences, cosines, agreements }: Collected, withIntervals: boolean): Fidelity {
  const agreed = agreements.map(Number);
  const intervals = {
    meanAbsoluteDifference: bootstrapInterval(differences),
    cosine: bootstrapInterval(cosines),
    agreement: agreed.length > 0 ? shareInterval(agreed) : undefined,
  };
  return {
    meanAbsoluteDifference: mean(differences),
    cosine: mean(cosines),
    ...(agreed.length > 0 ? { agreement: mean(agreed) } : {}),
    ...(withIntervals ? { intervals } : {}),
  };
}

/** Scores `[n, classes]` of the images evaluated on, and the class that each is taken for. */
interface Scores {
  readonly values: FloatTensor;
  readonly predicted: readonly number[];
  /** Names of neighbours in the bank. */
  readonly nearest?: readonly (readonly string[])[];
  readonly learningRate?: number;
  readonly best?: BestEpoch;
}
type ScoresByName = Partial<Record<ScoreName, Scores>>;

const predictedOf = (scores: ScoresByName, image: number) =>
  Object.fromEntries(Object.entries(scores).map(([kind, { predicted }]) => [kind, predicted[image]]));

/** Resamples that intervals of areas are taken from: as many as so many comparisons allow. */
const resamplesOf = (images: number, labels: number) =>
  Math.round(Math.max(50, Math.min(1000, 2e8 / (images * labels))));

function figuresOf(scores: ScoresByName, targets: Targets): Omit<ModelEvaluation, "images"> {
  const entries = Object.entries(scores) as [ScoreName, Scores][];
  if (targets.kind === "class")
    return Object.fromEntries(entries.map(([kind, { values }]) => [kind, accuracy(values, targets.labels)]));
  const areas = entries.map(([kind, { values }]): [ScoreName, Aurocs] => [
    kind,
    aurocs(values, targets, resamplesOf(targets.labels.length, targets.count)),
  ]);
  return areas.length > 0 ? { auroc: Object.fromEntries(areas) } : {};
}

const scoreOf = ({ top1, auroc }: Pick<BestEpoch, "top1" | "auroc">) => top1 ?? auroc ?? Number.NEGATIVE_INFINITY;

function epochFigure(logits: FloatTensor, targets: Targets | undefined): Pick<BestEpoch, "top1" | "auroc"> {
  if (!targets) return {};
  return targets.kind === "class"
    ? { top1: topAccuracy(logits, targets.labels, 1) }
    : { auroc: aurocs(logits, targets).mean };
}

/** Neighbours whose names are kept for a look at them. */
const shownNeighbours = 5;

/** What scores are learned from: a model's outputs on the bank, where there is one. */
interface Learning {
  readonly bank: Collected | undefined;
  readonly tick: (count: number) => void;
}

/** Scores that are finite. Throws a RunError that names the model where they are not. */
function scored(values: FloatTensor, what: string, model: string): Scores {
  requireFinite(values.data, `${what} of the model ${model}`);
  return { values, predicted: predictions(values) };
}

async function scoresOf(
  options: ModelsOptions,
  name: string,
  model: Model,
  classes: readonly string[],
  queries: Collected,
  { bank, tick }: Learning,
): Promise<ScoresByName> {
  const shownName = modelName(model.origin, name);
  const columns = headColumns(model, classes);
  const head =
    columns && queries.logits.length > 0
      ? { head: scored(pickColumns(concatRows(queries.logits), columns), "Logits", shownName) }
      : {};
  const bankTargets = bank && targetsOf(bank.items, classes);
  if (!bank || !bankTargets || bank.items.length < 2) return head;
  const { device } = model;
  const tokens = { bank: concatRows(bank.tokens), queries: concatRows(queries.tokens) };
  const { knn: wanted = knnDefaults, logistic } = options;
  const lists = await nearestNeighbours(device, tokens.bank, tokens.queries, wanted.k);
  const votes = votesOf(lists, bankTargets, wanted.temperature);
  const nearest = lists.map((list) => list.slice(0, shownNeighbours).map(({ index }) => bank.items[index].name));
  const augmented = (crop: ProbeCrop) => collectAugmented(model, options, bank.items, crop, tick);
  const probed = await probeScores(options, device, tokens, bankTargets, targetsOf(queries.items, classes), augmented);
  const scores: ScoresByName = {
    ...head,
    knn: { ...scored(votes, "Votes of the k-NN classifier", shownName), nearest },
    probe: {
      ...scored(probed.logits, "Logits of the linear probe (lower --probe-learning-rate)", shownName),
      learningRate: probed.learningRate,
      best: probed.best,
    },
  };
  if (!logistic) return scores;
  const { weights } = await fitLogistic(device, tokens.bank, bankTargets, logistic);
  const logits = await probeLogits(device, weights, tokens.queries);
  return { ...scores, logistic: scored(logits, "Logits of the logistic regression", shownName) };
}

type ProbeCrop = Parameters<typeof collectAugmented>[3];

/** Trains a linear probe; where it is asked for, also finds the epoch that is best on the queries. */
async function probeScores(
  { probe = probeDefaults, probeCrops }: ModelsOptions,
  device: Device,
  tokens: { readonly bank: FloatTensor; readonly queries: FloatTensor },
  bankTargets: Targets,
  wanted: Targets | undefined,
  augmented: (crop: ProbeCrop) => Promise<FloatTensor>,
): Promise<{ logits: FloatTensor; learningRate: number | undefined; best: BestEpoch | undefined }> {
  const augmentation = probeCrops?.augmentation;
  const features = augmentation ? (epoch: number) => augmented({ augmentation, seed: probe.seed, epoch }) : tokens.bank;
  let best: BestEpoch | undefined;
  const afterEpoch = async (epoch: number, trained: ProbeWeights) => {
    const figure = epochFigure(await probeLogits(device, trained, tokens.queries), wanted);
    if (best === undefined || scoreOf(figure) > scoreOf(best)) best = { epoch: epoch + 1, ...figure };
  };
  const fixed = probe.bestEpoch ? { afterEpoch } : {};
  const { weights, baseLearningRate } = await trainProbe(device, features, bankTargets, probe, fixed);
  const logits = await probeLogits(device, weights, tokens.queries);
  return { logits, learningRate: baseLearningRate, best };
}
