// A teacher out of an ONNX file: its weights found by structure, its embedding read off what it computes for an empty
// image, and the whole proved against the file itself before anyone trains with it.
//
// An ONNX file is searched by structure (`onnx-blocks.ts`): a softmax between two products is attention, and what
// leads to it and from it are a block's maps. The embedding, whatever a file does there, is read off what it computes
// for an empty image. Guesses are allowed because the result is proved: its features must be those of the file.
import { create, toBinary } from "@bufbuild/protobuf";
import { Model } from "../model.ts";
import type { VitConfig } from "../config.ts";
import { plainVit, prefixCount, withHeadCount } from "../config.ts";
import type { ModelDefinition } from "../definition.ts";
import { rotaryTables } from "../positions.ts";
import { defaultPreprocessing } from "../preprocessing.ts";
import type { ModelProto, NodeProto } from "../../engine/onnx/onnx_pb.ts";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as OnnxType,
  ValueInfoProtoSchema,
} from "../../engine/onnx/onnx_pb.ts";
import type { Device } from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { drawStream } from "../../utils/random.ts";
import { shapeText, shorten } from "../../utils/quote.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { concatRows, float32, rows, zeros } from "../../utils/tensor.ts";
import { putBehind } from "./onnx-application.ts";
import type { FoundBlock, FoundNorm } from "./onnx-blocks.ts";
import { BlockFinder } from "./onnx-blocks.ts";
import type { ExternalFiles } from "./onnx-graph.ts";
import { inFloat32, storedTypeOf } from "./onnx-float32.ts";
import { namesRead, OnnxGraph } from "./onnx-graph.ts";

export interface OnnxImportOptions {
  readonly imageSize?: number;
  readonly numHeads?: number;
  readonly preprocessing?: Preprocessing;
  readonly warn?: (message: string) => void;
}

/** Features of a model read rightly agree to this much of their scale: both run in float32. */
const agreement = 1e-3;
/** Where tables of rotary positions, or what they are computed from, are rounded to half precision. */
const halfAgreement = 5e-3;
/** A difference that rounding alone makes; other ways to read the file can't be nearer. */
const rounding = 1e-5;
/** ONNX Runtime prepares longer graphs in more than linear time; models of 40 blocks have some thousand nodes. */
const mostNodes = 50_000;
/** Numbers in the images that a fixed input may ask for: 1 GiB of them. */
const largestInput = 2 ** 28;

/** The file with other outputs, without what these don't need and without nodes that change nothing. */
function cutAt(graph: OnnxGraph, outputs: readonly string[]): Uint8Array {
  const needed = new Set(outputs);
  const nodes: NodeProto[] = [];
  for (const node of [...graph.graph.node].reverse()) {
    if (!node.output.some((name) => needed.has(name))) continue;
    const input = node.input.map((name) => graph.source(name));
    const kept = input.some((name, i) => name !== node.input[i]) ? create(NodeProtoSchema, { ...node, input }) : node;
    nodes.push(kept);
    for (const name of namesRead(kept)) needed.add(name);
    if (nodes.length > mostNodes)
      throw new UserError(`${graph.file} has more than ${mostNodes} nodes, which no vision transformer needs.`, {
        code: "NOT_A_VIT",
      });
  }
  const cut = create(ModelProtoSchema, {
    ...graph.model,
    graph: create(GraphProtoSchema, {
      ...graph.graph,
      node: nodes.reverse(),
      initializer: graph.graph.initializer.filter(({ name }) => needed.has(name)),
      valueInfo: [],
      output: outputs.map((name) => create(ValueInfoProtoSchema, { name })),
    }),
  });
  return toBinary(ModelProtoSchema, cut);
}

