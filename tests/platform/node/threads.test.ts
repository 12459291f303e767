// Threads that a process takes: cores, control groups, and what a scheduler says.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { groupProcessors, threadsHere } from "../../../src/platform/node/threads.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-threads-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A root of a file system with these files. */
async function rootWith(name: string, files: Readonly<Record<string, string>>): Promise<string> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name, path)), { recursive: true });
    await writeFile(join(folder, name, path), text);
  }
  return join(folder, name);
}

describe("processors of control groups", () => {
  test("version 2: the least of the group's own limit and those around it", async () => {
    const root = await rootWith("two", {
      "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
      "sys/fs/cgroup/slurm/job_7/step_0/cpu.max": "max 100000\n",
      "sys/fs/cgroup/slurm/job_7/cpu.max": "350000 100000\n",
      "sys/fs/cgroup/slurm/cpu.max": "1600000 100000\n",
    });
    expect(groupProcessors(root)).toBe(3.5);
  });

  test("version 1: quota and period, where the quota is no -1", async () => {
    const group = { "proc/self/cgroup": "5:memory:/x\n3:cpu,cpuacct:/docker/a\n" };
    const limited = await rootWith("one", {
      ...group,
      "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "200000\n",
      "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
    });
    expect(groupProcessors(limited)).toBe(2);
    const free = await rootWith("free", {
      ...group,
      "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "-1\n",
      "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
    });
    expect(groupProcessors(free)).toBeUndefined();
  });

  test("nothing is limited where there are none", async () => {
    expect(groupProcessors(await rootWith("none", { "etc/motd": "" }))).toBeUndefined();
  });
});

describe("threads", () => {
  const limits = { cores: 64, group: undefined };

  test.each([
    ["all cores", {}, limits, 64],
    ["Slurm's share", { SLURM_CPUS_PER_TASK: "8" }, limits, 8],
    ["no more than the cores", { SLURM_CPUS_PER_TASK: "128" }, limits, 64],
    ["the control group's, rounded down", { SLURM_CPUS_PER_TASK: "8" }, { cores: 64, group: 3.5 }, 3],
    ["one at least", {}, { cores: 64, group: 0.5 }, 1],
    ["the local launcher's share", { WECOLORA_THREADS: "2", SLURM_CPUS_PER_TASK: "8" }, limits, 2],
    ["what is no number does not count", { SLURM_CPUS_PER_TASK: "4(x2)", WECOLORA_THREADS: "" }, limits, 64],
  ])("%s", (_, variables, given, threads) => {
    expect(threadsHere(variables, given)).toBe(threads);
  });
});
