// The charts of a report's page.
import * as Plot from "@observablehq/plot";
import { chartWidth, colourOf, legendOf, standalone, svgOf } from "./chart.ts";
import type { ClassFigures, TrackedEvaluation, Step } from "./run-report.ts";
import { blockLabel } from "./run-report.ts";

/** One line of a chart over steps. */
export interface Line {
  readonly series: string;
  readonly points: readonly { readonly step: number; readonly value: number; readonly title: string }[];
}

/** Points that a line has at most: more can't be told apart. */
const mostPoints = 300;

/** Losses over steps; where there are many, each point is the mean of some neighbouring steps. */
export function lossLine(series: string, steps: readonly Step[]): Line {
  const size = Math.ceil(steps.length / mostPoints);
  const points = Array.from({ length: Math.ceil(steps.length / Math.max(1, size)) }, (_, i) => {
    const part = steps.slice(i * size, (i + 1) * size);
    const value = part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
    const [first, last] = [part[0].step, part[part.length - 1].step];
    return {
      step: last,
      value,
      title: `${series}, ${first === last ? `step ${last}` : `steps ${first} to ${last}`}: ${value.toFixed(4)}`,
    };
  });
  return { series, points };
}

/** One figure of the looks at held-out images. */
export function evaluationLine(
  series: string,
  evaluations: readonly TrackedEvaluation[],
  of: "meanAbsoluteDifference" | "knn",
): Line {
  const points = evaluations.flatMap((evaluation) => {
    const value = of === "knn" ? evaluation.knn && 100 * evaluation.knn : evaluation.meanAbsoluteDifference;
    return value === undefined
      ? []
      : [
          {
            step: evaluation.step,
            value,
            title: `${series}, step ${evaluation.step}: ${value.toFixed(of === "knn" ? 1 : 3)}`,
          },
        ];
  });
  return { series, points };
}

const firstStep = (points: readonly { step: number }[]) => points.reduce((a, { step }) => Math.min(a, step), Infinity);
const lastStep = (points: readonly { step: number }[]) => points.reduce((a, { step }) => Math.max(a, step), -Infinity);

/** Lines over steps. */
export function lineChart(lines: readonly Line[], label: string, unit: string, document: Document): string {
  const points = lines.flatMap(({ series, points: linePoints }) => linePoints.map((point) => ({ ...point, series })));
  const few = points.length <= 60;
  return svgOf(
    {
      width: chartWidth,
      height: 260,
      marginLeft: 52,
      marginBottom: 46,
      x: {
        label: "step →",
        labelAnchor: "center",
        labelOffset: 38,
        ticks: Math.max(1, Math.min(8, lastStep(points) - firstStep(points))),
        tickFormat: "d",
      },
      y: { label: `↑ ${unit}`, grid: true, nice: true, zero: false },
      color: colourOf(lines.map(({ series }) => series)),
      marks: [
        Plot.lineY(points, { x: "step", y: "value", stroke: "series", strokeWidth: 2 }),
        Plot.dot(points, {
          x: "step",
          y: "value",
          fill: "series",
          fillOpacity: few ? 1 : 0,
          r: few ? 3 : 5,
          title: "title",
        }),
      ],
    },
    label,
    document,
  );
}

/** Of the last model, which is the student. */
const dotRadius = 3.5;

/** Characters that the names of classes take beside a chart. */
export const longestName = (classes: readonly ClassFigures[]): number =>
  Math.min(28, Math.max(4, ...classes.map(({ name }) => name.length)));

/** A dot for the student, rings around it for the others: where models agree all stay to be seen. */
const classDots = (classes: readonly ClassFigures[]) =>
  classes.flatMap(({ name, images, models }) =>
    Object.entries(models).map(([model, share], i, { length }) => ({
      name,
      model,
      radius: dotRadius + 2.5 * (length - 1 - i),
      value: 100 * share,
      title: `${name}, ${model}: ${(100 * share).toFixed(0)} % of ${images}`,
    })),
  );

/** Accuracy by class: a dot for the student, rings for the others. */
export function classChart(
  classes: readonly ClassFigures[],
  document: Document,
  longest = longestName(classes),
): string {
  const dots = classDots(classes);
  return svgOf(
    {
      width: chartWidth,
      height: 60 + 22 * classes.length,
      marginLeft: 14 + 7.4 * longest,
      marginTop: 10,
      marginBottom: 46,
      x: { label: "k-NN % →", labelAnchor: "center", labelOffset: 38, grid: true, domain: [0, 100] },
      y: { domain: classes.map(({ name }) => name), label: null, type: "point", tickFormat: shorten },
      color: colourOf([...new Set(dots.map(({ model }) => model))]),
      r: { type: "identity" },
      marks: [
        Plot.ruleY(classes, {
          y: "name",
          x1: (c: ClassFigures) => 100 * Math.min(...Object.values(c.models)),
          x2: (c: ClassFigures) => 100 * Math.max(...Object.values(c.models)),
          stroke: "currentColor",
          strokeOpacity: 0.3,
        }),
        Plot.dot(
          dots.filter(({ radius }) => radius > dotRadius),
          { x: "value", y: "name", stroke: "model", strokeWidth: 2, r: "radius", title: "title" },
        ),
        Plot.dot(
          dots.filter(({ radius }) => radius === dotRadius),
          { x: "value", y: "name", fill: "model", r: "radius", title: "title" },
        ),
      ],
    },
    "k-NN accuracy by class",
    document,
  );
}

