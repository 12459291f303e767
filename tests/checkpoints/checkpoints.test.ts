// Weights as training scripts save them (tests/reference/make_checkpoints.py): whatever lies beside, around or in front of
// them, they give timm's and transformers' features.
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { loadModel, nodeDirectory } from "wecolora/node";
import { openTorchFile } from "../../src/checkpoints/torch.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import { readTensor } from "../../src/files/storage.ts";
import type { Tensor } from "../../src/utils/tensor.ts";
import { rows } from "../../src/utils/tensor.ts";
import { expectClose, readJson, readReference, readTensors, referencePath } from "../support/reference.ts";

/** Of the largest feature in float32: summation orders differ. */
const tolerance = 1e-4;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-checkpoints-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

const checkpointPath = (name: string) => referencePath(`checkpoints/${name}`);

/** Features of the model at a path against those that timm gave for the weights in all of these files; the warnings. */
async function expectTimmFeatures(path: string): Promise<string> {
  const expected = await readReference("checkpoints/expected.safetensors");
  const warnings: string[] = [];
  const model = await loadModel(path, { warn: (message) => warnings.push(message) });
  const { lastHiddenState } = await model.forward(expected.get("input") as FloatTensor);
  await model.dispose();
  expectClose(lastHiddenState, expected.get("normed"), tolerance, path);
  return warnings.join("\n");
}

async function tinyWeights(): Promise<Map<string, Tensor>> {
  const file = await nodeDirectory(checkpointPath("")).open("dict-subclass.pth");
  if (!file) throw new Error("no dict-subclass.pth");
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of await openTorchFile(file))
    if (tensor.type !== undefined) tensors.set(name.replace(/^model\./, ""), await readTensor(tensor));
  await file.close();
  return tensors;
}

async function writeFolder(name: string, tensors: ReadonlyMap<string, Tensor>): Promise<string> {
  await nodeDirectory(join(folder, name)).write("model.safetensors", writeSafetensors(tensors));
  return join(folder, name);
}

describe("beside the weights", () => {
  test.each([
    ["Python's own objects", "beside-python.pth"],
    ["NumPy's arrays, scalars and generators", "beside-numpy.pth"],
    ["PyTorch's sizes, types, devices and storages", "beside-torch.pth"],
    ["tensors of all other types", "beside-types.pth"],
    ["sparse, quantized, nested, meta and expanded tensors", "beside-tensors.pth"],
    ["objects of classes that are not known here", "beside-classes.pth"],
    ["protocol 3", "protocol-3.pth"],
    ["protocol 4", "protocol-4.pth"],
    ["protocol 5", "protocol-5.pth"],
    ["storages in lists, in PyTorch's format before 1.6", "old-lists.pth"],
    ["protocol 4 in PyTorch's format before 1.6", "old-protocol-4.pth"],
    ["a whole module with its class", "whole-module.pth"],
    ["dictionaries of a class that is not known here", "dict-subclass.pth"],
    ["a list of models", "list-of-models.pth"],
    ["a loose number, and module. in front of all names", "best-acc1.pth"],
    ["loose tensors in front", "loss-first.pth"],
    ["an optimizer in front", "optimizer-first.pth"],
    ["Lightning", "lightning.ckpt"],
    ["DeepSpeed", "mp_rank_00_model_states.pt"],
  ])("%s", async (_, name) => {
    const warnings = await expectTimmFeatures(checkpointPath(name));
    expect(warnings).not.toContain("several vision transformers");
    // States of optimizers, counts and losses are not called weights.
    expect(warnings).not.toMatch(/exp_avg|best_acc1|rng/);
  });

  test.each([
    ["timm-ema.pth.tar", "state_dict_ema", "state_dict"],
    ["model-ema.pth", "model_ema", "model"],
    ["student-teacher.pth", "teacher.backbone", "student.backbone"],
  ])("%s: the average is read, and said so", async (name, read, other) => {
    const warnings = await expectTimmFeatures(checkpointPath(name));
    expect(warnings).toContain(`${name} holds several vision transformers: ${read} is read`);
    expect(warnings).toMatch(new RegExp(`not read: ${other}$`, "m"));
  });
});

