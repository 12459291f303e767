// Checks that numbers are finite: a figure made of NaN or infinity says nothing, and can look right.
import { RunError } from "./errors.ts";

/** The place of the first value that is NaN or infinite; -1 where all are finite. */
export function firstNotFinite(values: ArrayLike<number>): number {
  // Zero times a finite number is zero: one sum tells of all, and is quick.
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += 0 * values[i];
  if (sum === 0) return -1;
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

/** Throws a RunError that names what the values are where one of them is not finite. */
export function requireFinite(values: ArrayLike<number>, what: string): void {
  const at = firstNotFinite(values);
  if (at >= 0)
    throw new RunError(`${what} must be finite numbers, but value ${at + 1} of ${values.length} is ${values[at]}.`, {
      code: "NOT_FINITE",
    });
}

/** The same for a single figure, which it gives back. */
export function finite(value: number, what: string): number {
  if (!Number.isFinite(value))
    throw new RunError(`${what} must be a finite number, but is ${value}.`, { code: "NOT_FINITE" });
  return value;
}
