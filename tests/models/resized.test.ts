// Images of other sizes than a model was made for: its positions are resampled as its own library does it
// (tests/reference/make_resized.py).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { loadModel, saveModel } from "wecolora/node";
import { expectClose, readReference, referencePath } from "../support/reference.ts";

/** 32 pixels are what the models were made for: two sizes below and two above. */
const sizes = [16, 24, 40, 72] as const;

const models = [
  ["hf-vit", "teachers/hf-vit", "bicubic"],
  ["hf-deit", "teachers/hf-deit", "bicubic"],
  ["hf-vit-mae", "teachers/hf-vit-mae", "bicubic"],
  ["more-hf-ijepa", "teachers/more-hf-ijepa", "bicubic"],
  ["hf-dinov2", "teachers/hf-dinov2", "bicubic"],
  ["hf-dinov2-registers", "teachers/hf-dinov2-registers", "bicubic-antialiased"],
  ["hf-clip-vision", "teachers/hf-clip-vision", "bicubic"],
  ["more-hf-siglip", "teachers/more-hf-siglip", "bicubic"],
  ["timm-vit", "teachers/timm-vit", "bicubic-antialiased"],
  ["timm-vit-reg", "teachers/timm-vit-reg", "bicubic-antialiased"],
  ["dinov2-authors", "resized/dinov2-authors.pth", "bicubic-offset"],
  ["dinov2-authors-registers", "resized/dinov2-authors-registers.pth", "bicubic-antialiased"],
] as const;

const options = (path: string) => (path.endsWith(".pth") ? { numHeads: 4 } : {});

test.each(models)("%s", async (name, path, resampling) => {
  const expected = await readReference("resized/expected.safetensors");
  for (const imageSize of sizes) {
    const model = await loadModel(referencePath(path), { ...options(path), imageSize });
    expect(model.config.resampling).toBe(resampling);
    const { lastHiddenState } = await model.forward(expected.get(`input.${imageSize}`) as FloatTensor);
    expectClose(lastHiddenState, expected.get(`${name}.${imageSize}`), 1e-4, `${name} at ${imageSize} pixels`);
    await model.dispose();
  }
});

test("a saved student keeps its teacher's way, and its own numbers at its own size", async () => {
  const expected = await readReference("resized/expected.safetensors");
  const input = expected.get("input.40") as FloatTensor;
  const folder = await mkdtemp(join(tmpdir(), "wecolora-resized-"));
  try {
    for (const [name, path] of [models[5], models[10]]) {
      const model = await loadModel(referencePath(path), { ...options(path), imageSize: 40 });
      const { pooled } = await model.forward(input);
      for (const format of ["huggingface", "timm"] as const) {
        const at = join(folder, name, format);
        await saveModel(model, at, { format, weightType: "float32" });
        const again = await loadModel(at);
        expect(again.config.imageSize).toBe(40);
        expectClose((await again.forward(input)).pooled, pooled, 2e-6, `${name} as ${format}`);
        await again.dispose();
      }
      await model.dispose();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("without a config.json, what tells whose file it is decides, and is reported", async () => {
  for (const [path, resampling, words] of [
    ["torch/dino.pth", "bicubic-offset", "as DINO's and DINOv2's authors do it"],
    ["resized/dinov2-authors.pth", "bicubic-offset", "as DINO's and DINOv2's authors do it"],
    ["resized/dinov2-authors-registers.pth", "bicubic-antialiased", "as timm and DINOv2 with registers do it"],
  ] as const) {
    const warnings: string[] = [];
    const warn = (message: string) => warnings.push(message);
    const model = await loadModel(referencePath(path), { numHeads: 4, imageSize: 48, warn });
    expect([path, model.config.resampling]).toEqual([path, resampling]);
    expect(warnings.join("\n")).toContain(`Its position table is resampled for 48 pixels ${words}`);
    await model.dispose();
  }
});
