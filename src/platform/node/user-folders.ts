// The user's folders, as environment variables name them.
import { homedir, userInfo } from "node:os";
import { isAbsolute, join } from "node:path";

/** Environment variables by name. */
export type Variables = Readonly<Record<string, string | undefined>>;

/** The home folder; an empty or relative HOME counts as not set. */
export function homeFolder(): string {
  const home = homedir();
  return isAbsolute(home) ? home : userInfo().homedir;
}

/**
 * The folder that programs keep their caches in.
 * @see https://specifications.freedesktop.org/basedir-spec/latest/ an empty or relative XDG_CACHE_HOME is ignored
 */
export function userCacheFolder(variables: Variables = process.env): string {
  const folder = variables.XDG_CACHE_HOME;
  return folder && isAbsolute(folder) ? folder : join(homeFolder(), ".cache");
}
