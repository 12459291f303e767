// A model with the weights of its linear maps in few bits. Without images each block of weights is rounded by itself. With
// images, maps are rounded one after the other by the sums of the tokens that enter them (`round-map.ts`), collected with all
// maps before already rounded and held against what the float model has at the same place, so that later maps make up for
// the errors of earlier ones.
import { RidgeSolver } from "../../engine/linalg/ridge.ts";
import { blockShape, blockShapes } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { Model } from "../../models/model.ts";
import { weightTable } from "../../models/weight-table.ts";
import type { Device } from "../../runtime/device.ts";
import { isWithinHalf, roundToHalf } from "../../utils/half.ts";
import { UserError } from "../../utils/errors.ts";
import { required } from "../../utils/required.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";
import { difference, withoutBias } from "../closed-form/refit-entering.ts";
import type { Stream } from "../closed-form/refit-passes.ts";
import { embedAll, heldBy, Passes, storageOf, sumUp } from "../closed-form/refit-passes.ts";
import { Sample, stridesOf } from "../closed-form/refit-sample.ts";
import { isPlenty } from "../closed-form/refit-tools.ts";
import type { Summed } from "../closed-form/refit-passes.ts";
import type { Sums } from "../../engine/linalg/ridge.ts";
import type { BitCount, BlockFormat, BlockWeights } from "./block-weights.ts";
import { dequantize, roundInTurns } from "./block-weights.ts";
import type { LinearMap, MapSums, RoundedMap, Rounding } from "./round-map.ts";
import { roundMap } from "./round-map.ts";

/** Images that maps are rounded for, and where that is computed. */
export interface Calibration {
  readonly device: Device;
  /** Normalised, batch by batch `[B, 3, H, W]`. */
  readonly images: AsyncIterable<FloatTensor> | Iterable<FloatTensor>;
}

export interface QuantizeOptions {
  /** Bits of the blocks' maps. */
  readonly bits: BitCount;
  /** Bits of maps outside of blocks: patch embedding, pooling, projection, head. */
  readonly outerBits: BitCount;
  readonly blockSize: number;
  readonly symmetric: boolean;
  readonly calibration?: Calibration;
  /**
   * Ways to round a block's map with images, the most likely last: it is taken where tokens are plenty, else the one that errs least on
   * images set aside.
   */
  readonly ways: readonly Rounding[];
  /** Tokens for each unknown of the widest map, as in the closed form. */
  readonly tokensPerUnknown: number;
  readonly progress?: (done: number, total: number) => void;
  /** Stops the rounding. */
  readonly signal?: AbortSignal;
}

/** Rounding with images: nearly always the better way, so that whoever is in a hurry need not try others. */
export const compensatedRounding: Rounding = { kind: "compensated", ridge: 0.2, toward: true };

export const quantizeDefaults: QuantizeOptions = {
  bits: 4,
  outerBits: 8,
  blockSize: 32,
  symmetric: false,
  ways: [{ kind: "plain" }, compensatedRounding],
  tokensPerUnknown: 5,
};

/** How a block's map was rounded. */
export interface MapReport extends Pick<RoundedMap, "rounding"> {
  readonly name: string;
}

export interface QuantizedModel {
  /** The model with the numbers that its few bits stand for, and all other weights as float16 has them. */
  readonly definition: ModelDefinition;
  /** Maps in few bits, by the names of their weights; the definition's weights of these names are the same numbers. */
  readonly maps: ReadonlyMap<string, BlockWeights>;
  readonly reports: readonly MapReport[];
}

/** Smaller maps outside of blocks are not worth it. */
const smallest = 4096;

/** As a file holds it: rounded to float16, where that has room for all numbers. */
const inHalf = (tensor: FloatTensor): FloatTensor =>
  isWithinHalf(tensor) ? { ...tensor, data: tensor.data.map(roundToHalf) } : tensor;

