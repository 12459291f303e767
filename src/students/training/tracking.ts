// Looking at held-out images while training: fidelity and neighbours every so often, the best so far, and warnings
// where the figures say that something is off.
import type { ImageSource } from "../../data/loader.ts";
import { evaluationBatches } from "../../data/loader.ts";
import type { Item } from "../../data/sampling.ts";
import type { Distillation } from "./distillation.ts";
import { absoluteDifferences, comparableTokens, mean, rowCosines, topAccuracy } from "../../evaluation/metrics.ts";
import { knnVotes } from "../../evaluation/knn.ts";
import type { Model } from "../../models/model.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { concatRows } from "../../utils/tensor.ts";

/** What a look at the held-out images found. */
export interface Evaluation {
  readonly step: number;
  /** Mean absolute difference to the teacher's last block output, and cosine of the pooled vectors. */
  readonly meanAbsoluteDifference: number;
  readonly cosine: number;
  /** Share of held-out images that the weighted neighbours among the bank get right, where there are labels. */
  readonly knn?: number;
}

interface TrackedEvaluation {
  readonly images: readonly string[];
  readonly pixels: FloatTensor;
  readonly blockOutput: FloatTensor;
  readonly pooled: FloatTensor;
}

export interface TrackerOptions {
  readonly teacher: Model;
  readonly source: ImageSource;
  readonly queries: readonly Item[];
  /** Labelled images for the neighbours; none where there are no labels. */
  readonly bank: readonly Item[];
  readonly classes: number;
}

/** Images at once; what the teacher gives for all of them is kept. */
const batch = 16;

/**
 * Measures a student in training on a few held-out images; the teacher sees each of them once. Between looks no session stays
 * open for them: each has a copy of its weights.
 */
export class Tracker {
  private readonly options: TrackerOptions;
  private evaluations: TrackedEvaluation[] | undefined;
  private bankPixels: FloatTensor[] | undefined;
  private labels: { queries: number[]; bank: number[] } = { queries: [], bank: [] };

  constructor(options: TrackerOptions) {
    this.options = options;
  }

  private async prepare(): Promise<TrackedEvaluation[]> {
    if (this.evaluations) return this.evaluations;
    const { teacher, source, queries, bank } = this.options;
    const evaluations: TrackedEvaluation[] = [];
    const skip = () => undefined;
    for await (const { items, pixels } of evaluationBatches(source, queries, batch, teacher.preprocessing, skip)) {
      const images = items.map(({ name }) => name);
      const { blockOutput, pooled } = await teacher.outputs(pixels, ["blockOutput", "pooled"], { images });
      evaluations.push({ images, pixels, blockOutput, pooled });
      this.labels.queries.push(...items.map(({ label }) => label ?? -1));
    }
    this.bankPixels = [];
    for await (const { items, pixels } of evaluationBatches(source, bank, batch, teacher.preprocessing, skip)) {
      this.bankPixels.push(pixels);
      this.labels.bank.push(...items.map(({ label }) => label ?? -1));
    }
    this.evaluations = evaluations;
    await teacher.dispose();
    return evaluations;
  }

  /** Undefined where no held-out image can be read. */
  async evaluate(distillation: Distillation, step: number): Promise<Evaluation | undefined> {
    const evaluations = await this.prepare();
    const { teacher, classes } = this.options;
    const differences: number[] = [];
    const cosines: number[] = [];
    const pooledRows: FloatTensor[] = [];
    for (const { images, pixels, blockOutput, pooled } of evaluations) {
      const student = await distillation.features(pixels, images);
      const [studentTokens, theirs] = comparableTokens(
        { tokens: student.blockOutput, config: distillation.weightCopy.config },
        { tokens: blockOutput, config: teacher.config },
      );
      differences.push(...absoluteDifferences(studentTokens, theirs));
      cosines.push(...rowCosines(student.pooled, pooled));
      pooledRows.push(student.pooled);
    }
    const bankPooled: FloatTensor[] = [];
    for (const pixels of this.bankPixels ?? []) bankPooled.push((await distillation.features(pixels)).pooled);
    await distillation.closeFeatureSession();
    if (differences.length === 0) return undefined;
    const knn =
      bankPooled.length > 0 && this.labels.queries.every((label) => label >= 0)
        ? topAccuracy(
            await knnVotes(
              teacher.device,
              concatRows(bankPooled),
              { kind: "class", count: classes, labels: this.labels.bank },
              concatRows(pooledRows),
            ),
            this.labels.queries,
            1,
          )
        : undefined;
    return {
      step,
      meanAbsoluteDifference: mean(differences),
      cosine: mean(cosines),
      ...(knn === undefined ? {} : { knn }),
    };
  }
}

/** The best evaluation by fidelity; of equals the first. */
export function bestEvaluation(evaluations: readonly Evaluation[]): Evaluation | undefined {
  return evaluations.reduce<Evaluation | undefined>(
    (best, e) => (best === undefined || e.meanAbsoluteDifference < best.meanAbsoluteDifference ? e : best),
    undefined,
  );
}

/** Whether the last `patience` evaluations brought nothing better than the one before them. */
export function isSpent(evaluations: readonly Evaluation[], patience: number): boolean {
  const best = bestEvaluation(evaluations);
  return best !== undefined && evaluations.length - 1 - evaluations.indexOf(best) >= patience;
}

/** A loss this much above that of the beginning is no noise. */
const risen = 1.1;
/** A held-out difference this much above the best is no noise. */
const worse = 1.02;
const fewestSteps = 12;

/** What the losses and evaluations so far warn of, with what to change; each kind is told once. */
export function warningsOf(
  losses: readonly number[],
  evaluations: readonly Evaluation[],
): { kind: string; message: string }[] {
  const warnings: { kind: string; message: string }[] = [];
  const part = Math.max(3, Math.floor(losses.length / 5));
  if (losses.length >= fewestSteps) {
    const [first, last] = [mean(losses.slice(0, part)), mean(losses.slice(-part))];
    if (last > risen * first) {
      warnings.push({
        kind: "rising loss",
        message: `the loss has risen from ${first.toFixed(4)} to ${last.toFixed(4)}: lower --base-learning-rate, or lengthen --warmup-epochs`,
      });
    }
    const best = bestEvaluation(evaluations);
    const now = evaluations.at(-1);
    if (
      best &&
      now &&
      best !== now &&
      now.meanAbsoluteDifference > worse * best.meanAbsoluteDifference &&
      last < first
    ) {
      warnings.push({
        kind: "overfitting",
        message:
          `the training loss falls, but held-out features were nearer at step ${best.step} (${best.meanAbsoluteDifference.toFixed(3)}) ` +
          `than now (${now.meanAbsoluteDifference.toFixed(3)}): use more images, a lower --rank, fewer --epochs, or --early-stop 2`,
      });
    }
  }
  return warnings;
}
