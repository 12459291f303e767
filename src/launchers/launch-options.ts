// Options of commands whose work can be cut into tasks: who runs these, and how many at once.
import { z } from "zod";
import { mostTasks } from "../workspace/plan-folder.ts";
import { launcherOptions, launchers } from "./registry.ts";

export type LauncherName = (typeof launchers)[number]["name"];
const names = launchers.map(({ name }): LauncherName => name);

export const launchOptions = {
  launcher: z.enum(names).optional().describe("who runs the work as tasks (local where --tasks is given)"),
  tasks: z.number().int().min(1).max(mostTasks).optional().describe("tasks that the work is cut into"),
  maxParallel: z.number().int().min(1).max(mostTasks).optional().describe("tasks that run at the same time"),
  retries: z.number().int().min(0).max(100).default(1).describe("times that a failed task is run again"),
  ...launcherOptions,
};

/** Options that say who runs the work, not what comes of it. */
export const launchOptionNames: readonly string[] = Object.keys(launchOptions);

export const launcherHelp = (): string =>
  launchers.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join("\n");
