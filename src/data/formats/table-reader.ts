// Tables as text (CSV, TSV; RFC 4180) and as lines of JSON, read in time that grows with their length.
import { UserError } from "../../utils/errors.ts";
import { shorten, listSome } from "../../utils/quote.ts";
import { counted } from "../../utils/counted.ts";

/** A row of a table, and the line that it begins on. */
export interface Row {
  readonly line: number;
  /** In the order of the table's columns. */
  readonly values: readonly string[];
}

export class Table {
  readonly columns: readonly string[];
  readonly rows: readonly Row[];
  /** The name that messages use. */
  readonly name: string;

  constructor(name: string, columns: readonly string[], rows: readonly Row[]) {
    this.name = name;
    this.columns = columns;
    this.rows = rows;
  }

  /** Where a column stands. Throws a UserError where there is none, or more than one. */
  index(column: string): number {
    const at = this.columns.indexOf(column);
    if (at < 0)
      throw new UserError(`${this.name} has no column ${shorten(column)}; its columns are ${listSome(this.columns)}`, {
        code: "INVALID_DATA",
      });
    if (this.columns.includes(column, at + 1))
      throw new UserError(`${this.name} has more than one column ${shorten(column)}`, { code: "INVALID_DATA" });
    return at;
  }
}

const mostColumns = 10_000;
const longestField = 2 ** 20;

const quote = 34;
const newline = 10;
const carriageReturn = 13;

/** Splits a text into records. Lines without a quote are split by the engine, which is much faster than character by character. */
class RecordReader {
  /** The line that the next record begins on. */
  line = 1;
  private readonly text: string;
  private readonly separator: string;
  private readonly fail: (message: string) => never;
  private at = 0;
  private nextQuote = -2;

  constructor(text: string, separator: string, fail: (message: string) => never) {
    this.text = text;
    this.separator = separator;
    this.fail = fail;
  }

  /** The next record's fields, trimmed; undefined at the end. A blank line is a record of one empty field. */
  next(): string[] | undefined {
    const { text } = this;
    if (this.at >= text.length) return undefined;
    const newline = text.indexOf("\n", this.at);
    const end = newline < 0 ? text.length : newline;
    if (this.nextQuote !== -1 && this.nextQuote < this.at) this.nextQuote = text.indexOf('"', this.at);
    if (this.nextQuote >= 0 && this.nextQuote < end) return this.quoted();
    const fields = text.slice(this.at, end).split(this.separator, mostColumns + 1);
    this.at = end + 1;
    this.line++;
    for (let i = 0; i < fields.length; i++) fields[i] = fields[i].trim();
    return this.checked(fields, this.line - 1);
  }

  private checked(fields: string[], line: number): string[] {
    if (fields.length > mostColumns) this.fail(`line ${line} has more than ${mostColumns} columns`);
    if (fields.some((field) => field.length > longestField)) this.failLong(line);
    return fields;
  }

  private failLong(line: number): never {
    return this.fail(`line ${line} has a field of more than ${longestField} characters`);
  }

  private quoted(): string[] {
    const { text, separator } = this;
    const begin = this.line;
    const separatorCode = separator.charCodeAt(0);
    const fields: string[] = [];
    for (;;) {
      this.skipBlanks(separatorCode);
      if (text.charCodeAt(this.at) === quote) {
        fields.push(this.quotedField(begin));
        this.skipBlanks(separatorCode);
      } else {
        const from = this.at;
        for (;;) {
          const code = text.charCodeAt(this.at);
          if (this.at >= text.length || code === separatorCode || code === newline) break;
          this.at++;
        }
        fields.push(text.slice(from, this.at).trim());
      }
      if (fields.length > mostColumns) break;
      const code = text.charCodeAt(this.at);
      if (this.at < text.length && code !== separatorCode && code !== newline)
        this.fail(`line ${this.line} has text behind a closing quote`);
      this.at++;
      if (code === separatorCode) continue;
      this.line++;
      break;
    }
    return this.checked(fields, begin);
  }

