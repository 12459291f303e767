// ONNX teachers of the kinds that exporters and converters write: read with the features that ONNX Runtime computes for the file,
// or refused by name. Fixtures: tests/reference/make_onnx_kinds.py.
import { readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { createDistillation, defaultDevice, loadModel, saveModel } from "wecolora/node";
import { decodeOnnx } from "../../../src/models/onnx-import/onnx-graph.ts";
import type { ModelProto } from "../../../src/engine/onnx/onnx_pb.ts";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProtoSchema,
  TensorProto_DataLocation,
} from "../../../src/engine/onnx/onnx_pb.ts";
import { noiseImage, wecolora } from "../../support/cli.ts";
import { expectClose, readReference, referencePath } from "../../support/reference.ts";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-kinds-"));
});
afterAll(() => rm(folder, { recursive: true }));

const kindsFolder = "onnx-kinds";
const names = readdirSync(referencePath(kindsFolder))
  .filter((name) => name.endsWith(".onnx"))
  .map((name) => name.slice(0, -".onnx".length));
const pathOf = (name: string) => referencePath(`${kindsFolder}/${name}.onnx`);
async function reference(name: string) {
  const [pixels, output] = await Promise.all(
    [`${kindsFolder}/pixels`, `${kindsFolder}/${name}`].map((file) => readReference(`${file}.safetensors`)),
  );
  return { pixels: pixels.get("pixels") as FloatTensor, output: output.get("output") as FloatTensor };
}
/** ONNX Runtime rounds to half precision between all nodes; the model that was read doesn't. */
const toleranceOf = (name: string) => (name.endsWith("half") ? 5e-3 : 1e-4);

const expected: Readonly<Record<string, object>> = {
  vit: { activation: "gelu", mlp: "plain", pooling: "class", positions: { kind: "learned" } },
  "dinov2-swiglu": { activation: "silu", mlp: "gated", layerScale: true },
  "dinov2-registers": { prefix: [{ count: 1 }, { count: 2 }] },
  dinov3: { positions: { kind: "rotary", theta: 100 }, prefix: [{ count: 1 }, { count: 2 }], heads: 2 },
  "dinov3-script": { positions: { kind: "rotary", theta: 100 } },
  "dinov3-gated": { positions: { kind: "rotary", theta: 100 }, mlp: "gated", activation: "silu" },
  "dinov3-half": { positions: { kind: "rotary", theta: 100 } },
  "dinov3-timm": { positions: { kind: "rotary", theta: 100 }, prefix: [{ count: 1 }, { count: 4 }] },
  siglip: { activation: "gelu_tanh", prefix: [], pooling: "mean" },
  "clip-pooled": { activation: "quick_gelu", preNorm: true, pooling: "class", finalNorm: "pooled" },
  "mean-pooled": { pooling: "mean", layerScale: true },
  "mean-classifier": { pooling: "mean", finalNorm: "pooled" },
};

describe.each(names.filter((name) => !name.startsWith("refused")))("%s", (name) => {
  test("is read with the size of its input, and gives ONNX Runtime's features", async () => {
    const { pixels, output } = await reference(name);
    const model = await loadModel(pathOf(name), name === "vit-any-size" ? { imageSize: 16 } : {});
    expect(model.config).toMatchObject({ imageSize: 16, patchSize: 4, depth: 2, width: 24, ...expected[name] });
    const { lastHiddenState, pooled } = await model.forward(pixels);
    if (output.dims.length === 3) expectClose(lastHiddenState, output, toleranceOf(name), "all tokens");
    else if (output.dims[1] === model.config.width) expectClose(pooled, output, toleranceOf(name), "pooled");
    await model.dispose();
  });

  test("with all its blocks kept, the application computes what the file did", async () => {
    const { pixels, output } = await reference(name);
    const model = await loadModel(pathOf(name), name === "vit-any-size" ? { imageSize: 16 } : {});
    const whole = await createDistillation(model, { method: "weight-copy", reductionFactor: 1 });
    const student = await whole.student();
    await saveModel(student, at(name), { format: "onnx" });
    const session = await defaultDevice().createSession({ model: readFileSync(at(name, "onnx/application.onnx")) });
    const { tensors } = await session.run({ feeds: { pixel_values: pixels }, fetch: ["output"] });
    expectClose(tensors.output, output, toleranceOf(name), "application");
    await session.dispose();
    await model.dispose();
  });
});

