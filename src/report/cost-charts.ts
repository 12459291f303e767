// Charts of what models cost and give: one dot a model, against milliseconds and against megabytes.
import * as Plot from "@observablehq/plot";
import { colourOf, chartWidth, svgOf } from "./chart.ts";
import type { ResultRow } from "./results.ts";
import type { SearchReport } from "./search.ts";
import { candidateName, measureTitle } from "./search.ts";

interface CostPoint {
  readonly series: string;
  /** Stands beside its dot; empty where it has none. */
  readonly label: string;
  readonly x: number;
  readonly y: number;
  /** Shown on hover. */
  readonly title: string;
  readonly isChosen?: boolean;
}

interface CostChart {
  readonly points: readonly CostPoint[];
  readonly x: string;
  readonly y: string;
  /** The name of the figure. */
  readonly label: string;
}

const [height, radius] = [290, 7];

/** The range of the y axis where all values are equal; a chart finds its own for others. */
function flatRange([{ y }, ...others]: readonly CostPoint[]): { domain?: [number, number] } {
  const space = 0.01 * Math.abs(y) || 1;
  return others.every((point) => point.y === y) ? { domain: [y - space, y + space] } : {};
}

/** Dots with labels on the side where there is room. */
function costChart({ points, x, y, label }: CostChart, document: Document): string {
  const furthest = Math.max(...points.map((point) => point.x));
  const isRight = (point: CostPoint) => point.x > 0.6 * furthest;
  const labels = (side: "start" | "end", on: (point: CostPoint) => boolean) =>
    Plot.text(
      points.filter((point) => point.label !== "" && on(point)),
      { x: "x", y: "y", text: "label", dx: side === "end" ? -radius - 6 : radius + 6, textAnchor: side },
    );
  return svgOf(
    {
      width: chartWidth,
      height,
      marginLeft: 46,
      marginRight: 18,
      marginTop: 30,
      marginBottom: 46,
      x: { label: `${x} →`, labelAnchor: "center", labelOffset: 38, grid: true, nice: true, zero: true },
      y: { label: `↑ ${y}`, grid: true, nice: true, inset: 12, ...flatRange(points) },
      color: colourOf([...new Set(points.map(({ series }) => series))]),
      marks: [
        Plot.dot(
          points.filter(({ isChosen }) => isChosen),
          { x: "x", y: "y", r: radius + 4, stroke: "currentColor", strokeWidth: 1.5 },
        ),
        Plot.dot(points, { x: "x", y: "y", r: radius, fill: "series", fillOpacity: 0.85, title: "title" }),
        labels("start", (point) => !isRight(point)),
        labels("end", isRight),
      ],
    },
    label,
    document,
  );
}

/** Accuracy against time and against megabytes, of the rows that have both; none where fewer than two have. */
export function resultCharts(rows: readonly ResultRow[], document: Document): string[] {
  const isAccuracy = rows.some(({ knn }) => knn);
  const y = isAccuracy ? "k-NN %" : "cosine similarity with the teacher";
  const chartOf = (x: string, valueOf: (row: ResultRow) => number | undefined) => {
    const points = rows.flatMap((row) => {
      const value = isAccuracy ? row.knn && 100 * row.knn.top1 : row.fidelity?.cosine;
      const cost = valueOf(row);
      if (value === undefined || cost === undefined) return [];
      const title = `${row.name}: ${y} ${value.toFixed(isAccuracy ? 1 : 3)}, ${cost.toFixed(1)} ${x}`;
      return [{ series: row.name, label: row.name, x: cost, y: value, title }];
    });
    if (points.length < 2) return [];
    return [costChart({ points, x, y, label: `${y} against ${x}` }, document)];
  };
  return [
    ...chartOf("milliseconds per image", ({ millisecondsPerImage }) => millisecondsPerImage),
    ...chartOf("megabytes of weights", ({ bytes }) => bytes && bytes / 1e6),
  ];
}

/** Agreement against megabytes and, where it was measured, against time, of all that a search tried. */
export function searchCharts(search: SearchReport, document: Document): string[] {
  const y = measureTitle(search);
  const chartOf = (x: string, valueOf: (candidate: SearchReport["candidates"][number]) => number | undefined) => {
    const points = search.candidates.flatMap((one) => {
      const cost = valueOf(one);
      if (cost === undefined) return [];
      const value = 100 * one.agreement;
      const title = `${candidateName(one)}: ${y} ${value.toFixed(1)}, ${cost.toFixed(1)} ${x}`;
      const { format: series, isChosen } = one;
      return [{ series, label: isChosen ? "chosen" : "", x: cost, y: value, title, isChosen }];
    });
    if (points.length === 0) return [];
    return [costChart({ points, x, y, label: `${y} of what was tried, against ${x}` }, document)];
  };
  return [
    ...chartOf("megabytes of the file", ({ bytes }) => bytes / 1e6),
    ...chartOf("milliseconds per image", ({ milliseconds }) => milliseconds),
  ];
}
