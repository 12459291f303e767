// Memory outside of JavaScript's heap (weights, outputs) that nothing reads any more: the collector is not told how much there
// is, and may let it lie for as long as a training takes.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { ModelSource } from "../runtime/types.ts";

/** Bytes of the weights that a session was handed, which it has copies of once it is open. */
export const bytesOf = ({ externalData = [] }: ModelSource): number =>
  externalData.flatMap(({ chunks }) => chunks).reduce((sum, { byteLength }) => sum + byteLength, 0);

/** So much is worth the few milliseconds that a collection takes. */
const worthCollecting = 32 * 2 ** 20;
let waiting = 0;
let collector: (() => void) | undefined;

/** Says that so many bytes are garbage when what is under way has returned; collects this thread's when there are many. */
export function leftBehind(bytes: number): void {
  waiting += bytes;
  if (waiting <= worthCollecting) return;
  waiting = 0;
  setImmediate(() => {
    if (!collector) {
      setFlagsFromString("--expose-gc");
      collector = runInNewContext("gc") as () => void;
    }
    collector();
  });
}
