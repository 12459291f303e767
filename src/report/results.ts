// The result table of a run: teacher, weight copy and student beside each other.
import type { Markdown } from "../utils/escape.ts";
import { markdown } from "../utils/escape.ts";
import type { Column } from "./table.ts";

interface Accuracy {
  readonly top1: number;
  readonly top5: number;
  /** The 95 % interval of top-1. */
  readonly interval?: readonly [number, number];
}

/** A row of the result table; what was not measured is left out. */
export interface ResultRow {
  readonly name: string;
  readonly neighbours?: Accuracy;
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
    /** The share of pictures on which its head answers as the teacher's. */
    readonly agreement?: number;
  };
  readonly parameters?: number;
  readonly bytes?: number;
  readonly millisecondsAPicture?: number;
}

interface Area {
  /** Of each label; undefined where it applies to all pictures or to none. */
  readonly each: readonly (number | undefined)[];
  readonly mean?: number;
  readonly interval?: readonly [number, number];
}
type Scored = "neighbours" | "probe" | "logistic" | "head";

interface Cell {
  readonly title: string;
  /** Whether more or less of it is better. */
  readonly better: "more" | "less";
  /** The share that the best must be ahead by to be marked; what is measured by the clock varies by itself. */
  readonly margin?: number;
  /** Left out where a table must be narrow. */
  readonly wide?: boolean;
  readonly value: (row: ResultRow) => number | undefined;
  readonly digits: number;
  readonly interval?: (row: ResultRow) => readonly [number, number] | undefined;
}

const accuracy = (title: string, of: Scored): Cell => ({
  title,
  better: "more",
  value: (row) => row[of] && 100 * row[of].top1,
  digits: 1,
  interval: (row) => row[of]?.interval,
});

const top5 = (of: "neighbours" | "probe"): Cell => ({
  title: "top-5",
  better: "more",
  wide: true,
  value: (row) => row[of] && 100 * row[of].top5,
  digits: 1,
});

const area = (title: string, of: Scored): Cell => ({
  title,
  better: "more",
  value: (row) => row.auroc?.[of]?.mean && 100 * row.auroc[of].mean,
  digits: 1,
  interval: (row) => row.auroc?.[of]?.interval,
});

export const percent = (share: number | undefined): number | undefined =>
  share === undefined ? undefined : 100 * share;
const millions = (of: "parameters" | "bytes") => (row: ResultRow) => row[of] && row[of] / 1e6;

const cells: readonly Cell[] = [
  accuracy("neighbours %", "neighbours"),
  top5("neighbours"),
  accuracy("probe %", "probe"),
  top5("probe"),
  { title: "probe, best epoch %", better: "more", value: (r) => percent(r.probeBest?.top1), digits: 1 },
  accuracy("logistic %", "logistic"),
  accuracy("own head %", "head"),
  area("neighbours AUROC %", "neighbours"),
  area("probe AUROC %", "probe"),
  { title: "probe, best epoch AUROC %", better: "more", value: (r) => percent(r.probeBest?.auroc), digits: 1 },
  area("logistic AUROC %", "logistic"),
  area("own head AUROC %", "head"),
  { title: "as teacher %", better: "more", value: (r) => percent(r.fidelity?.agreement), digits: 1 },
  { title: "difference", better: "less", value: (r) => r.fidelity?.meanAbsoluteDifference, digits: 3 },
  { title: "cosine", better: "more", value: (r) => r.fidelity?.cosine, digits: 3 },
  { title: "M params", better: "less", value: millions("parameters"), digits: 1 },
  { title: "MB", better: "less", value: millions("bytes"), digits: 1 },
  { title: "ms/picture", better: "less", margin: 0.1, value: (r) => r.millisecondsAPicture, digits: 1 },
];

/** One figure as text, and whether it is the best of the small models. */
export interface ResultCell {
  readonly text: string;
  readonly best: boolean;
}

/**
 * The figures that were measured for at least one row. Of the rows besides the teacher's the best figure is
 * marked, where one is ahead at the precision shown.
 */
export function resultCells(
  rows: readonly ResultRow[],
  { wide }: { readonly wide: boolean },
): { columns: Column[]; rows: { name: string; cells: ResultCell[] }[] } {
  const used = cells.filter((cell) => (wide || !cell.wide) && rows.some((row) => cell.value(row) !== undefined));
  const small = rows.filter(({ name }) => name !== "teacher");
  const leaders = used.map(({ better, value, digits, margin = 0 }) => {
    const shown = small.flatMap((row) => value(row) ?? []).map((v) => Number(v.toFixed(digits)));
    const [best, second] = shown.sort((a, b) => (better === "more" ? b - a : a - b));
    return second !== undefined && Math.abs(best - second) > margin * Math.abs(second) ? best : undefined;
  });
  return {
    columns: [{ title: "", align: "left" }, ...used.map(({ title }) => ({ title }))],
    rows: rows.map((row) => ({
      name: row.name,
      cells: used.map(({ value, digits, interval }, i) => {
        const own = value(row);
        const bounds = wide ? interval?.(row) : undefined;
        return {
          text:
            own === undefined
              ? "-"
              : `${own.toFixed(digits)}${bounds ? ` (${(100 * bounds[0]).toFixed(0)}–${(100 * bounds[1]).toFixed(0)})` : ""}`,
          best: row.name !== "teacher" && own !== undefined && Number(own.toFixed(digits)) === leaders[i],
        };
      }),
    })),
  };
}

/** The table for a terminal: narrow, the better figure of the small models with a star. */
export function resultText(results: readonly ResultRow[]): { columns: Column[]; rows: string[][] } {
  const { columns, rows } = resultCells(results, { wide: false });
  const starred = (cellsOfRow: readonly ResultCell[]) =>
    cellsOfRow.map(({ text, best }) => `${text}${best ? "*" : " "}`);
  return {
    columns: columns.map(({ title, ...rest }) => ({ title: title && `${title} `, ...rest })),
    rows: rows.map(({ name, cells: own }) => [name, ...starred(own)]),
  };
}

/** The table for Markdown: all figures with their intervals, the better one of the small models bold. */
export function resultTable(results: readonly ResultRow[]): { columns: Column[]; rows: (string | Markdown)[][] } {
  const { columns, rows } = resultCells(results, { wide: true });
  return {
    columns,
    rows: rows.map(({ name, cells: own }) => [
      name,
      ...own.map(({ text, best }) => (best ? markdown`**${text}**` : text)),
    ]),
  };
}

/** What the table's columns mean. */
export const resultLegend =
  "neighbours: weighted 10-nearest neighbours; probe: linear probe; as teacher: its head's answer is that of the teacher's; " +
  "difference: mean absolute difference to the teacher's last block output; cosine: of class tokens with the teacher's; MB: weights on disk";
/** What its marks mean. */
export const resultMarks =
  "in brackets: 95 % interval over the pictures judged on; bold: the better of the small models";
