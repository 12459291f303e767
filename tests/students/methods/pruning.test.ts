// Methods that prune: students of the same size as the default method's, made the same again, and compensation that comes nearer.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { createDistillation, distill, loadModel, Model } from "wecolora/node";
import { evaluate } from "../../../src/engine/graph/evaluate-graph.ts";
import { graph, input } from "../../../src/engine/graph/build.ts";
import type { Value } from "../../../src/engine/graph/graph.ts";
import { linear } from "../../../src/engine/nn/layers.ts";
import { headWidthOf } from "../../../src/models/config.ts";
import type { ModelDefinition } from "../../../src/models/definition.ts";
import { parameterCount } from "../../../src/models/definition.ts";
import { embed, frozenWeights, vitBlocks } from "../../../src/models/vit.ts";
import { methodOf } from "../../../src/students/methods/lookup.ts";
import type { PruneContext } from "../../../src/students/methods/method.ts";
import type { BlockPlace } from "../../../src/students/pruning/block-walk.ts";
import { walkBlocks } from "../../../src/students/pruning/block-walk.ts";
import { innerWidth } from "../../../src/students/pruning/corp-student.ts";
import { magnitudeScores } from "../../../src/students/pruning/units.ts";
import { noiseFolder } from "../../support/cli.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";
import { differenceTo } from "../../support/students.ts";

const names = ["magnitude", "wanda", "taylor", "grail", "snapvit", "corp"] as const;
const teacher = await loadModel(referencePath("teachers/timm-vit"));
const { config, device } = teacher;
const every = Array.from({ length: config.depth }, (_, i) => i);
const batches = [0, 1].map((seed) => noise([8, config.channels, config.imageSize, config.imageSize], seed));
async function* images(): AsyncGenerator<FloatTensor> {
  yield* batches;
}
const widths = { mlpWidth: config.mlpWidth / 2, keptHeads: config.heads / 2 };
const defaults = { seed: 0, gradientLoss: "self-supervised", selection: "wanda", correction: false, generations: 2 };

function pruned(name: string, changes: Partial<PruneContext> = {}, options: object = {}): Promise<ModelDefinition> {
  const { prune } = methodOf(name);
  if (!prune) throw new Error(`${name} does not prune`);
  const given = { ...defaults, ...options };
  const { signal } = new AbortController();
  return prune({ teacher, kept: every, widths, options: given, images, progress: () => undefined, signal, ...changes });
}
const students = new Map<string, Promise<ModelDefinition>>();
const studentOf = (name: string): Promise<ModelDefinition> => {
  const cached = students.get(name) ?? pruned(name);
  students.set(name, cached);
  return cached;
};

let folder: string;
beforeAll(async () => {
  folder = await noiseFolder("pruning");
});
afterAll(async () => {
  await teacher.dispose();
  await rm(folder, { recursive: true });
});

describe.each(names)("%s", (name) => {
  test("gives the size that is asked for", async () => {
    const student = await studentOf(name);
    const wanted = { ...config, mlpWidth: widths.mlpWidth, heads: widths.keptHeads, headWidth: headWidthOf(config) };
    expect(parameterCount(student)).toBe(parameterCount(await studentOf("magnitude")));
    expect(student.config.mlpWidth).toBe(wanted.mlpWidth);
    expect(student.config.heads * headWidthOf(student.config)).toBe(wanted.heads * wanted.headWidth);
    const { pooled } = await new Model(student, device).outputs(batches[0], ["pooled"]);
    expect(pooled.data.every(Number.isFinite)).toBe(true);
  });
  test("gives the same again", async () => {
    const [first, again] = [await studentOf(name), await pruned(name)];
    for (const [key, { data }] of first.weights) expect(again.weights.get(key)?.data, key).toEqual(data);
  });
  test("leaves the teacher as it is where nothing goes", async () => {
    const whole = await pruned(name, { widths: {} });
    expect(whole.config).toEqual(config);
    for (const [key, { data }] of whole.weights) expect(teacher.weights.get(key)?.data, key).toEqual(data);
  });
  test("prunes kept blocks alone", async () => {
    const student = await pruned(name, { kept: [0, 2], widths: { mlpWidth: widths.mlpWidth } });
    expect(student.config).toMatchObject({ depth: 2, mlpWidth: widths.mlpWidth, heads: config.heads });
  });
});

const difference = async (definition: ModelDefinition) => {
  const model = new Model(definition, device);
  const actual = await differenceTo(teacher, model, batches[0]);
  await model.dispose();
  return actual;
};

test("magnitude keeps the channels that its scores say", async () => {
  const student = await studentOf("magnitude");
  const { channels } = magnitudeScores(teacher, 1);
  const order = Array.from(channels, (_, i) => i).sort((a, b) => channels[b] - channels[a]);
  const kept = order.slice(0, widths.mlpWidth).sort((a, b) => a - b);
  const [own, whole] = [student, teacher].map(({ weights }) => weights.get("blocks.1.mlp.fc1.bias")?.data);
  expect([...(own ?? [])]).toEqual(kept.map((channel) => whole?.[channel]));
});

