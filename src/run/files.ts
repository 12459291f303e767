// What runs write besides weights: texts, and charts as SVG with a PNG beside it.
import type { Directory } from "../files/storage.ts";
import type { Environment } from "./environment.ts";

/** A text as the chunks that files are written from. */
export const textChunks = (text: string): Uint8Array[] => [new TextEncoder().encode(text)];

/** Writes `name.svg`, and `name.png` drawn from it. */
export async function writeChart(
  environment: Environment,
  directory: Directory,
  name: string,
  svg: string,
): Promise<void> {
  await directory.write(`${name}.svg`, textChunks(svg));
  await directory.write(`${name}.png`, [await environment.encodeSvg(svg)]);
}
