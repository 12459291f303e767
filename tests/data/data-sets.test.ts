// Data sets in the formats in which they are published: files made by Python's own packages, and what goes wrong with them.
import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DataSet, ImageFolder, ImageSource } from "wecolora/node";
import { createImageSource, listImages, openDataSet } from "wecolora/node";
import { denormalise } from "../../src/data/transforms.ts";
import { referencePath } from "../support/reference.ts";

const sets = referencePath("data-sets");
const at = (...parts: string[]) => join(sets, ...parts);
let folder: string;
const made = (...parts: string[]) => join(folder, ...parts);
const sources: ImageSource[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-sets-"));
});
afterAll(async () => {
  for (const source of sources) await source.dispose();
  await rm(folder, { recursive: true });
});

/** Pixels as they are: [0, 1] without a crop. */
const bare = (side: number) =>
  ({
    resize: { height: side, width: side },
    cropSize: side,
    interpolation: "bilinear",
    mean: [0, 0, 0],
    std: [1, 1, 1],
  }) as const;

function sourceOf({ path }: { readonly path: string }): ImageSource {
  const source = createImageSource(path, 1);
  sources.push(source);
  return source;
}

/** Which of the fixtures' three colours each image is, from its pixels. */
async function coloursOf(part: ImageFolder, source: ImageSource): Promise<number[]> {
  const colours = [
    [200, 40, 30],
    [30, 180, 60],
    [40, 60, 210],
  ];
  const result: number[] = [];
  for (const item of part.items) {
    const pixels = await source.evaluationCrop(item, bare(16));
    const mean = [0, 1, 2].map((c) => (255 * pixels.subarray(c * 256, (c + 1) * 256).reduce((a, b) => a + b, 0)) / 256);
    const distances = colours.map((colour) => Math.hypot(...colour.map((v, c) => v - mean[c])));
    // The images' noise is 3.5 in each channel, JPEG's error less.
    expect(Math.min(...distances)).toBeLessThan(6);
    result.push(distances.indexOf(Math.min(...distances)));
  }
  return result;
}

const labelsOf = (part: ImageFolder | undefined) => part?.items.map(({ label }) => label);
/** The part's labels are its images' colours. */
async function expectLabels(data: DataSet, part: ImageFolder | undefined, labels: number[]): Promise<void> {
  expect(labelsOf(part)).toEqual(labels);
  expect(await coloursOf(part as ImageFolder, sourceOf(data))).toEqual(labels);
  expect(new Set(part?.items.map(({ name }) => name)).size).toBe(labels.length);
}

const [train, test_] = [
  [0, 1, 2, 2, 1, 0],
  [2, 0, 1],
];

