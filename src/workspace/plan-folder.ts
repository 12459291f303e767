// The folder of a plan: work that was cut into tasks, each of which may run on another machine.
//
//   plan.json         what is done, how it is cut, and hashes of all that it follows from
//   units/000003.jsonl  what task 3 does, a line each: images of a batch, a run of a comparison
//   tasks/000003/     what came of it: an output folder of its own, marked as finished in its journal
//   logs/000003.txt   what the task printed, where a launcher started it
//   launch.json       who runs the tasks
//
// Tasks only read what the planning process wrote and only write in their own folders, so they need no lock on the whole.
import { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import { readFile, readText } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import { mapInBatches } from "../utils/arrays.ts";
import { textChunks } from "./output-files.ts";
import { OutputFolder } from "./output-folder.ts";
import { checkVersion, parseJson, parseLines } from "./versioned.ts";

export const planFormat = { format: "wecolora-plan", version: 2 } as const;
export const partFormat = { format: "wecolora-part", version: 2 } as const;
export const launchFormat = { format: "wecolora-launch", version: 1 } as const;

const count = z.number().int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** Something that the work reads, with a hash of its content. */
const inputSchema = z.object({ option: z.string(), path: z.string(), sha256 });
export type HashedInput = z.output<typeof inputSchema>;

/** More directories and array elements than schedulers and file systems bear. */
export const mostTasks = 100_000;

/** plan.json */
const planShape = z.object({
  command: z.string(),
  /** The command's options, without those of launchers. */
  options: z.record(z.string(), z.unknown()),
  /** Where the command writes. */
  out: z.string(),
  /** What relative paths are counted from. */
  folder: z.string().optional(),
  tasks: count.min(1).max(mostTasks),
  units: count.min(1),
  /** What was decided by measuring and listing, once for all tasks: precision, classes, files that are skipped. */
  settled: z.unknown(),
  inputs: z.array(inputSchema).readonly(),
  /** For each task, a hash of all that its result follows from. */
  shards: z.array(sha256).readonly(),
  about: z.record(z.string(), z.unknown()),
});
export const planSchema = planShape.refine(({ tasks, shards }) => shards.length === tasks, {
  path: ["shards"],
  message: "not as many as tasks",
});
export type Plan = z.output<typeof planSchema>;

/** Where a task ran, as far as numbers may depend on it. */
const machineSchema = z.object({ processor: z.string().optional(), threads: count.optional() });
export type TaskMachine = z.output<typeof machineSchema>;

/** part.json of a task */
export const partSchema = z.object({
  /** The hash of its shard in the plan that it was made for. */
  shard: sha256,
  seconds: z.number(),
  machine: machineSchema,
});
export type StoredPart = z.output<typeof partSchema>;

/** A job by the scheduler's name: programs that are asked for it must not take it for an option. */
const job = z.string().regex(/^[A-Za-z0-9][\w./-]*$/);

/** launch.json */
export const launchSchema = z.object({
  launcher: z.string(),
  /** Jobs of this launch by the scheduler's names, the merge's last. */
  jobs: z.array(job).readonly(),
  /** Jobs of earlier launches, none of which runs any more. */
  ended: z.array(job).readonly(),
  /** Tasks of this launch. */
  tasks: z.array(count).readonly(),
  maxParallel: count.optional(),
  cancelled: z.boolean(),
});
export type Launch = z.output<typeof launchSchema>;

const planEntry = "plan.json";
const launchEntry = "launch.json";

const numbered = (index: number) => String(index).padStart(6, "0");
export const unitsEntry = (index: number): string => `units/${numbered(index)}.jsonl`;
export const taskEntry = (index: number): string => `tasks/${numbered(index)}`;
export const logEntry = (index: number): string => `logs/${numbered(index)}.txt`;
export const mergeLogEntry = "logs/merge.txt";
/** What a task came to: small, so that thousands can be looked at. */
export const partEntry = "part.json";
/** Its plain values, and its tensors. */
export const valueEntry = "value.json";
export const tensorsEntry = "part.safetensors";

/** The folder of the plan for an output. */
export const planFolderOf = (out: string): string => `${out.replace(/[\\/]+$/, "")}.tasks`;

/** Lists of images, and what tasks say of each, may be as long as a text can be in V8: just below 512 MiB. */
export const longestList: number = 2 ** 29 - 2 ** 10;

/** A plan and the folder that it lies in. */
export interface OpenedPlan {
  readonly plan: Plan;
  readonly path: string;
  readonly directory: Directory;
}

/** The plan in a folder whose path is given too. */
async function planIn(directory: Directory, path: string): Promise<OpenedPlan | undefined> {
  const text = await readText(directory, planEntry);
  if (text === undefined) return undefined;
  const file = directory.describe(planEntry);
  return { plan: checkVersion(planSchema, parseJson(text, file), file, planFormat), path, directory };
}

/** The plan in a folder; undefined where there is none. */
export const findPlan = async ({ environment }: RunContext, path: string): Promise<OpenedPlan | undefined> =>
  planIn(environment.directory(path), path);

/** The plan at a path: its folder, its plan.json, or the output that it is for. Throws a UserError where there is none. */
export const readPlan = ({ environment }: RunContext, path: string): Promise<OpenedPlan> =>
  planAt((folder) => environment.directory(folder), path);

/** The same before there is a run: a plan's options say which threads and device its environment gets. */
export async function planAt(openFolder: (path: string) => Directory, path: string): Promise<OpenedPlan> {
  const find = (folder: string) => planIn(openFolder(folder), folder);
  const folder = path.replace(/(^|[\\/])plan\.json$/, "$1").replace(/(.)[\\/]+$/, "$1") || ".";
  const opened = (await find(folder)) ?? (await find(planFolderOf(folder)));
  if (opened) return opened;
  throw new UserError(
    `There is no plan in ${folder} or ${planFolderOf(folder)}. Give the folder of a plan, or the output that it is for.`,
    { code: "FILE_NOT_FOUND" },
  );
}

export const writePlan = (directory: Directory, plan: z.input<typeof planSchema>): Promise<void> =>
  directory.write(planEntry, textChunks(`${JSON.stringify({ ...planFormat, ...plan }, null, 2)}\n`));

/** What a task does: the lines of its list. */
export async function readUnits<T extends z.ZodType>(
  { directory }: OpenedPlan,
  index: number,
  schema: T,
): Promise<z.output<T>[]> {
  const entry = unitsEntry(index);
  const bytes = await readFile(directory, entry, longestList);
  const file = directory.describe(entry);
  if (!bytes)
    throw new UserError(`There is no file ${file}. Run the command that made the plan again.`, {
      code: "FILE_NOT_FOUND",
    });
  return parseLines(schema, new TextDecoder().decode(bytes), file);
}

/** What a finished task left, and where. */
export interface FinishedPart {
  readonly part: StoredPart;
  readonly directory: Directory;
}

/** What a task left for this plan; undefined where it is not finished, or was made for another plan. */
export async function readPart(
  { environment }: RunContext,
  { plan, path }: OpenedPlan,
  index: number,
): Promise<FinishedPart | undefined> {
  const directory = environment.directory(`${path}/${taskEntry(index)}`);
  const text = await readText(directory, partEntry);
  if (text === undefined || !(await OutputFolder.open(directory, "task")).isFinished) return undefined;
  const file = directory.describe(partEntry);
  const part = checkVersion(partSchema, parseJson(text, file), file, partFormat);
  return part.shard === plan.shards[index] ? { part, directory } : undefined;
}

/** What each task left, in their order. */
export function finishedParts(context: RunContext, opened: OpenedPlan): Promise<(FinishedPart | undefined)[]> {
  const indices = Array.from({ length: opened.plan.tasks }, (_, index) => index);
  return mapInBatches(indices, (index) => readPart(context, opened, index));
}

/** Tasks without a finished result. */
export const missingTasks = async (context: RunContext, opened: OpenedPlan): Promise<number[]> =>
  (await finishedParts(context, opened)).flatMap((part, index) => (part ? [] : [index]));

/** Who runs the tasks of a plan; undefined where nobody was asked to. */
export async function readLaunch({ directory }: Pick<OpenedPlan, "directory">): Promise<Launch | undefined> {
  const text = await readText(directory, launchEntry);
  const file = directory.describe(launchEntry);
  return text === undefined ? undefined : checkVersion(launchSchema, parseJson(text, file), file, launchFormat);
}

export const writeLaunch = (directory: Directory, launch: z.input<typeof launchSchema>): Promise<void> =>
  directory.write(launchEntry, textChunks(`${JSON.stringify({ ...launchFormat, ...launch }, null, 2)}\n`));
