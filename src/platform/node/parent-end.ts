// A task that another process of wecolora started ends with it: its standard input is a pipe that nothing is written to, and the
// system closes it when the process at the other end is gone. So no task of a killed launcher runs on and holds its lock.

/** Set where standard input is such a pipe. */
export const parentVariable = "WECOLORA_PARENT";

/** Calls `stop` when the process that started this one is gone; does nothing where this one stands alone. */
export function onParentEnd(stop: () => void): void {
  if (process.env[parentVariable] !== "stdin") return;
  // Programs that this process starts have another parent.
  delete process.env[parentVariable];
  process.stdin.on("end", stop).on("error", stop).resume();
  // A socket in Node, which would keep the process alive.
  if ("unref" in process.stdin) process.stdin.unref();
}
