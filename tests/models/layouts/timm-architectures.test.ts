// Models that timm built by the name of an architecture and saved itself (tests/reference/make_timm_tiny.py --smallest):
// what shapes don't tell comes from timm's own table. The slow test runs over its whole list.
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { loadModel, saveModel } from "wecolora/node";
import { formerTimmNames, timmArchitectures } from "../../../src/models/layouts/timm-architectures.ts";
import { expectClose, readReference, readTensors, referencePath } from "../../support/reference.ts";
import { readTimmModel } from "../../support/timm-reading.ts";

const refused: Readonly<Record<string, string>> = {
  vit_base_patch16_rpn_224: "its blocks are not pre-norm with attention and MLP in sequence",
  vit_small_patch16_rope_mixed_224: "its rotary positions are learned in each block, or of more than two axes",
};

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-timm-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** A copy of a fixture with its config.json changed. */
async function changed(name: string, change: (config: Record<string, unknown>) => void): Promise<string> {
  const copy = await mkdtemp(join(folder, "model-"));
  await cp(referencePath(`timm/${name}`), copy, { recursive: true });
  const path = join(copy, "config.json");
  const config = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  change(config);
  await writeFile(path, JSON.stringify(config));
  return copy;
}

const names = (await readdir(referencePath("timm"))).sort();

describe.each(names.filter((name) => !(name in refused)))("%s", (name) => {
  test("gives timm's tokens, features and logits", async () => {
    expect(await readTimmModel(referencePath(`timm/${name}`))).toEqual({ state: "right" });
  });

  test("as published, without model_args", async () => {
    const copy = await changed(name, (config) => {
      delete config.model_args;
    });
    // Rotary positions leave no table in the weights that shows the size.
    const model = await loadModel(referencePath(`timm/${name}`));
    const { imageSize } = model.config;
    await model.dispose();
    expect(await readTimmModel(copy, { imageSize })).toEqual({ state: "right" });
  });

  test("saved for timm and read again", async () => {
    const model = await loadModel(referencePath(`timm/${name}`));
    const out = await mkdtemp(join(folder, "saved-"));
    await saveModel(model, out, { format: "timm", weightType: "float32" });
    const again = await loadModel(out);
    const input = (await readTensors(referencePath(`timm/${name}/expected.safetensors`))).get("input") as FloatTensor;
    expectClose((await again.forward(input)).pooled, (await model.forward(input)).pooled, 2e-6, name);
    const safetensors = await mkdtemp(join(folder, "own-"));
    await saveModel(model, safetensors, { format: "safetensors" });
    const loaded = await loadModel(safetensors);
    expect(loaded.config).toEqual(model.config);
    for (const each of [model, again, loaded]) await each.dispose();
  });
});

test.each(Object.entries(refused))("%s is refused by its name", async (name, reason) => {
  const loading = loadModel(referencePath(`timm/${name}`));
  await expect(loading).rejects.toThrow(`names the architecture ${name} of timm, which can't be read here: ${reason}.`);
});

test("DINOv3 of transformers saved for timm has the same function", async () => {
  for (const name of ["more-hf-dinov3", "more-hf-dinov3-gated"]) {
    const expected = await readReference(`teachers/${name}/expected.safetensors`);
    const model = await loadModel(referencePath(`teachers/${name}`));
    const out = await mkdtemp(join(folder, "dinov3-"));
    await saveModel(model, out, { format: "timm", weightType: "float32" });
    const again = await loadModel(out);
    expect(again.origin.layout).toBe("timm's Eva");
    const { lastHiddenState } = await again.forward(expected.get("input") as FloatTensor);
    expectClose(lastHiddenState, expected.get("last_hidden_state"), 1e-4, name);
    await model.dispose();
    await again.dispose();
  }
});

test("rotary positions other than DINOv3's are no Hugging Face model", async () => {
  const model = await loadModel(referencePath("timm/vit_pe_core_base_patch16_224"));
  await expect(saveModel(model, join(folder, "none"), { format: "huggingface" })).rejects.toThrow(/No layout of/);
  await model.dispose();
});