/** The one input that takes images, and the size of image and the batch that it is fixed to, if it is. */
function imageInput(model: ModelProto, file: string): { name: string; imageSize?: number; batch?: number } {
  const given = model.graph?.input ?? [];
  const initializers = new Set(model.graph?.initializer.map(({ name }) => name));
  const inputs = given.filter(({ name }) => !initializers.has(name));
  const images = inputs.filter(
    ({ type }) => type?.value.case === "tensorType" && type.value.value.shape?.dim.length === 4,
  );
  if (images.length !== 1 || inputs.length !== 1) {
    const names = inputs.slice(0, 6).map(({ name }) => shorten(name));
    throw new UserError(
      `${file} has the inputs ${names.join(", ") || "none"}${inputs.length > 6 ? ", ..." : ""}; one of images [B, 3, H, W] is needed.`,
      { code: "NOT_A_VIT" },
    );
  }
  const [{ name, type }] = images;
  const tensor = type?.value.case === "tensorType" ? type.value.value : undefined;
  const elements = tensor?.elemType ?? OnnxType.FLOAT;
  if (!imageTypes.has(elements))
    throw new UserError(`${file} takes images of the type ${OnnxType[elements] ?? elements}; floats are needed.`, {
      code: "NOT_A_VIT",
    });
  const dims = tensor?.shape?.dim ?? [];
  const size = (i: number) => (dims[i]?.value.case === "dimValue" ? Number(dims[i].value.value) : undefined);
  const [batch, channels, height, width] = [0, 1, 2, 3].map(size);
  if (channels !== undefined && channels !== 3)
    throw new UserError(`${file} takes images of ${channels} channels; only 3 can be read.`, { code: "NOT_A_VIT" });
  if (height !== width)
    throw new UserError(`${file} takes images of ${width}x${height}; only squares can be read.`, { code: "NOT_A_VIT" });
  const numbers = (batch ?? 1) * 3 * (height ?? 1) ** 2;
  if (!(numbers > 0 && numbers <= largestInput))
    throw new UserError(`${file} takes images [${batch ?? "B"}, 3, ${height}, ${width}], a shape that can't be run.`, {
      code: "NOT_A_VIT",
    });
  return { name, imageSize: height, batch };
}

/** Half precision is computed in float32. */
const imageTypes: ReadonlySet<number> = new Set([OnnxType.FLOAT, OnnxType.FLOAT16, OnnxType.BFLOAT16]);

/**
 * The size of image that a file's input is fixed to; undefined where it takes any. Throws a UserError where the file takes
 * something other than images, or `asked` is another size.
 */
export function fixedImageSize(model: ModelProto, file: string, asked?: number): number | undefined {
  const { imageSize } = imageInput(model, file);
  if (imageSize !== undefined && asked !== undefined && imageSize !== asked)
    throw new UserError(
      `${file} takes only images of ${imageSize}x${imageSize}, so the image size (--image-size, imageSize) can't be ${asked}.`,
      { code: "NOT_A_VIT" },
    );
  return imageSize;
}

type Run = (pixels: FloatTensor, names: readonly string[]) => Promise<FloatTensor[]>;

/** A vision transformer as its file's structure shows it. */
interface Structure {
  readonly file: string;
  readonly graph: OnnxGraph;
  readonly finder: BlockFinder;
  readonly conv: ReturnType<BlockFinder["patchConvolution"]>;
  readonly blocks: readonly FoundBlock[];
  readonly preNorm: FoundNorm | undefined;
  readonly finalNorm: FoundNorm | undefined;
  readonly weightType: ReturnType<typeof storedTypeOf>;
  /** The name of the input that takes images. */
  readonly input: string;
  readonly batch: number;
  readonly imageSize: number;
  /** Whether the file takes images of any size. */
  readonly isSizeFree: boolean;
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
  const structure = findStructure(proto, file, external, options);
  const run = runnerOf(structure, device);
  const embedding = await readEmbedding(structure, run);
  const { imageSize, batch, finder, graph, blocks } = structure;
  const preprocessing = options.preprocessing ?? defaultPreprocessing(imageSize, "imagenet");
  if (!options.preprocessing)
    options.warn?.(
      `There is no preprocessor_config.json beside ${file}: using mean ${preprocessing.mean.join(", ")}, std ${preprocessing.std.join(", ")}`,
    );
  const random = drawStream(0, "onnx proof");
  const dims = [batch, 3, imageSize, imageSize];
  const pixels = float32(
    Float32Array.from({ length: batch * 3 * imageSize ** 2 }, () => 2 * random.uniform() - 1),
    dims,
  );
  const last = blocks[blocks.length - 1];
  const [expected] = await run(pixels, [last.output]);
  // The proof's own messages name the file too.
  const origin = { ...originOf(structure, external), path: file };
  const candidates = candidatesOf(structure, embedding, options.numHeads, { preprocessing, origin });
  const best = await proved(structure, embedding, candidates, device, pixels, expected);
  const { vectors, norms } = finder.behind(last);
  const given = vectors.length > 0 ? await run(pixels, vectors) : [];
  const named = vectors.map((name, i): [string, FloatTensor] => [name, given[i]]);
  const outputs = new Set(graph.graph.output.map(({ name }) => name));
  const behind = { tokens: expected, finalNorm: structure.finalNorm, norms, vectors: named, outputs };
  return pooledAs(best, file, batch, behind, options);
}

