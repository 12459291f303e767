// `wecolora cancel`: ends the tasks of an output that wait or run.
import { z } from "zod";
import { pathOption } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { launcherOf } from "../launchers/lookup.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { withOutput } from "../workspace/output-folder.ts";
import { readLaunch, readPlan, writeLaunch } from "../workspace/plan-folder.ts";
import { defineCommand } from "./command.ts";

/** `wecolora cancel` */
export const cancelRunSchema = z.strictObject({
  out: pathOption.describe("the output whose tasks are ended, or the folder of its plan"),
});

export type CancelRunInput = z.input<typeof cancelRunSchema>;

export interface CancelRunResult {
  readonly plan: string;
  readonly launcher: string;
  readonly note: string;
}

/** Ends what a launcher waits for or runs. Finished tasks keep their results. */
export async function runCancel(context: RunContext, input: CancelRunInput): Promise<CancelRunResult> {
  const opened = await readPlan(context, parseOptions(cancelRunSchema, input, "options of cancel").out);
  const { path } = opened;
  return withOutput(context, { path, kind: "plan", inputs: [] }, async ({ directory }) => {
    const launch = await readLaunch(opened);
    if (!launch) throw new UserError(`The tasks of ${path} were not launched.`, { code: "RUN_NOT_FOUND" });
    // First of all: what is stopped by this is not to be run again by its own script.
    await writeLaunch(directory, { ...launch, cancelled: true });
    const note = await launcherOf(launch.launcher).cancel(context, opened, launch);
    return { plan: path, launcher: launch.launcher, note };
  });
}

export const command = defineCommand({
  name: "cancel",
  summary: "End the tasks of an output that wait or run.",
  schema: cancelRunSchema,
  positional: ["out"],
  run: runCancel,
  text: ({ note }) => note,
});
