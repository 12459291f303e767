// Calls from the main thread to a worker thread.
import { Worker } from "node:worker_threads";
import { RunError } from "../../utils/errors.ts";
import type { Reply, Request } from "./rpc.ts";
import { revive } from "../carried-errors.ts";
import { Outbox } from "./rpc.ts";
import { workerFile } from "./worker-files.ts";

/**
 * One worker and the calls that wait for its answers. While a call is pending the worker keeps the process alive; an idle
 * worker does not, whether its last call succeeded or failed.
 */
export class WorkerCalls {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: unknown): void }>();
  private readonly requests = new Outbox<Request>((items, given) => this.post(items, given), queueMicrotask);
  private next = 0;
  private ended: Error | undefined;

  constructor(script: string, workerData: unknown) {
    this.worker = new Worker(workerFile(script), { workerData });
    this.worker.on("message", (replies: readonly Reply[]) => {
      for (const reply of replies) {
        const call = this.waiting.get(reply.id);
        this.waiting.delete(reply.id);
        if ("error" in reply) call?.reject(revive(reply.error));
        else call?.resolve(reply.value);
      }
      this.releaseWhenIdle();
    });
    this.worker.on("error", (error) =>
      this.fail(new RunError(`A worker thread failed: ${error.message}`, { cause: error })),
    );
    this.worker.on("exit", () => this.fail(new Error("the worker thread has ended")));
    // After the listeners: adding one for messages makes the worker keep the process alive again.
    this.worker.unref();
  }

  /** Lets the process end while no call is pending. */
  private releaseWhenIdle(): void {
    // `end` waits for the thread itself.
    if (this.waiting.size === 0 && !this.ended) this.worker.unref();
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
      this.releaseWhenIdle();
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
    // An idle worker would let the process end before its thread does, in the middle of the caller's `await`.
    this.worker.ref();
    await this.worker.terminate();
  }
}