/** Finds the parts of a vision transformer. Throws a UserError where there is none, or images would be too large. */
function findStructure(
  proto: ModelProto,
  file: string,
  external: ExternalFiles,
  options: OnnxImportOptions,
): Structure {
  const fixed = fixedImageSize(proto, file, options.imageSize);
  const { name: input, batch = 1 } = imageInput(proto, file);
  const stored = new OnnxGraph(proto, file, external);
  const weightType = storedTypeOf(proto);
  const graph = inFloat32(stored, external);
  const finder = new BlockFinder(graph);
  const conv = finder.patchConvolution();
  const blocks = finder.blocks();
  const preNorm = finder.normGiving(blocks[0].input);
  const finalNorm = finder.normsOf(blocks[blocks.length - 1].output)[0];
  const imageSize = options.imageSize ?? fixed ?? options.preprocessing?.cropSize ?? 224;
  if (batch * 3 * imageSize ** 2 > largestInput)
    throw new UserError(`${file} can't be run on images of ${imageSize}x${imageSize}: they are too large.`, {
      code: "NOT_A_VIT",
    });
  const isSizeFree = fixed === undefined;
  return { file, graph, finder, conv, blocks, preNorm, finalNorm, weightType, input, batch, imageSize, isSizeFree };
}

/** Runs the file itself up to the values that are asked for. */
function runnerOf({ file, graph, input, isSizeFree }: Structure, device: Device): Run {
  const externalData = [...graph.external].map(([location, bytes]) => ({ location, chunks: [bytes] }));
  return async (pixels, names) => {
    const session = await device.createSession({ model: cutAt(graph, names), externalData }).catch((error: unknown) => {
      throw new UserError(`${file} can't be run by ONNX Runtime: ${shorten((error as Error).message, 400)}`, {
        code: "NOT_A_VIT",
        cause: error,
      });
    });
    try {
      const { tensors } = await session.run({ feeds: { [input]: pixels }, fetch: names });
      return names.map((name) => tensors[name] as FloatTensor);
    } catch (error) {
      const hint = isSizeFree ? " (give the size that it was made for with --image-size)" : "";
      throw new UserError(
        `${file} can't be run on images [${pixels.dims.join(", ")}]${hint}: ${shorten((error as Error).message, 400)}`,
        { code: "NOT_A_VIT", cause: error },
      );
    } finally {
      await session.dispose();
    }
  };
}

/** What a file makes of an empty image before the first block. */
interface Embedding {
  /** `[B, N, D]` */
  readonly tokens: FloatTensor;
  /** Tokens in front of the patches. */
  readonly front: number;
  readonly rotary: ReturnType<typeof rotaryOf> | undefined;
}

async function readEmbedding(structure: Structure, run: Run): Promise<Embedding> {
  const { file, blocks, preNorm, conv, imageSize, batch, weightType } = structure;
  const empty = zeros([batch, 3, imageSize, imageSize]);
  const [tokens] = await run(empty, [preNorm?.input ?? blocks[0].input]);
  const width = blocks[0].norm1.weight.dims[0];
  if (tokens.dims.length !== 3 || tokens.dims[2] !== width)
    throw new UserError(
      `${file}: tokens enter the first block as ${shapeText(tokens.dims)}, not as [B, N, ${width}].`,
      {
        code: "NOT_A_VIT",
      },
    );
  const front = tokens.dims[1] - Math.floor(imageSize / conv.patch) ** 2;
  if (front < 0)
    throw new UserError(
      `${file} makes ${tokens.dims[1]} tokens of images of ${imageSize}x${imageSize}, fewer than patches of ${conv.patch}x${conv.patch}.`,
      { code: "NOT_A_VIT" },
    );
  const [{ rotation }] = blocks;
  if (blocks.some((block) => (block.rotation === undefined) !== (rotation === undefined)))
    throw new UserError(`${file} rotates queries in some of its blocks and not in others, which is not supported.`, {
      code: "NOT_A_VIT",
    });
  if (!rotation) return { tokens, front, rotary: undefined };
  const tables = await run(empty, [rotation.cos, rotation.sin]);
  const rotary = rotaryOf(file, tables, imageSize, conv.patch, weightType !== "float32");
  checkRotaryEmbedding(file, tokens, front, conv.bias);
  return { tokens, front, rotary };
}

