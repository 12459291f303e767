// `wecolora inspect MODEL --data D`: how much each block and each run of blocks matters, and which to keep.
import { z } from "zod";
import type { BlockChoice } from "../students/search/block-search.ts";
import { blockRuns, searchBlocks } from "../students/search/block-search.ts";
import { copyBlocks } from "../students/kept-blocks.ts";
import type { Model } from "../models/model.ts";
import { parameterCount } from "../models/definition.ts";
import { standalone } from "../report/chart.ts";
import { frontierChart, runMap } from "../report/figures.ts";
import { csvLines } from "../report/table.ts";
import { requireFiniteWeights } from "../models/finite-outputs.ts";
import type { Directory } from "../files/storage.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import { withOptionalOutput } from "../workspace/output-folder.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { elementBytes } from "../utils/tensor.ts";
import type { Environment } from "../context/environment.ts";
import type { Listener, RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedPictures } from "../context/run-context.ts";
import { textChunks, writeChart } from "../workspace/output-files.ts";
import { parseBudgets } from "../students/search/budget.ts";
import { exportText, openSearch } from "./choose-levers.ts";
import type { PricedModel, Proposal } from "./proposal.ts";
import { pricedModels, propose } from "./proposal.ts";

import { searchItems, searchViews } from "../students/run-start.ts";
import { commonSchema, countOption, pathOption, readOptions, readSchema } from "../context/common-options.ts";
import { budgetsText, leverNames } from "../students/run-options.ts";

/** `wecolora inspect MODEL --data D`: how much blocks matter. */
export const blocksRunSchema = z.strictObject({
  data: pathOption.describe("images to measure on how much each block and run of blocks matters"),
  maxImages: countOption.default(48).describe("at most so many images, drawn evenly"),
  longest: countOption.default(4).describe("the longest run of blocks that one block may replace"),
  search: z.boolean().default(false).describe("also search which blocks to keep, for each number of them"),
  frontier: z
    .boolean()
    .default(false)
    .describe("also show what you get at each price")
    .meta({ note: "Shape, merged tokens and bits together, each built and measured." }),
  budget: budgetsText.describe("also propose a model within a size (25MB), time (10ms) or share").meta({
    note: "The model that loses least within a size of the loaded file (25MB), a time per image on this machine (10ms), both (25MB,10ms), or a share of the teacher's parameters (0.3x).",
  }),
  out: pathOption
    .optional()
    .describe("output folder for tables and charts")
    .meta({ note: "blocks.csv, blocks.svg and blocks.png, and frontier.* where asked for." }),
  ...readSchema.shape,
  ...commonSchema.shape,
});

export type BlocksRunInput = z.input<typeof blocksRunSchema>;
export type BlocksRunOptions = z.output<typeof blocksRunSchema>;

export interface BlocksRunResult {
  /**
   * `left[k][e]`: what is left behind block e where block k, refitted, stands for blocks k to e: the mean squared
   * difference of tokens centred and scaled to deviation 1. Null for runs that were not looked at.
   */
  readonly left: readonly (readonly (number | null)[])[];
  /** The best blocks to keep by their number, where a search was asked for. */
  readonly choices: readonly (BlockChoice & { readonly parameters: number; readonly bytes: number })[];
  readonly pictures: number;
  /** What there is at each price, where asked for; the smallest first. */
  readonly frontier?: readonly PricedModel[];
  /** What loses least within the budget, where one is given. */
  readonly proposal?: Proposal;
  readonly out?: string;
}

/** Looks at a model's blocks with pictures. Throws a UserError where there are fewer than two. */
export async function runBlocks(context: RunContext, model: string, input: BlocksRunInput): Promise<BlocksRunResult> {
  const options = parseOptions(blocksRunSchema, input, "options of inspect");
  const inputs = [
    { option: "the model", path: model },
    { option: "--data", path: options.data },
  ];
  return withOptionalOutput(context.environment, { path: options.out, kind: "inspection", inputs }, (output) =>
    inspectInto(context, model, options, output),
  );
}

/** Inspects in four stages: open, measure runs of blocks, search and measure sizes where asked for, write. */
async function inspectInto(
  context: RunContext,
  model: string,
  options: BlocksRunOptions,
  output: OutputFolder | undefined,
): Promise<BlocksRunResult> {
  const { environment, listener } = context;
  const data = await environment.openPictures(options.data);
  const teacher = await environment.loadModel(model, loadRequest(readOptions(options), context));
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    requireFiniteWeights(teacher);
    skipped.open(data.skipped, listener);
    const items = searchItems(data.items, options.maxImages, options.seed);
    const views: Views = (parts) => searchViews(source, items, teacher, options.seed, parts);
    const { depth } = teacher.config;
    listener.stage?.("measuring blocks", depth);
    const longest = Math.min(depth, options.longest);
    const { left, pictures } = await blockRuns(teacher, views(), longest, (done) => listener.progress?.(done));
    const choices = options.search ? await searchChoices(teacher, views, longest, listener) : [];
    const sizes = await measureSizes(options, model, { teacher, source, items, context });
    if (output) await writeInspection(environment, output, left, sizes.frontier);
    skipped.report(listener);
    const known = left.map((row) => row.map((value) => (Number.isFinite(value) ? value : null)));
    const { out } = options;
    return { left: known, choices, pictures, ...sizes, ...(out === undefined ? {} : { out }) };
  } finally {
    await source.dispose();
    await teacher.dispose();
  }
}

