// Text from outside (file names, classes, labels, model names) as each medium takes it. Used where text is written.

/**
 * What a reader can't see or what changes how the rest is shown: control characters (C0, DEL, C1), marks of direction,
 * separators of lines, invisible operators, halves of surrogate pairs.
 */
const unseen = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

function escapeCode(character: string): string {
  const code = character.charCodeAt(0);
  const short: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  if (character in short) return short[character];
  return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
}

/** One line of text: all that can't be seen stands as its code, such as `\x1b` and `\u202e`. */
export const visibleText = (text: string): string => text.replace(unseen, escapeCode);

/** Lines of text whose own line ends stay, such as a stack trace or a command's result. */
export const visibleLines = (text: string): string => text.split("\n").map(visibleText).join("\n");

/** JSON in which all that can't be seen is escaped: a double-quoted scalar of YAML too. */
export function visibleJson(value: unknown, indent?: number): string {
  // What JSON.stringify leaves stands in strings alone; its own line ends and indents don't.
  return ((JSON.stringify(value, null, indent) as string | undefined) ?? "null")
    .split("\n")
    .map((line) => line.replace(unseen, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`))
    .join("\n");
}

/** Markdown that is known to be whole. */
export class Markdown {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

/**
 * Text inside a line of Markdown: no emphasis, code, link, image, HTML, cell border or formula begins in it. Numbers and
 * plain words stay as they are.
 * @see https://github.github.com/gfm/#backslash-escapes
 */
export function markdownInline(text: string): string {
  return (
    visibleText(text)
      .replace(/[\\`*[\]|~$]/g, "\\$&")
      .replace(/(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])/gu, "\\_")
      .replace(/&(?=#?\w+;)/g, "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      // GitHub makes links of bare addresses.
      .replaceAll("://", "\\://")
      .replace(/\bwww\./gi, (www) => `${www.slice(0, 3)}\\.`)
  );
}

/** Text that may stand at the beginning of a line of Markdown: no heading, list or rule begins in it. */
function markdownBlock(text: string): string {
  return markdownInline(text)
    .replace(/^(\s*)([#+=-])/, "$1\\$2")
    .replace(/^(\s*\d+)([.)])(?=\s|$)/, "$1\\$2");
}

type MarkdownPart = Markdown | string | number;

/** A template of Markdown whose values are shown as text, unless they are Markdown themselves. */
export function markdown(strings: TemplateStringsArray, ...parts: MarkdownPart[]): Markdown {
  const shown = parts.map((part, i) => {
    if (part instanceof Markdown) return part.text;
    if (typeof part === "number") return String(part);
    const begins = i === 0 && /^\s*(?:[#>*-]+\s+)*$/.test(strings[0]);
    return begins ? markdownBlock(part) : markdownInline(part);
  });
  return new Markdown(strings.map((string, i) => string + (shown[i] ?? "")).join(""));
}

const longestRun = (text: string) => Math.max(0, ...(text.match(/`+/g) ?? []).map(({ length }) => length));

/** Text as a code span, whatever backticks it holds. */
export function markdownCode(text: string): Markdown {
  const shown = visibleText(text);
  const fence = "`".repeat(longestRun(shown) + 1);
  const space = shown === "" || /^`|`$|^ .* $/.test(shown) ? " " : "";
  return new Markdown(`${fence}${space}${shown}${space}${fence}`);
}

/** Text as a block of code, whatever backticks it holds. */
export function markdownFence(text: string, language = ""): Markdown {
  const shown = visibleLines(text);
  const fence = "`".repeat(Math.max(3, longestRun(shown) + 1));
  return new Markdown(`${fence}${language}\n${shown}\n${fence}`);
}

/** A cell of a Markdown table. */
export function markdownCell(cell: string | Markdown): string {
  // Code spans don't protect a bar.
  if (cell instanceof Markdown) return cell.text.replace(/(?<!\\)\|/g, "\\|").replaceAll("\n", " ");
  return markdownInline(cell);
}

const plainNumber = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i;

/**
 * A cell of a CSV file: no formula for a spreadsheet (an apostrophe stands before it), numbers stay numbers, and commas,
 * quotes and line ends stand in quotes.
 * @see https://owasp.org/www-community/attacks/CSV_Injection
 */
export function csvCell(text: string): string {
  const formula = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) && text !== "-" && !plainNumber.test(text);
  const safe = formula ? `'${text}` : text;
  return /[",\r\n;]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Names that Windows keeps for devices, with any ending. */
const reserved = /^(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]|conin\$|conout\$)(?:\.|$)/i;
const mostBytes = 120;

/**
 * A file's or folder's name from a text: one part of a path, valid on all systems, and never hidden. `ending` is kept
 * whole, such as `.png`.
 */
export function safeFileName(text: string, ending = ""): string {
  const encoder = new TextEncoder();
  let name = visibleText(text)
    .normalize("NFC")
    .replace(/[<>:"/\\|?*]+/g, "_")
    .replace(/^[. ]+/, "")
    .replace(/[. ]+$/, "");
  let length = encoder.encode(name).byteLength;
  if (length > mostBytes) {
    const letters = [...name];
    while (length > mostBytes) length -= encoder.encode(letters.pop()).byteLength;
    name = letters.join("").replace(/[. ]+$/, "");
  }
  if (name === "") name = "_";
  if (reserved.test(name)) name = `_${name}`;
  return `${name}${ending}`;
}

/** Gives each text a name of its own: one that differs from the others by more than the case of letters. */
export class FileNames {
  private readonly taken = new Set<string>();

  /** @returns the text's safe name, numbered where it is taken */
  add(text: string, ending = ""): string {
    for (let i = 1; ; i++) {
      const name = safeFileName(text, `${i === 1 ? "" : `-${i}`}${ending}`);
      const key = name.toLowerCase();
      if (this.taken.has(key)) continue;
      this.taken.add(key);
      return name;
    }
  }
}
