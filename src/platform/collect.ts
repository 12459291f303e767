// Memory outside of JavaScript's heap (weights, pictures) that nothing reads any more: the collector is not told how much
// there is, and may let it lie for as long as a training takes.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collector: (() => void) | undefined;

/** Collects this thread's garbage when what is under way has returned. */
export function collectSoon(): void {
  setImmediate(() => {
    if (!collector) {
      setFlagsFromString("--expose-gc");
      collector = runInNewContext("gc") as () => void;
    }
    collector();
  });
}
