// The result table of a run: teacher, weight copy and student beside each other, and what its columns mean.
import type { Markdown } from "../utils/escape.ts";
import { markdown } from "../utils/escape.ts";
import type { Column } from "./table.ts";
import { counted } from "../utils/counted.ts";

interface Accuracy {
  readonly top1: number;
  readonly top5: number;
  /** The 95 % interval of top-1. */
  readonly interval?: readonly [number, number];
  readonly top5Interval?: readonly [number, number];
}

/** A row of the result table; what was not measured is left out. */
export interface ResultRow {
  readonly name: string;
  /** Evaluation images that the figures are of. */
  readonly images?: number;
  readonly knn?: Accuracy;
  readonly probe?: Accuracy;
  readonly logistic?: Accuracy;
  readonly head?: Accuracy;
  /** The probe's best epoch on the evaluation images: top-1, or the mean area under the ROC curves. */
  readonly probeBest?: { readonly epoch: number; readonly top1?: number; readonly auroc?: number };
  /** Areas under ROC curves instead, where several labels may apply. */
  readonly auroc?: Partial<Readonly<Record<Scored, Area>>>;
  readonly fidelity?: {
    readonly meanAbsoluteDifference: number;
    readonly cosine: number;
    /** The share of images on which its head answers as the teacher's. */
    readonly agreement?: number;
    /** 95 % intervals. */
    readonly intervals?: Partial<Readonly<Record<"meanAbsoluteDifference" | "cosine" | "agreement", Bounds>>>;
  };
  readonly parameters?: number;
  readonly bytes?: number;
  readonly millisecondsPerImage?: number;
  /** First and third quartile over the turns that it was measured in. */
  readonly millisecondsQuartiles?: Bounds;
}

/** From low to high. */
type Bounds = readonly [number, number];

/** From fewer images, figures stand with their intervals everywhere. */
export const fewImages = 100;
/** From fewer, nothing can be told. */
export const tooFewImages = 20;

/** The fewest and the most images that rows are of; undefined where none says it. */
function imagesOf(rows: readonly Pick<ResultRow, "images">[]): Bounds | undefined {
  const counts = rows.flatMap(({ images }) => images ?? []);
  return counts.length > 0 ? [Math.min(...counts), Math.max(...counts)] : undefined;
}

/** What a run has to say where its images are too few; undefined where they are not. */
export function tooFewText(rows: readonly Pick<ResultRow, "images">[]): string | undefined {
  const [fewest] = imagesOf(rows) ?? [tooFewImages];
  if (fewest >= tooFewImages) return undefined;
  return `${counted(fewest, "image")} ${fewest === 1 ? "is" : "are"} too few to judge by: evaluate on at least ${tooFewImages}, better ${fewImages}`;
}

/**
 * The first line of results: on how many images, and what that allows. Empty where the rows don't say how many. `kind` is said
 * before "images".
 */
export function evaluatedOn(rows: readonly Pick<ResultRow, "images">[], kind = ""): string {
  const counts = imagesOf(rows);
  if (!counts) return "";
  const brackets = counts[0] < fewImages ? " In brackets: 95 % confidence intervals." : "";
  return `Evaluated on ${countText(counts, kind)}.${brackets}`;
}

/** "12 images: too few to judge by", of the fewest and the most. */
export function countText([fewest, most]: Bounds, kind = ""): string {
  const count = fewest === most ? counted(most, `${kind}image`) : `${fewest} to ${most} ${kind}images`;
  return `${count}${fewest < tooFewImages ? ": too few to judge by" : ""}`;
}

interface Area {
  /** Of each label; undefined where it applies to all images or to none. */
  readonly each: readonly (number | undefined)[];
  readonly mean?: number;
  readonly interval?: readonly [number, number];
}
type Scored = "knn" | "probe" | "logistic" | "head";

