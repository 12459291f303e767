// What runs write besides weights: texts, and charts as SVG with a PNG beside it.
import type { Directory } from "../files/storage.ts";
import type { RunContext } from "../context/run-context.ts";
import type * as Figures from "../report/figures.ts";
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

/** Draws a figure under a title, and writes it likewise. What draws is loaded for it. */
export async function writeFigure(
  context: RunContext,
  directory: Directory,
  name: string,
  title: string,
  draw: (figures: typeof Figures, document: Document) => Figures.Drawn,
): Promise<void> {
  const [{ standalone }, figures] = await Promise.all([import("../report/chart.ts"), import("../report/figures.ts")]);
  const { svg, width, height } = draw(figures, await context.environment.createDocument());
  await writeChart(context, directory, name, standalone(svg, { title, legend: [], width, height }));
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
