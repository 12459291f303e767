// What the operating system answers, as messages that name the path and what to do.
import type { ErrorCode } from "../../utils/errors.ts";
import { RunError, UserError } from "../../utils/errors.ts";

interface Meaning {
  /** Stands behind "can't be read: " and the like. */
  readonly text: string;
  /** Whether another path or other permissions help: then it is the user's, else the run's failure. */
  readonly user: boolean;
  readonly code?: ErrorCode;
}

const meanings: Readonly<Record<string, Meaning>> = {
  ENOENT: { text: "it does not exist. Check the path", user: true, code: "FILE_NOT_FOUND" },
  ENOTDIR: { text: "a part of the path is a file, not a folder. Check the path", user: true },
  EISDIR: { text: "it is a folder, not a file. Name a file", user: true },
  EEXIST: { text: "it exists already. Give another path", user: true },
  ENOTEMPTY: { text: "it is a folder that is not empty. Give another path", user: true },
  EACCES: { text: "permission denied. Change its permissions, or give another path", user: true },
  EPERM: { text: "permission denied. Change its permissions, or give another path", user: true },
  EROFS: { text: "the disk is read-only. Give another path", user: true },
  ELOOP: { text: "its links lead back to themselves. Fix the links, or give another path", user: true },
  ENAMETOOLONG: { text: "its name is too long. Give a shorter path", user: true },
  EINVAL: { text: "its name is not valid on this file system. Give another path", user: true },
  ENOSPC: { text: "the disk is full. Free some space", user: false },
  EDQUOT: { text: "the disk quota is used up. Free some space", user: false },
  EFBIG: { text: "the file system allows no file of this size. Give a path on another disk", user: false },
  EMFILE: { text: "too many files are open in this process. Raise the limit (ulimit -n)", user: false },
  ENFILE: { text: "too many files are open on this system. Close other programs", user: false },
  ENOMEM: { text: "the memory is not enough", user: false, code: "OUT_OF_MEMORY" },
  EBUSY: { text: "another program uses it. Close that program", user: false },
  ETXTBSY: { text: "another program uses it. Close that program", user: false },
  EIO: { text: "the disk reported an error. Check the disk", user: false },
};

/** The system's name of an error, such as `ENOENT`; empty where it has none. */
export function systemCode(error: unknown): string {
  const code: unknown = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "";
}

/** Why the system refused something and what to do, without a full stop: stands behind "can't be written: ". */
export const systemReason = (error: unknown): string =>
  meanings[systemCode(error)]?.text ?? (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");

function translated(path: string, done: "read" | "written", error: unknown): UserError | RunError {
  if (error instanceof UserError || error instanceof RunError) return error;
  // An unknown answer to a request to read is about what the user named.
  const { user = done === "read", code }: Partial<Meaning> = meanings[systemCode(error)] ?? {};
  const options = {
    code: code ?? (done === "read" ? ("FILE_NOT_READABLE" as const) : ("OUTPUT_NOT_WRITABLE" as const)),
    cause: error,
  };
  const message = `${path} can't be ${done}: ${systemReason(error)}.`;
  return user ? new UserError(message, options) : new RunError(message, options);
}

/** What a failed attempt to open, list or read a path is reported as; errors that are messages already stay. */
export const readError = (path: string, error: unknown): UserError | RunError => translated(path, "read", error);

/** What a failed write is reported as; errors that are messages already stay. */
export const writeError = (path: string, error: unknown): UserError | RunError => translated(path, "written", error);
