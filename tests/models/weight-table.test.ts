// The table of weights against numbers counted by hand and against what names said before it existed.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { VitConfig } from "../../src/models/config.ts";
import { plainVit } from "../../src/models/config.ts";
import {
  allWeights,
  isBehindFeatures,
  splitBlockName,
  weightKind,
  weightTable,
} from "../../src/models/weight-table.ts";
import { randomWeights } from "../../src/students/starts.ts";
import { required } from "../../src/utils/required.ts";

/** timm's vit_small_patch16_224, whose parameters timm counts as 22,050,664. */
const small: VitConfig = {
  ...plainVit,
  imageSize: 224,
  patchSize: 16,
  channels: 3,
  width: 384,
  depth: 12,
  heads: 6,
  mlpWidth: 1536,
  normEpsilon: 1e-6,
  head: { classes: 1000, input: "pooled" },
};

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

describe("the table of weights", () => {
  test("has timm's 22,050,664 parameters of vit_small_patch16_224 under 152 names", () => {
    const rows = weightTable(small);
    expect(rows).toHaveLength(152);
    expect(rows.reduce((sum, { shape }) => sum + size(shape), 0)).toBe(22_050_664);
    expect(new Set(rows.map(({ name }) => name)).size).toBe(152);
  });

  test("says what each weight is", () => {
    const roles = Object.fromEntries(allWeights.map(({ name, role, part }) => [name, `${part} ${role}`]));
    expect(roles).toMatchObject({
      cls_token: "embedding token",
      pos_embed: "embedding position",
      "patch_embed.proj.weight": "embedding map",
      "norm_pre.bias": "embedding norm-bias",
      "blocks.0.norm1.weight": "block norm",
      "blocks.0.attn.qkv.bias": "block bias",
      "blocks.0.attn.mix_scores": "block mixing",
      "blocks.0.ls1.gamma": "block scale",
      "norm.weight": "norm norm",
      "attn_pool.norm.weight": "pooling norm",
      "pooler.dense.weight": "pooling map",
      "projection.weight": "projection map",
      "head_dist.bias": "head bias",
    });
  });

  test("agrees with what the names say, for every weight that there is", () => {
    for (const { name, role, part, shape } of allWeights) {
      expect(role === "norm" || role === "scale", name).toBe(/norm\w*\.weight$|gamma$/.test(name));
      expect(role === "bias" || role === "norm-bias", name).toBe(name.endsWith(".bias"));
      expect(isBehindFeatures(name), name).toBe(/^(head|head_dist|pooler|projection|attn_pool)\./.test(name));
      expect(part === "embedding", name).toBe(
        /^(cls_token|dist_token|reg_token|pos_embed|patch_embed|norm_pre)/.test(name),
      );
      expect(role === "map" ? shape.length >= 2 : true, name).toBe(true);
    }
  });

  test("knows the weights of every block, and none by a name that is not a weight's", () => {
    expect(weightKind("blocks.11.mlp.fc1.weight")).toMatchObject({ role: "map", part: "block" });
    for (const name of ["mlp.fc1.weight", "blocks.0.cls_token", "blocks.0.attn.qkv.A", "decoder.norm.weight"])
      expect(weightKind(name), name).toBeUndefined();
    expect(splitBlockName("blocks.10.attn.qkv.A")).toEqual({ block: 10, inBlock: "attn.qkv.A" });
    expect(splitBlockName("norm.weight")).toBeUndefined();
  });

  test("decides how random weights begin", () => {
    const weights = randomWeights({ ...small, depth: 1, layerScale: true }, 3);
    const of = (name: string) => [...required(weights, name).data];
    expect(new Set(of("blocks.0.norm2.weight"))).toEqual(new Set([1]));
    expect(new Set(of("blocks.0.ls2.gamma"))).toEqual(new Set([1]));
    expect(new Set([...of("blocks.0.norm2.bias"), ...of("head.bias")])).toEqual(new Set([0]));
    const map = of("blocks.0.mlp.fc1.weight");
    // A normal of deviation 0.02, clamped at two deviations.
    expect(Math.sqrt(map.reduce((sum, v) => sum + v * v, 0) / map.length)).toBeCloseTo(0.0192, 3);
    expect(map.every((value) => Math.abs(value) < 0.0401)).toBe(true);
  });
});

describe("types", () => {
  test("required gives what is there and names what is not", () => {
    expect(required(new Map([["a", 0]]), "a")).toBe(0);
    expect(() => required(new Map<string, number>(), "b")).toThrow("no entry b");
  });

  test("nothing in the source is cast through unknown or asserted from a map", () => {
    const root = new URL("../../src/", import.meta.url);
    const files = readdirSync(root, { recursive: true, encoding: "utf8" });
    expect(files.length).toBeGreaterThan(100);
    const castsOf = (pattern: RegExp) =>
      files.filter((file) => file.endsWith(".ts") && pattern.test(readFileSync(new URL(file, root), "utf8")));
    expect(castsOf(/\bas unknown as\b/)).toEqual([]);
    expect(castsOf(/\.get\([^()]*\) as (?!unknown|[\w<>]+ \| undefined)/)).toEqual([]);
  });
});
