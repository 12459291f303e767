// Options from a configuration file.
import { longestFile } from "../files/storage.ts";
import { readWhole } from "../platform/node/node-files.ts";
import { UserError } from "../utils/errors.ts";
import { quote } from "../utils/quote.ts";

/** Reads a YAML or JSON file of options, in camelCase. Throws a UserError where it can't be read. */
export async function readConfig(path: string): Promise<Record<string, unknown>> {
  const bytes = await readWhole(path, longestFile.text);
  if (!bytes) throw new UserError(`There is no configuration file ${path}.`, { code: "FILE_NOT_FOUND" });
  const text = new TextDecoder().decode(bytes);
  const { parse: parseYaml } = await import("yaml");
  let value: unknown;
  try {
    value = parseYaml(text);
  } catch (error) {
    throw new UserError(
      `${path} is neither YAML nor JSON: ${(error as Error).message.split("\n")[0].replace(/[.:]?$/, ".")}`,
      {
        code: "INVALID_OPTION",
      },
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${path} must hold options by name (camelCase), such as "rank: 64", got ${quote(value)}.`, {
      code: "INVALID_OPTION",
    });
  }
  return value as Record<string, unknown>;
}
