// The page of a run, as a browser shows it; names that look like markup are among its classes and files.
import { existsSync, readFileSync } from "node:fs";
import { link, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distill, report, rollout, similarity } from "wecolora/node";
import { browserPath, openBrowser, openPage } from "../support/browser.ts";
import { noiseImage, wecolora } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
const classes = [`<b>"bold" & 'more'`, "日本 – кот", "<script>alert(1)<"];
const hostile = `<img src=x onerror="alert('x')">`;
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

const small = {
  method: "wecolora",
  rank: 2,
  epochs: 3,
  warmupEpochs: 0.5,
  effectiveBatch: 6,
  evaluateSteps: 2,
} as const;

beforeAll(async () => {
  // A long name without a place to break it, as folders of build machines have.
  folder = await mkdtemp(join(tmpdir(), `wecolora-page-${"long".repeat(20)}-`));
  for (let i = 0; i < 30; i++) {
    const name = i % 7 === 0 || i > 24 ? `${hostile}${i}.jpg` : `p${i}.jpg`;
    await noiseImage(at("data", i < 18 ? "train" : "val", classes[i % 3], name), i, i % 3);
  }
  await distill({ teacher, data: at("data"), out: at("run"), ...small });
  await distill({ teacher, data: at("data"), out: at("other <i>"), ...small, rank: 1, method: "lora" });
}, 120_000);
afterAll(() => rm(folder, { recursive: true }));

const lines = (path: string) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