  /** A field between quotes, in which a quote stands doubled. */
  private quotedField(begin: number): string {
    const { text } = this;
    const parts: string[] = [];
    let from = this.at + 1;
    const first = from;
    for (;;) {
      const end = text.indexOf('"', from);
      // Doubled quotes are two characters for one.
      if (end - first > 2 * longestField) this.failLong(begin);
      if (end < 0) this.fail(`the quote that opens in line ${this.line} is not closed`);
      parts.push(text.slice(from, end));
      if (text.charCodeAt(end + 1) !== quote) {
        this.at = end + 1;
        break;
      }
      parts.push('"');
      from = end + 2;
    }
    const field = parts.join("");
    for (let at = field.indexOf("\n"); at >= 0; at = field.indexOf("\n", at + 1)) this.line++;
    return field;
  }

  /** Passes spaces, and the line's carriage return. */
  private skipBlanks(separatorCode: number): void {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code === separatorCode || !(code === 32 || code === 9 || code === carriageReturn)) return;
      this.at++;
    }
  }
}

/** Reads a table with a header. Throws a UserError that names file and line where a row does not fit. */
export function readTable(text: string, named: string, separator = ","): Table {
  const fail = (message: string): never => {
    throw new UserError(`${named} is not a table that can be read: ${message}`, { code: "INVALID_DATA" });
  };
  let content = text.startsWith("\uFEFF") ? text.slice(1) : text;
  // Lines of old Macs.
  if (!content.includes("\n")) content = content.replaceAll("\r", "\n");
  const reader = new RecordReader(content, separator, fail);
  let columns: string[] | undefined;
  const rows: Row[] = [];
  for (;;) {
    const { line } = reader;
    const values = reader.next();
    if (!values) break;
    if (values.length === 1 && values[0] === "") continue;
    if (!columns) columns = values;
    else if (values.length !== columns.length)
      fail(`line ${line} has ${counted(values.length, "field")}, the header ${counted(columns.length, "column")}`);
    else rows.push({ line, values });
  }
  return new Table(named, columns ?? [], rows);
}

/** Lines of JSON objects as a table of their fields; what is no text, number or list of these is left out. */
export function readJsonLines(text: string, named: string): Table {
  const columns = new Map<string, number>();
  const records: { line: number; fields: [number, string][] }[] = [];
  let line = 0;
  for (const content of text.replace(/^\uFEFF/, "").split("\n")) {
    line++;
    if (content.trim() === "") continue;
    const fail = (message: string): never => {
      throw new UserError(`Line ${line} of ${named} ${message}`, { code: "INVALID_DATA" });
    };
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch {
      fail("is not JSON");
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) fail("is not a JSON object");
    const fields: [number, string][] = [];
    for (const [key, field] of Object.entries(value as Record<string, unknown>)) {
      const cell = cellOf(field);
      if (cell === undefined) continue;
      const at = columns.get(key) ?? columns.size;
      columns.set(key, at);
      fields.push([at, cell]);
    }
    if (columns.size > mostColumns) fail(`brings the table to more than ${mostColumns} columns`);
    records.push({ line, fields });
  }
  if (records.length * columns.size > 2 ** 27)
    throw new UserError(`${named} has too many different fields: ${columns.size} in ${records.length} lines`, {
      code: "INVALID_DATA",
    });
  const rows = records.map(({ line: begin, fields }): Row => {
    const values = new Array<string>(columns.size).fill("");
    for (const [at, cell] of fields) values[at] = cell;
    return { line: begin, values };
  });
  return new Table(named, [...columns.keys()], rows);
}

function cellOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value) && value.every((v) => typeof v === "string" || typeof v === "number"))
    return value.length === 1 ? `${value[0]}|` : value.join("|");
  return undefined;
}