function configOf(structure: Structure, { front, rotary }: Embedding): Omit<VitConfig, "heads"> {
  const { blocks, conv, imageSize, preNorm, finalNorm } = structure;
  const [first] = blocks;
  return {
    ...plainVit,
    imageSize,
    patchSize: conv.patch,
    channels: 3,
    width: first.norm1.weight.dims[0],
    depth: blocks.length,
    mlpWidth: first.fc2.weight.dims[1],
    mlp: isGated(first) ? "gated" : "plain",
    activation: first.activation,
    normEpsilon: first.norm1.epsilon,
    qkvBias: blocks.some(({ qkv }) => qkv.bias),
    prefix: [
      ...(front > 0 ? [{ weight: "cls_token" as const, count: 1 }] : []),
      ...(front > 1 ? [{ weight: "reg_token" as const, count: front - 1 }] : []),
    ],
    positions: rotary ? { kind: "rotary", theta: rotary.theta } : { kind: "learned", prefix: 0 },
    preNorm: preNorm !== undefined,
    layerScale: blocks.some(({ ls1, ls2 }) => ls1 ?? ls2),
    finalNorm: finalNorm ? "tokens" : "none",
    pooling: front > 0 ? "class" : "mean",
  };
}

function originOf({ graph, blocks, input, weightType }: Structure, external: ExternalFiles): ModelDefinition["origin"] {
  const outputs = blocks.map(({ output }) => output);
  return {
    layout: "ONNX",
    bytes: [...external.values()].reduce((sum, bytes) => sum + bytes.byteLength, 0),
    config: {},
    weightType,
    carried: new Map(),
    application: {
      stands: blocks.map((_, i) => i),
      put: (model: ModelDefinition, stands: readonly number[]) => putBehind(graph, input, outputs, model, stands),
    },
  };
}

/** Ways to read the file: by number of heads, each with the ways to read a gated MLP. */
type Candidates = readonly (readonly (() => ModelDefinition)[])[];

function candidatesOf(
  structure: Structure,
  embedding: Embedding,
  numHeads: number | undefined,
  rest: Pick<ModelDefinition, "preprocessing" | "origin">,
): Candidates {
  const { blocks } = structure;
  const { rotary } = embedding;
  const mixed = blocks[0].proj.weight.dims[1];
  const named = numHeads ?? rotary?.headsOf(mixed) ?? blocks.find(({ heads }) => heads)?.heads;
  const config = configOf(structure, embedding);
  const gates = config.mlp === "gated" ? [true, false] : [true];
  return (rotary ? [rotary.headsOf(mixed)] : headCandidates(mixed, named)).map((heads) =>
    gates.map((gateFirst) => () => ({
      ...rest,
      config: withHeadCount(config, heads, mixed),
      weights: allWeights(structure, embedding, config, gateFirst),
    })),
  );
}

function allWeights(
  { blocks, conv, preNorm, finalNorm }: Structure,
  { tokens, front }: Embedding,
  config: Omit<VitConfig, "heads">,
  gateFirst: boolean,
): Map<string, FloatTensor> {
  const weights = weightsOf(config, blocks, tokens, front, conv, gateFirst);
  for (const [name, norm] of [
    ["norm_pre", preNorm],
    ["norm", finalNorm],
  ] as const) {
    if (!norm) continue;
    weights.set(`${name}.weight`, norm.weight);
    weights.set(`${name}.bias`, norm.bias);
  }
  return weights;
}

