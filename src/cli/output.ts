// What commands print on standard output: tables for people, or one JSON object.
import type { Comparison } from "../report/findings.ts";
import { findings } from "../report/findings.ts";
import type { ResultRow } from "../report/results.ts";
import { resultLegend, resultText } from "../report/results.ts";
import { textTable } from "../report/table.ts";

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** The result table, what its columns mean, and what the figures allow to be said. */
export function printResults(results: readonly ResultRow[], comparisons: readonly Comparison[]): void {
  if (results.length === 0) return;
  const { columns, rows } = resultText(results);
  const starred = rows.some((row) => row.some((text) => text.endsWith("*")));
  const legend = `${resultLegend}${starred ? "; *: the better of the small models" : ""}`;
  process.stdout.write(`\n${textTable(columns, rows)}\n\n${legend}\n`);
  const sentences = findings(comparisons);
  if (sentences.length > 0) process.stdout.write(`\n${sentences.join("\n")}\n`);
}

/** A square table of numbers from 0 to 1, one row a student block. */
export function printSimilarity(title: string, values: readonly (readonly number[])[]): void {
  const columns = [
    { title: "student\\teacher", align: "left" as const },
    ...values[0].map((_, t) => ({ title: String(t) })),
  ];
  const rows = values.map((row, s) => [String(s), ...row.map((value) => value.toFixed(2))]);
  process.stdout.write(`\n${title}\n${textTable(columns, rows)}\n`);
}
