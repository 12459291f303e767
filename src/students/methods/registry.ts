// The methods as small descriptions: how the student starts, what trains, and what is minimised. All share one loop.
import { tokenCount } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { TargetModule } from "../../models/vit.ts";
import { targetModules } from "../../models/vit.ts";
import { UserError } from "../../utils/errors.ts";
import type { AdapterPlan } from "../training/adapters.ts";
import { adapterTrainables } from "../training/adapters.ts";
import { deitObjective, deitStudent } from "./deit.ts";
import { dmaeObjective } from "./dmae.ts";
import { featureObjective } from "./feature-loss.ts";
import { minivitObjective, sharedStudent } from "./minivit.ts";
import type { Objective } from "./objective.ts";
import type { DistillationOptions, FeatureLoss, MethodName, StartName } from "../distillation-options.ts";
import { defaultReductionFactor } from "../distillation-options.ts";
import { startStudent } from "../initial-student.ts";
import type { Trainables } from "../training/trainables.ts";
import { weightTrainables } from "../training/weights-trainables.ts";
import { isHead } from "../initial-student.ts";

export interface MethodContext {
  readonly teacher: ModelDefinition;
  /** The teacher's blocks that the student's stand for. */
  readonly kept: readonly number[];
  readonly options: DistillationOptions;
}

export interface Method {
  readonly summary: string;
  readonly start: StartName;
  /** Whether there is anything to train. */
  readonly trains: boolean;
  readonly needsLabels?: boolean;
  /** The student before training. */
  student(context: MethodContext, start: StartName): ModelDefinition;
  trainables(student: ModelDefinition, context: MethodContext): Trainables;
  objective(student: ModelDefinition, context: MethodContext): Objective;
}

const started = ({ teacher, kept, options }: MethodContext, start: StartName) =>
  startStudent(teacher, kept, start, options.seed);

const l1: FeatureLoss = {
  kind: "l1",
  weight: 1,
  blocks: "last",
  norm: "before",
  tokens: "all",
  gradients: "through",
};

/** Features near the teacher's, by the losses asked for or by the method's own. */
const features =
  (usual: FeatureLoss) =>
  (_: ModelDefinition, { teacher, kept, options }: MethodContext): Objective =>
    featureObjective(options.loss ?? [usual], kept, teacher.config.depth);

/** Where each method's adapters sit unless it is said; methods without adapters are not here. */
const adaptedModules: Readonly<Partial<Record<MethodName, readonly TargetModule[]>>> = {
  wecolora: targetModules,
  lora: ["q", "v"],
  dora: targetModules,
};

type AdapterOptions = Pick<
  DistillationOptions,
  "method" | "rank" | "alpha" | "rankStabilized" | "adapterDropout" | "targetModules" | "precision"
>;

/** The adapters that options ask for; undefined where the method has none. */
export function adapterPlanOf(options: AdapterOptions): AdapterPlan | undefined {
  const { method, rank, alpha, rankStabilized, adapterDropout: dropout } = options;
  const modules = adaptedModules[method];
  if (!modules) return undefined;
  const magnitude = method === "dora";
  const beside = options.precision !== "float32";
  const targets = options.targetModules ?? modules;
  return { rank, alpha, rankStabilized, dropout, magnitude, beside, targetModules: targets };
}

const adapters = (student: ModelDefinition, { options }: MethodContext): Trainables => {
  const plan = adapterPlanOf(options);
  if (!plan) throw new Error(`the method ${options.method} has no adapters`);
  if (plan.magnitude && (plan.alpha !== undefined || plan.dropout)) {
    throw new UserError("dora takes neither alpha nor adapterDropout: its magnitudes scale each row already");
  }
  return adapterTrainables(student, plan, tokenCount(student.config), options.seed);
};

const backbone = (student: ModelDefinition): Trainables => weightTrainables(student, (name) => !isHead(name));
const nothing = (student: ModelDefinition): Trainables => weightTrainables(student, () => false);

export const methods: Readonly<Record<MethodName, Method>> = {
  wecolora: {
    summary: "weight copy, adapters on all six maps (the paper's method)",
    start: "weight-copy",
    trains: true,
    student: started,
    trainables: adapters,
    objective: features(l1),
  },
  refit: {
    summary: "kept blocks, their maps refitted in closed form; no steps",
    start: "analytic",
    trains: false,
    student: started,
    trainables: nothing,
    objective: features(l1),
  },
  lora: {
    summary: "weight copy, adapters on q and v alone",
    start: "weight-copy",
    trains: true,
    student: started,
    trainables: adapters,
    objective: features(l1),
  },
  dora: {
    summary: "weight copy, weight-decomposed adapters on all six maps",
    start: "weight-copy",
    trains: true,
    student: started,
    trainables: adapters,
    objective: features(l1),
  },
  "weco-kd": {
    summary: "weight copy, then all weights train",
    start: "weight-copy",
    trains: true,
    student: started,
    trainables: backbone,
    objective: features({ ...l1, norm: "after" }),
  },
  kd: {
    summary: "random weights, all train",
    start: "random",
    trains: true,
    student: started,
    trainables: backbone,
    objective: features({ ...l1, norm: "after" }),
  },
  "weight-copy": {
    summary: "weight copy alone",
    start: "weight-copy",
    trains: false,
    student: started,
    trainables: nothing,
    objective: features(l1),
  },
  "top-pruning": {
    summary: "the first blocks alone",
    start: "top-blocks",
    trains: false,
    student: started,
    trainables: nothing,
    objective: features(l1),
  },
  deit: {
    summary: "random weights and a distillation token; learns labels and the teacher's answers (arXiv 2012.12877)",
    start: "random",
    trains: true,
    needsLabels: true,
    student: (context, start) => deitStudent(started(context, start), context.options.seed),
    trainables: (student) => weightTrainables(student, (name) => !isHead(name) || name.startsWith("head")),
    objective: (student, { options }) => deitObjective(!options.softLabels, student.config.head?.classes ?? 0),
  },
  minivit: {
    summary: "maps shared by groups of blocks, small transformations a block (arXiv 2204.07154)",
    start: "weight-copy",
    trains: true,
    student: ({ teacher, options }, start) => {
      if (start !== "weight-copy") throw new UserError("minivit starts from the teacher's own blocks");
      if (options.keptBlocks) throw new UserError("minivit shares weights by reductionFactor; it takes no keptBlocks");
      return sharedStudent(teacher, options.reductionFactor ?? defaultReductionFactor);
    },
    trainables: backbone,
    objective: () => minivitObjective(),
  },
  dmae: {
    summary: "random weights; rebuilds hidden patches, with features near the teacher's (arXiv 2208.12256)",
    start: "random",
    trains: true,
    student: started,
    trainables: backbone,
    objective: (student, { options }) => dmaeObjective(student.config, options.maskRatio, options.seed),
  },
};
