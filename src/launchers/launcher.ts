// Who runs the tasks of a plan: this machine, or a cluster's scheduler. One file a launcher; `npm run generate` lists them.
import type { RunContext } from "../context/run-context.ts";
import type { Programs } from "../context/environment.ts";
import { UserError } from "../utils/errors.ts";
import type { OptionShape } from "../utils/option-shapes.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import type { Launch, OpenedPlan } from "../workspace/plan-folder.ts";

/** What to run. */
export interface LaunchRequest {
  readonly opened: OpenedPlan;
  /** The plan's folder, for scripts and logs. It is given back before `run`. */
  readonly folder: OutputFolder;
  /** Tasks that are not finished, in order. */
  readonly missing: readonly number[];
  /** Tasks at the same time; as many as the launcher thinks best where left out. */
  readonly maxParallel?: number;
  /** How often a task that fails is run again. */
  readonly retries: number;
  /** Jobs of earlier launches, none of which runs any more. */
  readonly ended: readonly string[];
  /** All of the command's options, the launcher's own among them. */
  readonly options: Readonly<Record<string, unknown>>;
}

export interface LaunchOutcome {
  /** Jobs by the scheduler's names, the merge's last. */
  readonly jobs: readonly string[];
  /** What was done, and what to do now: lines for people. */
  readonly notes: readonly string[];
}

/** What a scheduler says of a task that is not finished. */
export type ActiveState = "waiting" | "running";

/** What a scheduler still has of a plan. */
export interface ActiveJobs {
  readonly tasks: ReadonlyMap<number, ActiveState>;
  /** Left out where it neither waits nor runs, and where the launcher can't tell. */
  readonly merge?: ActiveState;
}

export interface Launcher<Own extends OptionShape = OptionShape, Name extends string = string> {
  readonly name: Name;
  /** A noun phrase for help. */
  readonly summary: string;
  /** Its own options, as the commands take them. */
  readonly options: Own;
  /** Throws a UserError on options that don't fit, and where the scheduler is not there: before anything is opened. */
  check(context: RunContext, options: Readonly<Record<string, unknown>>): Promise<void>;
  /** Writes what the scheduler reads, and hands the tasks over. */
  submit(context: RunContext, request: LaunchRequest): Promise<LaunchOutcome>;
  /**
   * Runs the tasks here, until all have ended; then the caller merges. Left out where a scheduler runs them. Throws a RunError
   * that names failed tasks and their logs.
   */
  run?(context: RunContext, request: LaunchRequest): Promise<void>;
  /** What waits or runs. Undefined where the launcher can't tell. */
  active?(context: RunContext, opened: OpenedPlan, launch: Launch): Promise<ActiveJobs | undefined>;
  /** Ends what waits or runs; says what was done. */
  cancel(context: RunContext, opened: OpenedPlan, launch: Launch): Promise<string>;
}

/** Keeps a launcher's types; see Launcher. */
export const defineLauncher = <const Own extends OptionShape, const Name extends string>(
  launcher: Launcher<Own, Name>,
): Launcher<Own, Name> => launcher;

/** What starts programs. Throws a UserError where the platform can't. */
export function programsOf({ environment }: RunContext): Programs {
  const { programs } = environment;
  if (programs) return programs;
  throw new UserError("Tasks can't be launched here: no programs can be started. Use wecolora on Node.", {
    code: "INVALID_OPTION",
  });
}

/** A path that holds from any working folder. */
export const absolutePath = (folder: string, path: string): string =>
  /^([\\/]|[A-Za-z]:[\\/])/.test(path) ? path : `${folder.replace(/[\\/]$/, "")}/${path}`;

/** Numbers as ranges: `0-3,7`. */
export function rangesText(numbers: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last?.[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([from, to]) => (from === to ? String(from) : `${from}-${to}`)).join(",");
}
