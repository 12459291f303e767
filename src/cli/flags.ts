// Command-line options made from the schemas that the API uses: names, help and defaults stand in one place.
import { quote } from "../utils/quote.ts";
import type { Command } from "commander";
import { Option } from "commander";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { longestFile } from "../files/storage.ts";
import { readWhole } from "../platform/node/node-files.ts";
import { UserError } from "../utils/errors.ts";

import { kebab } from "../utils/option-names.ts";

interface Property {
  readonly type?: string;
  readonly description?: string;
  /** What stands for its value in help: `text` where it is no path. */
  readonly placeholder?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly items?: Property;
  readonly prefixItems?: readonly Property[];
  readonly anyOf?: readonly Property[];
  readonly oneOf?: readonly Property[];
}

function properties(schema: z.ZodObject): Map<string, Property> {
  const json = z.toJSONSchema(schema, { unrepresentable: "any", io: "input" });
  return new Map(Object.entries((json.properties ?? {}) as Record<string, Property>));
}

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
    const found = arrayForm(form);
    if (found) return found;
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
const words = new Set(["revision", "title", "budget", "kinds", "maskName", "classNames"]);
/** Options whose default depends on others, as their description says. */
const depending = new Set(["method"]);

function placeholder(name: string, property: Property): string {
  const { type, enum: values, items, placeholder: shown } = plain(property);
  if (isNested(property)) return "json";
  const isWord = shown === "text" || words.has(name);
  if (values) return values.length > 4 ? "name" : values.join("|");
  if (type === "array") return items?.enum ? "names" : "list";
  if (arrayForm(property) && isWord) return "names";
  return type === "string" ? (isWord ? "text" : "path") : type === "integer" ? "n" : "number";
}

/** What an option may be, where that is too long to stand in its place. */
function choices(property: Property): string {
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
  if (allows(property, "object") && text.includes("=")) return parsePairs(text);
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

/** A default as it would be typed: `q,v`, `q=8,fc1=64`; JSON where a value has parts of its own. Nothing where it is empty. */
function defaultText(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "object") return String(value);
  const entries = Object.entries(value);
  if (entries.length === 0) return undefined;
  if (entries.some(([, part]) => typeof part === "object")) return JSON.stringify(value);
  return entries.map(([key, part]) => (Array.isArray(value) ? String(part) : `${key}=${String(part)}`)).join(",");
}

/** Adds an option for each property; booleans that are true by default get a `--no-` form. */
export function addOptions(command: Command, schema: z.ZodObject): void {
  for (const [name, property] of properties(schema)) {
    const flag = kebab(name);
    const { description = "" } = property;
    if (property.type === "boolean") {
      command.addOption(
        property.default === true
          ? new Option(`--no-${flag}`, `don't ${description}`)
          : new Option(`--${flag}`, description),
      );
      continue;
    }
    const option = new Option(`--${flag} <${placeholder(name, property)}>`, description + choices(property));
    option.argParser((text) => parseText(property, text));
    // Commander only shows the default; the schema is what applies it.
    const shown = depending.has(name) ? undefined : defaultText(property.default);
    if (shown !== undefined) option.description += ` (default: ${shown})`;
    command.addOption(option);
  }
}

/** Reads a YAML or JSON file of options, in camelCase. Throws a UserError where it can't be read. */
async function readConfig(path: string): Promise<Record<string, unknown>> {
  const bytes = await readWhole(path, longestFile.text);
  if (!bytes) throw new UserError(`There is no configuration file ${path}.`, { code: "FILE_NOT_FOUND" });
  const text = new TextDecoder().decode(bytes);
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

/** What a command runs with: the configuration file's options, and over them those of the command line. */
export async function collectOptions(
  command: Command,
  schema: z.ZodObject,
  config: string | undefined,
): Promise<Record<string, unknown>> {
  const known = properties(schema);
  const given: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(command.opts())) {
    if (known.has(name) && command.getOptionValueSource(name) === "cli") given[name] = value;
  }
  return { ...(config === undefined ? {} : await readConfig(config)), ...given };
}