describe("wrappers inside of names", () => {
  const wrapped: readonly (readonly [string, (name: string) => string])[] = [
    ["torch.compile of the model", (name) => `_orig_mod.${name}`],
    ["torch.compile of each block", (name) => name.replace(/^(blocks\.\d+\.)/, "$1_orig_mod.")],
    ["activation checkpointing", (name) => name.replace(/^(blocks\.\d+\.)/, "$1_checkpoint_wrapped_module.")],
    ["FSDP", (name) => name.replace(/^(blocks\.\d+\.)/, "_fsdp_wrapped_module.$1_fsdp_wrapped_module.")],
    ["data parallelism of parts", (name) => name.replace(/^(blocks\.\d+\.attn\.)/, "module.$1module.")],
    ["several", (name) => `model._orig_mod.module.${name.replace("mlp.", "mlp._orig_mod._fsdp_wrapped_module.")}`],
    ["Lightning Fabric", (name) => `_forward_module.module.backbone.${name}`],
  ];
  test.each(wrapped)("%s", async (kind, wrap) => {
    const tensors = new Map([...(await tinyWeights())].map(([name, tensor]) => [wrap(name), tensor]));
    expect([...tensors.keys()]).not.toEqual([...(await tinyWeights()).keys()]);
    await expectTimmFeatures(await writeFolder(`wrapped ${kind}`, tensors));
  });

  test("names that become one without their wrappers are refused, not mixed", async () => {
    const weights = await tinyWeights();
    const ones = (tensor: Tensor): Tensor => ({ ...tensor, data: new Float32Array(tensor.data.length).fill(1) });
    const both = new Map([
      ...[...weights].map(([name, tensor]) => [`ema.${name}`, tensor] as const),
      ...[...weights].map(([name, tensor]) => [`ema.module.${name}`, ones(tensor)] as const),
    ]);
    // Which of them is the model, no one can tell.
    await expect(loadModel(await writeFolder("both", both))).rejects.toThrow(
      "unexpected: ema.module.cls_token [1, 1, 8]",
    );
  });
});

describe("folders", () => {
  test.each([
    ["last.ckpt", "lightning.ckpt"],
    ["checkpoint.pth.tar", "timm-ema.pth.tar"],
    ["weights.pt", "protocol-4.pth"],
    ["epoch_3.bin", "protocol-4.pth"],
  ])("only %s", async (name, source) => {
    const here = join(folder, `only-${name}`);
    await mkdir(here);
    await cp(checkpointPath(source), join(here, name));
    for (const neighbour of [
      "optimizer.pt",
      "scheduler.bin",
      "rng_state_0.pth",
      "scaler.pt",
      "zero_pp_rank_0_mp_rank_00_optim_states.pt",
    ])
      await writeFile(join(here, neighbour), "no weights");
    await expectTimmFeatures(here);
  });

  test("DeepSpeed's, where `latest` names the folder", async () => {
    const here = join(folder, "deepspeed");
    await mkdir(join(here, "global_step7"), { recursive: true });
    await cp(checkpointPath("mp_rank_00_model_states.pt"), join(here, "global_step7", "mp_rank_00_model_states.pt"));
    await writeFile(join(here, "latest"), "global_step7\n");
    await expectTimmFeatures(here);
    await writeFile(join(here, "latest"), "../deepspeed/global_step7");
    await expect(loadModel(here)).rejects.toThrow("There are no weights in");
  });

  test("several candidates are listed", async () => {
    const here = join(folder, "several");
    await mkdir(here);
    for (const name of ["epoch=1.ckpt", "last.ckpt", "best.pth.tar"]) await writeFile(join(here, name), "");
    await expect(loadModel(here)).rejects.toThrow(
      "holds several files of weights (best.pth.tar, epoch=1.ckpt, last.ckpt); name the one to read",
    );
  });
});

