// `wecolora status`: which tasks of an output wait, run, are done or failed.
import { z } from "zod";
import { pathOption } from "../context/common-options.ts";
import { lockEntry } from "../context/outputs.ts";
import type { RunContext } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import type { ActiveJobs, ActiveState } from "../launchers/launcher.ts";
import { launcherOf } from "../launchers/lookup.ts";
import { textTable } from "../report/table.ts";
import { mapInBatches } from "../utils/arrays.ts";
import { counted } from "../utils/counted.ts";
import { pause } from "../utils/pause.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { OutputFolder } from "../workspace/output-folder.ts";
import type { Launch, OpenedPlan } from "../workspace/plan-folder.ts";
import { logEntry, mergeLogEntry, readLaunch, readPart, readPlan, taskEntry } from "../workspace/plan-folder.ts";
import { defineCommand } from "./command.ts";
import { durationText } from "../utils/duration.ts";

/** `wecolora status` */
export const statusRunSchema = z.strictObject({
  out: pathOption.describe("the output whose tasks are looked at, or the folder of its plan"),
  watch: z.boolean().default(false).describe("show changes until nothing waits or runs"),
});

export type StatusRunInput = z.input<typeof statusRunSchema>;

const states = ["waiting", "running", "done", "failed", "cancelled"] as const;
type TaskState = (typeof states)[number];

export interface TaskStatus {
  readonly index: number;
  readonly state: TaskState;
  /** Of finished tasks. */
  readonly seconds?: number;
  /** The last line that it printed. */
  readonly line?: string;
}

export interface StatusRunResult {
  readonly plan: string;
  readonly command: string;
  readonly launcher?: string;
  readonly tasks: readonly TaskStatus[];
  /** Seconds until all tasks are done, from the time that finished ones took; undefined while none is finished. */
  readonly secondsLeft?: number;
  readonly merged: boolean;
  /** Whether the merge waits or runs, where the scheduler says so. */
  readonly merge?: ActiveState;
  /** Whether the tasks were cancelled: what waits is not run. */
  readonly cancelled: boolean;
  /** The last line of the merge's log. */
  readonly mergeLine?: string;
}

/** The last bytes of a log that are looked at. */
const logTail = 4096;

async function lastLine(directory: Directory, entry: string): Promise<string | undefined> {
  const file = await directory.open(entry);
  if (!file) return undefined;
  try {
    const bytes = new Uint8Array(Math.min(file.size, logTail));
    await file.readInto(file.size - bytes.length, bytes);
    return new TextDecoder()
      .decode(bytes)
      .split(/[\r\n]+/)
      .map((line) => line.trim())
      .filter((line) => line !== "")
      .at(-1);
  } finally {
    await file.close();
  }
}

/** A task's state: what its folder says, else what the launcher does, else its log. */
async function taskStatus(
  context: RunContext,
  opened: OpenedPlan,
  index: number,
  active: ReadonlyMap<number, ActiveState> | undefined,
  cancelled: boolean,
): Promise<TaskStatus> {
  const done = await readPart(context, opened, index);
  const line = await lastLine(opened.directory, logEntry(index));
  const shown = line === undefined ? {} : { line };
  if (done) return { index, state: "done", seconds: done.part.seconds, ...shown };
  const names = await context.environment.directory(`${opened.path}/${taskEntry(index)}`).list();
  const state = active?.get(index) ?? (!active && names.includes(lockEntry) ? "running" : undefined);
  // Nobody runs it: where it printed something it has ended without a result.
  const ended = line === undefined ? "waiting" : "failed";
  return {
    index,
    state: state ?? (cancelled && line?.startsWith("# failed") !== true ? "cancelled" : ended),
    ...shown,
  };
}

/** Seconds for tasks that are not done, at the mean time of those that are. */
function secondsLeft(tasks: readonly TaskStatus[], launch: Launch | undefined): number | undefined {
  const times = tasks.flatMap(({ seconds }) => seconds ?? []);
  const waiting = tasks.filter(({ state }) => state !== "done").length;
  if (times.length === 0) return undefined;
  const mean = times.reduce((sum, seconds) => sum + seconds, 0) / times.length;
  const running = tasks.filter(({ state }) => state === "running").length;
  const lanes = Math.max(1, running, Math.min(launch?.maxParallel ?? 0, waiting));
  return Math.ceil(waiting / lanes) * mean;
}

