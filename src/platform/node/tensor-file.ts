// A file that a device's tensors lie in while no run reads them: tokens of many images, which would not fit in memory.
//
// It lies in the system's temporary folder and has no name there once it is open, where the system allows that, so that nothing is
// left of a process that was killed. Windows removes it at the end.
import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import type { TensorFile } from "../../runtime/device-memory.ts";
import { RunError } from "../../utils/errors.ts";
import { scratchPath } from "./offload.ts";

/** Opens one; undefined where there is no folder to write to. */
export function openTensorFile(): TensorFile | undefined {
  try {
    const path = scratchPath();
    const descriptor = openSync(path, "wx+", 0o600);
    remove(path);
    return tensorFile(descriptor, path);
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

function tensorFile(descriptor: number, path: string): TensorFile {
  /** Places that are free, by their size: tensors come in few sizes. */
  const free = new Map<number, number[]>();
  const freeOf = (size: number) => {
    const places = free.get(size) ?? [];
    free.set(size, places);
    return places;
  };
  let end = 0;
  return {
    write(bytes) {
      const size = bytes.byteLength;
      const place = freeOf(size).pop() ?? end;
      try {
        for (let at = 0; at < size;) at += writeSync(descriptor, bytes, at, size - at, place + at);
      } catch {
        // No room: memory does as well.
        if (place < end) freeOf(size).push(place);
        return undefined;
      }
      end = Math.max(end, place + size);
      return place;
    },
    read(place, into) {
      const size = into.byteLength;
      for (let at = 0; at < size;) {
        const count = readSync(descriptor, into, at, size - at, place + at);
        if (count === 0)
          throw new RunError("The temporary file that holds tensors was truncated. Run the command again.", {
            code: "FILE_NOT_READABLE",
          });
        at += count;
      }
    },
    free: (place, size) => void freeOf(size).push(place),
    close() {
      closeSync(descriptor);
      remove(path);
    },
  };
}
