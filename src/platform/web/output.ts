// What a run wrote: read as files, streamed as a zip archive, or copied into a folder.
import { Zip, ZipPassThrough } from "fflate";
import type { Directory } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import { handleDirectory, isDirectoryHandle, plain } from "./web-files.ts";

/** Bytes that are read of a file at once. */
const piece = 2 ** 22;
/** Bytes that fflate's archives can address. */
const mostZipBytes = 2 ** 32 - 1;

/** Where a run may write besides memory. */
export type OutputTarget = FileSystemDirectoryHandle | Directory;

/** A folder that a run wrote. */
export class WebOutput {
  /** The path that other runs know it by. */
  readonly path: string;
  /** Its files; it lies in memory unless the run was given another place. */
  readonly directory: Directory;

  constructor(path: string, directory: Directory) {
    this.path = path;
    this.directory = directory;
  }

  /** A folder in it, such as `student`. */
  below(entry: string): WebOutput {
    return new WebOutput(`${this.path}/${entry}`, this.directory.below(entry));
  }

  /** Paths of all files, with `/`. Files of our own accounts, which begin with a dot, are left out. */
  async list(): Promise<string[]> {
    const paths: string[] = [];
    const walk = async (folder: string) => {
      for (const name of await this.directory.list(folder)) {
        const path = folder === "" ? name : `${folder}/${name}`;
        if (name.startsWith(".")) continue;
        const file = await this.directory.open(path);
        await file?.close();
        if (file) paths.push(path);
        else await walk(path);
      }
    };
    await walk("");
    return paths;
  }

  /** A file's bytes, piece by piece. Throws a UserError where there is no such file. */
  private async *pieces(path: string): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const file = await this.directory.open(path);
    if (!file) throw new UserError(`There is no ${this.directory.describe(path)}.`, { code: "FILE_NOT_FOUND" });
    try {
      for (let at = 0; at < file.size; at += piece) {
        const bytes = new Uint8Array(Math.min(piece, file.size - at));
        await file.readInto(at, bytes);
        yield bytes;
      }
    } finally {
      await file.close();
    }
  }

  /** A file. Throws a UserError where there is none. */
  async file(path: string): Promise<File> {
    const parts: BlobPart[] = [];
    for await (const bytes of this.pieces(path)) parts.push(bytes);
    return new File(parts, path.split("/").at(-1) ?? path, { type: typeOf(path) });
  }

  /** All files by their paths. */
  async files(): Promise<Map<string, File>> {
    const files = new Map<string, File>();
    for (const path of await this.list()) files.set(path, await this.file(path));
    return files;
  }

  /**
   * All files as a zip archive in one folder, made while it is read.
   * @param name the folder in the archive
   */
  zip(name = this.path.split("/").at(-1) ?? "student"): ReadableStream<Uint8Array<ArrayBuffer>> {
    const chunks = this.zipped(name);
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return(undefined);
      },
    });
  }

  private async *zipped(name: string): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    let ready: Uint8Array<ArrayBuffer>[] = [];
    let total = 0;
    const archive = new Zip((error, chunk) => {
      if (error) throw error;
      total += chunk.byteLength;
      ready.push(plain(chunk));
    });
    for (const path of await this.list()) {
      // Weights and images, which are nearly all of it, would get no smaller.
      const entry = new ZipPassThrough(`${name}/${path}`);
      archive.add(entry);
      for await (const bytes of this.pieces(path)) {
        entry.push(bytes);
        if (total > mostZipBytes)
          throw new UserError("The files are longer than a zip archive of 4 GB. Write them to a folder.");
        yield* ready;
        ready = [];
      }
      entry.push(new Uint8Array(), true);
      yield* ready;
      ready = [];
    }
    archive.end();
    yield* ready;
  }

  /** Copies all files into a folder. */
  async writeTo(target: OutputTarget): Promise<void> {
    const directory = targetDirectory(target);
    for (const path of await this.list()) {
      const chunks: Uint8Array[] = [];
      for await (const bytes of this.pieces(path)) chunks.push(bytes);
      await directory.write(path, chunks);
    }
  }
}

/** The directory that a target is. */
export const targetDirectory = (target: OutputTarget): Directory =>
  isDirectoryHandle(target) ? handleDirectory(target, target.name || "output") : target;

const types: Readonly<Record<string, string>> = {
  json: "application/json",
  jsonl: "application/jsonl",
  html: "text/html",
  md: "text/markdown",
  csv: "text/csv",
  svg: "image/svg+xml",
  png: "image/png",
  jpg: "image/jpeg",
};
const typeOf = (path: string) => types[path.split(".").at(-1) ?? ""] ?? "application/octet-stream";
