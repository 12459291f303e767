// Where an image's bytes lie when they are no file of their own: inside archives, shards, tables, batches and scans, or nowhere:
// procedural images are made when they are asked for.
import type { AsyncBuffer, FileMetaData } from "hyparquet";
import { inflateBounded } from "../files/inflate.ts";
import type { FileHandle } from "../files/storage.ts";
import { readAtMost, readBytes } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import type { RgbImage } from "../utils/image.ts";
import { largestImageFile } from "./image-formats.ts";
import type { Axis, SliceStack } from "./scans.ts";
import { sliceStack } from "./scans.ts";

/** Files are paths from the data set's folder. */
export type Place =
  /** An encoded image inside a file; `size` is its length unpacked, where it is deflated. */
  | {
      readonly kind: "range";
      readonly file: string;
      readonly offset: number;
      readonly length: number;
      readonly size?: number;
    }
  /** Bare 8-bit numbers, a plane each for red, green and blue. */
  | {
      readonly kind: "planes";
      readonly file: string;
      readonly offset: number;
      readonly width: number;
      readonly height: number;
    }
  /** A row of a parquet file, whose column holds an encoded image, or a record with one. */
  | { readonly kind: "row"; readonly file: string; readonly column: string; readonly row: number }
  /** A slice of a scan. */
  | { readonly kind: "slice"; readonly scans: readonly string[]; readonly axis: Axis; readonly slice: number }
  /** An image of a version of the generator. */
  | { readonly kind: "procedural"; readonly version: number; readonly seed: number; readonly index: number };

/** The files that a place reads. */
export function filesOf(place: Place): readonly string[] {
  if (place.kind === "procedural") return [];
  return place.kind === "slice" ? place.scans : [place.file];
}

/** What a place holds. */
export type Content = { readonly encoded: Uint8Array } | { readonly image: RgbImage };

/** Images of one key are read together by the same worker. */
export function placeKey(place: Place): string {
  return place.kind === "slice" ? place.scans.join() : place.kind === "row" ? `${place.file}#${place.row >> 8}` : "";
}

type Open = (file: string) => Promise<FileHandle | undefined>;

/** A parquet file's pages are read in runs of so many rows, which are kept: rows are asked for in order. */
const rowRun = 64;
const keptRuns = 8;

/** Reads images out of places; keeps what neighbouring places share. */
export class PlaceReader {
  private readonly open: Open;
  private readonly handles = new Map<string, Promise<FileHandle>>();
  private readonly tables = new Map<string, Promise<FileMetaData>>();
  private readonly runs = new Map<string, Promise<readonly Record<string, unknown>[]>>();
  private scan: { readonly key: string; readonly stack: Promise<SliceStack> } | undefined;

  constructor(open: Open) {
    this.open = open;
  }

  private handle(file: string): Promise<FileHandle> {
    const open = this.handles.get(file) ?? this.opened(file);
    this.handles.set(file, open);
    open.catch(() => this.handles.delete(file));
    return open;
  }

  private async opened(file: string): Promise<FileHandle> {
    const handle = await this.open(file);
    if (!handle) throw new UserError(`${file} does not exist (any more)`, { code: "FILE_NOT_FOUND" });
    return handle;
  }

  /** Throws a UserError where the place is not (any more) what it was. */
  async read(place: Place): Promise<Content> {
    switch (place.kind) {
      case "range":
        return { encoded: await this.range(place) };
      case "planes": {
        const { width, height } = place;
        const size = width * height;
        const planes = await readBytes(await this.handle(place.file), place.offset, 3 * size);
        const data = new Uint8Array(3 * size);
        for (let c = 0; c < 3; c++) for (let i = 0; i < size; i++) data[3 * i + c] = planes[c * size + i];
        return { image: { width, height, data } };
      }
      case "row":
        return { encoded: await this.row(place) };
      case "slice":
        return { image: (await this.stack(place)).image(place.slice) };
      case "procedural": {
        const { proceduralImage } = await import("./procedural/procedural-image.ts");
        return { image: proceduralImage(place.seed, place.index) };
      }
    }
  }

