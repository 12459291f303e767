// Weights that rest in a file: the same numbers and the same bits as in memory, and nothing of them is left behind.
import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CreateDistillationOptions, FloatTensor, ModelDefinition } from "wecolora/node";
import { createDistillation, createNodeDevice, loadModel, Model } from "wecolora/node";
import { compile } from "../../../src/engine/compile.ts";
import { add, constant, graph, input, matmul, transposeLast } from "../../../src/engine/graph/build.ts";
import { writeOnnx } from "../../../src/engine/onnx/write-model.ts";
import { deduplicate } from "../../../src/engine/passes/deduplicate.ts";
import { offloadWeights } from "../../../src/platform/node/offload.ts";
import { offloadedRange, rowsInPlace } from "../../../src/utils/offloaded.ts";
import { float32, rows } from "../../../src/utils/tensor.ts";
import { runScript } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";

const matrix = (seed: number, n = 64, k = 48): FloatTensor => noise([n, k], seed);
async function offloadedFiles(tensor: FloatTensor): Promise<FloatTensor> {
  const offloaded = (await offloadWeights(new Map([["weight", tensor]]))).get("weight") as FloatTensor;
  expect(offloadedRange(offloaded)).toBeDefined();
  return offloaded;
}

test("a tensor at rest has its numbers, its rows too; changed copies lie in memory", async () => {
  const tensor = matrix(1);
  const other = matrix(2);
  const offloaded = await offloadWeights(new Map(Object.entries({ a: tensor, b: other, small: float32([1, 2], [2]) })));
  const [a, b] = [offloaded.get("a"), offloaded.get("b")] as [FloatTensor, FloatTensor];
  expect([a.data, b.data]).toEqual([tensor.data, other.data]);
  expect(offloadedRange(a)?.file).toBe(offloadedRange(b)?.file);
  const part = rowsInPlace(a, 5, 9);
  expect([part.dims, part.data]).toEqual([[4, 48], rows(tensor, 5, 9).data]);
  expect(offloadedRange(part)?.offset).toBe((offloadedRange(a)?.offset ?? NaN) + 5 * 48 * 4);
  expect(rowsInPlace(part, 1, 3).data).toEqual(rows(tensor, 6, 8).data);
  for (const copy of [{ ...a }, { ...a, data: other.data }, offloaded.get("small") as FloatTensor])
    expect(offloadedRange(copy)).toBeUndefined();
  // What rests stays where it is.
  expect((await offloadWeights(offloaded)).get("a")).toBe(a);
});

describe("a graph's weights", () => {
  const x = input("x", "float32", ["n", 48]);
  const device = inlineDevice();
  afterAll(() => device.dispose());
  /** Tokens times two matrices, `[64, 48]` and `[k, 64]`. */
  const built = (first: FloatTensor, second: FloatTensor) =>
    graph([x], { y: matmul(matmul(x, transposeLast(constant(first))), transposeLast(constant(second))) });
  const run = async (first: FloatTensor, second: FloatTensor) => {
    const session = await compile(built(first, second), device);
    const { tensors } = await session.run({ feeds: { x: matrix(3, 5) }, fetch: ["y"] });
    await session.dispose();
    return tensors.y.data;
  };
  const written = (first: FloatTensor, second: FloatTensor) => {
    const { offloadedFiles, externalData } = writeOnnx(built(first, second), { weights: { kind: "separate" } });
    return { files: offloadedFiles.length, inMemory: externalData.length };
  };

  test("are read in place, and smaller ones in memory beside them", async () => {
    const [first, small, large] = [matrix(4), matrix(5, 16, 64), matrix(6, 600, 64)];
    const offloaded = await offloadedFiles(first);
    expect(written(offloaded, small)).toEqual({ files: 1, inMemory: 0 });
    expect(await run(offloaded, small)).toEqual(await run(first, small));
    expect(written(offloaded, await offloadedFiles(large))).toEqual({ files: 2, inMemory: 0 });
    expect(await run(offloaded, await offloadedFiles(large))).toEqual(await run(first, large));
  });

  test("go through memory where most of them lie there", async () => {
    const [first, large] = [matrix(7), matrix(8, 600, 64)];
    const offloaded = await offloadedFiles(first);
    expect(written(offloaded, large)).toEqual({ files: 0, inMemory: 2 });
    expect(await run(offloaded, large)).toEqual(await run(first, large));
  });

  test("that are the same rows of one at rest are one", async () => {
    const offloaded = await offloadedFiles(matrix(8));
    const twice = [0, 1].map(() => matmul(x, transposeLast(constant(rowsInPlace(offloaded, 8, 16)))));
    const merged = deduplicate(graph([x], { y: add(twice[0], twice[1]) }));
    const source = merged.outputs.get("y")?.source;
    expect(source?.kind === "node" && source.node.inputs[0] === source.node.inputs[1]).toBe(true);
  });
});