/** The way to read the file whose features are the file's own. Throws a UserError where there is none. */
async function proved(
  structure: Structure,
  { rotary }: Embedding,
  candidates: Candidates,
  device: Device,
  pixels: FloatTensor,
  expected: FloatTensor,
): Promise<ModelDefinition> {
  const nearEnough = rotary && structure.weightType !== "float32" ? halfAgreement : agreement;
  let nearest = Number.POSITIVE_INFINITY;
  let best: ModelDefinition | undefined;
  search: for (const definitions of candidates) {
    for (const make of definitions) {
      const definition = make();
      const model = new Model(definition, device);
      const { blockOutput } = await model.outputs(pixels, ["blockOutput"]).finally(() => model.dispose());
      const difference = relativeDifference(blockOutput, expected);
      if (difference < nearest) [nearest, best] = [difference, definition];
      if (nearest <= rounding) break search;
    }
    if (nearest <= nearEnough) break;
  }
  if (best && nearest <= nearEnough) return best;
  throw unlike(structure, nearest, candidates.length);
}

function unlike({ file, blocks }: Structure, nearest: number, candidates: number): UserError {
  const biased = blocks.find(({ scoreBias }) => scoreBias !== undefined);
  const reason = biased
    ? ` Its attention adds "${shorten(biased.scoreBias ?? "")}" to the scores: masks and relative positions are not supported.`
    : "";
  const tried = candidates > 1 ? ` (${candidates} numbers of heads were tried)` : "";
  return new UserError(
    `${file} looks like a vision transformer of ${blocks.length} blocks, but read as one its features differ by ${(100 * nearest).toPrecision(2)} % from those of the file itself, so it can't be used${tried}.${reason}`,
    { code: "NOT_A_VIT" },
  );
}

/** What a file computes behind its blocks. */
interface Behind {
  /** `[B, N, D]` that the last block gives. */
  readonly tokens: FloatTensor;
  /** The norm of all tokens, if there is one. */
  readonly finalNorm: FoundNorm | undefined;
  readonly norms: readonly FoundNorm[];
  /** Values that may be the one vector an image gets. */
  readonly vectors: readonly (readonly [string, FloatTensor])[];
  readonly outputs: ReadonlySet<string>;
}

/** Means `[B, D]` of some tokens of `[B, N, D]`. */
function meanOfTokens(x: FloatTensor, from: number, to: number): FloatTensor {
  const [batch, count, width] = x.dims;
  const out = zeros([batch, width]);
  for (let b = 0; b < batch; b++)
    for (let t = from; t < to; t++)
      for (let c = 0; c < width; c++) out.data[b * width + c] += x.data[(b * count + t) * width + c] / (to - from);
  return out;
}

/** Throws a UserError where the last norm's epsilon is another than the blocks': a model has one. */
function checkEpsilon(
  { config: { normEpsilon } }: ModelDefinition,
  file: string,
  tokens: FloatTensor,
  norm: FoundNorm,
  normed: FloatTensor,
): void {
  const again = layerNormOf(tokens, { ...norm, epsilon: normEpsilon });
  if (relativeDifference(again, normed) > agreement)
    throw new UserError(
      `${file}: its last norm has the epsilon ${norm.epsilon}, its blocks have ${normEpsilon}; only models with one are supported.`,
      { code: "NOT_A_VIT" },
    );
}

/**
 * The model with the pooling that its file has, told by numbers: the class token or the mean of the patches, of tokens that are
 * normed or not, or normed itself. Throws a UserError where the file's own output is pooled otherwise.
 */
