#!/usr/bin/env node
// `wecolora`: parses, calls, prints. The commands themselves are in commands/.
import { Command as Program, CommanderError } from "commander";
import type { z } from "zod";
import type { Command } from "../commands/command.ts";
import { commands } from "../commands/registry.ts";
// First of all: what starts a worker must find the setting.
import "../platform/node/no-telemetry.ts";
import { blockOtherLoaders } from "../platform/node/image-loaders.ts";
import { packageVersion, runOnNode } from "../platform/node/node.ts";
import { debugTopics, setDebug } from "../utils/debug.ts";
import type { NameOption } from "../utils/errors.ts";
import { codeOf, nearestName, OptionError, UserError } from "../utils/errors.ts";
import { visibleJson, visibleLines, visibleText } from "../utils/escape.ts";
import { kebab } from "../utils/option-names.ts";
import { command as demo } from "./demo.ts";
import { addOptions, collectOptions } from "./flags.ts";
import { createProgress } from "./progress.ts";
import { exitCodeOf, stopOnSignals } from "./signals.ts";

const program = new Program("wecolora")
  .description("Makes a vision transformer smaller from a few unlabelled images.")
  .version(packageVersion)
  .option("--json", "print the result as one JSON object, the last line of standard output")
  .option("--debug <topics>", `show on standard error: ${debugTopics.join(", ")} (also WECOLORA_DEBUG)`)
  .option("--verbose", "show stack traces of errors")
  .configureHelp({ showGlobalOptions: true })
  .exitOverride()
  .configureOutput({ outputError: () => undefined });

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
function addCommand(definition: Command): void {
  const { name, summary, schema, positional } = definition;
  const sub = program.command(name).description(summary);
  if (positional !== undefined) {
    const several = allowsSeveral(schema.shape[positional]);
    sub.argument(`<${positional}${several ? "..." : ""}>`, schema.shape[positional].description);
  }
  addOptions(sub, positional === undefined ? schema : schema.omit({ [positional]: true } as never));
  sub.option("--config <file>", "read options from a YAML or JSON file (camelCase); the command line wins");
  if (definition.details) sub.addHelpText("after", `\n${definition.details()}`);
  sub.action(async () => {
    const { json, config } = sub.optsWithGlobals<OutputOptions>();
    nameOption = (key) => {
      if (key === positional) return `<${key}>`;
      const typed = sub.getOptionValueSource(key) === "cli" || config === undefined;
      return typed && Object.hasOwn(schema.shape, key) ? `--${kebab(key)}` : `${key} in ${config}`;
    };
    showDebug(sub.optsWithGlobals<OutputOptions>().debug ?? process.env.WECOLORA_DEBUG);
    const options = await collectOptions(sub, schema, config);
    if (positional !== undefined)
      options[positional] = allowsSeveral(schema.shape[positional]) ? sub.args : sub.args[0];
    refuseMissing(definition, options);
    const result = await run(definition, options);
    print(json ? visibleJson(result) : definition.text(result));
  });
}

const allowsSeveral = (schema: z.ZodType): boolean => schema.safeParse(["a"]).success;

/** Throws a UserError that names the options a command can't do without. */
function refuseMissing(
  { name, schema, insteadOfAll, positional }: Command,
  options: Readonly<Record<string, unknown>>,
): void {
  if (insteadOfAll !== undefined && options[insteadOfAll] !== undefined) return;
  const issues = schema.safeParse(options).error?.issues ?? [];
  const missing = issues
    .filter(({ path }) => path.length === 1)
    .map(({ path }) => String(path[0]))
    .filter((key) => options[key] === undefined);
  const named = missing.map((key) => (key === positional ? `<${key}>` : `--${kebab(key)}`));
  if (missing.length > 0)
    throw new UserError(`${name} needs ${named.join(" and ")}. See: wecolora ${name} --help`, {
      code: "INVALID_OPTION",
    });
}

async function run(definition: Command, options: Record<string, unknown>): Promise<unknown> {
  const progress = createProgress(process.stderr);
  const stopping = stopOnSignals((message) => progress.info?.(message));
  try {
    return await runOnNode(definition, options, { listener: progress, signal: stopping.signal });
  } finally {
    stopping.release();
    progress.end();
  }
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
    .flatMap((c) => [c.name(), ...c.options.map((o) => o.long ?? "")])
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
  blockOtherLoaders();
  for (const definition of [...commands, demo]) addCommand(definition);
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) return fail(error);
    if (error.exitCode === 0) return;
    if (error.code === "commander.help") process.exitCode = 2;
    else fail(error);
  }
}

await main();
