// Where files are read from and written to. Platforms hand in implementations (disk, memory, browser).
import { UserError } from "../utils/errors.ts";
import type { DataType, Tensor } from "../utils/tensor.ts";
import { elementBytes, elementCount, sharedBuffer, viewBytes } from "../utils/tensor.ts";

export interface FileHandle {
  /** The name that messages use: a path, a URL. */
  readonly name: string;
  readonly size: number;
  /** Fills `target` from `offset` on; throws a UserError where the file is shorter. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** `length` bytes at `offset`. Callers check `length` against the file's size first. */
export async function readBytes(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await file.readInto(offset, bytes);
  return bytes;
}

/** A length for messages, such as "64 MiB". */
function sizeText(bytes: number): string {
  const power = Math.min(3, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${["bytes", "KiB", "MiB", "GiB"][power]}`;
}

/** A whole file. Throws a UserError, before anything is read, where it is longer than `most` bytes. */
export async function readAtMost(file: FileHandle, most: number): Promise<Uint8Array> {
  if (file.size > most)
    throw new UserError(`${file.name} is ${sizeText(file.size)} long; at most ${sizeText(most)} are read`, {
      code: "FILE_NOT_READABLE",
    });
  return readBytes(file, 0, file.size);
}

/** A tensor in a file: what it is is known, its data is read when asked for. */
export interface StoredTensor {
  readonly type: DataType;
  readonly dims: readonly number[];
  /** Fills `target`, which has room for just this tensor's bytes. */
  readInto(target: Uint8Array): Promise<void>;
}

/**
 * A tensor in a file that can't be read: of a type that nothing here computes with, or described wrongly. It may lie beside
 * the weights; only where it is needed it is an error.
 */
export interface UnreadableTensor {
  readonly type: undefined;
  readonly dims: readonly number[];
  /** What is wrong with it, as it follows its name in a message: `holds uint16`. */
  readonly problem: string;
}

/** The tensors of a checkpoint, by the names that it gives them. */
export type StoredTensors = ReadonlyMap<string, StoredTensor | UnreadableTensor>;

/** Bytes that a stored tensor takes. */
export function storedSize({ type, dims }: Pick<StoredTensor, "type" | "dims">): number {
  return elementCount(dims) * elementBytes[type];
}

/** Reads a tensor into memory that workers can read without a copy, where the platform has such memory. */
export async function readTensor(stored: StoredTensor): Promise<Tensor> {
  const bytes = new Uint8Array(sharedBuffer(storedSize(stored)));
  await stored.readInto(bytes);
  return { type: stored.type, dims: stored.dims, data: viewBytes(stored.type, bytes) };
}

export interface Directory {
  /** The name that messages use for an entry. */
  describe(entry: string): string;
  /** Undefined where there is no such file. */
  open(entry: string): Promise<FileHandle | undefined>;
  /** Writes beside the entry and renames, so that it is either there whole or not at all. Makes folders on the way. */
  write(entry: string, chunks: Iterable<Uint8Array>): Promise<void>;
  /** Adds to the end of a file; makes it where it is missing. */
  append(entry: string, content: string | Uint8Array): Promise<void>;
  /** Removes a file or a whole folder; nothing where there is none. */
  remove(entry: string): Promise<void>;
  /** Removes a folder where it is empty; does nothing otherwise. */
  removeEmpty(entry: string): Promise<void>;
  /** A folder in this one. */
  below(entry: string): Directory;
  /** Names in the folder or one below it, sorted; none where it does not exist. */
  list(entry?: string): Promise<string[]>;
}

/** Bytes of the longest file that is read whole, by what it holds, so that a wrong path can't fill the memory. */
export const longestFile = {
  /** Configurations, lists, logs. */
  text: 64 * 2 ** 20,
  /** A graph of ONNX, or the weights beside it. */
  graph: 2 ** 33,
} as const;

/** A whole file of at most `most` bytes; undefined where there is none. */
export async function readFile(directory: Directory, entry: string, most: number): Promise<Uint8Array | undefined> {
  const file = await directory.open(entry);
  if (!file) return undefined;
  try {
    return await readAtMost(file, most);
  } finally {
    await file.close();
  }
}

/** A whole file as text; undefined where there is none. Throws where it is too big to be meant. */
export async function readText(directory: Directory, entry: string): Promise<string | undefined> {
  const bytes = await readFile(directory, entry, longestFile.text);
  return bytes && new TextDecoder().decode(bytes);
}