const ways: [string, Partial<CreateDistillationOptions>][] = [
  ["in float32", {}],
  ["in 8 bits", { precision: "int8" }],
  ["with checkpointing", { checkpointing: true }],
  ["with all weights training", { method: "weco-kd", rank: undefined }],
];

describe("a distillation whose weights rest", () => {
  const device = createNodeDevice({ threads: 2 });
  let teacher: Model;
  beforeAll(async () => {
    teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
  });
  afterAll(() => device.dispose());

  test.each(ways)("%s takes the same steps to the same student, bit for bit", async (_, settings) => {
    const { imageSize, channels } = teacher.config;
    const pixels = [1, 2].map((seed) => noise([2, channels, imageSize, imageSize], seed));
    const outcome = async (definition: ModelDefinition) => {
      const model = new Model(definition, device);
      const distillation = await createDistillation(model, { reductionFactor: 2, rank: 4, ...settings });
      const losses = [];
      for (const shown of pixels) losses.push((await distillation.step([shown])).loss);
      const student = await distillation.student();
      await distillation.dispose();
      const { blockOutput } = await student.outputs(pixels[0], ["blockOutput"]);
      const { pooled } = await model.outputs(pixels[0], ["pooled"]);
      await student.dispose();
      await model.dispose();
      return { losses, student: blockOutput.data, teacher: pooled.data };
    };
    const { config, weights, preprocessing, origin } = teacher;
    const offloaded = (await device.offload?.(weights)) as typeof weights;
    expect([...offloaded].filter(([name, tensor]) => tensor !== weights.get(name)).length).toBeGreaterThan(10);
    const definition = { config, preprocessing, origin };
    expect(await outcome({ ...definition, weights: offloaded })).toEqual(await outcome({ ...definition, weights }));
  });
});

test("a model lets go of the memory of its weights, and gives the same features", async () => {
  const device = createNodeDevice({ threads: 2 });
  const model = await loadModel(fileURLToPath(new URL("../../../demo/teacher", import.meta.url)), { device });
  const { imageSize, channels } = model.config;
  const pixels = noise([1, channels, imageSize, imageSize], 1);
  const before = await model.outputs(pixels, ["blockOutput"]);
  await model.dispose();
  const memory = process.memoryUsage().arrayBuffers;
  const weightBytes = 4 * model.parameters;
  await model.offload();
  // The collector comes by by itself.
  await expect
    .poll(() => memory - process.memoryUsage().arrayBuffers, { timeout: 5000 })
    .toBeGreaterThan(0.9 * weightBytes);
  expect(await model.outputs(pixels, ["blockOutput"])).toEqual(before);
  await model.dispose();
  await device.dispose();
});

describe("the file", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "resting-"));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const script = fileURLToPath(new URL("../../support/offloaded.mjs", import.meta.url));
  const left = async () => (await readdir(folder)).filter((name) => name.startsWith("wecolora-"));

  const output = async (scratch: string) => {
    const { out, code, err } = await runScript(script, [], { TMPDIR: scratch });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    return out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
  };

  test("is the user's alone, goes with its tensors, and its folder with the process", async () => {
    expect(await output(folder)).toEqual([{ modes: ["600"], last: 4095, same: false }, { left: 0 }]);
    expect(await left()).toEqual([]);
  });

  test("of a process that was killed goes with the next one", async () => {
    const env = { ...process.env, TMPDIR: folder };
    const killed = spawn(process.execPath, [script, "hold"], { env, stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => killed.stdout.once("data", resolve));
    killed.kill("SIGKILL");
    await new Promise((resolve) => killed.once("exit", resolve));
    expect(await left()).toHaveLength(1);
    await output(folder);
    expect(await left()).toEqual([]);
  });

  test("is done without where there is no place for it", async () => {
    expect(await output(join(folder, "nowhere"))).toEqual([{ modes: [], last: 4095, same: true }, { left: 0 }]);
  });
});
