// A teacher out of an ONNX file: its weights found by structure, its embedding read off what it computes for an empty
// picture, and the whole proved against the file itself before anyone trains with it.
import { create, toBinary } from "@bufbuild/protobuf";
import { Model } from "../model.ts";
import type { VitConfig } from "../config.ts";
import { plainVit, withHeadCount } from "../config.ts";
import type { ModelDefinition } from "../definition.ts";
import { defaultPreprocessing } from "../preprocessing.ts";
import type { ModelProto } from "../../engine/onnx/onnx_pb.ts";
import { GraphProtoSchema, ModelProtoSchema, ValueInfoProtoSchema } from "../../engine/onnx/onnx_pb.ts";
import type { Device } from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { randomStream } from "../../utils/random.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { float32, zeros } from "../../utils/tensor.ts";
import { putBehind } from "./onnx-application.ts";
import type { FoundBlock } from "./onnx-blocks.ts";
import { BlockFinder } from "./onnx-blocks.ts";
import type { ExternalFiles } from "./onnx-graph.ts";
import { OnnxGraph } from "./onnx-graph.ts";

export interface OnnxImportOptions {
  readonly imageSize?: number;
  readonly numHeads?: number;
  readonly preprocessing?: Preprocessing;
  readonly warn?: (message: string) => void;
}

/** Features of a model read rightly agree to this much of their scale: both run in float32. */
const agreement = 1e-3;

/** The file with other outputs. */
function cutAt(graph: OnnxGraph, outputs: readonly string[]): Uint8Array {
  const { model } = graph;
  const cut = create(ModelProtoSchema, {
    ...model,
    graph: create(GraphProtoSchema, {
      ...graph.graph,
      output: outputs.map((name) => create(ValueInfoProtoSchema, { name })),
    }),
  });
  return toBinary(ModelProtoSchema, cut);
}

/** The one input that takes pictures, and the size of picture that it names. */
function pictureInput(graph: OnnxGraph): { name: string; imageSize?: number; batch?: number } {
  const initializers = new Set(graph.graph.initializer.map(({ name }) => name));
  const inputs = graph.graph.input.filter(({ name }) => !initializers.has(name));
  const pictures = inputs.filter(
    ({ type }) => type?.value.case === "tensorType" && type.value.value.shape?.dim.length === 4,
  );
  if (pictures.length !== 1 || inputs.length !== 1) {
    throw new UserError(
      `${graph.file} takes the inputs ${inputs.map(({ name }) => name).join(", ") || "none"}; one of pictures [B, 3, H, W] is needed`,
    );
  }
  const [{ name, type }] = pictures;
  const dims = type?.value.case === "tensorType" ? (type.value.value.shape?.dim ?? []) : [];
  const size = (i: number) => (dims[i]?.value.case === "dimValue" ? Number(dims[i].value.value) : undefined);
  const [channels, height, width] = [size(1), size(2), size(3)];
  if (channels !== undefined && channels !== 3)
    throw new UserError(`${graph.file} takes pictures of ${channels} channels; only 3 can be read`);
  if (height !== width)
    throw new UserError(`${graph.file} takes pictures of ${width}x${height}; only squares can be read`);
  return { name, imageSize: height, batch: size(0) };
}

/**
 * Reads a model out of an ONNX file. What the file computes behind the blocks is kept with it (`origin.application`),
 * to be put behind a student. Throws a UserError where no vision transformer is found, or what is found does not
 * compute what the file does.
 */
