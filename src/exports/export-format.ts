// What an export is: a form that models are written in, and how it is read back to be measured. One file an export;
// `npm run generate` lists them. `wecolora export`, `--export` of distill and `saveModel` know no export by name.
import type { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import type { Model } from "../models/model.ts";
import type { Device } from "../runtime/device.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { Calibration } from "../students/bits/quantize-weights.ts";
import type { StudentRunOptions } from "../students/run-options.ts";
import type { WeightType } from "../utils/half.ts";
import type { OptionShape } from "../utils/option-shapes.ts";
import type { FloatTensor } from "../utils/tensor.ts";

/** Receives what a library does otherwise than the model. */
export type Warn = (message: string) => void;

/** Anything that gives pooled features `[B, D]` for pixels `[B, C, H, W]`. */
export interface Embedder {
  /** Throws a UserError where a vector is not finite; `images` are the names to say then. */
  pooled(pixels: FloatTensor, images?: readonly string[]): Promise<FloatTensor>;
  dispose(): Promise<void>;
}

/** The finished run that a model comes from. */
export interface RunOrigin {
  readonly directory: Directory;
  readonly options: StudentRunOptions;
  readonly keptBlocks: readonly number[];
}

export interface WriteContext<Own extends OptionShape = OptionShape> {
  readonly model: ModelDefinition;
  readonly directory: Directory;
  /** Type of the stored weights, where the export leaves it open. */
  readonly weightType: WeightType;
  readonly options: z.output<z.ZodObject<Own>>;
  readonly warn: Warn;
  /** Images that weights may be rounded for, where there are any. */
  readonly calibration?: Calibration;
  /** Stops the writing. Exports that compute for long without the device check it. */
  readonly signal?: AbortSignal;
  /** The run that the model comes from, and what it runs in. Not there where `saveModel` writes. */
  readonly run?: { readonly origin: RunOrigin; readonly context: RunContext };
}

export interface OpenContext {
  readonly directory: Directory;
  /** The model that was written: its configuration, and the device to run on. */
  readonly model: Model;
  readonly context: RunContext;
  readonly origin?: RunOrigin;
  readonly warn: Warn;
}

/** How far an export's pooled features may be from the model's. */
export interface Tolerance {
  /** Mean absolute difference, over the mean absolute value of the model's features. */
  readonly relativeDifference: number;
  /** Least mean cosine similarity. */
  readonly cosine: number;
  /** Why so far. */
  readonly reason: string;
}

const mergingReason = "rounding, which may merge other tokens where two are about equally alike";
/** What merging allows at least: an export that rounds nothing else. */
const leastForMerging = { relativeDifference: 0.1, cosine: 0.99 };

/**
 * How far an export that merges tokens may be from our own forward that merges them alike: up to three times as far as without merging,
 * since where others are merged all blocks behind see other tokens, but no further than leaves something to check. How far merging itself
 * goes is measured against the unmerged model and reported.
 */
export const mergingTolerance = ({ relativeDifference, cosine, reason }: Tolerance): Tolerance => ({
  relativeDifference: Math.max(
    leastForMerging.relativeDifference,
    relativeDifference + Math.min(2 * relativeDifference, 0.5),
  ),
  cosine: Math.min(leastForMerging.cosine, cosine - Math.min(2 * (1 - cosine), 0.1)),
  reason: `${mergingReason} (${reason})`,
});

/** The tolerance of exports that hold the model's own weights in float32. */
export const exactTolerance: Tolerance = {
  relativeDifference: 1e-3,
  cosine: 0.9999,
  reason: "the same numbers, summed in another order",
};

/** How searches over exports try one. */
export interface ExportSearch<Own extends OptionShape = OptionShape> {
  /** Options that are tried, the most faithful first. Where there are none, a search tries the export only where it is named. */
  readonly tried: readonly z.input<z.ZodObject<Own>>[];
  /** The model with the numbers that a file stands for, without writing one. */
  asComputed(model: ModelDefinition, settings: ComputedSettings<Own>): Promise<Model>;
}

/** What a model is computed with as its file would be. */
export interface ComputedSettings<Own extends OptionShape = OptionShape> {
  readonly device: Device;
  readonly options: z.output<z.ZodObject<Own>>;
  /** Images that weights are rounded for, where the export reads images. */
  readonly calibration?: Calibration;
  /** As in `WriteContext`. */
  readonly signal?: AbortSignal;
}

export interface ExportFormat<Own extends OptionShape = OptionShape, Name extends string = string> {
  /** What `--to` takes. */
  readonly name: Name;
  readonly summary: string;
  /** The `dtype` that transformers.js loads it by. */
  readonly dtype?: string;
  /** The export's own options. */
  readonly options: Own;
  /** Whether it writes what a run trained, so that `saveModel` can't. */
  readonly needsRun?: boolean;
  /** Whether it can hold a model that merges tokens (`--merge-tokens`): those that are graphs can. */
  readonly mergesTokens?: boolean;
  /** Whether it makes use of images (`calibration`). */
  readonly readsImages?: boolean;
  /** Throws a UserError that says why, where it has no place for a model or for what its run trained. */
  check?(model: ModelDefinition, origin: Pick<RunOrigin, "options"> | undefined): void;
  write(context: WriteContext<Own>): Promise<void>;
  /** Loads what was written as a reader would. */
  open(context: OpenContext): Promise<Embedder>;
  /** The files that hold weights; those that are not there count as empty. */
  readonly files: readonly string[];
  /** Bytes that a weight takes in these files with these options (its defaults where left out), about. */
  bytesPerWeight(weightType: WeightType, options?: z.output<z.ZodObject<Own>>): number;
  /** What searches over exports need; they leave out exports that don't have it. */
  readonly search?: ExportSearch<Own>;
  readonly tolerance: Tolerance;
  /** The tolerance with these options, where they change it. */
  toleranceWith?(options: z.output<z.ZodObject<Own>>): Tolerance;
}

/** Keeps the types of an export's options; see ExportFormat. */
export const defineExport = <const Own extends OptionShape, const Name extends string>(
  format: ExportFormat<Own, Name>,
): ExportFormat<Own, Name> => format;

/** A model as what gives pooled features. */
export const embedderOf = (model: Model, exportName?: string): Embedder => ({
  pooled: async (pixels, images) => {
    const subject = { images, ...(exportName === undefined ? {} : { model: `that the export ${exportName} holds` }) };
    return (await model.outputs(pixels, ["pooled"], subject)).pooled;
  },
  dispose: () => model.dispose(),
});

/** A directory that wecolora loads again by itself. */
export async function openDirectory(
  format: string,
  { directory, model, context, warn }: OpenContext,
  entry = "",
): Promise<Model> {
  const loaded = await context.environment.loadModel(directory.describe(entry), {});
  if (model.config.head && !loaded.config.head)
    warn(`${format} has no place for the model's head, so it holds the features alone`);
  return loaded;
}
