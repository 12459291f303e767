// Help of a command: options in groups, wrapped to the terminal, with the defaults of the recipe in use.
import { debugTopics } from "../utils/debug.ts";
import { kebab } from "../utils/option-names.ts";
import type { CommandRow, Property } from "./command-row.ts";
import { choices, depending, placeholder, positionalName } from "./flags.ts";
import { commandGroups, groups } from "./help-groups.ts";

export interface HelpSettings {
  /** Columns of the terminal. */
  readonly width: number;
  /** Whether options for rare cases are shown too. */
  readonly all: boolean;
  /** The recipe whose defaults are shown; the default recipe where left out. */
  readonly recipe?: string;
}

type Flag = readonly [flag: string, description: string];

/** Flags of the program, which stand before or behind a command. */
export const programFlags: readonly Flag[] = [
  ["--json", "print the result as one JSON object, the last line of standard output"],
  ["--debug <topics>", `show on standard error: ${debugTopics.join(", ")} (also WECOLORA_DEBUG)`],
  ["--verbose", "show stack traces of errors"],
];

/** Flags that every command takes. */
export const commonFlags: readonly Flag[] = [
  ["--config <file>", "read options from a YAML or JSON file (camelCase)"],
  ...programFlags,
  ["-h, --help", "show this help"],
  ["--help-all", "show this help with all options"],
];

/** Columns of flags; longer ones get a line of their own. */
const flagColumns = 28;
/** Columns of commands' names. */
const commandColumns = 12;

/** Words in lines of at most so many columns. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > columns) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** A flag and what it does, in two columns. */
function entry(flag: string, description: string, width: number, columns = flagColumns): string[] {
  const indent = " ".repeat(2 + columns);
  const lines = wrap(description, Math.max(24, width - indent.length));
  const first = `  ${flag}`;
  if (flag.length + 1 > columns) return [first, ...lines.map((line) => indent + line)];
  return [`${first.padEnd(indent.length)}${lines[0]}`, ...lines.slice(1).map((line) => indent + line)];
}

/** An option's default as the command line takes it, with a recipe's settings; undefined where there is none to show. */
export function defaultOf(
  name: string,
  property: Property,
  settings: Readonly<Record<string, unknown>>,
): string | undefined {
  const value = name in settings ? settings[name] : depending.has(name) ? undefined : property.default;
  if (value === undefined || value === false || value === true || isEmpty(value)) return undefined;
  return shownValue(value);
}

/** A description without the default that it ends with, which stands behind the values: `rank of the adapters (default: 128)`. */
export function splitDefault(description: string): { text: string; fallback?: string } {
  const [whole, fallback] = /\s*\(default: ([^)]*)\)$/.exec(description) ?? [];
  return whole === undefined ? { text: description } : { text: description.slice(0, -whole.length), fallback };
}

const isEmpty = (value: unknown) => typeof value === "object" && value !== null && Object.keys(value).length === 0;

/** A default as the command line takes it: `adamw` for what has a short name. */
function shownValue(value: unknown): string {
  if (Array.isArray(value))
    return value.some((part) => typeof part === "object") ? JSON.stringify(value) : value.map(shownValue).join(",");
  if (typeof value === "object" && value !== null) {
    if (Object.values(value).some((part) => typeof part === "object" && part !== null)) return JSON.stringify(value);
    const { kind, ...rest } = value as Readonly<Record<string, unknown>>;
    const pairs = Object.entries(rest).map(([key, each]) => `${key}=${shownValue(each)}`);
    return kind === undefined
      ? pairs.join(",")
      : pairs.length === 0
        ? String(kind)
        : `kind=${String(kind)},${pairs.join(",")}`;
  }
  return String(value);
}

function optionEntry(name: string, property: Property, { recipes = {} }: CommandRow, help: HelpSettings): string[] {
  const settings = recipes[help.recipe ?? Object.keys(recipes)[0] ?? ""] ?? {};
  const { description = "" } = property;
  const flag = kebab(name);
  if (property.type === "boolean")
    return property.default === true
      ? entry(`--no-${flag}`, `don't ${description}`, help.width)
      : entry(`--${flag}`, description, help.width);
  const { text: what, fallback } = splitDefault(description);
  const value = defaultOf(name, property, settings) ?? fallback;
  const text = `${what}${choices(property)}${value === undefined ? "" : ` (default: ${value})`}`;
  return entry(`--${flag} <${placeholder(name, property)}>`, text, help.width);
}

