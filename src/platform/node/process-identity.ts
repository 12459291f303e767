// Which process, on which machine: what locks and temporary files are named by, so that those of dead processes are told
// from those of living ones.
import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** What process numbers hold for: a machine, and on it a container. */
export function machineId(): string {
  let namespace = "";
  try {
    namespace = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Not on Linux.
  }
  return createHash("sha256").update(`${hostname()} ${namespace}`).digest("hex").slice(0, 12);
}

/** Whether a process of this number runs on this machine; also true where it is another user's. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH";
  }
}

/**
 * When a process began, in a form that no later process of the same number shares; undefined where the system does not say.
 * @see https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html field 22, counted from the machine's start
 */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    // The process's name stands in brackets and may hold blanks and brackets.
    const ticks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return ticks === undefined ? undefined : `${boot} ${ticks}`;
  } catch {
    return undefined;
  }
}

/** A scheduler's job, which runs at most once at a time, and which of its attempts this is. */
export interface JobAttempt {
  readonly job: string;
  readonly attempt: string;
}

/** The job that this process belongs to, as its script says; undefined where there is none. */
export function jobAttempt(): JobAttempt | undefined {
  const { WECOLORA_JOB: job, WECOLORA_ATTEMPT: attempt = "" } = process.env;
  return job ? { job, attempt } : undefined;
}

/**
 * Whether another attempt is known to have ended, on whatever machine it ran: a scheduler starts the next attempt of a job when
 * the last one is over, and our script names earlier jobs that are (WECOLORA_ENDED_JOBS, with or without an element's number).
 */
export function attemptHasEnded({ job, attempt }: JobAttempt): boolean {
  const currentAttempt = jobAttempt();
  if (!currentAttempt) return false;
  if (currentAttempt.job === job) return currentAttempt.attempt !== attempt;
  const ended = (process.env.WECOLORA_ENDED_JOBS ?? "").split(" ");
  return ended.includes(job) || ended.includes(job.replace(/_\d+$/, ""));
}
