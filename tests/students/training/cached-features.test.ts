// What is kept of views that are shown again and again stands for teacher and images.
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CreateDistillationOptions, FloatTensor } from "wecolora/node";
import { createDistillation, loadModel } from "wecolora/node";
import { tokenCount } from "../../../src/models/config.ts";
import { noiseImage, wecolora } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { readReference, referencePath, relativeError } from "../../support/reference.ts";

const device = inlineDevice();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-cached-features-"));
  for (let i = 0; i < 16; i++) await noiseImage(join(folder, "data", `p${i}.jpg`), i, i % 3);
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

const teacherOf = () => loadModel(referencePath("teachers/timm-vit"), { device });
const imagesOf = async () =>
  (await readReference("teachers/timm-vit/expected.safetensors")).get("input") as FloatTensor;

const schedule = { kind: "cosine", warmupEpochs: 0 } as const;

test.each<[string, CreateDistillationOptions]>([
  ["the last block's output", { loss: "l1" }],
  ["several blocks' outputs", { loss: "multi-block" }],
  ["blocks apart", { loss: "blockwise" }],
  ["activations that are computed anew", { checkpointing: true }],
  ["activations in half precision", { activations: "float16" }],
])("give the same step as a teacher in the graph, and stand for the images: %s", async (_, more) => {
  const [teacher, pixels] = [await teacherOf(), await imagesOf()];
  const settings = { reductionFactor: 2, rank: 4, schedule, ...more } as const;
  const [plain, kept] = [await createDistillation(teacher, settings), await createDistillation(teacher, settings)];
  for (let i = 0; i < 2; i++) {
    const expected = await plain.step([pixels], { gradients: true });
    const targets = await kept.targets(pixels);
    expect(targets.embedded.dims).toEqual([pixels.dims[0], tokenCount(teacher.config), teacher.config.width]);
    const actual = await kept.step([{ targets }], { gradients: true });
    // The same products in another graph: float32 rounding.
    expect(Math.abs(actual.loss / expected.loss - 1)).toBeLessThan(1e-5);
    for (const [name, { data }] of expected.gradients as Map<string, FloatTensor>)
      expect(relativeError((actual.gradients?.get(name) as FloatTensor).data, data)).toBeLessThan(1e-3);
  }
  for (const one of [plain, kept]) await one.dispose();
  await teacher.dispose();
});

test("where the embedding trains, the teacher's alone are kept; where the loss reads more, none", async () => {
  const [teacher, pixels] = [await teacherOf(), await imagesOf()];
  const settings = { method: "weco-kd", reductionFactor: 2, schedule } as const;
  const [plain, kept] = [await createDistillation(teacher, settings), await createDistillation(teacher, settings)];
  const targets = await kept.targets(pixels);
  expect(Object.keys(targets)).toEqual([`target.${teacher.config.depth}`]);
  await expect(kept.step([{ targets }])).rejects.toThrow("needs pixels, or targets with embedded");
  const losses = [await plain.step([pixels]), await kept.step([{ pixels, targets }])].map(({ loss }) => loss);
  expect(Math.abs(losses[1] / losses[0] - 1)).toBeLessThan(1e-5);
  for (const one of [plain, kept]) await one.dispose();
  const minivit = await createDistillation(teacher, { method: "minivit", reductionFactor: 2 });
  await expect(minivit.targets(pixels)).rejects.toThrow("needs the teacher in each step");
  await minivit.dispose();
  await teacher.dispose();
});

test("from the command line, in 8 bits, resumed too; methods that can't are refused", async () => {
  const args = ["distill", "--teacher", referencePath("teachers/timm-vit"), "--data", join(folder, "data")];
  const settings = [
    ...["--recipe", "paper", "--rank", "2", "--epochs", "3", "--cached-crops", "2", "--precision", "int8"],
    ...["--no-evaluate", "--no-report", "--evaluate-steps", "0", "--checkpoint-steps", "2"],
  ];
  const out = join(folder, "run");
  const { code, err } = await wecolora(...args, ...settings, "--out", out);
  expect({ code, err }).toMatchObject({ code: 0 });
  expect(err).toMatch(/precision int8: [78]-bit weights/);
  expect(err).toMatch(/2 crops of each image are cached: \d+ MiB in memory/);
  const { options } = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
  expect(options).toMatchObject({ precision: "int8", cachedCrops: 2 });
  const whole = await readFile(join(out, "student/model.safetensors"));

  // As if it had been killed after its last checkpoint but one.
  await rm(join(out, "result.json"));
  await rm(join(out, "student"), { recursive: true });
  const resumed = await wecolora("distill", "--resume", out);
  expect(resumed).toMatchObject({ code: 0 });
  expect(await readFile(join(out, "student/model.safetensors"))).toEqual(whole);

  // From a file the same, and none is left.
  const disk = join(folder, "disk");
  const onDisk = await wecolora(...args, ...settings, "--crop-cache", "disk", "--out", disk);
  expect(onDisk).toMatchObject({ code: 0 });
  expect(onDisk.err).toMatch(/2 crops of each image are cached: \d+ MiB on disk/);
  expect(await readFile(join(disk, "student/model.safetensors"))).toEqual(whole);
  expect(existsSync(join(disk, "cached-features.bin"))).toBe(false);

  const refused = await wecolora(...args, "--method", "minivit", "--cached-crops", "2", "--out", join(folder, "never"));
  expect(refused.code).toBe(2);
  expect(refused.err).toContain("--cached-crops does not go with the method minivit: its loss reads more");
  expect(existsSync(join(folder, "never"))).toBe(false);
  const idle = await wecolora(...args, "--method", "weight-copy", "--checkpointing", "--out", join(folder, "never"));
  expect(idle.code).toBe(2);
  expect(idle.err).toContain("--checkpointing does not go with the method weight-copy: nothing trains");
  const both = ["--checkpointing", "--activations", "float16", "--out", join(folder, "never")];
  const refusedBoth = await wecolora(...args, "--method", "wecolora", ...both);
  expect(refusedBoth.code).toBe(2);
  expect(refusedBoth.err).toContain("Give --checkpointing or --activations, not both");
  expect(existsSync(join(folder, "never"))).toBe(false);
});
