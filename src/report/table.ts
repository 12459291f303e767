// Tables as aligned text, as Markdown and as CSV; cells are text, and what a medium would take for more is escaped here.
import type { Markdown } from "../utils/escape.ts";
import { csvCell, markdownCell, visibleText } from "../utils/escape.ts";

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

function widths(columns: readonly Column[], rows: readonly (readonly string[])[]): number[] {
  return columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
}

function pad(text: string, width: number, align: Column["align"]): string {
  return align === "left" ? text.padEnd(width) : text.padStart(width);
}

/** Lines of text with aligned columns; numbers stand to the right unless said otherwise. */
export function textTable(given: readonly Column[], cells: readonly (readonly string[])[]): string {
  const columns = given.map((column) => ({ ...column, title: visibleText(column.title) }));
  const rows = cells.map((row) => row.map(visibleText));
  const size = widths(columns, rows);
  const line = (row: readonly string[]) =>
    row
      .map((text, i) => pad(text, size[i], columns[i].align))
      .join("  ")
      .trimEnd();
  return [line(columns.map((c) => c.title)), line(size.map((w) => "-".repeat(w))), ...rows.map(line)].join("\n");
}

/** A GitHub-flavoured Markdown table. */
export function markdownTable(columns: readonly Column[], rows: readonly (readonly (string | Markdown)[])[]): string {
  const line = (cells: readonly (string | Markdown)[]) => `| ${cells.map(markdownCell).join(" | ")} |`;
  const rule = line(columns.map(({ align }) => (align === "left" ? "---" : "---:")));
  return [line(columns.map((c) => c.title)), rule, ...rows.map(line)].join("\n");
}

/** Comma-separated values; see csvCell. */
export function csvLines(rows: readonly (readonly string[])[]): string {
  return rows.map((row) => `${row.map(csvCell).join(",")}\n`).join("");
}
