// Errors meant for people: one clear message, no stack trace.
import { shorten } from "./quote.ts";

/** Nobody reads more, and a file's names in a message may be endless. */
const longestMessage = 2000;

/** What an error is about, for programs: stable names, listed in the documentation. */
export const errorCodes = {
  INVALID_OPTION: "An option is unknown, missing or out of range.",
  INVALID_INPUT: "A file, model, image or data set is not what the command needs.",
  FILE_NOT_FOUND: "A file or folder is not there.",
  FILE_NOT_READABLE: "A file can't be read, or is damaged.",
  OUTPUT_IN_USE: "The output folder is in use, holds something else, or can't be written.",
  NOT_A_VIT: "The model is no vision transformer that is supported.",
  INTERRUPTED: "The run was stopped; what can be resumed was saved.",
  RUN_FAILED: "Something failed while running.",
  INTERNAL: "A fault of wecolora's own.",
} as const;
export type ErrorCode = keyof typeof errorCodes;

interface CodedOptions extends ErrorOptions {
  readonly code?: ErrorCode;
}

/** Something the caller can fix (a file, an option, a value). The command line exits with 2. */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly code: ErrorCode;

  constructor(message: string, { code = "INVALID_INPUT", ...options }: CodedOptions = {}) {
    super(shorten(message, longestMessage), options);
    this.code = code;
  }
}

/** Something failed while running (a loss that is not finite, a full disk). The command line exits with 1. */
export class RunError extends Error {
  override readonly name: string = "RunError";
  readonly code: ErrorCode;

  constructor(message: string, { code = "RUN_FAILED", ...options }: CodedOptions = {}) {
    super(shorten(message, longestMessage), options);
    this.code = code;
  }
}

/** A UserError about where a command writes. */
export const outputError = (message: string): UserError => new UserError(message, { code: "OUTPUT_IN_USE" });

/** The code of any error. */
export const codeOf = (error: unknown): ErrorCode =>
  error instanceof UserError || error instanceof RunError ? error.code : "INTERNAL";

/** Longer words are no slips of the pen, and would take long to compare. */
const longestWord = 100;

/** The candidate nearest to `word` by edit distance, where one is near enough to be meant. */
export function nearestName(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length > longestWord) return undefined;
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(previous[j] + 1, row[j - 1] + 1, change));
    }
    previous = row;
  }
  return previous[b.length];
}
