// What `wecolora inspect MODEL --data D` shows and writes: how much each block and each run of blocks matters, and which to keep.
import { z } from "zod";
import type { BlockChoice } from "../students/search/block-search.ts";
import { searchBlocks } from "../students/search/block-search.ts";
import { copyBlocks } from "../students/kept-blocks.ts";
import type { Model } from "../models/model.ts";
import { parameterCount } from "../models/definition.ts";
import { csvLines } from "../report/table.ts";
import type { Directory } from "../files/storage.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { elementBytes } from "../utils/tensor.ts";
import type { RunContext } from "../context/run-context.ts";
import { textChunks, writeChart, writeFigure } from "../workspace/output-files.ts";
import { exportText } from "./export-text.ts";
import { imageSizeText } from "../report/search.ts";
import type { PricedModel, Proposal } from "./proposal.ts";
import { commonSchema, countOption, pathOption, readSchema } from "../context/common-options.ts";
import { budgetsText } from "../students/run-options.ts";

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
    .meta({ note: "Shape, image size, merged tokens and bits together, each built and measured." }),
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
  readonly residuals: readonly (readonly (number | null)[])[];
  /** The best blocks to keep by their number, where a search was asked for. */
  readonly choices: readonly (BlockChoice & { readonly parameters: number; readonly bytes: number })[];
  readonly images: number;
  /** What there is at each price, where asked for; the smallest first. */
  readonly frontier?: readonly PricedModel[];
  /** What loses least within the budget, where one is given. */
  readonly proposal?: Proposal;
  readonly out?: string;
}

/** Batches of images, as whole views or as so many parts of each. */
export type CropBatches = (parts?: number) => AsyncIterable<FloatTensor>;

/** The best blocks to keep, for each number of them, and what such a student weighs. */
export async function searchChoices(
  { listener }: RunContext,
  teacher: Model,
  crops: CropBatches,
  longest: number,
): Promise<BlocksRunResult["choices"]> {
  const most = teacher.config.depth - 1;
  listener.stage?.("searching blocks", most);
  const { choices } = await searchBlocks(teacher, crops(), { most, longest }, (done) => listener.progress?.(done));
  return choices.map((choice) => {
    const parameters = parameterCount(copyBlocks(teacher, choice.kept));
    return { ...choice, parameters, bytes: parameters * elementBytes[teacher.origin.weightType] };
  });
}

/** Writes the tables and charts. */
export async function writeInspection(
  context: RunContext,
  output: OutputFolder,
  { residuals, frontier }: Pick<BlocksRunResult, "residuals" | "frontier">,
): Promise<void> {
  await writeBlocks(context, output.directory, residuals);
  if (frontier) await writeFrontier(context, output.directory, frontier);
  await output.removeStale();
}

const percentOf = (share: number): string => (100 * share).toFixed(0);

async function writeFrontier(context: RunContext, directory: Directory, points: readonly PricedModel[]): Promise<void> {
  const head =
    "export,block_share,merged_tokens,parameter_share,bytes,milliseconds,cosine,agreement,best_for_size,best_for_time,image_size";
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
    String(p.imageSize ?? ""),
  ]);
  await directory.write("frontier.csv", textChunks(csvLines([head.split(","), ...rows])));
  const shown = points.map((p) => ({
    series: p.export,
    label: `${percentOf(p.blockShare)} % of the block weights${imageSizeText(p.imageSize)}${p.merging ? `, ${Math.max(...p.merging)} tokens merged a block at most` : ""}`,
    megabytes: p.bytes / 1e6,
    milliseconds: p.milliseconds ?? NaN,
    loss: p.loss,
  }));
  const { frontierChart } = await import("../report/figures.ts");
  const chart = frontierChart(shown, await context.environment.createDocument());
  await writeChart(context, directory, "frontier", chart);
}

async function writeBlocks(
  context: RunContext,
  directory: Directory,
  rows: BlocksRunResult["residuals"],
): Promise<void> {
  const residuals = rows.map((row) => row.map((value) => value ?? Infinity));
  const lines = residuals.flatMap((row, k) =>
    row.flatMap((value, e) => (Number.isFinite(value) ? [`${k},${e},${value}`] : [])),
  );
  await directory.write("blocks.csv", textChunks(["block,stands_to,residual", ...lines, ""].join("\n")));
  const title = "Error left where one block, refitted, replaces a run of blocks";
  await writeFigure(context, directory, "blocks", title, ({ runMap }, document) => runMap(residuals, title, document));
}