interface Cell {
  readonly title: string;
  /** What the column holds, for the legend below the table. */
  readonly meaning: string;
  /** Whether more or less of it is better. */
  readonly better: "more" | "less";
  /** Whether one row is ahead of another by more than both vary by themselves; the precision shown decides where left out. */
  readonly ahead?: (row: ResultRow, of: ResultRow) => boolean;
  /** Whether it is of the evaluation images, so that too few of them tell nothing. */
  readonly ofImages?: boolean;
  /** Whether its interval stands in wide tables whatever the number of images. */
  readonly alwaysBounded?: boolean;
  readonly boundDigits?: number;
  /** Left out where a table must be narrow. */
  readonly wide?: boolean;
  readonly value: (row: ResultRow) => number | undefined;
  readonly digits: number;
  /** In the unit of the value. */
  readonly interval?: (row: ResultRow) => Bounds | undefined;
}

const percents = (bounds: Bounds | undefined): Bounds | undefined => bounds && [100 * bounds[0], 100 * bounds[1]];
/** What figures that are shares of images, or areas, have in common. */
const shares = { better: "more", digits: 1, boundDigits: 0, ofImages: true } as const;

const accuracy = (title: string, of: Scored, meaning: string): Cell => ({
  ...shares,
  title,
  meaning,
  alwaysBounded: true,
  value: (row) => row[of] && 100 * row[of].top1,
  interval: (row) => percents(row[of]?.interval),
});

const top5 = (title: string, of: "knn" | "probe"): Cell => ({
  ...shares,
  title,
  meaning: "the right class is among the first five",
  wide: true,
  value: (row) => row[of] && 100 * row[of].top5,
  interval: (row) => percents(row[of]?.top5Interval),
});

const area = (title: string, of: Scored, meaning: string): Cell => ({
  ...shares,
  title,
  meaning,
  alwaysBounded: true,
  value: (row) => percent(row.auroc?.[of]?.mean),
  interval: (row) => percents(row.auroc?.[of]?.interval),
});

export const percent = (share: number | undefined): number | undefined =>
  share === undefined ? undefined : 100 * share;
const millions = (of: "parameters" | "bytes") => (row: ResultRow) => row[of] && row[of] / 1e6;

const meanings = {
  knn: "a vote of the 10 most similar labelled images",
  probe: "a linear layer trained on the features",
  logistic: "logistic regression on the features",
  head: "the model's own classifier",
  auroc: "mean area under the ROC curves of the labels",
} as const;

const cells: readonly Cell[] = [
  accuracy("k-NN %", "knn", meanings.knn),
  top5("k-NN top-5 %", "knn"),
  accuracy("probe %", "probe", meanings.probe),
  top5("probe top-5 %", "probe"),
  {
    title: "probe, best epoch %",
    meaning: "of the epoch that is best on the evaluation images",
    better: "more",
    value: (r) => percent(r.probeBest?.top1),
    digits: 1,
  },
  accuracy("logistic %", "logistic", meanings.logistic),
  accuracy("classifier %", "head", meanings.head),
  area("k-NN AUROC %", "knn", `${meanings.knn}; ${meanings.auroc}`),
  area("probe AUROC %", "probe", `${meanings.probe}; ${meanings.auroc}`),
  {
    title: "probe, best epoch AUROC %",
    meaning: "of the epoch that is best on the evaluation images",
    better: "more",
    value: (r) => percent(r.probeBest?.auroc),
    digits: 1,
  },
  area("logistic AUROC %", "logistic", `${meanings.logistic}; ${meanings.auroc}`),
  area("classifier AUROC %", "head", `${meanings.head}; ${meanings.auroc}`),
  {
    ...shares,
    title: "agreement %",
    meaning: "the classifier predicts what the teacher's predicts",
    value: (r) => percent(r.fidelity?.agreement),
    interval: (r) => percents(r.fidelity?.intervals?.agreement),
  },
  {
    title: "difference",
    meaning: "mean absolute difference from the teacher's features in the last block",
    better: "less",
    ofImages: true,
    value: (r) => r.fidelity?.meanAbsoluteDifference,
    digits: 3,
    interval: (r) => r.fidelity?.intervals?.meanAbsoluteDifference,
  },
  {
    title: "cosine",
    meaning: "mean cosine similarity with the teacher's image features",
    better: "more",
    ofImages: true,
    value: (r) => r.fidelity?.cosine,
    digits: 3,
    interval: (r) => r.fidelity?.intervals?.cosine,
  },
  {
    title: "M params",
    meaning: "millions of parameters",
    better: "less",
    ahead: isLighter("parameters"),
    value: millions("parameters"),
    digits: 1,
  },
  {
    title: "MB",
    meaning: "file of weights as it is stored, without ONNX files",
    better: "less",
    ahead: isLighter("bytes"),
    value: millions("bytes"),
    digits: 1,
  },
  {
    title: "ms/image",
    meaning: "milliseconds for one image on this machine, median",
    better: "less",
    ahead: isFaster,
    alwaysBounded: true,
    value: (r) => r.millisecondsPerImage,
    digits: 1,
    interval: (r) => r.millisecondsQuartiles,
  },
];

