// Extensions from outside: the examples are registered, run and measured as wecolora's own.
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createDistillation,
  defineExport,
  defineFormat,
  defineMethod,
  exportModel,
  loadModel,
  methodParts,
  openDataSet,
  registerExport,
  registerFormat,
  registerMethod,
  saveModel,
} from "wecolora/node";
import { z } from "zod";
import { flatWeights } from "../../examples/custom-export.ts";
import { oxfordPets } from "../../examples/custom-format.ts";
import { normTuning } from "../../examples/custom-method.ts";
import { noiseImage } from "../support/cli.ts";
import { noise } from "../support/noise.ts";
import { referencePath } from "../support/reference.ts";

const teacherPath = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-examples-"));
  for (let i = 0; i < 12; i++) await noiseImage(at("data", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
});
afterAll(() => rm(folder, { recursive: true }));

describe("a method", () => {
  test("trains two steps: norms change and nothing else", async () => {
    const teacher = await loadModel(teacherPath);
    const { channels, imageSize } = teacher.config;
    const pixels = noise([4, channels, imageSize, imageSize], 1);
    const schedule = { kind: "cosine" as const, warmupEpochs: 0, baseLearningRate: 1e-2 };
    const distillation = await createDistillation(teacher, { method: normTuning, normBiases: false, schedule });
    const [first, second] = [await distillation.step([pixels]), await distillation.step([pixels])];
    expect(second.loss).toBeLessThan(first.loss);
    const student = await distillation.student();
    const changed = [...student.weights]
      .filter(([name, { data }]) => data.some((v, i) => v !== distillation.weightCopy.weights.get(name)?.data[i]))
      .map(([name]) => name);
    expect(changed.length).toBeGreaterThan(0);
    for (const name of changed) expect(name).toMatch(/norm\d\.weight$/);
    await distillation.dispose();
    await teacher.dispose();
  });

  test("its own options are checked, and known once it is registered", async () => {
    const teacher = await loadModel(teacherPath);
    await expect(createDistillation(teacher, { method: normTuning, normBias: true } as never)).rejects.toThrow(
      "normBias",
    );
    registerMethod(normTuning);
    const named = await createDistillation(teacher, { method: "norm-tuning" } as never);
    expect(named.options.method).toBe("norm-tuning");
    await named.dispose();
    await teacher.dispose();
  });

  test("a name is taken once", () => {
    const other = defineMethod({
      name: "wecolora",
      summary: "another of the name",
      options: {},
      start: "weight-copy",
      trains: false,
      trainables: methodParts.nothing,
      objective: methodParts.features(methodParts.l1),
    });
    expect(() => registerMethod(other)).toThrow("A method named wecolora exists already");
  });
});

