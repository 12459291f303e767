// `wecolora task`: one task of a plan.
import { z } from "zod";
import { pathOption } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { readPlan } from "../workspace/plan-folder.ts";
import { defineCommand } from "./command.ts";
import { divisionOf } from "./division-lookup.ts";
import type { TaskRunResult } from "./planned-tasks.ts";
import { performTask } from "./planned-tasks.ts";
import { durationText } from "../utils/duration.ts";

/** `wecolora task` */
export const taskRunSchema = z.strictObject({
  plan: pathOption.describe("the plan: its folder, or plan.json"),
  index: z.number().int().min(0).describe("which task, from 0"),
});

export type TaskRunInput = z.input<typeof taskRunSchema>;

/** Runs a task; one that is finished is not run again. Throws a UserError where an input has changed since it was planned. */
export async function runTask(context: RunContext, input: TaskRunInput): Promise<TaskRunResult> {
  const { plan: path, index } = parseOptions(taskRunSchema, input, "options of task");
  const opened = await readPlan(context, path);
  return performTask(context, divisionOf(opened), opened, index);
}

export const command = defineCommand({
  name: "task",
  summary: "Run one task of a plan; a finished task is not run again.",
  schema: taskRunSchema,
  run: runTask,
  afterStop: "What can be resumed was saved. Run the same task again to go on.",
  text: ({ index, plan, seconds, wasFinished }) =>
    wasFinished
      ? `task ${index} of ${plan} was finished before`
      : `task ${index} of ${plan} is finished (${durationText(seconds)})`,
});