/** Options by group; what no group names comes last, under the title that says so. */
export function sections({ options, positional }: CommandRow): { title: string; names: string[]; rare: boolean }[] {
  const flagged = Object.keys(options).filter((name) => !positional.includes(name));
  const grouped = groups.map(({ title, options: names }) => ({
    title,
    names: names.filter((name) => flagged.includes(name)),
    rare: false,
  }));
  const named = new Set(grouped.flatMap(({ names }) => names));
  const others = flagged.filter((name) => !named.has(name));
  return [...grouped, { title: "Rare cases", names: others, rare: true }].filter(({ names }) => names.length > 0);
}

/** The help of a command, as lines of at most `width` columns where words allow. */
export function commandHelp(row: CommandRow, help: HelpSettings): string {
  const { name, summary, positional, options, details, required } = row;
  const words = positional.map((option) =>
    required.includes(option) ? `<${positionalName(option)}>` : `[${positionalName(option)}]`,
  );
  const lines = [`Usage: wecolora ${[name, ...words, "[options]"].join(" ")}`, "", ...wrap(summary, help.width)];
  if (positional.length > 0) {
    lines.push("", "Arguments:");
    for (const option of positional)
      lines.push(...entry(positionalName(option), options[option].description ?? "", help.width));
    if (positional.length > 1)
      lines.push(
        "",
        ...wrap(`Or as options: ${positional.map((option) => `--${kebab(option)}`).join(", ")}.`, help.width),
      );
  }
  let hidden = 0;
  for (const { title, names, rare } of sections(row)) {
    if (rare && !help.all) {
      hidden = names.length;
      continue;
    }
    lines.push("", `${title}:`);
    for (const option of names) lines.push(...optionEntry(option, options[option], row, help));
  }
  lines.push("", "Common:");
  for (const [flag, description] of commonFlags) lines.push(...entry(flag, description, help.width));
  if (hidden > 0) lines.push("", `${hidden} more options for rare cases: wecolora ${name} --help-all`);
  if (details !== undefined) lines.push("", ...details.split("\n").flatMap((line) => wrapDetail(line, help.width)));
  return `${lines.join("\n")}\n`;
}

/** The help of the program: its commands by what they are for. */
export function programHelp(rows: readonly CommandRow[], description: string, width: number): string {
  const lines = ["Usage: wecolora <command> [options]", "", ...wrap(description, width)];
  lines.push("", "  wecolora distill facebook/dinov2-small ./images");
  const named = new Set(commandGroups.flatMap(({ commands }) => commands));
  const others = rows.flatMap(({ name }) => (named.has(name) ? [] : [name]));
  for (const { title, commands } of [...commandGroups, { title: "Other commands", commands: others }]) {
    const group = commands.flatMap((name) => rows.find((row) => row.name === name) ?? []);
    if (group.length > 0) lines.push("", `${title}:`);
    for (const { name, summary } of group) lines.push(...entry(name, summary, width, commandColumns));
  }
  lines.push("", "Options:");
  for (const [flag, text] of [...programFlags, ["-V, --version", "show the version"], ["-h, --help", "show this help"]])
    lines.push(...entry(flag, text, width, commandColumns + 6));
  lines.push("", "Options of a command: wecolora <command> --help");
  return `${lines.join("\n")}\n`;
}

/** A line of two columns, such as "  name   what it is", wrapped under its second. */
function wrapDetail(line: string, width: number): string[] {
  if (line.length <= width) return [line];
  const [, head = "", text = line] = /^(\s*\S+\s{2,})(.*)$/.exec(line) ?? [];
  const column = Math.min(head.length, flagColumns);
  const lines = wrap(text.trim(), Math.max(24, width - column));
  return [head.padEnd(column) + lines[0], ...lines.slice(1).map((rest) => " ".repeat(column) + rest)];
}
