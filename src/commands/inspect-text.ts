// `wecolora inspect M`: what a model is, and how much its blocks matter.

import { widthsText } from "../students/search/shape.ts";
import { visibleText } from "../utils/escape.ts";
import { tokenCount } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { parameterCount } from "../models/definition.ts";
import { textTable } from "../report/table.ts";
import type { BlocksRunResult } from "./inspect-blocks.ts";
import { exportText } from "./export-text.ts";
import { imageSizeText } from "../report/search.ts";
import type { PricedModel, Proposal } from "./proposal.ts";
import type { Resize } from "../utils/image.ts";

/** What a model is. */
export type ModelDescription = ReturnType<typeof describeModel>;

export function describeModel(model: ModelDefinition) {
  const { config, origin, preprocessing } = model;
  return {
    layout: origin.layout,
    weights: { type: origin.weightType, bytes: origin.bytes ?? 0, parameters: parameterCount(model) },
    depth: config.depth,
    width: config.width,
    heads: config.heads,
    headWidth: config.headWidth,
    mlpWidth: config.mlpWidth,
    blockShapes: config.blocks,
    patchSize: config.patchSize,
    imageSize: config.imageSize,
    tokens: tokenCount(config),
    prefix: config.prefix,
    positions: config.positions,
    pooling: config.pooling,
    activation: config.activation,
    normEpsilon: config.normEpsilon,
    layerScale: config.layerScale,
    head: config.head
      ? { classes: config.head.classes, input: config.head.input, labels: config.head.labels }
      : undefined,
    preprocessing,
  };
}

function resizeText(resize: Resize): string {
  if ("unchanged" in resize) return "not resized";
  if ("borderedSide" in resize) return `longer side ${resize.borderedSide} with borders`;
  if ("height" in resize) return `${resize.width}x${resize.height}`;
  const { shortestEdge, longestEdge } = resize;
  return `shorter side ${shortestEdge}${longestEdge === undefined ? "" : `, longer at most ${longestEdge}`}`;
}

/** The description as lines of text. */
export function inspectText(name: string, d: ModelDescription): string {
  const labels = d.head?.labels
    ? `: ${d.head.labels.slice(0, 8).join(", ")}${d.head.labels.length > 8 ? ", ..." : ""}`
    : "";
  const rows: [string, string][] = [
    ["model", name],
    ["read as", d.layout],
    [
      "weights",
      `${(d.weights.parameters / 1e6).toFixed(2)} M, ${d.weights.type}, ${(d.weights.bytes / 1e6).toFixed(1)} MB`,
    ],
    [
      "blocks",
      d.blockShapes
        ? `${d.depth}, width ${d.width}, ${widthsText({ shapes: d.blockShapes })} (${d.activation})`
        : `${d.depth}, width ${d.width}, ${d.heads} heads${d.headWidth ? ` of ${d.headWidth}` : ""}, MLP ${d.mlpWidth} (${d.activation})`,
    ],
    [
      "images",
      `${d.imageSize}x${d.imageSize}, patches of ${d.patchSize}: ${d.tokens} tokens (${d.prefix.map(({ weight, count }) => `${count} ${weight}`).join(", ") || "patches alone"})`,
    ],
    ["positions", d.positions.kind],
    ["pooling", d.pooling],
    ["LayerScale", d.layerScale ? "yes" : "no"],
    ["norm", `epsilon ${d.normEpsilon}`],
    ["head", d.head ? `${d.head.classes} classes from ${d.head.input}${labels}` : "none"],
    [
      "transform",
      `${resizeText(d.preprocessing.resize)}, ${d.preprocessing.uncropped ? "no crop" : `crop ${d.preprocessing.cropSize}`}, ${d.preprocessing.interpolation}, mean ${d.preprocessing.mean.join(" ")}, std ${d.preprocessing.std.join(" ")}`,
    ],
  ];
  return rows.map(([key, value]) => `${key.padEnd(11)}${visibleText(value)}`).join("\n");
}

/** How much blocks matter, as text: the blocks, the worst first, then runs, then what to keep. */
export function blocksText({ residuals, choices, images, frontier, proposal }: BlocksRunResult): string {
  const lines = ["", ...runsText(residuals, images)];
  if (choices.length > 0)
    lines.push("", "The best blocks to keep, for each number of blocks (--kept-blocks):", choicesText(choices));
  if (frontier)
    lines.push(
      "",
      "What you get at each price (--budget proposes a model for a size or a time):",
      frontierText(frontier),
    );
  if (proposal) lines.push("", proposalText(proposal));
  return lines.join("\n");
}

