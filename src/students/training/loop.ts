// The training loop: one step after the other, each logged; now and then a look at held-out images and a checkpoint.
import { shellWord } from "../../utils/option-names.ts";
import type { Distillation, MicroBatch } from "./distillation.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import type { RunContext } from "../../context/run-context.ts";
import type { StudentRunOptions } from "../run-options.ts";
import type { BatchPlan } from "./step-plan.ts";
import type { LogEntry, RunFolder } from "../../workspace/run-folder.ts";
import type { Evaluation, Tracker } from "./tracking.ts";
import { LossNotFinite } from "./gradient-runs.ts";
import { bestEvaluation, isSpent, warningsOf } from "./tracking.ts";

export interface TrainingOptions {
  readonly distillation: Distillation;
  /** The next micro-batch. */
  readonly next: () => Promise<Exclude<MicroBatch, () => unknown>>;
  readonly plan: BatchPlan;
  readonly options: StudentRunOptions;
  readonly folder: RunFolder;
  readonly tracker: Tracker | undefined;
  /** What was logged before, where a run goes on. */
  readonly before: readonly LogEntry[];
  /** Losses of the steps done before. */
  readonly losses: readonly number[];
}

export interface Trained {
  readonly steps: number;
  readonly firstLoss?: number;
  readonly lastLoss?: number;
  readonly trainingSeconds: number;
  readonly evaluations: readonly Evaluation[];
  /** The step whose student is taken, where it is not the last. */
  readonly bestStep?: number;
}

/** Steps between checkpoints, looks and so on, where the caller leaves it open. */
const share = (steps: number, parts: number) => Math.max(1, Math.ceil(steps / parts));

/**
 * Trains to the end of the plan, from where the distillation is. Where the signal fires, saves the state of the last whole
 * step and rejects with the signal's reason.
 */
export function train(training: TrainingOptions, context: RunContext): Promise<Trained> {
  return new TrainingLoop(training, context).run();
}

class TrainingLoop {
  private readonly training: TrainingOptions;
  private readonly context: RunContext;
  private readonly losses: number[];
  private readonly evaluations: Evaluation[];
  private readonly warned = new Set<string>();
  private readonly begun: number;
  private lastCheckpoint: number;
  private savedStep: number;

  constructor(training: TrainingOptions, context: RunContext) {
    this.training = training;
    this.context = context;
    this.losses = [...training.losses];
    this.evaluations = training.before.flatMap((entry): Evaluation[] => {
      if (entry.kind !== "evaluation") return [];
      const { step, meanAbsoluteDifference: difference, cosine, knn } = entry;
      return [{ step, meanAbsoluteDifference: difference, cosine, ...(knn === undefined ? {} : { knn }) }];
    });
    this.begun = context.environment.now();
    this.lastCheckpoint = this.begun;
    this.savedStep = training.distillation.steps;
  }

  async run(): Promise<Trained> {
    const { distillation, plan } = this.training;
    if (plan.steps > 0) this.context.listener.stage?.("distilling", plan.steps);
    const first = distillation.steps === 0 && this.evaluations.length === 0 && distillation.trains;
    // Before any step: a teacher that can't be evaluated is the user's input.
    if (first && this.evaluateSteps > 0) await this.evaluate(0);
    try {
      while (distillation.steps < plan.steps && !this.stopsEarly()) await this.step();
    } catch (error) {
      if (this.context.signal.aborted && distillation.steps > 0) {
        if (distillation.steps > this.savedStep) await this.checkpoint();
        this.context.listener.info?.(`saved the state of step ${distillation.steps} of ${plan.steps}`);
      }
      throw inRun(error, this.training.folder);
    }
    return this.finish();
  }

