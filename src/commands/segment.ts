// `wecolora segment`: decoders on models' patch tokens, trained on slices of scans and evaluated on held-out ones.
import { FileNames } from "../utils/escape.ts";
import { z } from "zod";
import { writeSafetensors } from "../checkpoints/safetensors-file.ts";
import { stackCrops } from "../data/loader.ts";
import type { SliceSplit, SliceStack } from "../data/scans.ts";
import { isVolumeName } from "../data/scans.ts";
import { classesOf, sliceCrop } from "../data/slice-crops.ts";
import type { Interval } from "../evaluation/confidence.ts";
import { resampled } from "../evaluation/confidence.ts";
import { mean } from "../evaluation/metrics.ts";
import type { Mask } from "../segmentation/mask-metrics.ts";
import { hausdorff95, overlaps } from "../segmentation/mask-metrics.ts";
import type { Encoder, SliceBatch } from "../segmentation/train-decoder.ts";
import { Segmenter, trainSegmenter } from "../segmentation/train-decoder.ts";
import type { Model } from "../models/model.ts";
import { maskOverlay } from "../report/masks.ts";
import { sideBySide } from "../report/overlay.ts";
import { boundsText, fewImages, tooFewImages } from "../report/results.ts";
import type { Column } from "../report/table.ts";
import { csvLines, markdownTable } from "../report/table.ts";
import { UserError } from "../utils/errors.ts";
import { spread } from "../utils/arrays.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { RgbImage, Preprocessing } from "../utils/image.ts";
import { randomStream } from "../utils/random.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import { modelNames, textChunks } from "../workspace/output-files.ts";
import type { OutputFolder, OutputRequest } from "../workspace/output-folder.ts";
import { withOutput } from "../workspace/output-folder.ts";
import type { SliceId } from "../segmentation/scan-cases.ts";
import { ScanCases } from "../segmentation/scan-cases.ts";
import {
  commonSchema,
  countOption,
  mostEpochs,
  mostImages,
  rateOption,
  listOption,
  pathOption,
  readOptions,
  readSchema,
} from "../context/common-options.ts";
import { axes, sliceDefaults } from "../data/scans.ts";
import { segmenterDefaults } from "../segmentation/train-decoder.ts";
import { defineCommand } from "./command.ts";
import { textTable } from "../report/table.ts";
import { counted } from "../utils/counted.ts";

/** `wecolora segment` */
export const segmentRunSchema = z.strictObject({
  model: listOption(pathOption).describe("encoders, one or several: directory, file of weights, or hub name"),
  data: pathOption
    .describe("folder of NIfTI volumes with masks")
    .meta({ note: "Masks are *_seg.nii.gz and the like, or in labelsTr/ beside imagesTr/." }),
  out: pathOption.describe("output folder for table, masks and decoders"),
  axis: z.enum(axes).default(sliceDefaults.axis).describe("axis that slices are cut across"),
  kinds: listOption(z.string().min(1))
    .optional()
    .describe("kinds of scans, as their files end (t1ce,t2,flair): the channels"),
  maskName: z
    .string()
    .min(1)
    .optional()
    .describe("how masks' files end, where it is not seg, mask, label, gt or tissue"),
  classNames: listOption(z.string().min(1))
    .optional()
    .describe("names of the masks' numbers, from the smallest above 0"),
  encoder: z.enum(["frozen", "trained"]).default("frozen").describe("whether the encoder trains with the decoder"),
  baseline: z.boolean().default(false).describe("also train the decoder on raw pixels as a baseline"),
  split: z
    .enum(["cases", "blocks", "ends"])
    .optional()
    .describe("what is held out: cases, or slices of each case")
    .meta({
      note: "Cases are the default where there are several; else a block of slices in the lower and one in the upper half, or the two ends.",
    }),
  heldOut: z
    .number()
    .positive()
    .lt(1)
    .default(sliceDefaults.share)
    .describe("share of the cases or slices held out for evaluation"),
  gap: z
    .number()
    .int()
    .min(0)
    .max(1000)
    .default(sliceDefaults.gap)
    .describe("slices next to held-out blocks that are not trained on"),
  trainSlices: countOption.optional().describe("at most so many slices to train on, evenly spread"),
  epochs: countOption.max(mostEpochs).default(segmenterDefaults.epochs).describe("passes over the slices"),
  warmupEpochs: z
    .number()
    .min(0)
    .max(mostEpochs)
    .default(segmenterDefaults.warmupEpochs)
    .describe("epochs of linear warm-up"),
  batch: countOption.max(mostImages).default(segmenterDefaults.batch).describe("batch: slices per step"),
  learningRate: rateOption.default(segmenterDefaults.learningRate).describe("highest learning rate of the decoder"),
  encoderRate: z
    .number()
    .positive()
    .max(1000)
    .default(segmenterDefaults.encoderRate)
    .describe("encoder's learning rate as a multiple of the decoder's"),
  weightDecay: z
    .number()
    .min(0)
    .max(1000)
    .default(segmenterDefaults.weightDecay)
    .describe("weight decay of matrices and kernels"),
  ...readSchema.shape,
  ...commonSchema.omit({ strict: true }).shape,
});

