// What trains: parameters by name, and how the student's maps and weights are made of them.
import type { Value } from "../../engine/graph/graph.ts";
import type { LinearMap, WeightLookup } from "../../models/vit.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";

export type Shapes = ReadonlyMap<string, readonly number[]>;

/** Numbers that a graph takes anew for each micro-batch (random masks, labels), and where they come from. */
export interface Draws {
  readonly inputs: ReadonlyMap<string, Value>;
  /** The numbers of a micro-batch: `step` counts from 0, `part` the micro-batches in it. */
  feeds(step: number, part: number): Readonly<Record<string, Tensor>>;
}

export const noDraws: Draws = { inputs: new Map(), feeds: () => ({}) };

/** How the forward pass of a student in training differs from the plain one. */
export interface StudentParts {
  readonly weight: WeightLookup;
  readonly map?: LinearMap;
}

/** A parameterization of the student: adapters, all weights, or nothing. */
export interface Trainables {
  readonly shapes: Shapes;
  /** Of these the low-rank matrices that tokens go through beside frozen maps: 8-bit products may take them. */
  readonly lowRank: readonly string[];
  /** The parameters before training, in memory that nobody else has. */
  fresh(): Map<string, FloatTensor>;
  /** Random numbers of the training graph, for micro-batches of `batch` images. */
  draws(batch: number): Draws;
  /** The student with its parameters; `draws` are given while training only. */
  apply(parameters: ReadonlyMap<string, Value>, draws?: Draws): StudentParts;
  /** The student's weights that differ from its start, by timm's names, as values of the parameters. */
  fold(parameters: ReadonlyMap<string, Value>): Map<string, Value>;
}
