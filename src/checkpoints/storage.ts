// Where files are read from and written to. Platforms hand in implementations (disk, memory, browser).

export interface FileHandle {
  /** The name that messages use: a path, a URL. */
  readonly name: string;
  readonly size: number;
  /**
   * Reads `length` bytes at `offset`; throws where the file is shorter. `shared` asks for memory that workers can read
   * without a copy, where the platform has it.
   */
  read(offset: number, length: number, memory?: "own" | "shared"): Promise<Uint8Array>;
  close(): Promise<void>;
}

export interface Directory {
  /** The name that messages use for an entry. */
  describe(entry: string): string;
  /** Undefined where there is no such file. */
  open(entry: string): Promise<FileHandle | undefined>;
  /** Writes beside the entry and renames, so that it is either there whole or not at all. Makes folders on the way. */
  write(entry: string, chunks: Iterable<Uint8Array>): Promise<void>;
  /** Adds text to the end of a file; makes it where it is missing. */
  append(entry: string, text: string): Promise<void>;
  /** Removes a file or a whole folder; nothing where there is none. */
  remove(entry: string): Promise<void>;
  /** Names in the folder; none where it does not exist. */
  list(): Promise<string[]>;
}

/** Files of text are limited, so that a wrong path can't fill the memory. */
const textLimit = 64 * 2 ** 20;

/** A whole file as text; undefined where there is none. Throws where it is too big to be meant. */
export async function readText(directory: Directory, entry: string): Promise<string | undefined> {
  const file = await directory.open(entry);
  if (!file) return undefined;
  try {
    if (file.size > textLimit) throw new Error(`${file.name} is ${file.size} bytes long, too long for a text file`);
    return new TextDecoder().decode(await file.read(0, file.size));
  } finally {
    await file.close();
  }
}
