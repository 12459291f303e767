// Files of ours with a format's name and version: read back through a schema, with a message where another version wrote them.
import { z } from "zod";
import { UserError } from "../utils/errors.ts";

const damaged = (message: string) => new UserError(message, { code: "FILE_NOT_READABLE" });

/** A file's format and the newest version of it that is read. */
export interface FileFormat {
  readonly format: string;
  readonly version: number;
  /** What makes a value of today's version from one of an earlier version, by that version. */
  readonly earlier?: Readonly<Record<number, (value: unknown) => unknown>>;
}

/** Parses JSON. Throws a UserError that names the file, or the line of it. */
export function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged(`${file} is not valid JSON: ${(error as Error).message}`);
  }
}

/** A value as the schema describes it. Throws a UserError that names the file and the first thing that is wrong. */
export function checkSchema<S extends z.ZodType>(schema: S, value: unknown, file: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw mismatch(result.error, file);
}

function mismatch({ issues: [issue] }: z.ZodError, file: string): UserError {
  const where = issue.path.length > 0 ? `${issue.path.join(".")}: ` : "";
  return damaged(`${file} is damaged or was changed by hand (${where}${issue.message}).`);
}

/** What `use` makes of a file's value. Throws a UserError that names the file where a schema doesn't fit it. */
export async function namingFile<T>(file: string, use: () => T | Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    throw error instanceof z.ZodError ? mismatch(error, file) : error;
  }
}

/** The lines of a file of JSON lines, each as the schema describes it, once `current` has given keys their names of today. Throws a UserError that names the line. */
export function parseLines<S extends z.ZodType>(
  schema: S,
  written: string,
  file: string,
  current: (line: unknown) => unknown = (line) => line,
): z.output<S>[] {
  return written
    .split("\n")
    .filter((line) => line !== "")
    .map((line, i) => {
      const where = `line ${i + 1} of ${file}`;
      return checkSchema(schema, current(parseJson(line, where)), where);
    });
}

/** The same as `checkSchema` for a file with a format and version. Throws a UserError that says so where another version wrote it. */
export function checkVersion<S extends z.ZodType>(
  schema: S,
  value: unknown,
  file: string,
  { format, version, earlier = {} }: FileFormat,
): z.output<S> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw damaged(`${file} must hold a JSON object.`);
  const stamp = value as { readonly format?: unknown; readonly version?: unknown };
  if (stamp.format === undefined && stamp.version === undefined)
    throw damaged(
      `${file} was written by an older wecolora, before files had a format version, or by another program.`,
    );
  if (stamp.format !== format)
    throw damaged(`${file} is not a file of the format ${format} (format: ${JSON.stringify(stamp.format) ?? "none"}).`);
  if (typeof stamp.version !== "number" || !Number.isInteger(stamp.version) || stamp.version < 1)
    throw damaged(
      `${file} has no version of the format ${format} (version: ${JSON.stringify(stamp.version) ?? "none"}).`,
    );
  if (stamp.version > version)
    throw damaged(
      `${file} was written by a newer wecolora: version ${stamp.version} of the format ${format}, and this one reads version ${version}. Update wecolora.`,
    );
  if (Object.hasOwn(earlier, stamp.version)) return checkSchema(schema, earlier[stamp.version](value), file);
  if (stamp.version < version)
    throw damaged(
      `${file} was written by an older wecolora: version ${stamp.version} of the format ${format}, and this one reads version ${version}. Use the version that wrote it, or run the command again.`,
    );
  return checkSchema(schema, value, file);
}
