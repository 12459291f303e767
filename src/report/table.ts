// Tables as aligned text and as Markdown.

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** Escapes what would end a Markdown cell. */
const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");

function widths(columns: readonly Column[], rows: readonly (readonly string[])[]): number[] {
  return columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
}

function pad(text: string, width: number, align: Column["align"]): string {
  return align === "left" ? text.padEnd(width) : text.padStart(width);
}

/** Lines of text with aligned columns; numbers stand to the right unless said otherwise. */
export function textTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const size = widths(columns, rows);
  const line = (cells: readonly string[]) =>
    cells
      .map((text, i) => pad(text, size[i], columns[i].align))
      .join("  ")
      .trimEnd();
  return [line(columns.map((c) => c.title)), line(size.map((w) => "-".repeat(w))), ...rows.map(line)].join("\n");
}

/** A GitHub-flavoured Markdown table. */
export function markdownTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(" | ")} |`;
  const rule = line(columns.map(({ align }) => (align === "left" ? "---" : "---:")));
  return [line(columns.map((c) => c.title)), rule, ...rows.map(line)].join("\n");
}

/** Comma-separated values; cells with commas, quotes or line ends in quotes. */
export function csvLines(rows: readonly (readonly string[])[]): string {
  const quoted = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => `${row.map(quoted).join(",")}\n`).join("");
}
