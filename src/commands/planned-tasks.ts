// Making a plan, running one of its tasks, and merging what they left.
import type { z } from "zod";
import { readSafetensors, writeSafetensors } from "../checkpoints/safetensors-file.ts";
import type { RunContext } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import { readFile } from "../files/storage.ts";
import { counted } from "../utils/counted.ts";
import { sha256 } from "../utils/digest.ts";
import { OptionError, UserError } from "../utils/errors.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { textChunks } from "../workspace/output-files.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import { withOutput } from "../workspace/output-folder.ts";
import type { FinishedPart, HashedInput, OpenedPlan, Plan, StoredPart, TaskMachine } from "../workspace/plan-folder.ts";
import {
  findPlan,
  finishedParts,
  logEntry,
  longestList,
  partEntry,
  partFormat,
  planFolderOf,
  readPart,
  readUnits,
  taskEntry,
  tensorsEntry,
  unitsEntry,
  valueEntry,
  writePlan,
} from "../workspace/plan-folder.ts";
import { namingFile, parseJson } from "../workspace/versioned.ts";
import type { Division, StoredValue, Work } from "./division.ts";
import { divisionOptions } from "./division.ts";

/** The units of each task: of 10 units, 3 tasks get 3, 3 and 4. */
export function cut<T>(units: readonly T[], tasks: number): T[][] {
  const start = (task: number) => Math.floor((task * units.length) / tasks);
  return Array.from({ length: tasks }, (_, task) => units.slice(start(task), start(task + 1)));
}

export interface PlanRequest {
  readonly tasks: number;
  /** The options that decide the result. */
  readonly options: Record<string, unknown>;
}

/**
 * Opens the inputs, settles what is decided once, and writes the plan. What finished tasks of an earlier plan left is kept where
 * it follows from the same inputs and options. Throws a UserError on inputs that don't fit, before anything is written.
 */
export async function makePlan<Schema extends z.ZodObject, Unit, Part, Result>(
  context: RunContext,
  division: Division<Schema, Unit, Part, Result>,
  options: z.output<Schema>,
  { tasks, options: deciding }: PlanRequest,
  use: (opened: OpenedPlan, output: OutputFolder) => Promise<void>,
): Promise<OpenedPlan> {
  const { environment, listener } = context;
  const out = division.out(options);
  if (out === undefined)
    throw new OptionError([(name) => `${division.name} needs ${name("out")} where its work is cut into tasks.`]);
  return division.within(context, options, async (output) => {
    const work = await division.open(context, options);
    try {
      listener.stage?.("planning");
      const path = planFolderOf(out);
      const before = (await findPlan(context, path))?.plan;
      const units = await work.units(true, isOfSame(before, division.name, deciding) ? before : undefined);
      if (units.length < tasks)
        listener.info?.(
          `The work has ${counted(units.length, "part")}, so there ${units.length === 1 ? "is" : "are"} ${counted(units.length, "task")}, not ${tasks}.`,
        );
      return await withOutput(context, { path, kind: "plan", inputs: [] }, async (folder) => {
        const about = { division, options: deciding, out, tasks: Math.min(tasks, units.length) };
        const plan = await writeShards(context, folder, work, units, about);
        const opened = { plan, path, directory: environment.directory(path) };
        // Runs of a comparison write in folders below it: it must be known as ours.
        await output?.begin();
        await use(opened, folder);
        return opened;
      });
    } finally {
      await work.dispose();
    }
  });
}

/** Whether an earlier plan is of the same command with the same options. */
const isOfSame = (plan: Plan | undefined, command: string, options: Record<string, unknown>): boolean =>
  plan?.command === command && JSON.stringify(plan.options) === JSON.stringify(options);

interface PlanFacts {
  readonly division: Pick<Division, "name">;
  readonly options: Record<string, unknown>;
  readonly out: string;
  readonly tasks: number;
}

