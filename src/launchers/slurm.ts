// Tasks as job arrays of Slurm, and the merge as a job behind them.
//
// An array holds at most MaxArraySize elements, so tasks are cut into arrays by thousands: element 42 of the array with the base
// 3000 is task 3042, and its log is 3000's digits before the element's, padded by Slurm itself (`%3a`). A task that fails is
// queued again by its own script, as is one that Slurm stops before its time is over (--signal): that one resumes.
// @see https://slurm.schedmd.com/job_array.html
// @see https://slurm.schedmd.com/sbatch.html
import { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import type { ProgramOutcome } from "../context/environment.ts";
import { counted } from "../utils/counted.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { shellWord } from "../utils/option-names.ts";
import { textChunks } from "../workspace/output-files.ts";
import type { Launch } from "../workspace/plan-folder.ts";
import { logEntry, mergeLogEntry } from "../workspace/plan-folder.ts";
import type { ActiveJobs, ActiveState, LaunchRequest } from "./launcher.ts";
import { absolutePath, defineLauncher, programsOf, rangesText } from "./launcher.ts";
import { commandWords, forwardingLines, stoppedCodes } from "./shell.ts";

/** Options of sbatch that the launcher sets itself. */
const reserved = new Set([
  ...["array", "chdir", "dependency", "error", "job-name", "open-mode", "output", "parsable", "requeue", "no-requeue"],
  ...["test-only", "wait", "wrap"],
]);

/** Seconds before a job's time is over at which it is stopped, so that it saves what can be resumed. */
const warningSeconds = 120;
/** A task that is stopped so often gets nowhere. */
const mostStops = 100;
/** The default of Slurm. */
const defaultArraySize = 1001;

const slurmOption = z
  .record(z.string().regex(/^[a-z][a-z0-9-]*$/), z.union([z.string(), z.number(), z.boolean()]))
  .describe("options of sbatch, such as partition=gpu,time=2:00:00,gres=gpu:1")
  .meta({ placeholder: "settings", note: "`setup=<commands>` runs these before each task." });

type SlurmOptions = z.output<typeof slurmOption>;

const slurmOf = (options: Readonly<Record<string, unknown>>): SlurmOptions => slurmOption.parse(options.slurm ?? {});

/** The user's options as sbatch takes them. */
function sbatchOptions(options: Readonly<Record<string, unknown>>): string[] {
  const { setup: _, ...asked } = slurmOf(options);
  const given = Object.entries(asked).flatMap(([name, value]) =>
    value === false ? [] : [value === true || value === "" ? `--${name}` : `--${name}=${value}`],
  );
  return "signal" in asked ? given : [...given, `--signal=B:TERM@${warningSeconds}`];
}

/** What Slurm's program printed. Throws a RunError with what it complained of. */
async function slurm(context: RunContext, program: string, args: readonly string[]): Promise<string> {
  const { code, out, err } = await programsOf(context).run(program, args);
  if (code !== 0) throw new RunError(`${program} failed: ${complaint({ code, out, err })}`);
  return out.trim();
}

const complaint = ({ code, err }: ProgramOutcome) =>
  err
    .split("\n")
    .map((line) => line.replace(/^\w+: (error: )?/, "").trim())
    .filter((line) => line !== "")
    .slice(-2)
    .join(" ") || `exit code ${code}`;

async function check(context: RunContext, options: Readonly<Record<string, unknown>>): Promise<void> {
  // sbatch takes any beginning of an option's name for it.
  const ours = Object.keys(slurmOf(options)).find((name) => [...reserved].some((each) => each.startsWith(name)));
  if (ours !== undefined)
    throw new UserError(`slurm (--slurm) can't set ${ours}: the launcher sets it itself.`, { code: "INVALID_OPTION" });
  const programs = programsOf(context);
  const tried = await programs
    .run("sbatch", ["--test-only", ...sbatchOptions(options), "--wrap=true"])
    .catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
      throw new UserError("Slurm's sbatch can't be run here. Start this command on a machine that submits jobs.", {
        code: "INVALID_OPTION",
        cause: error,
      });
    });
  if (tried.code !== 0)
    throw new UserError(`Slurm takes no job with these options (--slurm): ${complaint(tried)}`, {
      code: "INVALID_OPTION",
    });
}

/** Elements of an array: the largest power of ten that the cluster allows, so that logs are numbered by padding. */
export function arrayLength(configuration: string): number {
  const size = Number(/^MaxArraySize\s*=\s*(\d+)/m.exec(configuration)?.[1] ?? defaultArraySize);
  return 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, size))));
}

/** An array of tasks: elements that are added to the base. */
export interface TaskArray {
  readonly base: number;
  readonly elements: readonly number[];
}

