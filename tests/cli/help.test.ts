// The help of every command: no value of JavaScript's own in place of a default.
import { Command } from "commander";
import { z } from "zod";
import { describe, expect, test } from "vitest";
import { command as demo } from "../../src/cli/demo.ts";
import { addOptions } from "../../src/cli/flags.ts";
import { commands } from "../../src/commands/registry.ts";

const helpOf = (schema: z.ZodObject): string => {
  const command = new Command("x");
  addOptions(command, schema);
  // Wide enough that no line is wrapped.
  return command.configureHelp({ helpWidth: 10_000 }).helpInformation();
};

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
    const shown = (name: string) => /  (\w.*)$/.exec(help.split("\n").find((l) => l.includes(`--${name} `)) ?? "")?.[1];
    expect(shown("words")).toBe("words (default: q,v)");
    expect(shown("pairs")).toBe("pairs (default: q=8,fc1=64)");
    expect(shown("nested")).toBe('nested (default: [{"kind":"l1"}])');
    expect(shown("none")).toBe("none");
    expect(shown("empty")).toBe("empty");
  });
});
