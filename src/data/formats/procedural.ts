// Procedural images as a data set: `procedural:300` in place of a folder. There are no files; an image's place says how it is made.
import { UserError } from "../../utils/errors.ts";
import { mostProcedural, proceduralCount } from "../procedural/name.ts";
import type { Item } from "../sampling.ts";
import { askedAs, defineFormat } from "./data-format.ts";

/** So many procedural images, which every image source reads. */
export async function proceduralItems(count: number, seed: number): Promise<Item[]> {
  const { kindOf, proceduralVersion: version } = await import("../procedural/procedural-image.ts");
  // Names hold all that an image follows from, so that a resumed run meets the same or says what is gone.
  return Array.from({ length: count }, (_, index) => ({
    name: `procedural-v${version}-seed${seed}/${String(index).padStart(5, "0")}-${kindOf(seed, index)}`,
    place: { kind: "procedural", version, seed, index },
  }));
}

export const format = defineFormat({
  name: "procedural",
  summary: "procedural:<n> for n procedural images, where there are no real ones; --seed draws others",
  extensions: [],
  order: askedAs.published,
  options: {},
  async recognise({ path }) {
    return proceduralCount(path);
  },
  async open({ path }, count, { seed }) {
    if (!(count >= 1 && count <= mostProcedural))
      throw new UserError(`--data procedural:<n> takes n from 1 to ${mostProcedural}, got ${path}.`, {
        code: "INVALID_OPTION",
      });
    return { path, train: { path, items: await proceduralItems(count, seed), skipped: [] } };
  },
});
