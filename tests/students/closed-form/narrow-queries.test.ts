// Queries and keys of fewer channels: as little of their products is lost as can be, and models of such blocks are as said.
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { afterAll, describe, expect, test } from "vitest";
import type { FloatTensor, ModelDefinition } from "wecolora/node";
import { analyticDefaults, analyticStart, createDistillation, loadModel, Model } from "wecolora/node";
import { emptySums, RidgeSolver } from "../../../src/engine/linalg/ridge.ts";
import { blockShape, headWidthOf, qkvRows } from "../../../src/models/config.ts";
import { directionCosts } from "../../../src/students/closed-form/head-matrices.ts";
import { expectedWeights } from "../../../src/models/weight-table.ts";
import { headQueries, withNarrowQueries } from "../../../src/students/closed-form/narrow-queries.ts";
import { blockShapeText, parseBlockShape, withHeads } from "../../../src/students/closed-form/narrowing.ts";
import { moduleSize } from "../../../src/students/training/adapters.ts";
import { required } from "../../../src/utils/required.ts";
import { inlineDevice } from "../../support/device.ts";
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

/** Rows that enter a block's maps, with a one for the bias, and their sums. */
function rowsAndSums(width: number, count = 40) {
  const { data } = noise([count, width], 5);
  const rows = Array.from({ length: count }, (_, r) => [...data.subarray(r * width, (r + 1) * width), 1]);
  const sums = emptySums(width + 1, 0);
  for (const row of rows) row.forEach((a, i) => row.forEach((b, j) => (sums.gram[i * (width + 1) + j] += a * b)));
  return { rows, sums };
}

/** A head's queries or keys of some rows, by the map as it is stored. */
function headOf(model: ModelDefinition, block: number, module: "q" | "k", head: number, rows: readonly number[][]) {
  const { heads } = blockShape(model.config, block);
  const [from, to] = qkvRows(model.config, block, module);
  const d = (to - from) / heads;
  const weight = required(model.weights, `blocks.${block}.attn.qkv.weight`);
  const bias = required(model.weights, `blocks.${block}.attn.qkv.bias`);
  const width = weight.dims[1];
  const out = new Matrix(rows.length, d);
  rows.forEach((row, r) => {
    for (let c = 0; c < d; c++) {
      const at = from + head * d + c;
      let sum = bias.data[at];
      for (let i = 0; i < width; i++) sum += weight.data[at * width + i] * row[i];
      out.set(r, c, sum);
    }
  });
  return out;
}

const aboutMean = (matrix: Matrix) => matrix.clone().subRowVector(matrix.mean("column"));
const squares = (matrix: Matrix) => matrix.to1DArray().reduce((sum, v) => sum + v * v, 0);

