// What every run gets: its platform, whoever watches it, and the signal that stops it.
import type { Skipped } from "../data/loader.ts";
import { countUnused } from "../data/unused.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { shorten } from "../utils/quote.ts";
import type { Environment, LoadRequest } from "./environment.ts";
import { counted } from "../utils/counted.ts";

/** Receives what a run reports while it runs; all parts are optional. */
export interface Listener {
  /** A stage begins; `total` units are expected where that is known. */
  stage?(name: string, total?: number): void;
  /** Units done in this stage, and what is worth seeing now. */
  progress?(done: number, note?: string): void;
  info?(message: string): void;
  /** What may be wrong, in one line, and further lines where it is a list. */
  warn?(message: string, details?: readonly string[]): void;
}

export interface RunContext {
  readonly environment: Environment;
  readonly listener: Listener;
  /**
   * Stops the run. Sessions, image sources and downloads of the environment check it by themselves; loops that use none
   * of these for long check it too.
   */
  readonly signal: AbortSignal;
}

/** A context without a listener and with a signal that never fires, where these are left out. */
export function runContext(
  environment: Environment,
  { listener = {}, signal = new AbortController().signal }: Partial<Omit<RunContext, "environment">> = {},
): RunContext {
  return { environment, listener: stoppableListener(listener, signal), signal };
}

/** A listener that throws the signal's reason once it has fired: a run stops wherever it reports how far it is. */
function stoppableListener(listener: Listener, signal: AbortSignal): Listener {
  return {
    ...listener,
    stage(name, total) {
      signal.throwIfAborted();
      listener.stage?.(name, total);
      signal.throwIfAborted();
    },
    progress(done, note) {
      listener.progress?.(done, note);
      signal.throwIfAborted();
    },
  };
}

/** A run that was stopped by its signal; what can be resumed has been saved. */
export class Interrupted extends RunError {
  override readonly name = "AbortError";

  constructor(message: string, options?: ErrorOptions) {
    super(message, { code: "INTERRUPTED", ...options });
  }
}

/**
 * Runs a stage that can be stopped. Where it fails after the signal has fired, throws Interrupted with `advice`: what the
 * user does to go on.
 */
export async function interruptible<T>(
  { signal }: RunContext,
  advice: () => string,
  run: () => Promise<T>,
): Promise<T> {
  try {
    signal.throwIfAborted();
    return await run();
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Interrupted(`Stopped. ${advice()}`, { cause: error });
  }
}

/** How a run has models loaded; warnings and downloads are reported to its listener. */
export function loadRequest(
  { listener, signal }: RunContext,
  options: Omit<LoadRequest, "warn" | "download" | "signal">,
): LoadRequest {
  let shown = "";
  return {
    ...options,
    signal,
    warn: (message) => listener.warn?.(message),
    download({ file, done, total }) {
      if (file !== shown) listener.stage?.(`downloading ${file} (MB)`, Math.ceil(total / 1e6));
      shown = file;
      listener.progress?.(Math.round(done / 1e6));
    },
  };
}

/** Reasons from the decoder name the file already. */
const describe = (name: string, reason: string) => (reason.includes(name) ? reason : `${name}: ${reason}`);

/** Collects files that are not used, says why, and refuses those that something is wrong with where the run is strict. */
export class SkippedImages {
  private readonly files = new Map<string, Skipped>();
  private readonly strict: boolean;
  private shown = 0;

  constructor(strict: boolean) {
    this.strict = strict;
  }

  readonly add = (file: Skipped): void => {
    const { name, reason, expected } = file;
    if (this.strict && !expected)
      throw new UserError(`${describe(name, reason)} (strict is on).`, { code: "NOT_AN_IMAGE" });
    this.files.set(name, file);
  };

  /** Adds what a data set does not use, and shows it at once. */
  open(context: RunContext, files: readonly Skipped[]): void {
    for (const file of files) this.add(file);
    this.report(context);
  }

  get count(): number {
    return this.files.size;
  }

  /** Shows what was not shown before: a line for each reason, with the first few files. */
  report({ listener }: RunContext): void {
    const unseen = [...this.files.values()].slice(this.shown);
    this.shown = this.files.size;
    if (unseen.length === 0) return;
    const counts = countUnused(unseen);
    const shown = counts.slice(0, mostReasons).map(({ reason, count, names }) => {
      const first = unseen.find((file) => (file.group ?? file.reason) === reason);
      if (count === 1 && first) return describe(shorten(first.name), first.reason);
      return `${reason}: ${count} (${names.map((name) => shorten(name)).join(", ")}${count > names.length ? ", ..." : ""})`;
    });
    const more = counts.length > shown.length ? [`and ${counts.length - shown.length} more reasons`] : [];
    listener.warn?.(`Skipped ${counted(unseen.length, "file")}:`, [...shown, ...more]);
  }
}

/** Reasons that are shown; decoders give many. */
const mostReasons = 20;