/** What is left behind runs of blocks, and the blocks that are missed most. */
function runsText(residuals: BlocksRunResult["residuals"], images: number): string[] {
  const shown = (value: number | null | undefined) => (value === null || value === undefined ? "" : value.toFixed(2));
  const longest = Math.max(...residuals.map((row) => row.filter((value) => value !== null).length));
  const runs = residuals.map((row, k) => [
    String(k),
    ...Array.from({ length: longest - 1 }, (_, i) => shown(row[k + 1 + i])),
  ]);
  const columns = [
    { title: "kept block", align: "left" as const },
    ...Array.from({ length: longest - 1 }, (_, i) => ({ title: `for ${i + 2}` })),
  ];
  const dropped = residuals
    .slice(0, -1)
    .map((row, k) => ({ block: k + 1, value: row[k + 1] ?? 0 }))
    .sort((a, b) => b.value - a.value);
  const order = dropped.map(({ block, value }) => `${block} (${value.toFixed(2)})`).join(", ");
  return [
    `Error left (0 none, 2 all) after a run of blocks that is replaced by its first block, refitted; ${images} images:`,
    textTable(columns, runs),
    "",
    `Blocks whose replacement by the block before costs most: ${order}.`,
  ];
}

function choicesText(choices: BlocksRunResult["choices"]): string {
  const rows = choices.map(({ kept, residual: residual, parameters, bytes }) => [
    String(kept.length),
    kept.join(","),
    residual.toFixed(3),
    (parameters / 1e6).toFixed(1),
    (bytes / 1e6).toFixed(1),
  ]);
  const titles = ["blocks", "keep", "left", "M params", "MB"].map((title) => ({
    title,
    align: title === "keep" ? ("left" as const) : undefined,
  }));
  return textTable(titles, rows);
}

/** Tokens that blocks merge away: the number, or the range of numbers. */
function mergingText(merging: readonly number[] | undefined): string {
  if (!merging) return "";
  const [least, most] = [Math.min(...merging), Math.max(...merging)];
  return least === most ? String(most) : `${least}-${most}`;
}

const timeText = (milliseconds: number | undefined): string =>
  milliseconds === undefined ? "" : milliseconds.toFixed(1);

/** What to make within a budget, and how. */
function proposalText({ budget, command, ...p }: Proposal): string {
  const cost = `${(p.bytes / 1e6).toFixed(1)} MB, ${timeText(p.milliseconds)} ms per image, cosine ${(1 - p.loss).toFixed(3)}`;
  if (command === undefined) return `The teacher fits ${budget} as it is: ${cost}.`;
  const merged = p.merging ? `, ${mergingText(p.merging)} tokens merged a block` : "";
  const what = `${exportText(p)}, ${(100 * p.blockShare).toFixed(0)} % of the block weights${imageSizeText(p.imageSize)}${merged}`;
  return `Nearest to the teacher within ${budget}: ${what} (${cost}).\n  ${command}`;
}

/** What there is at each price, the smallest first. */
function frontierText(points: readonly PricedModel[]): string {
  const leftAligned = new Set(["export", "merged", "best for"]);
  const columns = [
    "export",
    "blocks %",
    "image size",
    "merged",
    "MB",
    "ms/image",
    "cosine",
    "agreement %",
    "best for",
  ].map((title) => ({ title, align: leftAligned.has(title) ? ("left" as const) : undefined }));
  const rows = points.map((p) => [
    exportText(p),
    (100 * p.blockShare).toFixed(0),
    String(p.imageSize ?? ""),
    mergingText(p.merging),
    (p.bytes / 1e6).toFixed(1),
    timeText(p.milliseconds),
    (1 - p.loss).toFixed(3),
    (100 * p.agreement).toFixed(1),
    [...(p.bestForSize ? ["size"] : []), ...(p.bestForTime ? ["time"] : [])].join(", "),
  ]);
  const explained =
    "blocks %: share of the block weights; image size: where it is smaller than the model's own; merged: tokens merged away in each block; cosine and agreement with the teacher, on crops of images that nothing was fitted on";
  return `${textTable(columns, rows)}\n${explained}`;
}