describe("published sets", () => {
  test.each(["cifar-100-binary", "cifar-100-python"])("%s", async (name) => {
    const data = await openDataSet(at(name));
    expect(data.name).toBe("cifar100");
    expect(data.train.classes).toEqual(["apple", "bear", "sky"]);
    await expectLabels(data, data.train, train);
    await expectLabels(data, data.test, test_);
  });

  test.each(["cifar-10-batches-bin", "cifar-10-batches-py"])("%s", async (name) => {
    const data = await openDataSet(at(name));
    expect(data.name).toBe("cifar10");
    expect(data.train.classes).toEqual(["airplane", "bird", "cat"]);
    await expectLabels(data, data.train, [1, 2, 2, 0, 0, 1, 1, 2, 2, 0]);
    await expectLabels(data, data.test, test_);
  });

  test("a folder around CIFAR's", async () => {
    await cp(at("cifar-100-binary"), made("around", "cifar-100-binary"), { recursive: true });
    expect((await openDataSet(made("around"))).train.items).toHaveLength(6);
  });

  test("ChestX-ray14: findings, the official split", async () => {
    const data = await openDataSet(at("chestxray14"));
    expect(data).toMatchObject({ name: "chestxray14", multiLabel: true });
    expect(data.train.classes).toHaveLength(14);
    expect(data.train.items.map(({ name, labels }) => [name, labels])).toEqual([
      ["images_001/images/00000001_000.png", [1]],
      ["images_001/images/00000001_001.png", [1, 5]],
      ["images_001/images/00000002_000.png", []],
      ["images_001/images/00000003_000.png", [7]],
      ["images_001/images/00000003_001.png", [8, 4, 0]],
    ]);
    expect(data.test?.items.map(({ labels }) => labels)).toEqual([[], [11], [9, 10]]);
    const more = await openDataSet(at("chestxray14"), { includeNoFinding: true });
    expect(more.train.classes?.[14]).toBe("No Finding");
    expect(more.train.items[2].labels).toEqual([14]);
    const pixels = await sourceOf(data).evaluationCrop(data.train.items[1], bare(16));
    expect(255 * pixels[100]).toBeCloseTo(40, 3);
  });

  test("iNaturalist 2019", async () => {
    const data = await openDataSet(at("inat2019"));
    expect(data.name).toBe("inaturalist2019");
    expect(data.train.classes).toEqual(["0", "1", "2"]);
    await expectLabels(data, data.train, [0, 1, 2, 0, 1, 2]);
    await expectLabels(data, data.test, [1, 2, 0]);
  });

  test.each(["imagenet", "imagenet-kaggle"])("%s: validation images in one folder", async (name) => {
    const data = await openDataSet(at(name));
    expect(data.name).toBe("imagenet");
    expect(data.train.classes).toEqual(["n01440764", "n01443537", "n01484850"]);
    await expectLabels(data, data.train, [0, 0, 1, 1, 2, 2]);
    await expectLabels(data, data.test, [2, 0, 1, 1]);
  });

  test("NWPU-RESISC45 is known by its classes, and split 10 to 90 in each", async () => {
    const { resiscClasses } = await import("../../src/data/protocols.ts");
    expect(new Set(resiscClasses).size).toBe(45);
    const image = await readFile(at("formats", "a.jpg"));
    for (const name of resiscClasses) {
      await mkdir(made("resisc", name), { recursive: true });
      for (let i = 0; i < 10; i++) await writeFile(made("resisc", name, `${name}_${i}.jpg`), image);
    }
    const data = await openDataSet(made("resisc"));
    expect(data.name).toBe("resisc45");
    expect(data.train.items).toHaveLength(45);
    expect(data.test?.items).toHaveLength(405);
    expect(new Set(data.train.items.map(({ label }) => label)).size).toBe(45);
    const again = await openDataSet(made("resisc"), { seed: 1 });
    expect(again.train.items.map(({ name }) => name)).not.toEqual(data.train.items.map(({ name }) => name));
  });
});

