// Earlier names of options: what they stand for, on the command line, in files and scripts, and in folders of earlier runs.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distill, exportModel } from "wecolora/node";
import { commandTable } from "../../src/cli/command-table.ts";
import { addOptions, givenOptions } from "../../src/cli/flags.ts";
import { commandHelp } from "../../src/cli/help.ts";
import { distillOptions } from "../../src/commands/distill-options.ts";
import { evaluateRunSchema } from "../../src/commands/evaluate.ts";
import { exportRunSchema } from "../../src/commands/export.ts";
import { optionDifferences, requestedOptions } from "../../src/commands/run-settings.ts";
import { kebab, renamedOptions, withCurrentNames } from "../../src/utils/option-names.ts";
import { parseOptions } from "../../src/utils/parse-options.ts";
import { required } from "../../src/utils/required.ts";
import type { RunConfig } from "../../src/workspace/run-folder.ts";
import { noiseImage } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const rows = new Map(commandTable.map((row) => [row.name, row]));
const run = { teacher: "T", data: "D", out: "O" };

test("every earlier name stands for an option of a command, and is none itself", () => {
  const names = new Set(commandTable.flatMap(({ options }) => Object.keys(options)));
  for (const [before, now] of Object.entries(renamedOptions)) {
    expect(names, now).toContain(now);
    expect(names, before).not.toContain(before);
  }
});

test.each(commandTable)("help of $name does not show them", (row) => {
  const text = commandHelp(row, { width: 80, all: true });
  for (const before of Object.keys(renamedOptions)) expect(text).not.toMatch(new RegExp(`--(no-)?${kebab(before)} `));
});

describe("on the command line", () => {
  const parse = (name: string, ...args: string[]) => {
    const command = new Command(name).exitOverride();
    addOptions(command, required(rows, name));
    command.parse(args, { from: "user" });
    return givenOptions(command, required(rows, name), Error);
  };

  test("they parse as the options that they stand for", () => {
    const given = parse("distill", "--no-judge", "--judge-bank", "7", "--kept-views-on", "disk");
    expect(given).toEqual({ judge: false, judgeBank: 7, keptViewsOn: "disk" });
    const options = distillOptions({ ...run, ...given });
    expect(options).toMatchObject({ evaluate: false, labelledImages: 7, cropCache: "disk" });
    expect(parse("distill", "--labelled-images", "7")).toEqual({ labelledImages: 7 });
    expect(parse("distill")).toEqual({});
  });
});

describe("in files and scripts", () => {
  test("they are checked as the options that they stand for", () => {
    expect(parseOptions(evaluateRunSchema, { model: "M", data: "D", neighbours: 5 }, "x").knnK).toBe(5);
    expect(parseOptions(exportRunSchema, { model: "M", to: "onnx", pictures: 9 }, "x").maxImages).toBe(9);
    expect(() => distillOptions({ ...run, judgeBank: 0 })).toThrow(
      "labelledImages must be a whole number of at least 1",
    );
  });

  test("an option of training under its earlier name asks for training", () => {
    expect(distillOptions({ ...run, keptViews: 2 })).toMatchObject({ recipe: "refined", cachedCrops: 2 });
  });

  test("both names are refused; one that is undefined counts as left out", () => {
    expect(() => distillOptions({ ...run, judge: true, evaluate: false })).toThrow(
      "Give evaluate or judge, its earlier name, not both.",
    );
    expect(distillOptions({ ...run, judge: undefined, evaluate: false }).evaluate).toBe(false);
  });

  test("a name that a schema has stays", () => {
    const known = (name: string) => ["pictures", "maxImages"].includes(name);
    expect(withCurrentNames({ pictures: 1, neighbours: 2 }, known, Error)).toEqual({ pictures: 1, neighbours: 2 });
  });
});

describe("in the folder of an earlier run", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-names-"));
    for (let i = 0; i < 12; i++) await noiseImage(join(folder, "data", `c${i % 2}`, `${i}.jpg`), i, i % 2);
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("the run is read, and is the same run", async () => {
    const options = {
      ...{ teacher: referencePath("teachers/timm-vit"), data: join(folder, "data"), out: join(folder, "run") },
      ...{ evaluate: false, report: false, labelledImages: 9 },
    };
    await distill(options);
    const file = join(folder, "run/config.json");
    const text = await readFile(file, "utf8");
    const earlier = Object.entries(renamedOptions).reduce(
      (made, [before, now]) => made.replaceAll(`"${now}":`, `"${before}":`),
      text,
    );
    expect(earlier).toContain('"judgeBank": 9');
    expect(earlier).not.toContain('"labelledImages"');
    await writeFile(file, earlier);
    const read = requestedOptions(JSON.parse(earlier) as RunConfig, options.out, file);
    expect(optionDifferences(read, distillOptions(options))).toEqual([]);
    expect(optionDifferences(read, distillOptions({ ...options, labelledImages: 8 }))).toEqual([
      "--labelled-images was 9 and is now 8",
    ]);
    // What reads a finished run.
    const { exports } = await exportModel({ model: options.out, to: "onnx-float16" });
    expect(exports).toHaveLength(1);
  });
});
