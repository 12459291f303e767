// Every layer of every teacher layout against what PyTorch gave (tests/reference/README.md).
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { loadModel, nodeDirectory, resamplePositions, saveModel } from "wecolora/node";
import { writeSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import { rows, zeros } from "../../src/utils/tensor.ts";
import { expectClose, readReference, readTensors, referencePath, root } from "../support/reference.ts";

/** Features agree to 1e-4 of their largest entry in float32: summation orders differ. */
const tolerance = 1e-4;

interface Case {
  readonly name: string;
  /** Folder, where it is not the name. */
  readonly file?: string;
  readonly states: "hidden_states" | "blocks";
  readonly last: "last_hidden_state" | "normed";
  readonly numHeads?: number;
  /** Formats that have no place for such a model. */
  readonly lacks?: readonly ("huggingface" | "timm")[];
}

const hf = (name: string, lacks: Case["lacks"] = []): Case => ({
  name,
  states: "hidden_states",
  last: "last_hidden_state",
  lacks,
});
const timm = (name: string, file?: string, numHeads?: number, lacks: Case["lacks"] = []): Case => ({
  name,
  file,
  states: "blocks",
  last: "normed",
  numHeads,
  lacks,
});

const cases: readonly Case[] = [
  hf("hf-dinov2"),
  hf("hf-dinov2-registers"),
  hf("hf-vit"),
  hf("hf-vit-classifier"),
  hf("hf-vit-mae"),
  hf("hf-deit"),
  hf("hf-clip-vision"),
  hf("more-hf-clip-projection", ["timm"]),
  hf("more-hf-clip-full", ["timm"]),
  hf("more-hf-siglip"),
  hf("more-hf-siglip-full"),
  hf("more-hf-clip-classifier"),
  hf("more-hf-siglip-classifier"),
  hf("more-hf-metaclip2"),
  hf("more-hf-msn"),
  hf("more-hf-ijepa"),
  hf("more-hf-dinov3"),
  hf("more-hf-dinov3-gated"),
  hf("more-hf-dinov3-no-registers"),
  hf("more-hf-dinov2-swiglu"),
  hf("more-hf-dinov2-registers-classifier"),
  hf("more-hf-deit-distilled-classifier"),
  hf("fewer-hf-vit", ["timm"]),
  hf("fewer-hf-dinov2", ["timm"]),
  timm("timm-vit"),
  timm("timm-vit-reg", undefined, undefined, []),
  timm("timm-deit3-ls"),
  timm("more-timm-avg", undefined, undefined, ["huggingface"]),
  timm("more-timm-prenorm", undefined, undefined, ["huggingface"]),
  timm("more-timm-map", undefined, undefined, ["huggingface"]),
  timm("more-timm-noqkvbias"),
  timm("more-timm-distilled"),
  timm("timm-vit.pth", "timm-vit/model.pth"),
  timm("timm-vit-reg.pth", "timm-vit-reg/model.pth"),
  timm("timm-deit3-ls.pth", "timm-deit3-ls/model.pth"),
  timm("mae-pth", "mae-pth/mae_pretrain.pth", 4),
  timm("mae-pth fp16", "mae-pth/mae_pretrain_fp16.pth", 4),
];

const folderOf = ({ name, file }: Case) => (file ? file.split("/")[0] : name);

describe.each(cases)("$name", (item) => {
  const { name, states, last, numHeads, lacks = [] } = item;
  const path = referencePath(`teachers/${item.file ?? name}`);
  const readExpected = async () => {
    const expected = await readReference(`teachers/${folderOf(item)}/expected.safetensors`);
    if (name === "hf-vit-classifier")
      for (const [key, value] of await readReference("teachers/hf-vit-classifier/logits.safetensors"))
        expected.set(key, value);
    return expected;
  };
  // Half precision keeps 11 bits of each weight.
  const bound = name.endsWith("fp16") ? 5e-3 : tolerance;

  test("gives PyTorch's output at every layer", async () => {
    const expected = await readExpected();
    const model = await loadModel(path, { numHeads });
    const result = await model.forward(expected.get("input") as never, { hiddenStates: true });
    expect(result.hiddenStates).toHaveLength(model.config.depth + 1);
    result.hiddenStates?.forEach((state, i) => {
      expectClose(state, expected.get(`${states}.${i}`), bound, `${states}.${i}`);
    });
    // Classifiers of transformers give no tokens after the norm, but logits.
    expect(expected.has(last) || expected.has("logits")).toBe(true);
    if (expected.has(last)) expectClose(result.lastHiddenState, expected.get(last), bound, last);
    if (expected.has("logits")) expectClose(result.logits, expected.get("logits"), bound, "logits");
    else expect(result.logits === undefined || name.startsWith("timm")).toBe(true);
    const pooler = expected.get("pooler_output");
    if (pooler) expectClose(result.poolerOutput ?? result.pooled, pooler, bound, "pooler_output");
    if (expected.has("image_embeds"))
      expectClose(result.imageEmbeds, expected.get("image_embeds"), bound, "image_embeds");
    await model.dispose();
  });

  test("takes any batch size", async () => {
    const expected = await readExpected();
    const input = expected.get("input") as FloatTensor;
    const model = await loadModel(path, { numHeads });
    const { lastHiddenState, logits } = await model.forward(rows(input, 0, 1));
    const [actual, wanted] = expected.has(last)
      ? [lastHiddenState, expected.get(last)]
      : [logits, expected.get("logits")];
    expectClose(actual, rows(wanted as FloatTensor, 0, 1), bound, "the first picture alone");
    await model.dispose();
  });

  const formats = (["huggingface", "timm"] as const).flatMap((format) =>
    (["float32", "float16"] as const).map((weightType) => [format, weightType] as const),
  );
  test.each(formats)("saved as %s in %s and loaded equals what was saved", async (format, weightType) => {
    const input = (await readExpected()).get("input") as FloatTensor;
    const model = await loadModel(path, { numHeads });
    const folder = await mkdtemp(join(tmpdir(), "wecolora-save-"));
    try {
      const saving = saveModel(model, folder, { format, weightType });
      if (lacks.includes(format)) {
        await expect(saving).rejects.toThrow(/No layout of/);
        return;
      }
      await saving;
      const first = await loadModel(folder);
      // Half precision keeps 11 bits: half a unit in the last place is 5e-4, and six blocks add up. In float32 a weight
      // that changes its place (a position folded into a token) may round differently.
      const near = weightType === "float32" ? 2e-6 : 5e-3;
      const original = await model.forward(input, { hiddenStates: true });
      const again = await first.forward(input, { hiddenStates: true });
      expectClose(again.pooled, original.pooled, near, "features");
      expectClose(again.hiddenStates?.at(-1), original.hiddenStates?.at(-1), near, "the last block's output");
      // timm has no head on class token and mean, nor on patches it does not pool; its directory holds the features alone.
      const headless = format === "timm" && ["class+mean", "patches"].includes(model.config.head?.input ?? "");
      expect(again.logits === undefined).toBe(original.logits === undefined || headless);
      if (original.logits && !headless) expectClose(again.logits, original.logits, near, "logits");
      // A second round trip loses nothing more.
      const second = join(folder, "second");
      await saveModel(first, second, { format });
      const tensors = await readTensors(join(folder, "model.safetensors"));
      const twice = await readTensors(join(second, "model.safetensors"));
      expect([...twice.keys()].sort()).toEqual([...tensors.keys()].sort());
      for (const [key, tensor] of tensors) {
        expect(tensor.type).toBe(weightType);
        expect(twice.get(key)).toEqual(tensor);
      }
    } finally {
      await rm(folder, { recursive: true });
      await model.dispose();
    }
  });
});

test("position tables are resampled as timm and as transformers do it", async () => {
  const expected = await readReference("pos-embed.safetensors");
  const table = expected.get("pos_embed_14x14") as FloatTensor;
  for (const [key, method, to] of [
    ["timm_7x7", "bicubic-antialiased", [7, 7]],
    ["timm_16x16", "bicubic-antialiased", [16, 16]],
    ["timm_10x20", "bicubic-antialiased", [10, 20]],
    ["bicubic_no_antialias_16x16", "bicubic", [16, 16]],
  ] as const) {
    // float32 sums in another order.
    expectClose(resamplePositions(table, 1, to, method), expected.get(key), 1e-5, key);
  }
});

test("where a library takes any size, the preprocessor's is the one to use", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-size-"));
  try {
    const source = referencePath("teachers/hf-dinov2");
    for (const name of ["config.json", "model.safetensors"]) await copyFile(join(source, name), join(folder, name));
    const preprocessor = { do_center_crop: true, crop_size: { height: 24, width: 24 }, size: { shortest_edge: 28 } };
    await writeFile(join(folder, "preprocessor_config.json"), JSON.stringify(preprocessor));
    const model = await loadModel(folder);
    expect(model.config.imageSize).toBe(24);
    expect((await model.forward(zeros([1, 3, 24, 24]))).lastHiddenState.dims).toEqual([1, 10, 32]);
    await model.dispose();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("images of another size", async () => {
  const model = await loadModel(referencePath("teachers/timm-vit"), { imageSize: 48 });
  const { lastHiddenState } = await model.forward(zeros([1, 3, 48, 48]));
  expect(lastHiddenState.dims).toEqual([1, 37, 32]);
  expect(model.preprocessing.cropSize).toBe(48);
  await model.dispose();
});

test("the demo's teacher, from given pixel values", async () => {
  const expected = await readTensors(join(root, "demo/expected.safetensors"));
  const model = await loadModel(join(root, "demo/teacher"));
  const stored = await readTensors(join(root, "demo/teacher/model.safetensors"));
  stored.delete("dinov2.embeddings.mask_token");
  expect(model.parameters).toBe([...stored.values()].reduce((sum, { data }) => sum + data.length, 0));
  const { lastHiddenState, logits } = await model.forward(expected.get("pixel_values") as never);
  const [images, tokens, width] = lastHiddenState.dims;
  const classToken = new Float32Array(images * width);
  for (let i = 0; i < images; i++) {
    classToken.set(lastHiddenState.data.subarray(i * tokens * width, i * tokens * width + width), i * width);
  }
  // Tolerances as demo/expected.json states them: 1e-3 of the largest entry.
  expectClose(
    { type: "float32", dims: [images, width], data: classToken },
    expected.get("class_token"),
    1e-3,
    "class token",
  );
  expectClose(logits, expected.get("logits"), 1e-3, "logits");
  await model.dispose();
});

describe("the same weights in other wrappers", () => {
  test.each([
    ["PyTorch's format before 1.6, with module. in front", "legacy.pth", "timm-vit"],
    ["DINO's training checkpoint: the teacher's backbone", "dino.pth", "timm-vit"],
    ["DINOv2's own names, in chunks of blocks", "dinov2.pth", "timm-vit-reg"],
    ["a tensor that is not contiguous, beside an optimizer", "strided.pth", "timm-vit"],
  ])("%s", async (_, file, name) => {
    const expected = await readReference(`teachers/${name}/expected.safetensors`);
    const warnings: string[] = [];
    const model = await loadModel(referencePath(`torch/${file}`), {
      numHeads: 4,
      warn: (message) => warnings.push(message),
    });
    const { lastHiddenState } = await model.forward(expected.get("input") as FloatTensor);
    expectClose(lastHiddenState, expected.get("normed"), tolerance, file);
    expect(warnings.join("\n")).toContain("is read as timm by its weights' names and shapes");
    await model.dispose();
  });

  test("shards with an index, and .bin beside config.json", async () => {
    const folder = await mkdtemp(join(tmpdir(), "wecolora-shards-"));
    const source = referencePath("teachers/hf-dinov2");
    try {
      const tensors = [...(await readTensors(join(source, "model.safetensors")))];
      const map: Record<string, string> = {};
      for (const part of [0, 1]) {
        const shard = new Map(tensors.filter((_, i) => i % 2 === part));
        const name = `model-0000${part + 1}-of-00002.safetensors`;
        await nodeDirectory(folder).write(name, writeSafetensors(shard));
        for (const key of shard.keys()) map[key] = name;
      }
      await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map: map }));
      await copyFile(join(source, "config.json"), join(folder, "config.json"));
      const expected = await readReference("teachers/hf-dinov2/expected.safetensors");
      const sharded = await loadModel(folder);
      const { lastHiddenState } = await sharded.forward(expected.get("input") as FloatTensor);
      expectClose(lastHiddenState, expected.get("last_hidden_state"), tolerance, "shards");
      const bin = join(folder, "bin");
      await mkdir(bin);
      await copyFile(referencePath("teachers/timm-vit/model.pth"), join(bin, "pytorch_model.bin"));
      await copyFile(referencePath("teachers/timm-vit/config.json"), join(bin, "config.json"));
      expect((await loadModel(bin)).config).toMatchObject({ depth: 6, heads: 4 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("bfloat16 is written and read", async () => {
    const folder = await mkdtemp(join(tmpdir(), "wecolora-bfloat-"));
    try {
      const model = await loadModel(referencePath("teachers/hf-vit"));
      await saveModel(model, folder, { weightType: "bfloat16" });
      const again = await loadModel(folder);
      expect(again.origin.weightType).toBe("bfloat16");
      const input = (await readReference("teachers/hf-vit/expected.safetensors")).get("input") as FloatTensor;
      // Eight bits of each weight.
      expectClose((await again.forward(input)).pooled, (await model.forward(input)).pooled, 4e-2, "features");
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("missing, misshapen and unexpected weights are named, with the layout", async () => {
    const folder = await mkdtemp(join(tmpdir(), "wecolora-wrong-"));
    try {
      const source = referencePath("teachers/hf-dinov2");
      const tensors = await readTensors(join(source, "model.safetensors"));
      tensors.delete("encoder.layer.2.mlp.fc1.bias");
      tensors.set("encoder.layer.3.norm1.weight", { type: "float32", dims: [7], data: new Float32Array(7) });
      tensors.set("encoder.layer.0.extra.weight", { type: "float32", dims: [2, 2], data: new Float32Array(4) });
      await nodeDirectory(folder).write("model.safetensors", writeSafetensors(tensors));
      await copyFile(join(source, "config.json"), join(folder, "config.json"));
      const loading = loadModel(folder);
      await expect(loading).rejects.toThrow("read as Hugging Face DINOv2");
      await expect(loading).rejects.toThrow("missing: encoder.layer.2.mlp.fc1.bias [128]");
      await expect(loading).rejects.toThrow("encoder.layer.3.norm1.weight [7] (needs [32])");
      await expect(loading).rejects.toThrow("unexpected: encoder.layer.0.extra.weight [2, 2]");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