describe("formats", () => {
  test("class folders inside of a folder", async () => {
    await cp(at("imagenet", "train"), made("nested", "deeper", "still"), { recursive: true });
    const data = await openDataSet(made("nested"));
    expect(data.train.classes).toEqual(["n01440764", "n01443537", "n01484850"]);
    expect(labelsOf(data.train)).toEqual([0, 0, 1, 1, 2, 2]);
    expect(data.train.items[0].name).toBe("deeper/still/n01440764/n01440764_0.JPEG");
  });

  test("parquet shards of the hub, with class names and parts", async () => {
    const data = await openDataSet(at("hub"));
    expect(data.train.classes).toEqual(["apple", "bear", "sky"]);
    await expectLabels(data, data.train, [0, 1, 2, 0, 1, 2, 2]);
    await expectLabels(data, data.test, [1, 0, 2]);
  });

  test("one parquet file, bare bytes, classes as words, zstd", async () => {
    const data = await openDataSet(at("words.parquet"));
    expect(data.train.classes).toEqual(["airplane", "bird", "cat"]);
    await expectLabels(data, data.train, train);
  });

  test("tar shards: keys, GNU's and pax's long names", async () => {
    const data = await openDataSet(at("shards"));
    await expectLabels(data, data.train, [0, 1, 2, 1]);
    await expectLabels(data, data.test, [2, 0]);
    expect(data.train.items[0].name).toContain("deep/deep/");
  });

  test("one tar file with descriptions", async () => {
    const data = await openDataSet(at("described.tar"));
    expect(data.train.classes).toEqual(["airplane", "bird", "cat"]);
    await expectLabels(data, data.train, train);
  });

  test("zip archives, packed and not", async () => {
    const data = await openDataSet(at("packed.zip"));
    expect(data.train.classes).toEqual(["airplane", "bird", "cat"]);
    const sorted = [0, 0, 1, 1, 2, 2];
    await expectLabels(data, data.train, sorted);
    await expectLabels(data, data.test, [0, 1, 2]);
    const flat = await openDataSet(at("flat.zip"));
    expect(flat.train.classes).toBeUndefined();
    expect(await coloursOf(flat.train, sourceOf(flat))).toEqual([0, 1, 2, 0]);
  });

  test("tables: a byte-order mark, quotes, parts; several labels as columns; tabs", async () => {
    const data = await openDataSet(at("listed", "all.csv"));
    expect(data.train.classes).toEqual(["airplane", "bird", "cat"]);
    await expectLabels(data, data.train, train);
    await expectLabels(data, data.test, test_);
    const several = await openDataSet(at("listed", "all.tsv"), { labelColumns: ["red", "green"] });
    expect(several).toMatchObject({ multiLabel: true, train: { classes: ["red", "green"] } });
    expect(several.train.items.map(({ labels }) => labels)).toEqual([[0], [1], [], [], [1], [0]]);
  });

  test("lists of lines", async () => {
    const data = await openDataSet(at("listed", "lines.txt"));
    expect(data.train.classes).toEqual(["class 0", "class 1", "class 2"]);
    await expectLabels(data, data.train, train);
    const plain = await openDataSet(at("listed", "plain.txt"));
    expect(plain.train.items).toHaveLength(6);
    expect(plain.train.classes).toBeUndefined();
  });

  test("scans in slices, split in blocks or by case", async () => {
    const data = await openDataSet(at("brats"));
    expect(data.train.items[0].name).toMatch(/^BraTS20_Training_00\d\/BraTS20_Training_00\d_flair\.nii\.gz#axial-\d+$/);
    const caseOf = (part: ImageFolder | undefined) => new Set(part?.items.map(({ name }) => name.slice(0, 20)));
    expect(caseOf(data.train).size).toBe(1);
    expect([...caseOf(data.test)]).not.toEqual([...caseOf(data.train)]);
    const pixels = await sourceOf(data).evaluationCrop(data.train.items[2], bare(16));
    expect(Math.max(...pixels)).toBeGreaterThan(0.4);
  });

  test("all images of a set in one list", async () => {
    expect((await listImages(at("packed.zip"))).items).toHaveLength(9);
    expect((await listImages(at("cifar-100-python"))).items).toHaveLength(9);
  });
});

describe("images of every kind are what Pillow makes of them", () => {
  const { images } = JSON.parse(readFileSync(at("expected.json"), "utf8")) as {
    images: Record<string, { size: [number, number]; mean: number[]; row: number[]; tolerance: number }>;
  };
  // Lossless kinds must be equal; decoders of JPEG and AVIF differ by rounding.
  test.each(Object.entries(images))("%s", async (name, { size: [width, height], mean, row, tolerance }) => {
    const source = createImageSource(at("formats"), 1);
    sources.push(source);
    const facts = await source.facts({ name });
    expect([facts.width, facts.height]).toEqual([width, height]);
    const { data } = denormalise(await source.evaluationCrop({ name }, bare(32)), bare(32));
    [0, 1, 2].forEach((c) => {
      const actual = data.filter((_, i) => i % 3 === c).reduce((x, y) => x + y, 0) / 32 ** 2;
      expect(Math.abs(actual - mean[c])).toBeLessThanOrEqual(tolerance + 1e-9);
    });
    const values = [...data.subarray(2 * 96, 3 * 96)];
    expect(Math.max(...values.map((value, i) => Math.abs(value - row[i])))).toBeLessThanOrEqual(4 * tolerance);
  });
});

describe("what is wrong is named with its file and line", () => {
  const broken = async (name: string, from: string[], change: (path: string) => Promise<unknown>) => {
    await cp(at(...from), made(name), { recursive: true });
    await change(made(name));
    return made(name);
  };
  const replace = (file: string, from: string, to: string) => async (path: string) => {
    const text = await readFile(join(path, file), "utf8");
    expect(text).toContain(from);
    await writeFile(join(path, file), text.replace(from, to));
  };

  test("an unknown finding", async () => {
    const path = await broken(
      "xray-finding",
      ["chestxray14"],
      replace("Data_Entry_2017_v2020.csv", "Hernia", "Sneeze"),
    );
    await expect(openDataSet(path)).rejects.toThrow("Line 5 of " + join(path, "Data_Entry_2017_v2020.csv"));
    await expect(openDataSet(path)).rejects.toThrow("Sneeze");
  });

  test("a row with too few cells", async () => {
    const path = await broken(
      "xray-row",
      ["chestxray14"],
      replace("Data_Entry_2017_v2020.csv", "00000003_000.png,Hernia,0,3,57,M,PA,2682", "00000003_000.png"),
    );
    await expect(openDataSet(path)).rejects.toThrow(/Data_Entry_2017_v2020\.csv is not a table .*line 5/);
  });

  test("an image that is missing, and a list that names an absent one", async () => {
    const path = await broken("xray-missing", ["chestxray14"], async (p) => {
      await rm(join(p, "images_001", "images", "00000002_000.png"));
      await writeFile(join(p, "test_list.txt"), "00000006_000.png\nnot-there.png\n");
    });
    const data = await openDataSet(path);
    expect(data.train.items).toHaveLength(4);
    expect(data.train.skipped.map(({ name }) => name)).toEqual([
      "Data_Entry_2017_v2020.csv, line 4",
      "train_val_list.txt, line 3",
      "images_002/images/00000004_000.png",
      "images_002/images/00000005_000.png",
    ]);
    expect(data.test?.skipped).toMatchObject([
      { name: "test_list.txt, line 2", reason: "names not-there.png, which is not there" },
    ]);
    expect(data.unused.map(({ reason, count }) => [reason, count])).toEqual([
      ["named in a list, but not there", 3],
      ["named in no list", 2],
    ]);
  });

  test("a truncated batch, and a label that is none", async () => {
    const cut = await broken("cifar-cut", ["cifar-100-binary"], (p) => truncate(join(p, "train.bin"), 5000));
    await expect(openDataSet(cut)).rejects.toThrow(/train\.bin is 5000 bytes long/);
    const label = await broken("cifar-label", ["cifar-100-binary"], async (p) => {
      const bytes = await readFile(join(p, "test.bin"));
      bytes[1] = 77;
      await writeFile(join(p, "test.bin"), bytes);
    });
    await expect(openDataSet(label)).rejects.toThrow(/Image 0 of .*test\.bin has the label 77/);
  });

  test("a pickle that wants to run something", async () => {
    const path = await broken("cifar-evil", ["cifar-100-python"], (p) =>
      writeFile(join(p, "meta"), Buffer.from("cos\nsystem\n(S'echo x'\ntR.")),
    );
    await expect(openDataSet(path)).rejects.toThrow(/meta holds a pickle .*os\.system/);
  });

  test("annotations without a category, and that are no JSON", async () => {
    const path = await broken(
      "inat-category",
      ["inat2019"],
      replace("val2019.json", '"category_id": 1', '"category_id": 9'),
    );
    await expect(openDataSet(path)).rejects.toThrow(/val2019\.json has no category for the image/);
    const cut = await broken("inat-cut", ["inat2019"], (p) => truncate(join(p, "train2019.json"), 100));
    await expect(openDataSet(cut)).rejects.toThrow(/train2019\.json is not JSON/);
  });

  test("a damaged devkit", async () => {
    const cut = await broken("devkit-cut", ["imagenet"], (p) =>
      truncate(join(p, "ILSVRC2012_devkit_t12", "data", "meta.mat"), 200),
    );
    await expect(openDataSet(cut)).rejects.toThrow(/meta\.mat is not a MATLAB file that can be read/);
    const file = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt";
    const other = await broken("devkit-other", ["imagenet"], replace(file, "1\n", "1001\n"));
    await expect(openDataSet(other)).rejects.toThrow(/Line 1 of .*ground_truth\.txt has 1001/);
  });

  test("archives, shards and tables that are cut off or something else", async () => {
    await mkdir(made("cut"));
    for (const [from, to, size] of [
      ["packed.zip", "a.zip", 3000],
      ["described.tar", "a.tar", 3000],
      ["words.parquet", "a.parquet", 1000],
    ] as const) {
      await cp(at(from), made("cut", to));
      await truncate(made("cut", to), size);
      await expect(openDataSet(made("cut", to)), to).rejects.toThrow(made("cut", to));
    }
    await writeFile(made("cut", "b.tar"), "no archive at all".repeat(100));
    await expect(openDataSet(made("cut", "b.tar"))).rejects.toThrow(/b\.tar is not a tar archive/);
  });

  test("columns that are missing, and classes that don't fit", async () => {
    await expect(openDataSet(at("listed", "all.csv"), { imageColumn: "url" })).rejects.toThrow(
      /all\.csv has no column url; its columns are File, Label, Split, note/,
    );
    await expect(openDataSet(at("listed", "all.tsv"), { labelColumns: ["red", "path"] })).rejects.toThrow(
      /Line 2 of .*all\.tsv has pictures\/0\.jpg in path; 0 or 1 is needed/,
    );
    const path = await broken("list-part", ["listed"], replace("all.csv", "airplane,train", "airplane,later"));
    await expect(openDataSet(join(path, "all.csv"))).rejects.toThrow(/Line 2 of .*has later in Split/);
    await expect(openDataSet(at("words.parquet"), { labelColumns: ["kind"] })).rejects.toThrow(
      /words\.parquet has no column kind; its columns are jpg, species/,
    );
  });

  test("none of a list's images is there", async () => {
    await mkdir(made("lonely"));
    await cp(at("listed", "lines.txt"), made("lonely", "lines.txt"));
    await expect(openDataSet(made("lonely", "lines.txt"))).rejects.toThrow(
      /None of the images listed in .*line 1 names/,
    );
  });
});
