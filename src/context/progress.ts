// What a run reports, as one stream of events for callers of the library.
import type { Listener } from "./run-context.ts";

/** Something that a run reports. */
export type ProgressEvent =
  /** A stage begins; `total` units are expected where that is known. */
  | { readonly status: "stage"; readonly stage: string; readonly total?: number }
  /** Units done in a stage, and what is worth seeing now. */
  | {
      readonly status: "progress";
      readonly stage: string;
      readonly done: number;
      readonly total?: number;
      readonly note?: string;
    }
  | { readonly status: "info"; readonly message: string }
  | { readonly status: "warning"; readonly message: string };

/** What every function that runs for long takes beside its own options. */
export interface RunControls {
  /** Stops the run: it saves what can be resumed, then rejects. */
  readonly signal?: AbortSignal;
  /** Receives what the run reports. */
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** A listener that hands everything on as events. */
export function listenerOf(onProgress: (event: ProgressEvent) => void): Listener {
  let current: { readonly stage: string; readonly total?: number } = { stage: "" };
  return {
    stage(stage, total) {
      current = { stage, ...(total === undefined ? {} : { total }) };
      onProgress({ status: "stage", ...current });
    },
    progress: (done, note) =>
      onProgress({ status: "progress", ...current, done, ...(note === undefined ? {} : { note }) }),
    info: (message) => onProgress({ status: "info", message }),
    warn: (message, details = []) =>
      onProgress({ status: "warning", message: [message, ...details.map((detail) => `  ${detail}`)].join("\n") }),
  };
}
