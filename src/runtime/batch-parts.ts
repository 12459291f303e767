// Images through a session, few at once.
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, rows } from "../utils/tensor.ts";
import type { Device, Feed, Session } from "./device.ts";

/** So many images for each thread still fit a processor's caches: with more at once, each takes longer (dev/performance.md). */
const imagesPerThread = 4;

/**
 * Outputs `[B, …]` by name for `pixels` `[B, …]`, which go through the session in parts of about one size where a processor runs it, each
 * part with the other `feeds`.
 */
export async function runInParts<N extends string>(
  session: Session,
  { threads }: Device,
  pixels: FloatTensor,
  fetch: readonly N[],
  feeds: Readonly<Record<string, Feed>> = {},
): Promise<Record<N, FloatTensor>> {
  const [count] = pixels.dims;
  const parts = threads === undefined ? 1 : Math.ceil(count / (imagesPerThread * threads));
  const start = (part: number) => Math.floor((part * count) / parts);
  const outputs: Record<N, FloatTensor>[] = [];
  for (let part = 0; part < parts; part++) {
    const shown = rows(pixels, start(part), start(part + 1));
    const { tensors } = await session.run({ feeds: { ...feeds, pixels: shown }, fetch });
    outputs.push(tensors as Record<N, FloatTensor>);
  }
  if (outputs.length === 1) return outputs[0];
  const joined = fetch.map((name) => [name, concatRows(outputs.map((part) => part[name]))] as const);
  return Object.fromEntries(joined) as Record<N, FloatTensor>;
}