function pooledAs(
  model: ModelDefinition,
  file: string,
  batch: number,
  { tokens, finalNorm, norms, vectors, outputs }: Behind,
  { warn }: OnnxImportOptions,
): ModelDefinition {
  const [, count, width] = tokens.dims;
  const normed = finalNorm && layerNormOf(tokens, finalNorm);
  if (normed && finalNorm) checkEpsilon(model, file, tokens, finalNorm, normed);
  const pooled = vectors.filter(([, { dims }]) => dims.length === 2 && dims[0] === batch && dims[1] === width);
  if (pooled.length === 0) return model;
  const front = prefixCount(model.config);
  const poolings = [
    ...(front > 0 ? [{ pooling: "class" as const, of: (x: FloatTensor) => meanOfTokens(x, 0, 1) }] : []),
    { pooling: "mean" as const, of: (x: FloatTensor) => meanOfTokens(x, front, count) },
  ];
  const matches = (vector: FloatTensor) => pooled.some(([, file]) => relativeDifference(vector, file) <= agreement);
  for (const { pooling, of } of poolings) {
    if (normed && matches(of(normed))) return { ...model, config: { ...model.config, pooling } };
    if (!finalNorm && matches(of(tokens))) return { ...model, config: { ...model.config, pooling } };
  }
  for (const { pooling, of } of finalNorm ? [] : poolings) {
    const norm = norms.find((one) => matches(layerNormOf(of(tokens), one)));
    if (!norm) continue;
    const weights = new Map(model.weights).set("norm.weight", norm.weight).set("norm.bias", norm.bias);
    return { ...model, weights, config: { ...model.config, pooling, finalNorm: "pooled" } };
  }
  const [[name]] = pooled;
  if (pooled.some(([vector]) => outputs.has(vector)))
    throw new UserError(
      `${file} pools its tokens in a way that can't be read from ONNX files (attention pooling, for one): "${shorten(name)}" is neither the class token nor the mean of the patches. Read the model from its weights, or export it with all tokens as the output.`,
      { code: "NOT_A_VIT" },
    );
  warn?.(
    `${file}: what it reads behind its blocks ("${shorten(name)}") is neither the class token nor the mean of the patches; ${model.config.pooling === "class" ? "the class token" : "the mean of the patches"} stands for an image.`,
  );
  return model;
}

/** Over the last axis. */
function layerNormOf(x: FloatTensor, { weight, bias, epsilon }: FoundNorm): FloatTensor {
  const width = weight.data.length;
  const out = zeros(x.dims);
  for (let at = 0; at < x.data.length; at += width) {
    const row = x.data.subarray(at, at + width);
    const mean = row.reduce((sum, v) => sum + v, 0) / width;
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / width;
    const scale = 1 / Math.sqrt(variance + epsilon);
    row.forEach((v, c) => {
      out.data[at + c] = (v - mean) * scale * weight.data[c] + bias.data[c];
    });
  }
  return out;
}

/** Whether an MLP has two maps, or one of twice the channels, of which one half gates the other (SwiGLU). */
function isGated({ fc1, fc2 }: FoundBlock): boolean {
  const entering = fc1.reduce((sum, { weight }) => sum + weight.dims[0], 0);
  return entering === 2 * fc2.weight.dims[1];
}

/** How far tables of cosines and sines may lie apart. */
const tableTolerance = 1e-4;

/**
 * The base of rotary positions, and the number of heads, from a file's tables `[patches, D/H]`. Throws a UserError where they
 * are not DINOv3's.
 */
function rotaryOf(file: string, tables: readonly FloatTensor[], imageSize: number, patchSize: number, isHalf: boolean) {
  const tolerance = isHalf ? halfAgreement : tableTolerance;
  const unknown = () =>
    new UserError(
      `${file} has rotary positions that are not those of DINOv3 (angles 2 pi x / theta^(4i/d) of patch centres, halves rotated), which alone are supported.`,
      { code: "NOT_A_VIT" },
    );
  const [cos, sin] = tables;
  const side = Math.floor(imageSize / patchSize);
  const headWidth = cos.dims.at(-1) ?? 0;
  if (headWidth % 4 !== 0 || headWidth === 0 || tables.some(({ data }) => data.length !== side * side * headWidth))
    throw unknown();
  const shape = { imageSize, patchSize, width: headWidth, heads: 1 };
  const quarter = headWidth / 4;
  const fits = (theta: number) => {
    const table = rotaryTables(shape, { theta });
    return (
      largestDifference(table.cos.data as Float32Array, cos.data) <= tolerance &&
      largestDifference(table.sin.data as Float32Array, sin.data) <= tolerance
    );
  };
  // The second frequency is theta^(-4 / headWidth) times the first. A patch near the middle has an angle below half a turn.
  const row = Math.floor(side / 2) + (side % 2);
  const centre = (2 * (Math.min(row, side - 1) + 0.5)) / side - 1;
  const at = Math.min(row, side - 1) * side * headWidth + 1;
  const angle = Math.atan2(sin.data[at], cos.data[at]);
  const exact = quarter > 1 && centre !== 0 ? (angle / (2 * Math.PI * centre)) ** -quarter : 100;
  const theta = [Number(exact.toPrecision(2)), Number(exact.toPrecision(4)), exact].find(
    (base) => Number.isFinite(base) && base > 0 && fits(base),
  );
  if (theta === undefined) throw unknown();
  return { theta, headsOf: (mixed: number) => mixed / headWidth };
}

