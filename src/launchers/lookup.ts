// Launchers by their names.
import { UserError } from "../utils/errors.ts";
import type { Launcher } from "./launcher.ts";
import { launchers } from "./registry.ts";

const byName = new Map<string, Launcher>(launchers.map((launcher) => [launcher.name, launcher]));

/** The launcher of a name. Throws a UserError where there is none. */
export function launcherOf(name: string): Launcher {
  const launcher = byName.get(name);
  if (launcher) return launcher;
  throw new UserError(`There is no launcher ${name}. Launchers are: ${[...byName.keys()].join(", ")}.`, {
    code: "INVALID_OPTION",
  });
}
