// Names of models, revisions and files on a hub: which files of a repository are taken, and which names are refused.
//
// Names that come from a user or a server and become paths in the cache: what leads out of it is refused by name.
import { RunError, UserError } from "../utils/errors.ts";

const namePattern = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
export const commitPattern = /^[0-9a-f]{40}$/;
/** The longest hub name and the longest part of a path, in bytes. */
const [longestName, longestPart] = [96, 255];

/** Whether a word may be a hub name: two parts, which no path that exists has to be. */
export function isHubName(name: string): boolean {
  return name.length <= longestName && namePattern.test(name) && !name.includes("..");
}

/** Why a path with `/` can't be one below a folder on some system; undefined where it can. */
function escapes(path: string): string | undefined {
  if (path.includes("\0")) return "it holds a NUL character";
  if (path.includes("\\")) return "it holds a backslash";
  if (/^[A-Za-z]:/.test(path)) return "it begins with a drive letter";
  if (path.startsWith("/")) return "it is an absolute path";
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) return "it holds an empty part, . or ..";
  return undefined;
}

/** Characters of control, direction and no width, and halves of characters, which addresses can't hold. */
const hidden = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** Why a path that stays below its folder can't be written on every system. */
function unwritable(path: string): string | undefined {
  for (const part of path.split("/")) {
    if (/^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$/i.test(part))
      return `${part} is a reserved name on Windows`;
    if (/[<>:"|?*]/.test(part)) return "it holds a character that file names can't have on Windows";
    if (hidden.test(part)) return "it holds control characters";
    if (/[. ]$/.test(part)) return "a part ends with a dot or a space";
    if (new TextEncoder().encode(part).length > longestPart) return `a part is longer than ${longestPart} bytes`;
  }
  return undefined;
}

/** A name as messages show it: not too long, and without characters that act on a terminal. */
const shown = (name: string) =>
  JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}...` : name).replace(
    new RegExp(hidden, "gu"),
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );

/** @throws a UserError where a revision is no name of a branch, tag or commit, or leads out of the cache */
export function checkRevision(revision: string): void {
  const problem =
    revision === ""
      ? "it is empty"
      : (escapes(revision) ??
        unwritable(revision) ??
        // Git has none of these in names; `%` would be another name once decoded.
        (/[\s~^[%]|@\{|\.lock(\/|$)|(^|\/)[.-]/.test(revision) ? "git allows no such name" : undefined));
  if (problem)
    throw new UserError(
      `--revision must be a branch, tag or commit such as main, v1.0 or refs/pr/1, got ${shown(revision)}: ${problem}.`,
      { code: "INVALID_OPTION" },
    );
}

/** @throws a RunError where a repository's list of files has a name that leads out of its folder */
export function checkListing(files: readonly string[], repository: string): void {
  for (const file of files) {
    const problem = escapes(file);
    if (problem)
      throw new RunError(`${repository} lists a file ${shown(file)}, which is refused: ${problem}.`, {
        code: "DOWNLOAD_FAILED",
      });
  }
}

/** @throws a RunError where a file that is to be downloaded can't be written under its name */
export function checkFileName(file: string, repository: string): void {
  const problem = escapes(file) ?? unwritable(file);
  if (problem)
    throw new RunError(`${repository} has a file ${shown(file)}, which is refused: ${problem}.`, {
      code: "DOWNLOAD_FAILED",
    });
}

/** Files of weights in the order of preference; the first kind that a model has is taken. */
export const weightFiles = [
  /^model\.safetensors$/,
  /^model\.safetensors\.index\.json$/,
  /^pytorch_model\.bin$/,
  /^pytorch_model\.bin\.index\.json$/,
  /^[^/]+\.safetensors$/,
  /^[^/]+\.pth$/,
];
export const configFile = "config.json";
/** The model card. */
export const cardFile = "README.md";
/** Where preprocessing is stored: the second is what transformers 5 writes for some models. */
export const preprocessingFiles = ["preprocessor_config.json", "processor_config.json"];
export const settingFiles = [...preprocessingFiles, configFile];
/** Bytes that a file of settings or an index may have. */
export const mostJsonBytes = 16 * 2 ** 20;

/**
 * Files that an index of a checkpoint in several files names. Throws `problem` where it is no such index, a RunError where a file
 * can't be written under its name.
 */
export function shardNames(index: string, owner: string, problem: Error): string[] {
  let names: unknown[];
  try {
    const { weight_map: map } = JSON.parse(index) as { weight_map: Record<string, unknown> };
    names = [...new Set(Object.values(map))];
  } catch {
    throw problem;
  }
  const shards = names.filter((name) => typeof name === "string");
  if (shards.length === 0 || shards.length < names.length || shards.some((name) => name.includes("/"))) throw problem;
  for (const shard of shards) checkFileName(shard, owner);
  return shards;
}
