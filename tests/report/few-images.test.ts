// Figures from few images carry their intervals and their count; latency is marked only where it differs by more than it
// varies.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distill, evaluate, exportModel } from "wecolora/node";
import { command as evaluateCommand } from "../../src/commands/evaluate.ts";
import { command as distillCommand } from "../../src/commands/distill.ts";
import { command as exportCommand } from "../../src/commands/export.ts";
import { segmentedOn, segmentTable } from "../../src/commands/segment.ts";
import { bootstrapInterval, shareInterval } from "../../src/evaluation/confidence.ts";
import { latencyOf } from "../../src/evaluation/latency.ts";
import { modelCard } from "../../src/exports/model-card.ts";
import type { ComparedRun } from "../../src/report/comparison.ts";
import { comparisonCsv, comparisonTable, summarize } from "../../src/report/comparison.ts";
import type { ResultRow } from "../../src/report/results.ts";
import { evaluatedOn, isFaster, resultTable, resultText, tooFewText } from "../../src/report/results.ts";
import { noiseImage } from "../support/cli.ts";
import { messagesInto } from "../support/progress.ts";
import { referencePath } from "../support/reference.ts";
import { smallVit } from "../support/small-vit.ts";

const row = (name: string, images: number | undefined, top1: number, more: Partial<ResultRow> = {}): ResultRow => ({
  name,
  images,
  knn: { top1, top5: 0.9, interval: [top1 - 0.05, top1 + 0.05], top5Interval: [0.8, 0.95] },
  head: { top1: 0.75, top5: 1, interval: [0.6, 0.9] },
  auroc: { probe: { each: [], mean: 0.8, interval: [0.7, 0.9] } },
  fidelity: {
    meanAbsoluteDifference: 0.5,
    cosine: 0.6,
    agreement: 0.5,
    intervals: { meanAbsoluteDifference: [0.4, 0.61], cosine: [0.551, 0.652], agreement: [0.3, 0.7] },
  },
  ...more,
});