/** Writes the lists of units and, last of all, plan.json. */
async function writeShards<Unit>(
  context: RunContext,
  folder: OutputFolder,
  work: Pick<Work<Unit, unknown, unknown>, "inputs" | "settled">,
  units: readonly Unit[],
  { division, options, out, tasks }: PlanFacts,
): Promise<Plan> {
  const { environment, listener } = context;
  const { directory } = folder;
  const before = await findPlan(context, directory.describe(""));
  const inputs = await work.inputs(units);
  const settled = work.settled();
  const basis = JSON.stringify([division.name, options, settled, inputs]);
  const shards: string[] = [];
  for (const [index, shard] of cut(units, tasks).entries()) {
    const lines = shard.map((unit) => `${JSON.stringify(unit)}\n`);
    shards.push(await sha256([basis, ...lines].join("\n")));
    if (before?.plan.shards[index] !== shards[index])
      await directory.write(unitsEntry(index), lines.flatMap(textChunks));
  }
  for (let index = tasks; index < (before?.plan.tasks ?? 0); index++) await directory.remove(unitsEntry(index));
  const plan: Plan = {
    ...{ command: division.name, options, out, folder: environment.programs?.folder },
    ...{ tasks, units: units.length, settled, inputs: [...inputs], shards, about: { ...environment.about } },
  };
  if (before && String(before.plan.shards) === String(shards)) return before.plan;
  if (before) listener.info?.(changesText(before.plan, plan));
  await writePlan(directory, plan);
  await folder.markFinished(false);
  return plan;
}

/** Why tasks of an earlier plan run again. */
function changesText(before: Plan, now: Plan): string {
  const hashes = new Map(before.inputs.map(({ option, path, sha256 }) => [`${option} ${path}`, sha256]));
  const changed = now.inputs.filter(
    ({ option, path, sha256 }) => (hashes.get(`${option} ${path}`) ?? sha256) !== sha256,
  );
  if (changed.length > 0)
    return `Changed since the last plan: ${changed.map(({ path }) => path).join(", ")}. Tasks that read them run again.`;
  const same = now.shards.filter((hash, i) => before.shards[i] === hash).length;
  return `The plan differs from the last one; ${same} of ${now.tasks} tasks are the same.`;
}

/** Throws a UserError where an input is another than when the plan was made. */
function checkInputs(plan: Plan, inputs: readonly HashedInput[]): void {
  const hashes = new Map(plan.inputs.map(({ option, path, sha256 }) => [`${option} ${path}`, sha256]));
  const changed = inputs.find(({ option, path, sha256 }) => hashes.get(`${option} ${path}`) !== sha256);
  if (changed)
    throw new UserError(
      `${changed.option} ${changed.path} has changed since the plan was made. Run the command that made the plan again.`,
      { code: "INVALID_DATA" },
    );
}

/** The options in a plan. */
const optionsOf = <Schema extends z.ZodObject>(
  division: Pick<Division<Schema>, "schema" | "parse">,
  { plan, directory }: OpenedPlan,
) => divisionOptions(division, plan.options, `the options in ${directory.describe("plan.json")}`);

/** The work of a plan, with what was settled for it. */
const openPlanned = <Schema extends z.ZodObject, Unit, Part, Result>(
  context: RunContext,
  division: Division<Schema, Unit, Part, Result>,
  opened: OpenedPlan,
): Promise<Work<Unit, Part, Result>> =>
  namingFile(opened.directory.describe("plan.json"), () =>
    division.open(context, optionsOf(division, opened), opened.plan.settled),
  );

export interface TaskRunResult {
  readonly plan: string;
  readonly index: number;
  readonly units: number;
  readonly seconds: number;
  /** Whether it was finished before. */
  readonly wasFinished: boolean;
}

/** Throws a UserError where a plan has no such task. */
function checkIndex({ plan }: OpenedPlan, index: number): void {
  if (index < plan.tasks) return;
  throw new OptionError([
    (name) => `${name("index")} must be from 0 to ${plan.tasks - 1} (the plan has ${plan.tasks} tasks), got ${index}.`,
  ]);
}

/**
 * Runs one task of a plan. What it leaves is written beside and renamed, and marked as finished at the end: it may be killed at
 * any moment and run again. A finished task is not run again.
 */
export async function performTask(
  context: RunContext,
  division: Division,
  opened: OpenedPlan,
  index: number,
): Promise<TaskRunResult> {
  const { environment, listener } = context;
  const { plan, path } = opened;
  checkIndex(opened, index);
  const folder = `${path}/${taskEntry(index)}`;
  return withOutput(context, { path: folder, kind: "task", inputs: [] }, async (output) => {
    const done = await readPart(context, opened, index);
    const units = await readUnits(opened, index, division.unit);
    const facts = { plan: path, index, units: units.length };
    if (done) return { ...facts, seconds: done.part.seconds, wasFinished: true };
    await output.markFinished(false);
    const begin = environment.now();
    listener.info?.(`task ${index} of ${plan.tasks}: ${counted(units.length, "part")} of the work`);
    const work = await openPlanned(context, division, opened);
    try {
      checkInputs(plan, await work.inputs(units));
      const stored = division.store(await work.run(units, output));
      const seconds = (environment.now() - begin) / 1000;
      await writePart(output, stored, { shard: plan.shards[index], seconds, machine: machineOf(context, plan) });
      return { ...facts, seconds, wasFinished: false };
    } finally {
      await work.dispose();
    }
  });
}

