// What runs write besides weights: texts, and charts as SVG with a PNG beside it.
import type { Directory } from "../files/storage.ts";
import type { RunContext } from "../context/run-context.ts";
import { FileNames } from "../utils/escape.ts";

/** A text as the chunks that files are written from. */
export const textChunks = (text: string): Uint8Array[] => [new TextEncoder().encode(text)];

/** Writes `name.svg`, and `name.png` drawn from it. */
export async function writeChart(
  { environment }: RunContext,
  directory: Directory,
  name: string,
  svg: string,
): Promise<void> {
  await directory.write(`${name}.svg`, textChunks(svg));
  await directory.write(`${name}.png`, [await environment.encodeSvg(svg)]);
}

/** Models' names in tables and files: the folder that holds each, or the run that made it. */
export function modelNames(paths: readonly string[]): string[] {
  const names = new FileNames();
  return paths.map((path) => {
    const parts = path.split(/[/\\]/).filter((part) => part && part !== ".");
    const folderName = parts.at(-1) === "student" ? parts.at(-2) : parts.at(-1);
    return names.add((folderName ?? "model").replace(/[^\w.-]+/g, "-"));
  });
}
