// Help: what it shows of each command, how wide it is, and what follows from where options stand.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, describe, expect, test } from "vitest";
import type { CommandRow } from "../../src/cli/command-row.ts";
import { commandTable } from "../../src/cli/command-table.ts";
import { addOptions, givenOptions } from "../../src/cli/flags.ts";
import { groups } from "../../src/cli/help-groups.ts";
import { commandHelp, wrap } from "../../src/cli/help.ts";
import { withOutputFolder } from "../../src/commands/distill.ts";
import { kebab } from "../../src/utils/option-names.ts";
import { required } from "../../src/utils/required.ts";
import { noiseFolder, script } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const rows = new Map(commandTable.map((row) => [row.name, row]));
const folder = await noiseFolder("help");
afterAll(() => rm(folder, { recursive: true }));

describe.each(commandTable)("help of $name", (row) => {
  test.each([60, 80, 120])("fits %d columns", (width) => {
    const lines = commandHelp(row, { width, all: true }).split("\n");
    const long = lines.filter((line) => line.length > width && /\S\s+\S/.test(line.trim()));
    // A line of the two columns is never narrower than the flags and a few words.
    expect(width === 60 ? long.filter((line) => line.length > 70) : long).toEqual([]);
  });

  test("shows each option once with --help-all, and no value as an object", () => {
    const text = commandHelp(row, { width: 80, all: true });
    expect(text).not.toContain("[object");
    for (const [name, property] of Object.entries(row.options)) {
      if (row.positional.includes(name)) continue;
      const flag =
        property.type === "boolean" && property.default === true ? `--no-${kebab(name)}` : `--${kebab(name)}`;
      expect(text.match(new RegExp(`^  ${flag}(?: |$)`, "gm")), flag).toHaveLength(1);
    }
  });

  test("without it says how many more there are", () => {
    const text = commandHelp(row, { width: 80, all: false });
    const named = new Set(groups.flatMap(({ options }) => options));
    const rare = Object.keys(row.options).filter((name) => !named.has(name) && !row.positional.includes(name));
    if (rare.length === 0) expect(text).not.toContain("--help-all to");
    else expect(text).toContain(`${rare.length} more options for rare cases: wecolora ${row.name} --help-all`);
  });
});

test("defaults are those of the recipe in use", () => {
  const of = (recipe?: string) =>
    commandHelp(required(rows, "distill"), { width: 400, all: true, ...(recipe === undefined ? {} : { recipe }) });
  const line = (text: string, flag: string) => text.split("\n").find((each) => each.includes(`--${flag} `)) ?? "";
  expect(line(of(), "method")).toContain("(default: refit)");
  expect(of()).toMatch(/balanced\|channels\|blocks\|by-block>\n.*\(default: balanced\)/);
  expect(of("paper")).toMatch(/balanced\|channels\|blocks\|by-block>\n.*\(default: blocks\)/);
  expect(line(of("paper"), "method")).toContain("(default: wecolora)");
  expect(of("refined")).toMatch(/--base-learning-rate <number>\n.*\(default: 0.0003\)/);
});

test("options with parts of their own are typed as JSON", () => {
  const row: CommandRow = {
    ...{ name: "x", summary: "", positional: [], required: [] },
    options: {
      base: { type: "object", default: {} },
      grid: {
        anyOf: [{ type: "object" }, { type: "array", items: { type: "object" } }],
        default: [{ kind: "l1" }],
        description: "grid",
      },
      pairs: { anyOf: [{ type: "integer" }, { type: "object" }], default: { q: 8, fc1: 64 }, description: "pairs" },
      list: { type: "array", items: { type: "string" }, default: ["q", "v"], description: "list" },
    },
  };
  const command = new Command("x");
  addOptions(command, row);
  command.parse(["--base", '{"heldOut":0.25}', "--grid", "nonsense"], { from: "user" });
  expect(givenOptions(command, row, Error)).toEqual({ base: { heldOut: 0.25 }, grid: "nonsense" });
  const help = commandHelp(row, { width: 200, all: true });
  expect(help).toMatch(/--base <json>\s/);
  expect(help).toContain('grid (default: [{"kind":"l1"}])');
  expect(help).toContain("pairs (default: q=8,fc1=64)");
  expect(help).toContain("list (default: q,v)");
});

test("text is wrapped between words", () => {
  expect(wrap("one two three", 7)).toEqual(["one two", "three"]);
  expect(wrap("extraordinary a", 4)).toEqual(["extraordinary", "a"]);
});

describe("options behind the command's name", () => {
  const parse = (name: string, args: readonly string[]) => {
    const row: CommandRow = required(rows, name);
    const command = new Command(name).exitOverride();
    addOptions(command, row);
    command.parse([...args], { from: "user" });
    return givenOptions(command, row, (option) => new Error(`${option} twice`));
  };

  test("are the same as flags", () => {
    const given = { teacher: "T", data: "D", out: "O", rank: 8 };
    expect(parse("distill", ["T", "D", "O", "--rank", "8"])).toEqual(given);
    expect(parse("distill", ["--rank", "8", "--teacher", "T", "--data", "D", "--out", "O"])).toEqual(given);
    expect(parse("distill", ["T", "--data", "D"])).toEqual({ teacher: "T", data: "D" });
    expect(parse("report", ["a", "b"])).toEqual({ runs: ["a", "b"] });
  });

  test("given both ways are refused", () => {
    expect(() => parse("distill", ["T", "--teacher", "T"])).toThrow("teacher twice");
  });
});

test("a run without an output folder gets one of its own", () => {
  const time = new Date("2026-03-04T05:06:07Z");
  const out = (options: Parameters<typeof withOutputFolder>[0]) =>
    withOutputFolder({ data: "D", ...options }, time).out;
  expect(out({ teacher: "facebook/dinov2-small" })).toBe("runs/dinov2-small-2x-20260304-050607");
  expect(out({ teacher: "models\\vit\\", reductionFactor: 3 })).toBe("runs/vit-3x-20260304-050607");
  expect(out({ teacher: "vit", budget: "12MB" })).toBe("runs/vit-12MB-20260304-050607");
  expect(out({ teacher: "vit", out: "mine" })).toBe("mine");
  expect(withOutputFolder({ resume: "R" }, time)).toEqual({ resume: "R" });
});

test("wecolora distill <teacher> <images> makes a student below runs/", () => {
  const teacher = referencePath("teachers/timm-vit");
  const { status, stderr } = spawnSync(
    process.execPath,
    [script, "distill", teacher, join(folder, "data"), "--no-evaluate", "--no-report"],
    { cwd: folder, encoding: "utf8" },
  );
  expect(stderr).not.toMatch(/error/i);
  expect(status).toBe(0);
  const [run] = readdirSync(join(folder, "runs"));
  expect(run).toMatch(/^timm-vit-2x-\d{8}-\d{6}$/);
  expect(existsSync(join(folder, "runs", run, "student/config.json"))).toBe(true);
});

test("a reader that stops reading is no error", () => {
  const { status, stderr } = spawnSync(
    "bash",
    ["-c", `set -o pipefail; "${process.execPath}" "${script}" distill --help-all | head -n 1`],
    { encoding: "utf8" },
  );
  expect(stderr).toBe("");
  expect(status).toBe(0);
});