test("compensation comes nearer to the teacher than none", async () => {
  const without = await difference(await studentOf("wanda"));
  expect(await difference(await studentOf("grail"))).toBeLessThan(without);
  expect(await difference(await studentOf("corp"))).toBeLessThan(without);
  const corrected = await pruned("snapvit", {}, { correction: true });
  expect(await difference(corrected)).toBeLessThan(await difference(await studentOf("snapvit")));
  const byMagnitude = await pruned("grail", {}, { selection: "magnitude" });
  expect(await difference(byMagnitude)).toBeLessThan(await difference(await studentOf("magnitude")));
});

/** What enters a map of block `index` for one image, in float64. */
function entering(index: number, module: "proj" | "fc2", pixels: FloatTensor): readonly number[][] {
  const wide = (tensor: FloatTensor) => ({ ...tensor, type: "float64" as const, data: Float64Array.from(tensor.data) });
  const weights = new Map([...teacher.weights].map(([name, tensor]) => [name, wide(tensor)]));
  const weight = frozenWeights(weights);
  const x = input("pixels", "float64", pixels.dims);
  let seen: Value | undefined;
  vitBlocks(config, weight, embed(config, weight, x), (value, weightOf, block, at) => {
    if (block === index && at === module) seen = value;
    return linear(value, weightOf);
  });
  if (!seen) throw new Error("not met");
  const actual = evaluate(graph([x], { seen }), { pixels: wide(pixels) }).get("seen");
  const width = actual?.dims[2] ?? 0;
  const data = [...(actual?.data ?? [])].map(Number);
  return Array.from({ length: data.length / width }, (_, r) => data.slice(r * width, (r + 1) * width));
}

test("moments are those of the tokens that enter each map", async () => {
  const pixels = noise([1, config.channels, config.imageSize, config.imageSize], 7);
  const met = new Map<string, BlockPlace>();
  const note = (name: string) => async (place: BlockPlace) => {
    met.set(`${name} ${place.block}`, place);
    return place.student;
  };
  const narrowed = () => config;
  async function* one() {
    yield pixels;
  }
  const walk = { student: teacher, device, widths, narrowed, images: one(), progress: () => undefined };
  await walkBlocks(walk, { tokens: "narrowed", attention: note("proj"), mlp: note("fc2") });
  for (const module of ["proj", "fc2"] as const) {
    const rows = entering(1, module, pixels);
    const moments = met.get(`${module} 1`)?.moments;
    expect(moments?.count).toBe(rows.length);
    const n = rows[0].length;
    for (const [i, j] of [
      [0, 0],
      [1, 3],
      [n - 1, 2],
    ]) {
      const wanted = rows.reduce((sum, x) => sum + x[i] * x[j], 0);
      const scale = Math.sqrt(rows.reduce((s, x) => s + x[i] ** 2, 0) * rows.reduce((s, x) => s + x[j] ** 2, 0));
      // Two blocks and a product in float32.
      expect(Math.abs((moments?.gram[i * n + j] ?? NaN) - wanted)).toBeLessThan(1e-4 * scale);
    }
  }
});

test("heads narrowed inside take no more weights than whole heads", () => {
  const of = (heads: number, keptHeads: number, width = 48) => innerWidth({ ...config, width, heads }, keptHeads);
  expect(of(6, 3)).toBe(4);
  expect(of(6, 4)).toBe(5);
  expect(of(6, 1)).toBe(1);
});

describe("as a run", () => {
  test.each(["magnitude", "corp"] as const)("%s has the size of a refit by default", async (method) => {
    const options = { teacher: referencePath("teachers/timm-vit"), data: join(folder, "data"), report: false } as const;
    const quick = { ...options, evaluate: false, evaluateSteps: 0 };
    const refit = await distill({ ...quick, out: join(folder, `refit-${method}`) });
    const own = await distill({ ...quick, method, out: join(folder, `run-${method}`) });
    expect(own.mlpWidth).toBe(refit.mlpWidth);
    expect(own.keptHeads).toBe(refit.keptHeads);
    const [a, b] = [await loadModel(refit.student), await loadModel(own.student)];
    expect(parameterCount(b)).toBe(parameterCount(a));
    await a.dispose();
    await b.dispose();
  });

  test("a start beside it is refused", async () => {
    const paths = [referencePath("teachers/timm-vit"), join(folder, "data"), join(folder, "refused")] as const;
    const options = { teacher: paths[0], data: paths[1], out: paths[2], method: "wanda", start: "random" } as const;
    await expect(distill(options)).rejects.toThrow(
      "start does not go with the method wanda: it prunes the kept blocks.",
    );
  });

  test("createDistillation says that it needs images", async () => {
    await expect(createDistillation(teacher, { method: "taylor" })).rejects.toThrow("The method taylor needs images");
  });
});

test("CORP refuses heads with rotary positions", async () => {
  const rotary = await loadModel(referencePath("teachers/more-hf-dinov3"));
  const kept = Array.from({ length: rotary.config.depth }, (_, i) => i);
  await expect(pruned("corp", { teacher: rotary, kept, widths: { keptHeads: 1 } })).rejects.toThrow("rotary positions");
  await rotary.dispose();
});
