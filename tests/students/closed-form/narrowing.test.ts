// Fewer channels in MLPs and fewer heads: what is removed is what matters least, the rest makes up for it, and sizes are as said.
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { analyticDefaults, analyticStart, copyBlocks, distill, loadModel, Model, saveModel } from "wecolora/node";
import {
  canNarrow,
  channelsOf,
  keptChannels,
  keptHeadCount,
  keptHeads,
  narrowedConfig,
  narrowedSums,
  narrowWidth,
  withChannels,
  withHeads,
} from "../../../src/students/closed-form/narrowing.ts";
import { emptySums, RidgeSolver, ridgeOf } from "../../../src/engine/linalg/ridge.ts";
import { defaultFormat } from "../../../src/exports/save.ts";
import { parameterCount } from "../../../src/models/definition.ts";
import { blankOf, evenBlocks, narrowShape, shapeFor, spreadBlocks } from "../../../src/students/search/shape.ts";
import { drawStream } from "../../../src/utils/random.ts";
import { zeros } from "../../../src/utils/tensor.ts";
import { distillArguments, noiseFolder, wecolora } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";
import { differenceTo, narrowableTeachers } from "../../support/students.ts";
import { messagesInto } from "../../support/progress.ts";

const device = inlineDevice();
let folder: string;
beforeAll(async () => {
  folder = await noiseFolder("narrow");
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

/** Rows g (with a one for the bias), what fc2 makes of them, and what is missing, with the sums that follow. */
function problem(n: number, m: number, count: number) {
  const random = drawStream(7, n);
  const fc2 = zeros([m, n]);
  for (let i = 0; i < fc2.data.length; i++) fc2.data[i] = random.normal() * (0.2 + (i % n) / n);
  const g = Array.from({ length: count }, () => {
    const base = random.normal();
    return [...Array.from({ length: n }, (_, i) => random.normal() + (i % 2) * base), 1];
  });
  const missing = g.map(() => Array.from({ length: m }, () => 0.1 * random.normal()));
  const sums = emptySums(n + 1, m);
  g.forEach((row, r) => {
    for (let i = 0; i <= n; i++) {
      for (let j = 0; j <= n; j++) sums.gram[i * (n + 1) + j] += row[i] * row[j];
      for (let o = 0; o < m; o++) sums.cross[i * m + o] += row[i] * missing[r][o];
    }
  });
  return { fc2, g, missing, sums };
}

const heldOut = noise([6, 3, 32, 32], 99);

describe("channels", () => {
  const [n, m] = [9, 4];
  const solver = new RidgeSolver(device);
  afterAll(() => solver.dispose());

  test("sums of the kept channels are those of rows without the others, whose share is missing too", async () => {
    const { fc2, g, missing, sums } = problem(n, m, 60);
    const kept = [0, 2, 3, 7];
    const actual = await narrowedSums(solver, sums, fc2, kept);
    const expected = emptySums(kept.length + 1, m);
    g.forEach((row, r) => {
      const own = [...kept.map((i) => row[i]), 1];
      const wanted = missing[r].map((v, o) => {
        const lost = Array.from({ length: n }, (_, i) => (kept.includes(i) ? 0 : row[i] * fc2.data[o * n + i]));
        return v + lost.reduce((a, b) => a + b, 0);
      });
      own.forEach((v, i) => {
        own.forEach((w, j) => (expected.gram[i * own.length + j] += v * w));
        wanted.forEach((w, o) => (expected.cross[i * m + o] += v * w));
      });
    });
    actual.gram.forEach((v, i) => expect(v).toBeCloseTo(expected.gram[i], 9));
    // The map is float32.
    actual.cross.forEach((v, i) => expect(v).toBeCloseTo(expected.cross[i], 4));
  });

  test("the channel that is removed first is the one whose loss the others make up for best", async () => {
    const { fc2, g, sums } = problem(n, m, 200);
    // What the block gives now, and nothing else, is the target.
    sums.cross.fill(0);
    const ridge = 1e-9;
    const left = async (kept: number[]) => {
      const own = await narrowedSums(solver, sums, fc2, kept);
      const change = await solver.solve(own, ridgeOf(own, ridge));
      let total = 0;
      for (const row of g)
        for (let o = 0; o < m; o++) {
          let error = 0;
          for (let i = 0; i < n; i++) if (!kept.includes(i)) error += row[i] * fc2.data[o * n + i];
          [...kept.map((i) => row[i]), 1].forEach((v, k) => (error -= v * change[k * m + o]));
          total += error ** 2;
        }
      return total;
    };
    const all = Array.from({ length: n }, (_, i) => i);
    const costs = [];
    for (const removed of all) costs.push(await left(all.filter((i) => i !== removed)));
    const best = costs.indexOf(Math.min(...costs));
    expect(await keptChannels(solver, sums, fc2, n - 1, ridge)).toEqual(all.filter((i) => i !== best));
  });

  test("of heads, the pair goes first whose loss the others make up for best, one after the other", async () => {
    const [mixed, headWidth] = [8, 2];
    const { fc2: proj, g, sums } = problem(mixed, m, 200);
    sums.cross.fill(0);
    const ridge = 1e-9;
    /** Squares that are left of what the map gives, in float64, where the kept channels are fitted to it anew. */
    const left = async (heads: readonly number[]) => {
      const own = await narrowedSums(solver, sums, proj, channelsOf(heads, headWidth));
      const change = await solver.solve(own, ridgeOf(own, ridge));
      let total = 0;
      for (const row of g)
        for (let o = 0; o < m; o++) {
          let error = 0;
          for (let i = 0; i < mixed; i++)
            if (!heads.includes(Math.floor(i / headWidth))) error += row[i] * proj.data[o * mixed + i];
          [...channelsOf(heads, headWidth).map((i) => row[i]), 1].forEach((v, k) => (error -= v * change[k * m + o]));
          total += error ** 2;
        }
      return total;
    };
    let expected = [0, 1, 2, 3];
    while (expected.length > 1) {
      const costs: number[] = [];
      for (const gone of expected) costs.push(await left(expected.filter((head) => head !== gone)));
      expected = expected.filter((_, i) => i !== costs.indexOf(Math.min(...costs)));
      expect(await keptHeads(solver, sums, proj, headWidth, expected.length, ridge)).toEqual(expected);
    }
  });

  test("a block without some heads computes what the kept ones give", async () => {
    const teacher = await loadModel(referencePath("teachers/more-hf-dinov3"), { device });
    const { heads } = teacher.config;
    const kept = Array.from({ length: heads / 2 }, (_, i) => 2 * i + 1);
    const one = copyBlocks(teacher, [0]);
    const cut = withHeads(one, 0, kept);
    const narrow = new Model({ ...cut, config: narrowedConfig(one.config, { keptHeads: kept.length }) }, device);
    const proj = one.weights.get("blocks.0.attn.proj.weight") as FloatTensor;
    const inside = new Set(channelsOf(kept, teacher.config.width / heads));
    const silent = { ...proj, data: proj.data.map((v, i) => (inside.has(i % proj.dims[1]) ? v : 0)) };
    const whole = new Model({ ...one, weights: new Map(one.weights).set("blocks.0.attn.proj.weight", silent) }, device);
    const size = teacher.config.imageSize;
    const pixels = noise([2, 3, size, size], 4);
    const [a, b] = [await narrow.outputs(pixels, ["blockOutput"]), await whole.outputs(pixels, ["blockOutput"])];
    // Sums of half as many terms, in another order.
    a.blockOutput.data.forEach((v, i) => expect(Math.abs(v - b.blockOutput.data[i])).toBeLessThan(1e-4));
    for (const model of [narrow, whole, teacher]) await model.dispose();
  });

  test("a narrowed block computes what the kept channels give", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const { mlpWidth } = teacher.config;
    const kept = Array.from({ length: mlpWidth / 2 }, (_, i) => 2 * i);
    const one = copyBlocks(teacher, [0]);
    const cut = withChannels(one, 0, kept);
    const narrow = new Model({ ...cut, config: { ...one.config, mlpWidth: kept.length } }, device);
    // The whole block with the other channels' columns at zero.
    const fc2 = one.weights.get("blocks.0.mlp.fc2.weight") as FloatTensor;
    const silent = { ...fc2, data: fc2.data.map((v, i) => (i % 2 === 0 ? v : 0)) };
    const whole = new Model({ ...one, weights: new Map(one.weights).set("blocks.0.mlp.fc2.weight", silent) }, device);
    const pixels = noise([2, 3, 32, 32], 3);
    const [a, b] = [await narrow.outputs(pixels, ["blockOutput"]), await whole.outputs(pixels, ["blockOutput"])];
    // Sums of half as many terms, in another order.
    a.blockOutput.data.forEach((v, i) => expect(Math.abs(v - b.blockOutput.data[i])).toBeLessThan(1e-4));
    for (const model of [narrow, whole, teacher]) await model.dispose();
  });
});

describe("students", () => {
  async function* batches(count: number) {
    for (let i = 0; i < count; i++) yield noise([8, 3, 32, 32], i, "pictures");
  }

  test.each(["timm-vit", "hf-dinov2", "hf-vit", "hf-clip-vision"])(
    "%s: all channels change nothing; the refit of fewer is nearer to the teacher than bare ones, saved and loaded too",
    async (name) => {
      const teacher = await loadModel(referencePath(`teachers/${name}`), { device });
      const kept = [0, 1, 3, 5];
      const { mlpWidth, heads: keptHeads } = teacher.config;
      const plain = await analyticStart(teacher, kept, batches(6));
      const all = await analyticStart(teacher, kept, batches(6), { ...analyticDefaults, mlpWidth, keptHeads });
      for (const [key, { data }] of plain.student.weights) expect(all.student.weights.get(key)?.data).toEqual(data);

      const narrow = mlpWidth / 2;
      const half = { mlpWidth: 0.5, keptHeads: 0.5 };
      const { student } = await analyticStart(teacher, kept, batches(6), { ...analyticDefaults, ...half });
      expect(student.config).toMatchObject({ mlpWidth: narrow, heads: keptHeads / 2 });
      const model = new Model(student, device);
      const cut = new Model(blankOf(teacher, { kept, mlpWidth: narrow, keptHeads: keptHeads / 2 }), device);
      const left = (other: Model) => differenceTo(teacher, other, heldOut);
      const own = await left(model);
      expect(own).toBeLessThan(await left(cut));

      const saved = join(folder, `saved-${name}`);
      await saveModel(model, saved, { format: defaultFormat(student) });
      const loaded = await loadModel(saved, { device });
      expect(loaded.config).toMatchObject({ mlpWidth: narrow, heads: keptHeads / 2 });
      expect(parameterCount(loaded)).toBe(parameterCount(model));
      expect(Math.abs((await left(loaded)) / own - 1)).toBeLessThan(1e-3);
      for (const used of [model, cut, loaded, teacher]) await used.dispose();
    },
  );

  test.each(
    narrowableTeachers.flatMap((name) => (["balanced", "channels"] as const).map((kind) => [name, kind] as const)),
  )("%s: a %s student is nearer to the teacher than a copy of as many weights, on other images", async (name, kind) => {
    const teacher = await loadModel(referencePath(`teachers/${name}`), { device });
    const { depth } = teacher.config;
    const whole = Math.ceil(depth / 2);
    const shape = narrowShape(teacher, whole, kind);
    if (!shape) throw new Error(`no ${kind} student of ${name}`);
    const copied = evenBlocks(depth, whole);
    const copy = new Model(copyBlocks(teacher, copied), device);
    const left = (model: Model) => differenceTo(teacher, model, heldOut);
    for (const count of [6, 1]) {
      const { student } = await analyticStart(teacher, shape.kept, batches(count), { ...analyticDefaults, ...shape });
      const model = new Model(student, device);
      expect(await left(model)).toBeLessThan(await left(copy));
      await model.dispose();
    }
    for (const used of [copy, teacher]) await used.dispose();
  });

  test("widths that an MLP can't have, and MLPs that can't be narrowed, are refused", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const { mlpWidth } = teacher.config;
    expect(narrowWidth(teacher, 0.25)).toBe(mlpWidth / 4);
    expect(() => narrowWidth(teacher, mlpWidth + 1)).toThrow(
      `mlpWidth must be a whole number between 1 and ${mlpWidth}`,
    );
    expect(keptHeadCount(teacher, 0.5)).toBe(teacher.config.heads / 2);
    expect(() => keptHeadCount(teacher, 99)).toThrow(
      `keptHeads must be a whole number between 1 and ${teacher.config.heads}`,
    );
    const gated = await loadModel(referencePath("teachers/more-hf-dinov2-swiglu"), { device });
    expect(() => narrowWidth(gated, 0.5)).toThrow("can't be narrowed");
    expect(canNarrow(gated.config)).toBe(false);
    await teacher.dispose();
    await gated.dispose();
  });
});