const shorten = (name: string) => (name.length > 28 ? `${name.slice(0, 27)}…` : name);

export interface Drawn {
  readonly svg: string;
  readonly width: number;
  readonly height: number;
}

/** Numbers in the cells of a map, in the colour that shows on them. */
const cellNumbers = <T>(
  cells: readonly T[],
  [x, y]: readonly [string, string],
  text: (cell: T) => string,
  fill: (cell: T) => string,
  fontSize = 11,
) => Plot.text(cells, { x, y, text, fill, fontSize, pointerEvents: "none" });

/** Beyond this many cells numbers in them can't be read. */
const mostNumbers = 400;

/** Beyond so many columns a map on a page shows colours alone; the numbers are in report.md. */
const mostNumberedColumns = 12;

/** Similarities of student blocks (rows) with teacher blocks (columns), as wide as the charts of a page. */
export function smallHeatMap(
  values: readonly (readonly number[])[],
  keptBlocks: readonly number[],
  label: string,
  document: Document,
): string {
  const isKept = values.every((_, s) => keptBlocks[s] === s);
  const cells = similarityCells(values, keptBlocks, isKept ? String : (s) => blockLabel(s, keptBlocks));
  const [rows, columns] = [values.length, values[0].length];
  const numbers = cellNumbers(
    cells,
    ["teacher", "student"],
    ({ value }) => value.toFixed(2).replace(/^0/, ""),
    ({ value }) => (value > 0.6 ? "black" : "white"),
    10,
  );
  return svgOf(
    {
      width: chartWidth,
      height: 60 + Math.min(24, 420 / rows) * rows,
      marginLeft: isKept ? 44 : 96,
      marginRight: 4,
      marginTop: 22,
      marginBottom: 40,
      padding: 0.04,
      x: { label: "teacher's block", labelAnchor: "center", domain: Array.from({ length: columns }, (_, t) => t) },
      y: { label: "student's block", domain: [...new Set(cells.map(({ student }) => student))] },
      color: { scheme: "viridis", domain: [0, 1], clamp: true },
      marks: [
        Plot.cell(cells, { x: "teacher", y: "student", fill: "value", title: "title" }),
        ...(columns <= mostNumberedColumns ? [numbers] : []),
      ],
    },
    label,
    document,
  );
}

const similarityCells = (
  values: readonly (readonly number[])[],
  keptBlocks: readonly number[],
  nameOf: (block: number) => string,
) =>
  values.flatMap((row, s) =>
    row.map((value, t) => ({
      student: nameOf(s),
      teacher: t,
      value,
      title: `student block ${blockLabel(s, keptBlocks)}, teacher block ${t}: ${value.toFixed(3)}`,
    })),
  );

/** Similarities of student blocks (rows) with teacher blocks (columns), from 0 to 1, as an image of its own. */
export function heatMap(
  values: readonly (readonly number[])[],
  keptBlocks: readonly number[],
  label: string,
  document: Document,
): Drawn {
  const cells = similarityCells(values, keptBlocks, (s) => blockLabel(s, keptBlocks));
  const [rows, columns] = [values.length, values[0].length];
  const size = { width: Math.max(360, 120 + 44 * columns), height: 66 + 30 * rows };
  const numbers = cellNumbers(
    cells,
    ["teacher", "student"],
    ({ value }) => value.toFixed(2),
    ({ value }) => (value > 0.6 ? "black" : "white"),
  );
  const plot: Plot.PlotOptions = {
    ...size,
    marginLeft: 96,
    marginTop: 10,
    marginBottom: 40,
    padding: 0.04,
    x: { label: "teacher's block", domain: Array.from({ length: columns }, (_, t) => t) },
    y: { label: null, domain: values.map((_, s) => blockLabel(s, keptBlocks)) },
    color: { scheme: "viridis", domain: [0, 1], clamp: true },
    marks: [
      Plot.cell(cells, { x: "teacher", y: "student", fill: "value", title: "title" }),
      ...(cells.length <= mostNumbers ? [numbers] : []),
    ],
  };
  return { svg: svgOf(plot, label, document), ...size };
}

