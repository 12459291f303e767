// A file that a device's tensors lie in while no run reads them: tokens of many images, which would not fit in memory.
//
// It lies in the system's temporary folder and has no name there once it is open, where the system allows that, so that nothing is
// left of a process that was killed. Windows removes it at the end.
import { closeSync, ftruncateSync, openSync, readSync, rmSync, statfsSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import type { TensorFile } from "../../runtime/device-memory.ts";
import { RunError } from "../../utils/errors.ts";
import { scratchPath } from "./offload.ts";

/** The type of Linux's file systems in memory: a file there saves none. */
const tmpfs = 0x01021994;

/** Opens one; undefined where there is no folder on a disk to write to. */
export function openTensorFile(): TensorFile | undefined {
  try {
    const path = scratchPath();
    if (statfsSync(dirname(path)).type === tmpfs) return undefined;
    const descriptor = openSync(path, "wx+", 0o600);
    remove(path);
    return new DiskTensors(descriptor, path);
  } catch {
    return undefined;
  }
}

function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Windows keeps what is open.
  }
}

class DiskTensors implements TensorFile {
  private readonly descriptor: number;
  private readonly path: string;
  /** Places that are free, by their size: tensors come in few sizes. */
  private readonly places = new Map<number, number[]>();
  /** Bytes that the file has, and those of them that hold tensors. */
  private end = 0;
  private used = 0;
  private isFull = false;

  constructor(descriptor: number, path: string) {
    this.descriptor = descriptor;
    this.path = path;
  }

  write(bytes: Uint8Array): number | undefined {
    const size = bytes.byteLength;
    const again = this.freeOf(size).pop();
    if (again === undefined && this.isFull) return undefined;
    const place = again ?? this.end;
    try {
      for (let at = 0; at < size;) at += writeSync(this.descriptor, bytes, at, size - at, place + at);
    } catch {
      // No room: memory does as well.
      if (again !== undefined) this.freeOf(size).push(again);
      else {
        this.isFull = true;
        this.cutTo(this.end);
      }
      return undefined;
    }
    this.used += size;
    this.end = Math.max(this.end, place + size);
    return place;
  }

  read(place: number, into: Uint8Array): void {
    const size = into.byteLength;
    for (let at = 0; at < size;) {
      const count = readSync(this.descriptor, into, at, size - at, place + at);
      if (count === 0)
        throw new RunError("The temporary file that holds tensors was truncated. Run the command again.", {
          code: "FILE_NOT_READABLE",
        });
      at += count;
    }
  }

  free(place: number, size: number): void {
    this.used -= size;
    if (this.used > 0) this.freeOf(size).push(place);
    else {
      this.places.clear();
      this.cutTo(0);
    }
  }

  close(): void {
    closeSync(this.descriptor);
    remove(this.path);
  }

  /** Gives back to the disk what is behind `to`. */
  private cutTo(to: number): void {
    this.end = to;
    ftruncateSync(this.descriptor, to);
  }

  private freeOf(size: number): number[] {
    const places = this.places.get(size) ?? [];
    this.places.set(size, places);
    return places;
  }
}
