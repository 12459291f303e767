// A distillation: teacher, student with adapters, optimizer state. One `step` is one update of the adapters.
import { compile } from "../compile.ts";
import { Model } from "../model.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { frozenWeights } from "../models/vit.ts";
import { adamwScalars } from "../optim/adamw.ts";
import { learningRateAt } from "../optim/schedule.ts";
import type { Device, DeviceTensor, Session } from "../runtime/types.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/options.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { float32, zeros } from "../utils/tensor.ts";
import type { AdapterPlan } from "./adapters.ts";
import { adapterShapes, checkAdapters, foldingGraph, freshAdapters, insertFolded } from "./adapters.ts";
import { gradientGraph, optimizerGraph, slot } from "./graphs.ts";
import type { DistillationInput, DistillationOptions } from "./options.ts";
import { defaultReductionFactor, distillationSchema } from "./options.ts";
import { copyBlocks, everyNth } from "./weight-copy.ts";

/** Pixels, or a way to get them when their turn comes, so that not all micro-batches are in memory at once. */
export type MicroBatch = FloatTensor | (() => Promise<FloatTensor>);

export interface StepOptions {
  /** Also bring back the gradients that the step used. */
  readonly gradients?: boolean;
}

export interface StepResult {
  /** Mean over the micro-batches, before the update. */
  readonly loss: number;
  readonly learningRate: number;
  /** By adapter name; the mean over the micro-batches. */
  readonly gradients?: Map<string, FloatTensor>;
}

type Held = Map<string, DeviceTensor>;

/** Adapters and the optimizer's running means, which stay on the device. */
interface TrainingState {
  adapters: Held;
  momentum: Held;
  variance: Held;
}

export class Distillation {
  readonly options: DistillationOptions;
  readonly keptBlocks: readonly number[];
  /** The student before training: the bare weight copy. */
  readonly weightCopy: ModelDefinition;
  private readonly teacher: Model;
  private readonly device: Device;
  private readonly plan: AdapterPlan;
  private readonly shapes: ReadonlyMap<string, readonly number[]>;
  private state: TrainingState;
  private zeroSums: Held = new Map();
  private gradientSession: { batch: number; session: Session } | undefined;
  private optimizerSession: Session | undefined;
  private stepsDone = 0;

  private constructor(teacher: Model, options: DistillationOptions, kept: readonly number[], state: TrainingState) {
    this.teacher = teacher;
    this.device = teacher.device;
    this.options = options;
    this.keptBlocks = kept;
    this.plan = { rank: options.rank, targetModules: options.targetModules };
    this.weightCopy = copyBlocks(teacher, kept);
    this.shapes = adapterShapes(this.weightCopy.config, this.plan);
    this.state = state;
  }

  /** Starts a distillation; see createDistillation. */
  static async create(
    teacher: Model,
    options: DistillationOptions,
    initialAdapters: ReadonlyMap<string, FloatTensor> | undefined,
  ): Promise<Distillation> {
    const kept =
      options.keptBlocks ?? everyNth(teacher.config.depth, options.reductionFactor ?? defaultReductionFactor);
    const { config } = copyBlocks(teacher, kept);
    if (initialAdapters) checkAdapters(initialAdapters, config, options);
    const adapters = initialAdapters ?? freshAdapters(config, options, options.seed);
    const blank = new Map([...adapters].map(([name, { dims }]) => [name, zeros(dims)]));
    const state = {
      adapters: await uploadAll(teacher.device, adapters),
      momentum: await uploadAll(teacher.device, blank),
      variance: await uploadAll(teacher.device, blank),
    };
    return new Distillation(teacher, options, kept, state);
  }

  /** Steps of the optimizer that were taken. */
  get steps(): number {
    return this.stepsDone;
  }

  /**
   * One step of the optimizer over `accumulation` micro-batches of normalised pictures `[B, 3, H, W]`, all of one size.
   * Throws a UserError on another number of micro-batches, and a RunError where the loss is not finite; the adapters
   * then are those of the last good step.
   */
  async step(microBatches: readonly MicroBatch[], options: StepOptions = {}): Promise<StepResult> {
    const { accumulation, schedule } = this.options;
    if (microBatches.length !== accumulation) {
      throw new UserError(`a step takes ${accumulation} micro-batches (accumulation), got ${microBatches.length}`);
    }
    const learningRate = learningRateAt(schedule, this.stepsDone);
    const { loss, gradients } = await this.accumulate(microBatches);
    try {
      const fetched = options.gradients ? await downloadAll(this.device, gradients) : undefined;
      await this.update(gradients, learningRate);
      this.stepsDone++;
      return { loss, learningRate, ...(fetched ? { gradients: fetched } : {}) };
    } finally {
      await this.device.release([...gradients.values()]);
    }
  }

  /** Loss and mean gradients over the micro-batches; the gradients stay on the device. */
  private async accumulate(microBatches: readonly MicroBatch[]): Promise<{ loss: number; gradients: Held }> {
    const names = [...this.shapes.keys()];
    let total = 0;
    let sums: Held = this.zeroSums;
    for (const microBatch of microBatches) {
      const pixels = typeof microBatch === "function" ? await microBatch() : microBatch;
      const session = await this.openGradientSession(pixels.dims[0]);
      if (sums.size === 0) sums = this.zeroSums;
      const feeds: Record<string, Tensor | DeviceTensor> = { pixels, ...Object.fromEntries(this.state.adapters) };
      for (const [name, tensor] of sums) feeds[slot.sum(name)] = tensor;
      const { tensors, kept } = await session.run({ feeds, fetch: ["loss"], keep: names.map(slot.gradient) });
      if (sums !== this.zeroSums) await this.device.release([...sums.values()]);
      sums = new Map(names.map((name) => [name, kept[slot.gradient(name)]]));
      const loss = Number(tensors.loss.data[0]);
      if (!Number.isFinite(loss)) {
        await this.device.release([...sums.values()]);
        throw new RunError(
          `the loss is ${loss} at step ${this.stepsDone + 1}, so training stops; a lower learning rate or a longer ` +
            "warm-up may help, and pictures or teacher weights that are not finite would explain it too",
        );
      }
      total += loss;
    }
    return { loss: total / microBatches.length, gradients: sums };
  }

