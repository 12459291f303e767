// A model card: README.md with the hub's metadata, saying what the model is, where it comes from and how good it is.
import type { ResultRow } from "../report/results.ts";
import { evaluatedOn, resultLegend, resultMarks, resultTable } from "../report/results.ts";
import { markdownTable } from "../report/table.ts";
import type { VitConfig } from "../models/config.ts";
import { markdown, markdownCode, markdownFence, visibleJson } from "../utils/escape.ts";

export interface ModelCard {
  readonly name: string;
  readonly config: VitConfig;
  /** Where it comes from, where that is known. */
  readonly origin?: {
    readonly teacher: string;
    /** Whether `teacher` is a hub name, not a path on somebody's disk. */
    readonly fromHub: boolean;
    readonly method: string;
    readonly pictures: number;
    readonly data: string;
    readonly keptBlocks: readonly number[];
    /** What each block keeps, where that is not all. */
    readonly widths?: string;
    readonly command: string;
    readonly results: readonly ResultRow[];
    /** Whether the results are of training images, since none were held out. */
    readonly onTraining?: boolean;
  };
  /** How the files differ from the model that they were made from. */
  readonly notes: readonly string[];
}

/** Text that YAML reads as one string. */
const yaml = (text: string) => visibleJson(text);
/** The last part of a path: what a reader elsewhere can make sense of. */
const lastPart = (path: string) =>
  path
    .replace(/[\\/]+$/, "")
    .split(/[\\/]/)
    .at(-1) ?? path;

export function modelCard({ name, config, origin, notes }: ModelCard): string {
  const task = config.head ? "image-classification" : "image-feature-extraction";
  const table = origin && resultTable(origin.results);
  const lines = [
    "---",
    "library_name: transformers.js",
    `pipeline_tag: ${task}`,
    "tags:",
    ...["vision-transformer", "distillation", "wecolora"].map((tag) => `  - ${tag}`),
    ...(origin?.fromHub ? [`base_model: ${yaml(origin.teacher)}`] : []),
    "---",
    "",
    markdown`# ${name}`,
    "",
    `A vision transformer of ${config.depth} blocks, width ${config.width}, ${headsText(config)}, for images of ${config.imageSize}x${config.imageSize} in patches of ${config.patchSize}.`,
    ...(origin
      ? [
          "",
          markdown`Made from ${markdownCode(origin.fromHub ? origin.teacher : lastPart(origin.teacher))} by the method ${origin.method} with ${origin.pictures} images of ${markdownCode(lastPart(origin.data))}; it keeps the blocks ${origin.keptBlocks.join(", ")}${!origin.widths ? "" : `, with ${origin.widths} in each`}.`,
          "The licence of the teacher holds for it too.",
        ]
      : []),
    ...(table && table.rows.length > 0
      ? [
          "",
          evaluatedOn(origin.results, origin.onTraining ? "training " : ""),
          "",
          markdownTable(table.columns, table.rows),
          "",
          `${resultLegend}; ${resultMarks}.`,
        ]
      : []),
    ...(notes.length > 0 ? ["", ...notes.map((note) => markdown`- ${note}`)] : []),
    ...(origin ? ["", markdownFence(origin.command, "sh")] : []),
    "",
  ];
  return lines.join("\n");
}

function headsText({ heads, headWidth, blocks }: VitConfig): string {
  const counts = blocks?.map((block) => block.heads) ?? [heads];
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return `${least === most ? most : `${least} to ${most}`} heads${headWidth ? ` of ${headWidth} channels` : ""}`;
}
