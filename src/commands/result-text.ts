// Results as text for people.
import type { Comparison } from "../report/findings.ts";
import { findings } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { evaluatedOn, resultText } from "../report/results.ts";
import { textTable } from "../report/table.ts";

/**
 * The result table below the number of images, what its columns mean, and what the figures allow to be said. `kind` is said
 * before "images".
 */
export function resultsText(results: readonly ResultRow[], comparisons: readonly Comparison[], kind = ""): string {
  if (results.length === 0) return "";
  const { columns, rows, legend } = resultText(results);
  const sentences = findings(comparisons);
  return [
    evaluatedOn(results, kind),
    "",
    textTable(columns, rows),
    "",
    legend,
    ...(sentences.length > 0 ? ["", ...sentences] : []),
  ].join("\n");
}

/** A square table of numbers from 0 to 1, one row a student block. */
export function similarityText(title: string, values: readonly (readonly number[])[]): string {
  const columns = [
    { title: "student\\teacher", align: "left" as const },
    ...values[0].map((_, t) => ({ title: String(t) })),
  ];
  const rows = values.map((row, s) => [String(s), ...row.map((value) => value.toFixed(2))]);
  return `\n${title}\n${textTable(columns, rows)}`;
}