describe("below 100 images every figure stands with its interval", () => {
  test("on the console, and from 100 on alone", () => {
    const cells = (images: number | undefined) => resultText([row("model", images, 0.5)]).rows[0].slice(1);
    expect(cells(99)).toEqual([
      "50.0 (45–55) ",
      "75.0 (60–90) ",
      "80.0 (70–90) ",
      "50.0 (30–70) ",
      "0.500 (0.400–0.610) ",
      "0.600 (0.551–0.652) ",
    ]);
    for (const many of [100, 5000, undefined])
      expect(cells(many)).toEqual(["50.0 ", "75.0 ", "80.0 ", "50.0 ", "0.500 ", "0.600 "]);
  });

  test("in reports and model cards, which say the count first", () => {
    expect(resultTable([row("model", 99, 0.5)]).rows[0]).toContain("90.0 (80–95)");
    expect(resultTable([row("model", 100, 0.5)]).rows[0].slice(1, 3)).toEqual(["50.0 (45–55)", "90.0"]);
    const card = (images: number) =>
      modelCard({
        name: "s",
        config: { ...smallVit, depth: 2 },
        origin: {
          ...{
            teacher: "t",
            fromHub: false,
            method: "refit",
            images: 4,
            data: "d",
            keptBlocks: [0, 1],
            command: "c",
          },
          results: [row("student", images, 0.5)],
        },
        folder: "student",
        files: [],
        notes: [],
      });
    expect(card(4)).toMatch(/Evaluated on 4 images: too few to judge by\. In brackets[^\n]*\n\n\|/);
    expect(card(4)).toContain("| 50.0 (30–70) | 0.500 (0.400–0.610) | 0.600 (0.551–0.652) |");
    expect(card(400)).toContain("Evaluated on 400 images.\n\n|");
  });

  test("the first line says how many, always, and in plain words that they are too few", () => {
    const line = (...counts: number[]) => evaluatedOn(counts.map((images) => ({ images })));
    expect(line(1000)).toBe("Evaluated on 1000 images.");
    expect(line(100, 100)).toBe("Evaluated on 100 images.");
    expect(line(20)).toBe("Evaluated on 20 images. In brackets: 95 % confidence intervals.");
    expect(line(19)).toBe("Evaluated on 19 images: too few to judge by. In brackets: 95 % confidence intervals.");
    expect(line(1)).toContain("Evaluated on 1 image: too few");
    expect(line(30, 120)).toContain("Evaluated on 30 to 120 images. In");
    expect(evaluatedOn([{ images: 5 }], "training ")).toContain("5 training images: too few");
    expect(tooFewText([{ images: 20 }])).toBeUndefined();
    expect(tooFewText([{ images: 19 }])).toContain("19 images are too few to judge by");
  });

  test("no model is marked as better by less than 20 images", () => {
    const marks = (images: number) =>
      resultText([row("weight copy", images, 0.25), row("student", images, 0.5)]).rows[1][1].endsWith("*");
    expect([marks(4), marks(19), marks(20), marks(500)]).toEqual([false, false, true, true]);
  });

  test("in comparison tables, behind the spread over seeds", () => {
    const run = (seed: number, images: number, top1: number): ComparedRun => ({
      setting: { rank: "4" },
      seed,
      row: row("student", images, top1),
    });
    const cells = (...runs: ComparedRun[]) => comparisonTable(summarize(runs)).rows[0];
    expect(cells(run(0, 50, 0.5))).toEqual(expect.arrayContaining(["50.0 (45–55)", "0.600 (0.551–0.652)"]));
    expect(cells(run(0, 50, 0.5), run(1, 50, 0.6))[1]).toBe("55.0 ± 7.1 (50–60)");
    expect(cells(run(0, 500, 0.5))[1]).toBe("50.0");
    const [head, line] = comparisonCsv(summarize([run(0, 50, 0.5)])).split("\n");
    const at = head.split(",").indexOf("knn_low");
    expect(
      line
        .split(",")
        .slice(at, at + 2)
        .map(Number),
    ).toEqual([45, 55].map((v) => expect.closeTo(v, 6)));
  });

  test("Dice over cases, where there are several", () => {
    const result = (...dice: number[]) => ({
      ...{ model: "m", dice: 0.5, iou: 0.4, hausdorff95: undefined, parameters: 0, trainingSeconds: 1 },
      ...{ firstLoss: 1, lastLoss: 0.5 },
      intervals: dice.length > 1 ? { dice: [0.4, 0.6] as const } : {},
      results: dice.map((value, i) => ({
        case: `c${i}`,
        class: "tumour",
        dice: value,
        iou: 0.4,
        hausdorff95: undefined,
      })),
    });
    const [, dice, iou, , tumour] = segmentTable([result(0.2, 0.5, 0.8)]).rows[0];
    expect([dice, iou]).toEqual(["0.500 (0.400–0.600)", "0.400"]);
    const [, low, high] = /^0\.500 \((.*)–(.*)\)$/.exec(tumour) ?? [];
    // Three cases resampled: their mean can be the worst or the best alone, in one of 27 draws each.
    expect([low, high]).toEqual(["0.200", "0.800"]);
    expect(segmentedOn([result(0.2, 0.5, 0.8)], 40)).toBe(
      "Evaluated on 40 slices of 3 cases: too few cases for a reliable figure. In brackets: 95 % confidence intervals over the cases.",
    );
    expect(segmentedOn([result(0.5)], 12)).toContain(
      "1 case: too few cases for a reliable figure. One case has no interval.",
    );
  });
});

describe("intervals of shares", () => {
  test("four right answers of four are no certainty: Wilson's interval", () => {
    // (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) at p = 1, by hand: 4 / (4 + 3.8415).
    expect(shareInterval([1, 1, 1, 1])?.[0]).toBeCloseTo(0.5101, 4);
    expect(shareInterval([1, 1, 1, 1])?.[1]).toBe(1);
    expect(shareInterval([0])?.[1]).toBeCloseTo(0.7935, 4);
    expect(shareInterval([])).toBeUndefined();
    const mixed = Array.from({ length: 60 }, (_, i) => Number(i % 3 === 0));
    expect(shareInterval(mixed)).toEqual(bootstrapInterval(mixed));
  });
});

