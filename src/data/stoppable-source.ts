// A source of images that stops when a signal fires.
import type { PictureSource } from "./loader.ts";

/** The source, with calls that reject with the signal's reason once it has fired. */
export function stoppableSource(source: PictureSource, signal: AbortSignal): PictureSource {
  const checked =
    <Args extends readonly unknown[], Result>(call: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      signal.throwIfAborted();
      return call(...args);
    };
  return {
    id: source.id,
    evaluationView: checked((...args) => source.evaluationView(...args)),
    augmentedView: checked((...args) => source.augmentedView(...args)),
    facts: checked((item) => source.facts(item)),
    stamp: checked((item) => source.stamp(item)),
    fingerprint: checked((item) => source.fingerprint(item)),
    dispose: () => source.dispose(),
  };
}
