// Values of fewer channels: as little of what heads give is lost as can be, the map is refitted for the rest, and models are as said.
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { afterAll, describe, expect, test } from "vitest";
import type { FloatTensor, ModelDefinition } from "wecolora/node";
import { analyticDefaults, analyticStart, createDistillation, loadModel, Model } from "wecolora/node";
import { emptySums, RidgeSolver } from "../../../src/engine/linalg/ridge.ts";
import { attentionWidth, blockShape, headWidthOf } from "../../../src/models/config.ts";
import { directionCosts } from "../../../src/students/closed-form/head-matrices.ts";
import { expectedWeights } from "../../../src/models/weight-table.ts";
import { headValues, NarrowMap } from "../../../src/students/closed-form/narrow-values.ts";
import { withHeads } from "../../../src/students/closed-form/narrowing.ts";
import { required } from "../../../src/utils/required.ts";
import { inlineDevice } from "../../support/device.ts";
import { eliminate } from "../../support/elimination.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";
import { comparedImages, differenceTo, refittedBatches } from "../../support/students.ts";

const device = inlineDevice();
const solver = new RidgeSolver(device);
afterAll(async () => {
  await solver.dispose();
  await device.dispose();
});
const load = (name = "timm-vit") => loadModel(referencePath(`teachers/${name}`), { device });
const pixels = comparedImages();

const [d, headCount, outputs] = [4, 3, 5];
const mixed = d * headCount;
/** Rows that enter a map `[out, heads * d]`, with a one for the bias, what is missing behind it, and their sums. */
function problem(count = 60) {
  const { data } = noise([count, mixed], 5);
  const rows = Array.from({ length: count }, (_, r) => [
    ...data.subarray(r * mixed, (r + 1) * mixed).map((v, i) => v + (i % 3) * data[r * mixed] + 0.5),
    1,
  ]);
  const lacking = noise([count, outputs], 6).data;
  const missing = rows.map((_, r) => [...lacking.subarray(r * outputs, (r + 1) * outputs)]);
  const sums = emptySums(mixed + 1, outputs);
  rows.forEach((row, r) =>
    row.forEach((a, i) => {
      row.forEach((b, j) => (sums.gram[i * (mixed + 1) + j] += a * b));
      missing[r].forEach((b, o) => (sums.cross[i * outputs + o] += a * b));
    }),
  );
  return { rows, missing, sums, map: noise([outputs, mixed], 7) };
}

describe("a map behind narrow values", () => {
  test("loses what the smallest singular values of each head's part hold", async () => {
    const { rows, sums, map } = problem();
    const costs = directionCosts(await headValues(sums, map, d));
    expect(costs[d]).toBe(0);
    const given = Array.from({ length: headCount }, (_, h) => {
      const own = new Matrix(rows.map((row) => row.slice(h * d, (h + 1) * d)));
      const weights = Array.from({ length: outputs }, (_, o) => [
        ...map.data.subarray(o * mixed + h * d, o * mixed + (h + 1) * d),
      ]);
      const centred = own.subRowVector(own.mean("column"));
      return new SingularValueDecomposition(centred.mmul(new Matrix(weights).transpose())).diagonal.map((v) => v * v);
    });
    for (const width of [0, 1, 2, d - 1]) {
      const lost = given.reduce((sum, values) => sum + values.slice(width).reduce((a, b) => a + b, 0), 0);
      // Channels are made firm by 1e-5 of their size.
      expect(Math.abs(costs[width] / lost - 1)).toBeLessThan(1e-3);
    }
  });

  test("is refitted as rows in the directions kept say, and read as a whole or a narrow one it gives the same", async () => {
    const { rows, missing, sums, map } = problem();
    const heads = await headValues(sums, map, d);
    const [kept, width] = [[0, 2], 2];
    const narrow = new NarrowMap(map, heads, kept, width);
    const actual = await narrow.sums(solver, sums);
    const k = kept.length * width + 1;
    expect([actual.n, actual.m]).toEqual([k, outputs]);
    // The same from rows: what enters in the directions kept, and what is then missing to the whole map and its lack.
    const directions = (row: readonly number[]) =>
      kept.flatMap((head) =>
        Array.from({ length: width }, (_, c) =>
          Array.from({ length: d }, (_, i) => row[head * d + i] * heads[head].values[i * d + c]).reduce(
            (a, b) => a + b,
          ),
        ),
      );
    const weightOf = (o: number, at: number) => {
      const [head, c] = [kept[Math.floor(at / width)], at % width];
      return Array.from(
        { length: d },
        (_, i) => map.data[o * mixed + head * d + i] * heads[head].outputs[i * d + c],
      ).reduce((a, b) => a + b);
    };
    const expected = emptySums(k, outputs);
    rows.forEach((row, r) => {
      const own = [...directions(row), 1];
      const lacking = missing[r].map((lack, o) => {
        const whole = Array.from({ length: mixed }, (_, i) => row[i] * map.data[o * mixed + i]).reduce((a, b) => a + b);
        return lack + whole - own.slice(0, -1).reduce((sum, v, at) => sum + v * weightOf(o, at), 0);
      });
      own.forEach((a, i) => {
        own.forEach((b, j) => (expected.gram[i * k + j] += a * b));
        lacking.forEach((b, o) => (expected.cross[i * outputs + o] += a * b));
      });
    });
    for (const [part, other] of [
      [actual.gram, expected.gram],
      [actual.cross, expected.cross],
    ]) {
      const size = Math.max(...other.map(Math.abs));
      part.forEach((v, i) => expect(Math.abs(v - other[i]) / size).toBeLessThan(1e-10));
    }
    const solution = eliminate(k, outputs, actual.gram, actual.cross);
    const student = { weights: new Map(Object.entries({ "map.weight": map, "map.bias": noise([outputs], 8) })) };
    const changed = narrow.changed(student as unknown as ModelDefinition, "map", solution);
    const [weight, bias] = [required(changed.weights, "map.weight"), required(changed.weights, "map.bias")];
    rows.forEach((row) => {
      const own = directions(row);
      for (let o = 0; o < outputs; o++) {
        let whole = bias.data[o];
        for (let i = 0; i < mixed; i++) whole += weight.data[o * mixed + i] * row[i];
        let some = required(student.weights, "map.bias").data[o] + solution[(k - 1) * outputs + o];
        own.forEach((v, at) => (some += v * (weightOf(o, at) + solution[at * outputs + o])));
        // Weights are float32.
        expect(Math.abs(whole - some)).toBeLessThan(1e-4);
      }
    });
  });
});

