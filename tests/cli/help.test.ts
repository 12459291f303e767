// The help of every command: no value of JavaScript's own in place of a default.
import { Command } from "commander";
import { z } from "zod";
import { describe, expect, test } from "vitest";
import { command as demo } from "../../src/cli/demo.ts";
import { addOptions, collectOptions } from "../../src/cli/flags.ts";
import { commands } from "../../src/commands/registry.ts";

const helpOf = (schema: z.ZodObject): string => {
  const command = new Command("x");
  addOptions(command, schema);
  // Wide enough that no line is wrapped.
  return command.configureHelp({ helpWidth: 10_000 }).helpInformation();
};

/** Words that the documentation of PyTorch and Hugging Face does not use for these things. */
const oldWords = /\b(pictures?|judge[ds]?|judging|usual|told|mended|anew|made new|kept views?)\b/i;

test.each([...commands, demo])("the words of the help: $name", (command) => {
  const texts = Object.entries(command.schema.shape).map(([name, { description = "" }]) => `${name}: ${description}`);
  // Names of options and files are not meant.
  const words = texts.map((text) => text.replace(/^\w+: |--[\w-]+|[\w*]+\.csv/g, ""));
  expect([command.summary, ...words].filter((text) => oldWords.test(text))).toEqual([]);
});

test("options with parts of their own are typed as JSON", async () => {
  const schema = z.strictObject({
    base: z.record(z.string(), z.unknown()).default({}),
    grid: z.union([z.record(z.string(), z.array(z.number())), z.array(z.record(z.string(), z.array(z.number())))]),
  });
  const command = new Command("x");
  addOptions(command, schema);
  expect(command.helpInformation()).toMatch(/--base <json>[\s\S]*--grid <json>/);
  command.parse(["--base", '{"heldOut":0.25}', "--grid", "nonsense"], { from: "user" });
  expect(await collectOptions(command, schema, undefined)).toEqual({ base: { heldOut: 0.25 }, grid: "nonsense" });
});

describe("defaults in the help", () => {
  test.each([...commands, demo].map((command) => [command.name, command.schema] as const))("%s", (_, schema) => {
    const help = helpOf(schema);
    expect(help).toContain("Options:");
    expect(help).not.toMatch(/\[object|undefined|\bnull\b|NaN|\(default: *\)/);
  });

  test("lists, pairs and nested values as they are typed", () => {
    const help = helpOf(
      z.strictObject({
        words: z.array(z.string()).default(["q", "v"]).describe("words"),
        pairs: z.record(z.string(), z.number()).default({ q: 8, fc1: 64 }).describe("pairs"),
        nested: z
          .array(z.strictObject({ kind: z.string() }))
          .default([{ kind: "l1" }])
          .describe("nested"),
        none: z.record(z.string(), z.number()).default({}).describe("none"),
        empty: z.array(z.string()).default([]).describe("empty"),
      }),
    );
    const shown = (name: string) =>
      / {2}(\w.*)$/.exec(help.split("\n").find((l) => l.includes(`--${name} `)) ?? "")?.[1];
    expect(shown("words")).toBe("words (default: q,v)");
    expect(shown("pairs")).toBe("pairs (default: q=8,fc1=64)");
    expect(shown("nested")).toBe('nested (default: [{"kind":"l1"}])');
    expect(shown("none")).toBe("none");
    expect(shown("empty")).toBe("empty");
  });
});
