// Training a decoder, and the encoder too where asked for, on slices and their masks; and what it then predicts.
import { gradients } from "../engine/autograd/gradients.ts";
import { compile } from "../engine/compile.ts";
import { add, cast, constant, equal, expand, graph, input, mul } from "../engine/graph/build.ts";
import type { Graph, Value } from "../engine/graph/graph.ts";
import type { Model } from "../models/model.ts";
import type { WeightLookup } from "../models/vit.ts";
import { frozenWeights } from "../models/vit.ts";
import { diceLoss, pixelCrossEntropy } from "../engine/nn/losses.ts";
import { adamwScalars, adamwSlots, adamwUpdate } from "../engine/optim/adamw.ts";
import { learningRateAt } from "../engine/optim/schedule.ts";
import type { DeviceTensors } from "../runtime/device-tensors.ts";
import { downloadAll, uploadAll } from "../runtime/device-tensors.ts";
import type { Device, DeviceTensor, Session } from "../runtime/device.ts";
import { checkOutputs, requireFiniteWeights } from "../models/finite-outputs.ts";
import { RunError } from "../utils/errors.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { float32, zeros } from "../utils/tensor.ts";
import type { EncoderKind } from "./decoder.ts";
import { decode, decoderShapes, freshDecoder, inputLookup, outputSide, patchMap, statisticShapes } from "./decoder.ts";
import { required } from "../utils/required.ts";

/** What the decoder sits on: a model, frozen or trained with it, or the bare pixels of its patches. */
export type Encoder =
  | { readonly kind: "vit"; readonly model: Model; readonly trained: boolean }
  | { readonly kind: "pixels"; readonly imageSize: number; readonly patchSize: number };

const kindOf = (encoder: Encoder): EncoderKind =>
  encoder.kind === "vit" ? { kind: "vit", config: encoder.model.config } : encoder;

export interface SegmenterOptions {
  readonly epochs: number;
  readonly warmupEpochs: number;
  /** Slices to a step. */
  readonly batch: number;
  /** The decoder's learning rate at its highest (AdamW). */
  readonly learningRate: number;
  /** What the encoder's rate is times the decoder's, where it trains. */
  readonly encoderRate: number;
  readonly weightDecay: number;
  readonly seed: number;
}

export const segmenterDefaults: SegmenterOptions = {
  epochs: 30,
  warmupEpochs: 2,
  batch: 8,
  learningRate: 2e-3,
  encoderRate: 0.05,
  weightDecay: 0.01,
  seed: 0,
};

/** Normalised slices `[B, 3, S, S]` and the class of each pixel of the decoder's output `[B, 1, T, T]`. */
export interface SliceBatch {
  readonly pixels: FloatTensor;
  readonly labels: FloatTensor;
}

const betas = [0.9, 0.999] as const;

/** Half cross-entropy, half Dice, as TransUNet trains. */
export function segmentationLoss(logits: Value, labels: Value): Value {
  const classes = logits.shape[1] as number;
  const numbers = float32(
    Array.from({ length: classes }, (_, k) => k),
    [1, classes, 1, 1],
  );
  const targets = cast(equal(expand(labels, logits.shape), expand(constant(numbers), logits.shape)), "float32");
  return mul(add(pixelCrossEntropy(logits, targets), diceLoss(logits, targets)), 0.5);
}

/** A decoder with its encoder, ready to predict. `train` is called step by step by `trainSegmenter`. */
export class Segmenter {
  readonly encoder: EncoderKind;
  readonly classes: number;
  private readonly source: Encoder;
  private readonly device: Device;
  private readonly options: SegmenterOptions;
  /** What trains, the optimizer's means, and the norms' running statistics. */
  private readonly shapes: ReadonlyMap<string, readonly number[]>;
  private state: DeviceTensors = new Map();
  private steps = 0;
  private stepSession: { readonly batch: number; readonly session: Session } | undefined;
  private predictSession: Session | undefined;

