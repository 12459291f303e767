// What a method is: how the student starts, what trains, and what is minimised. One file a method; `npm run generate`
// lists them. All share one step and one loop.
import type { z } from "zod";
import type { ModelDefinition } from "../../models/definition.ts";
import type { OptionShape } from "../../utils/option-shapes.ts";
import type { BaseOptions, StartName } from "../base-options.ts";
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

export interface Method<Own extends OptionShape = OptionShape, Name extends string = string> {
  /** What `--method` takes. */
  readonly name: Name;
  readonly summary: string;
  /** The method's own options. */
  readonly options: Own;
  /** How its student starts, unless `start` says otherwise. */
  readonly start: StartName;
  /** Whether there is anything to train. */
  readonly trains: boolean;
  /** Whether images need classes, by the teacher's names. */
  readonly needsLabels?: boolean;
  /** Where its adapters sit; left out by methods without any. */
  adapters?(options: MethodOptions<Own>): AdapterPlan;
  /** Changes the student that the start has made. Throws a UserError where the teacher has no place for it. */
  student?(started: ModelDefinition, context: MethodContext<Own>): ModelDefinition;
  trainables(student: ModelDefinition, context: MethodContext<Own>): Trainables;
  objective(student: ModelDefinition, context: MethodContext<Own>): Objective;
}

/** Keeps the types of a method's options; see Method. */
export const defineMethod = <const Own extends OptionShape, const Name extends string>(
  method: Method<Own, Name>,
): Method<Own, Name> => method;
