// What holds on every platform: the suite that runs on each, held against what onnxruntime-node gives for the same files.
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ResultRow } from "../../src/report/results.ts";
import { noiseImage } from "./cli.ts";
import type { Call, Folders, Outcome, Platform } from "./platforms.ts";
import { nodePlatform } from "./platforms.ts";
import { referencePath, relativeError } from "./reference.ts";

/** Folders that all platforms read: a teacher, images in three classes, images of which some are damaged, and none. */
export async function makeFolders(): Promise<{ folders: Folders; remove(): Promise<void> }> {
  const work = await mkdtemp(join(tmpdir(), "wecolora-platforms-"));
  const folders = Object.fromEntries(
    ["teacher", "images", "damaged", "texts"].map((name) => [name, join(work, name)]),
  ) as Record<"teacher" | "images" | "damaged" | "texts", string>;
  for (const folder of Object.values(folders)) await mkdir(folder);
  for (const file of ["config.json", "model.safetensors"])
    await cp(join(referencePath("teachers/timm-vit"), file), join(folders.teacher, file));
  for (let i = 0; i < 24; i++) await noiseImage(join(folders.images, `class${i % 3}`, `p${i}.jpg`), i, i % 3);
  for (let i = 0; i < 8; i++) await noiseImage(join(folders.damaged, `p${i}.jpg`), i, i % 3);
  await writeFile(join(folders.damaged, "cut.jpg"), Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 16, 74, 70, 73, 70]));
  await writeFile(join(folders.damaged, "page.png"), "<html>no image</html>");
  await writeFile(join(folders.texts, "notes.txt"), "nothing to see");
  return { folders, remove: () => rm(work, { recursive: true }) };
}

/** How near a platform's numbers must be to Node's. */
export interface Nearness {
  /** Of features: sums of float32 in another order. */
  readonly features: number;
  /** Of a student: the closed form solves for what nearly depends on each other, so that rounding is enlarged. */
  readonly student: number;
}

const numbers = (values: unknown) => Float64Array.from(values as number[]);
const rowsOf = ({ value, error }: Outcome): readonly ResultRow[] => {
  expect(error).toBeUndefined();
  return value?.results as ResultRow[];
};
const losses = ({ texts }: Outcome): number[] =>
  texts["log.jsonl"]
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { kind: string; loss?: number })
    .flatMap(({ kind, loss }) => (kind === "step" && loss !== undefined ? [loss] : []));

const refit: Call = { name: "distill", teacher: "teacher", images: "images", options: { method: "refit" } };
const training: Call = {
  ...refit,
  options: { method: "wecolora", rank: 2, epochs: 3, warmupEpochs: 0.5, effectiveBatch: 6, evaluateSteps: 2 },
};

