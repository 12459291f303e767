// Calls across a worker's boundary: requests numbered, errors carried over with their kind. What is sent in one turn travels as one
// message: a step moves some hundred tensors, each of which would cost a message there and one back.
import { parentPort } from "node:worker_threads";
import type { Tensor } from "../../utils/tensor.ts";
import type { CarriedError } from "../carried-errors.ts";
import { carried } from "../carried-errors.ts";

export interface Request {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

export type Reply =
  | { readonly id: number; readonly value: unknown }
  | {
      readonly id: number;
      readonly error: CarriedError;
    };

type Methods = Readonly<Record<string, (...args: never[]) => Promise<unknown>>>;

/** The memory of a tensor that is its alone, to be given away with a message instead of copied. */
export function ownMemory({ data }: Tensor): ArrayBuffer[] {
  const { buffer, byteLength } = data;
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
}

/** Gathers what is to be sent until `schedule` calls back, and posts it together, with the memory that it gives away. */
export class Outbox<T> {
  private readonly post: (items: readonly T[], given: ArrayBuffer[]) => void;
  private readonly schedule: (flush: () => void) => void;
  private items: T[] = [];
  private given: ArrayBuffer[] = [];

  constructor(post: (items: readonly T[], given: ArrayBuffer[]) => void, schedule: (flush: () => void) => void) {
    this.post = post;
    this.schedule = schedule;
  }

  add(item: T, given: readonly ArrayBuffer[]): void {
    if (this.items.push(item) === 1) this.schedule(() => this.flush());
    this.given.push(...given);
  }

  private flush(): void {
    const { items, given } = this;
    [this.items, this.given] = [[], []];
    this.post(items, given);
  }
}

/** Lets a worker's thread answer requests by calling methods; `moved` says which memory of a reply is given away. */
export function serve(methods: Methods, moved: (method: string, value: unknown) => readonly ArrayBuffer[]): void {
  const replies = new Outbox<Reply>(
    (items, given) => parentPort?.postMessage(items, given),
    (flush) => setImmediate(flush),
  );
  const reply = async (request: Request) => {
    const answered = await answer(methods, request);
    replies.add(answered, "value" in answered ? moved(request.method, answered.value) : []);
  };
  parentPort?.on("message", (requests: readonly Request[]) => {
    for (const request of requests) void reply(request);
  });
}

/** Answers one request by calling a method. */
async function answer(methods: Methods, { id, method, args }: Request): Promise<Reply> {
  try {
    return { id, value: await methods[method](...(args as never[])) };
  } catch (caught) {
    return { id, error: carried(caught) };
  }
}