export type SegmentRunInput = z.input<typeof segmentRunSchema>;
export type SegmentRunOptions = z.output<typeof segmentRunSchema>;

/** segmentation.json says who wrote it. */
const segmentationFormat = { format: "wecolora-segmentation", version: 1 } as const;

/** How one class of one case came out; undefined where the class is in neither mask. */
export interface ClassResult {
  readonly case: string;
  readonly class: string;
  readonly dice: number | undefined;
  readonly iou: number | undefined;
  /** Millimetres. */
  readonly hausdorff95: number | undefined;
}

export interface SegmentResult {
  readonly model: string;
  /** Over the classes but the first (background), of the means over the cases. */
  readonly dice: number;
  readonly iou: number;
  readonly hausdorff95: number | undefined;
  /** 95 % intervals over the cases, where there are several. */
  readonly intervals: Partial<Readonly<Record<Figure, Interval>>>;
  readonly results: readonly ClassResult[];
  /** Of the encoder; 0 for bare pixels. */
  readonly parameters: number;
  readonly trainingSeconds: number;
  readonly firstLoss: number;
  readonly lastLoss: number;
}

export interface SegmentRunResult {
  readonly out: string;
  readonly classes: readonly string[];
  readonly slices: { readonly train: number; readonly test: number };
  readonly cases: number;
  readonly models: readonly SegmentResult[];
}

/** What a mask is measured by. */
type Figure = "dice" | "iou" | "hausdorff95";

/** The baseline's name: the decoder on the bare pixels of each patch. */
const bare = "pixels";

interface Work {
  readonly cases: ScanCases;
  readonly train: readonly SliceId[];
  readonly test: readonly SliceId[];
  readonly labels: readonly number[];
  readonly classes: readonly string[];
  readonly options: SegmentRunOptions;
}

function splitOf({ split, heldOut, gap, seed }: SegmentRunOptions, cases: number): SliceSplit {
  const kind = split ?? (cases > 1 ? "cases" : "blocks");
  if (kind !== "cases") return { kind, share: heldOut, gap };
  if (cases < 2)
    throw new UserError("There is only one case, so no case can be held out. Use --split blocks.", {
      code: "INVALID_DATA",
    });
  return { kind, share: heldOut, seed };
}

interface Job {
  readonly path: string;
  readonly name: string;
  /** The baseline: nothing but the geometry of the model. */
  readonly pixels: boolean;
}

function jobsOf({ model, baseline }: SegmentRunOptions): Job[] {
  const names = modelNames(model);
  const jobs = model.map((path, i) => ({ path, name: names[i], pixels: false }));
  return baseline ? [...jobs, { path: model[0], name: bare, pixels: true }] : jobs;
}