describe("an export", () => {
  test("is refused by name until it is registered; then it is written and measured", async () => {
    const run = { model: teacherPath, to: "flat-weights", data: at("data"), out: at("flat") };
    await expect(exportModel(run)).rejects.toThrow("flat-weights");
    registerExport(flatWeights);
    const { exports } = await exportModel(run);
    expect(exports).toMatchObject([{ format: "flat-weights", out: at("flat") }]);
    const [{ relativeDifference: difference, cosine, bytes }] = exports;
    expect(difference).toBe(0);
    expect(cosine).toBeCloseTo(1, 6);
    const index = JSON.parse(await readFile(at("flat", "weights.json"), "utf8")) as { offset: number }[];
    expect(index.every(({ offset }) => offset % 64 === 0)).toBe(true);
    expect(bytes).toBe((await readFile(at("flat", "weights.bin"))).byteLength);
  });

  test("takes its own options", async () => {
    registerExport(flatWeights);
    const teacher = await loadModel(teacherPath);
    await saveModel(teacher, at("packed"), { format: "flat-weights", alignment: 4 });
    const numbers = [...teacher.weights.values()].reduce((sum, { data }) => sum + data.length, 0);
    expect((await readFile(at("packed", "weights.bin"))).byteLength).toBe(4 * numbers);
    await expect(saveModel(teacher, at("no"), { format: "flat-weights", alignment: 3 })).rejects.toThrow("alignment");
    await teacher.dispose();
  });

  test("that gives other features than the model is an error", async () => {
    registerExport(
      defineExport({
        ...flatWeights,
        name: "halved-weights",
        async write(context) {
          const weights = new Map(
            [...context.model.weights].map(([name, tensor]) => [
              name,
              { ...tensor, data: tensor.data.map((v) => v / 2) },
            ]),
          );
          await flatWeights.write({ ...context, model: { ...context.model, weights } });
        },
      }),
    );
    await expect(
      exportModel({ model: teacherPath, to: "halved-weights", data: at("data"), out: at("halved") }),
    ).rejects.toThrow("is not the model that it was made from");
  });

  test("an option that means something else already is refused", async () => {
    const broken = defineExport({
      name: "broken-option",
      summary: "an option that the command has",
      options: { model: z.string().optional() },
      write: async () => undefined,
      open: flatWeights.open,
      files: flatWeights.files,
      bytesPerWeight: () => 4,
      tolerance: flatWeights.tolerance,
    });
    registerExport(broken);
    await expect(
      exportModel({ model: teacherPath, to: "broken-option", data: at("data"), out: at("broken") }),
    ).rejects.toThrow("broken-option has an option model");
  });
});

describe("a data format", () => {
  test("opens: splits and classes from its own lists", async () => {
    const pets = ["Abyssinian_1 1 1 1", "beagle_1 5 2 1", "Abyssinian_2 1 1 1", "beagle_2 5 2 1"];
    for (const [i, line] of pets.entries()) await noiseImage(at("pets", "images", `${line.split(" ")[0]}.jpg`), i, 0);
    await mkdir(at("pets", "annotations"), { recursive: true });
    await writeFile(at("pets", "annotations", "trainval.txt"), `${pets.slice(0, 3).join("\n")}\n`);
    await writeFile(at("pets", "annotations", "test.txt"), `# Image CLASS-ID\n${pets[3]}\n`);
    registerFormat(oxfordPets);
    const data = await openDataSet(at("pets"));
    expect(data.train.classes).toEqual(["Abyssinian", "beagle"]);
    expect(data.train.items.map(({ name, label }) => [name, label])).toEqual([
      ["images/Abyssinian_1.jpg", 0],
      ["images/beagle_1.jpg", 1],
      ["images/Abyssinian_2.jpg", 0],
    ]);
    expect(data.test?.items).toEqual([{ name: "images/beagle_2.jpg", label: 1 }]);
    const bySpecies = await openDataSet(at("pets"), { petClasses: "species" });
    expect(bySpecies.train.classes).toEqual(["cat", "dog"]);
    await expect(openDataSet(at("pets"), { petClass: "species" })).rejects.toThrow("petClasses?");
  });

  test("reads files of its ending, which messages list", async () => {
    registerFormat(
      defineFormat({
        name: "one-line",
        summary: "a file with the path of one image",
        extensions: [".one"],
        order: 150,
        options: {},
        recognise: async (tree) => tree.file,
        open: async (tree) => ({
          path: tree.path,
          train: { path: tree.path, items: [{ name: "a/p0.jpg" }], skipped: [] },
        }),
      }),
    );
    await writeFile(at("data", "x.one"), "a/p0.jpg\n");
    expect((await openDataSet(at("data", "x.one"))).train.items).toEqual([{ name: "a/p0.jpg" }]);
    await writeFile(at("data", "x.two"), "a/p0.jpg\n");
    await expect(openDataSet(at("data", "x.two"))).rejects.toThrow(
      /x\.two is a file; a folder of images is needed, or a \.one, .*\.zip/,
    );
    const taken = defineFormat({ ...oxfordPets, name: "parquet" });
    expect(() => registerFormat(taken)).toThrow("A data format named parquet exists already");
  });
});
