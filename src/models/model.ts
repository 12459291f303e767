// A model that can be run: its definition, and sessions made when they are first needed.
import { Sessions } from "../engine/compile.ts";
import { graph, input } from "../engine/graph/build.ts";
import type { Graph, Value } from "../engine/graph/graph.ts";
import type { VitConfig } from "./config.ts";
import type { ModelDefinition, ModelOrigin } from "./definition.ts";
import { parameterCount } from "./definition.ts";
import { frozenWeights, hasPoolerOutput, vitForward } from "./vit.ts";
import type { Int8Options } from "../engine/passes/int8/int8-products.ts";
import { runInParts } from "../runtime/batch-parts.ts";
import type { Device, Session } from "../runtime/device.ts";
import { UserError } from "../utils/errors.ts";
import type { Preprocessing } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { OutputSubject } from "./finite-outputs.ts";
import { checkOutputs } from "./finite-outputs.ts";

export interface ForwardOptions extends OutputSubject {
  /** Also give the tokens that enter block 0 and each block's output. */
  readonly hiddenStates?: boolean;
}

export interface ForwardResult {
  /** `[B, N, D]`, after the final norm. */
  readonly lastHiddenState: FloatTensor;
  /** `[B, N, D]` each, index 0 what enters block 0, index i what block i - 1 gives; before the final norm. */
  readonly hiddenStates?: FloatTensor[];
  /** `[B, classes]`, where the model has a head. */
  readonly logits?: FloatTensor;
  /** `[B, D]`: the vector that stands for an image, after the final norm (the class token, in most models). */
  readonly pooled: FloatTensor;
  /** `[B, D]`: Hugging Face's `pooler_output`, where it is more than the class token. */
  readonly poolerOutput?: FloatTensor;
  /** `[B, P]`, where the model has a projection into a space shared with texts. */
  readonly imageEmbeds?: FloatTensor;
}

export interface ModelOptions {
  /** Compute in float16; what goes in and comes out stays float32. */
  readonly half?: boolean;
  /** Run linear maps in 8 bits; float32 where left out (`choosePrecision` says what suits the machine). */
  readonly int8?: Int8Options;
}

/** Weights of so many bytes are worth a file. */
const worthOffloading = 32 * 2 ** 20;

/** A model's weights, resting in a file where that is worth it and the device can: see `Model.rest`. */
export async function offloadedWeights(
  definition: ModelDefinition,
  device: Device,
): Promise<ModelDefinition["weights"]> {
  const { weights } = definition;
  return 4 * parameterCount(definition) < worthOffloading ? weights : ((await device.offload?.(weights)) ?? weights);
}

/** Outputs that evaluations ask for; only what is asked for is computed. */
export type OutputName = "lastHiddenState" | "blockOutput" | "pooled" | "logits";

export class Model {
  readonly config: VitConfig;
  readonly preprocessing: Preprocessing;
  readonly origin: ModelOrigin;
  /** Where the model's graphs run; distillation and evaluation use the same one. */
  readonly device: Device;
  /** Products in 8 bits, where the model runs with them. */
  readonly int8: Int8Options | undefined;
  private readonly sessions: Sessions;
  /** What open sessions give, by their keys. */
  private readonly opened = new Map<string, readonly string[]>();
  private ownWeights: ReadonlyMap<string, FloatTensor>;

  constructor(definition: ModelDefinition, device: Device, options: ModelOptions = {}) {
    this.config = definition.config;
    this.ownWeights = definition.weights;
    this.preprocessing = definition.preprocessing;
    this.origin = definition.origin;
    this.device = device;
    this.int8 = options.int8;
    this.sessions = new Sessions(device, { int8: options.int8, half: options.half, packWeights: true });
  }

  get weights(): ReadonlyMap<string, FloatTensor> {
    return this.ownWeights;
  }

  /**
   * Lets go of the memory that large weights take: they lie in a file from now on (in the system's folder for such), which sessions read
   * in place where each would copy them, and which is gone when nobody needs it any more. Does nothing for weights below 32 MiB, and
   * where the device has no disk or its disk no room.
   */
  async offload(): Promise<void> {
    this.ownWeights = await offloadedWeights(this, this.device);
  }

