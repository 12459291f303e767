// A distillation: teacher, student with what trains in it, optimizer state. One `step` is one update.
import type { DistillationState } from "../../workspace/training-state.ts";
import type { z } from "zod";
import { compile } from "../../engine/compile.ts";
import type { Graph } from "../../engine/graph/graph.ts";
import { inputName } from "../../engine/graph/graph.ts";
import { badWeight, checkOutputs, modelName } from "../../models/finite-outputs.ts";
import { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { parameterCount } from "../../models/definition.ts";
import { learningRateAt } from "../../engine/optim/schedule.ts";
import type { Int8Options } from "../../models/precision.ts";
import { choosePrecision } from "../../models/precision.ts";
import { downloadAll } from "../../runtime/device-tensors.ts";
import { runInParts } from "../../runtime/batch-parts.ts";
import type { Device, Session } from "../../runtime/device.ts";
import { OptionError, UserError } from "../../utils/errors.ts";

import { parseOptions } from "../../utils/parse-options.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";
import { checkParameters } from "./adapters.ts";
import type { Part, RunShape, Share } from "./gradient-runs.ts";
import { GradientRuns, LossNotFinite } from "./gradient-runs.ts";
import { featureGraph, foldingGraphs, gradientGraph, slot } from "./step-graphs.ts";
import type { Targets } from "./target-maker.ts";
import { TargetMaker } from "./target-maker.ts";
import { adapterPlanOf, methodOf, withMethod } from "../methods/lookup.ts";
import { checkRanks, withRank } from "./ranks.ts";
import type { Method, MethodContext, OptionShape } from "../methods/method.ts";
import type { Objective } from "../methods/objective.ts";
import type { DistillationInput, DistillationOptions } from "../distillation-options.ts";
import { distillationSchema } from "../distillation-options.ts";
import { OptimizerState } from "./optimizer-state.ts";
import type { Draws, Shapes, Trainables } from "./trainables.ts";
import { starts } from "../starts.ts";
import { copyBlocks, keptBlocksOf } from "../kept-blocks.ts";

/**
 * Normalised images `[B, 3, H, W]`, with the teacher's classes where the method learns from labels, and with `targets`
 * where the teacher has seen these very views. Where targets hold `embedded`, pixels are not read and may be left out.
 */
export type TrainingImages =
  | FloatTensor
  | { readonly pixels: FloatTensor; readonly labels?: readonly number[]; readonly targets?: Targets }
  | { readonly pixels?: FloatTensor; readonly targets: Targets };

/** Images, or a way to get them when their turn comes, so that not all micro-batches are in memory at once. */
export type MicroBatch = TrainingImages | (() => Promise<TrainingImages>);

export interface StepOptions {
  /** Also bring back the gradients that the step used. */
  readonly gradients?: boolean;
}

export interface StepResult {
  /** Mean over the micro-batches, before the update. */
  readonly loss: number;
  readonly learningRate: number;
  /** By the parameters' names; the mean over the micro-batches, before any clipping. */
  readonly gradients?: Map<string, FloatTensor>;
}

/**
 * Two sessions, each with half of the threads and of the images, end sooner than one with all: threads wait for each other behind
 * each node. But parameters and sums move between them; above so many bytes that costs what it spares (dev/performance-notes.md).
 */
const lightWeights = 128 * 2 ** 20;

/** Numbers of all shapes together. */
const countOf = (shapes: Shapes): number => [...shapes.values()].reduce((sum, dims) => sum + elementCount(dims), 0);

interface Setup {
  readonly start: ModelDefinition;
  readonly trainables: Trainables;
  readonly objective: Objective;
  readonly int8: Int8Options | undefined;
}

export class Distillation {
  readonly options: DistillationOptions;
  readonly keptBlocks: readonly number[];
  /** The student before training: the bare weight copy, for most methods. */
  readonly weightCopy: ModelDefinition;
  private readonly teacher: Model;
  private readonly device: Device;
  private readonly trainables: Trainables;
  private readonly objective: Objective;
  private readonly shapes: Shapes;
  private readonly int8: Int8Options | undefined;
  private readonly drawsOf = new Map<number, Draws>();
  private readonly state: OptimizerState;
  private readonly gradientRuns: GradientRuns;
  private readonly targetMaker: TargetMaker | undefined;
  private featureSession: Session | undefined;
  private stepsDone = 0;

  private constructor(
    teacher: Model,
    options: DistillationOptions,
    kept: readonly number[],
    setup: Setup,
    state: OptimizerState,
  ) {
    this.teacher = teacher;
    this.device = teacher.device;
    this.options = options;
    this.keptBlocks = kept;
    this.weightCopy = setup.start;
    this.trainables = setup.trainables;
    this.objective = setup.objective;
    this.int8 = setup.int8;
    this.shapes = new Map([...setup.trainables.shapes, ...setup.objective.shapes]);
    this.state = state;
    this.targetMaker = targetMakerFor(teacher, setup);
    const inputs = { trained: [...this.shapes.keys()], lowRank: setup.trainables.lowRank };
    this.gradientRuns = new GradientRuns({
      device: this.device,
      shapes: this.shapes,
      accumulation: options.accumulation,
      // Activations are computed anew where memory is short.
      pairs: !options.checkpointing && this.secondBytes() <= lightWeights,
      int8: setup.int8 && { ...setup.int8, inputs },
      build: (shape, runs) => this.gradientsOf(shape, runs),
      parametersOn: (devices) => this.state.on(devices),
    });
  }

  /** Starts a distillation; see createDistillation. */
  static async create(
    teacher: Model,
    options: DistillationOptions,
    initialAdapters: ReadonlyMap<string, FloatTensor> | undefined,
    initialStudent: ModelDefinition | undefined,
    int8: Int8Options | undefined,
  ): Promise<Distillation> {
    const { kept, ...setup } = setupOf(teacher, options, initialStudent);
    const { start, trainables, objective } = setup;
    if (initialAdapters) checkParameters(initialAdapters, trainables.shapes);
    const parameters = new Map([...(initialAdapters ?? trainables.fresh()), ...objective.fresh()]);
    const { depth } = start.config;
    const state = await OptimizerState.create(teacher.device, parameters, options.optimizer, depth, !initialAdapters);
    return new Distillation(teacher, options, kept, { ...setup, int8 }, state);
  }

  /** Steps of the optimizer that were taken. */
  get steps(): number {
    return this.stepsDone;
  }

  /** Whether the method trains anything at all. */
  get trains(): boolean {
    return this.shapes.size > 0;
  }

  /** Numbers that train in the student. */
  get trainedParameters(): number {
    return countOf(this.trainables.shapes);
  }

  /**
   * One step of the optimizer over `accumulation` micro-batches of normalised images `[B, 3, H, W]`, all of one size.
   * Throws a UserError on another number of micro-batches, and a RunError where the loss is not finite; the parameters
   * then are those of the last good step.
   */
  async step(microBatches: readonly MicroBatch[], options: StepOptions = {}): Promise<StepResult> {
    const { accumulation, schedule, method } = this.options;
    if (this.shapes.size === 0) throw new UserError(`The method ${method} trains nothing`, { code: "INVALID_OPTION" });
    if (microBatches.length !== accumulation) {
      throw new UserError(`A step takes ${accumulation} micro-batches (accumulation), got ${microBatches.length}`, {
        code: "INVALID_OPTION",
      });
    }
    const learningRate = learningRateAt(schedule, this.stepsDone);
    const parts = microBatches.map((microBatch, part) => () => this.partOf(microBatch, part));
    const { loss, shares } = await this.gradientRuns.run(parts, this.stepsDone + 1).catch((error: unknown) => {
      throw error instanceof LossNotFinite ? this.withCause(error) : error;
    });
    try {
      const gradients = options.gradients ? await this.fetched(shares) : undefined;
      await this.state.update(
        shares.map((share) => share.gradients),
        this.stepsDone + 1,
        learningRate,
      );
      this.stepsDone++;
      return { loss, learningRate, ...(gradients ? { gradients } : {}) };
    } finally {
      for (const { device, gradients } of shares) await device.release([...gradients.values()]);
    }
  }

  /** A loss that is not finite because a weight of the teacher is not: the user's input, not the run's failure. */
  private withCause(error: LossNotFinite): Error {
    const bad = badWeight(this.teacher.weights);
    if (!bad) return error;
    return new UserError(
      `The teacher ${modelName(this.teacher.origin)} can't be learned from: its weight ${bad.name} holds ${bad.value}. Use another copy of the model.`,
      { code: "NOT_FINITE", cause: error },
    );
  }

  private async fetched([first, ...others]: readonly Share[]): Promise<Map<string, FloatTensor>> {
    const sums = await downloadAll(first.device, first.gradients);
    for (const { device, gradients } of others)
      for (const [name, { data }] of await downloadAll(device, gradients))
        sums.get(name)?.data.forEach((v, i, all) => (all[i] = v + data[i]));
    return sums;
  }

  /** A micro-batch of the step that is under way, as its run is fed. */
  private async partOf(microBatch: MicroBatch, part: number): Promise<Part> {
    const given = typeof microBatch === "function" ? await microBatch() : microBatch;
    const { pixels, labels, targets }: { pixels?: FloatTensor; labels?: readonly number[]; targets?: Targets } =
      "dims" in given ? { pixels: given } : given;
    const tokens = targets?.[slot.embedded];
    const shown = tokens ?? pixels;
    if (!shown)
      throw new UserError(`A micro-batch needs pixels, or targets with ${slot.embedded}`, { code: "INVALID_OPTION" });
    const batch = shown.dims[0];
    const feeds = {
      ...(tokens ? {} : { pixels: shown }),
      ...targets,
      ...this.objective.feeds({ batch, labels, step: this.stepsDone, part }),
      ...this.draws(batch).feeds(this.stepsDone, part),
    };
    return { batch, given: tokens ? "targets and tokens" : targets ? "targets" : "nothing", feeds };
  }

  private draws(batch: number): Draws {
    const draws = this.drawsOf.get(batch) ?? this.trainables.draws(batch);
    this.drawsOf.set(batch, draws);
    return draws;
  }

  /** What a second session of the gradients holds, about: weights, in 8 bits for both ways through the student, and what trains. */
  private secondBytes(): number {
    return parameterCount(this.teacher) * (this.int8 ? 1.5 : 4) + 4 * countOf(this.shapes);
  }

  private async gradientsOf({ batch, given }: RunShape, runs: number): Promise<Graph> {
    // Crops that are kept are seen before the first step, so the teacher's copy of its weights can go.
    await this.targetMaker?.closeSession();
    const { checkpointing, activations } = this.options;
    return gradientGraph({
      teacher: this.teacher,
      student: this.weightCopy,
      trainables: this.trainables,
      objective: this.objective,
      draws: this.draws(batch),
      batch,
      runs,
      given,
      checkpointing,
      activations,
    });
  }

  /** Whether steps can do with what the teacher made of their images before. */
  get takesTargets(): boolean {
    return this.objective.targets !== undefined;
  }

  /**
   * What is made of normalised images `[B, 3, H, W]` at each step on the same views: `[B, N, D]` for each of the teacher's states
   * that the loss reads, and as `embedded` what enters the student's first block, unless that changes while it trains. Throws a
   * UserError where the method reads more of the teacher, and where one is not finite; `images` are the names to say then.
   */
  async targets(pixels: FloatTensor, images?: readonly string[]): Promise<Targets> {
    if (!this.targetMaker)
      throw new UserError(
        `The method ${this.options.method} needs the teacher in each step: its targets can't be kept`,
        { code: "INVALID_OPTION" },
      );
    return this.targetMaker.targets(pixels, images);
  }

  /** The names that `targets` gives; none where the method reads more of the teacher. */
  get targetNames(): readonly string[] {
    return this.targetMaker?.names ?? [];
  }

  /**
   * What trains, as it is now: `blocks.0.q.lora_A` `[rank, in]`, `blocks.0.q.lora_B` `[out, rank]` and so on for
   * adapters, weights by timm's names where all of them train.
   */
  async adapters(): Promise<Map<string, FloatTensor>> {
    const all = await downloadAll(this.device, this.state.parameters);
    return new Map([...all].filter(([name]) => this.trainables.shapes.has(name)));
  }

  /**
   * The student's features as it is now, without folding: `blockOutput` `[B, N, D]` and `pooled` `[B, D]` of normalised
   * images `[B, 3, H, W]`. Throws a UserError where they are not finite; `images` are the names to say then.
   */
  async features(
    pixels: FloatTensor,
    images?: readonly string[],
  ): Promise<{ blockOutput: FloatTensor; pooled: FloatTensor }> {
    this.featureSession ??= await compile(featureGraph(this.weightCopy, this.trainables), this.device);
    const adapters = [...this.state.parameters].filter(([name]) => this.trainables.shapes.has(name));
    const names = ["blockOutput", "pooled"] as const;
    const outputs = await runInParts(this.featureSession, this.device, pixels, names, Object.fromEntries(adapters));
    checkOutputs(outputs, { weights: this.weightCopy.weights }, { model: "student", images }, pixels);
    return outputs;
  }

  /** Closes what `features` runs in, until it is called again: it has a copy of the student's weights, and steps want the memory. */
  async closeFeatureSession(): Promise<void> {
    await this.featureSession?.dispose();
    this.featureSession = undefined;
  }

  /** The student with what was trained folded into its weights. The caller disposes of it. */
  async student(): Promise<Model> {
    const weights = new Map(this.weightCopy.weights);
    for (const folding of foldingGraphs(this.trainables)) {
      const session = await compile(folding, this.device, { keepMemory: false });
      try {
        const read = new Set(folding.inputs.map(inputName));
        const feeds = Object.fromEntries([...this.state.parameters].filter(([name]) => read.has(name)));
        const { tensors } = await session.run({ feeds, fetch: session.outputNames });
        for (const name of weights.keys()) {
          const folded = tensors[slot.folded(name)];
          if (folded) weights.set(name, folded as FloatTensor);
        }
      } finally {
        await session.dispose();
      }
    }
    return new Model({ ...this.weightCopy, weights }, this.device);
  }

  /** A copy of all that is needed to go on from here: parameters, the optimizer's means, the number of steps. */
  async saveState(): Promise<DistillationState> {
    return { steps: this.stepsDone, tensors: await this.state.save() };
  }

  /** Goes back, or on, to a saved state of the same settings. Throws a UserError where a tensor is missing or misshapen. */
  async loadState({ steps, tensors }: DistillationState): Promise<void> {
    await this.state.load(tensors);
    this.stepsDone = steps;
  }

  /** Closes the sessions and frees the parameters and the optimizer's state. */
  async dispose(): Promise<void> {
    await this.gradientRuns.dispose();
    await this.closeFeatureSession();
    await this.targetMaker?.closeSession();
    await this.state.dispose();
  }
}

/** What a method makes of a teacher before anything trains, and the blocks that are kept. */
function setupOf(
  teacher: Model,
  options: DistillationOptions,
  initialStudent: ModelDefinition | undefined,
): Omit<Setup, "int8"> & { readonly kept: readonly number[] } {
  const kept = keptBlocksOf(teacher.config.depth, options);
  const method = methodOf(options.method);
  const context: MethodContext = { teacher, kept, options };
  const start = initialStudent ?? studentBefore(method, context);
  if (start.config.depth !== kept.length && !start.config.sharing) {
    throw new UserError(`The initial student has ${start.config.depth} blocks, but ${kept.length} are kept`, {
      code: "INVALID_OPTION",
    });
  }
  return { kept, start, trainables: method.trainables(start, context), objective: method.objective(start, context) };
}

/** What makes a method's targets; undefined where it reads more of the teacher. */
const targetMakerFor = (teacher: Model, { start, trainables, objective, int8 }: Setup): TargetMaker | undefined =>
  objective.targets && new TargetMaker({ teacher, student: start, trainables, targets: objective.targets, int8 });

/**
 * What makes the targets of a distillation with these options, without the rest of it; undefined where the method reads more of
 * the teacher. A start in closed form need not be made: it has the teacher's embedding.
 */
export function targetMakerOf(
  teacher: Model,
  options: DistillationInput,
  int8: Int8Options | undefined,
): TargetMaker | undefined {
  const parsed = parsedOptions(options, teacher);
  const kept = keptBlocksOf(teacher.config.depth, parsed);
  const isAnalytic = (parsed.start ?? methodOf(parsed.method).start) === "analytic";
  const setup = setupOf(teacher, parsed, isAnalytic ? copyBlocks(teacher, kept) : undefined);
  return targetMakerFor(teacher, { ...setup, int8 });
}

/** The student before training, as a method has it. Throws a UserError where the start needs images. */
export function studentBefore(method: Method, context: MethodContext): ModelDefinition {
  const start = context.options.start ?? method.start;
  if (start === "analytic")
    throw new UserError("An analytic start needs images: call analyticStart, and give its student as initialStudent", {
      code: "INVALID_OPTION",
    });
  if (start === "pruned")
    throw new UserError(
      `The method ${method.name} needs images: run it with distill, and give its student as initialStudent`,
      { code: "INVALID_OPTION" },
    );
  const started = starts[start](context);
  return method.student?.(started, context) ?? started;
}

/** Settings with all defaults and the adapters' rank. */
function parsedOptions(settings: object, teacher: Model): DistillationOptions {
  const { schema, options } = withMethod(distillationSchema, settings);
  return withRank(parseOptions(schema, options, "options of createDistillation"), teacher.config);
}

export type CreateDistillationOptions<Own extends OptionShape = OptionShape> = (
  | DistillationInput
  // A method of the caller's, with its own options.
  | (Omit<DistillationInput, "method"> & { readonly method: Method<Own> } & z.input<z.ZodObject<Own>>)
) & {
  /** Parameters to start from, by name and in the shapes that `adapters()` gives; fresh ones where left out. */
  readonly initialAdapters?: ReadonlyMap<string, FloatTensor>;
  /** The student before training, such as `analyticStart` gives; what the method starts from where left out. */
  readonly initialStudent?: ModelDefinition;
  /** Products in 8 bits as `choosePrecision` has decided; the options' `precision` decides where left out. */
  readonly int8?: Int8Options;
};

/**
 * Sets up a distillation of `teacher` into a smaller student, by WeCoLoRA (arXiv 2404.09326) unless `method` says
 * otherwise: weight copy of every r-th block, adapters on the kept blocks' linear maps. Throws a UserError on options
 * that don't fit each other or the teacher.
 */
export async function createDistillation<Own extends OptionShape = OptionShape>(
  teacher: Model,
  options: CreateDistillationOptions<Own> = {},
): Promise<Distillation> {
  const { initialAdapters, initialStudent, int8: decided, ...settings } = options;
  if (settings.keptBlocks !== undefined && settings.reductionFactor !== undefined) {
    throw new OptionError([(name) => `Give ${name("reductionFactor")} or ${name("keptBlocks")}, not both.`]);
  }
  if (settings.checkpointing && settings.activations === "float16") {
    throw new OptionError([
      (name) =>
        `Give ${name("checkpointing")} or ${name("activations")}, not both: activations that are recomputed are not saved.`,
    ]);
  }
  const ranked = parsedOptions(settings, teacher);
  const plan = adapterPlanOf(ranked);
  // Adapters that are given say by their shapes what is wrong with them.
  if (plan && !initialAdapters) checkRanks(teacher.config, plan);
  const { precision: wanted, int8Parts: parts } = ranked;
  const { int8 } = decided ? { int8: decided } : await choosePrecision(teacher, { wanted, parts });
  // What was decided holds for where adapters stand as well.
  const settled = { ...ranked, precision: int8 ? ("int8" as const) : ("float32" as const) };
  return Distillation.create(teacher, settled, initialAdapters, initialStudent, int8);
}
