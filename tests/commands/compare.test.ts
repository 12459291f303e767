// A comparison: its runs, its table, what is left to do when it is called again; and TensorBoard's files.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse as parseCsv } from "csv-parse/sync";
import { parse as parseYaml } from "yaml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { comparisonCsv, comparisonTable, summarize } from "../../src/report/comparison.ts";
import { compareRunSchema, planRuns } from "../../src/commands/compare.ts";
import { evaluateRunSchema } from "../../src/commands/evaluate.ts";
import { segmentRunSchema } from "../../src/commands/segment.ts";
import { eventFile, maskedCrc } from "../../src/report/tensorboard.ts";
import { noiseImage, wecolora } from "../support/cli.ts";
import { referencePath, root } from "../support/reference.ts";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-compare-"));
  for (let i = 0; i < 18; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

describe("compare", () => {
  const settings = (more: object) =>
    JSON.stringify({
      title: 'a "title" <b>',
      teacher: referencePath("teachers/timm-vit"),
      data: at("data"),
      out: at("out"),
      grid: { method: ["weight-copy", "wecolora"], reductionFactor: [2, 3], seed: [0, 1] },
      base: { rank: 2, epochs: 1, warmupEpochs: 0, heldOut: 0.34, evaluateSteps: 0 },
      published: [{ where: { method: "wecolora", reductionFactor: 2 }, metric: "knn", value: 71.5 }],
      ...more,
    });

  test("runs each setting in a folder, then goes on where it stopped", async () => {
    await writeFile(at("grid.json"), settings({}));
    const outcome = await wecolora("compare", "--config", at("grid.json"), "--json");
    expect(outcome, outcome.err).toMatchObject({ code: 0 });
    const result = JSON.parse(outcome.out.trimEnd().split("\n").at(-1) as string);
    expect(result.runs).toHaveLength(8);
    expect(result.summaries.map((s: { runs: number }) => s.runs)).toEqual([2, 2, 2, 2]);
    const run = at("out", "method=wecolora,reductionFactor=2,seed=1");
    expect(existsSync(join(run, "student", "config.json"))).toBe(true);
    const table = readFileSync(at("out", "table.md"), "utf8");
    expect(table).toMatch(/\| wecolora \| 2 \| \d+\.\d ± \d+\.\d \(\d+–\d+\) \(paper 71\.5\) \|/);
    const csv = parseCsv(readFileSync(at("out", "table.csv")), { columns: true }) as Record<string, string>[];
    expect(csv.map(({ method, reductionFactor, runs }) => `${method} ${reductionFactor} ${runs}`)).toEqual([
      "weight-copy 2 2",
      "weight-copy 3 2",
      "wecolora 2 2",
      "wecolora 3 2",
    ]);
    const svg = readFileSync(at("out", "comparison.svg"), "utf8");
    expect(svg).toContain("a &quot;title&quot; &lt;b&gt;");
    expect(svg).not.toContain("<b>");
    // Called again with one run gone, only that is run.
    await rm(run, { recursive: true });
    const again = await wecolora("compare", "--config", at("grid.json"), "--json");
    expect(again).toMatchObject({ code: 0 });
    expect(again.err.match(/distilling:/g)).toHaveLength(1);
    expect(JSON.parse(again.out.trimEnd().split("\n").at(-1) as string).summaries[2].figures.knn).toEqual(
      result.summaries[2].figures.knn,
    );
  });

  test("several grids stand in one table", async () => {
    const grid = [
      { method: ["refit"], keptBlocks: [[0, 2]], seed: [0, 1] },
      { method: ["weight-copy", "top-pruning"], reductionFactor: [3] },
    ];
    await writeFile(at("ragged.json"), settings({ out: at("ragged"), grid, published: [] }));
    const outcome = await wecolora("compare", "--config", at("ragged.json"), "--json");
    expect(outcome, outcome.err).toMatchObject({ code: 0 });
    const csv = parseCsv(readFileSync(at("ragged", "table.csv")), { columns: true }) as Record<string, string>[];
    expect(
      csv.map(({ method, keptBlocks, reductionFactor, runs }) => [method, keptBlocks, reductionFactor, runs]),
    ).toEqual([
      ["refit", "[0,2]", "", "2"],
      ["weight-copy", "", "3", "1"],
      ["top-pruning", "", "3", "1"],
    ]);
  });

  test.each([
    ["an option that is none", { grid: { methods: ["kd"] } }, "There is no option methods. Did you mean method?"],
    ["a run twice", { grid: { method: ["kd", "kd"] } }, "twice"],
    ["a metric that is none", { published: [{ where: {}, metric: "luck", value: 1 }] }, "metric"],
  ])("mistakes are named before anything runs: %s", async (_, more, message) => {
    await writeFile(at("wrong.json"), settings({ out: at("never"), ...more }));
    const outcome = await wecolora("compare", "--config", at("wrong.json"));
    expect(outcome.code).toBe(2);
    expect(outcome.err).toContain(message);
    expect(existsSync(at("never"))).toBe(false);
  });
});

test("every recipe is well-formed", () => {
  const recipes = readdirSync(join(root, "recipes")).filter((name) => name.endsWith(".yaml"));
  expect(recipes.length).toBeGreaterThan(5);
  for (const name of recipes) {
    const given = parseYaml(readFileSync(join(root, "recipes", name), "utf8"));
    if (name.startsWith("probe-")) expect(() => evaluateRunSchema.parse(given), name).not.toThrow();
    else if (name.startsWith("segment-")) expect(() => segmentRunSchema.parse(given), name).not.toThrow();
    else expect(planRuns(compareRunSchema.parse(given)).length, name).toBeGreaterThan(3);
  }
});

test("mean and spread over seeds; failures are counted", () => {
  const run = (seed: number, top1: number) => ({
    setting: { method: "m,1" },
    seed,
    row: { name: "student", knn: { top1, top5: 1 } },
  });
  const summaries = summarize([
    run(0, 0.5),
    run(1, 0.7),
    { setting: { method: "m,1" }, seed: 2, failure: "out of memory" },
  ]);
  expect(summaries[0].figures.knn.mean).toBeCloseTo(60, 10);
  // Sample deviation of 50 and 70.
  expect(summaries[0].figures.knn.deviation).toBeCloseTo(Math.sqrt(200), 10);
  expect(comparisonTable(summaries).rows).toEqual([["m,1", "60.0 ± 14.1", "2, 1 failed"]]);
  expect(comparisonCsv(summaries)).toContain('"m,1",');
});

test("TensorBoard's records are framed with their checksums", () => {
  const [version] = eventFile([], "{}", [], 12.5);
  const view = new DataView(version.buffer, version.byteOffset);
  const length = Number(view.getBigUint64(0, true));
  expect(version.byteLength).toBe(length + 16);
  expect(Buffer.from(version.subarray(12, 12 + length)).toString("latin1")).toContain("brain.Event:2");
  // CRC-32C's check value, of the digits 1 to 9, is 0xe3069283; masked as TensorFlow does it.
  const crc = 0xe3069283;
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  expect(maskedCrc(new TextEncoder().encode("123456789"))).toBe(masked);
  expect(view.getUint32(8, true)).toBe(maskedCrc(version.subarray(0, 8)));
  expect(view.getUint32(12 + length, true)).toBe(maskedCrc(version.subarray(12, 12 + length)));
});