/** Tasks as arrays of so many elements at most. */
export function taskArrays(tasks: readonly number[], length: number): TaskArray[] {
  const arrays = new Map<number, number[]>();
  for (const task of tasks) {
    const base = Math.floor(task / length) * length;
    arrays.set(base, [...(arrays.get(base) ?? []), task - base]);
  }
  return [...arrays].map(([base, elements]) => ({ base, elements }));
}

/** The log of each element, with Slurm's number of the element in it. */
export function logPattern(base: number, length: number): string {
  const digits = Math.round(Math.log10(length));
  const [folder, name] = logEntry(base).split("/");
  const number = name.replace(/\.txt$/, "");
  // An array of one element has no digits of its own.
  return `${folder}/${digits === 0 ? number : `${number.slice(0, -digits)}%${digits}a`}.txt`;
}

interface ScriptFacts {
  readonly self: readonly string[];
  readonly path: string;
  readonly logs: string;
  /** Where the command ran: what relative paths are counted from. */
  readonly folder: string;
  readonly setup: string;
  readonly ended: readonly string[];
  readonly retries: number;
}

const jobLines = ({ setup, ended, folder }: ScriptFacts, job: string): string[] => [
  `export WECOLORA_JOB=${job}`,
  'export WECOLORA_ATTEMPT="${SLURM_RESTART_COUNT:-0}"',
  `export WECOLORA_ENDED_JOBS=${shellWord(ended.map((id) => `slurm-${id}`).join(" "))}`,
  `cd ${shellWord(folder)} || exit 1`,
  ...(setup === "" ? [] : [setup]),
];

/** Queues a job again, unless it was cancelled: it is not running any more then. */
const requeueLines: readonly string[] = [
  "requeue() {",
  '  [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T 2>/dev/null)" = RUNNING ] || return',
  '  echo "# $1: queued again"',
  '  scontrol requeue "$SLURM_JOB_ID" >/dev/null && sleep 60',
  "}",
];

/** Says in its log that a job failed, and queues it again unless it has failed too often. */
const failureLines = ({ retries }: Pick<ScriptFacts, "retries">): readonly string[] => [
  'echo "# failed with exit code $code ($WECOLORA_JOB)"',
  `[ "$(grep -c "^# failed .*($WECOLORA_JOB)" "$log")" -gt ${retries} ] || requeue "failed"`,
];

/** The script of an array; its first argument is the base. */
export function taskScript(facts: ScriptFacts): string {
  const words = commandWords(facts.self, ["task", "--plan", facts.path, "--index"]);
  return [
    "#!/usr/bin/env bash",
    "# Made by wecolora: an element of a job array runs a task of a plan.",
    "index=$(($1 + SLURM_ARRAY_TASK_ID))",
    `log=${shellWord(facts.logs)}/$(printf %06d "$index").txt`,
    ...jobLines(facts, '"slurm-${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"'),
    'echo "# task $index: job $WECOLORA_JOB on $(hostname), attempt $WECOLORA_ATTEMPT, $(date +%FT%T)"',
    ...forwardingLines([...words, '"$index"']),
    ...requeueLines,
    'case "$code" in',
    "  0) ;;",
    `  ${stoppedCodes.join(" | ")}) [ "$WECOLORA_ATTEMPT" -ge ${mostStops} ] || requeue "stopped, and saved what can be resumed" ;;`,
    "  *)",
    ...failureLines(facts).map((line) => `    ${line}`),
    "    ;;",
    "esac",
    'exit "$code"',
    "",
  ].join("\n");
}

/** The script of the merge. It begins anew where it was stopped or has failed, so both count as failures. */
export const mergeScript = (facts: ScriptFacts): string =>
  [
    "#!/usr/bin/env bash",
    "# Made by wecolora: joins what the tasks of a plan left.",
    `log=${shellWord(`${facts.logs}/merge.txt`)}`,
    ...jobLines(facts, '"slurm-$SLURM_JOB_ID"'),
    'echo "# merge: job $WECOLORA_JOB on $(hostname), attempt $WECOLORA_ATTEMPT, $(date +%FT%T)"',
    ...forwardingLines(commandWords(facts.self, ["merge", "--plan", facts.path])),
    ...requeueLines,
    'if [ "$code" -ne 0 ]; then',
    ...failureLines(facts).map((line) => `  ${line}`),
    "fi",
    'exit "$code"',
    "",
  ].join("\n");

