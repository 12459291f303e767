#!/usr/bin/env node
// `wecolora`: parses and prints. Commands and ONNX Runtime are loaded when one runs (run.ts): help and mistakes are quick.
import { Command as Program, CommanderError } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { debugTopics, setDebug } from "../utils/debug.ts";
import type { NameOption } from "../utils/errors.ts";
import { codeOf, nearestName, OptionError, UserError } from "../utils/errors.ts";
import { visibleJson, visibleLines, visibleText } from "../utils/escape.ts";
import { earlierNamesOf, kebab, renamedOptions } from "../utils/option-names.ts";
import type { CommandRow } from "./command-row.ts";
import { commandTable } from "./command-table.ts";
import { addOptions, givenOptions, positionalName } from "./flags.ts";
import { commandHelp, programFlags, programHelp } from "./help.ts";
import { exitCodeOf } from "./signals.ts";

const description = "Makes a vision transformer smaller from a few unlabelled images.";
const program = new Program("wecolora")
  .description(description)
  .version(packageJson.version)
  .configureHelp({ formatHelp: () => programHelp(commandTable, description, helpWidth()) })
  .exitOverride()
  .configureOutput({ outputError: () => undefined });
for (const [flag, description] of programFlags) program.option(flag, description);

/** How the command that runs names its options in messages: as they were typed. */
let nameOption: NameOption = (key) => `--${kebab(key)}`;
/** Throws a UserError where a topic is none. */
function showDebug(list: string | undefined): void {
  const words = (list ?? "").split(",").flatMap((word) => word.trim() || []);
  const topics = words.map((word) => {
    const topic = debugTopics.find((name) => name === word);
    if (!topic)
      throw new UserError(`--debug takes ${debugTopics.join(", ")}, got ${word}.`, { code: "INVALID_OPTION" });
    return topic;
  });
  setDebug(topics, (text) => process.stderr.write(text));
}

interface OutputOptions {
  readonly debug?: string;
  readonly json?: boolean;
  readonly config?: string;
}

/** A command's result: its own lines stay, names in them can't steer the terminal. */
const print = (text: string) => process.stdout.write(`${visibleLines(text)}\n`);

/** Adds a command with an option for each of its settings. */
function addCommand(row: CommandRow): void {
  const { name, summary, options, positional } = row;
  const sub = program.command(name).description(summary);
  addOptions(sub, row);
  sub.option("--config <file>", "read options from a YAML or JSON file (camelCase); the command line wins");
  sub.option("--help-all");
  sub.on("option:help-all", () => showHelp(sub, row, true));
  sub.configureHelp({ formatHelp: () => helpText(row, false) });
  sub.action(async () => {
    const { json, config, debug } = sub.optsWithGlobals<OutputOptions>();
    const behind = new Set(positional.filter((_, i) => i < sub.args.length));
    nameOption = (key) => {
      if (behind.has(key) || (positional.length === 1 && positional.includes(key))) return `<${positionalName(key)}>`;
      const typed = [key, ...earlierNamesOf(key)].find((name) => sub.getOptionValueSource(name) === "cli");
      const isOption = Object.hasOwn(options, key) || Object.hasOwn(renamedOptions, key);
      return isOption && (typed !== undefined || config === undefined)
        ? `--${kebab(typed ?? key)}`
        : `${key} in ${config}`;
    };
    showDebug(debug ?? process.env.WECOLORA_DEBUG);
    const given = givenOptions(sub, row, givenTwice);
    const { runCommandLine } = await import("./run.ts");
    const { result, text } = await runCommandLine(row, given, config);
    print(json ? visibleJson(result) : text);
  });
}

const givenTwice = (name: string) =>
  new UserError(`Give <${positionalName(name)}> or --${kebab(name)}, not both.`, { code: "INVALID_OPTION" });

/** Columns of help where standard output is no terminal. */
const defaultColumns = 80;
const helpWidth = () => Math.min(process.stdout.columns ?? defaultColumns, 120);

/** A command's help with the defaults of the recipe on the command line. */
function helpText(row: CommandRow, all: boolean): string {
  const { argv } = process;
  const recipe = argv[argv.indexOf("--recipe") + 1];
  return commandHelp(row, {
    width: helpWidth(),
    all,
    ...(row.recipes && Object.hasOwn(row.recipes, recipe) ? { recipe } : {}),
  });
}

function showHelp(sub: Program, row: CommandRow, all: boolean): never {
  process.stdout.write(helpText(row, all));
  throw new CommanderError(0, "commander.helpDisplayed", sub.name());
}

/** A message as a sentence of its own. */
const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!)]$/.test(text) ? "" : "."}`;

/** Commander's own complaint, with the nearest known option or command. */
function usageMessage(error: CommanderError): string {
  const message = error.message.replace(/^error: /, "").split("\n")[0];
  const [, wrong] = /'([^' ]+)/.exec(message) ?? [];
  if (!wrong || !message.startsWith("unknown") || message.includes("Did you mean"))
    return sentence(error.message.replace(/^error: /, "").replace("\n", " "));
  // An option of another command is no better here.
  const words = program.commands
    .flatMap((c) => [c.name(), ...c.options.flatMap((o) => (o.hidden ? [] : (o.long ?? [])))])
    .concat("--json", "--verbose")
    .filter((word) => word !== wrong);
  const near = nearestName(wrong, words);
  return `${sentence(message)}${near ? ` Did you mean ${near}?` : ""}`;
}

function messageOf(error: unknown): string {
  if (error instanceof CommanderError) return usageMessage(error);
  if (error instanceof OptionError) return error.typed(nameOption);
  return error instanceof Error ? error.message : String(error);
}

/** Says what went wrong: a message on standard error and, with --json, an object on standard output too. */
function fail(error: unknown): void {
  const usage = error instanceof CommanderError;
  const message = messageOf(error);
  const code = usage ? "INVALID_OPTION" : codeOf(error);
  process.exitCode = usage ? 2 : exitCodeOf(error);
  process.stderr.write(`wecolora: ${visibleText(message)}\n`);
  const { stack } = error instanceof Error ? error : { stack: undefined };
  if (!usage && process.argv.includes("--verbose") && stack) process.stderr.write(`${visibleLines(stack)}\n`);
  if (process.argv.includes("--json")) print(visibleJson({ error: { code, message } }));
}

async function main(): Promise<void> {
  for (const row of commandTable) addCommand(row);
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) return fail(error);
    if (error.exitCode === 0) return;
    if (error.code === "commander.help") process.exitCode = 2;
    else fail(error);
  }
}

// Whoever reads what is printed may have seen enough: `wecolora distill --help | head`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});
await main();
