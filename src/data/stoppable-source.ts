// A source of images that stops when a signal fires.
import type { ImageSource } from "./loader.ts";

/** The source, with calls that reject with the signal's reason once it has fired. */
export function stoppableSource(source: ImageSource, signal: AbortSignal): ImageSource {
  const checked =
    <Args extends readonly unknown[], Result>(call: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      signal.throwIfAborted();
      return call(...args);
    };
  return {
    id: source.id,
    evaluationCrop: checked((...args) => source.evaluationCrop(...args)),
    augmentedCrop: checked((...args) => source.augmentedCrop(...args)),
    facts: checked((item) => source.facts(item)),
    stamp: checked((item) => source.stamp(item)),
    fingerprint: checked((item) => source.fingerprint(item)),
    dispose: () => source.dispose(),
  };
}
