// Teachers out of ONNX files, exported by PyTorch's older and newer exporter: found by structure, proved by what they
// compute, and put back into their applications.
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor, ModelDefinition } from "wecolora/node";
import {
  analyticDefaults,
  analyticStart,
  copyBlocks,
  createDistillation,
  defaultDevice,
  loadModel,
  Model,
  saveModel,
} from "wecolora/node";
import { withChannels, withHeads } from "../../../src/students/closed-form/narrowing.ts";
import { defaultFormat } from "../../../src/exports/save.ts";
import { decodeOnnx } from "../../../src/models/onnx-import/onnx-graph.ts";
import { GraphProtoSchema, ModelProtoSchema, NodeProtoSchema } from "../../../src/engine/onnx/onnx_pb.ts";
import { distillArguments, noiseImage, wecolora } from "../../support/cli.ts";
import { noise } from "../../support/noise.ts";
import { expectClose, readReference, referencePath } from "../../support/reference.ts";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-onnx-"));
});
afterAll(() => rm(folder, { recursive: true }));

const files = readdirSync(referencePath("onnx")).filter((name) => name.endsWith(".onnx"));

async function runFile(path: string, pixels: FloatTensor, external: readonly string[] = []): Promise<FloatTensor> {
  const session = await defaultDevice().createSession({
    model: readFileSync(path),
    externalData: external.map((name) => ({ location: name, chunks: [readFileSync(join(path, "..", name))] })),
  });
  const { tensors } = await session.run({ feeds: { pixel_values: pixels }, fetch: ["output"] });
  await session.dispose();
  return tensors.output as FloatTensor;
}

describe.each(files)("%s", (file) => {
  const kind = file.split(".")[0];
  const path = referencePath(`onnx/${file}`);
  const read = async () => readReference(`onnx/${kind}.expected.safetensors`);

  test("is read, and gives PyTorch's features", async () => {
    const expected = await read();
    const model = await loadModel(path, { imageSize: 32 });
    expect(model.config).toMatchObject({
      depth: 4,
      width: 48,
      ...(kind === "fewer" ? { heads: 2, headWidth: 16 } : { heads: 3 }),
      patchSize: 8,
      mlpWidth: ["dinov2", "plain"].includes(kind) ? 192 : 96,
      activation: kind === "clip" ? "quick_gelu" : "gelu",
      layerScale: kind === "dinov2",
      preNorm: kind === "clip",
      normEpsilon: expect.closeTo(kind === "clip" ? 1e-5 : ["dinov2", "plain"].includes(kind) ? 1e-6 : 1e-12, 9),
    });
    const { lastHiddenState } = await model.forward(expected.get("input") as FloatTensor);
    if (["vit", "dinov2", "clip", "fewer"].includes(kind))
      expectClose(lastHiddenState, expected.get("output"), 1e-4, "features");
    await model.dispose();
  });

  test("with all its blocks kept, the application computes what it did; with half of them, it is smaller and runs", async () => {
    const expected = await read();
    const input = expected.get("input") as FloatTensor;
    const model = await loadModel(path, { imageSize: 32 });
    const whole = await createDistillation(model, { method: "weight-copy", reductionFactor: 1 });
    await saveModel(await whole.student(), at(file, "whole"), { format: "onnx" });
    expectClose(
      await runFile(at(file, "whole/onnx/application.onnx"), input),
      expected.get("output"),
      1e-4,
      "application",
    );
    const half = await createDistillation(model, {
      reductionFactor: 2,
      rank: 2,
      schedule: { kind: "cosine", warmupEpochs: 0 },
    });
    await half.step([input]);
    const small = await half.student();
    // CLIP's and the depth model's files hold no final norm, for which transformers has no class.
    await saveModel(small, at(file, "half"), { format: defaultFormat(small) });
    const application = readFileSync(at(file, "half/onnx/application.onnx"));
    expect(application.byteLength).toBeLessThan(0.7 * readFileSync(path).byteLength);
    const shrunk = await runFile(at(file, "half/onnx/application.onnx"), input);
    expect(shrunk.dims).toEqual(expected.get("output")?.dims);
    // The student's directory is a model of its own.
    const student = await loadModel(at(file, "half"));
    expect(student.config.depth).toBe(2);
    await student.dispose();
    await model.dispose();
  });
});