/** How many images of each class (rows) are taken for each (columns), as shares of the row. */
export function confusionMap(
  counts: readonly (readonly number[])[],
  classes: readonly string[],
  label: string,
  document: Document,
): Drawn {
  const names = classes.map(shorten);
  const unique = new Set(names).size === names.length ? names : names.map((name, i) => `${i} ${name}`);
  const cells = confusionCells(counts, classes, unique);
  const side = classes.length > 60 ? 9 : classes.length > 30 ? 14 : 22;
  const room = Math.min(230, 28 + 7.2 * Math.max(...unique.map((name) => name.length)));
  const size = { width: room + 20 + side * classes.length, height: room + 20 + side * classes.length };
  const numbers = cellNumbers(
    cells.filter(({ count }) => count > 0),
    ["column", "row"],
    ({ count }) => String(count),
    ({ share }) => (share > 0.5 ? "white" : "black"),
    10,
  );
  const plot: Plot.PlotOptions = {
    ...size,
    marginLeft: room,
    marginTop: room,
    marginBottom: 10,
    marginRight: 10,
    padding: 0.06,
    x: { label: null, domain: unique, axis: "top", tickRotate: -90 },
    y: { label: null, domain: unique },
    color: { scheme: "blues", domain: [0, 1] },
    marks: [
      Plot.cell(cells, { x: "column", y: "row", fill: "share", title: "title" }),
      ...(side > 14 ? [numbers] : []),
    ],
  };
  return { svg: svgOf(plot, label, document), ...size };
}

const confusionCells = (
  counts: readonly (readonly number[])[],
  classes: readonly string[],
  labels: readonly string[],
) =>
  counts.flatMap((row, k) => {
    const total = row.reduce((a, b) => a + b, 0);
    return row.map((count, c) => ({
      row: labels[k],
      column: labels[c],
      share: total > 0 ? count / total : 0,
      count,
      title: `${classes[k]} taken for ${classes[c]}: ${count} of ${total}`,
    }));
  });

/** What is left where block k (row) stands for blocks k to e (column); runs that were not looked at stay empty. */
export function runMap(
  residuals: readonly (readonly number[])[],
  label: string,
  document: Document,
): { svg: string; width: number; height: number } {
  const cells = residuals.flatMap((row, k) =>
    row.flatMap((value, e) =>
      Number.isFinite(value) ? [{ k, e, value, title: `block ${k} for blocks ${k} to ${e}: ${value.toFixed(3)}` }] : [],
    ),
  );
  const depth = residuals.length;
  const blocks = Array.from({ length: depth }, (_, i) => i);
  const [width, height] = [Math.max(400, 90 + 44 * depth), 66 + 30 * depth];
  const svg = svgOf(
    {
      width,
      height,
      marginLeft: 64,
      marginTop: 10,
      marginBottom: 40,
      padding: 0.04,
      x: { label: "last block of the run", domain: blocks },
      y: { label: "kept", domain: blocks },
      color: { scheme: "viridis", reverse: true, domain: [0, 1], clamp: true },
      marks: [
        Plot.cell(cells, { x: "e", y: "k", fill: "value", title: "title" }),
        cellNumbers(
          cells,
          ["e", "k"],
          ({ value }) => value.toFixed(2),
          ({ value }) => (value < 0.4 ? "black" : "white"),
        ),
      ],
    },
    label,
    document,
  );
  return { svg, width, height };
}

/** A model at some price: what its file weighs, how long an image takes and how much of the teacher it loses. */
export interface FrontierMark {
  readonly series: string;
  readonly label: string;
  readonly megabytes: number;
  readonly milliseconds: number;
  /** 1 - the mean cosine similarity with the teacher's pooled features. */
  readonly loss: number;
}

/** Distance from the teacher against size and against time, side by side. */
export function frontierChart(marks: readonly FrontierMark[], document: Document): string {
  const series = [...new Set(marks.map((m) => m.series))];
  const [width, height] = [420, 300];
  const titled = marks.map((m) => ({
    ...m,
    title: `${m.label}, ${m.series}: ${m.megabytes.toFixed(1)} MB, ${m.milliseconds.toFixed(1)} ms, cosine ${(1 - m.loss).toFixed(3)}`,
  }));
  const against = (x: "megabytes" | "milliseconds", label: string) =>
    svgOf(
      {
        width,
        height,
        marginLeft: 52,
        marginBottom: 42,
        x: { label, grid: true, nice: true, zero: true },
        y: { label: "↑ 1 − cosine similarity with the teacher", grid: true, nice: true, zero: true },
        color: colourOf(series),
        marks: [
          Plot.line(titled, { x, y: "loss", z: "series", stroke: "series", sort: x }),
          Plot.dot(titled, { x, y: "loss", fill: "series", r: 4.5, title: "title" }),
        ],
      },
      label,
      document,
    );
  const right = against("milliseconds", "milliseconds an image →").replace("<svg ", `<svg x="${width + 10}" `);
  const both = `<svg width="${2 * width + 10}" height="${height}">${against("megabytes", "megabytes of the file →")}${right}</svg>`;
  return standalone(both, {
    title: "What you get at each price",
    legend: legendOf(series),
    width: 2 * width + 10,
    height,
  });
}
