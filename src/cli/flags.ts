// Command-line options made from the schemas that the API uses: names, help and defaults stand in one place.
import type { Command } from "commander";
import { Argument, Option } from "commander";
import { kebab, renamedOptions } from "../utils/option-names.ts";
import type { CommandRow, Property } from "./command-row.ts";

/** The part of a property that a command line can say: a plain type, or the short form of a union. */
function plain(property: Property): Property {
  const short = ["string", "integer", "number"].map((wanted) => property.anyOf?.find(({ type }) => type === wanted));
  return short.find(Boolean) ?? property;
}

/** Whether one of an option's forms is of a type. */
function allows({ anyOf = [], oneOf = [] }: Property, type: string): boolean {
  return [...anyOf, ...oneOf].some((form) => form.type === type || allows(form, type));
}

/** The form of an option that is a list, at any depth. */
function arrayForm(property: Property): Property | undefined {
  if (property.type === "array") return property;
  for (const form of [...(property.anyOf ?? []), ...(property.oneOf ?? [])]) {
    const inner = arrayForm(form);
    if (inner) return inner;
  }
  return undefined;
}

/** `q=8,fc1=64` as an object, for options that may be one. */
function parsePairs(text: string): Record<string, unknown> {
  return Object.fromEntries(
    text.split(",").map((pair) => {
      const [key, ...rest] = pair.split("=");
      const value = rest.join("=").trim();
      return [key.trim(), value === "" || Number.isNaN(Number(value)) ? value : Number(value)];
    }),
  );
}

/** Whether an option only has forms with parts of their own, which are typed as JSON. */
function isNested({ type, items, anyOf = [], oneOf = [] }: Property): boolean {
  const forms = [...anyOf, ...oneOf];
  if (forms.length > 0) return forms.every(isNested);
  return type === "object" || (type === "array" && items !== undefined && isNested(items));
}

/** Options whose values are no paths, for all that they are text. */
const words = new Set(["revision", "title", "budget", "sizes", "kinds", "maskName", "classNames"]);
/** Options whose default depends on others, as their description says. */
export const depending: ReadonlySet<string> = new Set(["method"]);

export function placeholder(name: string, property: Property): string {
  const { type, enum: values, items, placeholder: shown = property.placeholder } = plain(property);
  if (isNested(property)) return property.placeholder ?? "json";
  const isWord = shown === "text" || words.has(name);
  if (shown !== undefined && !isWord) return shown;
  if (values) return values.length > 4 ? "name" : values.join("|");
  if (type === "array") return items?.enum ? "names" : "list";
  if (arrayForm(property) && isWord) return "names";
  return type === "string" ? (isWord ? "text" : "path") : type === "integer" ? "n" : "number";
}

/** What an option may be, where that is too long to stand in its place. */
export function choices(property: Property): string {
  const { enum: values, items } = plain(property);
  const named = values && values.length > 4 ? values : items?.enum;
  return named ? `: ${named.join(", ")}` : "";
}

/** Text to the value that the schema expects; what does not fit is left for the schema to refuse. */
function parseText(property: Property, text: string): unknown {
  if (isNested(property) && /^\s*[[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  if ((property.type === "object" || allows(property, "object")) && text.includes("=")) return parsePairs(text);
  const { type } = plain(property);
  const list = arrayForm(property);
  if (list && (type === "array" || text.includes(","))) {
    // What follows a tuple is "items" too, and may be false.
    const part = list.prefixItems?.[0] ?? list.items ?? {};
    return text.split(",").map((word) => parseText(part, word.trim()));
  }
  if (type !== "number" && type !== "integer") return text;
  const number = Number(text);
  return text.trim() === "" || Number.isNaN(number) ? text : number;
}

/** Whether an option takes several values. */
const takesSeveral = (property: Property): boolean => arrayForm(property) !== undefined;

/** Adds an option for each property; booleans that are true by default get a `--no-` form. */
export function addOptions(command: Command, { options, positional, required }: CommandRow): void {
  for (const name of positional) {
    const several = takesSeveral(options[name]);
    const word = `${positionalName(name)}${several ? "..." : ""}`;
    // What has a flag too may be left out here.
    const must = required.includes(name) && positional.length === 1;
    command.addArgument(new Argument(must ? `<${word}>` : `[${word}]`, options[name].description));
  }
  for (const [name, property] of Object.entries(options)) {
    const flag = kebab(name);
    const option =
      property.type === "boolean"
        ? new Option(property.default === true ? `--no-${flag}` : `--${flag}`)
        : new Option(`--${flag} <${placeholder(name, property)}>`).argParser((text) => parseText(property, text));
    command.addOption(option);
  }
  // Earlier names stay, and stand in no help.
  for (const [before, now] of earlierNames(options)) {
    const property = options[now];
    const flag = kebab(before);
    command.addOption(
      (property.type === "boolean"
        ? new Option(property.default === true ? `--no-${flag}` : `--${flag}`)
        : new Option(`--${flag} <${placeholder(now, property)}>`).argParser((text) => parseText(property, text))
      ).hideHelp(),
    );
  }
}

/** Earlier names of a command's options, and today's. */
const earlierNames = (options: CommandRow["options"]) =>
  Object.entries(renamedOptions).filter(
    ([before, now]) => !Object.hasOwn(options, before) && Object.hasOwn(options, now),
  );

/** What positional options are called in help, where that says more than their name. */
export const positionalName = (name: string): string => (name === "data" ? "images" : name);

/** What was given on the command line, behind the command's name and as flags. Throws what `twice` makes of a name given both ways. */
export function givenOptions(
  command: Command,
  { options, positional }: CommandRow,
  twice: (name: string) => Error,
): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  const names = new Set([...Object.keys(options), ...earlierNames(options).map(([before]) => before)]);
  for (const [name, value] of Object.entries(command.opts()))
    if (names.has(name) && command.getOptionValueSource(name) === "cli") given[name] = value;
  for (const [i, name] of positional.entries()) {
    if (command.args.length <= i) break;
    if (given[name] !== undefined) throw twice(name);
    given[name] = takesSeveral(options[name]) ? command.args.slice(i) : command.args[i];
  }
  return given;
}
