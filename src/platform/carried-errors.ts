// Errors as they travel between threads, and of their own class again behind that.
import { Interrupted } from "../context/run-context.ts";
import type { ErrorCode } from "../utils/errors.ts";
import { codeOf, RunError, UserError } from "../utils/errors.ts";

/** An error as it travels between threads. */
export interface CarriedError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: ErrorCode;
}

/** What is sent of an error. */
export function carried(caught: unknown): CarriedError {
  const error = caught instanceof Error ? caught : new Error(String(caught));
  const { name, message, stack } = error;
  return { name, message, stack, code: codeOf(error) };
}

/** The error that was carried. */
export function revive({ name, message, stack, code }: CarriedError): Error {
  const error = revived(name, message, code);
  if (stack) error.stack = stack;
  return error;
}

function revived(name: string, message: string, code: ErrorCode | undefined): Error {
  if (name === "UserError") return new UserError(message, { code });
  if (name === "RunError") return new RunError(message, { code });
  if (name === "AbortError" && code === "INTERRUPTED") return new Interrupted(message);
  return new Error(message);
}
