// `wecolora cache`: the teacher's features of training crops, made once, by tasks if wanted, for runs of `distill` that read them.
import { z } from "zod";
import { openOptions, pathOption, readOptionsFor } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import type { ImageSource } from "../data/loader.ts";
import { paperAugmentation } from "../data/transforms.ts";
import { modelKey } from "../evaluation/feature-store.ts";
import type { Directory } from "../files/storage.ts";
import { readBytes } from "../files/storage.ts";
import { launchOptionNames, launchOptions } from "../launchers/launch-options.ts";
import type { Model } from "../models/model.ts";
import type { Int8Options } from "../models/precision.ts";
import { methodOf } from "../students/methods/lookup.ts";
import { int8Of } from "../students/settle-precision.ts";
import { keptBlocksFor } from "../students/run-start.ts";
import type { TargetPart } from "../students/training/cached-features.ts";
import { cropBatches, cropBytes, seeCrops } from "../students/training/cached-features.ts";
import { targetMakerOf } from "../students/training/distillation.ts";
import { checkMethod, distillationOptions } from "../students/training/setup.ts";
import { planBatches } from "../students/training/step-plan.ts";
import type { TargetMaker } from "../students/training/target-maker.ts";
import { OptionError, UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import { withOutput } from "../workspace/output-folder.ts";
import type { HashedInput } from "../workspace/plan-folder.ts";
import type { CropFacts } from "./crop-cache.ts";
import { cropImageSchema, cropLength, cropsEntry, targetPartSchema, writeCropFacts } from "./crop-cache.ts";
import { embeddingOf, openInputs } from "./distill.ts";
import { distillOptions, distillRunSchema, recipes } from "./distill-options.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import type { Division, EarlierPlan, HashedItem, Work } from "./division.ts";
import { checkImages, defineDivision, itemSchema, settledBefore } from "./division.ts";
import { divisibleCommand } from "./launch.ts";
import { distillInputs, int8Schema } from "./run-settings.ts";

/** `wecolora cache`: the options of the run that reads it, so that one file of settings serves both. */
export const cacheRunSchema = distillRunSchema.extend({
  out: pathOption.describe("output folder of the cached features"),
  ...launchOptions,
});

export type CacheRunInput = z.input<typeof cacheRunSchema>;
type CacheOptions = z.output<typeof cacheRunSchema>;

export interface CacheRunResult {
  readonly out: string;
  readonly images: number;
  /** Crops of each image. */
  readonly crops: number;
  readonly bytes: number;
}

/** Crops that the teacher is shown together. */
const unitSchema = z.object({ crop: z.number().int().min(0), items: z.array(itemSchema).min(1) });
type CropUnit = { readonly crop: number; readonly items: readonly HashedItem[] };

/** What a plan settles for all tasks. */
const settledSchema = z.object({
  /** The folder of the images. */
  folder: z.string(),
  teacher: z.string(),
  images: z.number(),
  int8: int8Schema.optional(),
  keptBlocks: z.array(z.number()).optional(),
});
type Settled = z.output<typeof settledSchema>;

const partSchema = z.object({
  parts: z.array(targetPartSchema),
  /** The images of its first crops, in order. */
  images: z.array(cropImageSchema),
});

/** Targets in a file, in the order of their crops. */
interface CachePart extends z.output<typeof partSchema> {
  readonly directory: Directory;
}

interface Opened {
  readonly teacher: Model;
  readonly source: ImageSource;
}

/** The teacher's features of crops, batch by batch. */
class CacheWork implements Work<CropUnit, CachePart, CacheRunResult> {
  private readonly context: RunContext;
  private readonly options: CacheOptions;
  private facts: Settled | undefined;
  private opened: Opened | undefined;
  private maker: TargetMaker | undefined;

  constructor(context: RunContext, options: CacheOptions, settled: unknown) {
    this.context = context;
    this.options = options;
    this.facts = settled === undefined ? undefined : settledSchema.parse(settled);
  }

  async units(_: boolean, earlier?: EarlierPlan): Promise<CropUnit[]> {
    const { context, options } = this;
    const crops = cropsOf(options);
    const inputs = await openInputs(context, { ...options, evaluate: false, evaluateSteps: 0 }, undefined);
    const { teacher, source, images, data, teacherHash, skipped } = inputs;
    this.opened = { teacher, source };
    skipped.report(context);
    // What an earlier plan measured is not measured again: with another answer finished tasks would have to be repeated.
    const before = await settledBefore(earlier, settledSchema, () => this.inputs());
    const int8 = before ? before.int8 : await int8Of(context, options, teacher, source, images.train);
    const maker = makerOf(options, teacher, images.train.length, undefined, int8);
    const several = maker.names.filter(isState).length > 1;
    // Losses over several blocks read those that the student's stand for.
    const kept = several ? await keptBlocksFor({ options, teacher, source, items: images.train, context }) : undefined;
    this.maker = kept ? makerOf(options, teacher, images.train.length, kept, int8) : maker;
    this.facts = {
      ...{ folder: data.path, teacher: teacherHash, images: images.train.length },
      ...(kept ? { keptBlocks: [...kept] } : {}),
      ...(int8 ? { int8: { ...int8, parts: [...int8.parts] } } : {}),
    };
    const hashes = new Map(images.manifest.map(({ item, sha256 }) => [item, sha256]));
    const items = images.train.map((item): HashedItem => {
      const sha256 = hashes.get(item);
      return sha256 === undefined ? item : { ...item, sha256 };
    });
    return cropBatches(items, crops);
  }

  settled(): unknown {
    return this.facts;
  }

  async inputs(): Promise<HashedInput[]> {
    const { teacher } = await this.open();
    return [{ option: "--teacher", path: this.options.teacher, sha256: await modelKey(teacher) }];
  }

  async run(units: readonly CropUnit[], output: OutputFolder | undefined): Promise<CachePart> {
    const { context, options } = this;
    if (!output) throw new Error("a cache needs a folder");
    const { directory } = output;
    const { teacher, source } = await this.open();
    const maker = this.targetMaker(teacher);
    await checkImages(source, [...new Map(units.flatMap(({ items }) => items).map((one) => [one.name, one])).values()]);
    await directory.remove(cropsEntry);
    const settings = { source, preprocessing: teacher.preprocessing, augmentation: paperAugmentation };
    context.listener.stage?.(
      "caching teacher features",
      units.reduce((sum, { items }) => sum + items.length, 0),
    );
    let parts: readonly TargetPart[] = [];
    let done = 0;
    for (const unit of units) {
      const seen = await seeCrops(maker, { ...settings, seed: options.seed }, unit);
      parts = seen.parts;
      await directory.append(cropsEntry, cropBytes(seen.kept));
      context.listener.progress?.((done += unit.items.length));
    }
    const first = units.filter(({ crop }) => crop === 0).flatMap(({ items }) => items);
    return {
      directory,
      parts: parts.map((part) => ({ ...part, dims: [...part.dims] })),
      images: first.map(({ name, sha256 }) => [name, sha256 ?? null]),
    };
  }

  async merge(made: readonly CachePart[], output: OutputFolder | undefined): Promise<CacheRunResult> {
    const { options, facts } = this;
    if (!output || !facts) throw new Error("a cache needs a folder and what was settled");
    const { directory } = output;
    const crops = cropsOf(options);
    const [{ parts }] = made;
    // In one process it stands there already.
    if (made.some((part) => part.directory !== directory)) await joinFiles(directory, made);
    const all: CropFacts = {
      ...{ teacher: facts.teacher, int8: facts.int8 ?? null, seed: options.seed, crops, images: facts.images },
      ...{ embedding: embeddingOf(options), parts },
    };
    await writeCropFacts(
      directory,
      all,
      made.flatMap(({ images }) => images),
    );
    await output.removeStale();
    return { out: options.out, images: all.images, crops, bytes: all.images * crops * cropLength(parts) };
  }

  async dispose(): Promise<void> {
    await this.maker?.closeSession();
    await this.opened?.source.dispose();
    await this.opened?.teacher.dispose();
  }

  /** The teacher and the images, for a task. */
  private async open(): Promise<Opened> {
    if (this.opened) return this.opened;
    const { context, options, facts } = this;
    if (!facts) throw new Error("nothing was settled");
    this.opened = await openTeacher(context, options, facts.folder);
    return this.opened;
  }

  /** What makes the targets, as it was settled. */
  private targetMaker(teacher: Model): TargetMaker {
    const { facts } = this;
    if (!facts) throw new Error("nothing was settled");
    this.maker ??= makerOf(this.options, teacher, facts.images, facts.keptBlocks, facts.int8);
    return this.maker;
  }
}

async function openTeacher(context: RunContext, options: CacheOptions, folder: string): Promise<Opened> {
  const { environment } = context;
  const data = await environment.openDataSet(options.data, openOptions(options));
  const teacher = await environment.loadModel(options.teacher, loadRequest(context, readOptionsFor(options, data)));
  await teacher.offload();
  return { teacher, source: environment.createImageSource(folder) };
}

/** Crops of each image. Throws an OptionError where the options don't say how many. */
function cropsOf({ cachedCrops }: CacheOptions): number {
  if (cachedCrops !== undefined) return cachedCrops;
  throw new OptionError([(name) => `Give ${name("cachedCrops")}: the crops of each image that are cached.`]);
}

const isState = (name: string) => name.startsWith("target.");

/** What makes the targets. Throws an OptionError where the method can't do with cached ones. */
function makerOf(
  options: DistillRunOptions,
  teacher: Model,
  images: number,
  kept: readonly number[] | undefined,
  int8: Int8Options | undefined,
): TargetMaker {
  const { trains } = methodOf(options.method);
  const plan = planBatches(images, options, trains);
  const settings = { ...distillationOptions(options, plan, kept), precision: int8 ? "int8" : "float32" } as const;
  const maker = trains ? targetMakerOf(teacher, settings, int8) : undefined;
  checkMethod(options, { takesTargets: maker !== undefined, trains });
  if (!maker) throw new Error("a method without targets was not refused");
  return maker;
}

/** Bytes that are copied at once. */
const copied = 16 * 2 ** 20;

/** Joins the files of tasks in their order. */
async function joinFiles(directory: Directory, parts: readonly CachePart[]): Promise<void> {
  await directory.remove(cropsEntry);
  for (const part of parts) {
    const file = await part.directory.open(cropsEntry);
    if (!file)
      throw new UserError(`There is no file ${part.directory.describe(cropsEntry)}.`, { code: "FILE_NOT_FOUND" });
    try {
      for (let from = 0; from < file.size; from += copied)
        await directory.append(cropsEntry, await readBytes(file, from, Math.min(copied, file.size - from)));
    } finally {
      await file.close();
    }
  }
}

const cacheText = ({ out, images, crops, bytes }: CacheRunResult): string =>
  `${out}: teacher features of ${crops} crops of ${images} images, ${(bytes / 1e6).toFixed(1)} MB. Train with them: wecolora distill --cached-features ${out} and the same options`;

/** Launch options and those of the run, each with its own defaults. */
function parse(input: Readonly<Record<string, unknown>>, what: string): CacheOptions {
  const isLaunch = ([name]: [string, unknown]) => launchOptionNames.includes(name);
  const given = Object.entries(input);
  return {
    ...distillOptions(Object.fromEntries(given.filter((entry) => !isLaunch(entry))), what),
    ...parseOptions(z.strictObject(launchOptions), Object.fromEntries(given.filter(isLaunch)), what),
  };
}

export const division: Division<typeof cacheRunSchema, CropUnit, CachePart, CacheRunResult> = defineDivision({
  name: "cache",
  schema: cacheRunSchema,
  parse,
  unit: unitSchema,
  out: ({ out }) => out,
  within(context, options, use) {
    cropsOf(options);
    return withOutput(context, { path: options.out, kind: "cache", inputs: distillInputs(options) }, use);
  },
  open: async (context, options, settled) => new CacheWork(context, options, settled),
  store: ({ parts, images }: CachePart) => ({ value: { parts, images }, tensors: new Map() }),
  read: ({ value }, directory) => ({ ...partSchema.parse(value), directory }),
  text: cacheText,
});

export const command = divisibleCommand(division, "Cache a teacher's features of training crops, for distill.", {
  positional: ["teacher", "data", "out"],
  recipes,
});
