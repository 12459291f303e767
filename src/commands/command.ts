// What a command is: its options, what it does and what it shows. One file a command; `npm run generate` lists them.
import type { z } from "zod";
import { Interrupted, interruptible } from "../context/run-context.ts";
import type { RunContext } from "../context/run-context.ts";

export interface Command<Schema extends z.ZodObject = z.ZodObject, Result = unknown> {
  readonly name: string;
  readonly summary: string;
  readonly schema: Schema;
  /** Options that may stand behind the command's name without a flag, in this order; the last with several values where it is a list. */
  readonly positional?: readonly string[];
  /** By recipe, what it sets, for the defaults that help shows; the first is the default recipe. */
  readonly recipes?: Readonly<Record<string, object>>;
  /** Where this option is given, no other is required. */
  readonly insteadOfAll?: string;
  /** Runs the command. Throws a UserError on options that don't fit, before anything is written. */
  run(context: RunContext, options: z.input<Schema>): Promise<Result>;
  /** The result for people, as lines of text. */
  text(result: Result): string;
  /** What its help says behind the options: lists that registries give. */
  details?(): string;
  /** What to do after the command was stopped, where its own error does not say it. */
  readonly afterStop?: string;
}

/** Keeps a command's types; see Command. */
export const defineCommand = <Schema extends z.ZodObject, Result>(
  command: Command<Schema, Result>,
): Command<Schema, Result> => command;

/** Runs a command. Rejects with Interrupted where the context's signal stops it. */
export async function runCommand<Schema extends z.ZodObject, Result>(
  command: Command<Schema, Result>,
  context: RunContext,
  options: z.input<Schema>,
): Promise<Result> {
  const advice = () => command.afterStop ?? "Nothing was left half-written. Run the same command again to start over.";
  try {
    return await command.run(context, options);
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    return interruptible(context, advice, () => Promise.reject(error));
  }
}