describe("latency is marked only where it differs by more than it varies", () => {
  const timed = (name: string, median: number, low: number, high: number): ResultRow => ({
    name,
    millisecondsPerImage: median,
    millisecondsQuartiles: [low, high],
  });

  test("medians and quartiles over the turns", () => {
    expect(latencyOf([5, 1, 4, 2, 3])).toEqual({ median: 3, quartiles: [2, 4] });
    expect(latencyOf([7])).toEqual({ median: 7, quartiles: [7, 7] });
  });

  test("equal models on a busy machine are not, however far their medians lie apart", () => {
    const rows = [timed("weight copy", 778, 420, 800), timed("student", 419, 400, 780)];
    expect(resultText(rows).rows.flat().join()).not.toContain("*");
    expect(isFaster(rows[1], rows[0])).toBe(false);
    const unknown = rows.map(({ millisecondsQuartiles: _, ...rest }) => rest);
    expect(resultText(unknown).rows.flat().join()).not.toContain("*");
  });

  test("a model that is faster in all turns is, and one that leads by the clock's noise is not", () => {
    const fast = [timed("weight copy", 100, 98, 103), timed("student", 50, 48, 53)];
    expect(resultText(fast).rows).toEqual([
      ["weight copy", "100.0 "],
      ["student", "50.0*"],
    ]);
    expect(String(resultTable(fast).rows[1][1]).replaceAll("\\", "")).toBe("**50.0 (48.0–53.0)**");
    expect(isFaster(timed("a", 95, 94.9, 95.1), timed("b", 100, 99.9, 100.1))).toBe(false);
    expect(isFaster(timed("a", 50, 49, 60), timed("b", 58, 57, 66))).toBe(false);
    expect(
      resultText([...fast, timed("third", 51, 50.5, 54)])
        .rows.flat()
        .join(),
    ).not.toContain("*");
  });
});

describe("a run on four images", () => {
  let folder: string;
  const at = (...parts: string[]) => join(folder, ...parts);
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-few-"));
    for (let i = 0; i < 16; i++)
      await noiseImage(at("data", i < 12 ? "train" : "val", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
  });
  afterAll(() => rm(folder, { recursive: true }));
  const teacher = referencePath("teachers/timm-vit");

  test("says so in its first line, as a warning, in both reports and in the model card", async () => {
    const messages: string[] = [];
    const options = { teacher, data: at("data"), out: at("run"), export: "onnx" as const };
    const result = await distill({ ...options, onProgress: messagesInto(messages) });
    expect(messages.join("\n")).toContain("4 images are too few to judge by");
    const [first, , second] = distillCommand.text(result as never).split("\n");
    expect(first).toMatch(/^The student has .*4 images: too few to judge by\)\.$/);
    expect(second).toBe("Evaluated on 4 images: too few to judge by. In brackets: 95 % confidence intervals.");
    const student = result.results[2];
    expect(student.images).toBe(4);
    const [low, high] = student.fidelity?.intervals?.cosine as [number, number];
    expect(low).toBeLessThanOrEqual(student.fidelity?.cosine as number);
    expect(high).toBeGreaterThanOrEqual(student.fidelity?.cosine as number);
    // A teacher is like itself for certain.
    expect(result.results[0].fidelity).toEqual({
      meanAbsoluteDifference: 0,
      cosine: expect.closeTo(1, 5),
      agreement: 1,
    });
    for (const file of ["report.md", "report.html", "student/README.md", "exports/onnx/README.md"])
      expect(await readFile(at("run", file), "utf8"), file).toContain("4 images: too few to judge by");
    const shown = `${student.fidelity?.cosine.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})`;
    for (const file of ["report.md", "report.html", "student/README.md"])
      expect((await readFile(at("run", file), "utf8")).replace(/<\/?(small|strong)>/g, ""), file).toContain(shown);
  });

  test("evaluate and export do likewise", async () => {
    const evaluated = await evaluate({ model: teacher, data: at("data"), cache: false });
    expect(evaluateCommand.text(evaluated as never)).toMatch(/^Evaluated on 4 images: too few to judge by\./);
    expect(evaluateCommand.text(evaluated as never)).toMatch(/model +\d+\.\d \(\d+–\d+\)/);
    const exported = await exportModel({ model: teacher, to: "onnx", data: at("data"), out: at("onnx") });
    expect(exportCommand.text(exported)).toMatch(/^Compared on 4 images: too few to judge by\./);
    expect(exportCommand.text(exported)).toMatch(/\d+\.\d \(\d+–\d+\)/);
  });
});
