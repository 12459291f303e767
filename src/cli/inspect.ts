// `wecolora inspect M`: what a model is, without running it.

import { tokenCount } from "../models/config.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { parameterCount } from "../models/definition.ts";

export function describeModel(model: ModelDefinition) {
  const { config, origin, preprocessing } = model;
  const { resize, cropSize, interpolation, mean, std } = preprocessing;
  return {
    layout: origin.layout,
    weights: { type: origin.weightType, bytes: origin.bytes ?? 0, parameters: parameterCount(model) },
    depth: config.depth,
    width: config.width,
    heads: config.heads,
    mlpWidth: config.mlpWidth,
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
    preprocessing: { resize, cropSize, interpolation, mean, std },
  };
}

/** The description as lines of text. */
export function inspectText(name: string, d: ReturnType<typeof describeModel>): string {
  const labels = d.head?.labels
    ? `: ${d.head.labels.slice(0, 8).join(", ")}${d.head.labels.length > 8 ? ", ..." : ""}`
    : "";
  const { resize } = d.preprocessing;
  const size = "shortestEdge" in resize ? `shorter side ${resize.shortestEdge}` : `${resize.width}x${resize.height}`;
  const rows: [string, string][] = [
    ["model", name],
    ["read as", d.layout],
    [
      "weights",
      `${(d.weights.parameters / 1e6).toFixed(2)} M, ${d.weights.type}, ${(d.weights.bytes / 1e6).toFixed(1)} MB`,
    ],
    ["blocks", `${d.depth}, width ${d.width}, ${d.heads} heads, MLP ${d.mlpWidth} (${d.activation})`],
    [
      "pictures",
      `${d.imageSize}x${d.imageSize}, patches of ${d.patchSize}: ${d.tokens} tokens (${d.prefix.map(({ weight, count }) => `${count} ${weight}`).join(", ") || "patches alone"})`,
    ],
    ["positions", d.positions.kind],
    ["pooling", d.pooling],
    ["LayerScale", d.layerScale ? "yes" : "no"],
    ["norm", `epsilon ${d.normEpsilon}`],
    ["head", d.head ? `${d.head.classes} classes from ${d.head.input}${labels}` : "none"],
    [
      "transform",
      `${size}, crop ${d.preprocessing.cropSize}, ${d.preprocessing.interpolation}, mean ${d.preprocessing.mean.join(" ")}, std ${d.preprocessing.std.join(" ")}`,
    ],
  ];
  return rows.map(([key, value]) => `${key.padEnd(11)}${value}`).join("\n");
}