describe("a block's queries", () => {
  test("lose what the smallest singular values of their products hold, and no other narrowing loses less", async () => {
    const teacher = await load();
    const d = headWidthOf(teacher.config);
    const { rows, sums } = rowsAndSums(teacher.config.width);
    const heads = await headQueries(solver, sums, teacher, 1);
    expect(heads).toHaveLength(teacher.config.heads);
    const costs = directionCosts(heads);
    expect(costs[d]).toBe(0);
    const products = heads.map((_, h) =>
      headOf(teacher, 1, "q", h, rows).mmul(aboutMean(headOf(teacher, 1, "k", h, rows)).transpose()),
    );
    const singular = products.map((product) => new SingularValueDecomposition(product).diagonal.map((v) => v * v));
    for (const width of [0, 1, d / 2, d - 1]) {
      const lost = singular.reduce((sum, values) => sum + values.slice(width).reduce((a, b) => a + b, 0), 0);
      // Keys are made firm by 1e-5 of their size.
      expect(Math.abs(costs[width] / lost - 1)).toBeLessThan(1e-3);
      if (width === 0) continue;
      const student = withNarrowQueries(teacher, 1, heads, width);
      const left = products.reduce((sum, product, h) => {
        const [q, k] = [headOf(student, 1, "q", h, rows), aboutMean(headOf(student, 1, "k", h, rows))];
        // Attention divides by the root of the width.
        return sum + squares(Matrix.sub(product, q.mmul(k.transpose()).mul(Math.sqrt(d / width))));
      }, 0);
      // So are directions, and weights are stored as float32.
      expect(Math.abs(left - lost)).toBeLessThan(1e-5 * costs[0]);
    }
    await teacher.dispose();
  });

  test("of all directions give what the block gave before", async () => {
    const teacher = await load();
    let student: ModelDefinition = teacher;
    const d = headWidthOf(teacher.config);
    for (const block of [0, 3]) {
      const { sums } = rowsAndSums(teacher.config.width);
      student = withNarrowQueries(student, block, await headQueries(solver, sums, student, block), d);
    }
    const model = new Model(student, device);
    const size = (await teacher.outputs(pixels, ["blockOutput"])).blockOutput.data.reduce((s, v) => s + Math.abs(v), 0);
    // Other float32 products.
    expect((await differenceTo(teacher, model, pixels)) / size).toBeLessThan(1e-5);
    for (const one of [model, teacher]) await one.dispose();
  });

  test("stay with their heads where others are removed", async () => {
    const teacher = await load();
    const { sums } = rowsAndSums(teacher.config.width);
    const narrow = withNarrowQueries(teacher, 1, await headQueries(solver, sums, teacher, 1), 2);
    const kept = [1, 3].filter((head) => head < teacher.config.heads);
    const cut = withHeads(narrow, 1, kept);
    const { rows } = rowsAndSums(teacher.config.width, 3);
    for (const module of ["q", "k"] as const)
      kept.forEach((head, i) =>
        expect(headOf(cut, 1, module, i, rows).to1DArray()).toEqual(headOf(narrow, 1, module, head, rows).to1DArray()),
      );
    expect([...cut.weights].map(([name, { dims }]) => [name, dims])).toEqual(
      expect.arrayContaining([...expectedWeights(cut.config)]),
    );
    await teacher.dispose();
  });
});

describe("students with narrow queries", () => {
  const kept = [0, 1, 2, 3];

  test("are nearer to the teacher the wider they are, and train on with adapters", async () => {
    const teacher = await load();
    const { heads, mlpWidth } = teacher.config;
    const d = headWidthOf(teacher.config);
    const left: number[] = [];
    for (const queryWidth of [1, d / 2, undefined]) {
      const shapes = kept.map(() => ({ heads, mlpWidth: mlpWidth / 2, queryWidth }));
      const { student } = await analyticStart(teacher, kept, refittedBatches(), { ...analyticDefaults, shapes });
      expect(blockShape(student.config, 2).queryWidth).toBe(queryWidth);
      const model = new Model(student, device);
      left.push(await differenceTo(teacher, model, pixels));
      await model.dispose();
      if (queryWidth !== 1) continue;
      expect(moduleSize(student.config, "q", 0).outputs).toBe(heads);
      expect(moduleSize(student.config, "v", 0).outputs).toBe(heads * d);
      const training = await createDistillation(teacher, { keptBlocks: kept, rank: 2, initialStudent: student });
      const losses = [];
      for (let i = 0; i < 4; i++) losses.push((await training.step([pixels])).loss);
      expect(losses[3]).toBeLessThan(losses[0]);
    }
    expect(left[0]).toBeGreaterThan(left[1]);
    expect(left[1]).toBeGreaterThan(0.99 * left[2]);
    await teacher.dispose();
  });

  test("are refused where positions rotate queries, and wider than heads", async () => {
    for (const [name, wrong, message] of [
      ["more-hf-dinov3", 2, "this teacher's queries can't be narrowed"],
      ["timm-vit", 1000, "at most"],
    ] as const) {
      const teacher = await load(name);
      const { heads, mlpWidth } = teacher.config;
      const shapes = [{ heads, mlpWidth: mlpWidth / 2, queryWidth: wrong }];
      const images: FloatTensor[] = [pixels];
      await expect(analyticStart(teacher, [0], images, { ...analyticDefaults, shapes })).rejects.toThrow(message);
      await teacher.dispose();
    }
  });

  test("are named by a third number", () => {
    for (const text of ["3x768", "0x512", "6x0", "6x480x24"]) expect(blockShapeText(parseBlockShape(text))).toBe(text);
    expect(parseBlockShape("6x480x24")).toEqual({ heads: 6, mlpWidth: 480, queryWidth: 24 });
  });
});
