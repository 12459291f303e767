// A disk that a process loses at one of its write operations: what is there then is what a kill at that moment leaves.
import type { Environment } from "../../src/context/environment.ts";
import type { Directory } from "../../src/files/storage.ts";

export class Killed extends Error {}

/** Counts operations that change a folder; from the `at`-th on (counted from 1) none is done any more. */
export class FailingDisk {
  private readonly at: number;
  count = 0;

  constructor(at = Number.POSITIVE_INFINITY) {
    this.at = at;
  }

  private check(): void {
    this.count++;
    if (this.count >= this.at) throw new Killed(`killed at operation ${this.count}`);
  }

  private wrapped(directory: Directory): Directory {
    const checked =
      <Args extends readonly unknown[]>(call: (...args: Args) => Promise<void>) =>
      async (...args: Args): Promise<void> => {
        this.check();
        return call(...args);
      };
    return {
      describe: (entry) => directory.describe(entry),
      open: (entry) => directory.open(entry),
      list: (entry) => directory.list(entry),
      below: (entry) => this.wrapped(directory.below(entry)),
      write: checked((entry, chunks) => directory.write(entry, chunks)),
      append: checked((entry, content) => directory.append(entry, content)),
      remove: checked((entry) => directory.remove(entry)),
      removeEmpty: checked((entry) => directory.removeEmpty(entry)),
    };
  }

  /** An environment on this disk. */
  on<E extends Environment>(environment: E): E {
    return { ...environment, directory: (path: string) => this.wrapped(environment.directory(path)) };
  }
}