/** Adds the suite for a platform. `open` is called once all folders are there. */
export function describePlatform(name: string, open: (folders: Folders) => Promise<Platform>, near: Nearness): void {
  describe(name, () => {
    let node: Platform;
    let other: Platform;
    let remove: () => Promise<void>;
    beforeAll(async () => {
      const made = await makeFolders();
      ({ remove } = made);
      node = await nodePlatform(made.folders);
      other = await open(made.folders);
    });
    afterAll(async () => {
      await node?.close();
      await other?.close();
      await remove?.();
    });
    const both = async (call: Call) => [await node.call(call), await other.call(call)] as const;

    test("features are Node's", async () => {
      const [wanted, got] = await both({ name: "features", model: "teacher", images: "images" });
      expect(got.error).toBeUndefined();
      expect(got.value?.names).toEqual(wanted.value?.names);
      expect(relativeError(numbers(got.value?.features), numbers(wanted.value?.features))).toBeLessThan(near.features);
    });

    test("the closed form gives Node's student, figures and files, and it can be exported", async () => {
      const [wanted, got] = await both(refit);
      expect(rowsOf(got).map(({ name }) => name)).toEqual(["teacher", "weight copy", "student"]);
      for (const [i, row] of rowsOf(wanted).entries()) {
        const { fidelity, knn, parameters, bytes } = rowsOf(got)[i];
        expect(parameters).toBe(row.parameters);
        expect(bytes).toBe(row.bytes);
        expect(knn?.top1).toBe(row.knn?.top1);
        const [mine, nodes] = [fidelity?.meanAbsoluteDifference ?? 0, row.fidelity?.meanAbsoluteDifference ?? 0];
        expect(Math.abs(mine - nodes)).toBeLessThan(near.student * Math.max(nodes, 1));
      }
      expect(relativeError(numbers(got.student), numbers(wanted.student))).toBeLessThan(near.student);
      expect(got.files).toEqual(wanted.files);
      expect(got.stages).toEqual(wanted.stages);
      // The card and the settings are Node's but for where and when.
      expect(Object.keys(JSON.parse(got.texts["config.json"]))).toEqual(
        Object.keys(JSON.parse(wanted.texts["config.json"])),
      );
      expect(JSON.parse(got.texts["student/config.json"])).toEqual(JSON.parse(wanted.texts["student/config.json"]));

      const exported = await both({
        name: "exportModel",
        model: "run",
        options: { to: ["onnx-float16", "onnx-int8"] },
      });
      const [theirs, mine] = exported.map(({ error, value }) => {
        expect(error).toBeUndefined();
        return value?.exports as { format: string; bytes: number; cosine: number }[];
      });
      expect(mine.map(({ format, bytes }) => ({ format, bytes }))).toEqual(
        theirs.map(({ format, bytes }) => ({ format, bytes })),
      );
      // 8-bit products are rounded otherwise by other instructions: both stay near the model that they were made of.
      for (const { cosine } of mine) expect(cosine).toBeGreaterThan(0.99);
    });

    test("training steps have Node's losses", async () => {
      const [wanted, got] = await both(training);
      expect(got.error).toBeUndefined();
      expect(losses(got)).toHaveLength(losses(wanted).length);
      // Signs of differences are the loss's gradient; one that turns moves later steps a little.
      expect(relativeError(numbers(losses(got)), numbers(losses(wanted)))).toBeLessThan(1e-3);
      expect(losses(got).at(-1)).toBeLessThan(losses(got)[0]);
    });

    test("evaluation gives Node's figures", async () => {
      const call: Call = { name: "evaluate", model: "teacher", images: "images", options: { probeEpochs: 5 } };
      const [wanted, got] = await both(call);
      expect(rowsOf(got)[0].knn).toEqual(rowsOf(wanted)[0].knn);
      expect(got.value).toMatchObject({ queries: wanted.value?.queries, bank: wanted.value?.bank });
    });

    test.each([
      ["reading images", refit],
      ["refitting blocks", refit],
      ["distilling", training],
      ["saving the student", refit],
      ["evaluating", refit],
      ["measuring latency", refit],
      ["writing the report", refit],
    ])("is stopped at: %s", async (stopAt, call) => {
      const { error, stages } = await other.call({ ...call, stopAt });
      expect(stages.at(-1)).toMatch(new RegExp(`^${stopAt}`));
      expect(error).toMatchObject({ name: "AbortError", code: "INTERRUPTED" });
    });

    test("damaged images are skipped and named, or refused where the run is strict", async () => {
      const call: Call = { name: "features", model: "teacher", images: "damaged" };
      const got = await other.call(call);
      expect(got.value).toMatchObject({ skipped: 2 });
      expect(got.value?.names).toHaveLength(8);
      expect(got.warnings.join("\n")).toMatch(/cut\.jpg/);
      expect(got.warnings.join("\n")).toMatch(/page\.png is (an HTML page|an XML document)/);
      const strict = await other.call({ ...call, options: { strict: true } });
      expect(strict.error).toMatchObject({ name: "UserError", code: "NOT_AN_IMAGE" });
    });

    test("what is wrong is said as on Node", async () => {
      const wrong: readonly Call[] = [
        { ...refit, images: "texts" },
        { ...refit, teacher: "images" },
        { ...refit, options: { method: "wecolora", rank: 5000 } },
        { ...refit, options: { method: "no such method" } },
      ];
      for (const call of wrong) {
        const [wanted, got] = await both(call);
        expect(got.error?.code).toBe(wanted.error?.code);
        expect(got.error?.name).toBe("UserError");
      }
    });
  });
}