describe("refused by name", () => {
  const reasons: Readonly<Record<string, RegExp>> = {
    "refused-attention-pooled": /attention pooling/,
    "refused-eva02": /positions rotate its queries and keys in another way than DINOv3's/,
    "refused-qk-norm": /queries and keys are normalized/,
    "refused-relative": /relative positions are not supported/,
  };
  test.each(names.filter((name) => name.startsWith("refused")))("%s", async (name) => {
    const reading = loadModel(pathOf(name));
    await expect(reading).rejects.toMatchObject({ name: "UserError" });
    await expect(reading).rejects.toThrow(reasons[name]);
  });

  test("from the command line, with exit code 2", async () => {
    const outcome = await wecolora("inspect", pathOf("refused-qk-norm"));
    expect(outcome).toMatchObject({ code: 2 });
    expect(outcome.err.trim().split("\n")).toHaveLength(1);
  });
});

type Graph = NonNullable<ModelProto["graph"]>;

/** A fixture, changed. */
async function changed(name: string, kind: string, change: (graph: Graph, model: ModelProto) => void): Promise<string> {
  const model = decodeOnnx(readFileSync(pathOf(kind)), kind);
  if (!model.graph) throw new Error("no graph");
  change(model.graph, model);
  await writeFile(at(name), toBinary(ModelProtoSchema, model));
  return at(name);
}

/** Expects features of ONNX Runtime for the unchanged file. */
async function expectRead(path: string, kind: string): Promise<void> {
  const { pixels, output } = await reference(kind);
  const model = await loadModel(path);
  const { lastHiddenState } = await model.forward(pixels);
  expectClose(lastHiddenState, output, toleranceOf(kind), path);
  await model.dispose();
}

describe("the same model, written otherwise", () => {
  test.each(["vit", "dinov3-script", "vit-half"])("%s with its nodes in reverse order", async (kind) => {
    const path = await changed(`reversed-${kind}.onnx`, kind, ({ node }) => node.reverse());
    await expectRead(path, kind);
  });

  test.each(["vit", "dinov3"])("%s with Constant nodes in place of initializers", async (kind) => {
    const path = await changed(`constants-${kind}.onnx`, kind, (graph) => {
      const constants = graph.initializer.map((tensor) =>
        create(NodeProtoSchema, {
          opType: "Constant",
          output: [tensor.name],
          attribute: [create(AttributeProtoSchema, { name: "value", type: AttributeType.TENSOR, t: tensor })],
        }),
      );
      graph.node.unshift(...constants);
      graph.initializer = [];
    });
    await expectRead(path, kind);
  });

  test.each(["vit", "dinov3-half"])("%s with all constants in a file beside it, shapes too", async (kind) => {
    const parts: Uint8Array[] = [];
    let offset = 0;
    const path = await changed(`external-${kind}.onnx`, kind, (graph) => {
      for (const tensor of graph.initializer) {
        if (tensor.rawData.byteLength === 0) continue;
        const place = { location: `${kind}.data`, offset: String(offset), length: String(tensor.rawData.byteLength) };
        parts.push(tensor.rawData);
        offset += tensor.rawData.byteLength;
        tensor.rawData = new Uint8Array();
        tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
        tensor.externalData = create(TensorProtoSchema, {
          externalData: Object.entries(place).map(([key, value]) => ({ key, value })),
        }).externalData;
      }
    });
    await writeFile(at(`${kind}.data`), Buffer.concat(parts));
    await expectRead(path, kind);
  });

  test("a chain of 200,000 nodes that change nothing", async () => {
    const path = await changed("chain.onnx", "vit", (graph) => {
      const [{ name }] = graph.input;
      for (const node of graph.node) node.input = node.input.map((read) => (read === name ? "link199999" : read));
      const chain = Array.from({ length: 200_000 }, (_, i) =>
        create(NodeProtoSchema, { opType: "Identity", input: [i === 0 ? name : `link${i - 1}`], output: [`link${i}`] }),
      );
      graph.node = chain.concat(graph.node);
    });
    await expectRead(path, "vit");
  });
});