  get parameters(): number {
    return parameterCount(this);
  }

  /**
   * Runs the model on normalised images `[B, 3, H, W]`. Throws a UserError where the input has another type or shape
   * than the model takes, and where an output is not finite.
   */
  async forward(pixels: FloatTensor, options: ForwardOptions = {}): Promise<ForwardResult> {
    const states = options.hiddenStates ? Array.from({ length: this.config.depth + 1 }, (_, i) => `hidden.${i}`) : [];
    const { head, projection } = this.config;
    const parts = [
      ...(head ? ["logits"] : []),
      ...(hasPoolerOutput(this.config) ? ["poolerOutput"] : []),
      ...(projection ? ["imageEmbeds"] : []),
    ];
    const result = await this.run(pixels, ["lastHiddenState", "pooled", ...parts, ...states], options);
    return {
      lastHiddenState: result.lastHiddenState,
      pooled: result.pooled,
      ...(options.hiddenStates ? { hiddenStates: states.map((name) => result[name]) } : {}),
      ...Object.fromEntries(parts.map((name) => [name, result[name]])),
    };
  }

  /**
   * Runs the model and gives just the outputs asked for: `pooled` is `[B, D]`, the vector that stands
   * for an image (the class token after the final norm, in most models). Throws a UserError where an output is not
   * finite; `subject` says what it names.
   */
  outputs<N extends OutputName>(
    pixels: FloatTensor,
    names: readonly N[],
    subject: OutputSubject = {},
  ): Promise<Record<N, FloatTensor>> {
    return this.run(pixels, names, subject);
  }

  private async run<N extends string>(
    pixels: FloatTensor,
    names: readonly N[],
    subject: OutputSubject,
  ): Promise<Record<N, FloatTensor>> {
    this.checkInput(pixels);
    const outputs = await runInParts(await this.session(names), this.device, pixels, names);
    checkOutputs(outputs, { weights: this.weights, path: this.origin.path }, subject, pixels);
    return outputs;
  }

  /** One that gives these outputs: where one is open that gives more too, another would take no less time, and hold the weights again. */
  private async session(names: readonly string[]): Promise<Session> {
    const open = [...this.opened.values()].find((given) => names.every((name) => given.includes(name))) ?? names;
    const session = await this.sessions.get(open.join(), () => this.graphOf(open));
    this.opened.set(open.join(), open);
    return session;
  }

  private graphOf(names: readonly string[]): Graph {
    const { imageSize, channels } = this.config;
    const pixels = input("pixels", "float32", ["batch", channels, imageSize, imageSize]);
    const built = vitForward(this.config, frozenWeights(this.weights), pixels);
    const values: Record<string, Value | undefined> = {
      lastHiddenState: built.lastHiddenState,
      blockOutput: built.hiddenStates[this.config.depth],
      pooled: built.pooled,
      logits: built.logits,
      poolerOutput: built.poolerOutput,
      imageEmbeds: built.imageEmbeds,
      ...Object.fromEntries(built.hiddenStates.map((value, i) => [`hidden.${i}`, value])),
    };
    const outputs = names.map((name): [string, Value] => {
      const value = values[name];
      if (!value) throw new UserError(`The model has no ${name}`);
      return [name, value];
    });
    // ONNX Runtime fuses the last sum with the norm behind it unless that sum is an output, and a fused norm has other last bits. As an
    // output of every graph it is never fused: outputs are the same bits whichever session gives them.
    return graph([pixels], new Map([...outputs, ["blockOutput", built.hiddenStates[this.config.depth]]]));
  }

  private checkInput({ type, dims }: FloatTensor): void {
    const { channels, imageSize } = this.config;
    const fits =
      dims.length === 4 && dims[0] > 0 && dims[1] === channels && dims[2] === imageSize && dims[3] === imageSize;
    if (type !== "float32" || !fits) {
      throw new UserError(
        `The model takes float32 [B, ${channels}, ${imageSize}, ${imageSize}], got ${type} [${dims.join(", ")}]`,
      );
    }
  }

  /** Closes the model's sessions. The device stays: it may serve other models. */
  dispose(): Promise<void> {
    this.opened.clear();
    return this.sessions.dispose();
  }
}