/** The mask of a slice as class numbers. */
function classMask(stack: SliceStack, slice: number, labels: readonly number[]): Uint8Array {
  const mask = stack.mask(slice);
  if (!mask)
    throw new UserError(`The case ${stack.name} has no mask; a segmentation is trained on masks.`, {
      code: "INVALID_DATA",
    });
  return mask.map((label) => labels.indexOf(label));
}

async function batchOf(
  { cases, labels }: Work,
  ids: readonly SliceId[],
  segmenter: Segmenter,
  normalisation: Pick<Preprocessing, "mean" | "std">,
  draw?: { readonly seed: number; readonly epoch: number },
): Promise<SliceBatch> {
  const sides = { image: segmenter.imageSize, mask: segmenter.side };
  const crops = [];
  for (const id of ids) {
    const stack = await cases.stack(id.case);
    const random = draw && randomStream(draw.seed, "slice view", draw.epoch, stack.name, id.slice);
    const mask = draw && classMask(stack, id.slice, labels);
    crops.push(sliceCrop(stack.image(id.slice), mask, sides, normalisation, random));
  }
  return {
    pixels: stackCrops(
      crops.map(({ pixels }) => pixels),
      [3, sides.image, sides.image],
    ),
    labels: stackCrops(
      crops.map((crop) => crop.labels ?? new Float32Array(sides.mask ** 2)),
      [1, sides.mask, sides.mask],
    ),
  };
}

/** An epoch's batches, the next one made while the model runs; the last is dropped where it is not full. */
async function* epochBatches(
  work: Work,
  segmenter: Segmenter,
  normalisation: Pick<Preprocessing, "mean" | "std">,
  epoch: number,
): AsyncGenerator<SliceBatch> {
  const { batch, seed } = work.options;
  const order = await work.cases.epochOrder(work.train, seed, epoch);
  const size = Math.min(batch, order.length);
  const load = (from: number) =>
    batchOf(work, order.slice(from, from + size), segmenter, normalisation, { seed, epoch });
  let ahead = load(0);
  for (let from = 0; from + size <= order.length; from += size) {
    const current = await ahead;
    if (from + 2 * size <= order.length) ahead = load(from + size);
    ahead.catch(() => undefined);
    yield current;
  }
}

/** Predicted classes of each held-out slice, in order. */
async function predictions(
  work: Work,
  segmenter: Segmenter,
  normalisation: Pick<Preprocessing, "mean" | "std">,
  progress: (done: number) => void,
): Promise<Uint8Array[]> {
  const masks: Uint8Array[] = [];
  for (let from = 0; from < work.test.length; from += work.options.batch) {
    const ids = work.test.slice(from, from + work.options.batch);
    const { pixels } = await batchOf(work, ids, segmenter, normalisation);
    const names = ids.map((id) => `${work.cases.files[id.case].name}, slice ${id.slice}`);
    const { data, dims } = await segmenter.predict(pixels, names);
    const size = dims[1] * dims[2] * dims[3];
    for (const [i, id] of ids.entries()) {
      const stack = await work.cases.stack(id.case);
      masks.push(classesOf(data.subarray(i * size, (i + 1) * size), dims[1], dims[2], stack));
    }
    progress(masks.length);
  }
  return masks;
}

/** Dice and the rest of each class of each case, over the case's held-out slices as one volume. */
async function evaluateMasks({ cases, test, labels, classes }: Work, predicted: readonly Uint8Array[]) {
  const results: ClassResult[] = [];
  for (const [i, { name }] of cases.files.entries()) {
    const places = test.flatMap((id, at) => (id.case === i ? [at] : []));
    if (places.length === 0) continue;
    const stack = await cases.stack(i);
    const first = test[places[0]].slice;
    const dims = [test[places[places.length - 1]].slice - first + 1, stack.height, stack.width] as const;
    const size = stack.height * stack.width;
    const [predictedMask, truth] = [0, 1].map((): Mask => ({ dims, data: new Uint8Array(dims[0] * size) }));
    for (const at of places) {
      const offset = (test[at].slice - first) * size;
      predictedMask.data.set(predicted[at], offset);
      truth.data.set(classMask(stack, test[at].slice, labels), offset);
    }
    const overlap = overlaps(predictedMask.data, truth.data, classes.length);
    classes.forEach((className, k) => {
      if (k === 0) return;
      const distance = hausdorff95(predictedMask, truth, k, stack.spacing);
      results.push({ case: name, class: className, ...overlap[k], hausdorff95: distance });
    });
  }
  return results;
}