/** Writes the scripts, and empty logs, so that these files are the plan's own. */
async function writeFiles(request: LaunchRequest, facts: ScriptFacts): Promise<void> {
  const { directory } = request.folder;
  await directory.write("slurm/task.sh", textChunks(taskScript(facts)));
  await directory.write("slurm/merge.sh", textChunks(mergeScript(facts)));
  for (const index of request.missing) await directory.append(logEntry(index), "");
  await directory.append(mergeLogEntry, "");
}

async function submit(context: RunContext, request: LaunchRequest) {
  const { opened, missing, maxParallel, options } = request;
  const { self, folder } = programsOf(context);
  const path = absolutePath(folder, opened.path);
  const setup = String(slurmOf(options).setup ?? "");
  const { ended, retries } = request;
  await writeFiles(request, { self, path, logs: `${path}/logs`, folder, setup, ended, retries });
  const length = arrayLength(await slurm(context, "scontrol", ["show", "config"]));
  // Logs are named from the plan's folder: in a whole path Slurm would read each % as its own.
  const common = ["--parsable", `--chdir=${path}`, "--open-mode=append", ...sbatchOptions(options)];
  const jobs: string[] = [];
  const queue = async (name: string, log: string, ...rest: string[]) => {
    const jobFlags = [`--job-name=${opened.plan.command}-${name}`, `--output=${log}`];
    jobs.push(idOf(await slurm(context, "sbatch", [...common, ...jobFlags, ...rest])));
  };
  try {
    for (const { base, elements } of taskArrays(missing, length)) {
      // So many at once hold over all arrays: each waits for the one before.
      const before = maxParallel !== undefined && jobs.length > 0 ? [`--dependency=afterany:${jobs.at(-1)}`] : [];
      const array = `--array=${rangesText(elements)}${maxParallel === undefined ? "" : `%${maxParallel}`}`;
      const script = [`${path}/slurm/task.sh`, String(base)];
      await queue(String(base), logPattern(base, length), array, "--requeue", ...before, ...script);
    }
    const after = jobs.length > 0 ? [`--dependency=afterok:${jobs.join(":")}`, "--kill-on-invalid-dep=yes"] : [];
    await queue("merge", mergeLogEntry, "--requeue", ...after, `${path}/slurm/merge.sh`);
  } catch (error) {
    // Nothing is left in the queue that the plan does not know.
    if (jobs.length > 0) await slurm(context, "scancel", jobs);
    throw error;
  }
  return { jobs, notes: [`Jobs of Slurm: ${jobs.slice(0, -1).join(", ") || "none"}; the merge: ${jobs.at(-1)}.`] };
}

/** A job's number, which a cluster's name may follow. */
const idOf = (printed: string) => printed.split(";")[0];

/** Jobs by what `squeue` prints of each: its name with the base of an array, its number in the array, its state. */
export function activeJobs(printed: string): ActiveJobs {
  const tasks = new Map<number, ActiveState>();
  let merge: ActiveState | undefined;
  for (const line of printed.split("\n")) {
    const [name = "", element = "", state = ""] = line.trim().split("|");
    const waits = ["PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"].includes(state);
    const [, base] = /-(\d+)$/.exec(name) ?? [];
    if (name.endsWith("-merge")) merge = waits ? "waiting" : "running";
    else if (base !== undefined && /^\d+$/.test(element))
      tasks.set(Number(base) + Number(element), waits ? "waiting" : "running");
  }
  return { tasks, ...(merge === undefined ? {} : { merge }) };
}

async function queuedJobs(context: RunContext, { jobs }: Launch): Promise<ActiveJobs> {
  if (jobs.length === 0) return { tasks: new Map() };
  const args = ["--noheader", "--array", `--jobs=${jobs.join(",")}`, "--format=%j|%K|%T"];
  const { code, out, err } = await programsOf(context).run("squeue", args);
  // A job that ended a while ago is not known any more.
  if (code !== 0 && !/Invalid job id/i.test(err)) throw new RunError(`squeue failed: ${err.trim()}`);
  return activeJobs(out);
}

export const launcher = defineLauncher({
  name: "slurm",
  summary: "job arrays of Slurm, and the merge as a job behind them",
  options: { slurm: slurmOption.optional() },
  check,
  submit,
  active: (context, _, launch) => queuedJobs(context, launch),
  async cancel(context, { path }, launch) {
    const { tasks, merge } = await queuedJobs(context, launch);
    if (tasks.size === 0 && merge === undefined) return `No jobs of ${path} wait or run.`;
    await slurm(context, "scancel", launch.jobs);
    const what = [
      ...(tasks.size > 0 ? [counted(tasks.size, "task")] : []),
      ...(merge === undefined ? [] : ["the merge"]),
    ].join(" and ");
    return `Cancelled ${what} of ${path}. Finished tasks keep their results.`;
  },
});
