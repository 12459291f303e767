// Signals of the operating system, and what the process ends with.
import { Interrupted } from "../context/run-context.ts";
import { onParentEnd } from "../platform/node/parent-end.ts";
import { UserError } from "../utils/errors.ts";

/** What a shell expects a process to end with that a signal has stopped: 128 and the signal's number. */
const exitCodes = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
type SignalName = keyof typeof exitCodes;

/** Why a run was stopped. */
class SignalReason extends Error {
  readonly signal: SignalName;

  constructor(signal: SignalName) {
    super(`stopped by ${signal}`);
    this.signal = signal;
  }
}

export interface Stopping {
  readonly signal: AbortSignal;
  /** Lets the system's own handling take over again. */
  release(): void;
}

/** The first signal stops the run, which saves what can be resumed; the second ends the process at once. */
export function stopOnSignals(announce: (message: string) => void): Stopping {
  const controller = new AbortController();
  const handlers = (Object.keys(exitCodes) as SignalName[]).map((name) => {
    const handler = () => {
      if (controller.signal.aborted) process.exit(exitCodes[name]);
      announce("Stopping and saving what can be resumed. Press Ctrl-C again to stop at once.");
      controller.abort(new SignalReason(name));
    };
    process.on(name, handler);
    return { name, handler };
  });
  onParentEnd(() => controller.abort(new SignalReason("SIGTERM")));
  return {
    signal: controller.signal,
    release() {
      // After a first signal a second one still ends the process with its own exit code.
      if (controller.signal.aborted) return;
      for (const { name, handler } of handlers) process.off(name, handler);
    },
  };
}

/** 2 for a mistake of the user's, 128 and more after a signal, 1 for all else. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UserError) return 2;
  if (!(error instanceof Interrupted)) return 1;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    if (cause instanceof SignalReason) return exitCodes[cause.signal];
  return exitCodes.SIGINT;
}
