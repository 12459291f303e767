// What commands ask of their platform before they write: a folder for themselves, room, and no input in the way.

/** The lock's name in an output folder. */
export const lockEntry = ".wecolora.lock";

/** A folder that no other process writes in until it is released. */
export interface FolderLock {
  /** Gives the folder back, and removes it where it was made for the lock and is still empty. */
  release(): Promise<void>;
}

/** How an output lies to an input: it is the same, lies inside of it, has it inside, or neither. */
export type Relation = "same" | "inside" | "around" | "apart";

export interface OutputPlatform {
  /**
   * Takes a folder (made where it is missing) for this process alone. Throws a UserError that says who has it, or why nothing
   * can be written there.
   */
  lock(folder: string): Promise<FolderLock>;
  /** How an output lies to an input, whatever links lead there; models by their hub names lie in the hub's cache. */
  relation(output: string, input: string): Promise<Relation>;
  /** Bytes that can still be written where a path lies; undefined where that is not known. */
  freeBytes(path: string): Promise<number | undefined>;
  /** Throws a UserError where a file can't be written. Leaves nothing behind. */
  checkFile(path: string): Promise<void>;
}