describe("transformers 5's names in memory", () => {
  const { names } = readJson<{ names: Record<string, Record<string, [name: string, from: number, to: number]>> }>(
    "memory-names.json",
  );
  test("all families that differ are here", () => {
    const families = Object.entries(names).filter(([, ownNames]) =>
      Object.entries(ownNames).some(([name, [old]]) => name !== old),
    );
    expect(families.length).toBeGreaterThanOrEqual(11);
  });

  test.each(Object.keys(names))("%s", async (teacher) => {
    const source = referencePath(`teachers/${teacher}`);
    const published = await readTensors(join(source, "model.safetensors"));
    const inMemory = new Map<string, Tensor>();
    for (const [name, [old, from, to]] of Object.entries(names[teacher])) {
      const tensor = published.get(old) as FloatTensor;
      const isPart = tensor.dims.length > 0 && to - from < tensor.dims[0];
      inMemory.set(name, isPart ? { ...rows(tensor, from, to), dims: [to - from, ...tensor.dims.slice(1)] } : tensor);
    }
    for (const prefix of ["", "model."]) {
      const here = await writeFolder(
        `memory-${teacher}${prefix}`,
        new Map([...inMemory].map(([name, tensor]) => [prefix + name, tensor])),
      );
      await cp(join(source, "config.json"), join(here, "config.json"));
      const expected = await readReference(`teachers/${teacher}/expected.safetensors`);
      const model = await loadModel(here);
      const { hiddenStates, lastHiddenState } = await model.forward(expected.get("input") as FloatTensor, {
        hiddenStates: true,
      });
      const last = `hidden_states.${model.config.depth}`;
      expectClose(hiddenStates?.at(-1), expected.get(last), tolerance, last);
      if (expected.has("last_hidden_state"))
        expectClose(lastHiddenState, expected.get("last_hidden_state"), tolerance, "last_hidden_state");
      await model.dispose();
    }
  });
});

describe("types that nothing here computes with", () => {
  /** A safetensors file in which entries have been added or changed. */
  async function withTypes(
    name: string,
    change: (header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>) => number,
  ) {
    const bytes = Buffer.concat(writeSafetensors(await tinyWeights()));
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
    const more = change(header);
    const text = Buffer.from(JSON.stringify(header));
    const front = Buffer.alloc(8);
    front.writeBigUInt64LE(BigInt(text.length));
    await mkdir(join(folder, name));
    await writeFile(
      join(folder, name, "model.safetensors"),
      Buffer.concat([front, text, bytes.subarray(8 + length), Buffer.alloc(more)]),
    );
    return join(folder, name);
  }
  const end = (header: Record<string, { data_offsets: number[] }>) =>
    Math.max(...Object.values(header).map(({ data_offsets }) => data_offsets[1]));

  test.each([
    ["I16", 16],
    ["U16", 16],
    ["U32", 32],
    ["U64", 64],
    ["C64", 64],
    ["F8_E4M3", 8],
    ["F8_E5M2", 8],
    ["F8_E8M0", 8],
    ["F4", 4],
    ["F6_E2M3", 6],
    ["BOOL", 8],
    ["F3_OF_TOMORROW", 3],
  ])("safetensors: %s beside the weights", async (dtype, bits) => {
    const path = await withTypes(`beside-${dtype}`, (header) => {
      const from = end(header);
      header["quantizer.idx"] = { dtype, shape: [2, 4], data_offsets: [from, from + bits] };
      return bits;
    });
    // A truth value could be a mask in the forward pass.
    if (dtype === "BOOL") await expect(loadModel(path)).rejects.toThrow("unexpected: quantizer.idx [2, 4]");
    else expect(await expectTimmFeatures(path)).toContain(`not used: quantizer.idx (holds ${dtype})`);
  });

  test.each(["F8_E4M3", "U8", "I8"])("safetensors: %s where a weight is needed", async (dtype) => {
    const path = await withTypes(`needed-${dtype}`, (header) => {
      const entry = header["blocks.0.attn.proj.weight"];
      header["blocks.0.attn.proj.weight"] = { ...entry, dtype, shape: [4 * entry.shape[0], entry.shape[1]] };
      return 0;
    });
    await expect(loadModel(path)).rejects.toThrow(
      /needed, but .*: blocks\.0\.attn\.proj\.weight holds (F8_E4M3|uint8|int8)/,
    );
  });

  test("a wrong size of such a type is still a damaged file", async () => {
    const path = await withTypes("wrong-size", (header) => {
      const from = end(header);
      header.idx = { dtype: "U16", shape: [3], data_offsets: [from, from + 8] };
      return 8;
    });
    await expect(loadModel(path)).rejects.toThrow("idx takes 6 bytes as U16 [3], but its offsets say 8");
  });

  test("PyTorch: a needed weight is refused by name and type", async () => {
    const types = await openTorchTensors("beside-types.pth");
    expect(types.get("extra uint16")).toMatchObject({ type: undefined, dims: [3], problem: "holds uint16" });
    expect(types.get("extra float8_e4m3fn")).toMatchObject({ problem: "holds float8_e4m3fn" });
    expect(types.get("extra complex64")).toMatchObject({ problem: "holds complex64" });
    const kinds = await openTorchTensors("beside-tensors.pth");
    expect(kinds.get("extra sparse")).toMatchObject({ dims: [3, 3], problem: "holds sparse numbers" });
    expect(kinds.get("extra quantized")).toMatchObject({ dims: [3], problem: "holds quantized numbers" });
    expect(kinds.get("extra parameter with state")).toMatchObject({ type: "float32", dims: [2] });
  });
});