function machineOf({ environment: { about, programs } }: RunContext, plan: Plan): TaskMachine {
  const { processor } = about;
  const { threads = programs?.threads } = plan.options;
  return {
    ...(typeof processor === "string" ? { processor } : {}),
    ...(typeof threads === "number" ? { threads } : {}),
  };
}

async function writePart(output: OutputFolder, { value, tensors }: StoredValue, part: StoredPart): Promise<void> {
  const { directory } = output;
  await directory.write(tensorsEntry, writeSafetensors(tensors));
  await directory.write(valueEntry, textChunks(JSON.stringify(value)));
  await directory.write(partEntry, textChunks(`${JSON.stringify({ ...partFormat, ...part })}\n`));
  await output.markFinished();
}

const isFloat = (tensor: Tensor): tensor is FloatTensor => tensor.type === "float32";

async function readValue(directory: Directory): Promise<StoredValue> {
  const file = directory.describe(valueEntry);
  const text = new TextDecoder().decode((await readFile(directory, valueEntry, longestList)) ?? new Uint8Array());
  const handle = await directory.open(tensorsEntry);
  if (!handle) throw new UserError(`There is no file ${directory.describe(tensorsEntry)}.`, { code: "FILE_NOT_FOUND" });
  try {
    const { tensors } = await readSafetensors(handle);
    const floats = [...tensors].flatMap(([name, tensor]) => (isFloat(tensor) ? [[name, tensor] as const] : []));
    return { value: parseJson(text, file), tensors: new Map(floats) };
  } finally {
    await handle.close();
  }
}

/** How results of different machines may differ. */
function differencesText(machines: readonly TaskMachine[]): string | undefined {
  const several = (of: (machine: TaskMachine) => string | number | undefined) => [...new Set(machines.map(of))];
  const processors = several(({ processor }) => processor);
  const threads = several((machine) => machine.threads);
  const kinds = [
    ...(processors.length > 1 ? [`on different processors (${processors.join("; ")})`] : []),
    ...(threads.length > 1 ? [`with different numbers of threads (${threads.join(", ")})`] : []),
  ];
  return kinds.length === 0
    ? undefined
    : `Tasks ran ${kinds.join(" and ")}: the last bits of their numbers may differ from those of one machine.`;
}

/** What all tasks left, each looked at once. Throws a UserError that names those which are missing, with the log of the first. */
async function completeParts(context: RunContext, opened: OpenedPlan): Promise<FinishedPart[]> {
  const parts = await finishedParts(context, opened);
  const missing = parts.flatMap((part, index) => (part ? [] : [index]));
  if (missing.length === 0) return parts.filter((part) => part !== undefined);
  const shown = missing.slice(0, 10).join(", ");
  const more = missing.length > 10 ? `, and ${missing.length - 10} more` : "";
  const log = await opened.directory.open(logEntry(missing[0]));
  await log?.close();
  const where = log ? ` The log of task ${missing[0]} is ${log.name}.` : "";
  throw new UserError(
    `${missing.length} of ${opened.plan.tasks} tasks are not finished: ${shown}${more}.${where} Run the command that made the plan again.`,
    { code: "RUN_NOT_FOUND" },
  );
}

/** Joins what the tasks left, in their order, and writes what the command writes. Throws a UserError where tasks are missing. */
export async function performMerge<Part, Result>(
  context: RunContext,
  division: Division<z.ZodObject, unknown, Part, Result>,
  opened: OpenedPlan,
): Promise<Result> {
  const { listener } = context;
  const { plan, path } = opened;
  const finished = await completeParts(context, opened);
  const options = optionsOf(division, opened);
  return withOutput(context, { path, kind: "plan", inputs: [] }, (folder) =>
    division.within(context, options, async (output) => {
      listener.stage?.("merging", plan.tasks);
      const parts: Part[] = [];
      for (const [index, { directory }] of finished.entries()) {
        const value = await readValue(directory);
        parts.push(await namingFile(directory.describe(valueEntry), () => division.read(value, directory)));
        listener.progress?.(index + 1);
      }
      const differences = differencesText(finished.map(({ part }) => part.machine));
      if (differences !== undefined) listener.warn?.(differences);
      const work = await openPlanned(context, division, opened);
      try {
        const result = await work.merge(parts, output);
        await folder.markFinished();
        return result;
      } finally {
        await work.dispose();
      }
    }),
  );
}
