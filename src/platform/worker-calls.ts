// Calls from the main thread to a worker thread.
import { Worker } from "node:worker_threads";
import { RunError } from "../utils/errors.ts";
import type { Reply, Request } from "./rpc.ts";
import { revive } from "./rpc.ts";

/** One worker and the calls that wait for its answers. The process may end while no call is under way. */
export class WorkerCalls {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  private next = 0;
  private ended: Error | undefined;

  constructor(script: string, workerData: unknown) {
    this.worker = new Worker(new URL(script, import.meta.url), { workerData });
    this.worker.unref();
    this.worker.on("message", (reply: Reply) => {
      const call = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      // A worker that is being ended has to hold the process until it is.
      if (this.waiting.size === 0 && !this.ended) this.worker.unref();
      if ("error" in reply) call?.reject(revive(reply.error));
      else call?.resolve(reply.value);
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

  call<T>(method: string, ...args: readonly unknown[]): Promise<T> {
    if (this.ended) return Promise.reject(this.ended);
    return new Promise<T>((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.worker.ref();
      try {
        this.worker.postMessage({ id, method, args } satisfies Request);
      } catch (error) {
        this.waiting.delete(id);
        reject(error);
      }
    });
  }

  async end(): Promise<void> {
    this.ended ??= new Error("the worker thread has ended");
    await this.worker.terminate();
  }
}