async function openTorchTensors(name: string) {
  const file = await nodeDirectory(checkpointPath("")).open(name);
  if (!file) throw new Error(`no ${name}`);
  const tensors = await openTorchFile(file);
  await file.close();
  return tensors;
}

describe("null in config.json stands for what is left out", () => {
  const fields = [
    "image_size",
    "head_dim",
    "patch_size",
    "num_channels",
    "hidden_act",
    "layer_norm_eps",
    "qkv_bias",
    "intermediate_size",
    "hidden_size",
    "num_hidden_layers",
    "id2label",
    "vision_config",
    "num_register_tokens",
    "mlp_ratio",
    "use_swiglu_ffn",
  ];
  test.each(["hf-vit", "hf-dinov2", "hf-clip-vision", "more-hf-siglip", "more-hf-dinov3-no-registers"])(
    "%s",
    async (teacher) => {
      const source = referencePath(`teachers/${teacher}`);
      const config = JSON.parse(await readFile(join(source, "config.json"), "utf8")) as Record<string, unknown>;
      const expected = await readReference(`teachers/${teacher}/expected.safetensors`);
      for (const field of fields) {
        // Where leaving out means another value than the model's, null does too.
        const withNull = { ...config, [field]: null };
        const without = Object.fromEntries(Object.entries(config).filter(([key]) => key !== field));
        const results = [];
        for (const [i, ownNames] of [withNull, without].entries()) {
          const here = join(folder, `null-${teacher}-${field}-${i}`);
          await mkdir(here);
          await cp(join(source, "model.safetensors"), join(here, "model.safetensors"));
          await writeFile(join(here, "config.json"), JSON.stringify(ownNames));
          const model = await loadModel(here).catch((error: Error) => error);
          results.push(model instanceof Error ? model.message.replace(here, "") : model.config);
          if (!(model instanceof Error) && field === "head_dim") {
            const { lastHiddenState } = await model.forward(expected.get("input") as FloatTensor);
            expectClose(lastHiddenState, expected.get("last_hidden_state"), tolerance, `${teacher} ${field}`);
          }
          if (!(model instanceof Error)) await model.dispose();
        }
        expect(results[0], field).toEqual(results[1]);
      }
    },
  );
});

test("every file of tests/reference/checkpoints is read by a test", async () => {
  const source = await readFile(new URL(import.meta.url), "utf8");
  for (const name of await readdir(checkpointPath(""))) expect(source).toContain(name);
});