/** A size that is smaller by less than this share is the same size. */
const leastSaving = 0.02;

/** Whether one row weighs less than another by a share that matters. */
function isLighter(of: "parameters" | "bytes") {
  return (row: ResultRow, than: ResultRow): boolean => (row[of] ?? Infinity) <= (1 - leastSaving) * (than[of] ?? 0);
}

/** A lead that is less than this share is a clock's noise in any case. */
const leastLead = 0.1;

/**
 * Whether a model is faster than another, as far as both were measured: the medians differ by more than either's times spread
 * (between their quartiles), and these don't overlap.
 */
export function isFaster(row: ResultRow, than: ResultRow): boolean {
  const [milliseconds, other] = [row.millisecondsPerImage, than.millisecondsPerImage];
  const [range, others] = [row.millisecondsQuartiles, than.millisecondsQuartiles];
  if (milliseconds === undefined || other === undefined || !range || !others) return false;
  const lead = other - milliseconds;
  const spread = Math.max(range[1] - range[0], others[1] - others[0]);
  return lead > spread && lead > leastLead * other && range[1] < others[0];
}

/** " (40–60)": an interval behind its figure; nothing where there is none. */
export const boundsText = (bounds: Bounds | undefined, digits: number): string =>
  bounds ? ` (${bounds[0].toFixed(digits)}–${bounds[1].toFixed(digits)})` : "";

/** One figure as text, and whether it is the best of the small models. */
export interface ResultCell {
  readonly text: string;
  /** Its interval in brackets; empty where it has none. */
  readonly bounds: string;
  readonly best: boolean;
}

/** A table of results. */
export interface ResultCells {
  readonly columns: Column[];
  readonly rows: { readonly name: string; readonly cells: ResultCell[] }[];
  /** What the columns and marks of this table mean, as sentences without full stops. */
  readonly legend: string[];
}

interface TableStyle {
  /** Whether all columns are shown. */
  readonly wide: boolean;
  /** What the legend calls the mark of the better small model. */
  readonly mark: string;
}

/**
 * The figures that were measured for at least one row. Of the rows besides the teacher's the best figure is
 * marked, where one is ahead at the precision shown.
 */
