// Memory outside of JavaScript's heap (weights, outputs) that nothing reads any more: the collector is not told how much there
// is, and may let it lie for as long as a training takes.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { ModelSource } from "../../runtime/device.ts";

/** Bytes of the weights that a session was handed, which it has copies of once it is open. */
export const bytesOf = ({ externalData = [] }: ModelSource): number =>
  externalData.flatMap(({ chunks }) => chunks).reduce((sum, { byteLength }) => sum + byteLength, 0);

/**
 * What is garbage: `fresh` is what a call has just made, and takes a fraction of the milliseconds to collect that anything else
 * (`old`) does.
 */
type Age = "fresh" | "old";

/** So many bytes are worth a collection. */
const worthCollecting: Readonly<Record<Age, number>> = { fresh: 8 * 2 ** 20, old: 32 * 2 ** 20 };
/** What the quick collection overlooks of what is fresh, at most. */
const overlooked = 1 / 4;
const waiting: Record<Age, number> = { fresh: 0, old: 0 };
let collector: ((options?: { type: "minor" }) => void) | undefined;

/** Says that so many bytes are garbage when what is under way has returned; collects this thread's when there are many. */
export function leftBehind(bytes: number, age: Age): void {
  waiting[age] += bytes;
  if (age === "fresh") waiting.old += overlooked * bytes;
  const due = (["old", "fresh"] as const).find((one) => waiting[one] > worthCollecting[one]);
  if (!due) return;
  waiting[due] = 0;
  setImmediate(() => {
    if (!collector) {
      setFlagsFromString("--expose-gc");
      collector = runInNewContext("gc") as typeof collector;
    }
    collector?.(due === "fresh" ? { type: "minor" } : undefined);
  });
}
