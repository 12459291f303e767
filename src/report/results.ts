// The result table of a run: teacher, weight copy and student beside each other.
import type { Column } from "./table.ts";

interface Accuracy {
  readonly top1: number;
  readonly top5: number;
}

/** A row of the result table; what was not measured is left out. */
export interface ResultRow {
  readonly name: string;
  readonly neighbours?: Accuracy;
  readonly probe?: Accuracy;
  readonly head?: Accuracy;
  readonly fidelity?: { readonly meanAbsoluteDifference: number; readonly cosine: number };
  readonly parameters?: number;
  readonly bytes?: number;
  readonly millisecondsAPicture?: number;
}

const percent = (share: number) => (100 * share).toFixed(1);

const cells: readonly { readonly title: string; readonly show: (row: ResultRow) => string | undefined }[] = [
  { title: "neighbours %", show: (r) => r.neighbours && percent(r.neighbours.top1) },
  { title: "top-5", show: (r) => r.neighbours && percent(r.neighbours.top5) },
  { title: "probe %", show: (r) => r.probe && percent(r.probe.top1) },
  { title: "top-5 ", show: (r) => r.probe && percent(r.probe.top5) },
  { title: "own head %", show: (r) => r.head && percent(r.head.top1) },
  { title: "difference", show: (r) => r.fidelity?.meanAbsoluteDifference.toFixed(3) },
  { title: "cosine", show: (r) => r.fidelity?.cosine.toFixed(3) },
  { title: "M params", show: (r) => (r.parameters === undefined ? undefined : (r.parameters / 1e6).toFixed(1)) },
  { title: "MB", show: (r) => (r.bytes === undefined ? undefined : (r.bytes / 1e6).toFixed(1)) },
  { title: "ms/picture", show: (r) => r.millisecondsAPicture?.toFixed(1) },
];

/** Columns and rows of what was measured for at least one row. */
export function resultTable(rows: readonly ResultRow[]): { columns: Column[]; rows: string[][] } {
  const used = cells.filter(({ show }) => rows.some((row) => show(row) !== undefined));
  return {
    columns: [{ title: "", align: "left" }, ...used.map(({ title }) => ({ title: title.trim() }))],
    rows: rows.map((row) => [row.name, ...used.map(({ show }) => show(row) ?? "-")]),
  };
}

/** What the table's columns mean. */
export const resultLegend =
  "neighbours: weighted 10-nearest neighbours; probe: linear probe; difference: mean absolute difference to the " +
  "teacher's last block output; cosine: of class tokens with the teacher's; MB: weights on disk";
