// What scripts of schedulers share: they start a task, hand a stop on to it, and end with its exit code.
import { shellWord } from "../utils/option-names.ts";

/**
 * Lines of bash that run a command in the background, forward SIGTERM to it, and set `code` to its exit code. A stopped command
 * saves what can be resumed before it ends.
 */
export const forwardingLines = (words: readonly string[]): string[] => [
  "stopped=",
  `trap 'stopped=1; kill -TERM "$child" 2>/dev/null' TERM`,
  `${words.join(" ")} &`,
  "child=$!",
  'wait "$child"',
  "code=$?",
  "# A signal ends the first wait, not the task.",
  '[ -z "$stopped" ] || { wait "$child"; code=$?; }',
];

/** Exit codes of a task that was stopped by a signal and has saved what can be resumed. */
export const stoppedCodes: readonly number[] = [129, 130, 143];

/** A command line of wecolora as words of a shell. */
export const commandWords = (self: readonly string[], args: readonly string[]): string[] =>
  [...self, ...args].map(shellWord);
