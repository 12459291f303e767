// The launchers of tasks that a browser has, in the place of `src/launchers/registry.ts`: it starts no programs.
import { launcher } from "../src/launchers/local.ts";

export const launchers = [launcher] as const;
export const launcherOptions = { ...launcher.options };
