// Options out of range are refused by name, with the value given and the range allowed, before any image is read.
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDistillation, distill, evaluate, loadModel, rollout, segment } from "wecolora/node";
import { command as rolloutCommand } from "../../src/commands/rollout.ts";
import { parseOptions } from "../../src/utils/parse-options.ts";
import { checkImageSize } from "../../src/models/definition.ts";
import { defaultRankOf } from "../../src/students/training/ranks.ts";
import { OptionError, UserError } from "../../src/utils/errors.ts";
import { kebab } from "../../src/utils/option-names.ts";
import { noiseImage } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

/** Width 32, MLPs of 128 channels, 4 heads, 6 blocks, images of 32 pixels in patches of 8. */
const teacher = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-ranges-"));
  for (let i = 0; i < 12; i++) await noiseImage(at("data", ["a", "b"][i % 2], `p${i}.jpg`), i, i % 2);
});
afterAll(() => rm(folder, { recursive: true }));

/** The message as the command line says it, of a run that must not begin. */
async function refusal(run: (onProgress: (event: { status: string }) => void) => Promise<unknown>): Promise<string> {
  const stages: string[] = [];
  const error: unknown = await run((event) => {
    if (event.status === "stage") stages.push(JSON.stringify(event));
  }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect(stages).toEqual([]);
  return error instanceof OptionError ? error.typed((option) => `--${kebab(option)}`) : (error as Error).message;
}

const paper = { recipe: "paper" } as const;
const distilling: readonly [object, string][] = [
  [{ ...paper, rank: 33 }, "--rank must be between 1 and 32 (the smaller side of the map q), got 33."],
  [{ ...paper, rank: 5000 }, "--rank must be between 1 and 32 (the smaller side of the map q), got 5000."],
  [{ ...paper, rank: 0 }, "--rank must be"],
  [{ ...paper, rank: { fc1: 40, q: 4 }, targetModules: ["q", "fc1"] }, "--rank must be between 1 and 32 for fc1"],
  [{ ...paper, rank: { q: 4 }, targetModules: ["q", "fc1"] }, "--rank names no value for fc1"],
  [{ ...paper, alpha: Number.POSITIVE_INFINITY }, "--alpha must be a number above 0"],
  [{ ...paper, alpha: 1e308 }, "--alpha must be a number above 0 and at most 1000000"],
  [{ ...paper, baseLearningRate: Number.NaN }, "--base-learning-rate must be a number between"],
  [{ ...paper, baseLearningRate: 1e300 }, "--base-learning-rate must be a number between"],
  [{ ...paper, epochs: 1e300 }, "--epochs must be a number above 0 and at most 100000, got 1e+300."],
  [{ ...paper, steps: 1e15 }, "--steps must be a whole number between 1 and 10000000, got 1000000000000000."],
  [{ ...paper, warmupEpochs: -1 }, "--warmup-epochs must be a number between 0 and 100000, got -1."],
  [{ batch: 1e9 }, "--batch must be a whole number between 1 and 65536, got 1000000000."],
  [{ threads: 100_000 }, "--threads must be a whole number between 1 and 1024, got 100000."],
  [{ fewShotRatio: 0 }, "--few-shot-ratio must be a number above 0 and at most 1, got 0."],
  [
    { heldOut: 0.9999 },
    "--held-out must be so small that images are left to learn from (the largest class has 6): at most 0.83, got 0.9999.",
  ],
  [{ heldOut: 1 }, "--held-out must be a number of at least 0 and below 1, got 1."],
  [{ std: [0, 0, 0] }, "--std"],
  [{ std: [-1, 1, 1] }, "item 1 of --std must be a number between 0.0001 and 100, got -1."],
  [{ mean: [Number.NaN, 0, 0] }, "item 1 of --mean must be a number between -1 and 1"],
  [{ mean: [123.7, 116.3, 103.5] }, "item 1 of --mean must be a number between -1 and 1, got 123.7."],
  [{ imageSize: 100_000 }, "--image-size must be a whole number between 1 and 16384, got 100000."],
  [{ imageSize: 4 }, "--image-size must be between 8 (one patch) and"],
  [{ budget: "1KB" }, "--budget must be a size above 0 in MB (25MB), a share of the teacher above 0 (0.3x)"],
  [{ budget: "0x" }, "--budget must be a size above 0"],
  [{ budget: "-3MB" }, "--budget must be a size above 0"],
  [{ budget: "99999GB" }, "--budget must be a size above 0"],
  [{ budget: "99999MB" }, "--budget must be at most"],
  [{ budget: "3x" }, "--budget must be between"],
  [{ budget: "0.0001x" }, "No student fits the budget: one block alone takes"],
  [
    { mlpWidth: 0.0001 },
    "--mlp-width must be a whole number between 1 and 128 (the channels of the teacher's MLPs), or a share from 0.0039 to below 1, got 0.0001.",
  ],
  [{ mlpWidth: 129 }, "--mlp-width must be a whole number between 1 and 128"],
  [{ mlpWidth: 2.5 }, "--mlp-width must be a whole number between 1 and 128"],
  [{ keptHeads: 5 }, "--kept-heads must be a whole number between 1 and 4 (the heads of the teacher's attention)"],
  [{ keptHeads: 0.01 }, "--kept-heads must be a whole number between 1 and 4"],
  [{ ...paper, keptHeads: 2 }, "need --start analytic"],
  [{ keptBlocks: [0, 6] }, "--kept-blocks must be between 0 and 5 (the teacher has 6 blocks), got 6."],
  [{ keptBlocks: [2, 0] }, "must be in rising order"],
  [{ reductionFactor: 7 }, "--reduction-factor must be between 1 and 6 (the teacher has 6 blocks), got 7."],
  [{ analyticSweeps: 1e6 }, "--analytic-sweeps must be a whole number between 1 and 100, got 1000000."],
];

test.each(distilling)("distill %j", async (options, message) => {
  const given = { teacher, data: at("data"), out: at("out") };
  const text = await refusal((onProgress) => distill({ ...given, ...options, onProgress } as never));
  expect(text.toLowerCase()).toContain(message.toLowerCase());
  expect(existsSync(at("out"))).toBe(false);
});

describe("other commands", () => {
  test("evaluate, rollout and segment", async () => {
    const given = { model: teacher, data: at("data"), cache: false };
    const cases: [object, string][] = [
      [{ heldOut: 0.9999 }, "--held-out must be so small"],
      [{ heldOut: 0 }, "--held-out must be a number above 0 and below 1"],
      [{ temperature: 0 }, "--temperature must be a number between"],
      [{ probeEpochs: 1e9 }, "--probe-epochs must be a whole number between 1 and 100000"],
      [{ probeLearningRate: 1e300 }, "--probe-learning-rate must be a number between"],
      [{ std: [0, 0, 0] }, "--std"],
      [{ batch: 1e9 }, "--batch must be a whole number between 1 and 65536"],
    ];
    for (const [options, message] of cases)
      expect(
        (await refusal((onProgress) => evaluate({ ...given, ...options, onProgress } as never))).toLowerCase(),
      ).toContain(message);
    const looking = { model: teacher, data: at("data"), out: at("looks") };
    expect(await refusal(() => rollout({ ...looking, discard: 1 }))).toBe(
      "--discard must be a number of at least 0 and below 1, got 1.",
    );
    expect(() =>
      parseOptions(rolloutCommand.schema, { ...looking, discard: Number.NaN }, "options of rollout"),
    ).toThrow("discard must be a number");
    const masks = { model: teacher, data: at("data"), out: at("masks") };
    expect(await refusal(() => segment({ ...masks, gap: -1 }))).toContain(
      "--gap must be a whole number between 0 and 1000",
    );
    expect(await refusal(() => segment({ ...masks, learningRate: 1e300 }))).toContain(
      "--learning-rate must be a number between",
    );
  });
});

test("an image size is bounded by the memory that attention over its patches takes", () => {
  // 2 GiB hold scores and softmax of 12 heads over 4729 tokens: 68 patches a side.
  const vit = { patchSize: 16, heads: 12 };
  expect(() => checkImageSize(vit, 68 * 16, 2 ** 31)).not.toThrow();
  expect(() => checkImageSize(vit, 69 * 16, 2 ** 31)).toThrow("imageSize must be between 16 (one patch) and 1088 (");
  expect(68 ** 4 * 12 * 8).toBeLessThan(2 ** 31);
  expect(69 ** 4 * 12 * 8).toBeGreaterThan(2 ** 31);
});

test("the library refuses ranks too, and without one takes what the maps allow", async () => {
  const model = await loadModel(teacher);
  await expect(createDistillation(model, { rank: 33 })).rejects.toThrow("rank must be between 1 and 32");
  const plain = await createDistillation(model);
  expect((await plain.adapters()).get("blocks.0.q.lora_A")?.dims).toEqual([32, 32]);
  expect(defaultRankOf(model.config)).toBe(32);
  expect(defaultRankOf({ ...model.config, width: 384, heads: 6, mlpWidth: 1536 })).toBe(128);
  await plain.dispose();
  await model.dispose();
});
