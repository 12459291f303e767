// Running a command: what loads the commands and ONNX Runtime, which help and mistakes in options do without.
import type { CommandRow } from "./command-row.ts";
// First of all: what starts a worker must find the setting.
import "../platform/node/no-telemetry.ts";
import type { Command } from "../commands/command.ts";
import { commands } from "../commands/registry.ts";
import { runOnNode } from "../platform/node/node.ts";
import { UserError } from "../utils/errors.ts";
import { kebab } from "../utils/option-names.ts";
import { blockOtherLoaders } from "../platform/node/image-loaders.ts";
import { readConfig } from "./config-file.ts";
import { command as demo } from "./demo.ts";
import { positionalName } from "./flags.ts";
import { createProgress } from "./progress-line.ts";
import { stopOnSignals } from "./signals.ts";

/** A command's result, and that as text. */
export interface Outcome {
  readonly result: unknown;
  readonly text: string;
}

/** Runs a command with what was given, over what its configuration file says. Throws a UserError where an option is missing. */
export async function runCommandLine(
  row: CommandRow,
  given: Readonly<Record<string, unknown>>,
  config: string | undefined,
): Promise<Outcome> {
  const options = { ...(config === undefined ? {} : await readConfig(config)), ...given };
  refuseMissing(row, options);
  const definition: Command | undefined = [...commands, demo].find(({ name }) => name === row.name);
  if (!definition) throw new Error(`there is no command ${row.name}`);
  // Files of users are decoded here alone, so that nothing but the formats that are read needs a loader.
  blockOtherLoaders();
  const progress = createProgress(process.stderr);
  const stopping = stopOnSignals((message) => progress.info?.(message));
  try {
    const result = await runOnNode(definition, options, { listener: progress, signal: stopping.signal });
    return { result, text: definition.text(result) };
  } finally {
    stopping.release();
    progress.end();
  }
}

/** Throws a UserError that names the options a command can't do without. */
function refuseMissing(
  { name, required, insteadOfAll, positional }: CommandRow,
  options: Readonly<Record<string, unknown>>,
): void {
  if (insteadOfAll !== undefined && options[insteadOfAll] !== undefined) return;
  const missing = required.filter((key) => options[key] === undefined);
  if (missing.length === 0) return;
  const named = missing.map((key) => (positional.includes(key) ? `<${positionalName(key)}>` : `--${kebab(key)}`));
  throw new UserError(`${name} needs ${named.join(" and ")}. See: wecolora ${name} --help`, { code: "INVALID_OPTION" });
}
