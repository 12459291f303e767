// What commands print on standard output: tables for people, or one JSON object.
import type { ResultRow } from "../report/results.ts";
import { resultLegend, resultTable } from "../report/results.ts";
import { textTable } from "../report/table.ts";

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

export function printResults(results: readonly ResultRow[]): void {
  if (results.length === 0) return;
  const { columns, rows } = resultTable(results);
  process.stdout.write(`\n${textTable(columns, rows)}\n\n${resultLegend}\n`);
}
