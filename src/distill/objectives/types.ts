// What a method minimises: a loss over teacher and student, with parameters and inputs of its own where it needs any.
import type { Value } from "../../graph/types.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { WeightLookup } from "../../models/vit.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import type { Shapes, StudentParts } from "../trainables.ts";

export interface ObjectiveContext {
  /** `[B, 3, H, W]` */
  readonly pixels: Value;
  readonly teacher: { readonly definition: ModelDefinition; readonly weight: WeightLookup };
  readonly student: { readonly definition: ModelDefinition } & StudentParts;
  /** The objective's own parameters and inputs, by name. */
  readonly parameters: ReadonlyMap<string, Value>;
  readonly inputs: ReadonlyMap<string, Value>;
}

/** What a micro-batch brings besides pixels. */
export interface BatchFacts {
  readonly batch: number;
  /** Indices into the teacher's classes, one a picture. */
  readonly labels?: readonly number[];
  readonly step: number;
  readonly part: number;
}

export interface Objective {
  /** Parameters that train beside the student and are dropped at the end (a decoder, say). */
  readonly shapes: Shapes;
  fresh(): Map<string, FloatTensor>;
  /** Inputs of the graph besides pixels and parameters. */
  inputs(batch: number): ReadonlyMap<string, Value>;
  /** Their numbers for a micro-batch. */
  feeds(facts: BatchFacts): Readonly<Record<string, Tensor>>;
  loss(context: ObjectiveContext): Value;
}

/** An objective of features alone. */
export const withoutExtras: Omit<Objective, "loss"> = {
  shapes: new Map(),
  fresh: () => new Map(),
  inputs: () => new Map(),
  feeds: () => ({}),
};
