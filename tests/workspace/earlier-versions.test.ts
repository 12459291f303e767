// Run folders of version 1, whose files have other names for some keys, read as those of today. The reference files are what
// version 1 wrote on the demo's images; step entries and predictions are fewer.
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { nodeDirectory } from "wecolora/node";
import { RunFolder } from "../../src/workspace/run-folder.ts";
import { referencePath } from "../support/reference.ts";

const from = referencePath("run-v1");
const json = async (name: string) => JSON.parse(await readFile(join(from, name), "utf8"));

test("results, comparisons and evaluations", async () => {
  const written = await json("result.json");
  expect(written.version).toBe(1);
  const result = await new RunFolder(nodeDirectory(from)).readResult();
  expect(result?.images).toBe(written.pictures);
  expect(result?.evaluatedOnTrainingImages).toBe(written.judgedOnTrainingPictures);
  expect(result?.evaluations.map(({ meanAbsoluteDifference, knn }) => [meanAbsoluteDifference, knn])).toEqual(
    written.evaluations.map(({ difference, neighbours }: Record<string, number>) => [difference, neighbours]),
  );
  expect(result?.results).toHaveLength(3);
  for (const [i, row] of result?.results.entries() ?? []) {
    expect(row.knn?.top1).toBe(written.results[i].neighbours.top1);
    expect(row.millisecondsPerImage).toBe(written.results[i].millisecondsAPicture);
    expect(row.fidelity?.cosine).toBe(written.results[i].fidelity.cosine);
  }
  const metrics = written.comparisons.map(({ metric }: { metric: string }) => metric);
  expect(metrics).toContain("neighbours");
  expect(result?.comparisons.map(({ metric }) => metric)).toEqual(
    metrics.map((metric: string) => (metric === "neighbours" ? "knn" : metric)),
  );
  expect(result?.comparisons.map(({ difference }) => difference)).toEqual(
    written.comparisons.map(({ difference }: { difference: number }) => difference),
  );
});

test("exports, the log and predictions", async () => {
  const run = new RunFolder(nodeDirectory(from));
  const [written] = (await json("exports.json")).exports;
  const [measured] = await run.readExports();
  expect(measured).toMatchObject({
    relativeDifference: written.difference,
    millisecondsPerImage: written.millisecondsAPicture,
    intervals: { relativeDifference: written.intervals.difference, cosine: written.intervals.cosine },
    knn: { exported: written.neighbours.exported, original: written.neighbours.own },
  });
  expect(measured.knn?.intervals.original).toEqual(written.neighbours.intervals.own);
  const log = await run.readLog();
  const looked = log.flatMap((entry) => (entry.kind === "evaluation" ? [entry] : []));
  expect(looked.map(({ step, meanAbsoluteDifference }) => [step, meanAbsoluteDifference > 0])).toEqual([
    [0, true],
    [1, true],
  ]);
  const rows = log.flatMap((entry) => (entry.kind === "result" ? [entry.knn?.top1] : []));
  expect(rows).toHaveLength(3);
  for (const top1 of rows) expect(top1).toBeGreaterThan(0);
  const predictions = await run.readPredictions();
  expect(predictions).toHaveLength(3);
  for (const { models } of predictions) {
    expect(Object.keys(models)).toEqual(["teacher", "weight copy", "student"]);
    expect(models.student.knn).toBeTypeOf("string");
    expect(models.teacher.meanAbsoluteDifference).toBe(0);
  }
});

test("exports that are added are written in today's version, beside the earlier ones", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-earlier-"));
  try {
    await cp(from, folder, { recursive: true });
    const run = new RunFolder(nodeDirectory(folder));
    const [measured] = await run.readExports();
    await run.writeExports([{ ...measured, format: "onnx-float16" }]);
    expect(JSON.parse(await readFile(join(folder, "exports.json"), "utf8")).version).toBe(2);
    expect(await run.readExports()).toEqual([measured, { ...measured, format: "onnx-float16" }]);
    await run.writePredictions(await run.readPredictions());
    const names = await readdir(folder);
    expect(names).toContain("predictions.jsonl");
    expect(names).not.toContain("judged.jsonl");
    expect(await run.readPredictions()).toHaveLength(3);
    // A file that says version 2 has version 2's names.
    const result = { ...(await json("result.json")), version: 2 };
    await writeFile(join(folder, "result.json"), JSON.stringify(result));
    await expect(run.readResult()).rejects.toThrow(/result\.json is damaged or was changed by hand/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
