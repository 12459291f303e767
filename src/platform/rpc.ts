// Calls across a worker's boundary: requests numbered, errors carried over with their kind.
import { RunError, UserError } from "../utils/errors.ts";

export interface Request {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

export type Reply =
  | { readonly id: number; readonly value: unknown }
  | {
      readonly id: number;
      readonly error: { readonly name: string; readonly message: string; readonly stack?: string };
    };

type Methods = Readonly<Record<string, (...args: never[]) => Promise<unknown>>>;

/** Answers one request by calling a method. */
export async function answer(methods: Methods, { id, method, args }: Request): Promise<Reply> {
  try {
    return { id, value: await methods[method](...(args as never[])) };
  } catch (caught) {
    const error = caught instanceof Error ? caught : new Error(String(caught));
    return { id, error: { name: error.name, message: error.message, stack: error.stack } };
  }
}

/** The error that a reply carries, of its own class again. */
export function revive({ name, message, stack }: { name: string; message: string; stack?: string }): Error {
  const error =
    name === "UserError" ? new UserError(message) : name === "RunError" ? new RunError(message) : new Error(message);
  if (stack) error.stack = stack;
  return error;
}
