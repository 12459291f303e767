// Heads of weights that come without a configuration: those of published models, or none.
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeDirectory } from "wecolora/node";
import { writeSafetensors } from "../../../src/checkpoints/safetensors-file.ts";
import { readModel } from "../../../src/models/definition.ts";
import { assumedHeadWidth } from "../../../src/models/layouts/assumed-heads.ts";
import type { FloatTensor } from "../../../src/utils/tensor.ts";
import { referencePath } from "../../support/reference.ts";

// Width, gated MLP, heads: from the configurations that the models are published with.
test.each([
  ["a model as wide as one head", 32, false, 1],
  ["ViT-Ti", 192, false, 3],
  ["ViT-S", 384, false, 6],
  ["ViT-B", 768, false, 12],
  ["ViT-L", 1024, false, 16],
  ["SoViT-400m (SigLIP)", 1152, false, 16],
  ["ViT-H (MAE)", 1280, false, 16],
  ["ViT-g (EVA)", 1408, false, 16],
  ["ViT-g (DINOv2)", 1536, true, 24],
  ["ViT-bigG (OpenCLIP)", 1664, false, 16],
  ["EVA-02 enormous", 1792, false, 16],
  ["InternViT-6B", 3200, false, 25],
  ["ViT-7B (DINOv3)", 4096, true, 32],
] as const)("%s: width %i", (_, width, gated, heads) => {
  expect(width / (assumedHeadWidth(width, gated) ?? 0)).toBe(heads);
});

test.each([
  [0, false],
  [100, false],
  [880, false],
  [1280, true],
  [1536, false],
  [1600, false],
  [2048, true],
] as const)("published models of width %i (gated: %s) don't agree, or there are none", (width, gated) => {
  expect(assumedHeadWidth(width, gated)).toBeUndefined();
});

describe("bare files", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-heads-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const zeros = (...dims: number[]): FloatTensor => ({
    type: "float32",
    dims,
    data: new Float32Array(dims.reduce((size, d) => size * d, 1)),
  });
  /** A ViT of one block in timm's names. */
  async function bareVit(width: number): Promise<string> {
    const norm = (name: string): [string, FloatTensor][] => [
      [`${name}.weight`, zeros(width)],
      [`${name}.bias`, zeros(width)],
    ];
    const map = (name: string, out: number, into: number): [string, FloatTensor][] => [
      [`${name}.weight`, zeros(out, into)],
      [`${name}.bias`, zeros(out)],
    ];
    const tensors = new Map<string, FloatTensor>([
      ["cls_token", zeros(1, 1, width)],
      ["pos_embed", zeros(1, 5, width)],
      ["patch_embed.proj.weight", zeros(width, 3, 2, 2)],
      ["patch_embed.proj.bias", zeros(width)],
      ...norm("blocks.0.norm1"),
      ...map("blocks.0.attn.qkv", 3 * width, width),
      ...map("blocks.0.attn.proj", width, width),
      ...norm("blocks.0.norm2"),
      ...map("blocks.0.mlp.fc1", 4 * width, width),
      ...map("blocks.0.mlp.fc2", width, 4 * width),
      ...norm("norm"),
    ]);
    const name = `vit-${width}`;
    await nodeDirectory(folder).write(`${name}/model.safetensors`, writeSafetensors(tensors));
    return join(folder, name);
  }

  test.each([
    [64, 1],
    [1280, 16],
  ])("of width %i: %i heads are assumed, and said", async (width, heads) => {
    const warnings: string[] = [];
    const { config } = await readModel(nodeDirectory(await bareVit(width)), { warn: (text) => warnings.push(text) });
    expect(config.heads).toBe(heads);
    expect(warnings.join("\n")).toContain(`${heads} heads are assumed, as published models of width ${width} have`);
  });

  test("of a width that no published model has: refused until the number is given", async () => {
    const directory = nodeDirectory(await bareVit(100));
    await expect(readModel(directory)).rejects.toMatchObject({
      code: "NOT_A_VIT",
      message: expect.stringMatching(/how many attention heads the model of width 100 has.*--num-heads/),
    });
    expect((await readModel(directory, { numHeads: 4 })).config.heads).toBe(4);
  });

  /** transformers' folder of a ViT of one block, and the same weights alone beside it. */
  async function besideFolder(name: string, changes: Record<string, unknown>): Promise<string[]> {
    const directory = nodeDirectory(join(folder, name));
    const teacher = referencePath("teachers/hf-vit");
    const config = JSON.parse(await readFile(join(teacher, "config.json"), "utf8")) as Record<string, unknown>;
    await directory.write("model/config.json", [new TextEncoder().encode(JSON.stringify({ ...config, ...changes }))]);
    await copyFile(join(teacher, "model.safetensors"), join(folder, name, "last.safetensors"));
    const warnings: string[] = [];
    const options = { weightsFile: "last.safetensors", warn: (text: string) => warnings.push(text) };
    warnings.unshift(String((await readModel(directory, options)).config.heads));
    return warnings;
  }

  test("beside a folder whose config.json has the weights' sizes: its number of heads", async () => {
    const [heads, ...warnings] = await besideFolder("same", { num_attention_heads: 8 });
    expect(heads).toBe("8");
    expect(warnings.join("\n")).toMatch(/8 heads are assumed, as in .*model\/config\.json, whose sizes are the same/);
  });

  test("beside a folder of other sizes, or one that can't be read: as published models have", async () => {
    expect((await besideFolder("other", { num_attention_heads: 3, num_hidden_layers: 9 }))[0]).toBe("1");
    expect((await besideFolder("undivided", { num_attention_heads: 3 }))[0]).toBe("1");
    expect((await besideFolder("broken", { num_attention_heads: "many" }))[0]).toBe("1");
  });

  test("without preprocessor_config.json: the transform of the published models", async () => {
    const directory = nodeDirectory(join(folder, "same"));
    const { preprocessing } = await readModel(directory, { weightsFile: "last.safetensors" });
    const { imageSize } = (await readModel(directory, { weightsFile: "last.safetensors" })).config;
    // google/vit-base-patch16-224's preprocessor_config.json, at the model's size.
    expect(preprocessing).toEqual({
      ...{ resize: { height: imageSize, width: imageSize }, cropSize: imageSize, interpolation: "bilinear" },
      ...{ mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
    });
  });
});
