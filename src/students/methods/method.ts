// What a method is: how the student starts, what trains, and what is minimised. One file a method; `npm run generate`
// lists them. All share one step and one loop.
import type { z } from "zod";
import type { ModelDefinition } from "../../models/definition.ts";
import type { OptionShape } from "../../utils/option-shapes.ts";
import type { Model } from "../../models/model.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { BaseOptions, StartName } from "../base-options.ts";
import type { Widths } from "../closed-form/narrowing.ts";
import type { AdapterPlan } from "../training/adapters.ts";
import type { Trainables } from "../training/trainables.ts";
import type { Objective } from "./objective.ts";

export type { OptionShape } from "../../utils/option-shapes.ts";

/** Everything a method can be asked for: the options that all share, and its own. */
export type MethodOptions<Own extends OptionShape> = BaseOptions & z.output<z.ZodObject<Own>>;

export interface MethodContext<Own extends OptionShape = OptionShape> {
  readonly teacher: ModelDefinition;
  /** The teacher's blocks that the student's stand for. */
  readonly kept: readonly number[];
  readonly options: MethodOptions<Own>;
}

/** What a method that prunes makes a student of. */
export interface PruneContext<Own extends OptionShape = OptionShape> {
  readonly teacher: Model;
  /** The teacher's blocks that stay. */
  readonly kept: readonly number[];
  /** What each of them keeps, as counts, where that is less than all (students/search/shape.ts). */
  readonly widths: Widths;
  readonly options: Pick<BaseOptions, "seed"> & z.output<z.ZodObject<Own>>;
  /** Normalised images `[B, 3, H, W]`, batch by batch; each call goes through all of them anew. */
  images(): AsyncIterable<FloatTensor>;
  progress(done: number, total: number): void;
  /** Stops the run. The device and `images` check it by themselves; loops that use neither for long check it too. */
  readonly signal: AbortSignal;
}

export interface Method<Own extends OptionShape = OptionShape, Name extends string = string> {
  /** What `--method` takes. */
  readonly name: Name;
  readonly summary: string;
  /** The method's own options. */
  readonly options: Own;
  /** How its student starts, unless `start` says otherwise; `pruned` is by `prune`, and nothing else. */
  readonly start: StartName | "pruned";
  /** Whether there is anything to train. */
  readonly trains: boolean;
  /** Whether images need classes, by the teacher's names. */
  readonly needsLabels?: boolean;
  /** Where its adapters sit; left out by methods without any. */
  adapters?(options: MethodOptions<Own>): AdapterPlan;
  /** Changes the student that the start has made. Throws a UserError where the teacher has no place for it. */
  student?(started: ModelDefinition, context: MethodContext<Own>): ModelDefinition;
  /** The student whose blocks have these widths, for methods that start `pruned`. Throws a UserError where the teacher allows none. */
  prune?(context: PruneContext<Own>): Promise<ModelDefinition>;
  trainables(student: ModelDefinition, context: MethodContext<Own>): Trainables;
  objective(student: ModelDefinition, context: MethodContext<Own>): Objective;
}

/** Keeps the types of a method's options; see Method. */
export const defineMethod = <const Own extends OptionShape, const Name extends string>(
  method: Method<Own, Name>,
): Method<Own, Name> => method;
