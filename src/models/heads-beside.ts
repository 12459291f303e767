// Weights without a configuration beside a folder that has one: a training's checkpoint beside the model that it began with, or
// that was saved from it. If the sizes there are those of the weights, its number of heads is better evidence than a guess.
import type { Directory } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import type { VitConfig } from "./config.ts";
import { readJson, withoutNulls } from "./json.ts";
import { fromShapes } from "./layouts/fields.ts";
import type { Evidence, Layout } from "./layouts/layout.ts";

/** Folders that are looked into at most: a folder of many is a data set or a cache. */
const mostFolders = 16;

export interface HeadsBeside {
  readonly heads: number;
  /** The config.json that says so. */
  readonly file: string;
}

const sizes = ["width", "depth", "mlpWidth", "patchSize", "channels"] as const satisfies readonly (keyof VitConfig)[];

/** The number of heads that configurations in folders below say, where they are of the weights' layout and sizes and agree. */
export async function headsBeside(
  directory: Directory,
  layout: Layout,
  evidence: Evidence,
): Promise<HeadsBeside | undefined> {
  const names = await directory.list();
  if (names.length > mostFolders) return undefined;
  const shapes = fromShapes(evidence);
  const fitting: HeadsBeside[] = [];
  for (const name of names) {
    const entry = `${name}/config.json`;
    const file = directory.describe(entry);
    try {
      const json = await readJson(directory, entry);
      if (!json || !layout.matches(json)) continue;
      const config = layout.readConfig(layout.settings(withoutNulls(json)), file, evidence);
      const fits = sizes.every((key) => config[key] === shapes[key]) && config.width % config.heads === 0;
      if (fits) fitting.push({ heads: config.heads, file });
    } catch (error) {
      // A configuration that can't be read is no evidence, and nobody asked for it.
      if (!(error instanceof UserError)) throw error;
    }
  }
  return fitting.every(({ heads }) => heads === fitting[0].heads) ? fitting.at(0) : undefined;
}