/** A model under way: weights that are done are what their bits stand for. */
class Rounded {
  readonly maps = new Map<string, BlockWeights>();
  readonly reports: MapReport[] = [];
  readonly weights: Map<string, FloatTensor>;
  private readonly model: ModelDefinition;

  constructor(model: ModelDefinition) {
    this.model = model;
    this.weights = new Map(model.weights);
  }

  get definition(): ModelDefinition {
    return { ...this.model, weights: new Map(this.weights) };
  }

  /** The end: what is in no map is as float16 has it. */
  finished(): QuantizedModel {
    for (const [name, tensor] of this.weights) if (!this.maps.has(name)) this.weights.set(name, inHalf(tensor));
    const { definition, maps, reports } = this;
    return { definition, maps, reports };
  }

  put(name: string, { weights, bias, rounding }: RoundedMap): void {
    const wide = weights.scales.find((scale) => !Number.isFinite(scale));
    if (wide !== undefined)
      throw new UserError(
        `The weight ${name}.weight has values too large for ${weights.bits} bits with a float16 scale, or none. Use another export.`,
      );
    this.maps.set(`${name}.weight`, weights);
    this.weights.set(`${name}.weight`, dequantize(weights, required(this.model.weights, `${name}.weight`).dims));
    if (bias) this.weights.set(`${name}.bias`, bias);
    this.reports.push({ name, rounding });
  }
}

/**
 * Rounds a model's maps. `definition` can be evaluated as any model, without a file; `maps` are what a file holds. Blocks that
 * share their maps (MiniViT) are rounded plainly, images or not.
 *
 * @throws the signal's reason once it fires, a UserError where a weight is beyond what a block can hold, a RunError where sums over tokens are not finite
 * @see GPTQ, arXiv 2210.17323, for rounding with images
 */
export async function quantizeWeights(
  model: ModelDefinition,
  options: Partial<QuantizeOptions> = {},
): Promise<QuantizedModel> {
  const settings = { ...quantizeDefaults, ...options };
  const { calibration, bits, outerBits, blockSize, symmetric } = settings;
  const rounded = new Rounded(model);
  const inBlocks = calibration !== undefined && !model.config.sharing;
  for (const { name, shape, role, block } of weightTable(model.config)) {
    if (role !== "map" || (block === undefined ? elementCount(shape) < smallest : inBlocks)) continue;
    const format: BlockFormat = { bits: block === undefined ? outerBits : bits, blockSize, symmetric };
    const weights = await roundInTurns(required(model.weights, name), format, settings.signal);
    rounded.put(name.replace(/\.weight$/, ""), { weights, rounding: { kind: "plain" } });
  }
  if (inBlocks) await roundBlocks(model, rounded, calibration, settings);
  return rounded.finished();
}

async function roundBlocks(
  model: ModelDefinition,
  rounded: Rounded,
  calibration: Calibration,
  settings: QuantizeOptions,
): Promise<void> {
  const { device } = calibration;
  const { config } = model;
  const storage = storageOf("float32");
  // The float model is the teacher, and the rounded one its student.
  const student = rounded.definition;
  const streams = await embedAll(new Model(model, device), calibration.images, { storage, student });
  const passes = new Passes(device, storage);
  const solver = new RidgeSolver(device);
  const sample = new Sample(passes, streams, stridesOf(streams, settings.tokensPerUnknown * (config.mlpWidth + 1)));
  try {
    await sample.take(["student", "teacher"]);
    for (let block = 0; block < config.depth; block++) {
      await roundBlock({ model, rounded, passes, solver, streams, sample, settings }, block);
      settings.progress?.(block + 1, config.depth);
    }
  } finally {
    await sample.release();
    await passes.dispose();
    await device.release(heldBy(streams));
    await device.trim();
    await solver.dispose();
  }
}

