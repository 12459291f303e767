// `wecolora merge`: what the tasks of a plan left, joined to what the command writes.
import { z } from "zod";
import { pathOption } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { pause } from "../utils/pause.ts";
import { missingTasks, readPlan } from "../workspace/plan-folder.ts";
import { defineCommand } from "./command.ts";
import { divisionOf } from "./division-lookup.ts";
import { performMerge } from "./planned-tasks.ts";

/** `wecolora merge` */
export const mergeRunSchema = z.strictObject({
  plan: pathOption.describe("the plan: its folder, or plan.json"),
  waitMinutes: z.number().min(0).max(1e6).default(0).describe("minutes to wait for tasks that are not finished"),
});

export type MergeRunInput = z.input<typeof mergeRunSchema>;

/** How often it is looked whether tasks have finished. */
const lookMilliseconds = 2000;

/** What a merge came to: the planned command's own result, and that as text. */
export interface MergeRunResult {
  readonly command: string;
  readonly result: unknown;
  readonly text: string;
}

/** Joins the tasks' results in their order. Throws a UserError that names the tasks which are not finished. */
export async function runMerge(context: RunContext, input: MergeRunInput): Promise<MergeRunResult> {
  const { environment, listener, signal } = context;
  const { plan, waitMinutes } = parseOptions(mergeRunSchema, input, "options of merge");
  const opened = await readPlan(context, plan);
  const end = environment.now() + waitMinutes * 60_000;
  if (waitMinutes > 0) listener.stage?.("waiting for tasks", opened.plan.tasks);
  while (environment.now() < end) {
    const missing = await missingTasks(context, opened);
    if (missing.length === 0) break;
    listener.progress?.(opened.plan.tasks - missing.length);
    await pause(lookMilliseconds, signal);
  }
  const division = divisionOf(opened);
  const result = await performMerge(context, division, opened);
  return { command: division.name, result, text: division.text(result) };
}

export const command = defineCommand({
  name: "merge",
  summary: "Join the results of a plan's tasks.",
  schema: mergeRunSchema,
  run: runMerge,
  text: ({ text }) => text,
});
