// What a method minimises: a loss over teacher and student, with parameters and inputs of its own where it needs any.
import type { Value } from "../../engine/graph/graph.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { WeightLookup } from "../../models/vit.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import type { Shapes, StudentParts } from "../training/trainables.ts";

export interface ObjectiveContext {
  /** `[B, 3, H, W]`; none where the objective has `targets` and these and `student.embedded` come in instead. */
  readonly pixels: Value;
  readonly teacher: {
    readonly definition: ModelDefinition;
    readonly weight: WeightLookup;
    /** Output `[B, N, D]` of its block i - 1; 0 is what enters the first. */
    state(i: number): Value;
  };
  readonly student: {
    readonly definition: ModelDefinition;
    /** `[B, N, D]` that enters its first block. */
    readonly embedded: Value;
  } & StudentParts;
  /** Told the student's states, what enters its first block and what each gives, where gradients may do with these alone. */
  checkpoint(states: readonly Value[]): void;
  /** The objective's own parameters and inputs, by name. */
  readonly parameters: ReadonlyMap<string, Value>;
  readonly inputs: ReadonlyMap<string, Value>;
}

/** What a micro-batch brings besides pixels. */
export interface BatchFacts {
  readonly batch: number;
  /** Indices into the teacher's classes, one an image. */
  readonly labels?: readonly number[];
  readonly step: number;
  readonly part: number;
}

export interface Objective {
  /** Parameters that train beside the student and are dropped at the end (a decoder, say). */
  readonly shapes: Shapes;
  /** These parameters before training, in memory that nobody else has. */
  fresh(): Map<string, FloatTensor>;
  /** Inputs of the graph besides pixels and parameters. */
  inputs(batch: number): ReadonlyMap<string, Value>;
  /** Their numbers for a micro-batch. */
  feeds(facts: BatchFacts): Readonly<Record<string, Tensor>>;
  loss(context: ObjectiveContext): Value;
  /**
   * Which of the teacher's states the loss reads, where it reads nothing else of images, but through what enters the student's
   * first block.
   */
  readonly targets?: readonly number[];
}

/** An objective of features alone. */
export const withoutExtras: Omit<Objective, "loss"> = {
  shapes: new Map(),
  fresh: () => new Map(),
  inputs: () => new Map(),
  feeds: () => ({}),
};
