// All of the launchers of tasks, from the files of this folder. Made by `npm run generate`; don't edit it.
import { launcher as kubernetesLauncher } from "./kubernetes.ts";
import { launcher as localLauncher } from "./local.ts";
import { launcher as planLauncher } from "./plan.ts";
import { launcher as slurmLauncher } from "./slurm.ts";

export const launchers = [kubernetesLauncher, localLauncher, planLauncher, slurmLauncher] as const;

/** The options of all, by name. */
export const launcherOptions = {
  ...kubernetesLauncher.options,
  ...localLauncher.options,
  ...planLauncher.options,
  ...slurmLauncher.options,
};
