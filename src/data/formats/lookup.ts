// Data formats in the order in which they are asked: those of this folder, and those that callers have registered.
import { UserError } from "../../utils/errors.ts";
import type { OptionShape } from "../../utils/option-shapes.ts";
import type { DataFormat } from "./data-format.ts";
import { dataFormats } from "./registry.ts";

const byOrder = (a: DataFormat, b: DataFormat) => a.order - b.order;

let formats: readonly DataFormat[] = [...dataFormats].sort(byOrder);

/** Makes a format known, for this process. Throws a UserError where another has its name. */
export function registerFormat<Own extends OptionShape, Seen>(format: DataFormat<Own, Seen>): void {
  const present = formats.find(({ name }) => name === format.name);
  if (present === format) return;
  if (present) throw new UserError(`A data format named ${format.name} exists already.`);
  formats = [...formats, format].sort(byOrder);
}

/** All formats that are known now, those to be asked first in front. */
export const allFormats = (): readonly DataFormat[] => formats;

/** Endings of files that can be named as a data set: `.zip, .tar or .csv`. */
export function fileEndings(): string {
  const endings = formats.flatMap(({ extensions }) => extensions);
  return `${endings.slice(0, -1).join(", ")} or ${endings.at(-1) ?? ""}`;
}

/** Help on what each format is. */
export const formatHelp = (): string =>
  formats
    .map(({ name, summary, extensions }) => `  ${name.padEnd(12)} ${[summary, ...extensions].join(" ")}`)
    .join("\n");