/** What the launcher says; undefined, with a warning, where the scheduler can't be asked: the folders still say what is done. */
async function activeJobs(context: RunContext, opened: OpenedPlan, launch: Launch): Promise<ActiveJobs | undefined> {
  try {
    return await launcherOf(launch.launcher).active?.(context, opened, launch);
  } catch (error) {
    if (!(error instanceof UserError || error instanceof RunError)) throw error;
    context.listener.warn?.(`The scheduler can't be asked what waits and runs: ${error.message}`);
    return undefined;
  }
}

async function statusOf(context: RunContext, opened: OpenedPlan): Promise<StatusRunResult> {
  const launch = await readLaunch(opened);
  const active = launch && (await activeJobs(context, opened, launch));
  const cancelled = launch?.cancelled ?? false;
  const indices = Array.from({ length: opened.plan.tasks }, (_, index) => index);
  const tasks = await mapInBatches(indices, (index) => taskStatus(context, opened, index, active?.tasks, cancelled));
  const remaining = secondsLeft(tasks, launch);
  const mergeLine = await lastLine(opened.directory, mergeLogEntry);
  return {
    plan: opened.path,
    command: opened.plan.command,
    ...(launch ? { launcher: launch.launcher } : {}),
    tasks,
    ...(remaining === undefined ? {} : { secondsLeft: remaining }),
    cancelled,
    ...(active?.merge === undefined ? {} : { merge: active.merge }),
    merged: (await OutputFolder.open(opened.directory, "plan")).isFinished,
    ...(mergeLine === undefined ? {} : { mergeLine }),
  };
}

const countOf = (tasks: readonly TaskStatus[], wanted: TaskState) =>
  tasks.filter(({ state }) => state === wanted).length;
const countsText = (tasks: readonly TaskStatus[]) =>
  states
    .filter((state) => state !== "cancelled" || countOf(tasks, state) > 0)
    .map((state) => `${countOf(tasks, state)} ${state}`)
    .join(", ");

/** Whether anything waits or runs. */
const isOpen = ({ tasks, merge }: StatusRunResult): boolean =>
  merge !== undefined || tasks.some(({ state }) => state === "waiting" || state === "running");

/** Milliseconds between two looks. */
const lookEvery = 2000;

/** Where the tasks of a plan stand. */
export async function runStatus(context: RunContext, input: StatusRunInput): Promise<StatusRunResult> {
  const { out, watch } = parseOptions(statusRunSchema, input, "options of status");
  const opened = await readPlan(context, out);
  let seen = await statusOf(context, opened);
  if (!watch || !isOpen(seen)) return seen;
  context.listener.stage?.("tasks", opened.plan.tasks);
  const show = () => context.listener.progress?.(countOf(seen.tasks, "done"), countsText(seen.tasks));
  for (show(); isOpen(seen); show()) {
    await pause(lookEvery, context.signal);
    seen = await statusOf(context, opened);
  }
  return seen;
}

/** Rows that are shown of each state. */
const mostRows = 20;

/** What became of the merge. */
function mergeText({ merged, merge, mergeLine }: StatusRunResult): string {
  if (merge !== undefined) return merge === "waiting" ? "the merge waits for the tasks" : "merging";
  if (merged) return "merged";
  return `not merged yet${mergeLine === undefined ? "" : `: ${mergeLine}`}`;
}

function statusText(status: StatusRunResult): string {
  const { tasks, plan, secondsLeft: remaining, command, launcher, cancelled } = status;
  const rows = states
    .flatMap((state) => tasks.filter((task) => task.state === state).slice(0, state === "done" ? 3 : mostRows))
    .sort((a, b) => a.index - b.index)
    .map(({ index, state, seconds, line = "" }) => [
      String(index),
      state,
      seconds === undefined ? "" : durationText(seconds),
      line.length > 80 ? `${line.slice(0, 79)}…` : line,
    ]);
  const columns = ["task", "state", "time", "last line of its log"].map((title, i) => ({
    title,
    align: i === 0 || i === 2 ? ("right" as const) : ("left" as const),
  }));
  const open = countOf(tasks, "done") < tasks.length;
  return [
    `${command}, ${counted(tasks.length, "task")} (${launcher ?? "not launched"}${cancelled ? ", cancelled" : ""}): ${countsText(tasks)}`,
    ...(open && remaining !== undefined ? [`about ${durationText(remaining)} left`] : []),
    textTable(columns, rows),
    ...(rows.length < tasks.length ? [`(${rows.length} of ${tasks.length} tasks are shown; --json shows all)`] : []),
    mergeText(status),
    plan,
  ].join("\n");
}

export const command = defineCommand({
  name: "status",
  summary: "Show which tasks of an output wait, run, are done or failed.",
  schema: statusRunSchema,
  positional: ["out"],
  run: runStatus,
  text: statusText,
});
