// Markup from text and values: whatever comes in as text is shown as text.
import { visibleText } from "../utils/escape.ts";

/** Markup that is known to be whole. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

type Part = Html | string | number | undefined | false | readonly Part[];

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text as it stands in markup and in attributes; its lines stay, and what can't be seen stands as its code. */
export const escapeHtml = (text: string): string =>
  text
    .split("\n")
    .map(visibleText)
    .join("\n")
    .replace(/[&<>"']/g, (c) => entities[c]);

function render(part: Part): string {
  if (part === undefined || part === false) return "";
  if (part instanceof Html) return part.text;
  if (Array.isArray(part)) return part.map(render).join("");
  return escapeHtml(String(part));
}

/** A template whose values are escaped, unless they are markup themselves; lists are joined, nothing is left out. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  return new Html(strings.map((string, i) => string + (i < parts.length ? render(parts[i]) : "")).join(""));
}
