// A worker with few calls under way at a time. One that doesn't answer is ended and replaced, so that no image holds up a run.
import { UserError } from "../../utils/errors.ts";

/** What carries calls out: a worker thread. */
export interface CallTarget {
  call<T>(method: string, ...args: readonly unknown[]): Promise<T>;
  end(): Promise<void>;
}

interface Job {
  /** What messages call it. */
  readonly named: string;
  readonly method: string;
  readonly args: readonly unknown[];
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** libuv has four threads for the whole process. */
const mostAtOnce = 4;
/** Seconds until a worker counts as hanging; its own limits end a decode long before. */
const longestSilence = 600;

/** Calls to one worker, in order. */
export class WorkerLane {
  private readonly create: () => CallTarget;
  private readonly silence: number;
  private target: CallTarget;
  private readonly waiting: Job[] = [];
  private readonly running = new Map<Job, NodeJS.Timeout>();
  /** Calls that were under way when a worker hung: one of them is to blame, so they are tried one by one. */
  private readonly suspects = new Set<Job>();

  constructor(create: () => CallTarget, silenceSeconds = longestSilence) {
    this.create = create;
    this.silence = silenceSeconds * 1000;
    this.target = create();
  }

  /** Rejects with a UserError where the worker doesn't answer in time. */
  call<T>(named: string, method: string, ...args: readonly unknown[]): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.waiting.push({ named, method, args, resolve: resolve as (value: unknown) => void, reject });
      this.startNext();
    });
  }

  private startNext(): void {
    while (this.running.size < (this.suspects.size > 0 ? 1 : mostAtOnce)) {
      const job = this.waiting.shift();
      if (!job) return;
      // The worker holds the process while it works; this timer must not.
      this.running.set(job, setTimeout(() => this.replaceWorker(), this.silence).unref());
      this.target.call(job.method, ...job.args).then(
        (value) => this.finish(job, () => job.resolve(value)),
        (error: unknown) => this.finish(job, () => job.reject(error)),
      );
    }
  }

  private finish(job: Job, settle: () => void): void {
    // What a worker says that was given up counts no more.
    if (!this.running.has(job)) return;
    clearTimeout(this.running.get(job));
    this.running.delete(job);
    this.suspects.delete(job);
    settle();
    this.startNext();
  }

  private replaceWorker(): void {
    const jobs = [...this.running.keys()];
    for (const timer of this.running.values()) clearTimeout(timer);
    this.running.clear();
    const hung = this.target;
    this.target = this.create();
    // A thread inside of a library ends when that returns; nobody waits for it.
    hung.end().catch(() => undefined);
    if (jobs.length === 1) {
      const [{ named, reject }] = jobs;
      this.suspects.delete(jobs[0]);
      reject(
        new UserError(`${named} can't be read: nothing came for ${this.silence / 1000} s`, {
          code: "FILE_NOT_READABLE",
        }),
      );
    } else {
      for (const job of jobs) this.suspects.add(job);
      this.waiting.unshift(...jobs);
    }
    this.startNext();
  }

  /** Ends the worker; calls that wait are rejected. */
  async end(): Promise<void> {
    for (const { reject } of this.waiting.splice(0)) reject(new Error("the worker thread has ended"));
    for (const timer of this.running.values()) clearTimeout(timer);
    await this.target.end();
  }
}
