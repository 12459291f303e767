// Calls between a page and its worker, in both directions: requests numbered, what they report, and what stops them.
import type { CarriedError } from "../carried-errors.ts";
import { carried, revive } from "../carried-errors.ts";
import { RunError } from "../../utils/errors.ts";

/** What is used of a Worker, of a worker's own scope, or of a MessagePort. */
export interface MessageEnd {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent<unknown>) => void): void;
  terminate?(): void;
}

type Message =
  | { readonly kind: "call"; readonly id: number; readonly method: string; readonly args: readonly unknown[] }
  | { readonly kind: "stop"; readonly id: number }
  | { readonly kind: "report"; readonly id: number; readonly event: unknown }
  | { readonly kind: "value"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly error: CarriedError };

/** What a method gets besides its arguments. */
export interface CallContext {
  readonly signal: AbortSignal;
  report(event: unknown): void;
}

export type Methods = Readonly<Record<string, (context: CallContext, ...args: never[]) => unknown>>;

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onReport?: (event: unknown) => void;
  readonly transfer?: Transferable[];
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  readonly onReport?: (event: unknown) => void;
}

const marker = "wecolora";

/** A value that memory is given away with. */
export class Moved {
  readonly value: unknown;
  readonly transfer: Transferable[];

  constructor(value: unknown, transfer: Transferable[]) {
    this.value = value;
    this.transfer = transfer;
  }
}

/** One end of a channel: calls the other end's methods, and answers calls of its own. */
export class Channel {
  private readonly end: MessageEnd;
  private readonly methods: Methods;
  private readonly pending = new Map<number, Pending>();
  private readonly running = new Map<number, AbortController>();
  private next = 0;
  private failure: Error | undefined;

  constructor(end: MessageEnd, methods: Methods) {
    this.end = end;
    this.methods = methods;
    end.addEventListener("message", ({ data }) => {
      const [mark, message] = (Array.isArray(data) ? data : []) as [unknown, Message];
      if (mark === marker) this.receive(message);
    });
  }

  private post(message: Message, transfer: Transferable[] = []): void {
    this.end.postMessage([marker, message], transfer);
  }

  /** Rejects all calls that wait, and those to come. */
  fail(error: Error): void {
    this.failure ??= error;
    for (const { reject } of this.pending.values()) reject(this.failure);
    this.pending.clear();
  }

  call<T>(method: string, args: readonly unknown[], { signal, onReport, transfer }: CallOptions = {}): Promise<T> {
    if (this.failure) return Promise.reject(this.failure);
    signal?.throwIfAborted();
    return new Promise<T>((resolve, reject) => {
      const id = this.next++;
      const stop = () => this.post({ kind: "stop", id });
      const end = () => signal?.removeEventListener("abort", stop);
      signal?.addEventListener("abort", stop);
      this.pending.set(id, {
        resolve(value) {
          end();
          resolve(value as T);
        },
        reject(error) {
          end();
          reject(error);
        },
        onReport,
      });
      try {
        this.post({ kind: "call", id, method, args }, transfer);
      } catch (error) {
        // What can't travel, such as a directory of the caller's own.
        this.pending.get(id)?.reject(new RunError(`${method}: ${(error as Error).message}`, { cause: error }));
        this.pending.delete(id);
      }
    });
  }

  private receive(message: Message): void {
    const { id } = message;
    const waiting = this.pending.get(id);
    switch (message.kind) {
      case "call":
        void this.answer(message);
        break;
      case "stop":
        this.running.get(id)?.abort();
        break;
      case "report":
        waiting?.onReport?.(message.event);
        break;
      case "value":
        this.pending.delete(id);
        waiting?.resolve(message.value);
        break;
      case "error":
        this.pending.delete(id);
        waiting?.reject(revive(message.error));
    }
  }

  private async answer({ id, method, args }: Extract<Message, { kind: "call" }>): Promise<void> {
    const controller = new AbortController();
    this.running.set(id, controller);
    const context: CallContext = {
      signal: controller.signal,
      report: (event) => this.post({ kind: "report", id, event }),
    };
    try {
      const result = await this.methods[method](context, ...(args as never[]));
      const moved = result instanceof Moved ? result : new Moved(result, []);
      this.post({ kind: "value", id, value: moved.value }, moved.transfer);
    } catch (error) {
      this.post({ kind: "error", id, error: carried(error) });
    } finally {
      this.running.delete(id);
    }
  }
}