  private async openGradientSession(batch: number): Promise<Session> {
    if (this.gradientSession?.batch === batch) return this.gradientSession.session;
    await this.gradientSession?.session.dispose();
    this.gradientSession = undefined;
    const { loss, accumulation } = this.options;
    const built = gradientGraph({
      teacher: this.teacher,
      student: this.weightCopy,
      plan: this.plan,
      loss,
      batch,
      accumulation,
    });
    if (accumulation > 1 && this.zeroSums.size === 0) {
      const blank = new Map([...this.shapes].map(([name, dims]) => [name, zeros(dims)]));
      this.zeroSums = await uploadAll(this.device, blank);
    }
    const session = await compile(built, this.device);
    this.gradientSession = { batch, session };
    return session;
  }

  private async update(gradients: Held, learningRate: number): Promise<void> {
    this.optimizerSession ??= await compile(optimizerGraph(this.shapes, this.options.optimizer), this.device);
    const { adapters, momentum, variance } = this.state;
    const scalars = adamwScalars(this.stepsDone + 1, learningRate, this.options.optimizer.betas);
    const feeds: Record<string, Tensor | DeviceTensor> = {};
    for (const [name, value] of Object.entries(scalars)) feeds[name] = float32([value], []);
    for (const name of this.shapes.keys()) {
      feeds[name] = adapters.get(name) as DeviceTensor;
      feeds[slot.momentum(name)] = momentum.get(name) as DeviceTensor;
      feeds[slot.variance(name)] = variance.get(name) as DeviceTensor;
      feeds[slot.gradient(name)] = gradients.get(name) as DeviceTensor;
    }
    const { kept } = await this.optimizerSession.run({ feeds, keep: this.optimizerSession.outputNames });
    const old = [adapters, momentum, variance].flatMap((held) => [...held.values()]);
    const take = (as: (name: string) => string) =>
      new Map([...this.shapes.keys()].map((name) => [name, kept[slot.next(as(name))]]));
    this.state = { adapters: take((name) => name), momentum: take(slot.momentum), variance: take(slot.variance) };
    await this.device.release(old);
  }

  /** The adapters as they are now: `blocks.0.q.lora_A` `[rank, in]`, `blocks.0.q.lora_B` `[out, rank]`, and so on. */
  adapters(): Promise<Map<string, FloatTensor>> {
    return downloadAll(this.device, this.state.adapters);
  }

  /** The student with the adapters folded into its weights: W + BA. The caller disposes of it. */
  async student(): Promise<Model> {
    const { config, weights } = this.weightCopy;
    const session = await compile(foldingGraph(config, this.plan, frozenWeights(weights)), this.device);
    try {
      const { tensors } = await session.run({
        feeds: Object.fromEntries(this.state.adapters),
        fetch: session.outputNames,
      });
      const folded = new Map(Object.entries(tensors) as [string, FloatTensor][]);
      return new Model({ ...this.weightCopy, weights: insertFolded(config, weights, folded) }, this.device);
    } finally {
      await session.dispose();
    }
  }

  /** Closes the sessions and frees the adapters and the optimizer's state. */
  async dispose(): Promise<void> {
    await this.gradientSession?.session.dispose();
    await this.optimizerSession?.dispose();
    this.gradientSession = undefined;
    this.optimizerSession = undefined;
    const { adapters, momentum, variance } = this.state;
    await this.device.release([adapters, momentum, variance, this.zeroSums].flatMap((held) => [...held.values()]));
  }
}

async function uploadAll(device: Device, tensors: ReadonlyMap<string, FloatTensor>): Promise<Held> {
  const held: Held = new Map();
  for (const [name, tensor] of tensors) held.set(name, await device.upload(tensor));
  return held;
}

async function downloadAll(device: Device, held: Held): Promise<Map<string, FloatTensor>> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, tensor] of held) tensors.set(name, (await device.download(tensor)) as FloatTensor);
  return tensors;
}

export type CreateDistillationOptions = DistillationInput & {
  /** Adapters to start from, by name and in the shapes that `adapters()` gives; fresh ones where left out. */
  readonly initialAdapters?: ReadonlyMap<string, FloatTensor>;
};

/**
 * Sets up a distillation of `teacher` into a student of fewer blocks (WeCoLoRA, arXiv 2404.09326): weight copy of every
 * r-th block, adapters on the kept blocks' linear maps. Throws a UserError on options that don't fit.
 */
export async function createDistillation(
  teacher: Model,
  options: CreateDistillationOptions = {},
): Promise<Distillation> {
  const { initialAdapters, ...settings } = options;
  if (settings.keptBlocks !== undefined && settings.reductionFactor !== undefined) {
    throw new UserError("give reductionFactor or keptBlocks, not both");
  }
  return Distillation.create(
    teacher,
    parseOptions(distillationSchema, settings, "options of createDistillation"),
    initialAdapters,
  );
}
