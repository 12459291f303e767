// Looking at held-out pictures while training: fidelity and neighbours every so often, the best so far, and warnings
// where the figures say that something is off.
import type { PictureSource } from "../../data/loader.ts";
import { evaluationBatches } from "../../data/loader.ts";
import type { Item } from "../../data/sampling.ts";
import type { Distillation } from "./distillation.ts";
import { absoluteDifferences, comparableTokens, mean, rowCosines, topAccuracy } from "../../evaluation/metrics.ts";
import { neighbourVotes } from "../../evaluation/knn.ts";
import type { Model } from "../../models/model.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { concatRows } from "../../utils/tensor.ts";

/** What a look at the held-out pictures found. */
export interface Evaluation {
  readonly step: number;
  /** Mean absolute difference to the teacher's last block output, and cosine of the pooled vectors. */
  readonly difference: number;
  readonly cosine: number;
  /** Share of held-out pictures that the weighted neighbours among the bank get right, where there are labels. */
  readonly neighbours?: number;
}

interface Look {
  readonly images: readonly string[];
  readonly pixels: FloatTensor;
  readonly blockOutput: FloatTensor;
  readonly pooled: FloatTensor;
}

export interface TrackerOptions {
  readonly teacher: Model;
  readonly source: PictureSource;
  readonly queries: readonly Item[];
  /** Labelled pictures for the neighbours; none where there are no labels. */
  readonly bank: readonly Item[];
  readonly classes: number;
}

/** Pictures at once; what the teacher gives for all of them is kept. */
const batch = 16;

/**
 * Measures a student in training on a few held-out pictures; the teacher sees each of them once. Between looks no session stays
 * open for them: each has a copy of its weights.
 */
export class Tracker {
  private readonly options: TrackerOptions;
  private looks: Look[] | undefined;
  private bankPixels: FloatTensor[] | undefined;
  private labels: { queries: number[]; bank: number[] } = { queries: [], bank: [] };

  constructor(options: TrackerOptions) {
    this.options = options;
  }

  private async prepare(): Promise<Look[]> {
    if (this.looks) return this.looks;
    const { teacher, source, queries, bank } = this.options;
    const looks: Look[] = [];
    const skip = () => undefined;
    for await (const { items, pixels } of evaluationBatches(source, queries, batch, teacher.preprocessing, skip)) {
      const images = items.map(({ name }) => name);
      const { blockOutput, pooled } = await teacher.outputs(pixels, ["blockOutput", "pooled"], { images });
      looks.push({ images, pixels, blockOutput, pooled });
      this.labels.queries.push(...items.map(({ label }) => label ?? -1));
    }
    this.bankPixels = [];
    for await (const { items, pixels } of evaluationBatches(source, bank, batch, teacher.preprocessing, skip)) {
      this.bankPixels.push(pixels);
      this.labels.bank.push(...items.map(({ label }) => label ?? -1));
    }
    this.looks = looks;
    await teacher.dispose();
    return looks;
  }

  /** Undefined where no held-out picture can be read. */
  async evaluate(distillation: Distillation, step: number): Promise<Evaluation | undefined> {
    const looks = await this.prepare();
    const { teacher, classes } = this.options;
    const differences: number[] = [];
    const cosines: number[] = [];
    const found: FloatTensor[] = [];
    for (const { images, pixels, blockOutput, pooled } of looks) {
      const student = await distillation.features(pixels, images);
      const [own, theirs] = comparableTokens(
        { tokens: student.blockOutput, config: distillation.weightCopy.config },
        { tokens: blockOutput, config: teacher.config },
      );
      differences.push(...absoluteDifferences(own, theirs));
      cosines.push(...rowCosines(student.pooled, pooled));
      found.push(student.pooled);
    }
    const known: FloatTensor[] = [];
    for (const pixels of this.bankPixels ?? []) known.push((await distillation.features(pixels)).pooled);
    await distillation.restFeatures();
    if (differences.length === 0) return undefined;
    const neighbours =
      known.length > 0 && this.labels.queries.every((label) => label >= 0)
        ? topAccuracy(
            await neighbourVotes(
              teacher.device,
              concatRows(known),
              { kind: "class", count: classes, labels: this.labels.bank },
              concatRows(found),
            ),
            this.labels.queries,
            1,
          )
        : undefined;
    return {
      step,
      difference: mean(differences),
      cosine: mean(cosines),
      ...(neighbours === undefined ? {} : { neighbours }),
    };
  }
}

/** The best evaluation by fidelity; of equals the first. */
export function bestEvaluation(evaluations: readonly Evaluation[]): Evaluation | undefined {
  return evaluations.reduce<Evaluation | undefined>(
    (best, e) => (best === undefined || e.difference < best.difference ? e : best),
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
  const found: { kind: string; message: string }[] = [];
  const part = Math.max(3, Math.floor(losses.length / 5));
  if (losses.length >= fewestSteps) {
    const [first, last] = [mean(losses.slice(0, part)), mean(losses.slice(-part))];
    if (last > risen * first) {
      found.push({
        kind: "rising loss",
        message: `the loss has risen from ${first.toFixed(4)} to ${last.toFixed(4)}: lower --base-learning-rate, or lengthen --warmup-epochs`,
      });
    }
    const best = bestEvaluation(evaluations);
    const now = evaluations.at(-1);
    if (best && now && best !== now && now.difference > worse * best.difference && last < first) {
      found.push({
        kind: "overfitting",
        message:
          `the training loss falls, but held-out features were nearer at step ${best.step} (${best.difference.toFixed(3)}) ` +
          `than now (${now.difference.toFixed(3)}): use more images, a lower --rank, fewer --epochs, or --early-stop 2`,
      });
    }
  }
  return found;
}
