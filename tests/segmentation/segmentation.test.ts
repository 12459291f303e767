// Scans, decoders over patch tokens, and how masks are evaluated; held against PyTorch, MedPy and NumPy.
import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { segment } from "wecolora/node";
import { gradients } from "../../src/engine/autograd/gradients.ts";
import { input } from "../../src/engine/graph/build.ts";
import { readNifti } from "../../src/data/nifti.ts";
import { blockParts, groupScans, heldOutCases, sliceStack } from "../../src/data/scans.ts";
import { classesOf, sliceCrop } from "../../src/data/slice-crops.ts";
import { decode, decoderShapes, inputLookup, statisticShapes } from "../../src/segmentation/decoder.ts";
import { hausdorff95, overlaps } from "../../src/segmentation/mask-metrics.ts";
import { segmentationLoss } from "../../src/segmentation/train-decoder.ts";
import { drawStream } from "../../src/utils/random.ts";
import type { FloatTensor, Tensor } from "../../src/utils/tensor.ts";
import { wecolora } from "../support/cli.ts";
import { inlineDevice, runOnce } from "../support/device.ts";
import { readJson, referencePath, relativeError } from "../support/reference.ts";

const scans = (...parts: string[]) => referencePath(join("data-sets", ...parts));
const volume = async (...parts: string[]) => readNifti(await readFile(scans(...parts)), parts.join("/"));
const device = inlineDevice();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-segment-"));
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

