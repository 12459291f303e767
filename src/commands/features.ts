// `wecolora features`: one feature row an image.
import { z } from "zod";
import { writeSafetensors } from "../checkpoints/safetensors-file.ts";
import {
  commonSchema,
  dataOption,
  dataSchema,
  openOptions,
  pathOption,
  readBatchOption,
  readOptions,
  readSchema,
} from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedImages } from "../context/run-context.ts";
import type { ImageSource, Skipped } from "../data/loader.ts";
import { modelKey } from "../evaluation/feature-store.ts";
import { featureRows, noneReadable } from "../evaluation/extract-features.ts";
import { launchOptions } from "../launchers/launch-options.ts";
import type { Model } from "../models/model.ts";
import { precisions } from "../models/precision.ts";
import { inPrecision, withInt8 } from "../students/settle-precision.ts";
import { batchesOf } from "../utils/arrays.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, elementBytes } from "../utils/tensor.ts";
import { checkOutputFile, checkRoom } from "../workspace/output-folder.ts";
import type { HashedInput } from "../workspace/plan-folder.ts";
import type { EarlierPlan, HashedItem, Work } from "./division.ts";
import { checkImages, defineDivision, hashedItems, itemSchema, settledBefore, skippedSchema } from "./division.ts";
import { divisibleCommand } from "./launch.ts";
import { int8Schema } from "./run-settings.ts";

/** `wecolora features` */
export const featuresRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory, file of weights, or hub name"),
  data: dataOption,
  ...dataSchema.shape,
  out: pathOption.describe("output file (safetensors)"),
  batch: readBatchOption,
  precision: z
    .enum(precisions)
    .default("float32")
    .describe("precision of the model's products")
    .meta({ note: "`auto` measures both and takes int8 where it is faster and features stay close." }),
  ...readSchema.shape,
  ...commonSchema.omit({ seed: true }).shape,
  ...launchOptions,
});

export type FeaturesRunInput = z.input<typeof featuresRunSchema>;

export interface FeaturesRunResult {
  readonly out: string;
  readonly images: number;
  readonly width: number;
  readonly skipped: number;
}

/** Metadata of a file of features. Safetensors holds texts alone; `names` is a list as JSON. */
const featureFormat = { format: "wecolora-features", version: "1" } as const;
export const featureMetadataSchema = z.object({
  format: z.literal(featureFormat.format),
  version: z.literal(featureFormat.version),
  names: z.string(),
});

/** Whether a file begins as our files of features do. */
const isFeatureFile = (head: string) => head.includes(`"format":"${featureFormat.format}"`);

/** What a plan settles for all tasks. */
const settledSchema = z.object({
  /** The folder of the images. */
  folder: z.string(),
  /** Files that are not used, as listing them showed. */
  skipped: z.number(),
  int8: int8Schema.optional(),
});

const partSchema = z.object({ names: z.array(z.string()), skipped: z.array(skippedSchema) });

/** Rows of some batches, and the images that could not be read. */
interface FeaturesPart extends z.output<typeof partSchema> {
  /** `[B, D]` each. */
  readonly rows: readonly FloatTensor[];
}

/** A unit is a batch of images: numbers may depend on what runs together. */
type FeaturesUnit = readonly HashedItem[];

const unitSchema: z.ZodType<FeaturesUnit> = z.array(itemSchema);

type FeaturesOptions = z.output<typeof featuresRunSchema>;

/** Features of images, batch by batch. */
class FeaturesWork implements Work<FeaturesUnit, FeaturesPart, FeaturesRunResult> {
  private readonly context: RunContext;
  private readonly options: FeaturesOptions;
  private readonly skipped: SkippedImages;
  private settledBefore: z.output<typeof settledSchema> | undefined;
  private opened: { readonly source: ImageSource; readonly model: Model } | undefined;

  constructor(context: RunContext, options: FeaturesOptions, settled: unknown) {
    this.context = context;
    this.options = options;
    this.skipped = new SkippedImages(options.strict);
    this.settledBefore = settled === undefined ? undefined : settledSchema.parse(settled);
  }