/** The mean over the classes of each class's mean over the cases. */
function overClasses(results: readonly ClassResult[], key: Figure): number | undefined {
  const names = [...new Set(results.map((r) => r.class))];
  const means = names.flatMap((name) => {
    const values = results.flatMap((r) => (r.class === name && r[key] !== undefined ? [r[key]] : []));
    return values.length > 0 ? [mean(values)] : [];
  });
  return means.length > 0 ? mean(means) : undefined;
}

/** The 95 % interval of a mean over classes and cases: cases are drawn, since slices of one are alike. */
function overCases(results: readonly ClassResult[], key: Figure): Interval | undefined {
  const names = [...new Set(results.map((r) => r.case))];
  return resampled(names.length, resamples, (weights) =>
    overClasses(
      results.flatMap((r) => new Array<ClassResult>(weights[names.indexOf(r.case)]).fill(r)),
      key,
    ),
  );
}
const resamples = 1000;

/** Trains and judges decoders on several encoders, all with the same slices in the same order. */
export async function runSegmentation(context: RunContext, input: SegmentRunInput): Promise<SegmentRunResult> {
  const options = parseOptions(segmentRunSchema, input, "options of segment");
  const inputs = [
    ...options.model.map((path) => ({ option: "--model", path })),
    { option: "--data", path: options.data },
  ];
  const request: OutputRequest = { path: options.out, kind: "segmentation", inputs };
  return withOutput(context, request, (output) => segmentInto(context, options, output));
}

/** Segments in four stages: read and split the scans, train and evaluate a decoder for each encoder, draw, write. */
async function segmentInto(
  context: RunContext,
  options: SegmentRunOptions,
  output: OutputFolder,
): Promise<SegmentRunResult> {
  const work = await openWork(context, options);
  const { directory } = output;
  const models: SegmentResult[] = [];
  const masks = new Map<string, readonly Uint8Array[]>();
  for (const job of jobsOf(options)) {
    const { result, predicted } = await runJob(context, work, job, directory);
    models.push(result);
    masks.set(job.name, predicted);
  }
  await writeExamples(context, work, masks, directory);
  const result = await writeResult(work, models, directory);
  await output.removeStale();
  return result;
}

/** Reads the scans and says what is learned from and what is held out. */
async function openWork({ environment, listener }: RunContext, options: SegmentRunOptions): Promise<Work> {
  const paths = await environment.listFiles(options.data, isVolumeName);
  const { axis, kinds, maskName } = options;
  const cases = new ScanCases(environment.directory(options.data), paths, { axis, kinds, maskName });
  const count = cases.files.length;
  listener.stage?.("reading scans", count);
  const split = await cases.index(splitOf(options, count), (done) => listener.progress?.(done));
  const { labels, test } = split;
  const classes = classNamesOf(labels, options);
  const train = spread(split.train, options.trainSlices ?? split.train.length);
  if (train.length < 2 || test.length === 0)
    throw new UserError(
      `${train.length} slices to train on and ${test.length} to evaluate on are too few: lower --gap (${options.gap}) or change --held-out (${options.heldOut}).`,
      { code: "INVALID_DATA" },
    );
  listener.info?.(
    `${counted(count, "case")}, ${train.length} slices to train on, ${test.length} held out; ${classes.slice(1).join(", ")}`,
  );
  return { cases, train, test, labels, classes, options };
}

/** Names of the masks' numbers, the background first. Throws a UserError where there are no classes or too few names. */
function classNamesOf(labels: readonly number[], { classNames: names, data }: SegmentRunOptions): string[] {
  if (labels.length < 2)
    throw new UserError(`The masks in ${data} show nothing but background.`, { code: "INVALID_DATA" });
  if (names && names.length !== labels.length - 1)
    throw new UserError(
      `--class-names has ${names.length} names, but the masks hold ${labels.slice(1).join(", ")} beside the background.`,
      { code: "INVALID_OPTION" },
    );
  return ["background", ...(names ?? labels.slice(1).map((label) => `class ${label}`))];
}

