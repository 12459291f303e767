// Training from a start in closed form: gradients that stay within blocks, and students that lost heads and channels.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor, Model } from "wecolora/node";
import { copyBlocks, createDistillation, loadModel, Model as RunnableModel } from "wecolora/node";
import { distillArguments, noiseFolder, wecolora } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { referencePath, relativeError } from "../../support/reference.ts";

const device = inlineDevice();
let folder: string;
beforeAll(async () => {
  folder = await noiseFolder("refine");
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

const pixels = noise([4, 3, 32, 32], 11);

describe("gradients within blocks", () => {
  const gradientsOf = async (teacher: Model, loss: "l1" | "multi-block" | "blockwise", keptBlocks: number[]) => {
    const distillation = await createDistillation(teacher, { method: "wecolora", loss, keptBlocks, rank: 4 });
    const { gradients, loss: value } = await distillation.step([pixels], { gradients: true });
    await distillation.dispose();
    return { gradients: gradients as Map<string, FloatTensor>, loss: value };
  };

  test("the first block's are those of a student of it alone, the last block's those of the whole", async () => {
    const teacher = await loadModel(referencePath("teachers/timm-vit"), { device });
    const kept = [0, 2, 4];
    const apart = await gradientsOf(teacher, "blockwise", kept);
    const through = await gradientsOf(teacher, "multi-block", kept);
    // The teacher up to what its first block stands for; its own loss is a third of the mean over three.
    const front = new RunnableModel(copyBlocks(teacher, [0, 1]), device);
    const alone = await gradientsOf(front, "l1", [0]);
    let [first, last, differing] = [0, 0, 0];
    for (const [name, { data }] of apart.gradients) {
      // As long as B is zero, so are the gradients of A.
      if (!name.endsWith("lora_B")) continue;
      const other = through.gradients.get(name) as FloatTensor;
      if (name.startsWith("blocks.2.")) {
        last++;
        // The same products: float32 rounding, in sums of another order.
        expect(relativeError(data, other.data)).toBeLessThan(1e-4);
      }
      if (!name.startsWith("blocks.0.")) continue;
      first++;
      const own = (alone.gradients.get(name) as FloatTensor).data.map((v) => v / kept.length);
      expect(relativeError(data, own)).toBeLessThan(1e-4);
      if (relativeError(data, other.data) > 0.01) differing++;
    }
    expect([first, last, differing]).toEqual([6, 6, 6]);
    expect(Math.abs(apart.loss / through.loss - 1)).toBeLessThan(1e-5);
    await front.dispose();
    await teacher.dispose();
  });
});

test("a student that lost heads and channels trains on, and a run that goes on ends with the same bits", async () => {
  const teacher = referencePath("teachers/hf-dinov2");
  const out = join(folder, "run");
  const settings = [
    ...["--recipe", "refined", "--loss", "blockwise", "--rank", "2", "--epochs", "4"],
    ...["--effective-batch", "8", "--evaluate-steps", "0", "--checkpoint-steps", "2", "--no-evaluate", "--no-report"],
  ];
  const first = await wecolora(...distillArguments(teacher, join(folder, "data"), out), ...settings);
  expect(first).toMatchObject({ code: 0 });
  expect(first.err).toMatch(/6 blocks with \d+ heads? and \d+ channels have as many weights as 3 copied blocks/);
  const whole = await loadModel(teacher, { device });
  const student = await loadModel(join(out, "student"), { device });
  expect(student.config.heads).toBe(whole.config.heads / 2);
  expect(student.config.mlpWidth).toBeLessThan(whole.config.mlpWidth);
  const bytes = await readFile(join(out, "student/model.safetensors"));
  const { steps } = JSON.parse(await readFile(join(out, "result.json"), "utf8")) as { steps: number };
  expect(steps).toBeGreaterThan(4);

  await rm(join(out, "result.json"));
  await rm(join(out, "student"), { recursive: true });
  expect(await wecolora("distill", "--resume", out)).toMatchObject({ code: 0 });
  expect((await readFile(join(out, "student/model.safetensors"))).equals(bytes)).toBe(true);
  for (const model of [whole, student]) await model.dispose();
});