/** With rotary positions, patches of an empty image are all alike: what is added to them is their bias alone. */
function checkRotaryEmbedding(file: string, embedded: FloatTensor, front: number, bias: FloatTensor | undefined): void {
  const [, count, width] = embedded.dims;
  for (let i = front * width; i < count * width; i++) {
    const expected = bias ? bias.data[i % width] : 0;
    if (!(Math.abs(embedded.data[i] - expected) <= agreement * (1 + Math.abs(expected))))
      throw new UserError(`${file} has rotary positions and a table of positions, which is not supported.`, {
        code: "NOT_A_VIT",
      });
  }
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  for (let i = 0; i < b.length; i++) difference = Math.max(difference, Math.abs(a[i] - b[i]));
  return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
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

/** Weights by timm's names. An empty image's tokens are the learned ones and the positions, plus the patches' bias. */
function weightsOf(
  config: Omit<VitConfig, "heads">,
  blocks: readonly FoundBlock[],
  embedded: FloatTensor,
  front: number,
  conv: { weight: FloatTensor; bias?: FloatTensor },
  gateFirst: boolean,
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
  if (config.positions.kind === "learned") weights.set("pos_embed", positions);
  weights.set("patch_embed.proj.weight", conv.weight);
  weights.set("patch_embed.proj.bias", bias);
  blocks.forEach((block, i) => {
    for (const [name, tensor] of blockWeights(block, config, gateFirst)) weights.set(`blocks.${i}.${name}`, tensor);
  });
  return weights;
}

/** A block's weights by the names that follow `blocks.<i>.`. */
function* blockWeights(
  block: FoundBlock,
  config: Omit<VitConfig, "heads">,
  gateFirst: boolean,
): Generator<readonly [string, FloatTensor]> {
  for (const [name, norm] of [
    ["norm1", block.norm1],
    ["norm2", block.norm2],
  ] as const) {
    yield [`${name}.weight`, norm.weight];
    yield [`${name}.bias`, norm.bias];
  }
  yield ["attn.qkv.weight", block.qkv.weight];
  if (config.qkvBias) yield ["attn.qkv.bias", block.qkv.bias ?? zeros([block.qkv.weight.dims[0]])];
  for (const [name, map] of [
    ["attn.proj", block.proj],
    ["mlp.fc1", enteringMap(block, config.mlpWidth, gateFirst)],
    ["mlp.fc2", block.fc2],
  ] as const) {
    yield [`${name}.weight`, map.weight];
    yield [`${name}.bias`, map.bias ?? zeros([map.weight.dims[0]])];
  }
  if (!config.layerScale) return;
  const ones = float32(new Float32Array(config.width).fill(1), [config.width]);
  yield ["ls1.gamma", block.ls1 ?? ones];
  yield ["ls2.gamma", block.ls2 ?? float32(ones.data.slice(), ones.dims)];
}

/** The map that enters an MLP; of a gated one both halves, the activated one first. */
function enteringMap(
  { fc1 }: FoundBlock,
  mlpWidth: number,
  gateFirst: boolean,
): Pick<FoundBlock["proj"], "weight" | "bias"> {
  const [only, second] = fc1;
  if (!second && gateFirst) return only;
  const half = (tensor: FloatTensor, index: number) => rows(tensor, index * mlpWidth, (index + 1) * mlpWidth);
  const parts = second
    ? [only, second]
    : [0, 1].map((i) => ({
        weight: half(only.weight, i),
        bias: only.bias && half(only.bias, i),
      }));
  const ordered = gateFirst ? parts : [...parts].reverse();
  return {
    weight: concatRows(ordered.map(({ weight }) => weight)),
    bias: ordered.some(({ bias }) => bias)
      ? concatRows(ordered.map(({ weight, bias }) => bias ?? zeros([weight.dims[0]])))
      : undefined,
  };
}