export async function importOnnx(
  proto: ModelProto,
  file: string,
  external: ExternalFiles,
  device: Device,
  options: OnnxImportOptions = {},
): Promise<ModelDefinition> {
  const graph = new OnnxGraph(proto, file, external);
  const input = pictureInput(graph);
  const finder = new BlockFinder(graph);
  const conv = finder.patchConvolution();
  const blocks = finder.blocks();
  const preNorm = finder.norms.find(({ output }) => output === blocks[0].input);
  const last = blocks[blocks.length - 1];
  const finalNorm = finder.norms.find((norm) => norm.input === last.output);
  const imageSize = options.imageSize ?? input.imageSize ?? options.preprocessing?.cropSize ?? 224;
  if (input.imageSize !== undefined && input.imageSize !== imageSize) {
    throw new UserError(
      `${file} takes pictures of ${input.imageSize} pixels and no others, so imageSize can't be ${imageSize}`,
    );
  }
  const externalData = [...external].map(([location, bytes]) => ({ location, chunks: [bytes] }));
  const run = async (pixels: FloatTensor, names: readonly string[]) => {
    const session = await device.createSession({ model: cutAt(graph, names), externalData }).catch((error: unknown) => {
      throw new UserError(`${file} is no ONNX model that can be run: ${(error as Error).message}`, { cause: error });
    });
    try {
      const { tensors } = await session.run({ feeds: { [input.name]: pixels }, fetch: names });
      return names.map((name) => tensors[name] as FloatTensor);
    } catch (error) {
      throw new UserError(`${file} can't be run on pictures [${pixels.dims.join(", ")}]: ${(error as Error).message}`, {
        cause: error,
      });
    } finally {
      await session.dispose();
    }
  };
  const batch = input.batch ?? 1;
  const empty = zeros([batch, 3, imageSize, imageSize]);
  const [embedded] = await run(empty, [preNorm?.input ?? blocks[0].input]);
  const width = blocks[0].norm1.weight.dims[0];
  if (embedded.dims.length !== 3 || embedded.dims[2] !== width) {
    throw new UserError(
      `${file}: tokens enter the first block as [${embedded.dims.join(", ")}], not as [B, N, ${width}]`,
    );
  }
  const patches = Math.floor(imageSize / conv.patch) ** 2;
  const front = embedded.dims[1] - patches;
  if (front < 0)
    throw new UserError(
      `${file} makes ${embedded.dims[1]} tokens of pictures of ${imageSize} pixels, fewer than patches`,
    );
  const config: Omit<VitConfig, "heads"> = {
    ...plainVit,
    imageSize,
    patchSize: conv.patch,
    channels: 3,
    width,
    depth: blocks.length,
    mlpWidth: blocks[0].fc2.weight.dims[1],
    activation: blocks[0].activation,
    normEpsilon: blocks[0].norm1.epsilon,
    qkvBias: blocks.some(({ qkv }) => qkv.bias),
    prefix: [
      ...(front > 0 ? [{ weight: "cls_token" as const, count: 1 }] : []),
      ...(front > 1 ? [{ weight: "reg_token" as const, count: front - 1 }] : []),
    ],
    positions: { kind: "learned", prefix: 0 },
    preNorm: preNorm !== undefined,
    layerScale: blocks.some(({ ls1, ls2 }) => ls1 ?? ls2),
    finalNorm: finalNorm ? "tokens" : "none",
    pooling: front > 0 ? "class" : "mean",
  };
  const weights = weightsOf(config, blocks, embedded, front, conv);
  const norm = (name: string, found: { weight: FloatTensor; bias: FloatTensor } | undefined) => {
    if (!found) return;
    weights.set(`${name}.weight`, found.weight);
    weights.set(`${name}.bias`, found.bias);
  };
  norm("norm_pre", preNorm);
  norm("norm", finalNorm);
  const preprocessing = options.preprocessing ?? defaultPreprocessing(imageSize, "imagenet");
  if (!options.preprocessing) {
    options.warn?.(
      `there is no preprocessor_config.json beside ${file}; taking mean ${preprocessing.mean.join(", ")}, std ${preprocessing.std.join(", ")}`,
    );
  }
  const origin = {
    layout: "ONNX",
    bytes: [...external.values()].reduce((sum, bytes) => sum + bytes.byteLength, 0),
    config: {},
    weightType: "float32" as const,
    carried: new Map(),
    application: {
      stands: blocks.map((_, i) => i),
      put: (model: ModelDefinition, stands: readonly number[]) =>
        putBehind(
          graph,
          input.name,
          blocks.map(({ output }) => output),
          model,
          stands,
        ),
    },
  };
  const random = randomStream(0, "onnx proof");
  const pixels = float32(
    Float32Array.from({ length: empty.data.length }, () => 2 * random.uniform() - 1),
    empty.dims,
  );
  const [expected] = await run(pixels, [last.output]);
  const mixed = blocks[0].proj.weight.dims[1];
  const candidates = headCandidates(mixed, options.numHeads ?? blocks.find(({ heads }) => heads)?.heads);
  let nearest = Number.POSITIVE_INFINITY;
  for (const heads of candidates) {
    const read = withHeadCount(config, heads, mixed);
    const definition: ModelDefinition = { config: read, weights, preprocessing, origin };
    const model = new Model(definition, device);
    const { blockOutput } = await model.outputs(pixels, ["blockOutput"]);
    await model.dispose();
    nearest = Math.min(nearest, relativeDifference(blockOutput, expected));
    if (nearest <= agreement) return definition;
  }
  throw new UserError(
    `${file} looks like a vision transformer of ${blocks.length} blocks, but read as one its features differ by ${(100 * nearest).toPrecision(2)} % from those of the file itself, so it can't be used (${candidates.length} numbers of heads were tried)`,
  );
}

