// Keeps what runs report.
import type { ProgressEvent } from "wecolora/node";

/** Collects the messages of a run, warnings and others, in a list. */
export const messagesInto = (list: string[]) => (event: ProgressEvent) => {
  if (event.status === "info" || event.status === "warning") list.push(event.message);
};