  private async range({ file, offset, length, size }: Extract<Place, { kind: "range" }>): Promise<Uint8Array> {
    if (Math.max(length, size ?? 0) > largestImageFile)
      throw new UserError(`${file} holds an image of more than ${largestImageFile} bytes at ${offset}`, {
        code: "INVALID_DATA",
      });
    const bytes = await readBytes(await this.handle(file), offset, length);
    if (size === undefined) return bytes;
    try {
      return inflateBounded("deflate", bytes, { size, isExact: true });
    } catch (error) {
      throw new UserError(`${file} can't be unpacked at ${offset} (${(error as Error).message})`, {
        code: "INVALID_DATA",
      });
    }
  }

  private async row({ file, column, row }: Extract<Place, { kind: "row" }>): Promise<Uint8Array> {
    const { boundedCompressors, parquetMetadataAsync, parquetReadObjects } = await import("./parquet-library.ts");
    const buffer = parquetBuffer(await this.handle(file));
    const metadata = this.tables.get(file) ?? parquetMetadataAsync(buffer);
    this.tables.set(file, metadata);
    const { row_groups: groups } = await metadata;
    // A run ends with its row group, so that no group is read for two of them.
    let groupStart = 0;
    let groupEnd = 0;
    for (const group of groups) {
      groupStart = groupEnd;
      groupEnd += Number(group.num_rows);
      if (row < groupEnd) break;
    }
    const rowStart = groupStart + Math.floor((row - groupStart) / rowRun) * rowRun;
    const key = `${file}#${rowStart}`;
    let run = this.runs.get(key);
    if (!run) {
      const rowEnd = Math.min(groupEnd, rowStart + rowRun);
      run = metadata.then((metadataOfFile) =>
        parquetReadObjects({
          file: buffer,
          metadata: metadataOfFile,
          columns: [column],
          rowStart,
          rowEnd,
          compressors: boundedCompressors(),
          utf8: false,
        }),
      );
      this.runs.set(key, run);
      if (this.runs.size > keptRuns) this.runs.delete(this.runs.keys().next().value as string);
    }
    const rows = await run.catch((error: unknown) => {
      throw error instanceof UserError
        ? error
        : new UserError(`Row ${row} of ${file} can't be read (${(error as Error).message})`, { code: "INVALID_DATA" });
    });
    const value = rows[row - rowStart]?.[column];
    const bytes = value instanceof Uint8Array ? value : (value as { bytes?: unknown } | null | undefined)?.bytes;
    if (!(bytes instanceof Uint8Array))
      throw new UserError(`Row ${row} of ${file} holds no image in ${column}`, { code: "INVALID_DATA" });
    return bytes;
  }

  private stack({ scans, axis }: Extract<Place, { kind: "slice" }>): Promise<SliceStack> {
    const key = `${axis}:${scans.join()}`;
    if (this.scan?.key === key) return this.scan.stack;
    const read = async () => {
      const { longestScan, readNifti } = await import("./nifti.ts");
      const volumes = [];
      for (const file of scans) {
        const handle = await this.handle(file);
        volumes.push(readNifti(await readAtMost(handle, longestScan), handle.name));
      }
      return sliceStack(scans[0], volumes, undefined, axis);
    };
    this.scan = { key, stack: read() };
    return this.scan.stack;
  }

  async close(): Promise<void> {
    for (const handle of this.handles.values()) await (await handle.catch(() => undefined))?.close();
    this.handles.clear();
  }
}

/** A file as hyparquet reads it. */
export function parquetBuffer(file: FileHandle): AsyncBuffer {
  return {
    byteLength: file.size,
    async slice(start, end = file.size) {
      const from = start < 0 ? Math.max(0, file.size + start) : start;
      const bytes = await readBytes(file, from, Math.max(0, Math.min(end, file.size) - from));
      return bytes.buffer as ArrayBuffer;
    },
  };
}