/** Trains and evaluates one encoder's decoder, and writes its weights. */
async function runJob(context: RunContext, work: Work, { path, name, pixels }: Job, directory: Directory) {
  const { options, classes } = work;
  const model = await context.environment.loadModel(path, loadRequest(context, readOptions(options)));
  try {
    const { imageSize, patchSize } = model.config;
    const encoder: Encoder = pixels
      ? { kind: "pixels", imageSize, patchSize }
      : { kind: "vit", model, trained: options.encoder === "trained" };
    const { weights, ...evaluation } = await runOne(context, work, name, encoder, model);
    await directory.write(`${name}.safetensors`, writeSafetensors(weights, { classes: JSON.stringify(classes) }));
    return evaluation;
  } finally {
    await model.dispose();
  }
}

/** Writes table.md, table.csv and segmentation.json. */
async function writeResult(
  { options, classes, cases, train, test }: Work,
  models: readonly SegmentResult[],
  directory: Directory,
): Promise<SegmentRunResult> {
  const { columns, rows } = segmentTable(models);
  const table = `${segmentedOn(models, test.length)}\n\n${markdownTable(columns, rows)}\n`;
  await directory.write("table.md", textChunks(table));
  await directory.write("table.csv", textChunks(csvLines([columns.map(({ title }) => title), ...rows])));
  const slices = { train: train.length, test: test.length };
  const result = { out: options.out, classes, slices, cases: cases.files.length, models };
  const json = JSON.stringify({ ...segmentationFormat, options, ...result }, null, 2);
  await directory.write("segmentation.json", textChunks(`${json}\n`));
  return result;
}

async function runOne(context: RunContext, work: Work, name: string, encoder: Encoder, model: Model) {
  const { listener } = context;
  const segmenter = await Segmenter.create(encoder, work.classes.length, model.device, work.options);
  try {
    const training = await trainOne(context, work, name, segmenter, model.preprocessing);
    listener.stage?.(`evaluating ${name}`, work.test.length);
    const predicted = await predictions(work, segmenter, model.preprocessing, (done) => listener.progress?.(done));
    const results = await evaluateMasks(work, predicted);
    const parameters = encoder.kind === "vit" ? model.parameters : 0;
    const result: SegmentResult = { model: name, ...figuresOf(results), results, parameters, ...training };
    return { result, predicted, weights: await segmenter.weights() };
  } finally {
    await segmenter.dispose();
  }
}

/** Trains a decoder, and says how long that took and how far the loss fell. */
async function trainOne(
  { environment, listener }: RunContext,
  work: Work,
  name: string,
  segmenter: Segmenter,
  normalisation: Pick<Preprocessing, "mean" | "std">,
): Promise<Pick<SegmentResult, "trainingSeconds" | "firstLoss" | "lastLoss">> {
  const { options, train } = work;
  const batches = Math.floor(train.length / Math.min(options.batch, train.length));
  listener.stage?.(`training on ${name}`, batches * options.epochs);
  const begin = environment.now();
  const losses = await trainSegmenter(
    segmenter,
    (epoch) => epochBatches(work, segmenter, normalisation, epoch),
    batches,
    options,
    (step, loss) => {
      listener.progress?.(step, `loss ${loss.toFixed(4)}`);
    },
  );
  const trainingSeconds = (environment.now() - begin) / 1000;
  return { trainingSeconds, firstLoss: losses[0], lastLoss: losses[losses.length - 1] };
}

const figuresOf = (results: readonly ClassResult[]): Pick<SegmentResult, Figure | "intervals"> => ({
  dice: overClasses(results, "dice") ?? 0,
  iou: overClasses(results, "iou") ?? 0,
  hausdorff95: overClasses(results, "hausdorff95"),
  intervals: {
    dice: overCases(results, "dice"),
    iou: overCases(results, "iou"),
    hausdorff95: overCases(results, "hausdorff95"),
  },
});

