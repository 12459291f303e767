// The API's edges: what it refuses, and what it keeps when something goes wrong.
import * as ort from "onnxruntime-node";
import { createDistillation, loadModel, RunError, UserError } from "wecolora/node";
import { expect, test } from "vitest";
import { expectClose, readReference, referencePath } from "../../support/reference.ts";

const teacher = await loadModel(referencePath("teachers/timm-vit"));
const input = (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as never as {
  type: "float32";
  dims: number[];
  data: Float32Array;
};

test("ONNX Runtime's own tensors are taken", async () => {
  const theirs = new ort.Tensor("float32", Float32Array.from(input.data), input.dims);
  const [a, b] = [await teacher.forward(theirs as never), await teacher.forward(input)];
  expectClose(a.lastHiddenState, b.lastHiddenState, 0, "features");
});

test.each([
  [{ reductionFactor: 2, keptBlocks: [0] }, "not both"],
  [{ reductionFactor: 0 }, "reductionFactor"],
  [{ keptBlocks: [3, 1] }, "keptBlocks must be in rising order, each named once, got [3,1]."],
  [{ rank: 2.5 }, "rank must be a whole number of at least 1, or values by name"],
  [{ ranks: 4 }, "There is no option ranks. Did you mean rank?"],
  [{ epochs: 4 }, "There is no option epochs. Did you mean schedule.epochs?"],
  [{ loss: { kind: "l3" } }, 'kind in loss must be one of l1, mse, smooth-l1, cosine, l1+kl, got "l3".'],
  [{ schedule: { kind: "cosine", epoch: 3 } }, "There is no option epoch in schedule. Did you mean epochs?"],
  [{ rank: 2, initialAdapters: new Map() }, "The initial adapters lack blocks.0.q.lora_A [2, 32]"],
])("createDistillation refuses %o", async (options, message) => {
  const creating = createDistillation(teacher, options as never);
  await expect(creating).rejects.toThrow(UserError);
  await expect(creating).rejects.toThrow(message);
});

test("a factor that does not divide the depth, and an explicit list", async () => {
  expect((await createDistillation(teacher, { reductionFactor: 4, rank: 1 })).keptBlocks).toEqual([0, 4]);
  const listed = await createDistillation(teacher, { keptBlocks: [1, 2, 5], rank: 1 });
  const student = await listed.student();
  expect(student.config.depth).toBe(3);
  expect(student.weights.get("blocks.2.norm1.weight")?.data).toEqual(
    teacher.weights.get("blocks.5.norm1.weight")?.data,
  );
});

test("images of a wrong shape or number are refused", async () => {
  await expect(teacher.forward({ ...input, dims: [3, 3, 16, 64] })).rejects.toThrow(
    "The model takes float32 [B, 3, 32, 32]",
  );
  const distillation = await createDistillation(teacher, { rank: 1, accumulation: 2 });
  await expect(distillation.step([input])).rejects.toThrow("step takes 2 micro-batches (accumulation), got 1");
  await distillation.dispose();
});

test("after a loss that is not finite the adapters are those of the last good step", async () => {
  const schedule = { kind: "cosine" as const, warmupEpochs: 0, baseLearningRate: 1e-2 };
  const distillation = await createDistillation(teacher, { rank: 2, schedule });
  await distillation.step([input]);
  const before = await distillation.adapters();
  const poisoned = { ...input, data: input.data.map((v, i) => (i === 7 ? Number.NaN : v)) };
  await expect(distillation.step([poisoned])).rejects.toThrow(RunError);
  await expect(distillation.step([poisoned])).rejects.toThrow("The loss is NaN at step 2");
  for (const [name, tensor] of await distillation.adapters()) expect(tensor.data).toEqual(before.get(name)?.data);
  expect((await distillation.step([input])).loss).toBeLessThan(10);
  await distillation.dispose();
});

test("accumulation over halves gives the gradients of the whole", async () => {
  const [whole, halves] = [1, 2].map((accumulation) => createDistillation(teacher, { rank: 2, accumulation, seed: 3 }));
  const images = (from: number, to: number) => ({
    ...input,
    dims: [to - from, 3, 32, 32],
    data: input.data.slice(from * 3072, to * 3072),
  });
  const a = await (await whole).step([images(0, 2)], { gradients: true });
  const b = await (await halves).step([images(0, 1), images(1, 2)], { gradients: true });
  expect(b.loss).toBeCloseTo(a.loss, 5);
  for (const [name, gradient] of a.gradients ?? []) expectClose(b.gradients?.get(name), gradient, 1e-4, name);
});

test("adapters taken out and given back go on from there", async () => {
  const schedule = { kind: "cosine" as const, warmupEpochs: 0, baseLearningRate: 1e-2 };
  const first = await createDistillation(teacher, { rank: 2, schedule });
  await first.step([input]);
  const adapters = await first.adapters();
  const second = await createDistillation(teacher, { rank: 2, schedule, initialAdapters: adapters });
  const [a, b] = [await first.student(), await second.student()];
  for (const [name, tensor] of a.weights) expect(b.weights.get(name)?.data).toEqual(tensor.data);
});