describe("refuses, and says why", () => {
  const changed = async (name: string, change: (model: ReturnType<typeof decodeOnnx>) => unknown): Promise<string> => {
    const model = decodeOnnx(readFileSync(referencePath("onnx/vit.new.onnx")), "x");
    change(model);
    await writeFile(at(name), toBinary(ModelProtoSchema, model));
    return at(name);
  };
  const nodesOf = (model: ReturnType<typeof decodeOnnx>) => (model.graph as NonNullable<typeof model.graph>).node;

  test("a cyclic graph", async () => {
    const path = await changed("cyclic.onnx", (model) => {
      const norms = nodesOf(model).filter(({ opType }) => opType === "LayerNormalization");
      norms[0].input[0] = norms[norms.length - 1].output[0];
    });
    await expect(loadModel(path, { imageSize: 32 })).rejects.toThrow("has a cycle through");
  });

  test("another function behind the same structure", async () => {
    const path = await changed("other.onnx", (model) => {
      // Tokens are added to the first block's twice: all maps are where they were.
      const nodes = nodesOf(model);
      const at = nodes.findIndex(({ opType }) => opType === "Softmax");
      const softmax = nodes[at];
      const name = `${softmax.input[0]}_doubled`;
      nodes.splice(
        at,
        0,
        create(NodeProtoSchema, { opType: "Add", input: [softmax.input[0], softmax.input[0]], output: [name] }),
      );
      softmax.input[0] = name;
    });
    await expect(loadModel(path, { imageSize: 32 })).rejects.toThrow(/features differ by|no vision transformer/);
  });

  test("a fused operator, by name", async () => {
    const path = await changed("fused.onnx", (model) => {
      nodesOf(model).push(
        create(NodeProtoSchema, { opType: "MultiHeadAttention", domain: "com.microsoft", input: [], output: ["z"] }),
      );
    });
    await expect(loadModel(path, { imageSize: 32 })).rejects.toThrow("the fused operator MultiHeadAttention");
  });

  test.each([
    ["no ONNX file", Buffer.from("hello, this is no protobuf"), "is not an ONNX model"],
    ["an empty file", Buffer.alloc(0), "is not an ONNX model"],
    [
      "a model without a transformer",
      toBinary(
        ModelProtoSchema,
        create(ModelProtoSchema, {
          graph: create(GraphProtoSchema, {
            node: [create(NodeProtoSchema, { opType: "Relu", input: [], output: ["y"] })],
          }),
        }),
      ),
      "is needed",
    ],
  ])("%s", async (_, bytes, message) => {
    await writeFile(at("broken.onnx"), bytes);
    await expect(loadModel(at("broken.onnx"))).rejects.toThrow(message);
    await expect(loadModel(at("broken.onnx"))).rejects.toThrow("broken.onnx");
  });

  test("weights outside of its folder", async () => {
    const path = await changed("outside.onnx", (model) => {
      const tensor = model.graph?.initializer[5];
      if (!tensor) throw new Error("no initializer");
      tensor.dataLocation = 1;
      tensor.externalData = [{ $typeName: "onnx.StringStringEntryProto", key: "location", value: "../../etc/passwd" }];
    });
    await expect(loadModel(path, { imageSize: 32 })).rejects.toThrow("not a plain file name");
  });
});

test.each(["vit-classifier.old", "depth.old", "depth.new", "dinov2.old"])(
  "%s: an application of blocks that differ is nearer to the whole than the bare cut of the same shapes",
  async (file) => {
    const input = (await readReference(`onnx/${file.split(".")[0]}.expected.safetensors`)).get("input") as FloatTensor;
    const path = referencePath(`onnx/${file}.onnx`);
    const model = await loadModel(path, { imageSize: 32 });
    const images = Array.from({ length: 6 }, (_, i) => noise([8, 3, 32, 32], i, "pictures"));
    const { heads, mlpWidth } = model.config;
    const kept = [0, 1, 2, 3];
    const shapes = kept.map((i) => ({ heads: i === 2 ? 0 : heads, mlpWidth: i === 1 ? 0 : mlpWidth / 2 }));
    const target = await runFile(path, input);
    const difference = async (student: ModelDefinition, name: string) => {
      await saveModel(new Model(student, model.device), at(file, name), { format: "onnx" });
      const output = await runFile(at(file, name, "onnx/application.onnx"), input);
      expect(output.dims).toEqual(target.dims);
      return output.data.reduce((sum, v, i) => sum + Math.abs(v - target.data[i]), 0);
    };
    const { student } = await analyticStart(model, kept, images, { ...analyticDefaults, shapes });
    const first = Array.from({ length: mlpWidth / 2 }, (_, i) => i);
    const cut = kept.reduce(
      (made, block) => withChannels(made, block, block === 1 ? [] : first),
      withHeads(copyBlocks(model, kept), 2, []),
    );
    expect(await difference(student, "fitted")).toBeLessThan(await difference(cut, "cut"));
    await model.dispose();
  },
);

test("a whole application shrinks, from the command line", async () => {
  for (let i = 0; i < 8; i++) await noiseImage(at("pictures", `p${i}.jpg`), i, i % 3);
  const args = ["--image-size", "32", "--rank", "2", "--epochs", "1", "--warmup-epochs", "0", "--evaluate-steps", "0"];
  const outcome = await wecolora(
    ...distillArguments(referencePath("onnx/depth.old.onnx"), at("pictures"), at("run")),
    ...args,
  );
  expect(outcome).toMatchObject({ code: 0 });
  expect(readdirSync(at("run", "student", "onnx")).sort()).toEqual([
    "application.onnx",
    "model.onnx",
    "model_quantized.onnx",
  ]);
  const input = (await readReference("onnx/depth.expected.safetensors")).get("input") as FloatTensor;
  expect((await runFile(at("run", "student", "onnx", "application.onnx"), input)).dims).toEqual([2, 1, 8, 8]);
});