export function resultCells(rows: readonly ResultRow[], { wide, mark }: TableStyle): ResultCells {
  const used = cells.filter((cell) => (wide || !cell.wide) && rows.some((row) => cell.value(row) !== undefined));
  const leaders = used.map((cell) => leaderOf(cell, rows));
  const boundsOf = (cell: Cell, row: ResultRow) => {
    const few = row.images !== undefined && row.images < fewImages;
    const bounded = (wide && cell.alwaysBounded === true) || (cell.ofImages === true && few);
    return bounded && cell.value(row) !== undefined ? cell.interval?.(row) : undefined;
  };
  const isBounded = (kind: (cell: Cell) => boolean) =>
    used.some((cell) => kind(cell) && rows.some((row) => boundsOf(cell, row)));
  const isTime = ({ ofImages }: Cell) => ofImages !== true;
  return {
    columns: [{ title: "", align: "left" }, ...used.map(({ title }) => ({ title }))],
    rows: rows.map((row) => ({
      name: row.name,
      cells: used.map((cell, i) => {
        const { value, digits, boundDigits = digits } = cell;
        const cellValue = value(row);
        return {
          text: cellValue === undefined ? "-" : cellValue.toFixed(digits),
          bounds: boundsText(boundsOf(cell, row), boundDigits),
          best: cellValue !== undefined && row === leaders[i],
        };
      }),
    })),
    legend: [
      ...legendOf(used),
      ...(isBounded((cell) => !isTime(cell)) ? ["in brackets: 95 % confidence interval over the images"] : []),
      ...(isBounded(isTime) ? ["in brackets behind ms/image: first and third quartile"] : []),
      ...(leaders.some((row) => row !== undefined) ? [`${mark}: the better of the small models`] : []),
    ],
  };
}

/** The small model whose figure is ahead of all others'; undefined where none is. */
function leaderOf({ better, value, digits, ahead, ofImages }: Cell, rows: readonly ResultRow[]): ResultRow | undefined {
  const small = rows.filter(({ name }) => name !== "teacher");
  if (ofImages && small.some(({ images }) => images !== undefined && images < tooFewImages)) return undefined;
  const shownOf = (row: ResultRow) => Number((value(row) as number).toFixed(digits));
  const [best, ...others] = small
    .filter((row) => value(row) !== undefined)
    .sort((a, b) => (better === "more" ? shownOf(b) - shownOf(a) : shownOf(a) - shownOf(b)));
  if (others.length === 0 || shownOf(best) === shownOf(others[0])) return undefined;
  return ahead === undefined || others.every((row) => ahead(best, row)) ? best : undefined;
}

/** What these columns mean; those that mean the same are named together. */
function legendOf(used: readonly Cell[]): string[] {
  const titles = new Map<string, string[]>();
  for (const { title, meaning } of used)
    titles.set(meaning, [...(titles.get(meaning) ?? []), title.replace(/ %$/, "")]);
  return [...titles].map(([meaning, names]) => `${names.join(", ")}: ${meaning}`);
}

/** A legend as a paragraph. */
export const legendText = (legend: readonly string[]): string => (legend.length > 0 ? `${legend.join("; ")}.` : "");

/** A table as rows of text, with its legend. */
export interface ResultTable<Text> {
  readonly columns: Column[];
  readonly rows: Text[][];
  readonly legend: string;
}

/** The table for a terminal: narrow, the better figure of the small models with a star. */
export function resultText(results: readonly ResultRow[]): ResultTable<string> {
  const { columns, rows, legend } = resultCells(results, { wide: false, mark: "*" });
  return {
    columns: columns.map(({ title, ...rest }) => ({ title: title && `${title} `, ...rest })),
    rows: rows.map(({ name, cells: rowCells }) => [
      name,
      ...rowCells.map(({ text, bounds, best }) => `${text}${bounds}${best ? "*" : " "}`),
    ]),
    legend: legendText(legend),
  };
}

/** The table for Markdown: all figures with their intervals, the better one of the small models bold. */
export function resultTable(results: readonly ResultRow[]): ResultTable<string | Markdown> {
  const { columns, rows, legend } = resultCells(results, { wide: true, mark: "bold" });
  return {
    columns,
    rows: rows.map(({ name, cells: rowCells }) => [
      name,
      ...rowCells.map(({ text, bounds, best }) => (best ? markdown`**${text}${bounds}**` : `${text}${bounds}`)),
    ]),
    legend: legendText(legend),
  };
}
