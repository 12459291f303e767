// A cluster of Slurm on this machine: munged, slurmctld and two nodes, on loopback and without systemd. It needs root.
import type { ChildProcess } from "node:child_process";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { openSync } from "node:fs";

export interface Cluster {
  /** Variables that Slurm's commands need. */
  readonly variables: Readonly<Record<string, string>>;
  /** What one of Slurm's commands prints. */
  run(program: string, ...args: string[]): string;
  stop(): Promise<void>;
}

/** Why Slurm can't be started here, in words; undefined where it can. */
export function slurmProblem(): string | undefined {
  if (process.platform !== "linux") return "Slurm runs on Linux alone";
  if (process.getuid?.() !== 0) return "Slurm's daemons need root here";
  const missing = ["munged", "slurmctld", "slurmd", "sbatch"].filter((name) => {
    try {
      execFileSync("which", [name], { stdio: "pipe", env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
      return false;
    } catch {
      return true;
    }
  });
  return missing.length > 0 ? `${missing.join(", ")} not installed (Debian: munge, slurmctld, slurmd)` : undefined;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** The configuration of a cluster: arrays of ten at most, and queued again at once (credentials expire after seconds). */
const configuration = (folder: string, ports: readonly number[], host: string) => `
ClusterName=wecolora
SlurmctldHost=${host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=${folder}/munge/socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool-%n
SlurmctldPort=${ports[0]}
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
MaxArraySize=11
MpiDefault=none
KillWait=5
SwitchType=switch/none
NodeName=n1 NodeHostname=${host} NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=1
NodeName=n2 NodeHostname=${host} NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
`;

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
  await ended;
  clearTimeout(timer);
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Starts a cluster of two nodes with a processor each. */
export async function startSlurm(): Promise<Cluster> {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-slurm-"));
  const munge = join(folder, "munge");
  for (const name of ["munge", "state", "spool-n1", "spool-n2"]) await mkdir(join(folder, name));
  await chmod(munge, 0o700);
  await writeFile(join(munge, "key"), randomBytes(1024), { mode: 0o600 });
  const ports = [await freePort(), await freePort(), await freePort()];
  const conf = join(folder, "slurm.conf");
  await writeFile(conf, configuration(folder, ports, hostname()));
  const variables = { SLURM_CONF: conf, PATH: `${process.env.PATH}:/usr/sbin` };
  const children: ChildProcess[] = [];
  const daemon = (program: string, ...args: string[]) => {
    const log = openSync(join(folder, `${program}-${children.length}.log`), "a");
    children.push(spawn(program, args, { env: { ...process.env, ...variables }, stdio: ["ignore", log, log] }));
  };
  const files = ["key-file", "socket", "pid-file", "seed-file", "log-file"].map(
    (name) => `--${name}=${join(munge, name === "key-file" ? "key" : name)}`,
  );
  const run = (program: string, ...args: string[]) =>
    execFileSync(program, args, {
      env: { ...process.env, ...variables },
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  const stop = async () => {
    for (const child of children.reverse()) await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  daemon("munged", "--force", "--foreground", ...files);
  await pause(500);
  daemon("slurmctld", "-D");
  await pause(500);
  for (const node of ["n1", "n2"]) daemon("slurmd", "-D", "-N", node);
  for (let attempt = 0; ; attempt++) {
    try {
      if (/^2 idle$/m.test(run("sinfo", "--noheader", "--format=%D %t").trim())) return { variables, run, stop };
    } catch {
      // Not there yet.
    }
    if (attempt > 120) {
      await stop();
      throw new Error("the cluster did not start");
    }
    await pause(500);
  }
}
