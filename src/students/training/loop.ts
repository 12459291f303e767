// The training loop: one step after the other, each logged; now and then a look at held-out pictures and a checkpoint.
import type { Distillation, MicroBatch } from "./distillation.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import type { Environment, Listener } from "../../context/environment.ts";
import { Interrupted } from "../../context/environment.ts";
import type { StudentRunOptions } from "../run-options.ts";
import type { BatchPlan } from "./step-plan.ts";
import type { LogEntry, RunFolder } from "../../workspace/run-folder.ts";
import type { Evaluation, Tracker } from "./tracking.ts";
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

/** Trains to the end of the plan, from where the distillation is. Throws Interrupted where the listener asks to stop. */
export async function train(training: TrainingOptions, environment: Environment, listener: Listener): Promise<Trained> {
  const { distillation, plan, options, folder, tracker } = training;
  const losses = [...training.losses];
  const evaluations: Evaluation[] = training.before.filter(
    (entry): entry is Extract<LogEntry, { kind: "evaluation" }> => entry.kind === "evaluation",
  );
  const warned = new Set<string>();
  const evaluateSteps = tracker ? (options.evaluateSteps ?? share(plan.steps, 5)) : 0;
  const checkpointSteps = options.checkpointSteps ?? share(plan.steps, 8);
  if (plan.steps > 0) listener.stage?.("distilling", plan.steps);
  const begin = environment.now();
  let lastCheckpoint = begin;

  const evaluate = async (step: number) => {
    const found = await tracker?.evaluate(distillation, step);
    if (!found) return;
    evaluations.push(found);
    await folder.log({ kind: "evaluation", ...found });
    if (bestEvaluation(evaluations) === found) await folder.writeBest(await distillation.saveState());
    for (const { kind, message } of warningsOf(losses, evaluations)) {
      if (!warned.has(kind)) listener.warn?.(message);
      warned.add(kind);
    }
  };
  const checkpoint = async () => {
    await folder.writeState(await distillation.saveState(), losses, options.keepCheckpoints);
    lastCheckpoint = environment.now();
  };

  if (distillation.steps === 0 && evaluations.length === 0 && evaluateSteps > 0 && distillation.trains)
    await evaluate(0);
  let stopped = isStopped(evaluations, options);
  while (distillation.steps < plan.steps && !stopped) {
    const started = environment.now();
    const microBatches = Array.from({ length: plan.accumulation }, () => training.next);
    const { loss, learningRate } = await distillation.step(microBatches).catch((error: unknown) => {
      throw inRun(error, folder);
    });
    const step = distillation.steps;
    losses.push(loss);
    const seconds = Number(((environment.now() - started) / 1000).toFixed(4));
    await folder.log({ kind: "step", step, epoch: step / plan.iterationsPerEpoch, loss, learningRate, seconds });
    const last = evaluations.at(-1);
    listener.progress?.(step, `loss ${loss.toFixed(4)}${last ? `  held out ${last.difference.toFixed(3)}` : ""}`);
    const atEnd = step === plan.steps;
    if (evaluateSteps > 0 && (step % evaluateSteps === 0 || atEnd)) await evaluate(step);
    stopped = isStopped(evaluations, options);
    const minutes = (environment.now() - lastCheckpoint) / 60_000;
    const interrupted = listener.stopRequested?.() ?? false;
    if (atEnd || stopped || interrupted || step % checkpointSteps === 0 || minutes >= options.checkpointMinutes)
      await checkpoint();
    if (interrupted && !atEnd) {
      const path = folder.directory.describe("");
      throw new Interrupted(
        `stopped after step ${step} of ${plan.steps}; go on with: wecolora distill --resume ${path}`,
      );
    }
  }
  for (const { kind, message } of warningsOf(losses, evaluations)) if (!warned.has(kind)) listener.warn?.(message);
  if (stopped) listener.info?.(`stopped early: no better held-out fidelity in ${options.earlyStop} looks`);
  const best = bestEvaluation(evaluations);
  const takesBest = options.earlyStop !== undefined && best !== undefined && best.step !== distillation.steps;
  if (takesBest) await distillation.loadState(await folder.readBest());
  return {
    steps: losses.length,
    firstLoss: losses[0],
    lastLoss: losses.at(-1),
    trainingSeconds: (environment.now() - begin) / 1000,
    evaluations,
    ...(takesBest ? { bestStep: best.step } : {}),
  };
}

function isStopped(evaluations: readonly Evaluation[], { earlyStop }: StudentRunOptions): boolean {
  return earlyStop !== undefined && isSpent(evaluations, earlyStop);
}

/** What goes wrong in the middle of a run is the run's failure, also where a file of the user's is behind it. */
function inRun(error: unknown, folder: RunFolder): unknown {
  if (!(error instanceof UserError)) return error;
  const path = folder.directory.describe("");
  return new RunError(`${error.message}; once that is mended, go on with: wecolora distill --resume ${path}`, {
    cause: error,
  });
}
