// Calls from the main thread to a worker thread.
import { Worker } from "node:worker_threads";
import { RunError } from "../../utils/errors.ts";
import type { Reply, Request } from "./rpc.ts";
import { Outbox, revive } from "./rpc.ts";
import { workerFile } from "./worker-files.ts";

/** One worker and the calls that wait for its answers. The process may end while no call is under way. */
export class WorkerCalls {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: unknown): void }>();
  private readonly requests = new Outbox<Request>((items, given) => this.post(items, given), queueMicrotask);
  private next = 0;
  private ended: Error | undefined;

  constructor(script: string, workerData: unknown) {
    this.worker = new Worker(workerFile(script), { workerData });
    this.worker.unref();
    this.worker.on("message", (replies: readonly Reply[]) => {
      for (const reply of replies) {
        const call = this.waiting.get(reply.id);
        this.waiting.delete(reply.id);
        if ("error" in reply) call?.reject(revive(reply.error));
        else call?.resolve(reply.value);
      }
      // A worker that is being ended has to hold the process until it is.
      if (this.waiting.size === 0 && !this.ended) this.worker.unref();
    });
    this.worker.on("error", (error) =>
      this.fail(new RunError(`a worker thread failed: ${error.message}`, { cause: error })),
    );
    this.worker.on("exit", () => this.fail(new Error("the worker thread has ended")));
  }

  private fail(error: Error): void {
    this.ended ??= error;
    for (const { reject } of this.waiting.values()) reject(this.ended);
    this.waiting.clear();
  }

  private post(requests: readonly Request[], given: ArrayBuffer[]): void {
    try {
      this.worker.postMessage(requests, given);
    } catch (error) {
      // What can't travel.
      for (const { id } of requests) {
        this.waiting.get(id)?.reject(error);
        this.waiting.delete(id);
      }
    }
  }

  call<T>(method: string, ...args: readonly unknown[]): Promise<T> {
    return this.callWith([], method, ...args);
  }

  /** A call that gives memory away with its arguments. */
  callWith<T>(given: readonly ArrayBuffer[], method: string, ...args: readonly unknown[]): Promise<T> {
    if (this.ended) return Promise.reject(this.ended);
    return new Promise<T>((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.worker.ref();
      this.requests.add({ id, method, args }, given);
    });
  }

  async end(): Promise<void> {
    this.ended ??= new Error("the worker thread has ended");
    await this.worker.terminate();
  }
}