interface Tools {
  /** As it was, and as it is so far. */
  readonly model: ModelDefinition;
  readonly rounded: Rounded;
  readonly passes: Passes;
  readonly solver: RidgeSolver;
  readonly streams: readonly Stream[];
  readonly sample: Sample;
  readonly settings: QuantizeOptions;
}

async function roundBlock(tools: Tools, block: number): Promise<void> {
  const { model, rounded, passes, streams, sample } = tools;
  // A block may have lost its attention or its MLP.
  const { heads, mlpWidth } = blockShape(model.config, block);
  const [whole, seen] = [{ model, block, seen: sample.takeOf }, sample.takeOf];
  /** The model as it is so far. */
  const current = () => ({ model: rounded.definition, block, seen });
  if (heads > 0) await roundWith(tools, block, "attn.qkv", "norm1");
  if (heads > 0) await passes.move("attention", streams, current());
  await passes.move("teacherAttention", streams, whole);
  if (heads > 0) {
    await roundWith(tools, block, "attn.proj", "attended");
    await passes.move("attended", streams, current());
  }
  await passes.move("teacherMlp", streams, whole);
  if (mlpWidth > 0) {
    await roundWith(tools, block, "mlp.fc1", "norm2");
    await passes.move("hidden", streams, current());
    await roundWith(tools, block, "mlp.fc2", "fc2");
    await passes.move("output", streams, current());
  }
  for (const name of ["mixed", "middle", "hidden"] as const) await passes.drop(streams, name);
  await passes.keepShapes(blockShapes(model.config).slice(block + 1, block + 2));
}

/** Rounds one map by the sums of a pass. */
async function roundWith(
  { model, rounded, passes, solver, sample, settings }: Tools,
  block: number,
  inBlock: string,
  pass: "norm1" | "attended" | "norm2" | "fc2",
): Promise<void> {
  const name = `blocks.${block}.${inBlock}`;
  const weight = required(model.weights, `${name}.weight`);
  const bias = model.weights.get(`${name}.bias`);
  const map: LinearMap = { weight, ...(bias ? { bias } : {}) };
  const behindNorm = pass === "norm1" || pass === "norm2";
  const feeds = await passes.blockOf(rounded.definition, block);
  const summed = await sumUp(passes, sample.streams, pass, feeds, behindNorm ? weight.dims[1] : weight.dims[0]);
  const sums = await mapSums(solver, map, summed, behindNorm);
  const { bits, blockSize, symmetric } = settings;
  const ways = isPlenty(sample.tokens, sums.all.n) ? settings.ways.slice(-1) : settings.ways;
  rounded.put(name, await roundMap(solver, map, sums, ways, { bits, blockSize, symmetric }));
}

/** Sums with what a map's own output lacks: behind a norm they say what enters it. */
async function mapSums(
  solver: RidgeSolver,
  { weight, bias }: LinearMap,
  { fitting, all }: Summed,
  behindNorm: boolean,
): Promise<MapSums> {
  const made = async (given: Sums): Promise<Sums> => {
    const sums = bias ? given : withoutBias(given);
    if (!behindNorm) return sums;
    const [m, width] = weight.dims;
    const matrix: Tensor<"float64"> = { type: "float64", dims: [width, m], data: turned(weight) };
    const cross = await solver.multiply({ type: "float64", dims: [sums.n, width], data: sums.cross }, matrix);
    return { ...sums, m, cross };
  };
  const whole = await made(all);
  if (fitting === all) return { fitting: whole, all: whole, aside: undefined };
  const part = await made(fitting);
  return { fitting: part, all: whole, aside: difference(whole, part) };
}

/** `[N, K]` as `[K, N]`. */
function turned({ dims: [outputs, inputs], data }: FloatTensor): Float64Array {
  const out = new Float64Array(data.length);
  for (let n = 0, at = 0; n < outputs; n++) for (let k = 0; k < inputs; k++, at++) out[k * outputs + n] = data[at];
  return out;
}
