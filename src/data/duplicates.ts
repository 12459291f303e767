// Pictures that stand in both parts of a data set: what is judged on must not have been learned from.
import type { PictureSource } from "./loader.ts";
import type { Item } from "./sampling.ts";
import { UserError } from "../utils/errors.ts";

/** A picture to judge on, and one to learn from with the same bytes. */
export interface Duplicate {
  readonly judged: string;
  readonly learned: string;
}

/** Pictures that are looked at side by side. */
const askedAtOnce = 64;

/** Finds equal files; what can't be read is no duplicate, and is told where it is used. */
export async function findDuplicates(
  source: Pick<PictureSource, "fingerprint">,
  learned: readonly Item[],
  judged: readonly Item[],
  progress: (done: number) => void = () => undefined,
): Promise<Duplicate[]> {
  let done = 0;
  const prints = async (items: readonly Item[]) => {
    const found: (string | undefined)[] = [];
    for (let from = 0; from < items.length; from += askedAtOnce) {
      const asked = items.slice(from, from + askedAtOnce).map((item) =>
        source.fingerprint(item).catch((error: unknown) => {
          if (error instanceof UserError) return undefined;
          throw error;
        }),
      );
      found.push(...(await Promise.all(asked)));
      done += asked.length;
      progress(done);
    }
    return found;
  };
  const known = new Map<string, string>();
  (await prints(learned)).forEach((print, i) => {
    if (print !== undefined && !known.has(print)) known.set(print, learned[i].name);
  });
  return (await prints(judged)).flatMap((print, i) => {
    const twin = print === undefined ? undefined : known.get(print);
    return twin === undefined ? [] : [{ judged: judged[i].name, learned: twin }];
  });
}

/** What is said of duplicates, with a few of them by name. */
export function duplicateWarning(found: readonly Duplicate[]): string {
  const shown = found.slice(0, 3).map(({ judged, learned }) => `${judged} = ${learned}`);
  const many = found.length === 1 ? "one evaluation image is" : `${found.length} evaluation images are`;
  return `${many} in the training split too, which makes the figures look better: ${shown.join(", ")}${found.length > 3 ? ", ..." : ""}`;
}