  private constructor(source: Encoder, classes: number, device: Device, options: SegmenterOptions) {
    this.source = source;
    this.encoder = kindOf(source);
    this.classes = classes;
    this.device = device;
    this.options = options;
    const shapes = decoderShapes(this.encoder, classes);
    if (source.kind === "vit" && source.trained)
      for (const [name, { dims }] of source.model.weights) if (!/^(head|pooler)/.test(name)) shapes.set(name, dims);
    this.shapes = shapes;
  }

  /** Begins with fresh decoder weights. */
  static async create(
    source: Encoder,
    classes: number,
    device: Device,
    options: SegmenterOptions = segmenterDefaults,
  ): Promise<Segmenter> {
    const made = new Segmenter(source, classes, device, options);
    const fresh = freshDecoder(made.encoder, classes, options.seed);
    for (const [name, dims] of made.shapes) {
      const start = fresh.get(name) ?? (source.kind === "vit" ? source.model.weights.get(name) : undefined);
      fresh.set(name, start ?? zeros(dims));
      fresh.set(adamwSlots.momentum(name), zeros(dims));
      fresh.set(adamwSlots.variance(name), zeros(dims));
    }
    made.state = await uploadAll(device, fresh);
    return made;
  }

  /** Pixels along a side of the masks that it learns from and gives. */
  get side(): number {
    return outputSide(this.encoder);
  }

  /** Pixels along a side of the images that it takes. */
  get imageSize(): number {
    return this.encoder.kind === "vit" ? this.encoder.config.imageSize : this.encoder.imageSize;
  }

  /** The weights: what trains from the graph's inputs, the rest of the encoder as constants. */
  private lookup(): { inputs: Map<string, Value>; weight: WeightLookup } {
    const { inputs, weight } = inputLookup(new Map([...this.shapes, ...statisticShapes()]));
    const frozen = frozenWeights(this.source.kind === "vit" ? this.source.model.weights : new Map());
    return { inputs, weight: (name) => (inputs.has(name) ? weight(name) : frozen(name)) };
  }

  private stepGraph(batch: number): Graph {
    const { inputs, weight } = this.lookup();
    const pixels = input("pixels", "float32", [batch, 3, this.imageSize, this.imageSize]);
    const labels = input("labels", "float32", [batch, 1, this.side, this.side]);
    const { logits, statistics } = decode(weight, patchMap(this.encoder, weight, pixels), true);
    const loss = segmentationLoss(logits, labels);
    const names = [...this.shapes.keys()];
    const gradientOf = gradients(
      loss,
      names.map((name) => weight(name)),
    );
    const scalar = (name: string) => input(name, "float32", []);
    const scalars = {
      learningRate: scalar("learningRate"),
      correction1: scalar("correction1"),
      correction2: scalar("correction2"),
    };
    const outputs = new Map<string, Value>([["loss", loss]]);
    const moments: Value[] = [];
    names.forEach((name, i) => {
      const dims = required(this.shapes, name);
      const state = {
        parameter: weight(name),
        momentum: input(adamwSlots.momentum(name), "float32", dims),
        variance: input(adamwSlots.variance(name), "float32", dims),
      };
      moments.push(state.momentum, state.variance);
      const isDecoder = name.startsWith("decoder.")
        ? scalars
        : { ...scalars, learningRate: mul(scalars.learningRate, this.options.encoderRate) };
      const { weightDecay } = this.options;
      const next = adamwUpdate(state, gradientOf[i], isDecoder, { betas, eps: 1e-8, weightDecay });
      outputs.set(adamwSlots.next(name), next.parameter);
      outputs.set(adamwSlots.next(adamwSlots.momentum(name)), next.momentum);
      outputs.set(adamwSlots.next(adamwSlots.variance(name)), next.variance);
    });
    for (const [name, value] of statistics) outputs.set(adamwSlots.next(name), value);
    return graph([pixels, labels, ...inputs.values(), ...moments, ...Object.values(scalars)], outputs);
  }