describe("shapes", () => {
  test("blocks run from the first to the last", () => {
    expect(spreadBlocks(12, 10)).toEqual([0, 1, 2, 4, 5, 6, 7, 9, 10, 11]);
    expect(spreadBlocks(12, 1)).toEqual([0]);
    for (const depth of [6, 12, 24])
      for (let count = 2; count <= depth; count++) {
        const kept = spreadBlocks(depth, count);
        expect(new Set(kept).size).toBe(count);
        expect([kept[0], kept.at(-1)]).toEqual([0, depth - 1]);
      }
  });

  test("a balanced student has as many weights as whole blocks, within a step of its width", async () => {
    const teacher = await loadModel(referencePath("teachers/hf-dinov2"), { device });
    const vitB = { ...teacher.config, depth: 12, width: 768, heads: 12, mlpWidth: 3072 };
    for (const [whole, kind] of [2, 3, 4, 6, 8, 11].flatMap((n) => [
      [n, "balanced"] as const,
      [n, "channels"] as const,
    ])) {
      const shape = narrowShape({ config: vitB }, whole, kind);
      if (!shape) throw new Error(`nothing for ${whole}`);
      const of = (blocks: number, heads: number, width: number) => blocks * (4 * 768 * heads * 64 + 2 * 768 * width);
      const { heads } = vitB;
      if (kind === "channels") expect(shape.keptHeads).toBeUndefined();
      else if (whole <= 6) expect(shape).toMatchObject({ keptHeads: heads / 2, mlpWidth: 2 * 768 });
      const own = of(shape.kept.length, shape.keptHeads ?? heads, shape.mlpWidth ?? 3072);
      const wanted = of(whole, heads, 3072);
      expect(own / wanted).toBeLessThanOrEqual(1.005);
      expect(own / wanted).toBeGreaterThan(0.985);
      expect(shape.kept.length).toBeGreaterThan(whole);
    }
    expect(narrowShape({ config: vitB }, 12, "balanced")).toBeUndefined();
    await teacher.dispose();
  });

  test("heads stay where no class of transformers would hold the student", async () => {
    for (const [name, goes] of [
      ["hf-vit", true],
      ["hf-dinov2-registers", true],
      ["timm-vit", true],
      ["hf-clip-vision", false],
      ["more-hf-dinov3", false],
    ] as const) {
      const teacher = await loadModel(referencePath(`teachers/${name}`), { device });
      const { mlpWidth, keptHeads } = shapeFor(teacher, Math.ceil(teacher.config.depth / 2), "balanced");
      expect([name, mlpWidth !== undefined, keptHeads !== undefined]).toEqual([name, true, goes]);
      await teacher.dispose();
    }
  });

  test("distill takes it by itself, says so, and can be told not to", async () => {
    const options = { teacher: referencePath("teachers/hf-dinov2"), data: join(folder, "data"), report: false };
    const messages: string[] = [];
    const balanced = await distill({ ...options, out: join(folder, "balanced"), onProgress: messagesInto(messages) });
    expect(balanced.keptBlocks).toEqual([0, 1, 2, 3, 4, 5]);
    expect(messages.join("\n")).toMatch(
      /6 blocks with \d+ heads? and \d+ channels have as many weights as 3 copied blocks/,
    );
    const channels = await distill({ ...options, out: join(folder, "channels"), shape: "channels", evaluate: false });
    expect(channels.keptBlocks.length).toBe(5);
    expect(channels.keptHeads).toBeUndefined();
    const [, copy, student] = balanced.results;
    expect((student.parameters as number) / (copy.parameters as number)).toBeLessThanOrEqual(1);
    expect(await readFile(join(folder, "balanced/student/README.md"), "utf8")).toMatch(
      /with \d+ heads? and \d+ channels in each/,
    );
    const blocks = await distill({ ...options, out: join(folder, "blocks"), shape: "blocks", evaluate: false });
    expect(blocks.keptBlocks).toEqual([0, 2, 4]);
    const named = await distill({
      ...options,
      out: join(folder, "named"),
      keptBlocks: [0, 3, 5],
      mlpWidth: 0.5,
      keptHeads: 0.5,
    });
    expect(named.keptBlocks).toEqual([0, 3, 5]);
    const teacher = await loadModel(options.teacher, { device });
    expect(named.mlpWidth).toBe(teacher.config.mlpWidth / 2);
    expect(named.keptHeads).toBe(teacher.config.heads / 2);
    const saved = await loadModel(named.student, { device });
    expect(parameterCount(saved)).toBeLessThan(parameterCount(copyBlocks(teacher, [0, 3, 5])));
    const { code, err } = await wecolora(
      ...distillArguments(options.teacher, options.data, join(folder, "never")),
      ...["--method", "wecolora", "--mlp-width", "0.5"],
    );
    expect(err).toContain("--mlp-width and --kept-heads need --start analytic");
    // What can't be exported is said before anything is written.
    for (const [format, message] of [
      ["timm", "--shape channels keeps all heads"],
      ["peft", "trains no adapters"],
    ] as const) {
      const early = { ...options, out: join(folder, "never"), export: [format] };
      await expect(distill(early)).rejects.toThrow(message);
      expect(existsSync(early.out)).toBe(false);
    }
    expect(code).toBe(2);
    await teacher.dispose();
    await saved.dispose();
  });
});