describe("NIfTI", () => {
  test("axes are turned to right, anterior, superior, whatever the file's order", async () => {
    const [plain, turned] = [await volume("turned", "plain.nii.gz"), await volume("turned", "turned.nii")];
    expect(plain.dims).toEqual([12, 14, 10]);
    expect(plain.spacing).toEqual([1, 2, 3]);
    expect(turned.dims).toEqual(plain.dims);
    expect(turned.spacing).toEqual(plain.spacing);
    expect(plain.at(1, 2, 3)).toBe(777);
    for (let x = 0; x < 12; x++)
      for (let y = 0; y < 14; y++) for (let z = 0; z < 10; z++) expect(turned.at(x, y, z)).toBe(plain.at(x, y, z));
  });

  test("big-endian numbers, slope and intercept", async () => {
    const [plain, big] = [await volume("turned", "plain.nii.gz"), await volume("turned", "big.nii")];
    // Nibabel's own values: half of what the file holds, and ten.
    const values = [big.at(1, 2, 3), big.at(0, 0, 0), big.at(4, 8, 5)];
    expect(values).toEqual([398.5, 10, 460]);
    expect(plain.at(4, 8, 5)).toBe(900);
  });

  test("a fourth dimension is channels", async () => {
    const four = await volume("decathlon", "imagesTr", "BRATS_001.nii.gz");
    expect(four.channels).toBe(2);
    expect(four.at(4, 8, 5, 1)).toBe(2 * four.at(4, 8, 5, 0));
  });

  test("what is no volume, cut off, or of another size is named", async () => {
    const bytes = await readFile(scans("turned", "big.nii"));
    const damaged = (change: (b: Buffer) => void) => {
      const copy = Buffer.from(bytes);
      change(copy);
      return copy;
    };
    expect(() => readNifti(Buffer.from("no scan".repeat(100)), "a.nii")).toThrow("a.nii is not a NIfTI volume");
    expect(() => readNifti(bytes.subarray(0, 2000), "b.nii")).toThrow("b.nii is too short: 12 x 14 x 10 x 1 numbers");
    for (let left = 2; left < 20; left++)
      expect(() => readNifti(gzipSync(bytes).subarray(0, left), "c.nii.gz")).toThrow(
        /c\.nii\.gz (is cut off|can't be)/,
      );
    expect(() => readNifti(gzipSync(bytes).subarray(0, -20), "c.nii.gz")).toThrow(
      /c\.nii\.gz (is cut off|can't be unpacked)/,
    );
    const flat = damaged((b) => b.writeInt16BE(2, 40));
    expect(() => readNifti(flat, "d.nii")).toThrow(/d\.nii has the size 12 x 14; a volume is needed/);
    const complex = damaged((b) => b.writeInt16BE(32, 70));
    expect(() => readNifti(complex, "e.nii")).toThrow("e.nii holds numbers of NIfTI's type 32");
    const huge = damaged((b) => [42, 44, 46].forEach((at) => b.writeInt16BE(30_000, at)));
    expect(() => readNifti(huge, "f.nii")).toThrow(
      "f.nii holds 30000 x 30000 x 30000 x 1 numbers of 4 bytes, more than",
    );
  });
});

describe("cases and slices", () => {
  test("cases by folder, by beginning, and in the decathlon's folders", () => {
    const names = ["a/a_t1.nii.gz", "a/a_seg.nii.gz", "a/a_flair.nii", "b/b_t1.nii.gz", "b/b_flair.nii.gz"];
    expect(groupScans(names, ["t1", "flair"])).toEqual(
      [
        { name: "a_", scans: ["a/a_t1.nii.gz", "a/a_flair.nii"], mask: "a/a_seg.nii.gz" },
        { name: "b_", scans: ["b/b_t1.nii.gz", "b/b_flair.nii.gz"], mask: undefined },
      ].map((c) => ({ ...c, name: c.name.replace(/_$/, "") })),
    );
    expect(groupScans(["t1.nii.gz", "tissue.nii.gz"])).toEqual([
      { name: "scan", scans: ["t1.nii.gz"], mask: "tissue.nii.gz" },
    ]);
    const decathlon = [
      "imagesTr/x.nii.gz",
      "imagesTr/y_0000.nii.gz",
      "imagesTr/y_0001.nii.gz",
      "labelsTr/x.nii.gz",
      "labelsTr/y.nii.gz",
    ];
    expect(groupScans(decathlon)).toEqual([
      { name: "x", scans: ["imagesTr/x.nii.gz"], mask: "labelsTr/x.nii.gz" },
      { name: "y", scans: ["imagesTr/y_0000.nii.gz", "imagesTr/y_0001.nii.gz"], mask: "labelsTr/y.nii.gz" },
    ]);
    // A scan and its mask under one name, and scans that share nothing but their folder.
    expect(groupScans(["p01.nii", "p01_seg.nii", "p02.nii", "p02_seg.nii"])).toEqual([
      { name: "p01", scans: ["p01.nii"], mask: "p01_seg.nii" },
      { name: "p02", scans: ["p02.nii"], mask: "p02_seg.nii" },
    ]);
    expect(groupScans(["p01.nii.gz", "p02.nii.gz"])).toEqual([
      { name: "p01", scans: ["p01.nii.gz"], mask: undefined },
      { name: "p02", scans: ["p02.nii.gz"], mask: undefined },
    ]);
    expect(() => groupScans(names, ["t2"])).toThrow("The case a has no scan t2; it has t1, flair");
    expect(() => groupScans(["labelsTr/z.nii.gz"])).toThrow("There is no scan for the mask labelsTr/z.nii.gz");
  });

  test("slices across each axis show the same voxels", async () => {
    const scan = await volume("turned", "plain.nii.gz");
    const [axial, coronal, sagittal] = (["axial", "coronal", "sagittal"] as const).map((axis) =>
      sliceStack("x", [scan], undefined, axis),
    );
    expect([axial.count, coronal.count, sagittal.count]).toEqual([10, 14, 12]);
    expect(axial.spacing).toEqual([3, 2, 1]);
    expect(coronal.spacing).toEqual([2, 3, 1]);
    expect(sagittal.spacing).toEqual([1, 3, 2]);
    // The brightest part is a ball around 4, 8, 5; slices through it have as many bright pixels from each side.
    const bright = (stack: typeof axial, slice: number) =>
      stack.image(slice).data.filter((v, i) => i % 3 === 0 && v > 250).length;
    expect([bright(axial, 5), bright(coronal, 8), bright(sagittal, 4)]).toEqual([13, 13, 13]);
    expect(axial.blank(0)).toBe(true);
    expect(axial.blank(5)).toBe(false);
  });

  test("a mask of another shape than its scan, and one of fractions", async () => {
    const scan = await volume("turned", "plain.nii.gz");
    const other = { ...scan, name: "m.nii", dims: [12, 14, 9] as const };
    expect(() => sliceStack("x", [scan], other, "axial")).toThrow(
      "m.nii is 12 x 14 x 9, but turned/plain.nii.gz is 12 x 14 x 10",
    );
    const fractions = { ...scan, name: "m.nii", at: () => 0.5 };
    expect(() => sliceStack("x", [scan], fractions, "axial")).toThrow("m.nii holds 0.5 at");
  });

  test("no slice that is learned from lies beside one that is judged on", () => {
    for (const kind of ["blocks", "ends"] as const) {
      const parts = blockParts(100, { kind, share: 0.3, gap: 4 });
      expect(parts.filter((part) => part === "test")).toHaveLength(30);
      expect(parts.filter((part) => part === "none")).toHaveLength(kind === "ends" ? 8 : 16);
      for (const [i, part] of parts.entries())
        for (let d = 1; d <= 4; d++) if (part === "train") expect(parts[i + d]).not.toBe("test");
      expect(new Set(parts.slice(0, 50))).toContain("test");
      expect(new Set(parts.slice(50))).toContain("test");
    }
    const cases = heldOutCases(10, { kind: "cases", share: 0.3, seed: 0 });
    expect(cases.size).toBe(3);
    expect(heldOutCases(2, { kind: "cases", share: 0.9, seed: 0 }).size).toBe(1);
  });

  test("image and mask are cut alike, and scores come back to the slice's own pixels", () => {
    const [width, height] = [30, 20];
    const classes = Uint8Array.from({ length: width * height }, (_, i) =>
      i % width > 14 ? 2 : Math.floor(i / width) > 9 ? 1 : 0,
    );
    const data = new Uint8Array(3 * classes.length);
    classes.forEach((k, i) => data.fill(k * 100, 3 * i, 3 * i + 3));
    const normalisation = { mean: [0, 0, 0], std: [1, 1, 1] } as const;
    const sides = { image: 60, mask: 60 };
    for (let seed = 0; seed < 8; seed++) {
      const crop = sliceCrop({ width, height, data }, classes, sides, normalisation, drawStream(seed, "view"));
      const labels = crop.labels as Float32Array;
      let different = 0;
      // Bicubic edges are soft; away from them brightness is the class.
      for (let i = 0; i < labels.length; i++) if (Math.abs(255 * crop.pixels[i] - 100 * labels[i]) > 45) different++;
      expect(different / labels.length).toBeLessThan(0.06);
    }
    const crop = sliceCrop({ width, height, data }, classes, sides, normalisation);
    const scores = new Float32Array(3 * 3600);
    (crop.labels as Float32Array).forEach((k, i) => (scores[k * 3600 + i] = 1));
    expect(classesOf(scores, 3, 60, { width, height })).toEqual(classes);
  });
});

describe("the decoder", () => {
  interface Sampled {
    readonly loss: number;
    readonly logits: number[];
    readonly input: number[];
    readonly gradients: Record<string, { sample: number[]; norm: number }>;
    readonly statistics: Record<string, number[]>;
    readonly evaluated: number[];
  }
  const numbers = (dims: readonly number[], phase: number, scale: number, offset = 0): FloatTensor => {
    const count = dims.reduce((a, b) => a * b, 1);
    const data = Float32Array.from(
      { length: count },
      (_, i) => offset + Math.fround(Math.sin(0.7 * i + phase) * scale),
    );
    return { type: "float32", dims, data };
  };
  const sampled = ({ data }: Tensor) => {
    const step = Math.max(1, Math.floor(data.length / 64));
    return Array.from({ length: Math.ceil(data.length / step) }, (_, i) => Number(data[i * step]));
  };

  test("values, loss, gradients and statistics are PyTorch's", async () => {
    const expected = readJson<Sampled>("segmentation.json");
    const [width, grid, classes, batch] = [6, 2, 3, 2];
    const encoder = { kind: "pixels", imageSize: 0, patchSize: 0 } as const;
    const shapes = new Map(decoderShapes(encoder, classes));
    // The encoder's width does not matter here but for the first kernel.
    shapes.set("decoder.0.conv.weight", [256, width, 3, 3]);
    const feeds: Record<string, Tensor> = {};
    for (const [name, dims] of shapes) {
      const i = Number(/\d/.exec(name)?.[0] ?? 0);
      if (name.endsWith("conv.weight")) feeds[name] = numbers(dims, i, 1 / Math.sqrt(9 * dims[1]));
      else if (name.endsWith("norm.weight")) feeds[name] = numbers(dims, 10 + i, 0.3, 1);
      else if (name.endsWith("norm.bias")) feeds[name] = numbers(dims, 20 + i, 0.2);
      else feeds[name] = name.endsWith("weight") ? numbers(dims, 30, 0.3) : numbers(dims, 31, 0.1);
    }
    for (const [name, dims] of statisticShapes()) feeds[name] = numbers(dims, 0, 0, name.endsWith("var") ? 1 : 0);
    const { inputs, weight } = inputLookup(new Map([...shapes, ...statisticShapes()]));
    const map = input("map", "float32", [batch, width, grid, grid]);
    const side = grid * 16;
    const labels = input("labels", "float32", [batch, 1, side, side]);
    feeds.map = numbers([batch, width, grid, grid], 40, 1);
    const labelNumbers = new Float32Array(batch * side * side);
    for (let b = 0; b < batch; b++)
      for (let y = 0; y < side; y++)
        for (let z = 0; z < side; z++)
          labelNumbers[(b * side + y) * side + z] = (b + Math.floor(y / 5) + Math.floor(z / 7)) % classes;
    feeds.labels = { type: "float32", dims: [batch, 1, side, side], data: labelNumbers };
    const { logits, statistics } = decode(weight, map, true);
    const loss = segmentationLoss(logits, labels);
    const names = [...shapes.keys()];
    const actual = gradients(loss, [map, ...names.map(weight)]);
    const outputs = {
      loss,
      logits,
      "d.map": actual[0],
      ...Object.fromEntries(names.map((name, i) => [`d.${name}`, actual[i + 1]])),
      ...Object.fromEntries([...statistics].map(([name, value]) => [`next.${name}`, value])),
    };
    const result = await runOnce(device, [map, labels, ...inputs.values()], outputs, feeds);
    // Against float64: 2^-24 times the depth of the sums; gradients pass through four norms.
    expect(Number(result.loss.data[0])).toBeCloseTo(expected.loss, 5);
    expect(relativeError(sampled(result.logits), expected.logits)).toBeLessThan(1e-4);
    expect(relativeError(sampled(result["d.map"]), expected.input)).toBeLessThan(1e-3);
    for (const [name, { sample, norm }] of Object.entries(expected.gradients)) {
      const gradient = result[`d.${name}`];
      const scale = Math.max(...sample.map(Math.abs));
      sampled(gradient).forEach((v, i) => expect(Math.abs(v - sample[i]), name).toBeLessThan(1e-3 * scale));
      expect(Math.sqrt((gradient.data as Float32Array).reduce((sum, v) => sum + v * v, 0)) / norm, name).toBeCloseTo(
        1,
        3,
      );
    }
    for (const [name, sample] of Object.entries(expected.statistics)) {
      expect(relativeError(sampled(result[`next.${name}`]), sample), name).toBeLessThan(1e-4);
      feeds[name] = result[`next.${name}`];
    }
    const { labels: _, ...fed } = feeds;
    const evaluated = decode(weight, map, false);
    const again = await runOnce(device, [map, ...inputs.values()], { logits: evaluated.logits }, fed);
    expect(relativeError(sampled(again.logits), expected.evaluated)).toBeLessThan(1e-4);
  });
});

describe("how masks are judged", () => {
  test("Dice and intersection over union are the reference's", () => {
    interface Reference {
      pred: number[][][];
      target: number[][][];
      dice_per_image: (number | null)[][];
      iou_per_image: (number | null)[][];
      dice_over_volume: (number | null)[];
    }
    const reference = readJson<Reference>("metrics/segmentation.json");
    reference.pred.forEach((image, i) => {
      const actual = overlaps(image.flat(), reference.target[i].flat(), 4);
      actual.forEach(({ dice, iou }, k) => {
        const [d, u] = [reference.dice_per_image[i][k], reference.iou_per_image[i][k]];
        if (d === null) expect([dice, iou]).toEqual([undefined, undefined]);
        else {
          expect(dice).toBeCloseTo(d, 12);
          expect(iou).toBeCloseTo(u as number, 12);
        }
      });
    });
    overlaps(reference.pred.flat(2), reference.target.flat(2), 4).forEach(({ dice }, k) =>
      expect(dice).toBeCloseTo(reference.dice_over_volume[k] as number, 12),
    );
  });

  test("Hausdorff distances are MedPy's, in millimetres", () => {
    const { hausdorff } = readJson<{
      hausdorff: {
        dims: [number, number, number];
        spacing: [number, number, number];
        a: number[];
        b: number[];
        hd95: number[];
      };
    }>("segmentation.json");
    const mask = (data: number[]) => ({ dims: hausdorff.dims, data: Uint8Array.from(data) });
    hausdorff.hd95.forEach((expected, i) =>
      expect(hausdorff95(mask(hausdorff.a), mask(hausdorff.b), i + 1, hausdorff.spacing)).toBeCloseTo(expected, 6),
    );
    expect(hausdorff95(mask(hausdorff.a), mask(hausdorff.a), 1, hausdorff.spacing)).toBe(0);
    expect(hausdorff95(mask(hausdorff.a), mask(hausdorff.b), 3, hausdorff.spacing)).toBeUndefined();
  });
});

describe("wecolora segment", () => {
  const teacher = referencePath("teachers/timm-vit");
  const small = { epochs: 2, warmupEpochs: 0, batch: 4, kinds: ["t1", "t2"], classNames: ["core", "rim"] };

  test("models beside each other and the baseline: table, images, decoders; the same seed gives the same", async () => {
    const out = join(folder, "out");
    const options = { ...small, model: [teacher], data: scans("brats"), baseline: true };
    const result = await segment({ ...options, out });
    expect(result.models.map(({ model }) => model)).toEqual(["timm-vit", "pixels"]);
    expect(result.classes).toEqual(["background", "core", "rim"]);
    expect(result.cases).toBe(2);
    for (const { results, lastLoss, firstLoss } of result.models) {
      expect(results.map((r) => r.class)).toEqual(["core", "rim"]);
      expect(new Set(results.map((r) => r.case)).size).toBe(1);
      expect(lastLoss).toBeLessThan(firstLoss);
    }
    for (const file of ["table.md", "table.csv", "segmentation.json", "timm-vit.safetensors", "pixels.safetensors"])
      expect(existsSync(join(out, file)), file).toBe(true);
    const { slices } = JSON.parse(await readFile(join(out, "segmentation.json"), "utf8")) as typeof result;
    const pngs = execFileSync("ls", [join(out, "images")], { encoding: "utf8" })
      .trim()
      .split("\n");
    expect(pngs).toHaveLength(Math.min(6, slices.test));
    const { width, height } = await sharp(join(out, "images", pngs[0])).metadata();
    expect(width).toBeGreaterThan(3 * height);
    const again = await segment({ ...options, out: join(folder, "again") });
    expect(again.models.map(({ lastLoss, dice }) => [lastLoss, dice])).toEqual(
      result.models.map(({ lastLoss, dice }) => [lastLoss, dice]),
    );
  });

  test("an encoder that trains too", async () => {
    const result = await segment({
      ...small,
      model: teacher,
      data: scans("decathlon"),
      kinds: undefined,
      out: join(folder, "trained"),
      encoder: "trained",
    });
    const bytes = await readFile(join(folder, "trained", "timm-vit.safetensors"));
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, unknown>;
    expect(Object.keys(header)).toContain("blocks.0.attn.qkv.weight");
    expect(result.models[0].lastLoss).toBeLessThan(result.models[0].firstLoss);
  });

  test("mistakes name what is wrong", async () => {
    const run = (data: string, ...more: string[]) =>
      wecolora("segment", "--model", teacher, "--data", data, "--out", join(folder, "never"), ...more);
    const expectMistake = async (outcome: ReturnType<typeof run>, message: string) => {
      const { code, err } = await outcome;
      expect(err).toContain(message);
      expect(code).toBe(2);
    };
    await expectMistake(run(join(folder, "nothing")), "it does not exist. Check the path.");
    await mkdir(join(folder, "empty"));
    await expectMistake(run(join(folder, "empty")), "There are no volumes in");
    await expectMistake(run(scans("brats"), "--class-names", "one"), "has 1 names, but the masks hold 1, 4");
    await expectMistake(run(scans("turned")), "show nothing but background");
    await cp(scans("brats"), join(folder, "shapes"), { recursive: true });
    const name = "BraTS20_Training_001";
    const other = await readFile(scans("decathlon", "imagesTr", "BRATS_001.nii.gz"));
    await writeFile(join(folder, "shapes", name, `${name}_seg.nii.gz`), other);
    await expectMistake(run(join(folder, "shapes")), `${name}_seg.nii.gz has 2 volumes; a mask has one`);
    expect(existsSync(join(folder, "never"))).toBe(false);
  });
});
