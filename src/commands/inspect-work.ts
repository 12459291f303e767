// The work of `wecolora inspect MODEL --data D`, in units: all runs of blocks, the search for blocks to keep, and each model of the
// frontier that has to be refitted. What is measured without a refit (times, formats, token merging) decides which models those are,
// so the planning process measures it.
import { z } from "zod";
import { readOptions } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedImages } from "../context/run-context.ts";
import type { ImageSource } from "../data/loader.ts";
import { modelKey } from "../evaluation/feature-store.ts";
import { requireFiniteWeights } from "../models/finite-outputs.ts";
import type { Model } from "../models/model.ts";
import { blockRuns } from "../students/search/block-search.ts";
import { parseBudgets } from "../students/search/budget.ts";
import type { Candidate, SearchState } from "../students/search/lever-search.ts";
import { leverNames } from "../students/run-options.ts";
import { searchItems, searchCrops } from "../students/run-start.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import type { HashedInput } from "../workspace/plan-folder.ts";
import type { OpenedSearch } from "./choose-levers.ts";
import { openSearch } from "./choose-levers.ts";
import type { EarlierPlan, HashedItem, Work } from "./division.ts";
import { checkImages, hashedItems, itemSchema, settledBefore } from "./division.ts";
import type { BlocksRunOptions, BlocksRunResult, CropBatches } from "./inspect-blocks.ts";
import { searchChoices, writeInspection } from "./inspect-blocks.ts";
import { pricedModels, propose } from "./proposal.ts";

const place = z.number().int().min(0);
const candidateShape = { shape: place, tokens: place, format: place };
const measuredSchema = z.object({
  ...candidateShape,
  bytes: z.number(),
  milliseconds: z.number(),
  share: z.number(),
  loss: z.number(),
  agreement: z.number(),
});
const searchStateSchema = z.object({
  timed: z.array(z.object({ ...candidateShape, bytes: z.number(), milliseconds: z.number() })),
  measured: z.array(measuredSchema),
});

/** All runs of blocks, the search for blocks, or a model of the frontier. */
export const blocksUnitSchema = z.union([
  z.strictObject({ kind: z.enum(["runs", "search"]) }),
  z.strictObject({ kind: z.literal("model"), ...candidateShape }),
]);
export type BlocksUnit = z.output<typeof blocksUnitSchema>;

export const blocksPartSchema = z.object({
  runs: z.object({ residuals: z.array(z.array(z.number().nullable())), images: z.number() }).optional(),
  choices: z
    .array(z.object({ kept: z.array(z.number()), residual: z.number(), parameters: z.number(), bytes: z.number() }))
    .optional(),
  measured: z.array(measuredSchema),
});
export type BlocksPart = z.output<typeof blocksPartSchema>;

const settledSchema = z.object({
  /** The folder of the images. */
  folder: z.string(),
  /** The images that are measured on. */
  items: z.array(itemSchema),
  search: searchStateSchema.optional(),
});
type Settled = z.output<typeof settledSchema>;

/** Models along the frontier that are built, about. */
const frontierPoints = 8;

/** What was opened. */
interface Opened {
  readonly teacher: Model;
  readonly source: ImageSource;
  readonly items: readonly HashedItem[];
}

export class BlocksWork implements Work<BlocksUnit, BlocksPart, BlocksRunResult> {
  private readonly context: RunContext;
  private readonly options: BlocksRunOptions & { readonly model: string };
  private readonly skipped: SkippedImages;
  private facts: Settled | undefined;
  private opened: Opened | undefined;
  private search: OpenedSearch | undefined;

  constructor(context: RunContext, options: BlocksRunOptions & { readonly model: string }, settled: unknown) {
    this.context = context;
    this.options = options;
    this.skipped = new SkippedImages(options.strict);
    this.facts = settled === undefined ? undefined : settledSchema.parse(settled);
  }

  async units(forPlan: boolean, earlier?: EarlierPlan): Promise<BlocksUnit[]> {
    const { context, options } = this;
    const data = await context.environment.openImages(options.data);
    const items = searchItems(data.items, options.maxImages, options.seed);
    this.facts = { folder: data.path, items: [...items] };
    const { source } = await this.open();
    this.skipped.open(context, data.skipped);
    if (forPlan) this.facts = { ...this.facts, items: await hashedItems(source, items) };
    if (earlier) this.facts = { ...this.facts, ...(await this.measuredBefore(earlier)) };
    const models = options.frontier ? await this.modelsToBuild() : [];
    return [
      { kind: "runs" },
      ...(options.search ? [{ kind: "search" as const }] : []),
      ...models.map((one) => ({ kind: "model" as const, ...one })),
    ];
  }

