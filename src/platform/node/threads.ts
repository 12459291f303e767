// Threads that this process may use: cores, what a scheduler gave it, and what its container is held to.
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

/** A small file of the system's; undefined where there is none. */
function readSystemFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Groups of a process: its own, then those around it. */
function groupsAbove(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== "..");
  return parts.map((_, i) => parts.slice(0, parts.length - i).join("/")).concat("");
}

/**
 * Processors that control groups allow; undefined where nothing is limited. A group's limit holds for those in it too.
 * @param root the root of the file system, for tests
 * @see https://docs.kernel.org/admin-guide/cgroup-v2.html cpu.max: quota and period in microseconds
 * @see https://docs.kernel.org/scheduler/sched-bwc.html cpu.cfs_quota_us of version 1
 */
export function groupProcessors(root = "/"): number | undefined {
  const lines = (readSystemFile(join(root, "proc/self/cgroup")) ?? "").split("\n");
  const limits = lines.flatMap((line) => {
    const [, controllers, path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === "")
      return groupsAbove(path).map((group) =>
        readSystemFile(join(root, "sys/fs/cgroup", group, "cpu.max"))?.split(" "),
      );
    if (!controllers?.split(",").includes("cpu")) return [];
    return groupsAbove(path).map((group) => {
      const folder = join(root, "sys/fs/cgroup/cpu", group);
      const quota = readSystemFile(join(folder, "cpu.cfs_quota_us"));
      return quota === undefined ? undefined : [quota, readSystemFile(join(folder, "cpu.cfs_period_us")) ?? ""];
    });
  });
  const processors = limits
    .map((limit) => Number(limit?.[0]) / Number(limit?.[1]))
    .filter((share) => Number.isFinite(share) && share > 0);
  return processors.length === 0 ? undefined : Math.min(...processors);
}

const positive = (text: string | undefined) =>
  text !== undefined && /^[1-9]\d*$/.test(text) ? Number(text) : undefined;

/**
 * Threads that models get where no number is asked for. Slurm's SLURM_CPUS_PER_TASK counts where it is below the cores: without
 * control groups a job sees all of them. WECOLORA_THREADS is what the local launcher gives tasks that share the cores.
 */
export function threadsHere(
  variables: Readonly<Record<string, string | undefined>> = process.env,
  limits: { readonly cores: number; readonly group: number | undefined } = {
    cores: availableParallelism(),
    group: groupProcessors(),
  },
): number {
  const shares = [
    limits.cores,
    limits.group === undefined ? undefined : Math.max(1, Math.floor(limits.group)),
    positive(variables.SLURM_CPUS_PER_TASK),
    positive(variables.WECOLORA_THREADS),
  ];
  return Math.min(...shares.filter((share) => share !== undefined));
}