/** Batches of images, as whole views or as so many parts of each. */
type Views = (parts?: number) => AsyncIterable<FloatTensor>;

/** The best blocks to keep, for each number of them, and what such a student weighs. */
async function searchChoices(
  teacher: Model,
  views: Views,
  longest: number,
  listener: Listener,
): Promise<BlocksRunResult["choices"]> {
  const most = teacher.config.depth - 1;
  listener.stage?.("searching blocks", most);
  const { choices } = await searchBlocks(teacher, views(), { most, longest }, (done) => listener.progress?.(done));
  return choices.map((choice) => {
    const parameters = parameterCount(copyBlocks(teacher, choice.kept));
    return { ...choice, parameters, bytes: parameters * elementBytes[teacher.origin.weightType] };
  });
}

async function writeInspection(
  environment: Environment,
  output: OutputFolder,
  left: readonly (readonly number[])[],
  frontier: readonly PricedModel[] | undefined,
): Promise<void> {
  await writeBlocks(environment, output.directory, left);
  if (frontier) await writeFrontier(environment, output.directory, frontier);
  await output.removeStale();
}

/** Models along the frontier that are built, about. */
const frontierPoints = 8;

/** Measures what there is at each price, and says which to take within a budget, where that is asked for. */
async function measureSizes(
  options: BlocksRunOptions,
  name: string,
  { teacher, source, items, context }: Omit<Parameters<typeof openSearch>[0], "options">,
): Promise<Pick<BlocksRunResult, "frontier" | "proposal">> {
  const { budget, frontier: wanted, seed } = options;
  if (!wanted && budget === undefined) return {};
  const opened = (levers: readonly (typeof leverNames)[number][]) =>
    openSearch({ options: { seed, levers: [...levers], shape: "balanced" }, teacher, source, items, context }, true);
  // A share of the weights is a matter of shape alone, as it is for distill.
  const ofShape = budget !== undefined && parseBudgets(budget).every(({ kind }) => kind === "share");
  const together = wanted || !ofShape ? await opened(leverNames) : undefined;
  const proposal =
    budget && (await propose(ofShape || !together ? await opened(["shape"]) : together, budget, name, options));
  const frontier = wanted && together ? await pricedModels(together, frontierPoints) : undefined;
  return { ...(frontier ? { frontier } : {}), ...(proposal ? { proposal } : {}) };
}

const percentOf = (share: number): string => (100 * share).toFixed(0);

async function writeFrontier(
  environment: Environment,
  directory: Directory,
  points: readonly PricedModel[],
): Promise<void> {
  const head =
    "export,block_share,merged_tokens,parameter_share,bytes,milliseconds,cosine,agreement,best_for_size,best_for_time";
  const rows = points.map((p) => [
    exportText(p),
    p.blockShare.toFixed(4),
    (p.merging ?? []).join(" "),
    p.share.toFixed(4),
    String(p.bytes),
    (p.milliseconds ?? NaN).toFixed(2),
    (1 - p.loss).toFixed(4),
    p.agreement.toFixed(4),
    String(p.bestForSize),
    String(p.bestForTime),
  ]);
  await directory.write("frontier.csv", textChunks(csvLines([head.split(","), ...rows])));
  const shown = points.map((p) => ({
    series: p.export,
    label: `${percentOf(p.blockShare)} % of the block weights${p.merging ? `, ${Math.max(...p.merging)} tokens merged a block at most` : ""}`,
    megabytes: p.bytes / 1e6,
    milliseconds: p.milliseconds ?? NaN,
    loss: p.loss,
  }));
  await writeChart(environment, directory, "frontier", frontierChart(shown, environment.createDocument()));
}

async function writeBlocks(
  environment: Environment,
  directory: Directory,
  left: readonly (readonly number[])[],
): Promise<void> {
  const lines = left.flatMap((row, k) =>
    row.flatMap((value, e) => (Number.isFinite(value) ? [`${k},${e},${value}`] : [])),
  );
  await directory.write("blocks.csv", textChunks(["block,stands_to,left", ...lines, ""].join("\n")));
  const title = "Error left where one block, refitted, replaces a run of blocks";
  const { svg, width, height } = runMap(left, title, environment.createDocument());
  const whole = standalone(svg, { title, legend: [], width, height });
  await writeChart(environment, directory, "blocks", whole);
}