/** Slices that are drawn, evenly spread over the held-out ones. */
const shownSlices = 6;

/** PNG files: the slice, its mask, and what was predicted on each encoder. */
async function writeExamples(
  { environment }: RunContext,
  { cases, test, labels }: Work,
  masks: ReadonlyMap<string, readonly Uint8Array[]>,
  out: Directory,
): Promise<void> {
  const fileNames = new FileNames();
  for (const at of spread([...test.keys()], shownSlices)) {
    const stack = await cases.stack(test[at].case);
    const { slice } = test[at];
    const image = stack.image(slice);
    const truth = maskOverlay(image, classMask(stack, slice, labels));
    const drawn: RgbImage[] = [...masks.values()].map((drawnMasks) => maskOverlay(image, drawnMasks[at]));
    const name = fileNames.add(`${stack.name.replace(/[^\w.-]+/g, "-")}-${slice}`, ".png");
    await out.write(`images/${name}`, [await environment.encodePng(sideBySide([image, truth, ...drawn]))]);
  }
}

const caseCount = ({ results }: SegmentResult) => new Set(results.map((r) => r.case)).size;
/** An interval, where the cases are so few that figures don't stand alone. */
const shown = (model: SegmentResult, interval: Interval | undefined) =>
  caseCount(model) < fewImages ? interval : undefined;

/** The first line of results: on how many held-out cases and slices, and what that allows. */
export function segmentedOn(models: readonly SegmentResult[], slices: number): string {
  const cases = Math.max(0, ...models.map(caseCount));
  const count = `Evaluated on ${slices} slices of ${counted(cases, "case")}`;
  if (cases >= fewImages) return `${count}.`;
  const verdict = cases < tooFewImages ? ": too few cases for a reliable figure" : "";
  const brackets = cases > 1 ? "In brackets: 95 % confidence intervals over the cases." : "One case has no interval.";
  return `${count}${verdict}. ${brackets}`;
}

/** One row a model: mean Dice and IoU, then Dice and distance of each class. */
export function segmentTable(models: readonly SegmentResult[]): { columns: Column[]; rows: string[][] } {
  const names = [...new Set(models.flatMap(({ results }) => results.map((r) => r.class)))];
  const columns: Column[] = [
    { title: "encoder", align: "left" },
    { title: "Dice" },
    { title: "IoU" },
    { title: "HD95 mm" },
    ...names.map((name) => ({ title: `Dice ${name}` })),
    { title: "M params" },
  ];
  const digits = (value: number | undefined, count: number) => (value === undefined ? "-" : value.toFixed(count));
  const rows = models.map((m) => [
    m.model,
    `${digits(m.dice, 3)}${boundsText(shown(m, m.intervals.dice), 3)}`,
    `${digits(m.iou, 3)}${boundsText(shown(m, m.intervals.iou), 3)}`,
    `${digits(m.hausdorff95, 1)}${boundsText(shown(m, m.intervals.hausdorff95), 1)}`,
    ...names.map((name) => {
      const rows = m.results.filter((r) => r.class === name);
      return `${digits(overClasses(rows, "dice"), 3)}${boundsText(shown(m, overCases(rows, "dice")), 3)}`;
    }),
    m.parameters > 0 ? (m.parameters / 1e6).toFixed(1) : "-",
  ]);
  return { columns, rows };
}

export const command = defineCommand({
  name: "segment",
  summary: "Train decoders on models' patch tokens over slices of scans, and evaluate their masks.",
  schema: segmentRunSchema,
  run: runSegmentation,
  text({ models, slices, out }) {
    const { columns, rows } = segmentTable(models);
    return `${segmentedOn(models, slices.test)}\n\n${textTable(columns, rows)}\n\n${out}: table.md, table.csv, segmentation.json, images/, decoders as safetensors`;
  },
  afterStop: "Segmentations are not resumed: run the same command again to start over.",
});