describe.skipIf(!browserPath)("in Chromium", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser.close());

  test.each([
    { name: "light", width: 1200 },
    { name: "dark", width: 1200, dark: true },
    { name: "narrow", width: 360 },
  ])("$name: nothing complains, nothing leaves the page, and axe finds nothing", async (options) => {
    const { page, complaints } = await openPage(browser, at("run", "report.html"), options);
    expect(await page.title()).toBe("run: distillation report");
    // Nothing is wider than the page but what scrolls by itself.
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(options.width);
    const broken = await page.$$eval("img", (images) => images.filter((i) => i.naturalWidth === 0).length);
    expect(broken).toBe(0);
    expect(complaints).toEqual([]);
    // Axe is run by the debugger's side: the page's own policy would not let it in as a script.
    await page.evaluate(await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
    const actual = await page.evaluate(async () => {
      const { axe } = window as unknown as {
        axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
      };
      return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
    });
    expect(actual).toEqual([]);
    await page.context().close();
  });

  test("the figures are those of the log", async () => {
    const { page } = await openPage(browser, at("run", "report.html"));
    const log = lines(at("run", "log.jsonl"));
    const rows = await page.$$eval("#results ~ .scroll tbody tr", (list) =>
      list.map((row) => [...row.children].map((cell) => cell.textContent)),
    );
    const results = log.filter(({ kind }) => kind === "result");
    expect(rows.map(([name]) => name)).toEqual(["teacher", "weight copy", "student"]);
    results.forEach((result, i) => {
      expect(rows[i][1]).toMatch(new RegExp(`^${(100 * result.knn.top1).toFixed(1)} \\(\\d+–\\d+\\)$`));
      expect(rows[i][3]).toContain((100 * result.probe.top1).toFixed(1));
      // 12 images are few: figures stand with their intervals, but for the teacher's likeness to itself.
      const difference = result.fidelity.meanAbsoluteDifference.toFixed(3);
      const pattern = i === 0 ? `^${difference}$` : `^${difference} \\(\\d\\.\\d{3}–\\d\\.\\d{3}\\)$`;
      expect(rows[i].some((cell) => new RegExp(pattern).test(String(cell)))).toBe(true);
      const [low, high] = result.millisecondsQuartiles.map((v: number) => v.toFixed(1));
      expect(rows[i].at(-1)).toBe(`${result.millisecondsPerImage.toFixed(1)} (${low}–${high})`);
    });
    const titles = await page.$$eval("#training ~ .charts figure", (figures) =>
      figures.map((figure) => [...figure.querySelectorAll("title")].map((t) => t.textContent)),
    );
    // The script takes titles from marks that were pointed at; none was yet.
    const steps = log.filter(({ kind }) => kind === "step");
    expect(titles[0]).toEqual(steps.map(({ step, loss }) => `training loss, step ${step}: ${loss.toFixed(4)}`));
    const evaluations = log.filter(({ kind }) => kind === "evaluation");
    expect(titles[1]).toEqual(
      evaluations.map((l) => `held out, step ${l.step}: ${l.meanAbsoluteDifference.toFixed(3)}`),
    );
    expect(titles[2]).toEqual(evaluations.map((l) => `held out, step ${l.step}: ${(100 * l.knn).toFixed(1)}`));
    // report.md says the same.
    const markdown = readFileSync(at("run", "report.md"), "utf8");
    for (const row of rows) for (const cell of row.slice(1)) expect(markdown).toContain(String(cell));
    await page.context().close();
  });

  test("a mark under the pointer shows its value", async () => {
    const { page } = await openPage(browser, at("run", "report.html"));
    const mark = page.locator("#training ~ .charts figure circle").nth(1);
    // Scrolling hides the value, and its event comes late.
    await mark.scrollIntoViewIfNeeded();
    await page.evaluate(() => new Promise((done) => setTimeout(done, 100)));
    await mark.hover();
    await expect.poll(() => page.locator(".tip").textContent()).toMatch(/^training loss, step 2: \d\.\d{4}$/);
    expect(await page.locator(".tip").isVisible()).toBe(true);
    await page.context().close();
  });

  test("names that look like markup are text", async () => {
    const { page, complaints } = await openPage(browser, at("run", "report.html"));
    const text = await page.evaluate(() => document.body.textContent);
    for (const name of classes) expect(text).toContain(name);
    expect(text).toContain(hostile);
    expect(await page.$$eval("img", (images) => images.filter((i) => !i.src.startsWith("data:")).length)).toBe(0);
    expect(await page.$$eval("main b, main script, main i:not([style])", (list) => list.length)).toBe(0);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  test("several runs share one page", async () => {
    const { out } = await report({ runs: [at("run"), at("other <i>")], out: at("both.html") });
    const { page, complaints } = await openPage(browser, out);
    const rows = await page.$$eval("#results ~ .scroll tbody th", (list) => list.map((cell) => cell.textContent));
    expect(rows).toEqual(["teacher", "weight copy", "run", "other <i>"]);
    const differing = await page.$$eval("#settings ~ .scroll tbody tr", (list) =>
      list.map((row) => [...row.children].map((cell) => cell.textContent)),
    );
    expect(differing).toEqual([
      ["method", "wecolora", "lora"],
      ["rank", "2", "1"],
    ]);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  test("10,000 steps and 5,000 images make a page of less than 5 MB", async () => {
    await mkdir(at("many", "train"), { recursive: true });
    const first = lines(at("run", "manifest.jsonl"));
    const source = at("data", first[0].name);
    const manifest = [];
    for (let i = 0; i < 5000; i++) {
      const name = `train/picture number ${i}.jpg`;
      await link(source, at("many", name));
      manifest.push({ ...first[0], name });
    }
    await mkdir(at("long"));
    for (const file of ["config.json", "result.json", "predictions.jsonl", "log.jsonl"])
      await writeFile(at("long", file), await readFile(at("run", file)));
    const config = JSON.parse(await readFile(at("run", "config.json"), "utf8"));
    config.options.data = at("many");
    await writeFile(at("long", "config.json"), JSON.stringify(config));
    await writeFile(at("long", "manifest.jsonl"), manifest.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const steps = Array.from({ length: 10_000 }, (_, i) => ({
      kind: "step",
      step: i + 1,
      epoch: (i + 1) / 10,
      loss: 1 + 1 / (i + 1),
      learningRate: 1e-3,
      seconds: 0.1,
      time: i,
    }));
    await writeFile(at("long", "log.jsonl"), steps.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const { out } = await report({ runs: [at("long")] });
    const { size } = await stat(out);
    expect(size).toBeLessThan(5_000_000);
    const { page, complaints } = await openPage(browser, out);
    expect(complaints).toEqual([]);
    expect(await page.$$eval("#images ~ .strip img", (list) => list.length)).toBe(96);
    expect(await page.textContent("#images ~ p")).toContain("96 of 5000 are shown");
    const loaded = await page.evaluate(() => performance.getEntriesByType("navigation")[0].toJSON().loadEventEnd);
    console.log(`page of ${(size / 1e6).toFixed(2)} MB, loaded in ${Math.round(Number(loaded))} ms`);
    await page.context().close();
  });
});

test("a report is made anew from its folder, and says what it can't show", async () => {
  const before = readFileSync(at("run", "report.html"), "utf8");
  await rm(at("run", "report.html"));
  const again = await wecolora("report", at("run"));
  expect(again).toMatchObject({ code: 0, out: `${at("run", "report.html")}\n` });
  expect(readFileSync(at("run", "report.html"), "utf8")).toBe(before);

  await mkdir(at("moved"));
  for (const file of ["config.json", "result.json", "predictions.jsonl", "log.jsonl", "manifest.jsonl"])
    await writeFile(at("moved", file), await readFile(at("run", file)));
  const config = JSON.parse(await readFile(at("run", "config.json"), "utf8"));
  config.options.teacher = at("gone");
  await writeFile(at("moved", "config.json"), JSON.stringify(config));
  const moved = await wecolora("report", at("moved"));
  expect(moved.code).toBe(0);
  expect(moved.err).toContain("The report lacks the teacher's side of the images");
  expect(readFileSync(at("moved", "report.md"), "utf8")).toContain("- not here: the student's side");

  const unfinished = await wecolora("report", at("data"));
  expect(unfinished.code).toBe(2);
  expect(unfinished.err).toMatch(/holds no run|There is no run/);
  expect((await wecolora("report")).code).toBe(2);
});

test("rollout writes an image, the teacher's look and the model's side by side", async () => {
  const result = await rollout({
    model: at("run", "student"),
    teacher,
    data: at("data", "val"),
    out: at("looks"),
    maxImages: 5,
  });
  expect(result.columns).toEqual(["image", "teacher", "model"]);
  const files = Object.values(result.files);
  expect(files).toHaveLength(5);
  const { default: sharp } = await import("sharp");
  for (const file of files)
    expect(await sharp(at("looks", file)).metadata()).toMatchObject({ width: 3 * 32 + 16, height: 32 });
  const wrong = await wecolora("rollout", "--model", teacher, "--data", at("data"), "--out", at("x"), "--discard", "1");
  expect(wrong).toMatchObject({ code: 2 });
  expect(wrong.err).toContain("discard");
  expect(existsSync(at("x"))).toBe(false);
});

test("similarity prints the table and writes the heat map", async () => {
  const selfSimilarity = await similarity({ model: teacher, teacher, data: at("data") });
  selfSimilarity.cka.forEach((row, i) => expect(row[i]).toBeCloseTo(1, 6));
  const output = await wecolora(
    "similarity",
    "--model",
    at("run", "student"),
    "--teacher",
    teacher,
    "--data",
    at("data"),
    "--out",
    at("alike"),
  );
  expect(output).toMatchObject({ code: 0 });
  expect(output.out).toContain("centred kernel alignment");
  const [header, ...rows] = readFileSync(at("alike", "similarity.csv"), "utf8").trimEnd().split("\n");
  expect(header).toBe("student_block,teacher_block,cka,cosine");
  expect(rows).toHaveLength(3 * 6);
  expect(Number(rows[0].split(",")[2])).toBeGreaterThan(0.9);
  expect(readFileSync(at("alike", "similarity.svg"), "utf8")).toContain("<svg");
  expect((await stat(at("alike", "similarity.png"))).size).toBeGreaterThan(1000);
});