describe("the size of its images", () => {
  const preprocessor = (size: number) =>
    JSON.stringify({
      image_processor_type: "ViTImageProcessor",
      size: { height: size, width: size },
      image_mean: [0.4, 0.5, 0.6],
      image_std: [0.5, 0.5, 0.5],
    });
  async function place(name: string, kind: string, files: Readonly<Record<string, string>>): Promise<string> {
    await mkdir(at(name, "onnx"), { recursive: true });
    await copyFile(pathOf(kind), at(name, "onnx", "model.onnx"));
    for (const [file, text] of Object.entries(files)) await writeFile(at(name, file), text);
    return at(name);
  }

  test.each([
    ["config.json beside the file", { "onnx/config.json": '{"image_size": 16}' }],
    ["config.json in the parent folder", { "config.json": '{"image_size": 16}' }],
    ["its vision part", { "config.json": '{"vision_config": {"image_size": [16, 16]}}' }],
    ["The preprocessor", { "config.json": '{"image_size": null}', "preprocessor_config.json": preprocessor(16) }],
  ])("is taken from %s, where the input has none", async (what, files) => {
    const model = await loadModel(await place(what, "vit-any-size", files));
    expect(model.config.imageSize).toBe(16);
    expect(model.preprocessing.cropSize).toBe(16);
    await model.dispose();
  });

  test("is the input's own before all files, and the preprocessing follows it", async () => {
    const messages: string[] = [];
    const files = { "config.json": '{"image_size": 32}', "preprocessor_config.json": preprocessor(32) };
    const model = await loadModel(await place("fixed", "vit", files), { warn: (message) => messages.push(message) });
    expect(model.config.imageSize).toBe(16);
    expect(model.preprocessing).toMatchObject({
      cropSize: 16,
      resize: { height: 16, width: 16 },
      mean: [0.4, 0.5, 0.6],
    });
    expect(messages.join()).toMatch(/makes images of 32x32/);
    await model.dispose();
  });

  test("can be asked for, and is refused before any work where the input is fixed to another", async () => {
    const files = { "config.json": '{"image_size": 32}' };
    const model = await loadModel(await place("asked", "vit-any-size", files), { imageSize: 16 });
    expect(model.config.imageSize).toBe(16);
    await model.dispose();
    await noiseImage(at("images", "a.jpg"), 1, 0);
    const outcome = await wecolora(
      ...["features", "--model", pathOf("vit"), "--image-size", "32"],
      ...["--data", at("images"), "--out", at("never.safetensors")],
    );
    expect(outcome).toMatchObject({ code: 2 });
    expect(outcome.err.trim()).toMatch(/^wecolora: .*takes only images of 16x16, so the image size .* can't be 32\.$/);
  });

  test("is refused where config.json names none that can be", async () => {
    const path = await place("wrong", "vit-any-size", { "config.json": '{"image_size": "large"}' });
    await expect(loadModel(path)).rejects.toThrow("image_size in");
  });
});

describe("files that mean harm", () => {
  const refused = async (path: string, message: RegExp) => {
    const error = await loadModel(path).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ name: "UserError" });
    expect((error as Error).message).toMatch(message);
    // A path and a sentence, whatever the file holds.
    expect((error as Error).message.length).toBeLessThan(1000);
  };
  const longName = "n".repeat(1_000_000);

  test("a cycle is named, and long names are cut", async () => {
    const path = await changed("cycle.onnx", "vit", ({ node }) => {
      node.push(create(NodeProtoSchema, { opType: "Neg", input: ["b"], output: [longName] }));
      node.push(create(NodeProtoSchema, { opType: "Neg", input: [longName], output: ["b"] }));
    });
    await refused(path, /has a cycle through Neg/);
  });

  test("a value that nothing makes, one made twice, and an input of a long name", async () => {
    const unmade = await changed("unmade.onnx", "vit", ({ node }) => {
      node.push(create(NodeProtoSchema, { opType: "Neg", input: [longName], output: ["b"] }));
    });
    await refused(unmade, /which nothing makes/);
    const twice = await changed("twice.onnx", "vit", ({ node }) => {
      for (let i = 0; i < 2; i++) node.push(create(NodeProtoSchema, { opType: longName, output: [longName] }));
    });
    await refused(twice, /is made twice/);
    const input = await changed("input.onnx", "vit", (graph) => {
      for (let i = 0; i < 1000; i++) graph.input.push({ ...graph.input[0], name: `${longName.slice(0, 1000)}${i}` });
    });
    await refused(input, /one of images/);
  });

  test("a chain of 200,000 sums of constants, in front of the softmax", async () => {
    const path = await changed("sums.onnx", "vit", (graph) => {
      const at = graph.node.findIndex(({ opType }) => opType === "Softmax");
      const [name] = graph.node[at].input;
      const zero = graph.initializer.find(({ dims, dataType }) => dims.length === 0 && dataType === 1);
      if (!zero) throw new Error("no number");
      const sums = Array.from({ length: 200_000 }, (_, i) =>
        create(NodeProtoSchema, {
          opType: "Add",
          input: [i === 0 ? name : `sum${i - 1}`, zero.name],
          output: [`sum${i}`],
        }),
      );
      graph.node[at].input = ["sum199999"];
      graph.node = graph.node.slice(0, at).concat(sums, graph.node.slice(at));
    });
    await refused(path, /no vision transformer that can be recognised/);
  });

  test("graphs in one another, more nodes than memory, and dimensions beyond measure", async () => {
    const bytes = (field: number, content: Uint8Array) => {
      const length: number[] = [];
      for (let rest = content.byteLength; ; rest >>>= 7) {
        length.push((rest & 127) | (rest > 127 ? 128 : 0));
        if (rest <= 127) break;
      }
      return Buffer.concat([Buffer.from([(field << 3) | 2, ...length]), content]);
    };
    // ModelProto.graph = 7, GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6.
    let nested: Uint8Array = Buffer.alloc(0);
    for (let i = 0; i < 200; i++) nested = bytes(6, bytes(1, bytes(5, nested)));
    await writeFile(at("nested.onnx"), bytes(7, bytes(1, bytes(5, nested))));
    await refused(at("nested.onnx"), /lie in one another/);
    await writeFile(at("many.onnx"), bytes(7, Buffer.alloc(16 * 2 ** 20, Buffer.from([0x0a, 0]))));
    await refused(at("many.onnx"), /more than 1000000 nodes/);
    const huge = await changed("huge.onnx", "vit", (graph) => {
      for (const tensor of graph.initializer)
        if (tensor.dims.length === 2) tensor.dims = Array.from({ length: 100_000 }, () => 2n ** 40n);
    });
    await refused(huge, /no vision transformer|has \d+ bytes/);
    const vast = await changed("vast.onnx", "vit", (graph) => {
      const type = graph.input[0].type?.value;
      const dims = type?.case === "tensorType" ? (type.value.shape?.dim ?? []) : [];
      for (const i of [2, 3]) dims[i].value = { case: "dimValue", value: 2n ** 31n };
    });
    await refused(vast, /a shape that can't be run/);
    const empty = create(ModelProtoSchema, { graph: create(GraphProtoSchema, {}) });
    await writeFile(at("empty.onnx"), toBinary(ModelProtoSchema, empty));
    await refused(at("empty.onnx"), /holds no graph/);
  });

  test("more softmaxes than blocks can be", async () => {
    const path = await changed("softmaxes.onnx", "vit", (graph) => {
      const [{ name }] = graph.input;
      for (let i = 0; i < 20_000; i++)
        graph.node.push(create(NodeProtoSchema, { opType: "Softmax", input: [name], output: [`softmax${i}`] }));
    });
    await refused(path, /softmaxes over tokens/);
  });
});