describe("a block with narrow values", () => {
  test("of all directions gives what it gave before, also with some heads alone", async () => {
    const teacher = await load();
    const width = headWidthOf(teacher.config);
    const block = 1;
    const name = `blocks.${block}.attn.proj`;
    const proj = required(teacher.weights, `${name}.weight`);
    const n = attentionWidth(teacher.config, block) + 1;
    const { data } = noise([3 * n, n], 3);
    const gram = new Float64Array(n * n);
    for (let r = 0; r < 3 * n; r++) {
      const row = [...data.subarray(r * n, (r + 1) * n - 1), 1];
      row.forEach((a, i) => row.forEach((b, j) => (gram[i * n + j] += a * b)));
    }
    const heads = await headValues({ n, gram }, proj, width);
    for (const kept of [heads.map((_, head) => head), [0, heads.length - 1]]) {
      const map = new NarrowMap(proj, heads, kept, width);
      const none = new Float64Array((kept.length * width + 1) * proj.dims[0]);
      const changed = withHeads(map.changed(teacher, name, none), block, kept);
      const narrow = map.narrowed(changed, block);
      expect([...narrow.weights].map(([key, { dims }]) => [key, dims])).toEqual(
        expect.arrayContaining([...expectedWeights(narrow.config)]),
      );
      const [a, b] = [new Model(withHeads(teacher, block, kept), device), new Model(narrow, device)];
      const size = (await a.outputs(pixels, ["blockOutput"])).blockOutput.data.reduce((sum, v) => sum + Math.abs(v), 0);
      // Other float32 products.
      expect((await differenceTo(a, b, pixels)) / size).toBeLessThan(1e-5);
      for (const model of [a, b]) await model.dispose();
    }
    await teacher.dispose();
  });
});

describe("students with narrow values", () => {
  const kept = [0, 1, 2, 3];

  test.each(["timm-vit", "more-hf-dinov3", "timm-deit3-ls"])(
    "%s: are nearer to the teacher the wider they are",
    async (name) => {
      const teacher = await load(name);
      const { heads, mlpWidth, depth } = teacher.config;
      const width = headWidthOf(teacher.config);
      const some = kept.slice(0, depth);
      const left: number[] = [];
      for (const valueWidth of [1, width / 2, undefined]) {
        const shapes = some.map(() => ({ heads, mlpWidth: mlpWidth / 2, valueWidth }));
        const { student } = await analyticStart(teacher, some, refittedBatches(), { ...analyticDefaults, shapes });
        expect(blockShape(student.config, 1).valueWidth).toBe(valueWidth);
        for (const { data } of student.weights.values()) expect(data.every(Number.isFinite)).toBe(true);
        const model = new Model(student, device);
        left.push(await differenceTo(teacher, model, pixels));
        await model.dispose();
      }
      expect(left[0]).toBeGreaterThan(left[1]);
      expect(left[1]).toBeGreaterThan(0.95 * left[2]);
      await teacher.dispose();
    },
  );

  test.each([false, true])("train on with adapters, with magnitudes of their own: %s", async (magnitude) => {
    const teacher = await load();
    const { heads, mlpWidth } = teacher.config;
    const shapes = kept.map(() => ({ heads, mlpWidth: mlpWidth / 2, queryWidth: 2, valueWidth: 3 }));
    const { student } = await analyticStart(teacher, kept, refittedBatches(), { ...analyticDefaults, shapes });
    const model = new Model(student, device);
    const method = magnitude ? "dora" : "lora";
    const training = await createDistillation(teacher, { keptBlocks: kept, rank: 2, initialStudent: student, method });
    // Adapters are zeros in the beginning: the first loss is that of the student itself.
    const input: FloatTensor[] = [pixels];
    const first = (await training.step(input)).loss;
    const [a, b] = [await teacher.outputs(pixels, ["blockOutput"]), await model.outputs(pixels, ["blockOutput"])];
    const { data } = a.blockOutput;
    const mean = data.reduce((sum, v, i) => sum + Math.abs(v - b.blockOutput.data[i]), 0) / data.length;
    expect(Math.abs(first / mean - 1)).toBeLessThan(1e-3);
    let last = first;
    for (let i = 0; i < 4; i++) last = (await training.step(input)).loss;
    expect(last).toBeLessThan(first);
    for (const one of [model, teacher]) await one.dispose();
  });
});