  /** What an earlier plan measured, where the model and the images are the same. */
  private async measuredBefore(earlier: EarlierPlan): Promise<Pick<Settled, "search">> {
    const before = await settledBefore(earlier, settledSchema, () => this.inputs());
    const items = z.array(itemSchema).parse(this.facts?.items);
    return before && JSON.stringify(before.items) === JSON.stringify(items) ? { search: before.search } : {};
  }

  settled(): unknown {
    return this.facts;
  }

  async inputs(): Promise<HashedInput[]> {
    return [{ option: "the model", path: this.options.model, sha256: await modelKey(await this.model()) }];
  }

  async run(units: readonly BlocksUnit[]): Promise<BlocksPart> {
    const { listener } = this.context;
    const { teacher, source, items } = await this.open();
    await checkImages(source, items);
    const crops: CropBatches = (parts) => searchCrops(source, items, teacher, this.options.seed, parts);
    const { depth } = teacher.config;
    const longest = Math.min(depth, this.options.longest);
    const wanted = (kind: BlocksUnit["kind"]) => units.some((unit) => unit.kind === kind);
    let runs: BlocksPart["runs"];
    if (wanted("runs")) {
      listener.stage?.("measuring blocks", depth);
      const { residuals, images } = await blockRuns(teacher, crops(), longest, (done) => listener.progress?.(done));
      runs = { residuals: residuals.map((row) => row.map((value) => (Number.isFinite(value) ? value : null))), images };
    }
    const choices = wanted("search") ? await searchChoices(this.context, teacher, crops, longest) : undefined;
    const measured: BlocksPart["measured"] = [];
    for (const unit of units) {
      if (unit.kind !== "model") continue;
      const { search } = await this.levers();
      measured.push(await search.measure(unit));
    }
    return {
      ...(runs ? { runs } : {}),
      ...(choices ? { choices: choices.map((choice) => ({ ...choice, kept: [...choice.kept] })) } : {}),
      measured,
    };
  }

  async merge(parts: readonly BlocksPart[], output: OutputFolder | undefined): Promise<BlocksRunResult> {
    const { context, options } = this;
    const { frontier: wanted, budget, out } = options;
    const { residuals, images } = parts.flatMap(({ runs }) => runs ?? [])[0];
    const choices = parts.flatMap((part) => part.choices ?? []);
    if (wanted) (await this.levers()).search.take(parts.flatMap(({ measured }) => measured));
    const proposal = budget === undefined ? undefined : await this.proposed(budget);
    const frontier = wanted ? pricedModels(await this.levers()) : undefined;
    if (output) await writeInspection(context, output, { residuals, ...(frontier ? { frontier } : {}) });
    this.skipped.report(context);
    return {
      ...{ residuals, choices, images },
      ...(frontier ? { frontier } : {}),
      ...(proposal ? { proposal } : {}),
      ...(out === undefined ? {} : { out }),
    };
  }

  async dispose(): Promise<void> {
    await this.opened?.source.dispose();
    await this.opened?.teacher.dispose();
  }

  async model(): Promise<Model> {
    return (await this.open()).teacher;
  }

  /** Measures what needs no refit, keeps it for the tasks, and says which models they build. */
  private async modelsToBuild(): Promise<Candidate[]> {
    const { search } = await this.levers();
    const models = await search.toBuild(frontierPoints);
    if (this.facts) this.facts = { ...this.facts, search: settledSearch(search.state()) };
    return models;
  }

  /** What loses least within a budget. A share of the weights is a matter of shape alone, as it is for distill. */
  private async proposed(budget: string): Promise<BlocksRunResult["proposal"]> {
    const { options } = this;
    const ofShape = parseBudgets(budget).every(({ kind }) => kind === "share");
    return propose(ofShape ? await this.openLevers(["shape"]) : await this.levers(), budget, options.model, options);
  }

  /** The search over all levers, as far as it has come. */
  private async levers(): Promise<OpenedSearch> {
    this.search ??= await this.openLevers(leverNames, this.facts?.search);
    return this.search;
  }

  private async openLevers(levers: readonly (typeof leverNames)[number][], state?: SearchState): Promise<OpenedSearch> {
    const { context, options } = this;
    const wanted = { seed: options.seed, levers: [...levers], shape: "balanced" as const };
    return openSearch({ options: wanted, ...(await this.open()), context }, true, state);
  }

  private async open(): Promise<Opened> {
    if (this.opened) return this.opened;
    const { context, options } = this;
    const { folder, items } = this.facts ?? { folder: options.data, items: [] };
    const teacher = await context.environment.loadModel(options.model, loadRequest(context, readOptions(options)));
    this.opened = { teacher, source: context.environment.createImageSource(folder), items };
    requireFiniteWeights(teacher);
    return this.opened;
  }
}

/** A copy that lists hold, with its keys in the schema's order: the hashes of tasks follow from its text. */
const settledSearch = (state: SearchState): Settled["search"] => searchStateSchema.parse(state);
