// Errors meant for people: one clear message, no stack trace.
import { shorten } from "./quote.ts";

/** Nobody reads more, and a file's names in a message may be endless. */
const longestMessage = 2000;

/** What an error is about, for programs: stable names, listed in the documentation. */
export const errorCodes = {
  INVALID_OPTION: "An option is unknown, missing, out of range, or doesn't go with another one.",
  INVALID_INPUT: "What was given is not what the command or function needs.",
  FILE_NOT_FOUND: "A file or folder is not there.",
  FILE_NOT_READABLE: "A file can't be read: permissions, damage, or an unknown format.",
  NOT_A_MODEL: "A file or folder given as a model holds no model that can be read.",
  NOT_A_VIT: "A model is not a vision transformer that is supported.",
  NOT_AN_IMAGE: "A file is not an image that can be decoded.",
  NO_IMAGES: "A data set holds no image that can be used.",
  INVALID_DATA: "A data set, its labels or its masks are not as the format or the command needs them.",
  OUTPUT_IN_USE: "An output folder or file is in use, or holds something else.",
  OUTPUT_NOT_WRITABLE: "An output can't be written: permissions, a read-only disk, or a full disk.",
  RUN_NOT_FOUND: "A folder holds no run, or a run that can't be resumed.",
  DOWNLOAD_FAILED: "A download from the hub failed or was refused.",
  DEVICE_NOT_AVAILABLE: "The device asked for can't be used here.",
  OUT_OF_MEMORY: "The memory is not enough.",
  NOT_FINITE: "A loss or a result is not a finite number.",
  INTERRUPTED: "The run was stopped; what can be resumed was saved.",
  RUN_FAILED: "Something failed while running.",
  INTERNAL: "A fault of wecolora's own. Please report it.",
} as const;
export type ErrorCode = keyof typeof errorCodes;

interface CodedOptions extends ErrorOptions {
  readonly code?: ErrorCode;
}

/** Messages are sentences: those that end without a mark get a full stop, but for a command at the end, which is copied. */
const asSentence = (message: string): string =>
  shorten(/[.?!:…]$|: wecolora .*$/.test(message) ? message : `${message}.`, longestMessage);

/** Something the caller can fix (a file, an option, a value). The command line exits with 2. */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly code: ErrorCode;

  constructor(message: string, { code = "INVALID_INPUT", ...options }: CodedOptions = {}) {
    super(asSentence(message), options);
    this.code = code;
  }
}

/** How an option is called where it was typed: `rank`, `--rank`, `rank in options.yaml`. */
export type NameOption = (option: string) => string;
/** What is wrong with an option, as a sentence. */
export type OptionProblem = (name: NameOption) => string;

/** Options that don't fit. The message names them as the library does; the command line names them as they were typed. */
export class OptionError extends UserError {
  private readonly problems: readonly OptionProblem[];
  private readonly what: string | undefined;

  /** @param what whose options they are: `options of distill`, or the file that they stand in */
  constructor(problems: readonly OptionProblem[], what?: string) {
    const begin = what === undefined ? "" : `${what.replace(/^(?=options of |the )./, (c) => c.toUpperCase())}: `;
    super(`${begin}${problems.map((problem) => problem((option) => option)).join(" ")}`, { code: "INVALID_OPTION" });
    this.problems = problems;
    this.what = what;
  }

  /** The message with options named as they were typed; options that stand in a file of their own keep their names. */
  typed(name: NameOption): string {
    if (this.what !== undefined && !this.what.startsWith("options of ")) return this.message;
    return asSentence(this.problems.map((problem) => problem(name)).join(" "));
  }
}

/** Something failed while running (a loss that is not finite, a full disk). The command line exits with 1. */
export class RunError extends Error {
  override readonly name: string = "RunError";
  readonly code: ErrorCode;

  constructor(message: string, { code = "RUN_FAILED", ...options }: CodedOptions = {}) {
    super(asSentence(message), options);
    this.code = code;
  }
}

/** A UserError about an output that is in use, or holds something else. */
export const outputError = (message: string): UserError => new UserError(message, { code: "OUTPUT_IN_USE" });
/** A UserError about an output that can't be written. */
export const notWritable = (message: string): UserError => new UserError(message, { code: "OUTPUT_NOT_WRITABLE" });

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
