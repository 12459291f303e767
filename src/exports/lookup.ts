// Exports by their names: those of this folder, and those that callers have registered.
import { z } from "zod";
import { nearestName, UserError } from "../utils/errors.ts";
import type { OptionShape } from "../utils/option-shapes.ts";
import type { ExportFormat } from "./export-format.ts";
import { exportFormats } from "./registry.ts";

/** Names of exports: those of this package, for editors to offer, and any that are registered. */
export type ExportName = (typeof exportFormats)[number]["name"] | (string & {});

const byName = new Map<string, ExportFormat>(exportFormats.map((format) => [format.name, format]));

/** Makes an export known by its name, for this process. Throws a UserError where another has the name. */
export function registerExport<Own extends OptionShape>(format: ExportFormat<Own>): void {
  const present = byName.get(format.name);
  if (present !== undefined && present !== format)
    throw new UserError(`An export named ${format.name} exists already.`);
  byName.set(format.name, format);
}

/** All exports that are known now. */
export const allExports = (): ExportFormat[] => [...byName.values()];

/** The exports that a name, or a list of names, asks for; unknown ones are left to the schema. */
export const exportsNamed = (names: unknown): ExportFormat[] =>
  allExports().filter(({ name }) => (Array.isArray(names) ? names.includes(name) : names === name));

/** The export of a name. Throws a UserError where there is none. */
export function exportOf(name: string): ExportFormat {
  const format = byName.get(name);
  if (format) return format;
  const near = nearestName(name, byName.keys());
  throw new UserError(
    `There is no export ${name}${near ? ` (did you mean ${near}?)` : ""}. Exports are ${[...byName.keys()].join(", ")}.`,
    { code: "INVALID_OPTION" },
  );
}

/** The name of an export that is known when it is asked for; help lists those of this package that are `listed`. */
const nameSchema = (listed: (format: ExportFormat) => boolean): z.ZodType<ExportName, ExportName> =>
  z
    .string()
    .superRefine((name, context) => {
      const listedExports = allExports().filter(listed);
      if (listedExports.some((format) => format.name === name)) return;
      const names = listedExports.map((format) => format.name);
      context.addIssue({
        code: "invalid_value",
        values: names,
        input: name,
        message: `Invalid option: expected one of ${names.map((listedExports) => JSON.stringify(listedExports)).join("|")}`,
      });
    })
    .meta({
      open: true,
      enum: allExports()
        .filter(listed)
        .map((format) => format.name),
    });

/** What `--to` takes. */
export const exportName = nameSchema(() => true);

/** What `saveModel` takes: exports that need no run. */
export const saveName = nameSchema(({ needsRun }) => !needsRun);

/** Help on what each export is. */
export const exportHelp = (): string =>
  allExports()
    .map(
      ({ name, summary, dtype }) =>
        `  ${name.padEnd(18)} ${summary}${dtype ? ` (dtype ${dtype} of transformers.js)` : ""}`,
    )
    .join("\n");
