// What messages show of a file's content. A name in a file may be 50 MB long, a shape a million lists deep: what is shown
// is bounded in length and in time, whatever the value.

const longestText = 100;
const mostNames = 6;
const deepest = 4;

/** A text as a message shows it: whole where it is short, else its beginning. */
export function shorten(text: string, most: number = longestText): string {
  return text.length > most ? `${text.slice(0, most)}...` : text;
}

/** Any value that JSON can hold, as JSON, cut after about a hundred characters. */
export function quote(value: unknown): string {
  return shorten(written(value, 0));
}

function written(value: unknown, depth: number): string {
  if (typeof value === "string") return JSON.stringify(shorten(value));
  if (typeof value !== "object" || value === null) return String(value);
  if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (depth === deepest) return `${open}...${close}`;
  const parts: string[] = [];
  let length = 0;
  for (const part of partsOf(value, depth)) {
    parts.push(length > longestText ? "..." : part);
    if (length > longestText) break;
    length += part.length;
  }
  return `${open}${parts.join(",")}${close}`;
}

/** One after the other, so that nothing is made of those that are not shown. */
function* partsOf(value: object, depth: number): Generator<string> {
  if (Array.isArray(value)) {
    for (const item of value as unknown[]) yield written(item, depth + 1);
    return;
  }
  for (const [key, item] of Object.entries(value)) yield `${JSON.stringify(shorten(key))}:${written(item, depth + 1)}`;
}

/** The first of many names, each short enough to be read, and how many more there are. */
export function listSome(names: readonly string[], most: number = mostNames): string {
  const some = names.slice(0, most).map((name) => shorten(name));
  return names.length > most ? `${some.join(", ")} and ${names.length - most} more` : some.join(", ");
}

/** A shape as text; the first of its dimensions where there are many. */
export function shapeText(dims: readonly number[]): string {
  return `[${dims.slice(0, 8).join(", ")}${dims.length > 8 ? ", ..." : ""}]`;
}
