// A model card: README.md with the hub's metadata, saying what the model is, where it comes from and how good it is.
import type { ResultRow } from "../report/results.ts";
import type { Comparison } from "../report/findings.ts";
import type { WeightsFile } from "../report/loading.ts";
import { fileMegabytes, loadingSnippets } from "../report/loading.ts";
import { evaluatedOn, resultTable } from "../report/results.ts";
import { markdownTable } from "../report/table.ts";
import { verdict } from "../report/verdict.ts";
import type { VitConfig } from "../models/config.ts";
import type { License } from "../models/license.ts";
import type { Markdown } from "../utils/escape.ts";
import { markdown, markdownCode, markdownFence, visibleJson } from "../utils/escape.ts";
import { loadedModel, loadingFacts } from "./weights-files.ts";

export interface ModelCard {
  readonly name: string;
  readonly config: VitConfig;
  /** The name of the folder that the card is in. */
  readonly folder: string;
  /** The files of weights that are there. */
  readonly files: readonly WeightsFile[];
  /** Of the model itself, or of the teacher that it comes from. */
  readonly license?: License;
  /** Where it comes from, where that is known. */
  readonly origin?: {
    readonly teacher: string;
    /** Whether `teacher` is a hub name, not a path on somebody's disk. */
    readonly fromHub: boolean;
    readonly license?: License;
    readonly method: string;
    readonly images: number;
    readonly data: string;
    readonly keptBlocks: readonly number[];
    /** What each block keeps, where that is not all. */
    readonly widths?: string;
    readonly command: string;
    readonly results: readonly ResultRow[];
    readonly comparisons?: readonly Comparison[];
    /** Whether the results are of training images, since none were held out. */
    readonly onTraining?: boolean;
  };
  /** How the files differ from the model that they were made from; empty where they are that model. */
  readonly notes: readonly string[];
}

type Line = string | Markdown;

/** Text that YAML reads as one string. */
const yaml = (text: string) => visibleJson(text);
/** The last part of a path: what a reader elsewhere can make sense of. */
const lastPart = (path: string) =>
  path
    .replace(/[\\/]+$/, "")
    .split(/[\\/]/)
    .at(-1) ?? path;

/** A model's README.md. */
export function modelCard(card: ModelCard): string {
  const lines = [
    ...metadata(card),
    "",
    markdown`# ${card.name}`,
    "",
    ...summary(card),
    ...usage(card),
    ...evaluation(card),
    ...(card.origin ? ["## Reproduce", "", markdownFence(card.origin.command, "sh"), ""] : []),
  ];
  return lines.join("\n");
}

const licenseOf = ({ license, origin }: ModelCard): License | undefined => origin?.license ?? license;

/** What the hub reads. */
function metadata(card: ModelCard): string[] {
  const { config, origin, files } = card;
  const { task, inTransformers } = loadingFacts(config);
  const license = licenseOf(card);
  const hasWeights = files.some(({ name }) => name === "model.safetensors");
  const hasOnnx = files.some(({ name }) => name.endsWith(".onnx"));
  const library = !inTransformers ? "onnx" : hasWeights ? "transformers" : "transformers.js";
  return [
    "---",
    `library_name: ${library}`,
    `pipeline_tag: ${task}`,
    ...(license ? [`license: ${yaml(license.id)}`] : []),
    ...(license?.name === undefined ? [] : [`license_name: ${yaml(license.name)}`]),
    ...(license?.link === undefined ? [] : [`license_link: ${yaml(license.link)}`]),
    ...(origin?.fromHub ? [`base_model: ${yaml(origin.teacher)}`] : []),
    "tags:",
    ...[
      ...(inTransformers && hasOnnx ? ["transformers.js"] : []),
      ...(hasOnnx ? ["onnx"] : []),
      ...["vision-transformer", "distillation", "wecolora"],
    ].map((tag) => `  - ${tag}`),
    "---",
  ];
}

/** What the model is and where it comes from. */
function summary(card: ModelCard): Line[] {
  const { config, origin, notes } = card;
  const sentence = notes.length === 0 ? verdictOf(card) : undefined;
  const license = licenseOf(card);
  return [
    ...(sentence === undefined ? [] : [markdown`**${sentence}**`, ""]),
    ...(notes.length > 0 ? [...notes.map((note) => markdown`- ${note}`), ""] : []),
    `A vision transformer of ${config.depth} blocks, width ${config.width}, ${headsText(config)}, for images of ${config.imageSize}x${config.imageSize} in patches of ${config.patchSize}.`,
    "",
    ...(origin
      ? [
          markdown`Made from ${markdownCode(origin.fromHub ? origin.teacher : lastPart(origin.teacher))} by the method ${origin.method} with ${origin.images} images of ${markdownCode(lastPart(origin.data))}. It keeps the blocks ${origin.keptBlocks.join(", ")}${!origin.widths ? "" : `, with ${origin.widths} in each`}.`,
          license
            ? markdown`The teacher's licence (${license.name ?? license.id}) holds for it too.`
            : "The teacher's licence holds for it too. It is not known here: add it above as `license:`.",
          "",
        ]
      : []),
  ];
}

function verdictOf({ origin }: ModelCard): string | undefined {
  if (!origin) return undefined;
  const { results, comparisons = [], onTraining = false } = origin;
  return verdict({ results, comparisons, onTraining });
}

/** How to load it, and what a reader downloads. */
function usage({ config, folder, files }: ModelCard): Line[] {
  const snippets = loadingSnippets(loadedModel(loadingFacts(config), `./${folder}`, files));
  return [
    "## Use",
    "",
    ...snippets.flatMap(({ title, language, code }) => [`${title}:`, "", markdownFence(code, language), ""]),
    ...(files.length > 0
      ? [
          markdownTable(
            [{ title: "file", align: "left" }, { title: "MB" }, { title: "read by", align: "left" }],
            files.map((file) => [file.name, fileMegabytes(file), file.readBy]),
          ),
          "",
        ]
      : []),
  ];
}

function evaluation(card: ModelCard): Line[] {
  const { origin, notes } = card;
  if (!origin || origin.results.length === 0) return [];
  const table = resultTable(origin.results);
  const sentence = notes.length > 0 ? verdictOf(card) : undefined;
  return [
    notes.length > 0 ? "## Evaluation of the model before its export" : "## Evaluation",
    "",
    ...(sentence === undefined ? [] : [markdown`${sentence}`, ""]),
    evaluatedOn(origin.results, origin.onTraining ? "training " : ""),
    "",
    markdownTable(table.columns, table.rows),
    "",
    table.legend,
    "",
  ];
}

function headsText({ heads, headWidth, blocks }: VitConfig): string {
  const counts = blocks?.map((block) => block.heads) ?? [heads];
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const narrow = blocks?.some((block) => block.queryWidth ?? block.valueWidth);
  const width = headWidth ? ` of ${headWidth} channels` : "";
  return `${least === most ? most : `${least} to ${most}`} heads${width}${narrow ? " (narrower in some blocks)" : ""}`;
}