  async units(forPlan: boolean, earlier?: EarlierPlan): Promise<FeaturesUnit[]> {
    const { environment } = this.context;
    const { data: path, batch, precision, out } = this.options;
    const data = await environment.openImages(path, openOptions(this.options));
    this.settledBefore = { folder: data.path, skipped: data.skipped.length };
    const { source, model } = await this.open();
    this.skipped.open(this.context, data.skipped);
    // What was measured once is not measured again: with another answer finished tasks would have to be repeated.
    const before = await settledBefore(earlier, settledSchema, () => this.inputs());
    const chosen = before
      ? await withInt8(model, before.int8)
      : await inPrecision(this.context, model, precision, source, data.items);
    this.opened = { source, model: chosen };
    this.settledBefore = {
      ...this.settledBefore,
      ...(chosen.int8 ? { int8: { ...chosen.int8, parts: [...chosen.int8.parts] } } : {}),
    };
    await checkRoom(this.context, out, data.items.length * chosen.config.width * elementBytes.float32);
    const items = forPlan ? await hashedItems(source, data.items) : data.items;
    return batchesOf(items, batch);
  }

  settled(): unknown {
    return this.settledBefore;
  }

  async inputs(): Promise<HashedInput[]> {
    const { model } = await this.open();
    return [{ option: "--model", path: this.options.model, sha256: await modelKey(model) }];
  }

  async run(units: readonly FeaturesUnit[]): Promise<FeaturesPart> {
    const { listener } = this.context;
    const { source, model } = await this.open();
    const images = units.flat();
    await checkImages(source, images);
    listener.stage?.("features", images.length);
    const skipped: Skipped[] = [];
    const { rows, items } = await featureRows(model, source, images, {
      batch: this.options.batch,
      progress: (done) => listener.progress?.(done),
      skip: (file) => {
        this.skipped.add(file);
        skipped.push(file);
      },
    });
    return { rows, names: items.map(({ name }) => name), skipped };
  }

  async merge(parts: readonly FeaturesPart[]): Promise<FeaturesRunResult> {
    const { environment } = this.context;
    const { out } = this.options;
    const names = parts.flatMap((part) => part.names);
    if (names.length === 0) throw noneReadable();
    const features = concatRows(parts.flatMap(({ rows }) => rows));
    const metadata = featureMetadataSchema.parse({ ...featureFormat, names: JSON.stringify(names) });
    await environment.writeFile(out, writeSafetensors(new Map([["features", features]]), metadata));
    const unread = parts.flatMap(({ skipped }) => skipped);
    for (const file of unread) this.skipped.add(file);
    this.skipped.report(this.context);
    const skipped = (this.settledBefore?.skipped ?? 0) + unread.length;
    return { out, images: names.length, width: features.dims[1], skipped };
  }

  async dispose(): Promise<void> {
    await this.opened?.source.dispose();
    await this.opened?.model.dispose();
  }

  /** The images' source and the model, in the precision that was settled. */
  private async open(): Promise<{ readonly source: ImageSource; readonly model: Model }> {
    if (this.opened) return this.opened;
    const { environment } = this.context;
    const loaded = await environment.loadModel(
      this.options.model,
      loadRequest(this.context, readOptions(this.options)),
    );
    await loaded.offload();
    const model = await withInt8(loaded, this.settledBefore?.int8);
    this.opened = { model, source: environment.createImageSource(this.settledBefore?.folder ?? this.options.data) };
    return this.opened;
  }
}

const featuresText = ({ out, images, width }: FeaturesRunResult) => `${out}: ${images} rows of ${width}`;

/**
 * Writes the class tokens of all images of a folder as `features` `[n, D]` into a safetensors file; its metadata holds the
 * images' names in the order of the rows, as JSON.
 */
export const division = defineDivision({
  name: "features",
  schema: featuresRunSchema,
  unit: unitSchema,
  out: ({ out }) => out,
  async within(context, { out, model, data }, use) {
    const inputs = [
      { option: "--model", path: model },
      { option: "--data", path: data },
    ];
    await checkOutputFile(context, out, inputs, isFeatureFile);
    return use(undefined);
  },
  open: async (context, options, settled) => new FeaturesWork(context, options, settled),
  store: ({ rows, ...value }: FeaturesPart) => ({
    value,
    tensors: new Map(rows.length > 0 ? [["features", concatRows(rows)]] : []),
  }),
  read({ value, tensors }): FeaturesPart {
    const rows = tensors.get("features");
    return { ...partSchema.parse(value), rows: rows ? [rows] : [] };
  },
  text: featuresText,
});

export const command = divisibleCommand(division, "Write the features of images, one row per image.");