/** The number that the file names first, then width / 64, then every divisor: the proof tells which is right. */
function headCandidates(width: number, named: number | undefined): number[] {
  const divisors = Array.from({ length: width }, (_, i) => i + 1).filter((h) => width % h === 0 && h <= 64);
  return [...new Set([...(named ? [named] : []), Math.max(1, Math.round(width / 64)), ...divisors])].filter(
    (h) => width % h === 0,
  );
}

function relativeDifference(a: FloatTensor, b: FloatTensor): number {
  if (a.dims.join() !== b.dims.join()) return Number.POSITIVE_INFINITY;
  let [difference, scale] = [0, 0];
  for (let i = 0; i < b.data.length; i++) {
    difference = Math.max(difference, Math.abs(a.data[i] - b.data[i]));
    scale = Math.max(scale, Math.abs(b.data[i]));
  }
  return Number.isFinite(difference) ? difference / (scale || 1) : Number.POSITIVE_INFINITY;
}

/** Weights by timm's names. An empty picture's tokens are the learned ones and the positions, plus the patches' bias. */
function weightsOf(
  config: Omit<VitConfig, "heads">,
  blocks: readonly FoundBlock[],
  embedded: FloatTensor,
  front: number,
  conv: { weight: FloatTensor; bias?: FloatTensor },
): Map<string, FloatTensor> {
  const { width } = config;
  const weights = new Map<string, FloatTensor>();
  const tokens = (from: number, count: number): FloatTensor =>
    float32(embedded.data.slice(from * width, (from + count) * width), [1, count, width]);
  if (front > 0) weights.set("cls_token", tokens(0, 1));
  if (front > 1) weights.set("reg_token", tokens(1, front - 1));
  const bias = conv.bias ?? zeros([width]);
  const positions = tokens(front, embedded.dims[1] - front);
  positions.data.forEach((v, i) => {
    positions.data[i] = v - bias.data[i % width];
  });
  weights.set("pos_embed", positions);
  weights.set("patch_embed.proj.weight", conv.weight);
  weights.set("patch_embed.proj.bias", bias);
  const ones = () => float32(new Float32Array(width).fill(1), [width]);
  blocks.forEach((block, i) => {
    const set = (name: string, tensor: FloatTensor) => weights.set(`blocks.${i}.${name}`, tensor);
    set("norm1.weight", block.norm1.weight);
    set("norm1.bias", block.norm1.bias);
    set("norm2.weight", block.norm2.weight);
    set("norm2.bias", block.norm2.bias);
    set("attn.qkv.weight", block.qkv.weight);
    if (config.qkvBias) set("attn.qkv.bias", block.qkv.bias ?? zeros([block.qkv.weight.dims[0]]));
    for (const [name, map] of [
      ["attn.proj", block.proj],
      ["mlp.fc1", block.fc1],
      ["mlp.fc2", block.fc2],
    ] as const) {
      set(`${name}.weight`, map.weight);
      set(`${name}.bias`, map.bias ?? zeros([map.weight.dims[0]]));
    }
    if (config.layerScale) {
      set("ls1.gamma", block.ls1 ?? ones());
      set("ls2.gamma", block.ls2 ?? ones());
    }
  });
  return weights;
}
