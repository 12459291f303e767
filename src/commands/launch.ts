// A command's work in this process, or as tasks that a launcher runs.
import type { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import type { LaunchRequest } from "../launchers/launcher.ts";
import { launcherHelp, launchOptionNames } from "../launchers/launch-options.ts";
import { launcherOf } from "../launchers/lookup.ts";
import { counted } from "../utils/counted.ts";
import { UserError } from "../utils/errors.ts";
import { shellWord } from "../utils/option-names.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import type { OpenedPlan } from "../workspace/plan-folder.ts";
import { findPlan, missingTasks, planFolderOf, readLaunch, writeLaunch } from "../workspace/plan-folder.ts";
import type { Command } from "./command.ts";
import { defineCommand } from "./command.ts";
import type { Division } from "./division.ts";
import { divisionOptions, runWhole } from "./division.ts";
import { makePlan, performMerge } from "./planned-tasks.ts";

/** Work that was handed over to a scheduler. */
export interface Launched {
  readonly launched: true;
  readonly launcher: string;
  /** The plan's folder. */
  readonly plan: string;
  /** Where the result will be. */
  readonly out: string;
  readonly tasks: number;
  /** Tasks that are not finished yet. */
  readonly missing: readonly number[];
  readonly jobs: readonly string[];
  readonly notes: readonly string[];
}

export const isLaunched = (result: object): result is Launched => "launched" in result;

export const launchedText = ({ tasks, missing, plan, jobs, notes, out }: Launched): string =>
  [
    missing.length > 0
      ? `${missing.length} of ${counted(tasks, "task")} ${missing.length === 1 ? "is" : "are"} to be run (plan: ${plan}).`
      : `All tasks of ${plan} are finished; only the merge is to be run.`,
    ...notes,
    ...(jobs.length > 0 ? [`Look at them with: wecolora status ${shellWord(out)}`] : []),
  ].join("\n");

/** Options without those that say who runs the work, for records of what was done. */
export const withoutLaunch = (options: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(options).filter(([name]) => !launchOptionNames.includes(name)));

interface LaunchSettings {
  readonly launcher?: string;
  readonly tasks?: number;
  readonly maxParallel?: number;
  readonly retries: number;
}

/**
 * Runs a command's work. Without a launcher and a number of tasks it is planned, run and merged in this process. Throws a
 * UserError on options and inputs that don't fit, before anything is written or queued.
 */
export async function runDivided<Schema extends z.ZodObject, Unit, Part, Result extends object>(
  context: RunContext,
  division: Division<Schema, Unit, Part, Result>,
  input: z.input<Schema>,
): Promise<Result | Launched> {
  const options = divisionOptions(division, input, `options of ${division.name}`);
  const settings = options as LaunchSettings & z.output<Schema>;
  if (settings.launcher === undefined && settings.tasks === undefined) return runWhole(division, context, options);
  const launcher = launcherOf(settings.launcher ?? "local");
  await launcher.check(context, options);
  await checkIdle(context, division.out(options));
  // Where no number is asked for: a task for each that may run at the same time.
  const tasks = settings.tasks ?? settings.maxParallel ?? 1;
  let launched: Launched | undefined;
  let start: (() => Promise<void>) | undefined;
  const opened = await makePlan(
    context,
    division,
    options,
    { tasks, options: withoutLaunch(options) },
    async (plan, folder) => {
      const request = await requestFor(context, plan, folder, settings);
      const { missing } = request;
      const { jobs, notes } =
        missing.length > 0 || !launcher.run ? await launcher.submit(context, request) : nothingDone;
      await writeLaunch(folder.directory, {
        ...{ launcher: launcher.name, jobs, ended: request.ended, tasks: missing },
        ...{ maxParallel: settings.maxParallel, cancelled: false },
      });
      const facts = { launcher: launcher.name, plan: plan.path, out: plan.plan.out, tasks: plan.plan.tasks };
      launched = { launched: true, ...facts, missing, jobs, notes };
      if (launcher.run && missing.length > 0) start = () => launcher.run?.(context, request) ?? Promise.resolve();
    },
  );
  if (launched && !launcher.run) return launched;
  await start?.();
  return performMerge(context, division, opened);
}

/** The command of a division: in this process, or as tasks where its options say so. Help lists the launchers. */
export const divisibleCommand = <Schema extends z.ZodObject, Unit, Part, Result extends object>(
  division: Division<Schema, Unit, Part, Result>,
  summary: string,
  more: Pick<Command<Schema>, "positional" | "recipes"> = {},
): Command<Schema, Result | Launched> =>
  defineCommand({
    ...more,
    name: division.name,
    summary,
    schema: division.schema,
    run: (context, input) => runDivided(context, division, input),
    details: () => `Launchers:\n${launcherHelp()}`,
    text: (result) => (isLaunched(result) ? launchedText(result) : division.text(result)),
  });

const nothingDone = { jobs: [], notes: [] };

/** Throws a UserError where tasks of an earlier launch still wait or run: the plan is not changed under them. */
async function checkIdle(context: RunContext, out: string | undefined): Promise<void> {
  const opened = out === undefined ? undefined : await findPlan(context, planFolderOf(out));
  const before = opened && (await readLaunch(opened));
  if (!opened || !before) return;
  const active = await launcherOf(before.launcher).active?.(context, opened, before);
  const tasks = active?.tasks.size ?? 0;
  if (tasks > 0 || active?.merge !== undefined)
    throw new UserError(
      `${tasks > 0 ? counted(tasks, "task") : "The merge"} of ${opened.path} still ${tasks > 1 ? "wait or run" : "waits or runs"} (${before.launcher}). Wait for the end, or end this first with: wecolora cancel ${shellWord(out ?? "")}`,
      { code: "OUTPUT_IN_USE" },
    );
}

/** What the launcher is to run: what is missing. */
async function requestFor(
  context: RunContext,
  opened: OpenedPlan,
  folder: OutputFolder,
  { maxParallel, retries, ...options }: LaunchSettings & Readonly<Record<string, unknown>>,
): Promise<LaunchRequest> {
  const before = await readLaunch(opened);
  const missing = await missingTasks(context, opened);
  const ended = before ? [...before.ended, ...before.jobs] : [];
  return { opened, folder, missing, retries, ended, options, ...(maxParallel === undefined ? {} : { maxParallel }) };
}