  /** One step, logged; a look at held-out images and a checkpoint where it is time for them. */
  private async step(): Promise<void> {
    const { distillation, plan, options, folder, next } = this.training;
    const { environment, listener, signal } = this.context;
    signal.throwIfAborted();
    const started = environment.now();
    const microBatches = Array.from({ length: plan.accumulation }, () => () => {
      signal.throwIfAborted();
      return next();
    });
    const { loss, learningRate } = await distillation.step(microBatches);
    const step = distillation.steps;
    this.losses.push(loss);
    const seconds = Number(((environment.now() - started) / 1000).toFixed(4));
    await folder.log({ kind: "step", step, epoch: step / plan.iterationsPerEpoch, loss, learningRate, seconds });
    const last = this.evaluations.at(-1);
    listener.progress?.(
      step,
      `loss ${loss.toFixed(4)}${last ? `  held out ${last.meanAbsoluteDifference.toFixed(3)}` : ""}`,
    );
    const atEnd = step === plan.steps;
    if (this.evaluateSteps > 0 && (step % this.evaluateSteps === 0 || atEnd)) await this.evaluate(step);
    const minutes = (environment.now() - this.lastCheckpoint) / 60_000;
    const due = step % this.checkpointSteps === 0 || minutes >= options.checkpointMinutes;
    if (atEnd || due || this.stopsEarly()) await this.checkpoint();
  }

  private get evaluateSteps(): number {
    const { tracker, options, plan } = this.training;
    return tracker ? (options.evaluateSteps ?? share(plan.steps, 5)) : 0;
  }

  private get checkpointSteps(): number {
    const { options, plan } = this.training;
    return options.checkpointSteps ?? share(plan.steps, 8);
  }

  private stopsEarly(): boolean {
    const { earlyStop } = this.training.options;
    return earlyStop !== undefined && isSpent(this.evaluations, earlyStop);
  }

  private async evaluate(step: number): Promise<void> {
    const { tracker, distillation, folder } = this.training;
    const evaluation = await tracker?.evaluate(distillation, step);
    if (!evaluation) return;
    this.evaluations.push(evaluation);
    await folder.log({ kind: "evaluation", ...evaluation });
    if (bestEvaluation(this.evaluations) === evaluation) await folder.writeBest(await distillation.saveState());
    this.warn();
  }

  private async checkpoint(): Promise<void> {
    const { distillation, folder, options } = this.training;
    await folder.writeState(await distillation.saveState(), this.losses, options.keepCheckpoints);
    this.lastCheckpoint = this.context.environment.now();
    this.savedStep = distillation.steps;
  }

  /** Each kind of warning once. */
  private warn(): void {
    for (const { kind, message } of warningsOf(this.losses, this.evaluations)) {
      if (!this.warned.has(kind)) this.context.listener.warn?.(message);
      this.warned.add(kind);
    }
  }

  private async finish(): Promise<Trained> {
    const { distillation, options, folder } = this.training;
    const { environment, listener } = this.context;
    this.warn();
    if (this.stopsEarly())
      listener.info?.(`stopped early: no better held-out fidelity in ${options.earlyStop} evaluations`);
    const best = bestEvaluation(this.evaluations);
    const takesBest = options.earlyStop !== undefined && best !== undefined && best.step !== distillation.steps;
    if (takesBest) await distillation.loadState(await folder.readBest());
    return {
      steps: this.losses.length,
      firstLoss: this.losses[0],
      lastLoss: this.losses.at(-1),
      trainingSeconds: (environment.now() - this.begun) / 1000,
      evaluations: this.evaluations,
      ...(takesBest ? { bestStep: best.step } : {}),
    };
  }
}

/** What goes wrong in the middle of a run is the run's failure, also where a file of the user's is behind it. */
function inRun(error: unknown, folder: RunFolder): unknown {
  // A teacher that gives NaN is no better the next time.
  if (!(error instanceof UserError) || error.cause instanceof LossNotFinite) return error;
  const path = folder.directory.describe("");
  const sentence = error.message.replace(/\.?$/, ".");
  return new RunError(`${sentence} Fix this, then resume with: wecolora distill --resume ${shellWord(path)}`, {
    code: error.code,
    cause: error,
  });
}
