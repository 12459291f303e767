// Images that stand in both parts of a data set: what is evaluated on must not have been learned from.
import type { ImageSource } from "./loader.ts";
import type { Item } from "./sampling.ts";
import { UserError } from "../utils/errors.ts";

/** An image to evaluate on, and one to learn from with the same bytes. */
export interface Duplicate {
  readonly evaluated: string;
  readonly learned: string;
}

/** Images that are looked at side by side. */
const askedAtOnce = 64;

/** Finds equal files; what can't be read is no duplicate, and is told where it is used. */
export async function findDuplicates(
  source: Pick<ImageSource, "fingerprint">,
  learned: readonly Item[],
  evaluated: readonly Item[],
  progress: (done: number) => void = () => undefined,
): Promise<Duplicate[]> {
  let done = 0;
  const prints = async (items: readonly Item[]) => {
    const hashes: (string | undefined)[] = [];
    for (let from = 0; from < items.length; from += askedAtOnce) {
      const asked = items.slice(from, from + askedAtOnce).map((item) =>
        source.fingerprint(item).catch((error: unknown) => {
          if (error instanceof UserError) return undefined;
          throw error;
        }),
      );
      hashes.push(...(await Promise.all(asked)));
      done += asked.length;
      progress(done);
    }
    return hashes;
  };
  const byHash = new Map<string, string>();
  (await prints(learned)).forEach((print, i) => {
    if (print !== undefined && !byHash.has(print)) byHash.set(print, learned[i].name);
  });
  return (await prints(evaluated)).flatMap((print, i) => {
    const twin = print === undefined ? undefined : byHash.get(print);
    return twin === undefined ? [] : [{ evaluated: evaluated[i].name, learned: twin }];
  });
}

/** What is said of duplicates, with a few of them by name. */
export function duplicateWarning(duplicates: readonly Duplicate[]): string {
  const shown = duplicates.slice(0, 3).map(({ evaluated, learned }) => `${evaluated} = ${learned}`);
  const many = duplicates.length === 1 ? "one evaluation image is" : `${duplicates.length} evaluation images are`;
  return `${many} in the training split too, which makes the figures look better: ${shown.join(", ")}${duplicates.length > 3 ? ", ..." : ""}`;
}
