// `wecolora inspect MODEL --data D`: how much each block and each run of blocks matters, and which to keep.
import { z } from "zod";
import type { BlockChoice } from "../students/search/block-search.ts";
import { blockRuns, searchBlocks } from "../students/search/block-search.ts";
import { copyBlocks } from "../students/weight-copy.ts";
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
import { parseBudget } from "../students/search/budget.ts";
import type { Environment } from "../context/environment.ts";
import type { Listener, RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedPictures } from "../context/run-context.ts";
import { textChunks, writeChart } from "../workspace/output-files.ts";
import type { FrontierPoint } from "../students/search/frontier.ts";
import { evidenceParts } from "../students/search/evidence.ts";
import { frontierFormats, frontierOf, usualSizes } from "../students/search/frontier.ts";
import type { Proposal } from "./proposal.ts";
import { commandOf, limitsOf, proposalOf } from "./proposal.ts";
import { searchItems, searchViews } from "../students/start.ts";
import { commonSchema, countOption, pathOption, readOptions, readSchema } from "../context/common-options.ts";
import { budgetText } from "../students/run-options.ts";

/** `wecolora inspect MODEL --data D`: how much blocks matter. */
export const blocksRunSchema = z.strictObject({
  data: pathOption.describe("images to measure on how much each block and run of blocks matters"),
  pictures: countOption.default(48).describe("at most so many images, drawn evenly"),
  longest: countOption.default(4).describe("the longest run of blocks that one block may replace"),
  search: z.boolean().default(false).describe("also search which blocks to keep, for each number of them"),
  frontier: z
    .boolean()
    .default(false)
    .describe("also refit students of six sizes and measure their cost and fidelity")
    .meta({ note: "In float32 and int8." }),
  budget: budgetText.describe("also propose a student within a size (25MB), share (0.3x) or time").meta({
    note: "The student nearest to the teacher within a size of the weights on disk, a share of the teacher's parameters, or a time per image.",
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
  /** Students of each size, where asked for. */
  readonly frontier?: readonly FrontierPoint[];
  /** Of these, what gives up least within the budget, where one is given. */
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
    const items = searchItems(data.items, options.pictures, options.seed);
    const views: Views = (parts) => searchViews(source, items, teacher, options.seed, parts);
    const { depth } = teacher.config;
    listener.stage?.("measuring blocks", depth);
    const longest = Math.min(depth, options.longest);
    const { left, pictures } = await blockRuns(teacher, views(), longest, (done) => listener.progress?.(done));
    const choices = options.search ? await searchChoices(teacher, views, longest, listener) : [];
    const sizes = await measureSizes(options, model, teacher, views(evidenceParts), context);
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
  frontier: readonly FrontierPoint[] | undefined,
): Promise<void> {
  await writeBlocks(environment, output.directory, left);
  if (frontier) await writeFrontier(environment, output.directory, frontier);
  await output.removeStale();
}

/** Measures students of the sizes that are asked for, and says which to take within a budget. */
async function measureSizes(
  options: BlocksRunOptions,
  name: string,
  teacher: Model,
  views: AsyncIterable<FloatTensor>,
  context: RunContext,
): Promise<Pick<BlocksRunResult, "frontier" | "proposal">> {
  const { budget: text, frontier: wanted } = options;
  if (!wanted && text === undefined) return {};
  const formats = await frontierFormats(teacher);
  const now = () => context.environment.now();
  const limits = text === undefined ? undefined : await limitsOf(teacher, parseBudget(text), formats, now);
  const sizes = [...(wanted ? usualSizes(teacher) : []), ...(limits?.values() ?? [])];
  const frontier = await frontierOf(teacher, sizes, formats, views, context);
  if (text === undefined || !limits) return { frontier };
  const point = proposalOf(frontier, limits);
  return { frontier, proposal: { ...point, budget: text, command: commandOf(point, teacher, name, options) } };
}

async function writeFrontier(
  environment: Environment,
  directory: Directory,
  points: readonly FrontierPoint[],
): Promise<void> {
  const head =
    "blocks,heads,mlp_width,format,parameters,bytes,milliseconds,difference,cosine,best_for_size,best_for_time";
  const rows = points.map((p) => [
    p.keptBlocks.join(" "),
    String(p.heads),
    String(p.mlpWidth),
    p.format,
    String(p.parameters),
    String(p.bytes),
    p.milliseconds.toFixed(2),
    p.difference.toFixed(4),
    p.cosine.toFixed(4),
    String(p.bestForSize),
    String(p.bestForTime),
  ]);
  await directory.write("frontier.csv", textChunks(csvLines([head.split(","), ...rows])));
  const shown = points.map((p) => ({
    series: p.format,
    label: `${p.keptBlocks.length} blocks, ${p.heads} heads, ${p.mlpWidth} channels`,
    megabytes: p.bytes / 1e6,
    milliseconds: p.milliseconds,
    difference: p.difference,
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