  /** One update; gives the loss before it. Throws a RunError where the loss is not finite. */
  async step({ pixels, labels }: SliceBatch, learningRate: number): Promise<number> {
    const batch = pixels.dims[0];
    if (this.stepSession?.batch !== batch) {
      await this.stepSession?.session.dispose();
      this.stepSession = { batch, session: await compile(this.stepGraph(batch), this.device) };
    }
    const feeds: Record<string, Tensor | DeviceTensor> = { pixels, labels, ...Object.fromEntries(this.state) };
    for (const [name, value] of Object.entries(adamwScalars(this.steps + 1, learningRate, betas)))
      feeds[name] = float32([value], []);
    const names = [...this.state.keys()];
    const { tensors, kept } = await this.stepSession.session.run({
      feeds,
      fetch: ["loss"],
      keep: names.map(adamwSlots.next),
    });
    const old = this.state;
    this.state = new Map(names.map((name) => [name, kept[adamwSlots.next(name)]]));
    await this.device.release([...old.values()]);
    this.steps++;
    const loss = Number(tensors.loss.data[0]);
    if (!Number.isFinite(loss)) {
      // No learning rate helps there.
      if (this.source.kind === "vit") requireFiniteWeights(this.source.model);
      throw new RunError(`The loss is ${loss} at step ${this.steps}. A lower learning rate may help.`, {
        code: "NOT_FINITE",
      });
    }
    return loss;
  }

  /**
   * Scores `[B, K, T, T]` of normalised slices `[B, 3, S, S]`, with the norms' running statistics. Throws a UserError where
   * they are not finite; `slices` are the names to say then.
   */
  async predict(pixels: FloatTensor, slices?: readonly string[]): Promise<FloatTensor> {
    const names = [...this.shapes.keys(), ...statisticShapes().keys()];
    if (!this.predictSession) {
      const { inputs, weight } = this.lookup();
      const x = input("pixels", "float32", ["batch", 3, this.imageSize, this.imageSize]);
      const { logits } = decode(weight, patchMap(this.encoder, weight, x), false);
      this.predictSession = await compile(graph([x, ...inputs.values()], { logits }), this.device);
    }
    const weights = Object.fromEntries(names.map((name) => [name, required(this.state, name)]));
    const { tensors } = await this.predictSession.run({ feeds: { pixels, ...weights }, fetch: ["logits"] });
    const logits = tensors.logits as FloatTensor;
    const checked =
      this.source.kind === "vit"
        ? { weights: this.source.model.weights, path: this.source.model.origin.path }
        : { weights: new Map<string, FloatTensor>(), path: "pixels" };
    checkOutputs({ "the decoder's logits": logits }, checked, { images: slices }, pixels);
    return logits;
  }

  /** What trained, and the running statistics. */
  async weights(): Promise<Map<string, FloatTensor>> {
    const names = [...this.shapes.keys(), ...statisticShapes().keys()];
    return downloadAll(this.device, new Map(names.map((name) => [name, required(this.state, name)])));
  }

  async dispose(): Promise<void> {
    await this.stepSession?.session.dispose();
    await this.predictSession?.dispose();
    await this.device.release([...this.state.values()]);
    await this.device.trim();
  }
}

/** Batches of an epoch, in that epoch's order. */
export type EpochBatches = (epoch: number) => AsyncIterable<SliceBatch>;

/** Trains to the end: AdamW, a short warm-up, then half a cosine. */
export async function trainSegmenter(
  segmenter: Segmenter,
  epochBatches: EpochBatches,
  iterationsPerEpoch: number,
  options: SegmenterOptions,
  progress: (step: number, loss: number) => void = () => undefined,
): Promise<number[]> {
  const schedule = {
    kind: "cosine" as const,
    baseLearningRate: options.learningRate,
    warmupEpochs: options.warmupEpochs,
    epochs: options.epochs,
    iterationsPerEpoch,
  };
  const losses: number[] = [];
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    for await (const batch of epochBatches(epoch)) {
      // The first step of a warm-up from nothing would be lost.
      losses.push(await segmenter.step(batch, learningRateAt(schedule, losses.length + 0.5)));
      progress(losses.length, losses.at(-1) as number);
    }
  }
  return losses;
}