test("a Perception Encoder without its config.json is refused, never read as a plain ViT", async () => {
  for (const name of ["vit_pe_core_base_patch16_224", "vit_pe_spatial_tiny_patch16_512"]) {
    const file = referencePath(`timm/${name}/model.safetensors`);
    const bare = await mkdtemp(join(folder, "bare-"));
    await cp(file, join(bare, "model.safetensors"));
    await expect(loadModel(bare, { numHeads: 3 })).rejects.toThrow("has the weights of a Perception Encoder");
  }
});

test("an architecture that only its owner registers is saved under one that timm has", async () => {
  const model = await loadModel(referencePath("teachers/timm-vit"));
  const out = await mkdtemp(join(folder, "renamed-"));
  await saveModel(model, out, { format: "timm" });
  const { architecture } = JSON.parse(await readFile(join(out, "config.json"), "utf8")) as { architecture: string };
  expect(architecture).toBe("vit_base_patch16_224");
  expect((await loadModel(out)).config).toEqual(model.config);
  await model.dispose();
});

describe("model_args stand over the table", () => {
  test("the number of heads", async () => {
    const copy = await changed("vit_small_patch16_rope_ape_224", (config) => {
      (config.model_args as Record<string, unknown>).num_heads = 3;
    });
    const model = await loadModel(copy);
    expect(model.config.heads).toBe(3);
    await model.dispose();
  });

  test.each([
    ["qk_norm", true, "it norms queries and keys"],
    ["norm_layer", "rmsnorm", "its norms are not layer norms"],
    ["rope_type", "mixed", "its rotary positions are learned in each block"],
    ["img_size", [32, 64], "its images are not square"],
  ])("%s %o is refused", async (key, value, reason) => {
    const copy = await changed("vit_small_patch16_dinov3", (config) => {
      (config.model_args as Record<string, unknown>)[key] = value;
    });
    await expect(loadModel(copy)).rejects.toThrow(reason);
  });

  test("a pooling that is not computed here is refused", async () => {
    const copy = await changed("test_vit3", (config) => {
      (config.model_args as Record<string, unknown>).global_pool = "avgmax";
    });
    await expect(loadModel(copy)).rejects.toThrow('names the pooling "avgmax"; supported are token, avg and map.');
  });
});

describe("names of architectures", () => {
  test.each(["vit_pe_next_base_patch16_224", "swin_base_patch4_window7_224"])(
    "%s, which the table lacks, is refused",
    async (architecture) => {
      const copy = await changed("test_vit3", (config) => {
        config.architecture = architecture;
      });
      await expect(loadModel(copy)).rejects.toThrow(`names the architecture ${architecture}, which is not`);
    },
  );

  test("a tag behind a dot and a former name lead to today's entry", async () => {
    for (const architecture of ["vit_base_patch32_clip_quickgelu_224.openai", "vit_base_patch32_clip_quickgelu_224"]) {
      const copy = await changed("vit_base_patch32_clip_quickgelu_224", (config) => {
        config.architecture = architecture;
      });
      expect(await readTimmModel(copy)).toEqual({ state: "right" });
    }
    for (const name of Object.values(formerTimmNames)) expect(timmArchitectures).toHaveProperty(name);
  });
});

test("the table's heads, where width / 64 is another number", () => {
  // 896 / 64 = 14, 1536 / 64 = 24, 1152 / 64 = 18: the last is read as 16.
  expect(timmArchitectures.vit_so150m_patch16_reg4_gap_256[1]).toMatchObject({ num_heads: 14 });
  expect(timmArchitectures.vit_giant_patch16_radio_v3[1]).toMatchObject({ num_heads: 24 });
  expect(timmArchitectures.vit_so400m_patch14_siglip_224[1]).toMatchObject({ num_heads: 16 });
});
